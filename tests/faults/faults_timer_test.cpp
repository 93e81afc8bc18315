// Timers need memory for their places alone, and keep their order without it.
#include "faults.hpp"

#include <reactor/detail/timer_queue.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

using namespace reactor;
using faults::Call;

namespace {

struct Probe final : TimerQueue::Node {
    Probe(std::vector<int>& all_called, int its_number) : called(all_called), number(its_number) {}
    void due() override { called.push_back(number); }
    std::vector<int>& called;
    int number;
};

TimePoint at(int nanosecond) {
    return TimePoint(Duration(nanosecond));
}

faults::Plan no_memory() {
    faults::Plan plan;
    plan.call = Call::allocation;
    plan.times = 1'000'000;
    return plan;
}

}  // namespace

TEST_CASE("S75: timers moved later while there is no memory come due in order, and not before their time") {
    std::vector<int> called;
    called.reserve(100);
    std::vector<std::unique_ptr<Probe>> probes;
    for (int i = 0; i < 60; ++i) probes.push_back(std::make_unique<Probe>(called, i));
    TimerQueue queue;
    // Some are moved to where others are already, and there is no memory for the way there.
    for (int i = 0; i < 20; ++i) queue.schedule(*probes[std::size_t(i)], at(i));
    for (int i = 20; i < 31; ++i) queue.schedule(*probes[std::size_t(i)], at(1000 - i));
    for (int i = 20; i < 31; ++i) queue.schedule(*probes[std::size_t(i + 20)], at(2000 - i));
    for (int i = 19; i >= 0; --i) queue.schedule(*probes[std::size_t(i)], at(500 + i % 10));

    testing::ManualClock clock;
    {
        const faults::Armed armed(no_memory(), clock, false);
        CHECK(queue.next() <= at(500));
        CHECK(queue.run_due(at(499)) == 0);
        CHECK(queue.run_due(at(505)) == 12);
    }
    CHECK(called == std::vector<int>{10, 0, 11, 1, 12, 2, 13, 3, 14, 4, 15, 5});
    CHECK(queue.run_due(at(3000)) == 30);
    CHECK(queue.size() == 0);
    CHECK(called[13] == 6);
}

TEST_CASE("S75: a timer that is set while there is no memory comes due behind an earlier one that had some") {
    std::vector<int> called;
    called.reserve(2);
    Probe early(called, 1), late(called, 2), before(called, 3);
    TimerQueue queue;
    queue.run_due(at(0));  // so 500 and 900 wait in two buckets
    queue.schedule(before, at(500));
    queue.schedule(early, at(500));
    queue.cancel(before);  // its place is free
    testing::ManualClock clock;
    {
        const faults::Armed armed(no_memory(), clock, false);
        queue.schedule(late, at(900));
        REQUIRE(faults::struck());
    }
    CHECK(queue.next() <= at(500));
    CHECK(queue.run_due(at(1000)) == 2);
    CHECK(called == std::vector<int>{1, 2});
}

TEST_CASE("Timers that are started, moved, cancelled and called all the time allocate hardly anything") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::uint64_t called = 0;
    std::vector<Timer> timers;
    for (int i = 0; i < 100; ++i) timers.push_back(Timer(reactor, [&called] { ++called; }));
    std::uint64_t state = 88172645463325252ULL;
    const auto rounds = [&](int count) {
        for (int round = 0; round < count; ++round) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            Timer& timer = timers[state % timers.size()];
            switch (state / 1024 % 4) {
                case 0: timer.cancel(); break;
                case 1: timer.start(std::chrono::seconds(30)); break;
                default: timer.start(std::chrono::microseconds(state / 4096 % 50'000)); break;
            }
            clock.advance(std::chrono::microseconds(100));
            reactor.run_once(Duration::zero());
        }
    };
    rounds(20'000);
    const std::uint64_t before = called;
    const faults::Armed armed({}, clock, false);
    rounds(20'000);
    CHECK(faults::calls(Call::allocation) < 10);  // when more buckets are in use at once than ever before
    CHECK(called > before + 1'000);
}
