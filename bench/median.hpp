// The median of a few measurements and how sure it is: the interval that holds the true median 95 times in a hundred,
// read off the ordered values. It assumes nothing of their distribution, which is unknown on a shared machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace bench {

struct Median {
    double value = 0, low = 0, high = 0;
};

/// With fewer than six values the interval is all there is: from the least to the greatest.
inline Median median_of(std::vector<double> values) {
    if (values.empty()) return {};
    std::sort(values.begin(), values.end());
    const std::size_t count = values.size();
    // Each value lies below the true median with a chance of one half: the ranks are those of a binomial distribution.
    const double spread = 0.98 * std::sqrt(double(count));
    const double below = std::floor(double(count) / 2 - spread);
    const std::size_t low = below < 1 ? 0 : std::size_t(below) - 1;
    return {(values[(count - 1) / 2] + values[count / 2]) / 2, values[low], values[count - 1 - low]};
}

}  // namespace bench
