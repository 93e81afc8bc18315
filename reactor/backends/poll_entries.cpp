// poll(2) for any number of descriptors. Linux refuses a call (EINVAL) with more entries than RLIMIT_NOFILE allows
// descriptors. A program gets there when its limit is lowered while it runs (setrlimit(2), prlimit(1)).
#include <reactor/backends/poll_entries_impl.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/system_impl.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

namespace reactor::backends {

namespace {

// The longest delay of an event outside the piece that is slept on.
constexpr Duration slice = std::chrono::milliseconds(5);

int poll_once(std::span<pollfd> entries, std::optional<Duration> limit) noexcept {
#if REACTOR_HAS(PPOLL)
    const Timeout timeout(limit);
    const int count = ::ppoll(entries.data(), nfds_t(entries.size()), timeout.get(), nullptr);
    if (count >= 0 || !call_is_unknown(errno)) [[likely]]
        return count;
#endif
    return ::poll(entries.data(), nfds_t(entries.size()), milliseconds_of(limit));
}

// No wait of the kernel's covers several pieces: all are looked at, then one is slept on for a slice.
int poll_in_pieces(std::span<pollfd> entries, std::optional<Duration> limit, std::size_t piece) noexcept {
    const Clock& clock = Clock::monotonic();
    const TimePoint end = limit ? deadline_after(clock.now(), *limit) : TimePoint::max();
    for (;;) {
        int ready = 0;
        for (std::size_t at = 0; at < entries.size(); at += piece) {
            const int count = poll_once(entries.subspan(at, std::min(piece, entries.size() - at)), Duration::zero());
            if (count < 0) return -1;
            ready += count;
        }
        const Duration left = time_between(clock.now(), end);
        if (ready > 0 || left == Duration::zero()) return ready;
        if (poll_once(entries.first(piece), std::min(left, slice)) < 0) return -1;
    }
}

}  // namespace

int poll_entries(std::span<pollfd> entries, std::optional<Duration> limit) noexcept {
    const int count = poll_once(entries, limit);
    if (count >= 0 || errno != EINVAL) [[likely]]
        return count;
    // EINVAL has other causes, such as a timeout that is no time. Only this one is helped by smaller pieces.
    rlimit most{};
    if (::getrlimit(RLIMIT_NOFILE, &most) != 0 || most.rlim_cur == 0 || most.rlim_cur >= entries.size()) {
        errno = EINVAL;
        return -1;
    }
    return poll_in_pieces(entries, limit, std::size_t(most.rlim_cur));
}

}  // namespace reactor::backends
