// first_of, all_of, timeout and sleep, on a clock that the test moves.
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/testing/memory_transport.hpp>
#include <reactor/testing/scripted_demultiplexer.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;
using testing::ManualClock;
using testing::MemoryTransport;

namespace {

using Notes = std::vector<std::string>;

// A loop whose time the test moves.
struct Loop {
    ManualClock clock;
    Reactor reactor{std::make_unique<testing::ScriptedDemultiplexer>(clock), clock};
    void advance(Duration time) {
        clock.advance(time);
        settle_loop(reactor);
    }
};

Task<> sleeper(Notes& notes) {
    co_await sleep(10ms);
    notes.push_back("10 ms");
    co_await sleep(Duration::zero());
    notes.push_back("none");
}

Task<int> after(Notes& notes, Duration delay, int value) {
    const Noting end(notes, "end of " + std::to_string(value));
    co_await sleep(delay);
    co_return value;
}

Task<int> failing_after(Duration delay) {
    co_await sleep(delay);
    throw std::runtime_error("broken");
}

Task<> first_of_two(Notes& notes, Duration one, Duration other) {
    const auto result = co_await first_of(after(notes, one, 1), after(notes, other, 2));
    notes.push_back("index " + std::to_string(result.index()));
}

Task<> first_of_sleeps(Notes& notes) {
    const auto result = co_await first_of(sleep(20ms), sleep(10ms), sleep(30ms));
    notes.push_back("index " + std::to_string(result.index()));
}

Task<> first_that_throws(Notes& notes) {
    try {
        (void)co_await first_of(after(notes, 20ms, 1), failing_after(10ms));
    } catch (const std::runtime_error& error) {
        notes.push_back(error.what());
    }
}

Task<> all_of_three(Notes& notes) {
    const auto [one, none, other] = co_await all_of(after(notes, 20ms, 1), sleep(5ms), after(notes, 10ms, 2));
    (void)none;
    notes.push_back(std::to_string(one) + " and " + std::to_string(other));
}

Task<> all_with_failure(Notes& notes) {
    try {
        (void)co_await all_of(after(notes, 20ms, 1), failing_after(10ms), sleep(1h));
    } catch (const std::runtime_error& error) {
        notes.push_back(error.what());
    }
}

Task<> timing_out(Notes& notes) {
    auto late = co_await timeout(10ms, after(notes, 20ms, 1));
    notes.push_back(late.error() == std::errc::timed_out ? "timed out" : "came");
    auto early = co_await timeout(20ms, after(notes, 10ms, 2));
    notes.push_back(early ? std::to_string(*early) : "timed out");
    const auto nothing = co_await timeout(20ms, sleep(10ms));
    notes.push_back(nothing ? "slept" : "timed out");
}

}  // namespace

TEST_CASE("a sleep ends at its time and not before, and one of zero in another iteration") {
    Loop loop;
    Notes notes;
    Scope scope(loop.reactor);
    scope.start(sleeper(notes));
    loop.advance(0ms);
    loop.advance(9ms);
    CHECK(notes.empty());
    loop.advance(1ms);
    CHECK(notes == Notes{"10 ms", "none"});
}

TEST_CASE("the losers of first_of are gone before the winner's result is seen, in whatever order they come") {
    Loop loop;
    Notes notes;
    Scope scope(loop.reactor);
    scope.start(first_of_two(notes, 10ms, 20ms));
    loop.advance(0ms);
    loop.advance(10ms);
    CHECK(notes == Notes{"end of 1", "end of 2", "index 0"});
    notes.clear();
    scope.start(first_of_two(notes, 20ms, 10ms));
    loop.advance(0ms);
    loop.advance(10ms);
    CHECK(notes == Notes{"end of 2", "end of 1", "index 1"});
    CHECK(Internals(loop.reactor).timers().empty());
}

TEST_CASE("of two that are done in the same iteration the first one wins, and the other is gone") {
    Loop loop;
    Notes notes;
    Scope scope(loop.reactor);
    scope.start(first_of_two(notes, 10ms, 10ms));
    loop.advance(0ms);
    loop.advance(10ms);
    CHECK(notes == Notes{"end of 1", "end of 2", "index 0"});
}

TEST_CASE("first_of takes any awaits, throws what the winner throws, and allocates nothing for its branches") {
    Loop loop;
    Notes notes;
    Scope scope(loop.reactor);
    scope.start(first_of_sleeps(notes));
    loop.advance(0ms);
    const CoroutineFrames before = coroutine_frames();
    loop.advance(10ms);
    CHECK(notes == Notes{"index 1"});
    CHECK(coroutine_frames().allocated == before.allocated);
    CHECK(Internals(loop.reactor).timers().empty());
    notes.clear();
    scope.start(first_that_throws(notes));
    loop.advance(0ms);
    loop.advance(10ms);
    CHECK(notes == Notes{"end of 1", "broken"});
}

