// InnerLoop: a reactor that runs inside another loop. The adapters for outer loops beside it are built on it, and so
// can one of your own.
#pragma once

#include <reactor/detail/lifetime.hpp>
#include <reactor/reactor.hpp>

#include <algorithm>
#include <chrono>
#include <climits>
#include <optional>

namespace reactor::adapters {

/// The outer loop watches `descriptor()` for readable, sleeps at most for `longest_sleep()`, and then calls `run()`.
/// The backends poll and select have no descriptor: there the reactor runs every 10 milliseconds. Thread: the loop's.
/// Errors: run() throws those of Reactor::run_once. Lifetime: must go before the reactor.
class InnerLoop {
public:
    explicit InnerLoop(Reactor& inner) noexcept : inner_(inner) {}

    /// -1 if there is none. To be asked after each run(): it is another one when an epoll set had to be left.
    int descriptor() const noexcept { return inner_.native_handle(); }

    /// nullopt is without a limit, and zero: it is time to run. To be asked before each wait of the outer loop, because
    /// code outside the reactor may have started a timer.
    std::optional<Duration> longest_sleep() const noexcept {
        const std::optional<Duration> next = inner_.next_timeout();
        if (descriptor() >= 0) return next;
        const Duration until_look = std::max(next_look_ - inner_.now(), Duration::zero());
        return std::min(next.value_or(until_look), until_look);
    }

    /// The same in milliseconds as for poll(2): -1 is without a limit. It is rounded up, because a timer is never
    /// early.
    int longest_sleep_milliseconds() const noexcept {
        const std::optional<Duration> sleep = longest_sleep();
        if (!sleep) return -1;
        return int(std::min<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(*sleep).count(), INT_MAX));
    }

    /// One iteration, which does not wait. False if a call of it has destroyed this object.
    bool run() {
        const Lifetime::Watch watch(lifetime_);
        inner_.run_once(Duration::zero());
        if (watch.over()) return false;
        next_look_ = inner_.now() + look_without_descriptor;
        return true;
    }

private:
    static constexpr Duration look_without_descriptor = std::chrono::milliseconds(10);
    Reactor& inner_;
    TimePoint next_look_{};
    Lifetime lifetime_;
};

}  // namespace reactor::adapters
