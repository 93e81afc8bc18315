// Shared by the tests of adapters: the loop, driven by itself or inside another one, and the cost of an operation to
// it. The guide's table of costs is what `cost_of` prints.
#pragma once

#include <reactor/adapters/inner_loop.hpp>
#include <reactor/reactor.hpp>

#include <doctest/doctest.h>
#include <poll.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>

/// Is the reactor to run inside another loop? with_server.py runs each program once like this.
inline bool nested() {
    return std::getenv("REACTOR_NESTED") != nullptr;
}

/// One iteration. Inside another loop it runs only if the descriptor or the time says so: an adapter that leaves work
/// unseen stands still there.
inline void iterate(reactor::Reactor& reactor) {
    constexpr int longest = 1000;
    if (!nested()) return void(reactor.run_once(std::chrono::milliseconds(longest)));
    reactor::adapters::InnerLoop inner(reactor);
    const int sleep = inner.longest_sleep_milliseconds();
    pollfd entry{inner.descriptor(), POLLIN, 0};
    const int ready = ::poll(&entry, 1, sleep < 0 ? longest : sleep);
    if (ready > 0 || sleep >= 0) inner.run();
}

inline void run_until(reactor::Reactor& reactor, const std::function<bool()>& condition) {
    const reactor::TimePoint end = reactor.now() + std::chrono::seconds(60);
    while (!condition()) {
        REQUIRE_MESSAGE(reactor.now() < end, "what the test waits for does not happen");
        iterate(reactor);
    }
}

/// The cost of an operation for the loop, on average.
struct Cost {
    double iterations = 0, ready = 0, changes = 0, timers = 0;
};

/// Runs `operations` of them, prints a row of the guide's table, and returns the cost of one.
inline Cost cost_of(reactor::Reactor& reactor, const char* what, int operations, const std::function<void()>& run) {
    const reactor::Counters before = reactor.counters();
    run();
    const reactor::Counters after = reactor.counters();
    const auto each = [operations](std::uint64_t from, std::uint64_t to) { return double(to - from) / operations; };
    const Cost cost{each(before.turns, after.turns), each(before.events, after.events),
                    each(before.changes, after.changes), each(before.timers, after.timers)};
    std::printf("| %s | %.2f | %.2f | %.2f | %.2f |\n", what, cost.iterations, cost.ready, cost.changes, cost.timers);
    return cost;
}
