// Deadlines: since when each of a transport's time limits runs, and which of them ends first. Traffic only stores a
// time here; of all the limits one timer waits for the first, and asks again when it comes. Not installed.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/error.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/transport.hpp>

namespace reactor {

struct Deadlines {
    struct Next {
        TimePoint at = TimePoint::max();  // which is never
        Error error = Error::idle_timeout;
        Notice notice = Notice::idle_timeout;
        const char* text = "";
    };

    TimePoint last_activity{};
    TimePoint received{};
    TimePoint rest_since{};    // the present rest of the input: the beginning of a message
    TimePoint output_since{};  // none of the output has been taken

    void begin(TimePoint now) noexcept { last_activity = received = rest_since = output_since = now; }

    Next next(const Limits& limits, bool closing, bool has_rest, bool has_output) const noexcept {
        if (closing)
            return {deadline_after(last_activity, limits.close_timeout), Error::close_timeout, Notice::close_timeout,
                    "not closed in time"};
        Next first;
        const auto consider = [&first](TimePoint since, Duration allowed, Error error, Notice notice,
                                       const char* text) {
            if (allowed <= Duration::zero() || deadline_after(since, allowed) >= first.at) return;
            first = {deadline_after(since, allowed), error, notice, text};
        };
        consider(last_activity, limits.idle_timeout, Error::idle_timeout, Notice::idle_timeout, "silent for too long");
        consider(received, limits.receive_timeout, Error::receive_timeout, Notice::receive_timeout,
                 "sent nothing for too long");
        if (has_rest)
            consider(rest_since, limits.message_timeout, Error::message_timeout, Notice::message_timeout,
                     "took too long for a message");
        if (has_output)
            consider(output_since, limits.write_timeout, Error::write_timeout, Notice::write_timeout,
                     "did not read for too long");
        return first;
    }
};

}  // namespace reactor
