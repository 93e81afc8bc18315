// All that a test leaves to chance, from one seed: the same on every machine, unlike the library's distributions.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>

class Dice {
public:
    explicit Dice(std::uint64_t seed) : random_(seed) {}
    std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : random_() % limit; }
    std::uint64_t between(std::uint64_t least, std::uint64_t most) { return least + below(most - least + 1); }
    /// Small numbers as likely as large ones: the length of the number is drawn first.
    std::uint64_t magnitude(std::uint64_t most) {
        std::uint64_t limit = 1;
        for (std::uint64_t left = most; left > 0 && below(8) != 0; left /= 2) limit = limit * 2 + 1;
        return below(std::min(limit, most) + 1);
    }
    bool chance(unsigned in_a_thousand) { return below(1000) < in_a_thousand; }
    std::chrono::nanoseconds delay(std::chrono::nanoseconds longest) {
        return std::chrono::nanoseconds(std::int64_t(magnitude(std::uint64_t(longest.count()))));
    }

private:
    std::mt19937_64 random_;
};
