// Time as the loop knows it: one monotonic clock, which a test can replace by one that it moves by hand
// (reactor/testing/manual_clock.hpp). Wall-clock time has no place in a loop: it jumps.
#pragma once

#include <reactor/export.hpp>

#include <chrono>

namespace reactor {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

/// Where a reactor reads the time. Implementations never go backwards. Called from the loop's thread only.
class REACTOR_EXPORT Clock {
public:
    virtual TimePoint now() const noexcept = 0;

    /// The machine's monotonic clock (clock_gettime(2), CLOCK_MONOTONIC): it does not advance while the
    /// machine is suspended, and setting the date does not touch it.
    static const Clock& monotonic() noexcept;

protected:
    ~Clock() = default;
};

// Times may be as early or as late as can be said, TimePoint::min() and max(), for "long ago" and "never". So nothing
// here subtracts or adds them but by these, which stop at the ends.

/// `start + delay`, where a negative delay counts as none and a sum past the end of time is the end of time.
constexpr TimePoint deadline_after(TimePoint start, Duration delay) noexcept {
    if (delay <= Duration::zero()) return start;
    const bool past_the_end = start > TimePoint{} && delay > TimePoint::max() - start;
    return past_the_end ? TimePoint::max() : start + delay;
}

/// `later - earlier`, where one that is not later is no time away, and more than a Duration holds is Duration::max().
constexpr Duration time_between(TimePoint earlier, TimePoint later) noexcept {
    if (later <= earlier) return Duration::zero();
    const bool too_long = earlier < TimePoint{} && later > TimePoint::max() + earlier.time_since_epoch();
    return too_long ? Duration::max() : later - earlier;
}

}  // namespace reactor
