// Our row of the tables of habits in reactor/MIGRATING.md. findings/loops-and-habits.sh and loops-and-streams.sh
// measure the others' rows.
#include "../support/c_library.hpp"

#include <reactor/hook.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <ctime>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

std::time_t shift = 0;

}  // namespace

// A wall clock that this program sets for itself alone.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept(in_glibc) {
    const long result = ::syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += shift;
    return int(result);
}

namespace {

struct Pipe final : EventHandler {
    Pipe(Reactor& reactor, std::function<void()> the_call) : call(std::move(the_call)) {
        REQUIRE(::pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
        registration = reactor.watch(ends[0], Interest::readable, *this);
    }
    ~Pipe() {
        registration.reset();
        ::close(ends[0]);
        ::close(ends[1]);
    }
    void fill() const { REQUIRE(::write(ends[1], "x", 1) == 1); }
    void readable() override {
        char byte;
        REQUIRE(::read(ends[0], &byte, 1) == 1);
        call();
    }
    std::function<void()> call;
    int ends[2] = {-1, -1};
    Registration registration;
};

void run_until(Reactor& reactor, const std::function<bool()>& condition) {
    for (int most = 10'000; !condition(); --most) {
        REQUIRE(most > 0);
        reactor.run_once(1s);
    }
}

}  // namespace

TEST_CASE("Habits: descriptors that are ready at once are called in the order of the kernel's answer") {
    Reactor reactor;
    std::string order;
    std::list<Pipe> pipes;
    for (const char* name : {"1", "2", "3"}) pipes.emplace_back(reactor, [&order, name] { order += name; });
    reactor.run_once(Duration::zero());
    pipes.back().fill();
    pipes.front().fill();
    (++pipes.begin())->fill();
    run_until(reactor, [&] { return order.size() == 3; });
    const bool as_they_came = reactor.backend() == "epoll" || reactor.backend() == "io_uring";
    CHECK(order == (as_they_came ? "312" : "123"));
}

TEST_CASE("Habits: equal timers are called in the order in which they were started") {
    Reactor reactor;
    std::string order;
    std::vector<Timer> timers;
    for (const char* name : {"1", "2", "3"}) timers.push_back(reactor.after(5ms, [&order, name] { order += name; }));
    run_until(reactor, [&] { return order.size() == 3; });
    CHECK(order == "123");
}

TEST_CASE("Habits: a timer of zero that starts itself again comes once before a descriptor that is ready, at most") {
    Reactor reactor;
    bool ready = false;
    const Pipe pipe(reactor, [&] { ready = true; });
    reactor.run_once(Duration::zero());
    pipe.fill();
    int zeros = 0;
    Timer zero(reactor, [&] {
        if (!ready) ++zeros;
        zero.start(Duration::zero());
    });
    zero.start(Duration::zero());
    run_until(reactor, [&] { return ready; });
    CHECK(zeros <= 1);
}

TEST_CASE("Habits: five signals at once are one call") {
    Reactor reactor;
    int calls = 0;
    const Signals signals(reactor, {SIGUSR1}, [&](int) { ++calls; });
    const Timer raised = reactor.after(Duration::zero(), [] {
        for (int i = 0; i < 5; ++i) ::raise(SIGUSR1);
    });
    run_until(reactor, [&] { return calls > 0; });
    for (int i = 0; i < 3; ++i) reactor.run_once(Duration::zero());
    CHECK(calls == 1);
}

TEST_CASE("Habits: a timer counts from the time of its start, also in a callback that has worked, and is never early") {
    Reactor reactor;
    TimePoint start{}, end{};
    Timer timer(reactor, [&] { end = reactor.now(); });
    const Timer work = reactor.after(1ms, [&] {
        for (const TimePoint until = reactor.now() + 20ms; reactor.now() < until;) {
        }
        start = reactor.now();
        timer.start(10ms);
    });
    run_until(reactor, [&] { return end != TimePoint{}; });
    CHECK(end - start >= 10ms);
    for (int i = 0; i < 5; ++i) {
        end = {};
        ::usleep(3300);
        start = reactor.now();
        timer.start(10ms);
        run_until(reactor, [&] { return end != TimePoint{}; });
        CHECK(end - start >= 10ms);
    }
}

TEST_CASE("Habits: hooks and deferred calls come in the order in which they were made") {
    Reactor reactor;
    std::string hooks, deferred;
    std::list<Hook> before;
    std::vector<Deferred> calls;
    for (const char* name : {"1", "2", "3"}) {
        before.emplace_back(reactor, Hook::When::before_wait, [&hooks, name] { hooks += name; });
        calls.push_back(reactor.defer([&deferred, name] { deferred += name; }));
    }
    reactor.run_once(Duration::zero());
    CHECK(hooks == "123");
    CHECK(deferred == "123");
}

TEST_CASE("Habits: a wall clock that is set moves no timer") {
    Reactor reactor;
    bool jumped = false;
    const auto before = std::chrono::system_clock::now();
    const Timer timer = reactor.after(1h, [&] { jumped = true; });
    reactor.run_once(Duration::zero());
    shift = 7200;
    const auto after = std::chrono::system_clock::now();
    reactor.run_once(Duration::zero());
    shift = 0;
    CHECK(after - before >= 2h);
    CHECK_FALSE(jumped);
    CHECK(timer.active());
}

TEST_CASE("Habits: a child that tidies up after after_fork leaves the parent its descriptors") {
    Reactor reactor;
    bool heard = false;
    std::optional<Pipe> pipe(std::in_place, reactor, [&] { heard = true; });
    reactor.run_once(Duration::zero());
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        reactor.after_fork();
        pipe.reset();
        reactor.run_once(Duration::zero());
        ::_exit(0);
    }
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    pipe->fill();
    run_until(reactor, [&] { return heard; });
}
