// Rates: how much may pass in a second. A token bucket holds what may pass at once; it fills steadily, and whoever
// takes more than there is waits until that has come.
#pragma once

#include <reactor/clock.hpp>

#include <cstdint>
#include <limits>

namespace reactor {

/// So much a second; zero: as much as there is. Who has used less for a while may make up for it, up to `burst` at
/// once; zero: what comes in a second.
struct Rate {
    std::uint64_t per_second = 0;
    std::uint64_t burst = 0;
};

/// What a connection may do in a second, or several together. It is no error to want more: over a rate of input the
/// connection is not read from until there are tokens again, so that TCP holds the peer up; over one of output, what is
/// written waits, and the marks (Limits::high_mark) hold up who writes. Time in which a rate holds a connection up
/// counts for none of its time limits.
struct RateLimits {
    Rate bytes_in{};
    Rate bytes_out{};
    /// Of those that the protocol tells of: Framed does, of each (Transport::message_received). What is no message to
    /// anybody cannot be counted.
    Rate messages_in{};

    bool any() const noexcept {
        return bytes_in.per_second > 0 || bytes_out.per_second > 0 || messages_in.per_second > 0;
    }
};

/// Tokens that come at a rate; full at first. Who takes more than there are owes them: the bucket may be empty below
/// nothing, so that those who wait get theirs in turn. Knows no clock; all times must be of the same one.
class TokenBucket {
public:
    explicit TokenBucket(Rate rate) noexcept : rate_(rate) {
        if (rate_.burst == 0) rate_.burst = rate_.per_second;
    }

    bool limits() const noexcept { return rate_.per_second > 0; }

    /// How many there are.
    std::uint64_t available(TimePoint now) const noexcept {
        if (!limits()) return unlimited;
        if (full_at_ <= now) return rate_.burst;
        const double missing = double(time_between(now, full_at_).count()) * double(rate_.per_second) / 1e9;
        if (missing >= double(rate_.burst)) return 0;
        // In whole numbers: a large burst is a double that fits no integer (2^64 for 2^64 - 1).
        std::uint64_t gone = std::uint64_t(missing);
        if (missing > double(gone)) ++gone;
        return gone >= rate_.burst ? 0 : rate_.burst - gone;
    }

    void take(std::uint64_t count, TimePoint now) noexcept {
        if (limits()) full_at_ = deadline_after(full_at_ < now ? now : full_at_, time_for(count));
    }
    /// What was taken and not used.
    void give_back(std::uint64_t count) noexcept {
        if (limits() && count > 0) full_at_ = earlier(time_for(count));
    }
    /// From when on there are so many, at most the burst; with none: from when on nothing is owed.
    TimePoint ready_at(std::uint64_t count) const noexcept {
        if (!limits() || count >= rate_.burst) return full_at_;
        return earlier(time_for(rate_.burst - count));
    }
    /// What is worth waiting for, where one can have less: what comes in a twentieth of a second.
    std::uint64_t piece() const noexcept {
        if (!limits()) return unlimited;
        const std::uint64_t comes = rate_.per_second / 20;
        if (comes == 0) return 1;
        return comes < rate_.burst ? comes : rate_.burst;
    }

private:
    static constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

    // Rounded up: never early.
    Duration time_for(std::uint64_t count) const noexcept {
        const double time = double(count) * 1e9 / double(rate_.per_second);
        constexpr double longest = 4e18;  // a hundred years
        if (time >= longest) return Duration(std::int64_t(longest));
        return Duration(std::int64_t(time) + (time > double(std::int64_t(time)) ? 1 : 0));
    }

    // Than when it is full. Neither side of a debt that has come to the end of time is exact, and none wraps.
    TimePoint earlier(Duration time) const noexcept {
        return full_at_ < TimePoint::min() + time ? TimePoint::min() : full_at_ - time;
    }

    Rate rate_;
    TimePoint full_at_{};  // that is how many there are: all but those that come from now until then
};

}  // namespace reactor
