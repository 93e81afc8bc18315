// Latencies in logarithmic buckets, as HdrHistogram keeps them: 32 to every power of two, so that any percentile is
// within 3 % of the truth at 15 KB and a few instructions a value. It keeps no single values.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace bench {

class Histogram {
public:
    void add(std::uint64_t value) noexcept {
        ++buckets_[bucket_of(value)];
        ++count_;
        largest_ = std::max(largest_, value);
    }

    void add(const Histogram& other) noexcept {
        for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) buckets_[bucket] += other.buckets_[bucket];
        count_ += other.count_;
        largest_ = std::max(largest_, other.largest_);
    }

    std::uint64_t count() const noexcept { return count_; }
    std::uint64_t largest() const noexcept { return largest_; }

    /// The value that this share (0.5, 0.99) of all values does not exceed; 0 if there are none.
    std::uint64_t percentile(double share) const noexcept {
        const auto rank = std::max<std::uint64_t>(1, std::uint64_t(share * double(count_) + 0.5));
        std::uint64_t seen = 0;
        for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
            seen += buckets_[bucket];
            if (seen >= rank && seen > 0) return std::min(middle_of(bucket), largest_);
        }
        return largest_;
    }

private:
    // Values below 32 have a bucket each. Above, the five bits behind the leading one choose among the 32 of its power.
    static constexpr unsigned bits = 5;
    static constexpr std::size_t per_power = std::size_t(1) << bits;

    static std::size_t bucket_of(std::uint64_t value) noexcept {
        if (value < per_power) return std::size_t(value);
        const unsigned shift = unsigned(std::bit_width(value)) - bits - 1;
        return (shift + 1) * per_power + std::size_t((value >> shift) - per_power);
    }

    static std::uint64_t middle_of(std::size_t bucket) noexcept {
        if (bucket < per_power) return bucket;
        const std::size_t shift = bucket / per_power - 1;
        return ((std::uint64_t(bucket % per_power) + per_power) << shift) + ((std::uint64_t(1) << shift) >> 1);
    }

    std::array<std::uint64_t, (64 - bits + 1) * per_power> buckets_{};
    std::uint64_t count_ = 0;
    std::uint64_t largest_ = 0;
};

}  // namespace bench
