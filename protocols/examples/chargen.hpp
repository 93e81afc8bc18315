// The character generator: lines of 72 printable characters without end, in the pattern that RFC 864
// suggests. Backpressure alone bounds it: it writes up to the high watermark and continues when the peer has
// taken most of it.
#pragma once

#include <reactor/stream/protocol.hpp>

#include <array>
#include <cstddef>
#include <string_view>

namespace reactor {

/// Writes for as long as the peer reads. Input is thrown away.
class Chargen final : public Protocol {
public:
    /// The pattern until it repeats: 95 lines, each beginning one character later, each with its CRLF.
    static std::string_view pattern() noexcept {
        static constexpr auto characters = [] {
            constexpr std::size_t printable = '~' - ' ' + 1;
            constexpr std::size_t line = 72;
            std::array<char, printable*(line + 2)> all{};
            std::size_t at = 0;
            for (std::size_t start = 0; start < printable; ++start) {
                for (std::size_t i = 0; i < line; ++i) all[at++] = char(' ' + (start + i) % printable);
                all[at++] = '\r';
                all[at++] = '\n';
            }
            return all;
        }();
        return {characters.data(), characters.size()};
    }

private:
    void connected() override { generate(); }
    void resume_writing() override { generate(); }
    std::size_t received(Bytes input) override { return input.size(); }

    void generate() {
        while (transport().queued() <= transport().limits().high_mark) {
            if (!transport().write(pattern())) return;
        }
    }
};

}  // namespace reactor
