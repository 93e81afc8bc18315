// Shared by the tests of coroutines: an await that never ends, and variables that note their end.
#pragma once

#include <reactor/coroutine/task.hpp>
#include <reactor/reactor.hpp>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

/// Awaited, it suspends for ever; it counts how many wait.
struct Never {
    struct Operation : reactor::coroutine_detail::Operation<Operation> {
        explicit Operation(Never& owner) : never(owner) {}
        Operation(Operation&& other) noexcept : never(other.never) {}
        ~Operation() {
            if (started) --never.waiting;
        }
        bool ready() const { return false; }
        void start(reactor::coroutine_detail::Root&, reactor::coroutine_detail::Continuation) {
            started = true;
            ++never.waiting;
        }
        void result() const {}
        Never& never;
        bool started = false;
    };
    Operation wait() { return Operation(*this); }
    int waiting = 0;
};

/// Notes its end.
struct Noting {
    Noting(std::vector<std::string>& where, std::string what) : notes(where), text(std::move(what)) {}
    ~Noting() { notes.push_back(text); }
    Noting(const Noting&) = delete;
    Noting& operator=(const Noting&) = delete;
    std::vector<std::string>& notes;
    std::string text;
};

inline reactor::Task<> wait_for(Never& never, std::vector<std::string>& notes, std::string name) {
    notes.push_back(name + " begins");
    const Noting end(notes, name + " ends");
    co_await never.wait();
}

/// Runs the loop until there is nothing to do at once.
inline void settle_loop(reactor::Reactor& reactor) {
    for (int turns = 0; turns < 1000; ++turns) {
        reactor.run_once(reactor::Duration::zero());
        if (reactor.next_timeout() != reactor::Duration::zero()) return;
    }
}
