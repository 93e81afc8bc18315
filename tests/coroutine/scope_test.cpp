// Scope: it starts tasks, joins or cancels them, and nothing outlives it.
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/stopping.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/reactor.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace reactor;

namespace {

using Notes = std::vector<std::string>;

Task<> append(Notes& notes, std::string text) {
    notes.push_back(text);
    co_return;
}

Task<> fail(std::string text) {
    throw std::runtime_error(text);
    co_return;
}

Task<> joining(Reactor& reactor, Notes& notes) {
    Scope scope(reactor);
    scope.start(append(notes, "one"));
    scope.start(append(notes, "two"));
    notes.push_back("joining");
    co_await scope.join();
    notes.push_back("joined");
}

Task<> failing(Reactor& reactor, Never& never, Notes& notes) {
    Scope scope(reactor);
    scope.start(wait_for(never, notes, "other"));
    scope.start(fail("broken"));
    try {
        co_await scope.join();
    } catch (const std::runtime_error& error) {
        notes.push_back(error.what());
    }
    CHECK(scope.size() == 0);
    co_await scope.join();
    notes.push_back("joined");
}

Task<> until_asked(Notes& notes) {
    co_await stopping();
    notes.push_back("asked");
    co_await stopping();
    notes.push_back("asked still");
}

// Owns the scope of its own task.
struct Session {
    explicit Session(Reactor& reactor) : scope(reactor) {}
    Scope scope;
};

Task<> ends_itself(std::unique_ptr<Session>& session, Never& never, Notes& notes) {
    const Noting end(notes, "destroyed");
    session.reset();
    co_await append(notes, "runs on");
    co_await never.wait();
    notes.push_back("resumed");
}

Task<> ends_itself_last(std::unique_ptr<Session>& session, Notes& notes) {
    const Noting end(notes, "destroyed");
    session.reset();
    co_return;
}

Task<> keeps(std::shared_ptr<Session>) {
    co_return;
}

}  // namespace

TEST_CASE("a scope's tasks begin later than their start, in order, and join waits for all of them") {
    Reactor reactor;
    Notes notes;
    run(reactor, joining(reactor, notes));
    CHECK(notes == Notes{"joining", "one", "two", "joined"});
}

TEST_CASE("an exception out of a task cancels the others, and join throws it once") {
    Reactor reactor;
    Notes notes;
    Never never;
    run(reactor, failing(reactor, never, notes));
    CHECK(notes == Notes{"other begins", "other ends", "broken", "joined"});
    CHECK(never.waiting == 0);
}

TEST_CASE("destroying a scope destroys its tasks at once, the last one first") {
    Reactor reactor;
    Notes notes;
    Never never;
    const std::size_t frames = coroutine_frames().alive();
    {
        Scope scope(reactor);
        scope.start(wait_for(never, notes, "one"));
        scope.start(wait_for(never, notes, "two"));
        settle_loop(reactor);
        scope.start(wait_for(never, notes, "three"));  // has not begun when the scope goes
        CHECK(scope.size() == 3);
    }
    CHECK(notes == Notes{"one begins", "two begins", "two ends", "one ends"});
    CHECK(coroutine_frames().alive() == frames);
}

TEST_CASE("an exception that no join has thrown leaves run() when the scope is destroyed") {
    Reactor reactor;
    {
        Scope scope(reactor);
        scope.start(fail("unseen"));
        settle_loop(reactor);
        CHECK(scope.size() == 0);
    }
    CHECK_THROWS_WITH_AS(reactor.run_once(Duration::zero()), "unseen", std::runtime_error);
}

TEST_CASE("a task that destroys its own scope runs on to its next await, and is destroyed there") {
    Reactor reactor;
    Notes notes;
    Never never;
    const std::size_t frames = coroutine_frames().alive();
    auto session = std::make_unique<Session>(reactor);
    session->scope.start(ends_itself(session, never, notes));
    settle_loop(reactor);
    CHECK(notes == Notes{"runs on", "destroyed"});
    CHECK(never.waiting == 0);

    session = std::make_unique<Session>(reactor);
    session->scope.start(ends_itself_last(session, notes));
    settle_loop(reactor);
    CHECK(notes == Notes{"runs on", "destroyed", "destroyed"});
    CHECK(coroutine_frames().alive() == frames);
}

TEST_CASE("more tasks than one iteration resumes all have their turn") {
    Reactor reactor;
    Notes notes;
    Scope scope(reactor);
    for (int i = 0; i < 3000; ++i) scope.start(append(notes, ""));
    reactor.run_once(Duration::zero());
    CHECK(notes.size() == coroutine_detail::ReadyList::most);
    reactor.run_until_idle();
    CHECK(notes.size() == 3000);
}

TEST_CASE("a task's argument may own the scope") {
    Reactor reactor;
    const std::size_t frames = coroutine_frames().alive();
    auto session = std::make_shared<Session>(reactor);
    session->scope.start(keeps(session));
    const std::weak_ptr<Session> alive = session;
    session.reset();
    settle_loop(reactor);
    CHECK(alive.expired());
    CHECK(coroutine_frames().alive() == frames);
}

TEST_CASE("tasks that wait for it notice that their scope is asked to stop") {
    Reactor reactor;
    Notes notes;
    Never never;
    Scope scope(reactor);
    scope.start(until_asked(notes));
    scope.start(wait_for(never, notes, "other"));
    settle_loop(reactor);
    CHECK(notes == Notes{"other begins"});
    scope.stop();
    settle_loop(reactor);
    CHECK(notes == Notes{"other begins", "asked", "asked still"});
    CHECK(scope.size() == 1);
}
