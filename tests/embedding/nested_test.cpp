// A reactor inside another loop, by its descriptor and its next time; and fork(2).
#include "../support/loop.hpp"

#include <reactor/detail/wakeup.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <optional>
#include <thread>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

struct Counting final : EventHandler {
    explicit Counting(Reactor& reactor) : registration(reactor.watch(wakeup.descriptor(), Interest::readable, *this)) {}
    void readable() override {
        wakeup.drain();
        ++count;
    }
    Wakeup wakeup;
    Registration registration;
    int count = 0;
};

// The part of an outer loop for a reactor inside it: one wait of its own and, if there is a reason, one turn.
struct OuterLoop {
    explicit OuterLoop(Reactor& the_inner) : inner(the_inner), epoll(::epoll_create1(EPOLL_CLOEXEC)) {
        epoll_event event{};
        event.events = EPOLLIN;
        REQUIRE(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, inner.native_handle(), &event) == 0);
    }
    void turn() {
        const auto limit = inner.next_timeout();
        const auto milliseconds = limit ? std::chrono::ceil<std::chrono::milliseconds>(*limit).count() : 60'000;
        epoll_event event{};
        ::epoll_wait(epoll.get(), &event, 1, int(std::min<std::int64_t>(milliseconds, INT_MAX)));
        inner.run_once(Duration::zero());
        ++turns;
    }
    template <class Condition>
    void turn_until(Condition condition) {
        for (int most = 1000; !condition(); --most) {
            REQUIRE(most > 0);
            turn();
        }
    }
    Reactor& inner;
    FileDescriptor epoll;
    int turns = 0;
};

// Runs `body` in a child and returns its exit status: 0 if `body` said that all was well.
template <class Body>
int in_child(Body body) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        bool good = false;
        try {
            good = body();
        } catch (...) {
        }
        ::_exit(good ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return status;
}

}  // namespace

TEST_CASE("Inside another loop descriptors, timers and posts from another thread all end its wait") {
    Reactor inner;
    if (inner.native_handle() < 0) return;  // select and poll have nothing to be watched by: by time alone
    OuterLoop outer(inner);
    Counting descriptor(inner);
    descriptor.wakeup.notify();
    outer.turn_until([&] { return descriptor.count == 1; });

    bool due = false;
    Timer timer(inner, [&] { due = true; });
    timer.start(2ms);
    outer.turn_until([&] { return due; });

    bool posted = false;
    std::thread thread([&] { inner.post([&] { posted = true; }); });
    outer.turn_until([&] { return posted; });
    thread.join();
    CHECK(outer.turns < 50);  // it waited, and did not spin
}

TEST_CASE("A reactor may watch another one") {
    Reactor inner, outer;
    if (inner.native_handle() < 0) return;
    struct Inner final : EventHandler {
        explicit Inner(Reactor& the_reactor) : reactor(the_reactor) {}
        void readable() override { reactor.run_once(Duration::zero()); }
        Reactor& reactor;
    } handler(inner);
    const Registration registration = outer.watch(inner.native_handle(), Interest::readable, handler);
    // The inner loop's time is the outer loop's timer, looked at before each wait.
    Timer time(outer, [&] { inner.run_once(Duration::zero()); });
    const Hook hook(outer, Hook::When::before_wait, [&] {
        const auto next = inner.next_timeout();
        next ? time.start(*next) : void(time.cancel());
    });
    bool due = false;
    Timer timer(inner, [&] { due = true; });
    timer.start(1ms);
    bool posted = false;
    std::thread thread([&] { inner.post([&] { posted = true; }); });
    for (int most = 1000; most > 0 && !(due && posted); --most) outer.run_once();
    thread.join();
    CHECK(due);
    CHECK(posted);
}

TEST_CASE("S73: a child's loop of its own leaves the parent's alone") {
    Reactor reactor;
    Counting descriptor(reactor);
    Counting other(reactor);
    bool parent_due = false;
    Timer timer(reactor, [&] { parent_due = true; });
    timer.start(Duration::zero());
    reactor.run_once(Duration::zero());
    parent_due = false;
    timer.start(1ms);

    const int status = in_child([&] {
        reactor.after_fork();
        descriptor.registration.reset();  // in the parent it stays
        bool posted = false;
        reactor.post([&] { posted = true; });
        other.wakeup.notify();
        for (int most = 1000; most > 0 && !(posted && other.count == 1 && parent_due); --most) reactor.run_once();
        return posted && other.count == 1 && parent_due && descriptor.count == 0;
    });
    CHECK(status == 0);

    descriptor.wakeup.notify();
    for (int most = 1000; most > 0 && !(descriptor.count == 1 && parent_due); --most) reactor.run_once();
    CHECK(descriptor.count == 1);
    CHECK(parent_due);
    CHECK(reactor.counters().wakeups == 0);  // the child's post woke the child
}

TEST_CASE("S73: a child that destroys the reactor after after_fork takes nothing from the parent") {
    auto reactor = std::make_optional<Reactor>();
    auto descriptor = std::make_optional<Counting>(*reactor);
    reactor->run_once(Duration::zero());
    CHECK(in_child([&] {
              reactor->after_fork();
              descriptor.reset();
              reactor.reset();
              return true;
          }) == 0);
    descriptor->wakeup.notify();
    for (int most = 100; most > 0 && descriptor->count == 0; --most) reactor->run_once(100ms);
    CHECK(descriptor->count == 1);
    descriptor.reset();
}

TEST_CASE("S73: fork in a handler, and what is ready is told to both") {
    Reactor reactor;
    struct Forking final : EventHandler {
        explicit Forking(Reactor& the_reactor)
            : reactor(the_reactor), registration(reactor.watch(wakeup.descriptor(), Interest::readable, *this)) {}
        void readable() override {
            if (++count > 1) return;  // without draining it, which would be felt in the other process
            const pid_t child = ::fork();
            if (child == 0) {
                reactor.after_fork();
                in_the_child = true;
                return;
            }
            ::waitpid(child, &status, 0);
        }
        Reactor& reactor;
        Wakeup wakeup;
        Registration registration;
        bool in_the_child = false;
        int count = 0, status = -1;
    } handler(reactor);
    handler.wakeup.notify();
    for (int most = 100; most > 0 && handler.count < 2; --most) reactor.run_once(Duration::zero());
    if (handler.in_the_child) ::_exit(handler.count == 2 ? 0 : 1);
    CHECK(handler.count == 2);
    CHECK(handler.status == 0);
}

TEST_CASE("S73: a child is told of the end of a stream that came before the fork, behind input") {
    Reactor reactor;
    ConnectionOptions options;
    options.limits.read_size = 1;
    Conversation talk(reactor, options);
    write_some(talk.peer, "input");
    run_until(reactor, [&] { return talk.journal.input == "i"; });
    (void)talk.peer.shutdown_write();
    run_until(reactor, [&] { return talk.journal.input.size() >= 3; });
    const int status = in_child([&] {
        reactor.after_fork();
        for (int most = 100; most > 0 && !talk.journal.over; --most) reactor.run_once(20ms);
        return talk.journal.count("end") == 1;
    });
    CHECK(status == 0);
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.count("end") == 1);
}

TEST_CASE("A descriptor of the loop's does not pass through exec") {
    Reactor reactor;
    Counting descriptor(reactor);
    reactor.run_once(Duration::zero());
    for (const int number : {reactor.native_handle(), descriptor.wakeup.descriptor()})
        if (number >= 0) CHECK((::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
}
