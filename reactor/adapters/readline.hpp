// GNU readline driven by a reactor: a prompt with editing and history while the loop runs. readline gets a byte at a
// time and keeps the line.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>

#include <readline/readline.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace reactor::adapters {

/// A prompt on rl_instream and rl_outstream (standard input and output). There is one at a time, as readline's state is
/// global. `line` gets each line, and nullopt at the end of the input, after which there is no further call; it may
/// destroy this object, which restores the terminal. Thread: the loop's. Errors: the constructor throws
/// std::logic_error if there is a prompt. Lifetime: must go before the reactor. readline 8.2 reads on until the end of
/// a bracketed paste, and holds the loop up meanwhile: so the adapter turns bracketed paste off. In vi mode Escape
/// holds the loop for half a second, unless "keyseq-timeout" is set to "1" by rl_variable_bind. Source: "Alternate
/// Interface" in readline's manual.
class [[nodiscard]] ReadlinePrompt {
public:
    using Line = MoveOnlyFunction<void(std::optional<std::string>)>;

    [[nodiscard]] ReadlinePrompt(Reactor& reactor, const char* prompt, Line line)
        : line_(required(std::move(line), "ReadlinePrompt: the callable is empty")),
          input_(reactor, [](Interest) { rl_callback_read_char(); }) {
        if (the_one != nullptr) throw std::logic_error("ReadlinePrompt: there is one already");
        input_.watch(fileno(rl_instream != nullptr ? rl_instream : stdin), Interest::readable);
        rl_variable_bind("enable-bracketed-paste", "off");
        rl_callback_handler_install(prompt, &ReadlinePrompt::line_read);
        the_one = this;
    }
    ~ReadlinePrompt() {
        rl_callback_handler_remove();
        the_one = nullptr;
    }
    ReadlinePrompt(const ReadlinePrompt&) = delete;
    ReadlinePrompt& operator=(const ReadlinePrompt&) = delete;

private:
    static void line_read(char* text) {
        std::optional<std::string> line;
        if (text != nullptr) line = text;
        std::free(text);
        if (!line) {
            the_one->input_.reset();
            rl_callback_handler_remove();  // or readline would prompt once more
        }
        the_one->line_(std::move(line));
    }

    static inline ReadlinePrompt* the_one = nullptr;
    Callback<void(std::optional<std::string>)> line_;
    DescriptorWatch input_;
};

}  // namespace reactor::adapters
