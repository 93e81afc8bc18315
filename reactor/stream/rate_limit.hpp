// Rates: how much may pass in a second. A token bucket holds the tokens that may pass at once. It fills steadily, and a
// caller that takes more than there are waits until those have come.
#pragma once

#include <reactor/clock.hpp>

#include <cstdint>
#include <limits>

namespace reactor {

/// So much a second; zero: no limit. Unused tokens add up to `burst`, which may then be used at once; zero: the tokens
/// of one second.
struct Rate {
    std::uint64_t per_second = 0;
    std::uint64_t burst = 0;
};

/// The rates of a connection, or of several together. Exceeding one is not an error: over a rate of input the
/// connection is not read from until there are tokens again, so that TCP slows the peer down; over one of output, the
/// bytes wait, and the watermarks (Limits::high_mark) pause the protocol. Time in which a rate delays a connection
/// counts for none of its deadlines.
struct RateLimits {
    Rate bytes_in{};
    Rate bytes_out{};
    /// Messages that the protocol reports (Transport::message_received), as Framed does for each.
    Rate messages_in{};

    bool any() const noexcept {
        return bytes_in.per_second > 0 || bytes_out.per_second > 0 || messages_in.per_second > 0;
    }
};

/// Tokens that come at a rate; full at first. A caller that takes more than there are owes them: the bucket may be
/// below zero, so that waiting callers are served in turn. Knows no clock; all times must be of the same one.
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
    /// Returns tokens that were taken and not used.
    void give_back(std::uint64_t count) noexcept {
        if (limits() && count > 0) full_at_ = earlier(time_for(count));
    }
    /// From when on there are so many, at most the burst; with none: from when on nothing is owed.
    TimePoint ready_at(std::uint64_t count) const noexcept {
        if (!limits() || count >= rate_.burst) return full_at_;
        return earlier(time_for(rate_.burst - count));
    }
    /// A number of tokens that is worth a wait, if fewer would do: those of a twentieth of a second.
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
