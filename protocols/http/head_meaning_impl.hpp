// The meaning of a head's parts: the forms of a target, and the fields that frame, route or keep a message. The parser
// of lines (head.cpp) asks for it.
#pragma once

#include <protocols/http/field.hpp>
#include <protocols/http/head.hpp>
#include <protocols/http/problem.hpp>
#include <protocols/http/scan_impl.hpp>

#include <cstddef>
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
    std::string_view upgrade;
};

/// The target in other forms than that of a path.
Problem understand_other_target(RequestHead& head) noexcept;

/// The four forms of RFC 9112, 3.2. `path_length`: of the target before its query.
[[gnu::always_inline]] inline Problem understand_target(RequestHead& head, std::size_t path_length) noexcept {
    const std::string_view target = head.target;
    head.host = {};
    head.path = target.substr(0, path_length);
    head.query = path_length == target.size() ? std::string_view() : target.substr(path_length + 1);
    if (target[0] == '/' && head.method != "CONNECT") return Problem::none;
    return understand_other_target(head);
}

/// uri-host [ ":" port ] (RFC 9110, 7.2). The port may be empty, unless `needs_port`. `readable`: of the input that the
/// text is in.
bool is_host(std::string_view text, scan::End readable, bool needs_port = false) noexcept;

Problem understand_coding(std::string_view value, Head& head, Meaning& meaning) noexcept;
Problem understand_length(std::string_view value, Head& head, Meaning& meaning) noexcept;
void understand_connection(std::string_view value, Meaning& meaning) noexcept;

/// Problem::bad_trailer for a field that a trailer may not have.
Problem understand_trailer(const Field& field) noexcept;

/// Decides how the content is framed and if the connection persists, which takes all the fields.
inline Problem conclude_framing(Head& head, const Meaning& meaning) noexcept {
    if (meaning.has(Meaning::coding_field)) {
        if (head.minor_version == 0) return Problem::coding_in_old_version;
        if (meaning.has(Meaning::length_field)) return Problem::length_and_coding;
        if (meaning.has(Meaning::other_coding)) return Problem::unknown_coding;
    }
    const bool by_default = head.minor_version != 0;
    head.keep_alive = !meaning.has(Meaning::close_option) && (by_default || meaning.has(Meaning::keep_alive_option));
    head.upgrade = by_default && meaning.has(Meaning::upgrade_option) ? meaning.upgrade : std::string_view();
    return Problem::none;
}

inline Problem conclude(RequestHead& head, const Meaning& meaning) noexcept {
    const Problem problem = conclude_framing(head, meaning);
    // The last coding of a request has to be chunked, as nothing else has an end that the server sees (RFC 9112, 6.3).
    if (problem == Problem::unknown_coding) return Problem::bad_coding;
    if (problem != Problem::none) return problem;
    if (!meaning.has(Meaning::host_field) && head.minor_version != 0) return Problem::missing_host;
    if (head.minor_version == 0) head.expects_continue = false;
    return Problem::none;
}

inline Problem conclude(ResponseHead& head, const Meaning& meaning) noexcept {
    return conclude_framing(head, meaning);
}

inline Problem conclude(Trailer&, const Meaning&) noexcept {
    return Problem::none;
}

}  // namespace reactor::http::head_detail
