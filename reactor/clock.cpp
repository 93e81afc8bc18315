#include <reactor/clock.hpp>

namespace reactor {

const Clock& Clock::monotonic() noexcept {
    struct Monotonic final : Clock {
        TimePoint now() const noexcept override { return std::chrono::steady_clock::now(); }
    };
    static const Monotonic clock;
    return clock;
}

}  // namespace reactor
