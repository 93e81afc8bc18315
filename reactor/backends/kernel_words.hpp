// The kernel's words for what this library says: shared by the backends, seen by nobody else.
#pragma once

#include <reactor/demultiplexer.hpp>

#include <poll.h>

#include <ctime>

namespace reactor::backends {

inline short poll_events(Interest interest) noexcept {
    return short((any(interest, Interest::readable) ? POLLIN : 0) | (any(interest, Interest::writable) ? POLLOUT : 0) |
                 (any(interest, Interest::error) ? POLLPRI : 0));
}

/// Of poll(2)'s revents; epoll(7) uses the same bits.
constexpr Condition condition_of(unsigned revents) noexcept {
    Condition condition = Condition::none;
    if (revents & POLLIN) condition |= Condition::readable;
    if (revents & POLLOUT) condition |= Condition::writable;
    if (revents & POLLPRI) condition |= Condition::urgent;
    if (revents & POLLERR) condition |= Condition::failed;
    if (revents & POLLHUP) condition |= Condition::hangup;
    if (revents & POLLNVAL) condition |= Condition::invalid;
    return condition;
}

/// A limit as the calls take it that count in nanoseconds: a null pointer is no limit.
class Timeout {
public:
    explicit Timeout(std::optional<Duration> limit) noexcept : limited_(limit.has_value()) {
        if (!limit) return;
        time_.tv_sec = time_t(*limit / std::chrono::seconds(1));
        time_.tv_nsec = long((*limit % std::chrono::seconds(1)).count());
    }
    const timespec* get() const noexcept { return limited_ ? &time_ : nullptr; }

private:
    bool limited_;
    timespec time_{};
};

}  // namespace reactor::backends