TEST_CASE("all_of waits for the last one, and one that throws ends the others") {
    Loop loop;
    Notes notes;
    Scope scope(loop.reactor);
    scope.start(all_of_three(notes));
    loop.advance(0ms);
    loop.advance(10ms);
    CHECK(notes == Notes{"end of 2"});
    loop.advance(10ms);
    CHECK(notes == Notes{"end of 2", "end of 1", "1 and 2"});
    notes.clear();
    scope.start(all_with_failure(notes));
    loop.advance(0ms);
    loop.advance(10ms);
    CHECK(notes == Notes{"end of 1", "broken"});
    CHECK(Internals(loop.reactor).timers().empty());
}

TEST_CASE("a timeout destroys the await that is late, and returns the result of one that is not") {
    Loop loop;
    Notes notes;
    Scope scope(loop.reactor);
    scope.start(timing_out(notes));
    for (int i = 0; i < 5; ++i) loop.advance(10ms);
    CHECK(notes == Notes{"end of 1", "timed out", "end of 2", "2", "slept"});
}

static Task<> impatient(Stream stream, Notes& notes) {
    for (int i = 0; i < 3; ++i) {
        const auto line = co_await timeout(10ms, stream.read<Lines>());
        notes.push_back(line ? std::string(text_of(*line)) : line.error() == std::errc::timed_out ? "late" : "end");
    }
}

TEST_CASE("a read that a timeout ends loses nothing of its input, nor the end behind it") {
    Notes notes;
    MemoryTransport connection(coroutine(impatient, std::ref(notes))());
    connection.feed("on");
    connection.advance(10ms);
    CHECK(notes == Notes{"late"});
    connection.feed("e\nhalf");
    CHECK(notes == Notes{"late", "one"});
    connection.advance(9ms);
    connection.end();
    CHECK(notes == Notes{"late", "one", "end"});
}

static Task<> give_up_and_sleep(Stream stream, Notes& notes) {
    const auto line = co_await timeout(10ms, stream.read<Lines>());
    notes.push_back(line ? "line" : "late");
    co_await sleep(10ms);
    const auto rest = co_await stream.read_until_end();
    notes.push_back(rest ? std::string(text_of(*rest)) : rest.error().message());
}

TEST_CASE("the beginning of a message waits with the end behind it, while no read does") {
    Notes notes;
    MemoryTransport connection(coroutine(give_up_and_sleep, std::ref(notes))());
    connection.feed("half");
    connection.advance(10ms);
    connection.end();
    connection.advance(10ms);
    CHECK(notes == Notes{"late", "half"});
}

TEST_CASE("a timeout on a read that has its input at once starts no timer") {
    Notes notes;
    MemoryTransport connection(coroutine(impatient, std::ref(notes))());
    connection.feed("a\nb\nc\n");
    CHECK(notes == Notes{"a", "b", "c"});
}

static Task<> yielding(Notes& notes, std::string name) {
    for (int i = 0; i < 3; ++i) {
        notes.push_back(name);
        co_await yield();
    }
}

static Task<> endless(int& count) {
    for (;; ++count) co_await yield();
}

TEST_CASE("a task that yields goes on behind the others that are ready, and lets the loop turn") {
    Reactor reactor;
    Notes notes;
    {
        Scope scope(reactor);
        scope.start(yielding(notes, "a"));
        scope.start(yielding(notes, "b"));
        settle_loop(reactor);
        CHECK(notes == Notes{"a", "b", "a", "b", "a", "b"});
    }
    int count = 0;
    Scope scope(reactor);
    scope.start(endless(count));
    for (int turn = 0; turn < 10; ++turn) reactor.run_once(Duration::zero());
    CHECK(count == 9);
}

static Task<> sleep_to_points(Reactor& reactor, Notes& notes) {
    const TimePoint begin = reactor.now();
    co_await sleep_until(begin + 10ms);
    notes.push_back("10 ms");
    co_await sleep_until(begin + 5ms);
    notes.push_back("has passed");
    co_await sleep_until(TimePoint::max());
}

TEST_CASE("sleep_until waits until its time, and one iteration if that has passed") {
    Loop loop;
    Notes notes;
    {
        Scope scope(loop.reactor);
        scope.start(sleep_to_points(loop.reactor, notes));
        settle_loop(loop.reactor);
        loop.advance(9ms);
        CHECK(notes.empty());
        loop.advance(1ms);
        CHECK(notes == Notes{"10 ms", "has passed"});
        loop.advance(1h);
        CHECK(scope.size() == 1);
    }
    CHECK(Internals(loop.reactor).timers().empty());
}
