// Signals as calls from the loop. The handler notes the signal and wakes the loop, and the loop does the rest: in a
// handler almost nothing is allowed. signalfd(2) would do without a handler, but it needs each signal blocked in every
// thread, libraries' threads too, and children inherit the mask.
#include <reactor/signals.hpp>

#include <array>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

namespace reactor {

namespace {

// All that a signal handler touches, by signal.
struct Entry {
    std::atomic<Wakeup*> watcher{nullptr};
    std::atomic<bool> pending{false};
    std::atomic<int> inside{0};  // handlers running now, on any thread
};
static_assert(std::atomic<Wakeup*>::is_always_lock_free && std::atomic<bool>::is_always_lock_free &&
                  std::atomic<int>::is_always_lock_free,
              "a lock would deadlock in a signal handler");

constinit std::array<Entry, NSIG> entries;

// After fork(2) a signal of the child's wakes the parent's loop as well, since they share the descriptor; the
// parent then finds nothing pending.
void handle(int signal) noexcept {
    Entry& entry = entries[std::size_t(signal)];
    // First counted, then the watcher is read: give_back does it the other way round, so one sees the other.
    entry.inside.fetch_add(1);
    if (Wakeup* watcher = entry.watcher.load()) {
        entry.pending.store(true);
        watcher->notify();  // leaves errno alone
    }
    entry.inside.fetch_sub(1);
}

std::string describe(int signal) {
    const char* words = ::strsignal(signal);
    return "signal " + std::to_string(signal) + " (" + (words != nullptr ? words : "unknown") + ")";
}

bool can_be_watched(int signal) noexcept {
    switch (signal) {
        case SIGKILL:
        case SIGSTOP:
        case SIGSEGV:
        case SIGBUS:
        case SIGFPE:
        case SIGILL: return false;
        default: return signal > 0 && signal < NSIG;
    }
}

}  // namespace

Signals::Signals(Reactor& reactor, std::initializer_list<int> signals, MoveOnlyFunction<void(int signal)> callback)
    : callback_(required(std::move(callback), "Signals: the callback is empty")) {
    for (const int signal : signals)
        if (!can_be_watched(signal)) throw std::invalid_argument("Signals: " + describe(signal) + " cannot be watched");
    registration_ = reactor.watch(wakeup_.descriptor(), Interest::readable, *this);
    watched_.reserve(signals.size());
    try {
        for (const int signal : signals) take(signal);
    } catch (...) {
        for (const Watched& watched : watched_) give_back(watched);
        throw;
    }
    // After the handlers are there: a signal that has been waiting arrives inside this call.
    sigset_t wanted, before;
    sigemptyset(&wanted);
    for (const Watched& watched : watched_) sigaddset(&wanted, watched.signal);
    if (::pthread_sigmask(SIG_UNBLOCK, &wanted, &before) != 0) return;
    for (Watched& watched : watched_) watched.was_blocked = sigismember(&before, watched.signal) == 1;
}

Signals::~Signals() {
    for (const Watched& watched : watched_) give_back(watched);
}

void Signals::take(int signal) {
    Entry& entry = entries[std::size_t(signal)];
    Wakeup* nobody = nullptr;
    if (!entry.watcher.compare_exchange_strong(nobody, &wakeup_))
        throw std::system_error(std::make_error_code(std::errc::device_or_resource_busy),
                                "Signals: " + describe(signal) + " already has a watcher");
    entry.pending.store(false);
    Watched watched{signal, {}, false};
    struct sigaction action {};
    action.sa_handler = handle;
    // Calls that the program makes elsewhere go on, as without this library; the loop's own wait ends all the same
    // (signal(7): poll, select and epoll_wait are never restarted). A thread that has an alternate stack has a small
    // one of its own, as those of the Go runtime, and expects every handler of the process on the alternate one.
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    if (::sigaction(signal, &action, &watched.previous) != 0) {  // one of those that the C library keeps to itself
        entry.watcher.store(nullptr);
        throw std::invalid_argument("Signals: " + describe(signal) + " cannot be watched");
    }
    watched_.push_back(watched);
}

// The disposition is back before another may watch the signal, or that one would keep ours as the previous one.
void Signals::give_back(const Watched& watched) noexcept {
    Entry& entry = entries[std::size_t(watched.signal)];
    if (watched.was_blocked) {
        sigset_t one;
        sigemptyset(&one);
        sigaddset(&one, watched.signal);
        ::pthread_sigmask(SIG_BLOCK, &one, nullptr);
    }
    ::sigaction(watched.signal, &watched.previous, nullptr);
    entry.watcher.store(nullptr);
    // sigaction does not wait for a handler that runs on another thread: it may hold our wakeup in its hands.
    while (entry.inside.load() != 0) std::this_thread::yield();
}

// One signal a turn, because the callback may destroy this object. Beginning behind the last one is what keeps
// a flood of one signal from holding back the others.
void Signals::readable() {
    wakeup_.drain();
    for (std::size_t asked = 0; asked < watched_.size(); ++asked) {
        const int signal = watched_[next_].signal;
        next_ = (next_ + 1) % watched_.size();
        if (!entries[std::size_t(signal)].pending.exchange(false)) continue;
        wakeup_.notify();  // there may be more
        return callback_(signal);
    }
}

}  // namespace reactor
