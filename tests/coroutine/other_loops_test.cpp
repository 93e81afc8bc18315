// Coroutines and other loops: a task that runs on one, and a connection that takes its coroutine there.
#include "../support/loop.hpp"
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/run_on.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/coroutine/switch_to.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

// ── run_on ──

Task<std::thread::id> thread_after_sleep(std::string text) {
    co_await sleep(1ms);
    co_return text == "an argument that is longer than a small string" ? std::this_thread::get_id() : std::thread::id();
}

Task<std::pair<std::thread::id, std::thread::id>> there_and_back(Reactor& other) {
    const std::string text = "an argument that is longer than a small string";
    const auto there = co_await run_on(other, thread_after_sleep, text);
    co_return std::pair(there.value(), std::this_thread::get_id());
}

Task<> fail() {
    co_await yield();
    throw std::runtime_error("out there");
}

Task<> await_failure(Reactor& other) {
    co_await run_on(other, fail);
}

// Notes on which side of its destruction it is; both loops are turned by the test's thread.
Task<int> visit(std::vector<std::string>& notes) {
    const Noting end(notes, "destroyed there");
    notes.push_back("begins there");
    co_await sleep(1h);
    co_return 1;
}

Task<int> visit_shortly(std::vector<std::string>& notes) {
    const Noting end(notes, "destroyed there");
    co_return 2;
}

Task<> await_visit(Reactor& other, std::vector<std::string>& notes, bool shortly) {
    const Noting end(notes, "destroyed here");
    Result<int> result = std::error_code();
    if (shortly) {
        result = co_await run_on(other, visit_shortly, std::ref(notes));
    } else {
        result = co_await run_on(other, visit, std::ref(notes));
    }
    notes.push_back(result ? std::to_string(*result) : result.error().message());
}

using Notes = std::vector<std::string>;

// ── switch_to ──

Task<> echo_on(Stream stream, Reactor& other, Reactor*& now) {
    (void)co_await stream.read<Lines>();
    co_await switch_to(other);
    now = &stream.reactor();
    co_await sleep(1ms);
    while (auto line = co_await stream.read<Lines>()) co_await stream.write(*line, "!\n");
}

Task<> note_switch(Stream stream, Reactor& other, Notes& notes) {
    const Noting end(notes, "destroyed");
    (void)co_await stream.read<Lines>();
    notes.push_back("leaves");
    co_await switch_to(other);
    notes.push_back("arrives");
    (void)co_await stream.read<Lines>();
}

Task<> switch_in_scope(Reactor& other) {
    co_await switch_to(other);
}

template <class... Given>
Socket serve(Reactor& reactor, Given... given) {
    auto [client, server] = tcp_pair();
    Connection::open(reactor, std::move(server), coroutine(given...)());
    return std::move(client);
}

}  // namespace

TEST_CASE("a task runs on the loop of another thread, and its result comes back to this one") {
    ReactorGroup group(1);
    group.start();
    {
        Reactor reactor;
        const auto threads = run(reactor, there_and_back(group[0]));
        CHECK(threads.first != std::this_thread::get_id());
        CHECK(threads.first != std::thread::id());
        CHECK(threads.second == std::this_thread::get_id());
        CHECK_THROWS_WITH_AS(run(reactor, await_failure(group[0])), "out there", std::runtime_error);
    }
    group.stop();
    group.join();
}

TEST_CASE("a loop that waits for a task on another one is not idle") {
    ReactorGroup group(1);
    group.start();
    Reactor reactor;
    Notes notes;
    Scope scope(reactor);
    scope.start(await_visit(group[0], notes, true));
    reactor.run_until_idle();
    CHECK(notes == Notes{"destroyed there", "2", "destroyed here"});
    group.stop();
    group.join();
}

TEST_CASE("destroying the await of a task on another loop destroys the task there, wherever it is") {
    for (const int turns : {0, 1, 3}) {
        CAPTURE(turns);
        Reactor here, there;
        const std::size_t frames = coroutine_frames().alive();
        Notes notes;
        {
            Scope scope(here);
            scope.start(await_visit(there, notes, false));
            settle(here);
            for (int turn = 0; turn < turns; ++turn) there.run_once(Duration::zero());
        }
        CHECK(notes.back() == "destroyed here");
        settle(there);
        settle(here);
        if (turns > 0) CHECK(notes == Notes{"begins there", "destroyed here", "destroyed there"});
        CHECK(coroutine_frames().alive() == frames);
    }
}

