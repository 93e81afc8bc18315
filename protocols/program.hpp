// What the programs have in common: how they read their arguments and how they say that something is wrong. Not
// installed.
#pragma once

#include <reactor/bytes.hpp>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

namespace program {

/// Runs `body` and turns what it throws into one line on standard error. Returns the program's exit status.
template <class Body>
int run(std::string_view name, Body&& body) {
    try {
        return body();
    } catch (const std::exception& error) {
        fmt::print(stderr, "{}: {}\n", name, error.what());
        return EXIT_FAILURE;
    }
}

/// Reads the arguments. False if there is nothing more to do, after --help and after a wrong argument, which
/// gets one line on standard error; `status` is then the program's exit status.
inline bool parsed(CLI::App& arguments, int argc, char** argv, int& status) {
    try {
        arguments.parse(argc, argv);
        return true;
    } catch (const CLI::CallForHelp& help) {
        status = arguments.exit(help);
    } catch (const CLI::ParseError& error) {
        fmt::print(stderr, "{}: {}; --help lists what there is\n", arguments.get_name(), error.what());
        status = 2;
    }
    return false;
}

/// The bytes between quotes, with what cannot be printed as \xHH: a line of the story that the programs tell.
inline std::string quoted(reactor::Bytes bytes) {
    std::string result = "\"";
    for (const char character : reactor::text_of(bytes)) {
        const auto code = static_cast<unsigned char>(character);
        if (character == '"' || character == '\\') {
            result.append({'\\', character});
        } else if (code >= 0x20 && code < 0x7f) {
            result.push_back(character);
        } else {
            result += fmt::format("\\x{:02x}", code);
        }
    }
    return result + '"';
}

/// Prints a line at once, for whoever reads it through a pipe.
template <class... Arguments>
void say(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::print("{}\n", fmt::format(format, std::forward<Arguments>(arguments)...));
    std::fflush(stdout);
}

}  // namespace program
