// Objects that tasks have in common: events, semaphores and channels.
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <reactor/coroutine/channel.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/manual_reset_event.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/semaphore.hpp>
#include <reactor/coroutine/sleep.hpp>

#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

using Notes = std::vector<std::string>;

Task<> wait_for_event(ManualResetEvent& event, Notes& notes, std::string name) {
    const Noting end(notes, "end of " + name);
    co_await event.wait();
    notes.push_back(name);
}

Task<> hold(Semaphore& semaphore, ManualResetEvent& until, Notes& notes, std::string name) {
    const auto permit = co_await semaphore.acquire();
    notes.push_back(name);
    co_await until.wait();
}

Task<> send(Channel<int>& channel, int from, int to, Notes& notes) {
    for (int i = from; i < to; ++i) {
        if (!co_await channel.send(i)) {
            notes.push_back("closed at " + std::to_string(i));
            co_return;
        }
    }
    notes.push_back("all sent");
}

Task<> receive(Channel<int>& channel, std::vector<int>& values) {
    while (const auto value = co_await channel.receive()) values.push_back(*value);
}

Task<> receive_once(Channel<int>& channel, std::vector<int>& values) {
    if (const auto value = co_await channel.receive()) values.push_back(*value);
}

Task<> bounce(Channel<int>& in, Channel<int>& out, int& count) {
    while (const auto value = co_await in.receive()) {
        ++count;
        co_await out.send(*value);
    }
}

}  // namespace

TEST_CASE("an event resumes all that wait when it is set, in order, also if it is reset at once") {
    Reactor reactor;
    Notes notes;
    ManualResetEvent event;
    Scope scope(reactor);
    scope.start(wait_for_event(event, notes, "one"));
    scope.start(wait_for_event(event, notes, "two"));
    settle_loop(reactor);
    CHECK(notes.empty());
    event.set();
    event.reset();
    CHECK(notes.empty());
    settle_loop(reactor);
    CHECK(notes == Notes{"one", "end of one", "two", "end of two"});
    event.set();
    scope.start(wait_for_event(event, notes, "three"));
    settle_loop(reactor);
    CHECK(notes.back() == "end of three");
}

TEST_CASE("a task that is destroyed when its event was set already is not resumed") {
    Reactor reactor;
    Notes notes;
    ManualResetEvent event;
    Scope scope(reactor);
    scope.start(wait_for_event(event, notes, "one"));
    settle_loop(reactor);
    event.set();
    scope.cancel();
    settle_loop(reactor);
    CHECK(notes == Notes{"end of one"});
    {
        auto gone = std::make_unique<ManualResetEvent>();
        scope.start(wait_for_event(*gone, notes, "two"));
        settle_loop(reactor);
        gone.reset();
        settle_loop(reactor);
        CHECK(scope.size() == 1);
    }
}

TEST_CASE("a semaphore gives a permit to the task that has waited longest") {
    Reactor reactor;
    Notes notes;
    ManualResetEvent end;
    Semaphore semaphore(2);
    Scope scope(reactor);
    for (const char* const name : {"a", "b", "c", "d"}) scope.start(hold(semaphore, end, notes, name));
    settle_loop(reactor);
    CHECK(notes == Notes{"a", "b"});
    CHECK(semaphore.left() == 0);
    end.set();
    settle_loop(reactor);
    CHECK(notes == Notes{"a", "b", "c", "d"});
    CHECK(semaphore.left() == 2);
}

TEST_CASE("a permit that a destroyed task was about to get goes to the next one") {
    Reactor reactor;
    Notes notes;
    ManualResetEvent end;
    Semaphore semaphore(1);
    Scope first(reactor), second(reactor), third(reactor);
    first.start(hold(semaphore, end, notes, "a"));
    settle_loop(reactor);
    second.start(hold(semaphore, end, notes, "b"));
    third.start(hold(semaphore, end, notes, "c"));
    settle_loop(reactor);
    first.cancel();   // its permit is given to the second task,
    second.cancel();  // which is destroyed before it is resumed
    settle_loop(reactor);
    CHECK(notes == Notes{"a", "c"});
    third.cancel();
    CHECK(semaphore.left() == 1);
}

TEST_CASE("a channel holds no more than its capacity, keeps the order, and ends when it is closed and empty") {
    Reactor reactor;
    Notes notes;
    std::vector<int> values;
    Channel<int> channel(3);
    Scope scope(reactor);
    scope.start(send(channel, 0, 10, notes));
    settle_loop(reactor);
    CHECK(channel.size() == 3);
    CHECK_FALSE(channel.try_send(99));
    scope.start(receive(channel, values));
    settle_loop(reactor);
    CHECK(notes == Notes{"all sent"});
    std::vector<int> expected(10);
    std::iota(expected.begin(), expected.end(), 0);
    CHECK(values == expected);
    CHECK(channel.try_send(10));
    channel.close();
    settle_loop(reactor);
    CHECK(values.back() == 10);
    CHECK(scope.size() == 0);
    CHECK_THROWS_AS(Channel<int>(0), std::invalid_argument);
}

TEST_CASE("closing a channel ends a send that waits") {
    Reactor reactor;
    Notes notes;
    Channel<int> channel(1);
    Scope scope(reactor);
    scope.start(send(channel, 0, 10, notes));
    settle_loop(reactor);
    channel.close();
    settle_loop(reactor);
    CHECK(notes == Notes{"closed at 1"});
}

TEST_CASE("a value that a destroyed receiver was about to take goes to the next one") {
    Reactor reactor;
    std::vector<int> values;
    Channel<int> channel(4);
    Scope first(reactor), second(reactor);
    first.start(receive_once(channel, values));
    settle_loop(reactor);
    second.start(receive_once(channel, values));
    settle_loop(reactor);
    CHECK(channel.try_send(7));
    first.cancel();
    settle_loop(reactor);
    CHECK(values == std::vector<int>{7});
    CHECK(second.size() == 0);
}

TEST_CASE("two tasks that wake each other for ever do not keep the loop from its turns") {
    Reactor reactor;
    Channel<int> one(1), other(1);
    int count = 0;
    Scope scope(reactor);
    scope.start(bounce(one, other, count));
    scope.start(bounce(other, one, count));
    settle_loop(reactor);
    CHECK(one.try_send(1));
    reactor.run_once(Duration::zero());
    const int in_one_turn = count;
    CHECK(in_one_turn > 10);
    CHECK(in_one_turn <= int(coroutine_detail::ReadyList::most));
    reactor.run_once(Duration::zero());
    CHECK(count > in_one_turn);
}
