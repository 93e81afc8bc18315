// The last calls of a protocol, the same for every transport. Not installed.
#pragma once

#include <reactor/error.hpp>
#include <reactor/stream/detail/stream_state.hpp>
#include <reactor/stream/protocol.hpp>

#include <exception>
#include <system_error>

namespace reactor {

/// The stream is over: calls `closing`, if that has not been, and `disconnected`. An exception out of the former is the
/// reason for the latter, and goes on.
inline void make_last_calls(StreamState& state, Protocol& protocol, std::error_code reason) {
    std::exception_ptr failure;
    if (state.take_closing()) {
        try {
            protocol.closing();
        } catch (...) {
            failure = std::current_exception();
            reason = Error::exception;
        }
    }
    protocol.disconnected(reason);
    if (failure) std::rethrow_exception(failure);
}

}  // namespace reactor
