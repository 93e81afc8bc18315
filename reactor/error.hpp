// The library's own errors. The system's errors stay in std::system_category or std::generic_category; compare them
// with std::errc as usual.
#pragma once

#include <reactor/export.hpp>

#include <system_error>
#include <type_traits>

namespace reactor {

/// Why the library ended a connection, or could not begin one. It converts to std::error_code, and is compared with
/// one: `if (error == Error::idle_timeout)`.
enum class Error {
    exception = 1,         ///< the protocol threw; the exception went to the reactor's hook or out of run()
    input_limit,           ///< more input than Limits::input_limit was left unconsumed
    output_limit,          ///< a write with Limits::output_limit already queued
    malformed,             ///< the input cannot be a message of this framing
    message_too_long,      ///< a message was announced, or went on, past the framing's maximum
    ended_inside_message,  ///< the stream ended before the message did
    descriptor_limit,      ///< more descriptors came than ConnectionOptions::descriptors, and were not taken
    file_shortened,        ///< a file became shorter while it was being sent (Transport::write_file)
    successor_ended,       ///< a successor ended before it accepted (Successor)
    end_of_stream,         ///< the peer has shut its side, in order (coroutines; Protocol::end_of_stream is a call)
    // Each of these but `truncated` also compares equal to std::errc::timed_out.
    idle_timeout,       ///< nothing came or went for Limits::idle_timeout
    message_timeout,    ///< the rest of a message did not come within Limits::message_timeout
    write_timeout,      ///< the peer took none of the queued output for Limits::write_timeout
    close_timeout,      ///< the peer had not closed, or not read everything, within Limits::close_timeout
    successor_timeout,  ///< a successor did not accept in time (Successor)
    receive_timeout,    ///< the peer sent nothing for Limits::receive_timeout
    handshake_timeout,  ///< a TLS handshake took too long

    truncated,  ///< a TLS stream ended without the peer's close_notify: bytes may be missing
};

/// The category named "reactor".
REACTOR_EXPORT const std::error_category& error_category() noexcept;

inline std::error_code make_error_code(Error error) noexcept {
    return {static_cast<int>(error), error_category()};
}

}  // namespace reactor

/// @cond  what makes std::error_code take an Error
template <>
struct std::is_error_code_enum<reactor::Error> : std::true_type {};
/// @endcond
