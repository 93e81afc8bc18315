#include <reactor/probes_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stopwatch_impl.hpp>
#include <reactor/timer.hpp>

#include <stdexcept>

namespace reactor {

Timer::Timer(Reactor& reactor, MoveOnlyFunction<void()> callback)
    : reactor_(reactor), callback_(required(std::move(callback), "Timer: the callback is empty")) {}

Timer::~Timer() { cancel(); }

// From the time it is, not from when the turn began: a long callback before this must not eat the delay.
void Timer::start(Duration delay) { start_at(deadline_after(reactor_.now(), delay)); }

void Timer::start_at(TimePoint deadline) {
    reactor_.timers().schedule(*this, deadline);
    period_ = Duration::zero();
}

void Timer::start_periodic(Duration period) {
    if (period <= Duration::zero()) throw std::invalid_argument("Timer::start_periodic: the period must be positive");
    start(period);
    period_ = period;
}

bool Timer::cancel() noexcept { return reactor_.timers().cancel(*this); }

void Timer::due() {
    if (period_ > Duration::zero()) {
        const Duration late = time_between(deadline(), reactor_.now());
        missed_ = std::uint64_t(late / period_);
        const TimePoint last_missed = deadline_after(deadline(), late - late % period_);
        reactor_.timers().schedule(*this, deadline_after(last_missed, period_));
    }
    REACTOR_PROBE(timer, this);
    const Reactor::Stopwatch stopwatch(reactor_, SlowCall::Kind::timer, this);
    callback_();
}

}  // namespace reactor
