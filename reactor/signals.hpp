// Signals: the process's signals, delivered in the loop like any other event, where everything may be done that
// a signal handler may not (signal-safety(7)). The kernel does not count the signals that come while one is
// pending, and neither does this.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/detail/wakeup.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>

#include <csignal>
#include <initializer_list>
#include <vector>

namespace reactor {

/// Calls back on the loop's thread when one of some signals has come to the process: `Signals{reactor, {SIGINT,
/// SIGTERM}, [&](int) { reactor.stop(); }}`. Any number of the same signal may be one call (SIGCHLD: ask for all
/// children); different ones each have a call, in an iteration of its own, and a flood of one does not hold back
/// another. Must go before its reactor, and on its thread; its own callback may destroy it.
class [[nodiscard]] REACTOR_EXPORT Signals final : EventHandler {
public:
    /// From now on until destruction the signals do nothing else: their dispositions are replaced (sigaction(2),
    /// SA_RESTART and SA_ONSTACK), and they are unblocked in the calling thread: exec keeps the mask of a parent that
    /// blocked them, and a signal that is blocked in every thread never arrives. A signal has one watcher in a process:
    /// throws std::system_error (device_or_resource_busy) that names the signal if there is another. Throws
    /// std::invalid_argument for SIGKILL and SIGSTOP, for a number that is no signal, for SIGSEGV, SIGBUS, SIGFPE and
    /// SIGILL, whose fault would happen again before the loop could act, and for an empty callback. After any
    /// exception all is as before.
    [[nodiscard]] Signals(Reactor& reactor, std::initializer_list<int> signals,
                          MoveOnlyFunction<void(int signal)> callback);

    /// Puts the previous dispositions back, and blocks again in the calling thread the signals that were blocked. A
    /// pending signal is dropped.
    ~Signals();
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

private:
    struct Watched {
        int signal;
        struct sigaction previous;
        bool was_blocked;
    };

    void readable() override;
    void take(int signal);
    void give_back(const Watched& watched) noexcept;

    Wakeup wakeup_;
    std::vector<Watched> watched_;
    std::size_t next_ = 0;  // in watched_: the one that is asked first
    Callback<void(int)> callback_;
    Registration registration_;
};

}  // namespace reactor
