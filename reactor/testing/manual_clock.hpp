// A clock that stands still until a test moves it: timers, idle timeouts and deadlines without waiting.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>

#include <stdexcept>

namespace reactor::testing {

/// A clock that a test moves, and nothing else. It must outlive the reactors that read it.
class REACTOR_EXPORT ManualClock final : public Clock {
public:
    /// Not at zero, so that what was never set differs from what was set at the start.
    explicit ManualClock(TimePoint start = TimePoint(std::chrono::hours(1))) noexcept : now_(start) {}

    TimePoint now() const noexcept override { return now_; }

    /// Throws std::invalid_argument for a negative step: the loop's clock never goes back. Stops at the end of time.
    void advance(Duration step) { set(step < Duration::zero() ? TimePoint::min() : deadline_after(now_, step)); }
    void set(TimePoint time) {
        if (time < now_) throw std::invalid_argument("a monotonic clock does not go back");
        now_ = time;
    }

private:
    TimePoint now_;
};

}  // namespace reactor::testing
