#include <reactor/detail/timer_queue.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

struct Probe final : TimerQueue::Node {
    explicit Probe(std::function<void(Probe&)> action = {}) : on_due(std::move(action)) {}
    void due() override {
        if (on_due) on_due(*this);
    }
    std::function<void(Probe&)> on_due;
};

constexpr TimePoint at(std::int64_t nanoseconds) {
    return TimePoint(Duration(nanoseconds));
}

}  // namespace

TEST_CASE("S58: equal deadlines come due in the order in which they were set") {
    TimerQueue queue;
    std::vector<int> order;
    std::vector<std::unique_ptr<Probe>> probes;
    for (int i = 0; i < 100; ++i) {
        probes.push_back(std::make_unique<Probe>([&order, i](Probe&) { order.push_back(i); }));
        queue.schedule(*probes.back(), at(7));
    }
    queue.schedule(*probes[0], at(7));  // set again: now the last

    CHECK(queue.run_due(at(7)) == 100);

    REQUIRE(order.size() == 100);
    for (int i = 0; i < 99; ++i) CHECK(order[std::size_t(i)] == i + 1);
    CHECK(order.back() == 0);
}

TEST_CASE("S53: nothing comes due before its deadline, not by a nanosecond") {
    TimerQueue queue;
    Probe probe;
    queue.schedule(probe, at(1000));

    CHECK(queue.run_due(at(999)) == 0);
    CHECK(probe.scheduled());
    CHECK(queue.run_due(at(1000)) == 1);
    CHECK_FALSE(probe.scheduled());
}

TEST_CASE("S57: what is cancelled by another of the same due set does not come due, and cancel says that it won") {
    TimerQueue queue;
    bool second_called = false;
    bool won = false;
    Probe second([&](Probe&) { second_called = true; });
    Probe first([&](Probe&) { won = queue.cancel(second); });
    queue.schedule(first, at(1));
    queue.schedule(second, at(1));

    CHECK(queue.run_due(at(1)) == 1);

    CHECK(won);
    CHECK_FALSE(second_called);
    CHECK_FALSE(queue.cancel(second));
}

TEST_CASE("S56: what is scheduled while the due set runs waits for the next one, however early its deadline") {
    TimerQueue queue;
    Probe again([&](Probe& self) { queue.schedule(self, at(0)); });
    queue.schedule(again, at(1));

    CHECK(queue.run_due(at(5)) == 1);
    CHECK(again.scheduled());
    CHECK(queue.run_due(at(5)) == 1);
    queue.cancel(again);
}

TEST_CASE("One that is due and moved to a later deadline by another of its set waits for that") {
    TimerQueue queue;
    int calls = 0;
    Probe second([&](Probe&) { ++calls; });
    Probe first([&](Probe&) { queue.schedule(second, at(9)); });
    queue.schedule(first, at(1));
    queue.schedule(second, at(1));

    queue.run_due(at(1));
    CHECK(calls == 0);
    queue.run_due(at(9));
    CHECK(calls == 1);
}

TEST_CASE("S69: an exception of one that is due costs no other its call, and leaves when all have been called") {
    TimerQueue queue;
    int thrown = 0, called = 0;
    Probe thrower([&](Probe&) {
        ++thrown;
        throw std::runtime_error("as planned");
    });
    Probe other([&](Probe&) { ++called; });
    queue.schedule(thrower, at(1));
    queue.schedule(other, at(1));

    CHECK_THROWS_AS(queue.run_due(at(1)), std::runtime_error);
    CHECK(called == 1);
    CHECK(queue.run_due(at(1)) == 0);
    CHECK(thrown == 1);
    CHECK(called == 1);
}

