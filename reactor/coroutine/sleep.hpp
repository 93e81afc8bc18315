// sleep, sleep_until, yield: a task lets time pass, or others go first.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/coroutine/detail/ready_list.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/detail/timer_queue.hpp>

#include <utility>

namespace reactor {

namespace coroutine_detail {

/// Waits for a deadline in the loop's timers: no allocation.
class SleepOperation final : public Operation<SleepOperation>, TimerQueue::Node {
public:
    explicit SleepOperation(Duration delay) noexcept : delay_(delay) {}
    explicit SleepOperation(TimePoint deadline) noexcept : until_(deadline) {}
    SleepOperation(SleepOperation&& other) noexcept : delay_(other.delay_), until_(other.until_) {}
    ~SleepOperation() {
        if (scheduled()) timers_->cancel(*this);
    }

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation) {
        Reactor& reactor = root.reactor();
        timers_ = &Internals(reactor).timers();
        continuation_ = continuation;
        timers_->schedule(*this, until_ == TimePoint::min() ? deadline_after(reactor.now(), delay_) : until_);
    }
    void result() const noexcept {}

private:
    void due() override { resume(continuation_); }

    Duration delay_{};
    TimePoint until_ = TimePoint::min();  // unless `delay_` counts
    TimerQueue* timers_ = nullptr;
    Continuation continuation_;
};

class YieldOperation : public Operation<YieldOperation> {
public:
    YieldOperation() noexcept = default;
    YieldOperation(YieldOperation&&) noexcept {}

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation) {
        link_.continuation = continuation;
        ReadyList::of(root.reactor()).push_behind(link_);
    }
    void result() const noexcept {}

private:
    Link link_;
};

}  // namespace coroutine_detail

/// Waits for so long by the loop's clock, and at least until the next iteration: `co_await sleep(20ms)`. Never early.
/// Throws std::bad_alloc. Destroying the await cancels it.
inline coroutine_detail::SleepOperation sleep(Duration delay) noexcept {
    return coroutine_detail::SleepOperation(delay);
}
/// The same until a point in time.
inline coroutine_detail::SleepOperation sleep_until(TimePoint deadline) noexcept {
    return coroutine_detail::SleepOperation(deadline);
}

/// Lets everything else go first that is ready now: in long computations, so that the loop serves others.
inline coroutine_detail::YieldOperation yield() noexcept {
    return {};
}

}  // namespace reactor
