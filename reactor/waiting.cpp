// How long the loop waits: until its next deadline, no longer than it is told, and not at all while there is something
// to be done. Or it does not sleep, for as long as a busy wait pays.
#include <reactor/probes_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/registration_table_impl.hpp>

#include <algorithm>
#include <optional>
#include <span>
#include <thread>

namespace reactor {

namespace {

constexpr std::size_t few = 4;  // so many ready descriptors are worth a busy wait for the next ones

}  // namespace

std::optional<Duration> Reactor::next_timeout() noexcept {
    const bool once_more = hooks_are_due() || table_->demultiplexer().ready_unseen();
    return once_more ? Duration::zero() : longest_wait();
}

bool Reactor::work_waits() const noexcept {
    return table_->changed() || !triggers_.empty() || !retired_.empty() || deferred_waiting_ > 0 || workspace_waits_ ||
           coroutines_wait_ || posted_waiting_.load() || stop_.load();
}

// The loop's own timeout, when the hooks have run and the backend is about to wait.
std::optional<Duration> Reactor::longest_wait() noexcept {
    if (work_waits()) return Duration::zero();
    const auto next = timers_.next();
    if (!next) return std::nullopt;
    return time_between(now(), *next);
}

// An exception out of the backend is no callback's, and leaves the iteration even if there is a hook for those: a loop
// that cannot wait must not go on as if nothing were wrong.
void Reactor::wait(std::optional<Duration> limit) {
    asleep_ = true;
    // After `asleep_`: a post from now on ends the wait, and one from before is seen by longest_wait().
    auto timeout = longest_wait();
    if (limit && (!timeout || *limit < *timeout)) timeout = std::max(*limit, Duration::zero());
    if (limit && until_idle_ && idle())
        timeout = Duration::zero();  // the hooks or the changes were the last that there was
    if (failure_) [[unlikely]]
        timeout = Duration::zero();
    ++counters_.turns;
    std::span<const Event> batch;
    try {
        const bool busy = busy_wait_ > Duration::zero() && few_were_ready_ && timeout != Duration::zero();
        batch = busy ? busy_wait(timeout) : table_->demultiplexer().wait(timeout);
    } catch (...) {
        fail();
    }
    few_were_ready_ = !batch.empty() && batch.size() <= few;
    batch_ = batch.data();
    batch_end_ = batch_ + batch.size();
    asleep_ = false;
    counters_.events += batch.size();
    // An event for a registration that has gone is usual if one was removed since, and else a sign of trouble.
    batch_removals_ = table_->removals();
    REACTOR_PROBE(turn_begin, batch.size());
    turn_time_known_ = false;
    // A deadline holds against peers that had not spoken when the loop looked; the time of handlers from here on is not
    // theirs.
    if (!timers_.empty()) (void)turn_time();
}

// By the real clock, whatever the loop's own one is: it is the processor's time that is spent.
std::span<const Event> Reactor::busy_wait(std::optional<Duration> timeout) {
    const Clock& clock = Clock::monotonic();
    const TimePoint begin = clock.now();
    const Duration longest = timeout ? std::min(*timeout, busy_wait_) : busy_wait_;
    Duration passed = Duration::zero();
    do {
        ++counters_.looks;
        // Each look is a system call, but one that finds something saves the sleep, and the wake-up from another
        // processor.
        const std::span<const Event> batch = table_->demultiplexer().wait(Duration::zero());
        if (!batch.empty()) return batch;
        std::this_thread::yield();  // the peer may be waiting for this very processor
        passed = time_between(begin, clock.now());
    } while (passed < longest);
    if (timeout) timeout = *timeout > passed ? *timeout - passed : Duration::zero();
    return table_->demultiplexer().wait(timeout);
}

}  // namespace reactor