TEST_CASE("S58: one that is cancelled in the heap leaves the others in order, also where the last one rises") {
    TimerQueue queue;
    std::vector<std::unique_ptr<Probe>> probes;
    std::vector<int> called;
    const auto add = [&](int deadline) {
        probes.push_back(std::make_unique<Probe>([&called, deadline](Probe&) { called.push_back(deadline); }));
        queue.schedule(*probes.back(), at(deadline));
        return probes.back().get();
    };
    for (int i = 0; i < 12; ++i) add(10'000 - i);  // as many lists as there are: what is earlier is in the heap
    // In the order of the heap: 100 stands beside 2, and has 101 to 104 below it. 5, 6, 7 and 3 stand below 2.
    for (const int deadline : {1, 100, 2, 30, 40}) add(deadline);
    Probe* const cancelled = add(101);
    for (const int deadline : {102, 103, 104, 5, 6, 7, 3}) add(deadline);
    CHECK(queue.cancel(*cancelled));  // 3 takes its place, and is before 100, which stands above it
    queue.run_due(at(50));
    CHECK(called == std::vector<int>{1, 2, 3, 5, 6, 7, 30, 40});
    for (auto& probe : probes) queue.cancel(*probe);
}

TEST_CASE("S61: a hundred thousand added and cancelled leave nothing behind") {
    TimerQueue queue;
    std::vector<std::unique_ptr<Probe>> probes;
    for (int i = 0; i < 100'000; ++i) {
        probes.push_back(std::make_unique<Probe>());
        queue.schedule(*probes.back(), at(i * 7919 % 100'003));
    }
    CHECK(queue.size() == 100'000);
    for (auto& probe : probes) CHECK(queue.cancel(*probe));
    CHECK(queue.size() == 0);
    CHECK_FALSE(queue.next());
}

TEST_CASE("S58: random schedules, moves, cancels and runs agree with a sorted map") {
    for (unsigned seed = 1; seed <= 50; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        const auto pick = [&](int bound) { return int(random() % unsigned(bound)); };
        TimerQueue queue;
        std::map<std::pair<std::int64_t, std::uint64_t>, int> model;  // (deadline, order of setting) → probe
        std::map<int, std::pair<std::int64_t, std::uint64_t>> keys;
        std::uint64_t order = 0;
        std::vector<int> called;
        std::vector<std::unique_ptr<Probe>> probes;
        for (int i = 0; i < 64; ++i)
            probes.push_back(std::make_unique<Probe>([&called, i](Probe&) { called.push_back(i); }));

        std::int64_t now = 0;
        for (int step = 0; step < 2000; ++step) {
            const int which = pick(64);
            Probe& probe = *probes[std::size_t(which)];
            switch (pick(4)) {
                case 0:
                case 1: {
                    // Every second seed as programs do it: of a few durations, which find lists of their own.
                    const std::int64_t usual[] = {3, 10, 30, 30, 30, 45};
                    const std::int64_t deadline = now + (seed % 2 == 0 ? usual[pick(6)] : pick(50) - 5);
                    queue.schedule(probe, at(deadline));
                    if (keys.contains(which)) model.erase(keys[which]);
                    model[keys[which] = {deadline, ++order}] = which;
                    break;
                }
                case 2:
                    CHECK(queue.cancel(probe) == keys.contains(which));
                    if (keys.contains(which)) model.erase(keys[which]);
                    keys.erase(which);
                    break;
                case 3: {
                    now += pick(10);
                    std::vector<int> expected;
                    while (!model.empty() && model.begin()->first.first <= now) {
                        expected.push_back(model.begin()->second);
                        keys.erase(model.begin()->second);
                        model.erase(model.begin());
                    }
                    called.clear();
                    queue.run_due(at(now));
                    CHECK(called == expected);
                    break;
                }
            }
            auto next = queue.next();
            REQUIRE(next.has_value() == !model.empty());
            if (!next) continue;
            // It may be a deadline that was given up, for a while, but never one too late.
            REQUIRE(next->time_since_epoch().count() <= model.begin()->first.first);
            for (int again = 0; again < 64; ++again) next = queue.next();
            REQUIRE(next->time_since_epoch().count() == model.begin()->first.first);
        }
        for (auto& probe : probes) queue.cancel(*probe);
    }
}
