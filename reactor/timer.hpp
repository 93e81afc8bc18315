// Timer: calls back once after a while, or again and again without drifting.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/detail/callback.hpp>
#include <reactor/detail/timer_queue.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>

#include <cstdint>

namespace reactor {

class Reactor;

/// Never early; late by the length of the turn that it falls into. Destroying it cancels it. In its own callback it may
/// be started, cancelled, moved, assigned to and destroyed. Reactor::after and Reactor::every return one that is
/// started. Moving keeps the callback, the deadline, and the order among equal deadlines. Assigning to it cancels what
/// it was. Thread: the loop's. Lifetime: must go before its reactor.
class [[nodiscard]] REACTOR_EXPORT Timer final : TimerQueue::Node {
public:
    /// One without a reactor and a callback, as a moved one is: to be assigned to. It is not active.
    Timer() noexcept;
    /// Throws std::invalid_argument for an empty callback.
    [[nodiscard]] Timer(Reactor& reactor, MoveOnlyFunction<void()> callback);
    Timer(Timer&& other) noexcept;
    Timer& operator=(Timer&& other) noexcept;
    ~Timer();

    /// Calls back once, `delay` from now; at the next turn if that is zero or less. If it was started already,
    /// only this counts. Throws std::bad_alloc, and std::logic_error without a reactor. Then nothing has changed.
    void start(Duration delay);

    /// The same at a point in time.
    void start_at(TimePoint deadline);

    /// Calls back at now + period, now + 2 · period …, always on this grid. If the loop was busy for more
    /// than a period, there is one call, and `missed()` says how many it stands for besides. Throws
    /// std::invalid_argument unless the period is positive.
    void start_periodic(Duration period);

    /// It will not call back. False if it was not going to anyway.
    bool cancel() noexcept;

    bool active() const noexcept { return scheduled(); }
    /// When it calls back next, if it is active.
    using TimerQueue::Node::deadline;
    /// How many calls of a periodic timer were left out just before the last one.
    std::uint64_t missed() const noexcept { return missed_; }

private:
    void due() override;
    Reactor& reactor();
    void take(Timer& other) noexcept;

    Reactor* reactor_ = nullptr;
    Callback<void()> callback_;
    Duration period_ = Duration::zero();
    std::uint64_t missed_ = 0;
};

}  // namespace reactor
