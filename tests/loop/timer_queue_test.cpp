#include <reactor/detail/timer_queue.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
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

TEST_CASE("S58: near and far, crowded and alone, nothing comes due out of order or before its time") {
    // From a nanosecond to centuries, some of them a hundred times and more: in one digit, at its edges, and across.
    std::vector<std::int64_t> deadlines;
    for (int bits = 0; bits < 63; ++bits)
        for (const int beside : {-1, 0, 1})
            for (int again = 0; again < (bits % 8 == 0 ? 40 : 2); ++again)
                deadlines.push_back((std::int64_t(1) << bits) + beside);
    std::shuffle(deadlines.begin(), deadlines.end(), std::mt19937(1));
    TimerQueue queue;
    std::int64_t now = 0;
    std::vector<std::pair<std::int64_t, std::size_t>> called;
    std::vector<std::unique_ptr<Probe>> probes;
    for (std::size_t i = 0; i < deadlines.size(); ++i) {
        probes.push_back(std::make_unique<Probe>([&, i](Probe&) {
            CHECK(deadlines[i] <= now);
            called.emplace_back(deadlines[i], i);
        }));
        queue.schedule(*probes.back(), at(deadlines[i]));
    }
    for (std::size_t i = 0; i < probes.size(); i += 3) queue.cancel(*probes[i]);
    while (const auto next = queue.next()) {
        CHECK(next->time_since_epoch().count() >= now);
        now = next->time_since_epoch().count();
        queue.run_due(*next);
    }
    CHECK(called.size() == probes.size() - (probes.size() + 2) / 3);
    CHECK(std::is_sorted(called.begin(), called.end()));
}

TEST_CASE("A clock that is set back calls nothing early, and nothing is lost") {
    TimerQueue queue;
    std::vector<int> called;
    Probe one([&](Probe&) { called.push_back(1); }), other([&](Probe&) { called.push_back(2); });
    Probe later([&](Probe&) { called.push_back(3); });
    queue.run_due(at(1'000'000));
    queue.schedule(later, at(1'000'001));
    CHECK(queue.run_due(at(499)) == 0);
    queue.schedule(other, at(500));
    CHECK(queue.next() == at(500));
    CHECK(queue.run_due(at(500)) == 1);
    queue.schedule(one, at(900'000));
    CHECK(queue.run_due(at(899'999)) == 0);
    CHECK(queue.run_due(at(900'000)) == 1);
    CHECK(queue.run_due(at(1'000'000)) == 0);
    CHECK(queue.run_due(at(1'000'001)) == 1);
    CHECK(called == std::vector<int>{2, 1, 3});
}

TEST_CASE("One that is moved later and then earlier, however often, comes due at its last deadline") {
    for (int rounds = 1; rounds < 200; ++rounds) {
        TimerQueue queue;
        Probe probe;
        for (int round = 0; round < rounds; ++round)
            for (const int deadline : {2'000, 3'000, 1'000}) queue.schedule(probe, at(deadline));
        CHECK(queue.next() == at(1'000));
        CHECK(queue.run_due(at(1'000)) == 1);
    }
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
        const int count = seed % 5 == 0 ? 500 : 64;
        for (int i = 0; i < count; ++i)
            probes.push_back(std::make_unique<Probe>([&called, i](Probe&) { called.push_back(i); }));
        // Up to 50 ns, and up to an hour.
        const unsigned bits = seed % 3 == 0 ? seed % 42 : 0;
        const auto after = [&](int bound) { return std::int64_t(pick(bound)) << bits; };

        std::int64_t now = 0;
        for (int step = 0; step < 2000; ++step) {
            const int which = pick(count);
            Probe& probe = *probes[std::size_t(which)];
            switch (pick(4)) {
                case 0:
                case 1: {
                    // Every second seed as programs do it: of a few durations.
                    const std::int64_t usual[] = {3, 10, 30, 30, 30, 45};
                    const std::int64_t deadline = now + (seed % 2 == 0 ? usual[pick(6)] : after(50) - 5);
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
                    now += after(10);
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
            for (int again = 0; again < count; ++again) next = queue.next();
            REQUIRE(next->time_since_epoch().count() == model.begin()->first.first);
        }
        for (auto& probe : probes) queue.cancel(*probe);
    }
}