TEST_CASE("a task on another loop ends in the iteration in which its await is destroyed, in both orders") {
    Reactor here, there;
    const std::size_t frames = coroutine_frames().alive();
    Notes notes;
    auto scope = std::make_unique<Scope>(here);
    scope->start(await_visit(there, notes, true));
    settle(here);
    SUBCASE("it has ended, and its answer is on the way") {
        settle(there);
        scope.reset();
    }
    SUBCASE("it ends behind the cancellation") {
        scope.reset();
        settle(there);
    }
    settle(here);
    CHECK(notes.size() <= 2);
    CHECK(std::find(notes.begin(), notes.end(), "2") == notes.end());
    CHECK(coroutine_frames().alive() == frames);
}

TEST_CASE("a loop that goes destroys the tasks of others on it, and they get an error") {
    Reactor here;
    Notes notes;
    Scope scope(here);
    for (const bool begun : {false, true}) {
        auto there = std::make_unique<Reactor>();
        scope.start(await_visit(*there, notes, false));
        settle(here);
        if (begun) settle(*there);
        there.reset();
        settle(here);
        CHECK(scope.size() == 0);
        CHECK(notes.size() == (begun ? 4 : 2));
        CHECK(notes[begun ? 2 : 0] == std::make_error_code(std::errc::operation_canceled).message());
        notes.clear();
    }
}

TEST_CASE("a connection's coroutine takes its connection to another loop") {
    Reactor here, there;
    Reactor* now = &here;
    const Socket client = serve(here, echo_on, std::ref(there), std::ref(now));
    write_some(client, "go\none\ntw");
    std::string answer;
    const auto turn_until = [&](const std::string& wanted) {
        for (int turn = 0; turn < 10'000 && answer != wanted; ++turn) {
            here.run_once(Duration::zero());
            there.run_once(Duration::zero());
            answer += read_all(client);
        }
        CHECK(answer == wanted);
    };
    turn_until("one!\n");
    CHECK(now == &there);
    write_some(client, "o\n");
    turn_until("one!\ntwo!\n");
}

TEST_CASE("a coroutine that is on its way to another loop is destroyed with its connection") {
    Notes notes;
    SUBCASE("with the loop that it is to leave") {
        Reactor there;
        {
            Reactor here;
            const Socket client = serve(here, note_switch, std::ref(there), std::ref(notes));
            write_some(client, "go\n");
            while (notes.empty()) here.run_once(Duration::zero());
        }
        settle(there);
        CHECK(notes == Notes{"leaves", "destroyed"});
    }
    SUBCASE("with the loop that it goes to") {
        Reactor here;
        {
            Reactor there;
            const Socket client = serve(here, note_switch, std::ref(there), std::ref(notes));
            write_some(client, "go\n");
            while (notes.empty()) here.run_once(Duration::zero());
            settle(here);
        }
        CHECK(notes == Notes{"leaves", "destroyed"});
    }
    SUBCASE("by its end, before it has left") {
        Reactor here, there;
        Socket client = serve(here, note_switch, std::ref(there), std::ref(notes));
        write_some(client, "go\n");
        client.set_linger(std::chrono::seconds(0));
        client = Socket();
        for (int turn = 0; turn < 100; ++turn) {
            here.run_once(Duration::zero());
            there.run_once(Duration::zero());
        }
        CHECK(notes.back() == "destroyed");
    }
}

TEST_CASE("a task that belongs to its loop does not switch") {
    Reactor here, there;
    CHECK_THROWS_AS(run(here, switch_in_scope(there)), std::logic_error);
    Notes notes;
    testing::MemoryTransport connection(coroutine(note_switch, std::ref(there), std::ref(notes))());
    CHECK_THROWS_AS(connection.feed("go\n"), std::logic_error);
    CHECK(notes == Notes{"leaves", "destroyed"});
}
