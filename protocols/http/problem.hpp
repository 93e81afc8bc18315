// Problem: the reasons for which a message of HTTP/1.1 is refused, each with the clause that decides it and the status
// that a server answers with; and those for which a client gives up.
#pragma once

#include <reactor/export.hpp>

#include <cstdint>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace reactor::http {

/// The reason why a message is refused. It converts to a std::error_code of the category "http".
enum class Problem : std::uint8_t {
    none,
    bare_line_feed,            ///< a line ends in LF without CR (RFC 9112, 2.2)
    bare_carriage_return,      ///< a CR has no LF behind it (RFC 9112, 2.2)
    bad_start_line,            ///< the first line has another form than its grammar (RFC 9112, 3 and 4)
    bad_method,                ///< the method is no token (RFC 9110, 9.1)
    bad_target,                ///< the request target is none of the four forms (RFC 9112, 3.2)
    bad_version,               ///< the version is not HTTP/digit.digit (RFC 9112, 2.3)
    unsupported_version,       ///< another major version than 1 (RFC 9110, 15.6.6)
    bad_status,                ///< the status is not three digits from 100 to 599 (RFC 9110, 15)
    bad_field_name,            ///< a field name is empty or no token (RFC 9110, 5.1)
    space_before_colon,        ///< white space stands between a field name and its colon (RFC 9112, 5.1)
    folded_line,               ///< a field line begins with white space (RFC 9112, 5.2)
    bad_field_value,           ///< a control character stands in a field value (RFC 9110, 5.5)
    missing_host,              ///< a request of HTTP/1.1 has no Host (RFC 9112, 3.2)
    repeated_host,             ///< there are several Host fields (RFC 9112, 3.2)
    bad_host,                  ///< Host is no host with an optional port (RFC 9110, 7.2)
    repeated_length,           ///< there are several Content-Length fields, or a list (RFC 9112, 6.3)
    bad_length,                ///< Content-Length is no decimal number, or too large for one (RFC 9110, 8.6)
    length_and_coding,         ///< both Content-Length and Transfer-Encoding (RFC 9112, 6.3)
    bad_coding,                ///< Transfer-Encoding is repeated, empty, or does not end in chunked (RFC 9112, 6.1)
    unknown_coding,            ///< a transfer coding other than chunked (RFC 9112, 6.1)
    coding_in_old_version,     ///< Transfer-Encoding in HTTP/1.0 (RFC 9112, 6.1)
    bad_expectation,           ///< an expectation other than 100-continue (RFC 9110, 10.1.1)
    bad_chunk_size,            ///< a chunk size is not hexadecimal, or too large (RFC 9112, 7.1)
    bad_chunk_extension,       ///< a chunk extension has another form than its grammar (RFC 9112, 7.1.1)
    bad_chunk_end,             ///< a chunk is not followed by CRLF (RFC 9112, 7.1)
    bad_trailer,               ///< a trailer field that frames, routes or authorizes (RFC 9110, 6.5.1)
    start_line_too_long,       ///< HeadLimits::start_line
    head_too_long,             ///< HeadLimits::head
    too_many_fields,           ///< HeadLimits::fields
    body_too_long,             ///< the limit of the body
    chunk_overhead_too_large,  ///< chunk extensions and tiny chunks outweigh the content
    ended_inside_message,      ///< the stream ended before the message did (RFC 9112, 8)
    timed_out,                 ///< the request did not arrive in time (RFC 9110, 15.5.9)
    too_many_redirects,        ///< ClientOptions::redirects
    bad_redirect,              ///< a Location that is malformed, or leads from https to http
    refused_by_proxy,          ///< a proxy did not answer CONNECT with success (RFC 9110, 9.3.6)
};

/// The category named "http".
REACTOR_EXPORT const std::error_category& problem_category() noexcept;

inline std::error_code make_error_code(Problem problem) noexcept {
    return {static_cast<int>(problem), problem_category()};
}

/// A sentence without a full stop: "a line ends in LF without CR". Lifetime: static.
REACTOR_EXPORT std::string_view describe(Problem problem) noexcept;

/// The status that a server answers such a request with: 400, 408, 413, 414, 417, 431, 501 or 505.
REACTOR_EXPORT int status_for(Problem problem) noexcept;

}  // namespace reactor::http

/// @cond  what makes std::error_code take a Problem
template <>
struct std::is_error_code_enum<reactor::http::Problem> : std::true_type {};
/// @endcond
