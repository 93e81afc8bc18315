// The meaning of a head's parts: the forms of a target, and the fields that frame, route or keep a message. The parser
// of lines (head.cpp) asks for it.
#pragma once

#include <protocols/http/field.hpp>
#include <protocols/http/head.hpp>
#include <protocols/http/problem.hpp>

#include <cstdint>
#include <string_view>

namespace reactor::http::head_detail {

/// How the fields bear on the message, gathered while they are parsed.
struct Meaning {
    enum Seen : std::uint8_t {
        host_field = 1,
        length_field = 2,
        coding_field = 4,
        other_coding = 8,  // than chunked, and alone
        close_option = 16,
        keep_alive_option = 32,
        upgrade_option = 64,
    };
    bool has(Seen what) const noexcept { return (seen & what) != 0; }
    void note(Seen what, bool is_there = true) noexcept { seen |= static_cast<std::uint8_t>(is_there ? what : 0); }

    std::uint8_t seen = 0;
    std::string_view host;
    std::string_view upgrade;
};

/// The four forms of RFC 9112, 3.2.
Problem understand_target(RequestHead& head) noexcept;

/// uri-host [ ":" port ] (RFC 9110, 7.2). The port may be empty, unless `needs_port`. Up to `readable` there is memory
/// of the input.
bool is_host(std::string_view text, const char* readable, bool needs_port = false) noexcept;

Problem understand_coding(std::string_view value, Head& head, Meaning& meaning) noexcept;
Problem understand_length(std::string_view value, Head& head, Meaning& meaning) noexcept;
void understand_connection(std::string_view value, Meaning& meaning) noexcept;

/// Problem::bad_trailer for a field that a trailer may not have.
Problem understand_trailer(const Field& field) noexcept;

/// Decides the questions that take all the fields.
Problem conclude(RequestHead& head, const Meaning& meaning) noexcept;
Problem conclude(ResponseHead& head, const Meaning& meaning) noexcept;
inline Problem conclude(Trailer&, const Meaning&) noexcept {
    return Problem::none;
}

}  // namespace reactor::http::head_detail
