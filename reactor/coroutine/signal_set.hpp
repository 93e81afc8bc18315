// SignalSet: a coroutine waits for the process's signals.
#pragma once

#include <reactor/coroutine/manual_reset_event.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>

#include <initializer_list>
#include <vector>

namespace reactor {

/// Signals that are awaited: `SignalSet signals(reactor, {SIGINT, SIGTERM}); int signal = co_await signals.wait();`.
/// As long as it lives the signals do nothing else. One that comes while no task waits is kept for the next wait, once
/// for each number. Thread: the loop's. Errors: those of Signals, thrown. Lifetime: must go before its reactor; tasks
/// that wait when it is destroyed are never resumed.
class REACTOR_EXPORT SignalSet {
public:
    [[nodiscard]] SignalSet(Reactor& reactor, std::initializer_list<int> signals);
    SignalSet(const SignalSet&) = delete;
    SignalSet& operator=(const SignalSet&) = delete;

    /// Waits for the next signal, and returns its number. Each goes to one of the tasks that wait.
    Task<int> wait();

private:
    void arrived(int signal) noexcept;

    std::vector<int> pending_;  // in the order in which they came; it has room for all
    ManualResetEvent arrived_;  // set while one is pending
    Signals signals_;
};

}  // namespace reactor
