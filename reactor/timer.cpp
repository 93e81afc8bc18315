#include <reactor/loop_thread_impl.hpp>
#include <reactor/probes_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stopwatch_impl.hpp>
#include <reactor/timer.hpp>

#include <cassert>
#include <stdexcept>
#include <utility>

namespace reactor {

Timer::Timer() noexcept : callback_(nullptr) {}

Timer::Timer(Reactor& reactor, MoveOnlyFunction<void()> callback)
    : reactor_(&reactor), callback_(required(std::move(callback), "Timer: the callback is empty")) {}

Timer::Timer(Timer&& other) noexcept : callback_(std::move(other.callback_)) {
    take(other);
}

Timer& Timer::operator=(Timer&& other) noexcept {
    if (this == &other) return *this;
    cancel();
    const Callback<void()> old = std::move(callback_);  // destroyed last: its captures may refer to this timer
    callback_ = std::move(other.callback_);
    take(other);
    return *this;
}

Timer::~Timer() {
    cancel();
}

// All but the callback.
void Timer::take(Timer& other) noexcept {
    reactor_ = std::exchange(other.reactor_, nullptr);
    period_ = other.period_;
    missed_ = other.missed_;
    if (reactor_ != nullptr) reactor_->timers_.move_place(other, *this);
}

Reactor& Timer::reactor() {
    if (reactor_ == nullptr) throw std::logic_error("Timer::start: the timer has no reactor");
    return *reactor_;
}

// From the time it is, not from when the turn began: a long callback before this must not eat the delay.
void Timer::start(Duration delay) {
    start_at(deadline_after(reactor().now(), delay));
}

void Timer::start_at(TimePoint deadline) {
    reactor().require_loop_thread("Timer::start");
    reactor_->timers_.schedule(*this, deadline);
    period_ = Duration::zero();
}

void Timer::start_periodic(Duration period) {
    if (period <= Duration::zero()) throw std::invalid_argument("Timer::start_periodic: the period must be positive");
    start(period);
    period_ = period;
}

bool Timer::cancel() noexcept {
    if (!active()) return false;
    assert(reactor_->on_loop_thread() && "a timer was cancelled from another thread than the one that runs the loop");
    return reactor_->timers_.cancel(*this);
}

void Timer::due() {
    if (period_ > Duration::zero()) {
        const Duration late = time_between(deadline(), reactor_->now());
        missed_ = std::uint64_t(late / period_);
        const TimePoint last_missed = deadline_after(deadline(), late - late % period_);
        reactor_->timers_.schedule(*this, deadline_after(last_missed, period_));
    }
    REACTOR_PROBE(timer, this);
    const Reactor::Stopwatch stopwatch(*reactor_, SlowCall::Kind::timer, this);
    callback_();  // which may destroy or move this timer
}

Timer Reactor::after(Duration delay, MoveOnlyFunction<void()> callable) {
    Timer timer(*this, std::move(callable));
    timer.start(delay);
    return timer;
}

Timer Reactor::every(Duration period, MoveOnlyFunction<void()> callable) {
    Timer timer(*this, std::move(callable));
    timer.start_periodic(period);
    return timer;
}

}  // namespace reactor
