// The kernel's words for this library's: shared by the backends.
#pragma once

#include <reactor/demultiplexer.hpp>

#include <poll.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <limits>

namespace reactor::backends {

static_assert(POLLIN == int(Condition::readable) && POLLPRI == int(Condition::urgent) &&
              POLLOUT == int(Condition::writable) && POLLERR == int(Condition::failed) &&
              POLLHUP == int(Condition::hangup) && POLLNVAL == int(Condition::invalid));
static_assert(POLLIN == int(Interest::readable) && POLLPRI == int(Interest::error) &&
              POLLOUT == int(Interest::writable));

constexpr short poll_events(Interest interest) noexcept {
    return short(interest);
}

/// Of poll(2)'s revents, without the bits outside the interest.
constexpr Condition condition_of(short revents) noexcept {
    return Condition(revents & 0x3f);
}

/// A limit as the calls take it that count in milliseconds: -1 is no limit. Rounded up. Rounded down, the loop would
/// wake before its timer is due, and spin for the rest of the millisecond.
constexpr int milliseconds_of(std::optional<Duration> limit) noexcept {
    if (!limit) return -1;
    const std::int64_t count = std::chrono::ceil<std::chrono::milliseconds>(*limit).count();
    return int(std::min<std::int64_t>(count, std::numeric_limits<int>::max()));
}

/// A limit as the calls take it that count in nanoseconds: a null pointer is no limit.
class Timeout {
public:
    explicit Timeout(std::optional<Duration> limit) noexcept : limited_(limit.has_value()) {
        if (!limit) return;
        constexpr std::int64_t longest = std::numeric_limits<time_t>::max();  // 68 years, where it has 32 bits
        time_.tv_sec = time_t(std::min<std::int64_t>(*limit / std::chrono::seconds(1), longest));
        time_.tv_nsec = long((*limit % std::chrono::seconds(1)).count());
    }
    const timespec* get() const noexcept { return limited_ ? &time_ : nullptr; }

private:
    bool limited_;
    timespec time_{};
};

}  // namespace reactor::backends
