// The loop itself, on pipes and socket pairs. Where a test says that nothing spins it asks the kernel: a turn that
// does not wait and reports nothing is one that would have waited.
#include <reactor/detail/internals.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/testing/scripted_demultiplexer.hpp>
#include <reactor/timer.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

constexpr Duration no_wait = Duration::zero();
constexpr Interest no_interest = Interest::none, readable = Interest::readable, writable = Interest::writable,
                   error = Interest::error;

struct Probe final : EventHandler {
    void readable() override { tell(readables, on_readable); }
    void writable() override { tell(writables, on_writable); }
    void error() override { tell(errors, on_error); }
    void lost(std::error_code code) override {
        reason = code;
        tell(losses, on_lost);
    }
    // The count comes first: the callback may destroy this.
    static void tell(int& count, const std::function<void()>& callback) {
        ++count;
        const std::function<void()> copy = callback;
        if (copy) copy();
    }
    int calls() const { return readables + writables + errors + losses; }

    int readables = 0, writables = 0, errors = 0, losses = 0;
    std::error_code reason;
    std::function<void()> on_readable, on_writable, on_error, on_lost;
};

struct Pipe {
    Pipe() {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        reading.reset(ends[0]);
        writing.reset(ends[1]);
        for (const int end : ends) ::fcntl(end, F_SETFL, O_NONBLOCK);
    }
    void write(std::size_t bytes = 1) const {
        REQUIRE(::write(writing.get(), std::string(bytes, 'x').data(), bytes) == ssize_t(bytes));
    }
    void fill() const {
        while (::write(writing.get(), "x", 1) == 1) {
        }
    }
    /// The result of read(2): 0 at the end, -1 if there is nothing.
    ssize_t read(std::size_t bytes = 1) const {
        std::string buffer(bytes, '\0');
        return ::read(reading.get(), buffer.data(), bytes);
    }
    FileDescriptor reading, writing;
};

// A pipe that was reported once, closed behind the loop's back while a duplicate keeps it open; and another.
struct ClosedBehindTheBack {
    explicit ClosedBehindTheBack(Reactor& reactor)
        : registration(reactor.watch(pipe.reading.get(), Interest::readable, probe)),
          stays(reactor.watch(other.reading.get(), Interest::readable, bystander)),
          number(pipe.reading.get()) {
        pipe.write();
        reactor.run_once(no_wait);
        REQUIRE(probe.readables == 1);
        duplicate.reset(::dup(number));
        pipe.reading.reset();
    }
    bool others_are_served(Reactor& reactor) {
        bystander.readables = 0;
        other.write();
        reactor.run_once(no_wait);
        other.read();
        return bystander.readables == 1;
    }
    Pipe pipe, other;
    Probe probe, bystander;
    Registration registration, stays;
    const int number;
    FileDescriptor duplicate;
};

// Two ends of a connection over loopback: urgent data and resets need TCP.
std::pair<Socket, Socket> loopback_pair() {
    Socket listening = Socket::open(Address::Family::ipv4);
    listening.bind(*Address::ip("127.0.0.1", 0));
    listening.listen(1);
    Socket connecting = Socket::open(Address::Family::ipv4), accepted;
    static_cast<void>(connecting.connect(listening.local()));
    pollfd waiting{listening.get(), POLLIN, 0};
    REQUIRE(::poll(&waiting, 1, 10'000) == 1);
    Address peer;
    REQUIRE_FALSE(listening.accept(accepted, peer));
    return {std::move(connecting), std::move(accepted)};
}

// On loopback a packet has arrived when send returns, as a rule; this makes it one.
void wait_for(int descriptor, short events) {
    pollfd entry{descriptor, events, 0};
    REQUIRE(::poll(&entry, 1, 10'000) == 1);
}

// On io_uring it watches what is no connection's.
bool is_epoll(const Reactor& reactor) {
    return reactor.backend() == "epoll" || reactor.backend() == "io_uring";
}

// So often a wait may end for nothing: the kernel cleans up behind the rings of earlier tests, and interrupts their
// thread for it (Linux 6.18).
std::uint64_t interruptions() {
    const auto names = available_backends();
    return std::find(names.begin(), names.end(), "io_uring") == names.end() ? 0 : 10;
}

// Turns until one reports nothing; how many reported something. More than `most` is a spin.
int turns_until_quiet(Reactor& reactor, int most) {
    for (int turns = 0; turns <= most; ++turns)
        if (reactor.run_once(no_wait) == 0) return turns;
    return most + 1;
}

const std::function<void(Reactor&)> ways_to_run[] = {
    [](Reactor& reactor) { reactor.run(); },
    [](Reactor& reactor) { reactor.run_for(1h); },
    [](Reactor& reactor) { reactor.run_once(); },
};

// Runs its callable when it is destroyed.
struct OnDestruction {
    std::function<void()> action;
    explicit OnDestruction(std::function<void()> callable) : action(std::move(callable)) {}
    ~OnDestruction() { action(); }
};

}  // namespace

// ── A. identity and lifetime ──

TEST_CASE("S1: a descriptor closed and its number reused within a batch do not hear of the earlier file's event") {
    Reactor reactor;
    Pipe pipes[2];
    Probe probes[2], newcomer;
    Registration registrations[2], registration;
    Pipe fresh;
    for (const int i : {0, 1}) {
        probes[i].on_readable = [&, i] {
            const int other = 1 - i;
            const int number = pipes[other].reading.get();
            registrations[other].reset();
            REQUIRE(::dup2(fresh.reading.get(), number) == number);  // closes the earlier file
            registration = reactor.watch(number, readable, newcomer);
            registrations[i].reset();
        };
        pipes[i].write();
        registrations[i] = reactor.watch(pipes[i].reading.get(), readable, probes[i]);
    }
    CHECK(reactor.run_once(no_wait) == 2);
    CHECK(probes[0].readables + probes[1].readables == 1);
    CHECK(newcomer.calls() == 0);
    CHECK(turns_until_quiet(reactor, 1) == 0);
    fresh.write();
    reactor.run_once(no_wait);
    CHECK(newcomer.readables == 1);
}

TEST_CASE("S2: a file closed behind the loop's back that a duplicate keeps alive cannot spin the loop") {
    Reactor reactor;
    ClosedBehindTheBack closed(reactor);
    Probe& probe = closed.probe;
    Registration& registration = closed.registration;
    const int number = closed.number;

    SUBCASE("and its registration goes") {
        registration.reset();
    }
    SUBCASE("and its interest goes") {
        registration.set_interest(no_interest);
    }
    SUBCASE("and its interest changes") {
        registration.set_interest(readable | writable);
        reactor.run_once(no_wait);
        CHECK(probe.losses == 1);
        CHECK(probe.reason == std::errc::bad_file_descriptor);
    }
    SUBCASE("and the number lives again beside the earlier registration, which goes later") {
        Pipe fresh;
        REQUIRE(::dup2(fresh.reading.get(), number) == number);
        Probe next;
        Registration again = reactor.watch(number, readable, next);
        reactor.run_once(no_wait);
        registration.reset();
        CHECK(turns_until_quiet(reactor, 3) <= 3);
        next.readables = 0;
        fresh.write();
        reactor.run_once(no_wait);
        CHECK(next.readables == 1);
        again.reset();
        ::close(number);
    }
    const int before = probe.readables;
    CHECK(turns_until_quiet(reactor, 3) <= 3);
    CHECK(probe.readables == before);
    CHECK(closed.others_are_served(reactor));
}

TEST_CASE("S1: a registration that another handler of the batch ends or joins costs the backend no new start") {
    for (const bool joins : {false, true}) {
        CAPTURE(joins);
        Reactor reactor;
        Pipe pipes[2], third;
        Probe probes[2], newcomer, bystander;
        Registration registrations[2], another;
        const Registration stays = reactor.watch(third.reading.get(), readable, bystander);
        for (const int i : {0, 1}) {
            pipes[i].write();
            probes[i].on_readable = [&, i] {
                if (another || !registrations[1 - i]) return;
                if (!joins) return registrations[1 - i].reset();
                another = reactor.watch(pipes[1 - i].reading.get(), readable, newcomer);
            };
            registrations[i] = reactor.watch(pipes[i].reading.get(), readable, probes[i]);
        }
        CHECK(reactor.run_once(no_wait) == 2);
        CHECK(probes[0].readables + probes[1].readables == 1);
        const std::uint64_t changes = reactor.counters().changes;
        const int set = reactor.native_handle();
        reactor.run_once(no_wait);
        CHECK(reactor.counters().changes == changes + std::uint64_t(joins));
        CHECK(reactor.native_handle() == set);
    }
}

TEST_CASE("S2: the same with two registrations that both lost it") {
    Reactor reactor;
    Pipe pipe;
    Probe first, second;
    Registration one = reactor.watch(pipe.reading.get(), readable, first);
    Registration two = reactor.watch(pipe.reading.get(), readable, second);
    pipe.write();
    reactor.run_once(no_wait);
    const FileDescriptor duplicate(::dup(pipe.reading.get()));
    pipe.reading.reset();
    one.set_interest(writable);
    reactor.run_once(no_wait);
    CHECK(first.losses == 1);
    CHECK(second.losses == 1);
    CHECK(turns_until_quiet(reactor, 3) <= 3);
}

TEST_CASE("S2: a lost number that is used and watched again is watched for what the new watcher wants, and no more") {
    Reactor reactor;
    Pipe closed, fresh;
    Probe lost, next;
    const Registration one = reactor.watch(closed.reading.get(), readable, lost);
    reactor.run_once(no_wait);
    const int number = closed.reading.get();
    closed.reading.reset();
    one.set_interest(readable | writable);  // epoll reports the loss only where something changes
    reactor.run_once(no_wait);
    REQUIRE(lost.losses == 1);
    const FileDescriptor reopened(::dup2(fresh.reading.get(), number));
    const Registration two = reactor.watch(number, Interest::none, next);
    fresh.write();
    for (int turn = 0; turn < 3; ++turn) CHECK(reactor.run_once(no_wait) == 0);
    CHECK(next.calls() == 0);
    CHECK(lost.calls() == 1);
}

TEST_CASE("S2: out of descriptors the loop cannot leave a set that reports a closed file; it leaves it when it can") {
    Reactor reactor;
    ClosedBehindTheBack closed(reactor);
    closed.registration.reset();
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    rlimit none = before;
    none.rlim_cur = rlim_t(FileDescriptor(::dup(closed.duplicate.get())).get());  // the lowest number that is free
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    for (int turn = 0; turn < 5; ++turn) reactor.run_once(no_wait);
    CHECK(closed.others_are_served(reactor));
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(turns_until_quiet(reactor, 3) <= 3);
    CHECK(closed.others_are_served(reactor));
}

TEST_CASE("S3: a descriptor closed behind the loop's back: its handler is told once, the others are served") {
    Reactor reactor;
    Pipe closed, open;
    Probe victim, bystander;
    Registration registration = reactor.watch(closed.reading.get(), readable, victim);
    const Registration other = reactor.watch(open.reading.get(), readable, bystander);
    reactor.run_once(no_wait);
    closed.reading.reset();
    open.write();
    for (int turn = 0; turn < 3; ++turn) reactor.run_once(no_wait);
    CHECK(bystander.readables == 3);
    CHECK(victim.losses == (is_epoll(reactor) ? 0 : 1));  // epoll forgets it in silence

    registration.set_interest(readable | writable);
    for (int turn = 0; turn < 3; ++turn) reactor.run_once(no_wait);
    CHECK(victim.losses == 1);
    CHECK(victim.reason == std::errc::bad_file_descriptor);
    CHECK(victim.calls() == 1);
    open.read();
    CHECK(reactor.run_once(no_wait) == 0);
}

TEST_CASE("S3: a lost descriptor is taken from the backend once, and letting go of it costs nothing more") {
    for (const Interest wanted : {readable, error}) {
        CAPTURE(int(wanted));
        Reactor reactor;
        Pipe pipe;
        Probe probe;
        Registration registration = reactor.watch(pipe.reading.get(), wanted, probe);
        reactor.run_once(no_wait);
        pipe.reading.reset();
        registration.set_interest(wanted | writable);  // epoll finds out by this
        for (int turn = 0; turn < 3; ++turn) reactor.run_once(no_wait);
        REQUIRE(probe.losses == 1);
        const std::uint64_t before = reactor.counters().changes;
        registration.reset();
        reactor.run_once(no_wait);
        CHECK(reactor.counters().changes == before);
    }
}

TEST_CASE("S3: all registrations of a lost descriptor are told, also behind one that throws") {
    Reactor reactor;
    Pipe pipe;
    Probe probes[3];
    Registration registrations[3];
    for (int i = 0; i < 3; ++i) registrations[i] = reactor.watch(pipe.reading.get(), readable, probes[i]);
    reactor.run_once(no_wait);
    pipe.reading.reset();
    registrations[0].set_interest(writable);
    bool throws = false;
    SUBCASE("none throws") {}
    SUBCASE("the first throws") {
        throws = true;
    }
    probes[0].on_lost = [&] {
        if (throws) throw std::runtime_error("as planned");
    };
    int thrown = 0;
    for (int turn = 0; turn < 4; ++turn) {
        try {
            reactor.run_once(no_wait);
        } catch (const std::runtime_error&) {
            ++thrown;
        }
    }
    CHECK(thrown == int(throws));
    for (const Probe& probe : probes) CHECK(probe.losses == 1);
    CHECK(reactor.run_once(no_wait) == 0);
}

TEST_CASE("S3: a number that was lost lives again for a new registration, and for that alone") {
    Reactor reactor;
    Pipe closed, fresh;
    Probe victim, next;
    const int number = closed.reading.get();
    Registration registration = reactor.watch(number, readable, victim), again;
    reactor.run_once(no_wait);
    closed.reading.reset();
    registration.set_interest(writable);
    bool inside = false;
    SUBCASE("made later") {}
    SUBCASE("made while the loss is told") {
        inside = true;
    }
    const auto revive = [&] {
        closed.reading.reset(::fcntl(fresh.reading.get(), F_DUPFD, number));
        REQUIRE(closed.reading.get() == number);
        again = reactor.watch(number, readable, next);
    };
    if (inside) victim.on_lost = revive;
    reactor.run_once(no_wait);
    CHECK(victim.losses == 1);
    if (!inside) revive();
    fresh.write();
    reactor.run_once(no_wait);
    CHECK(next.readables == 1);
    CHECK(next.losses == 0);
    CHECK(victim.calls() == 1);
    registration.set_interest(readable);  // inert
    reactor.run_once(no_wait);
    CHECK(next.readables == 2);
    CHECK(victim.calls() == 1);
}

TEST_CASE("S3: watching what is not open is told as a loss; a negative number is an error at once") {
    Reactor reactor;
    Probe probe;
    int number = 0;
    {
        Pipe pipe;
        number = pipe.reading.get();
    }
    const Registration registration = reactor.watch(number, readable, probe);
    CHECK(probe.calls() == 0);
    for (int turn = 0; turn < 3; ++turn) reactor.run_once(no_wait);
    CHECK(probe.losses == 1);
    CHECK(probe.calls() == 1);
    CHECK_THROWS_AS(static_cast<void>(reactor.watch(-1, readable, probe)), std::system_error);
}

TEST_CASE("S3: a number that can be no descriptor of this process is an error at once, and takes no memory") {
    Reactor reactor;
    Probe probe;
    for (const int number : {INT_MAX, INT_MAX - 1, 1'000'000'000, 10'000'000}) {
        CAPTURE(number);
        try {
            static_cast<void>(reactor.watch(number, readable, probe));
            FAIL("watched");
        } catch (const std::system_error& failure) {
            CHECK(failure.code() == std::errc::bad_file_descriptor);
            CHECK(std::string(failure.what()).find(std::to_string(number)) != std::string::npos);
        }
    }
    reactor.run_once(no_wait);
    CHECK(probe.calls() == 0);
}

TEST_CASE("S4: a handler that destroys itself in a callback is not called again") {
    struct Suicidal final : EventHandler {
        Suicidal(Reactor& reactor, int descriptor, Interest interest, std::unique_ptr<Suicidal>& self, int& count)
            : owner(self), calls(count), registration(reactor.watch(descriptor, interest, *this)) {}
        void die() {
            ++calls;
            owner.reset();
        }
        void readable() override { die(); }
        void writable() override { die(); }
        void error() override { die(); }
        std::unique_ptr<Suicidal>& owner;
        int& calls;
        Registration registration;
    };
    Reactor reactor;
    std::unique_ptr<Suicidal> handler;
    int calls = 0;
    auto [left, right] = Socket::pair();
    Pipe pipe;
    SUBCASE("readable") {
        REQUIRE(::write(right.get(), "x", 1) == 1);
        handler = std::make_unique<Suicidal>(reactor, left.get(), readable, handler, calls);
    }
    SUBCASE("writable") {
        handler = std::make_unique<Suicidal>(reactor, left.get(), writable, handler, calls);
    }
    SUBCASE("S6: readable, where writable would follow") {
        REQUIRE(::write(right.get(), "x", 1) == 1);
        handler = std::make_unique<Suicidal>(reactor, left.get(), readable | writable | error, handler, calls);
    }
    SUBCASE("error") {
        pipe.reading.reset();
        handler = std::make_unique<Suicidal>(reactor, pipe.writing.get(), error, handler, calls);
    }
    SUBCASE("lost") {
        handler = std::make_unique<Suicidal>(reactor, pipe.writing.get(), readable, handler, calls);
        pipe.writing.reset();
    }
    SUBCASE("triggered") {
        handler = std::make_unique<Suicidal>(reactor, left.get(), readable, handler, calls);
        handler->registration.trigger(readable | writable | error);
        handler->registration.trigger(readable);
    }
    for (int turn = 0; turn < 3; ++turn) reactor.run_once(no_wait);
    CHECK(calls == 1);
    CHECK(handler == nullptr);
}

TEST_CASE("S4: a timer and a hook that destroy themselves in their callbacks are not called again") {
    Reactor reactor;
    int calls = 0;
    std::unique_ptr<Timer> timer;
    timer = std::make_unique<Timer>(reactor, [&, big = std::string(100, 'x')] {
        ++calls;
        timer.reset();
        CHECK(big.size() == 100);  // the closure outlives its owner for as long as it runs
    });
    timer->start_periodic(1ns);
    std::unique_ptr<Hook> hook;
    hook = std::make_unique<Hook>(reactor, Hook::When::before_wait, [&, big = std::string(100, 'x')] {
        ++calls;
        hook.reset();
        CHECK(big.size() == 100);
    });
    for (int turn = 0; turn < 3; ++turn) reactor.run_once(no_wait);
    CHECK(calls == 2);
}

TEST_CASE("S5: a handler destroyed by another of its batch is not called, in either order") {
    for (const bool reversed : {false, true}) {
        for (const bool swapped : {false, true}) {
            CAPTURE(reversed);
            CAPTURE(swapped);
            Reactor reactor;
            Pipe pipes[2];
            if (swapped) std::swap(pipes[0], pipes[1]);
            Probe probes[2];
            Registration registrations[2];
            for (const int i : {0, 1}) {
                pipes[i].write();
                probes[i].on_readable = [&, i] { registrations[1 - i].reset(); };
            }
            for (const int i : {int(reversed), int(!reversed)})
                registrations[i] = reactor.watch(pipes[i].reading.get(), readable, probes[i]);
            reactor.run_once(no_wait);
            CHECK(probes[0].readables + probes[1].readables == 1);
        }
    }
}

TEST_CASE("S8: a reactor destroyed destroys what it owns and what was posted, and calls none of it") {
    struct Owned final : OwnedHandler {
        Owned(Reactor& reactor, int& d, int& r) : destroyed(d), retirements(r), timer(reactor, [] { FAIL("called"); }) {
            timer.start(no_wait);
        }
        ~Owned() override { ++destroyed; }
        void readable() override { FAIL("called"); }
        void retired() override { ++retirements; }
        int& destroyed;
        int& retirements;
        Timer timer;
        Registration registration;
    };
    int destroyed = 0, retirements = 0, closures = 0;
    Pipe pipes[3];
    {
        Reactor reactor;
        for (const Pipe& pipe : pipes) {
            pipe.write();
            auto owned = std::make_unique<Owned>(reactor, destroyed, retirements);
            Owned& handler = *owned;
            handler.registration = reactor.adopt(pipe.reading.get(), readable, std::move(owned));
            if (&pipe == &pipes[2]) handler.registration.reset();
        }
        reactor.post([&, token = std::make_unique<OnDestruction>([&] { ++closures; })] { FAIL("called"); });
    }
    CHECK(destroyed == 3);
    CHECK(retirements == 0);
    CHECK(closures == 1);
}

TEST_CASE("An adopted handler that is retired finishes its call, is told at the end of the turn, and is destroyed") {
    struct Owned final : OwnedHandler {
        Owned(Reactor& owner, std::vector<std::string>& list) : reactor(owner), story(list) {}
        ~Owned() override { story.push_back("destroyed"); }
        void readable() override {
            if (by_reset) {
                registration.reset();
            } else {
                registration.reset();
                registration.reset();  // there is nothing left to retire
            }
            reactor.post([&list = story] { list.push_back("posted"); });
            story.push_back("read");
        }
        void writable() override { story.push_back("written"); }
        void retired() override { story.push_back("retired"); }
        Reactor& reactor;
        std::vector<std::string>& story;
        Registration registration;
        bool by_reset = false;
    };
    Reactor reactor;
    std::vector<std::string> story;
    auto [left, right] = Socket::pair();
    REQUIRE(::write(right.get(), "x", 1) == 1);
    auto owned = std::make_unique<Owned>(reactor, story);
    Owned& handler = *owned;
    SUBCASE("by retire") {}
    SUBCASE("by reset") {
        handler.by_reset = true;
    }
    handler.registration = reactor.adopt(left.get(), readable | writable, std::move(owned));
    reactor.run_once(no_wait);
    CHECK(story == std::vector<std::string>{"read", "posted", "retired", "destroyed"});
}

TEST_CASE("Who is retired between turns, or by another that is told of its end, waits for no event to be told") {
    struct Owned final : OwnedHandler {
        explicit Owned(std::vector<std::string>& list) : story(list) {}
        ~Owned() override { story.push_back("destroyed"); }
        void retired() override {
            story.push_back("retired");
            if (next != nullptr) next->registration.reset();
        }
        std::vector<std::string>& story;
        Owned* next = nullptr;
        Registration registration;
    };
    Reactor reactor;
    Pipe pipes[2];
    std::vector<std::string> story;
    Owned* handlers[2];
    for (int i = 0; i < 2; ++i) {
        auto owned = std::make_unique<Owned>(story);
        handlers[i] = owned.get();
        handlers[i]->registration = reactor.adopt(pipes[i].reading.get(), readable, std::move(owned));
    }
    handlers[0]->next = handlers[1];
    reactor.run_once(no_wait);
    REQUIRE_FALSE(reactor.next_timeout());  // nothing is ready, and nothing will be

    handlers[0]->registration.reset();
    REQUIRE(reactor.next_timeout() == no_wait);
    reactor.run_once();
    CHECK(story == std::vector<std::string>{"retired", "destroyed"});
    REQUIRE(reactor.next_timeout() == no_wait);
    reactor.run_once();
    CHECK(story == std::vector<std::string>{"retired", "destroyed", "retired", "destroyed"});
    CHECK_FALSE(reactor.next_timeout());
}

TEST_CASE(
    "Every handler that the reactor owns is visited once, on shared descriptors too, unless it retires meanwhile") {
    struct Owned final : OwnedHandler {
        explicit Owned(int& count) : destroyed(count) {}
        ~Owned() override { ++destroyed; }
        Registration registration;
        int visits = 0;
        int& destroyed;
    };
    int destroyed = 0;
    Pipe alone, shared;
    Probe somebody_elses;
    Reactor reactor;
    const Registration watching = reactor.watch(shared.reading.get(), readable, somebody_elses);
    std::vector<Owned*> handlers;
    const int one = alone.reading.get(), other = shared.reading.get();
    for (const int descriptor : {one, other, other, other}) {
        auto owned = std::make_unique<Owned>(destroyed);
        handlers.push_back(owned.get());
        CHECK(owned->shares() == nullptr);
        handlers.back()->registration = reactor.adopt(descriptor, readable, std::move(owned));
    }
    Internals(reactor).for_each_owned([&](OwnedHandler& handler) {
        ++static_cast<Owned&>(handler).visits;
        if (&handler == handlers[1]) handlers[2]->registration.reset();
    });
    CHECK(handlers[0]->visits == 1);
    CHECK(handlers[1]->visits == 1);
    CHECK(handlers[2]->visits == 0);
    CHECK(handlers[3]->visits == 1);
    reactor.run_once(no_wait);
    CHECK(destroyed == 1);
}

TEST_CASE("A handler that overrides nothing may be told everything; what cannot be watched is an error to it") {
    struct Nothing final : EventHandler {
    } nothing;
    struct ErrorsOnly final : EventHandler {
        void error() override { ++errors; }
        int errors = 0;
    } errors_only;
    Reactor reactor;
    auto [left, right] = loopback_pair();
    REQUIRE(::send(right.get(), "x!", 2, MSG_OOB) == 2);
    wait_for(left.get(), POLLPRI);
    const Registration registration = reactor.watch(left.get(), readable | writable | error, nothing);
    CHECK(reactor.run_once(no_wait) == 1);
    int number = 0;
    {
        Pipe pipe;
        number = pipe.reading.get();
    }
    const Registration lost = reactor.watch(number, readable, errors_only);
    const Registration unheard = reactor.watch(number, readable, nothing);
    for (int turn = 0; turn < 3; ++turn) reactor.run_once(no_wait);
    CHECK(errors_only.errors == 1);
}

// Counts its end.
class Mortal final : public OwnedHandler {
public:
    explicit Mortal(int& destroyed) : destroyed_(destroyed) {}
    ~Mortal() override { ++destroyed_; }
    void readable() override { ++readables; }

    int readables = 0;

private:
    int& destroyed_;
};

TEST_CASE("A handler that cannot be adopted stays whose it was, and one that was only lent for the call is gone") {
    Reactor reactor;
    int destroyed = 0;
    std::unique_ptr<OwnedHandler> handler = std::make_unique<Mortal>(destroyed);
    CHECK_THROWS_AS(static_cast<void>(reactor.adopt(-1, readable, std::move(handler))), std::system_error);
    CHECK(handler != nullptr);
    CHECK(destroyed == 0);
    CHECK_THROWS_AS(static_cast<void>(reactor.adopt(-1, readable, std::make_unique<Mortal>(destroyed))),
                    std::system_error);
    CHECK(destroyed == 1);
}

TEST_CASE("A handler that is released goes to another reactor, and its first one may be gone by then") {
    int destroyed = 0;
    Pipe pipe;
    Reactor second;
    Registration registration;
    std::unique_ptr<OwnedHandler> handler = std::make_unique<Mortal>(destroyed);
    const Mortal& mortal = static_cast<Mortal&>(*handler);
    {
        Reactor first;
        registration = first.adopt(pipe.reading.get(), readable, std::move(handler));
        handler = first.release(registration);
        CHECK(handler.get() == &mortal);
        CHECK_FALSE(registration);
        CHECK(first.release(registration) == nullptr);
    }
    CHECK(destroyed == 0);
    registration = second.adopt(pipe.reading.get(), readable, std::move(handler));
    pipe.write();
    second.run_once(no_wait);
    CHECK(mortal.readables == 1);
    registration.reset();
    CHECK_FALSE(registration);
    registration.reset();
    Internals(second).retire(RegistrationView());
    CHECK(destroyed == 0);
    second.run_once(no_wait);
    CHECK(destroyed == 1);
}

TEST_CASE("Who has only the view of a registration may end it, and nobody makes a registration of one") {
    static_assert(!std::is_constructible_v<Registration, Reactor&, int, std::uint32_t>);
    static_assert(!std::is_constructible_v<Registration, RegistrationView>);
    static_assert(!std::is_constructible_v<RegistrationView, Registration>);
    Reactor reactor;
    Pipe pipe;
    pipe.write();
    Probe probe;
    RegistrationView view;
    {
        Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
        view = registration.leave();
        CHECK_FALSE(registration);
    }
    reactor.run_once(no_wait);
    CHECK(probe.readables == 1);
    CHECK(RegistrationView(reactor, view.descriptor(), view.id()).interest() == readable);
    Internals(reactor).retire(view);
    reactor.run_once(no_wait);
    CHECK(probe.readables == 1);
}

TEST_CASE("S10: reading paused by another handler of the same batch brings no more data") {
    Reactor reactor;
    Pipe pipes[2];
    Probe probes[2];
    Registration registrations[2];
    for (const int i : {0, 1}) {
        pipes[i].write();
        registrations[i] = reactor.watch(pipes[i].reading.get(), readable, probes[i]);
        probes[i].on_readable = [&, i] { registrations[1 - i].set_interest(no_interest); };
    }
    for (int turn = 0; turn < 3; ++turn) reactor.run_once(no_wait);
    CHECK((probes[0].readables == 0 || probes[1].readables == 0));
    CHECK(probes[0].readables + probes[1].readables == 3);
}

// ── B. readiness ──

TEST_CASE("S11: a hang-up and an error do not spin where nothing is wanted, and are told where something is again") {
    Reactor reactor;
    Pipe hung_up, broken;
    Probe reader, writer;
    Registration reading = reactor.watch(hung_up.reading.get(), readable, reader);
    Registration writing = reactor.watch(broken.writing.get(), error, writer);
    reactor.run_once(no_wait);
    reading.set_interest(no_interest);
    writing.set_interest(no_interest);
    hung_up.writing.reset();
    broken.reading.reset();
    CHECK(reactor.run_once(no_wait) == 0);
    CHECK_FALSE(reactor.next_timeout());

    reading.set_interest(readable);
    writing.set_interest(writable);
    CHECK(reactor.run_once(no_wait) == 2);
    CHECK(reader.readables == 1);
    CHECK(writer.writables == 1);
}

TEST_CASE("S12: data and the end together: all bytes first, then the end") {
    Reactor reactor;
    Pipe pipe;
    pipe.write(10);
    pipe.writing.reset();
    Probe probe;
    Registration registration;
    int bytes = 0, ends = 0;
    probe.on_readable = [&] {
        const ssize_t size = pipe.read(3);
        REQUIRE(size >= 0);
        bytes += int(size);
        if (size > 0) return;
        ++ends;
        registration.reset();
    };
    registration = reactor.watch(pipe.reading.get(), readable | writable, probe);
    for (int turn = 0; turn < 6; ++turn) reactor.run_once(no_wait);
    CHECK(bytes == 10);
    CHECK(ends == 1);
    CHECK(reactor.run_once(no_wait) == 0);
}

TEST_CASE("S18: a regular file is always readable and writable, and never an error, on every backend") {
    Reactor reactor;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
    REQUIRE(file);
    const int descriptor = ::fileno(file.get());
    Probe probe;
    Registration registration = reactor.watch(descriptor, readable | writable | error, probe);
    for (int turn = 0; turn < 2; ++turn) reactor.run_once();
    CHECK(probe.readables == 2);
    CHECK(probe.writables == 2);
    CHECK(probe.calls() == 4);
    registration.set_interest(writable);
    reactor.run_once();
    CHECK(probe.readables == 2);
    CHECK(probe.writables == 3);
    registration.set_interest(error);
    CHECK(reactor.run_once(no_wait) == 0);

    // It must not keep the loop from waiting either.
    Timer timer(reactor, [&] { reactor.stop(); });
    const std::uint64_t turns = reactor.counters().turns;
    timer.start(1ms);
    reactor.run();
    CHECK(reactor.counters().turns - turns <= 2 + interruptions());
}

TEST_CASE(
    "S18: a loop whose regular file was closed behind its back sleeps again, also when the number is used again") {
    Reactor reactor;
    Probe probe;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
    REQUIRE(file);
    FileDescriptor descriptor(::dup(::fileno(file.get())));
    const int number = descriptor.get();
    const Registration registration = reactor.watch(number, readable | writable, probe);
    reactor.run_once();
    REQUIRE(probe.readables == 1);
    Pipe pipe;
    const bool used_again = [] {
        bool again = false;
        SUBCASE("closed") {}
        SUBCASE("used again by a quiet pipe") {
            again = true;
        }
        return again;
    }();
    descriptor.reset(used_again ? ::fcntl(pipe.reading.get(), F_DUPFD, number) : -1);
    if (used_again) {
        REQUIRE(::dup2(descriptor.get(), number) == number);
        descriptor.reset(number);
    }
    reactor.run_once(no_wait);
    CHECK(probe.losses == int(!used_again));
    CHECK(probe.readables == 1);
    CHECK_FALSE(reactor.next_timeout());
    Timer timer(reactor, [&] { reactor.stop(); });
    const std::uint64_t turns = reactor.counters().turns;
    timer.start(1ms);
    reactor.run();
    CHECK(reactor.counters().turns - turns <= 2 + interruptions());
    if (!used_again) return;
    pipe.write();
    reactor.run_once();
    CHECK(probe.readables == 2);
}

TEST_CASE("S96: a limit of descriptors that is lowered below what is watched, to none too, costs no loop its turns") {
    Reactor reactor;
    constexpr std::size_t count = 40;
    std::vector<Pipe> pipes(count);
    std::vector<Probe> probes(count);
    std::vector<Registration> registrations;
    for (std::size_t i = 0; i < count; ++i)
        registrations.push_back(
            reactor.watch(pipes[i].reading.get(), i % 2 == 0 ? readable : readable | error, probes[i]));
    reactor.run_once(no_wait);
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    rlimit few = before;
    const auto lower = [&](rlim_t limit) {
        few.rlim_cur = limit;
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    };
    int timers = 0;
    Timer timer(reactor, [&] { ++timers; });

    lower(7);
    pipes.back().write();
    CHECK(reactor.run_once() == 1);
    pipes.back().read();
    CHECK(probes.back().readables == 1);
    timer.start(1ms);
    while (timers == 0) reactor.run_once();
    bool posted = false;
    std::thread poster([&] { reactor.post([&] { posted = true; }); });
    while (!posted) reactor.run_once();
    poster.join();

    lower(0);
    pipes.front().write();
    timer.start(no_wait);
    bool failed = false;
    try {
        reactor.run_once(no_wait);
    } catch (const std::system_error& failure) {  // poll(2) takes no entry then; select(2) and epoll do not ask
        failed = true;
        CHECK(failure.code() == std::errc::invalid_argument);
        CHECK(std::string(failure.what()).find("ppoll(") == 0);
    }
    CHECK(timers == 2);
    if (is_epoll(reactor)) CHECK_FALSE(failed);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    reactor.run_once(no_wait);
    CHECK(probes.front().readables >= 1);
}

TEST_CASE("S20: urgent data is told to who asks for errors, until it is taken, and to nobody else") {
    Reactor reactor;
    auto [left, right] = loopback_pair();
    Probe probe;
    Registration registration = reactor.watch(right.get(), readable | error, probe);
    REQUIRE(::send(left.get(), "ab", 2, 0) == 2);
    REQUIRE(::send(left.get(), "!", 1, MSG_OOB) == 1);
    wait_for(right.get(), POLLPRI);
    reactor.run_once(no_wait);
    CHECK(probe.readables == 1);
    CHECK(probe.errors == 1);

    char bytes[8];
    REQUIRE(::recv(right.get(), bytes, sizeof bytes, 0) == 2);
    reactor.run_once(no_wait);
    CHECK(probe.readables == 1);
    CHECK(probe.errors == 2);
    CHECK_FALSE(right.pending_error());  // it is urgent data, not a failure

    registration.set_interest(readable);
    CHECK(reactor.run_once(no_wait) == 0);

    registration.set_interest(error);
    CHECK(reactor.run_once(no_wait) == 1);
    CHECK(probe.errors == 3);
    REQUIRE(::recv(right.get(), bytes, sizeof bytes, MSG_OOB) == 1);
    // Linux says urgent until the mark has been read past, if nothing else came (tcp(7)).
    REQUIRE(::send(left.get(), "c", 1, 0) == 1);
    wait_for(right.get(), POLLIN);
    REQUIRE(::recv(right.get(), bytes, sizeof bytes, 0) == 1);
    CHECK(reactor.run_once(no_wait) == 0);
}

TEST_CASE("S21: descriptors past FD_SETSIZE work like any other") {
    constexpr int numbers[] = {1023, 1024, 1025, 2000, 60'000, 70'000};
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    rlimit wanted{71'000, std::max<rlim_t>(before.rlim_max, 71'000)};
    if (::setrlimit(RLIMIT_NOFILE, &wanted) != 0) {  // only a privileged process may raise the hard limit
        wanted = {before.rlim_max, before.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &wanted) == 0);
    }
    {
        Reactor reactor;
        Pipe pipes[std::size(numbers)];
        Probe probes[std::size(numbers)];
        Registration registrations[std::size(numbers)];
        for (std::size_t i = 0; i < std::size(numbers); ++i) {
            if (rlim_t(numbers[i]) >= wanted.rlim_cur) {
                MESSAGE("skipped: the hard limit of open files forbids descriptors from " << numbers[i] << " on");
                break;
            }
            pipes[i].reading.reset(::fcntl(pipes[i].reading.get(), F_DUPFD, numbers[i]));
            REQUIRE(pipes[i].reading.get() == numbers[i]);
            registrations[i] = reactor.watch(numbers[i], readable, probes[i]);
        }
        for (std::size_t i = 0; i < std::size(numbers); ++i) {
            if (!registrations[i]) continue;
            pipes[i].write();
            CHECK(reactor.run_once(no_wait) == 1);
            CHECK(probes[i].readables == 1);
            pipes[i].read();
            CHECK(reactor.run_once(no_wait) == 0);
        }
        int called = 0;
        for (std::size_t i = 0; i < std::size(numbers); ++i)
            if (registrations[i]) pipes[i].write();
        reactor.run_once(no_wait);
        for (const Probe& probe : probes) called += probe.readables;
        CHECK(called == 2 * std::count_if(std::begin(registrations), std::end(registrations),
                                          [](const Registration& registration) { return bool(registration); }));
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("S23: a number closed and used again behind the loop's back ends with the interest that is wanted") {
    Reactor reactor;
    Pipe first, second;
    Probe probe;
    const int number = first.reading.get();
    Registration registration = reactor.watch(number, readable, probe);
    reactor.run_once(no_wait);
    REQUIRE(::dup2(second.writing.get(), number) == number);
    registration.set_interest(writable);
    reactor.run_once(no_wait);
    CHECK(probe.writables == 1);
    CHECK(probe.calls() == 1);
    registration.set_interest(readable);
    CHECK(reactor.run_once(no_wait) == 0);

    registration.reset();
    registration = reactor.watch(number, writable, probe);
    reactor.run_once(no_wait);
    CHECK(probe.writables == 2);
}

TEST_CASE("A backend that watches nothing any more takes the same number again, in its new life") {
    const std::unique_ptr<Demultiplexer> backend = make_demultiplexer("auto");
    Pipe pipe;
    pipe.write();
    for (std::uint32_t life = 1; life <= 3; ++life) {
        const Token token{pipe.reading.get(), life};
        backend->update(token, no_interest, readable);
        const auto events = backend->wait(no_wait);
        REQUIRE(events.size() == 1);
        CHECK(events[0].token == token);
        CHECK(events[0].condition == Condition::readable);
        backend->update(token, readable, no_interest);
        CHECK(backend->wait(no_wait).empty());
    }
}

TEST_CASE(
    "S23: a library may close its descriptor before it says so; the number works when it is watched for the next "
    "file") {
    for (const bool turn_between : {false, true}) {
        CAPTURE(turn_between);
        Reactor reactor;
        auto earlier = std::make_unique<Pipe>();
        Pipe later;
        const int number = earlier->reading.get();
        Probe before, after;
        Registration first = reactor.watch(number, readable, before), second;
        reactor.run_once(no_wait);
        REQUIRE(::dup2(later.reading.get(), number) == number);  // closed, and opened again at once
        const auto turn = [&] {
            if (turn_between) reactor.run_once(no_wait);
        };
        SUBCASE("ended, then watched anew") {
            turn();
            first.reset();
            turn();
            second = reactor.watch(number, readable, after);
        }
        SUBCASE("watched anew, then ended") {
            second = reactor.watch(number, readable, after);
            turn();
            first.reset();
        }
        SUBCASE("closed and not yet used again when it is ended") {
            earlier->reading.reset();
            turn();
            first.reset();
            REQUIRE(::dup2(later.reading.get(), number) == number);
            earlier->reading.reset(number);
            second = reactor.watch(number, readable, after);
        }
        reactor.run_once(no_wait);
        CHECK(after.calls() == 0);
        later.write();
        CHECK(reactor.run_once() == 1);
        CHECK(after.readables == 1);
        CHECK(before.readables == 0);
        later.read();
        CHECK(reactor.run_once(no_wait) == 0);
    }
}

TEST_CASE("S24: a removal reaches the backend before the close, whatever changes wait") {
    Reactor reactor;
    Probe probe;
    Pipe keeper;
    for (int i = 0; i < 3; ++i) {
        Pipe pipe;
        pipe.write();
        const FileDescriptor duplicate(::dup(pipe.reading.get()));
        Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
        reactor.run_once(no_wait);
        registration.set_interest(readable | writable);  // still waits to be handed over
        registration.reset();
        pipe.reading.reset();
        CHECK(reactor.run_once(no_wait) == 0);
    }
    CHECK(probe.readables == 3);
}

TEST_CASE("An interest that is changed and changed back before the wait costs nothing") {
    Reactor reactor;
    Pipe pipe;
    Probe probe;
    Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    reactor.run_once(no_wait);
    const std::uint64_t changes = reactor.counters().changes;
    for (int i = 0; i < 100; ++i) {
        registration.set_interest(readable | writable);
        registration.set_interest(readable);
    }
    reactor.run_once(no_wait);
    CHECK(reactor.counters().changes == changes);
    registration.set_interest(no_interest);
    registration.set_interest(writable);
    reactor.run_once(no_wait);
    CHECK(reactor.counters().changes == changes + 1);
    CHECK((registration.interest() == writable));
}

TEST_CASE("A registration that wants nothing, made and destroyed, costs the backend nothing") {
    Reactor reactor;
    Pipe pipe;
    Probe probe;
    reactor.run_once(no_wait);
    const std::uint64_t changes = reactor.counters().changes;
    for (const Interest interest : {no_interest, readable}) {
        const Registration registration = reactor.watch(pipe.reading.get(), interest, probe);
    }
    reactor.run_once(no_wait);
    CHECK(reactor.counters().changes == changes);
}

TEST_CASE("Several registrations of one descriptor each hear what they asked for") {
    Reactor reactor;
    auto [left, right] = Socket::pair();
    Probe reader, writer, both, idle;
    Registration reading = reactor.watch(left.get(), readable, reader);
    Registration writing = reactor.watch(left.get(), writable, writer);
    Registration doing_both = reactor.watch(left.get(), readable | writable, both);
    Registration idling = reactor.watch(left.get(), no_interest, idle);
    REQUIRE(::write(right.get(), "x", 1) == 1);
    reactor.run_once(no_wait);
    CHECK(reader.readables == 1);
    CHECK(reader.calls() == 1);
    CHECK(writer.writables == 1);
    CHECK(writer.calls() == 1);
    CHECK(both.readables == 1);
    CHECK(both.writables == 1);
    CHECK(idle.calls() == 0);

    doing_both.reset();
    writing.reset();
    reactor.run_once(no_wait);
    CHECK(reader.readables == 2);
    CHECK(both.calls() == 2);

    reading.set_interest(no_interest);
    CHECK(reactor.run_once(no_wait) == 0);
    idling.set_interest(writable);
    reactor.run_once(no_wait);
    CHECK(idle.writables == 1);
    CHECK(reader.readables == 2);
    reading.reset();
    idling.reset();
    CHECK(reactor.run_once(no_wait) == 0);
}

TEST_CASE("S5: of several registrations of one descriptor one may destroy the others, and add some, in its callback") {
    Reactor reactor;
    Pipe pipe;
    pipe.write();
    Probe probes[4];
    Registration registrations[4];
    probes[0].on_readable = [&] {
        if (probes[0].readables > 1) return;
        registrations[1].reset();
        for (int i = 0; i < 2; ++i) registrations[3] = reactor.watch(pipe.reading.get(), readable, probes[3]);
    };
    for (int i = 0; i < 3; ++i) registrations[i] = reactor.watch(pipe.reading.get(), readable, probes[i]);
    reactor.run_once(no_wait);
    CHECK(probes[0].readables == 1);
    CHECK(probes[1].readables == 0);
    CHECK(probes[2].readables == 1);
    CHECK(probes[3].readables == 0);
    reactor.run_once(no_wait);
    CHECK(probes[3].readables == 1);
    CHECK(probes[1].readables == 0);
}

TEST_CASE("The table of registrations may grow in a callback") {
    Reactor reactor;
    Pipe pipe;
    pipe.write();
    Probe probe, far_away;
    Registration registration, far_registration;
    const FileDescriptor high(::fcntl(pipe.reading.get(), F_DUPFD, 900));
    REQUIRE(high);
    probe.on_readable = [&] {
        far_registration = reactor.watch(high.get(), readable, far_away);
        registration.set_interest(no_interest);
    };
    registration = reactor.watch(pipe.reading.get(), readable, probe);
    reactor.run_once(no_wait);
    reactor.run_once(no_wait);
    CHECK(probe.readables == 1);
    CHECK(far_away.readables == 1);
}

TEST_CASE("Who does not ask for errors hears of them as readiness of what it wanted") {
    Reactor reactor;
    Pipe pipe;
    Probe probe;
    Registration registration;
    SUBCASE("a pipe that is full and has nobody to read it is writable") {
        pipe.fill();
        pipe.reading.reset();
        registration = reactor.watch(pipe.writing.get(), writable, probe);
        reactor.run_once(no_wait);
        CHECK(probe.writables == 1);
        CHECK(probe.calls() == 1);
    }
    SUBCASE("a pipe that nobody writes any more is readable") {
        pipe.writing.reset();
        registration = reactor.watch(pipe.reading.get(), readable, probe);
        reactor.run_once(no_wait);
        CHECK(probe.readables == 1);
        CHECK(probe.calls() == 1);
    }
    SUBCASE("a connection that was reset is both") {
        auto [left, right] = loopback_pair();
        left.set_linger(0s);
        left.close();
        wait_for(right.get(), POLLIN);
        registration = reactor.watch(right.get(), readable | writable, probe);
        reactor.run_once(no_wait);
        CHECK(probe.readables == 1);
        CHECK(probe.writables == 1);
        CHECK(probe.calls() == 2);
        registration.reset();
    }
}

TEST_CASE("Who asks for errors hears of a pending error by that name, on every backend") {
    Reactor reactor;
    Probe probe;
    Registration registration;
    SUBCASE("a full pipe without a reader: an error, and not writable") {
        Pipe pipe;
        pipe.fill();
        pipe.reading.reset();
        for (const Interest interest : {error, error | writable}) {
            probe = {};
            registration = reactor.watch(pipe.writing.get(), interest, probe);
            reactor.run_once(no_wait);
            CHECK(probe.errors == 1);
            CHECK(probe.calls() == 1);
            registration.reset();
        }
    }
    SUBCASE("a reset connection: readable and an error") {
        auto [left, right] = loopback_pair();
        left.set_linger(0s);
        left.close();
        wait_for(right.get(), POLLIN);
        registration = reactor.watch(right.get(), readable | error, probe);
        reactor.run_once(no_wait);
        CHECK(probe.readables == 1);
        CHECK(probe.errors == 1);
        CHECK(probe.calls() == 2);
        CHECK(right.pending_error() == std::errc::connection_reset);
        registration.reset();
    }
    SUBCASE("a hang-up is an error for who wants nothing else, and the end of reading for who reads") {
        Pipe pipe;
        pipe.writing.reset();
        registration = reactor.watch(pipe.reading.get(), error, probe);
        reactor.run_once(no_wait);
        CHECK(probe.errors == 1);
        registration.set_interest(readable | error);
        reactor.run_once(no_wait);
        CHECK(probe.readables == 1);
        CHECK(probe.errors == 1);
        registration.reset();
    }
    SUBCASE("data is nothing to who wants only errors") {
        Pipe pipe;
        pipe.write();
        registration = reactor.watch(pipe.reading.get(), error, probe);
        CHECK(reactor.run_once(no_wait) == 0);
        CHECK(probe.calls() == 0);
        registration.reset();
    }
    SUBCASE("two registrations, one for errors and one for writing, each in its own word") {
        Pipe pipe;
        pipe.fill();
        pipe.reading.reset();
        Probe writer;
        registration = reactor.watch(pipe.writing.get(), error, probe);
        const Registration writing = reactor.watch(pipe.writing.get(), writable, writer);
        reactor.run_once(no_wait);
        CHECK(probe.errors == 1);
        CHECK(probe.calls() == 1);
        CHECK(writer.writables == 1);
        CHECK(writer.calls() == 1);
        registration.reset();
    }
}

TEST_CASE("S25: of many ready descriptors each is served once a turn") {
    Reactor reactor;
    std::vector<Pipe> pipes(200);
    std::vector<Probe> probes(200);
    std::vector<Registration> registrations;
    for (std::size_t i = 0; i < pipes.size(); ++i) {
        pipes[i].write();
        registrations.push_back(reactor.watch(pipes[i].reading.get(), readable, probes[i]));
    }
    for (int turn = 0; turn < 8; ++turn) reactor.run_once(no_wait);
    const auto [least, most] = std::minmax_element(
        probes.begin(), probes.end(), [](const Probe& a, const Probe& b) { return a.readables < b.readables; });
    CHECK(least->readables >= 7);  // epoll's first batch holds 128
    CHECK(most->readables <= 8);
}

TEST_CASE(
    "Random registrations, interests and removals: after each the ones that want something hear it, and no others") {
    for (unsigned seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        const auto pick = [&](std::size_t bound) { return random() % bound; };
        Reactor reactor;
        constexpr std::size_t count = 20;
        std::vector<std::pair<Socket, Socket>> pairs;
        std::vector<Probe> probes(count);
        std::vector<Registration> registrations(count);
        std::vector<Interest> model(count, no_interest);
        for (std::size_t i = 0; i < count; ++i) {
            pairs.push_back(Socket::pair());
            REQUIRE(::write(pairs[i].second.get(), "x", 1) == 1);
        }
        for (int step = 0; step < 300; ++step) {
            for (std::size_t changes = pick(4); changes > 0; --changes) {
                const std::size_t i = pick(count);
                constexpr Interest interests[] = {Interest::none, Interest::readable, Interest::writable,
                                                  Interest::readable | Interest::writable};
                const Interest interest = interests[pick(4)];
                if (pick(4) == 0) {
                    registrations[i].reset();
                    model[i] = no_interest;
                    continue;
                }
                if (registrations[i]) {
                    registrations[i].set_interest(interest);
                } else {
                    registrations[i] = reactor.watch(pairs[i].first.get(), interest, probes[i]);
                }
                model[i] = interest;
            }
            for (Probe& probe : probes) probe = {};
            reactor.run_once(no_wait);
            for (std::size_t i = 0; i < count; ++i) {
                REQUIRE(probes[i].readables == int(any(model[i], readable)));
                REQUIRE(probes[i].writables == int(any(model[i], writable)));
                REQUIRE(probes[i].errors + probes[i].losses == 0);
            }
        }
    }
}

// ── triggers and hooks ──

TEST_CASE(
    "A trigger is told like readiness: once, if it is wanted, and in the same turn where that is still possible") {
    Reactor reactor;
    Pipe pipe;
    Probe probe;
    Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    registration.trigger(readable | writable | error);
    CHECK(probe.calls() == 0);
    CHECK(reactor.next_timeout() == no_wait);
    reactor.run_once();
    CHECK(probe.readables == 1);
    CHECK(probe.calls() == 1);
    CHECK(reactor.run_once(no_wait) == 0);
    CHECK(probe.calls() == 1);

    SUBCASE("from its own callback: the same turn, and one turn each from then on") {
        pipe.write();
        probe.on_readable = [&] {
            pipe.read();
            registration.trigger(readable);
        };
        reactor.run_once(no_wait);
        CHECK(probe.readables == 3);
        reactor.run_once();
        CHECK(probe.readables == 4);
    }
    SUBCASE("not if the interest is gone by then") {
        registration.trigger(readable);
        registration.set_interest(writable);
        reactor.run_once();
        CHECK(probe.calls() == 1);
    }
    SUBCASE("not if the registration is gone by then, even if the number is not") {
        registration.trigger(readable);
        registration.reset();
        registration = reactor.watch(pipe.reading.get(), readable, probe);
        reactor.run_once(no_wait);
        CHECK(probe.calls() == 1);
    }
    SUBCASE("to one of several registrations") {
        Probe other;
        const Registration second = reactor.watch(pipe.reading.get(), readable, other);
        registration.trigger(readable);
        reactor.run_once();
        CHECK(probe.readables == 2);
        CHECK(other.calls() == 0);
    }
    SUBCASE("from a timer: in the next turn") {
        Timer timer(reactor, [&] { registration.trigger(readable); });
        timer.start(no_wait);
        reactor.run_once();
        CHECK(probe.readables == 1);
        reactor.run_once();
        CHECK(probe.readables == 2);
    }
}

TEST_CASE("S69: a trigger of two kinds whose first call throws still brings the second") {
    Reactor reactor;
    auto [left, right] = Socket::pair();
    Pipe full;
    full.fill();
    Probe probe;
    probe.on_readable = [] { throw std::runtime_error("as planned"); };
    Registration registration = reactor.watch(full.writing.get(), readable | writable, probe);
    registration.trigger(readable | writable);
    CHECK_THROWS_AS(reactor.run_once(), std::runtime_error);
    CHECK(probe.readables == 1);
    CHECK(probe.writables == 1);
}

TEST_CASE("Hooks run before and after each wait, and what they change before it counts for it") {
    Reactor reactor;
    Pipe pipe;
    pipe.write();
    std::vector<std::string> story;
    Probe probe;
    probe.on_readable = [&] { story.push_back("readable"); };
    Registration registration = reactor.watch(pipe.reading.get(), no_interest, probe);
    const Hook before(reactor, Hook::When::before_wait, [&] {
        story.push_back("before");
        registration.set_interest(readable);
    });
    const Hook after(reactor, Hook::When::after_wait, [&] { story.push_back("after"); });
    reactor.run_once();
    CHECK(story == std::vector<std::string>{"before", "after", "readable"});
}

TEST_CASE("Hooks may make and destroy each other while they run; those that are made run from the next turn on") {
    Reactor reactor;
    std::unique_ptr<Hook> victim, child;
    int first = 0, victims = 0, children = 0;
    const Hook hook(reactor, Hook::When::before_wait, [&] {
        ++first;
        victim.reset();
        std::vector<std::unique_ptr<Hook>> many;  // enough to move the list
        for (int i = 0; i < 100; ++i)
            many.push_back(std::make_unique<Hook>(reactor, Hook::When::before_wait, [] { FAIL("destroyed"); }));
        if (!child) child = std::make_unique<Hook>(reactor, Hook::When::before_wait, [&] { ++children; });
    });
    victim = std::make_unique<Hook>(reactor, Hook::When::before_wait, [&] { ++victims; });
    reactor.run_once(no_wait);
    CHECK(children == 0);
    reactor.run_once(no_wait);
    CHECK(first == 2);
    CHECK(victims == 0);
    CHECK(children == 1);
}

TEST_CASE("S92: a hook that makes its successor in its own call, and so destroys itself, lets each turn end") {
    for (const Hook::When when : {Hook::When::before_wait, Hook::When::after_wait}) {
        Reactor reactor;
        int calls = 0;
        std::unique_ptr<Hook> hook;
        std::function<void()> again = [&, big = std::string(100, 'x')] {
            if (++calls > 100) return;  // a turn without an end
            hook = std::make_unique<Hook>(reactor, when, again);
            CHECK(big.size() == 100);
        };
        hook = std::make_unique<Hook>(reactor, when, again);
        for (int turn = 1; turn <= 5; ++turn) {
            reactor.run_once(no_wait);
            CHECK(calls == turn);
        }
    }
}

TEST_CASE("A deferred call comes once, at the end of the turn that is under way, or of the next one if none is") {
    Reactor reactor;
    Pipe pipe;
    pipe.write();
    std::string story;
    Deferred deferred;
    const auto defer = [&](const char* from) {
        deferred = reactor.defer([&, from] {
            CHECK_FALSE(deferred.waiting());
            CHECK_FALSE(deferred.cancel());
            story += std::string(from) + " deferred";
        });
        CHECK(deferred.waiting());
        CHECK(reactor.next_timeout() == no_wait);
    };
    struct Owned final : OwnedHandler {
        std::function<void()> on_readable, on_retired;
        void readable() override { on_readable(); }
        void retired() override { on_retired(); }
    };
    auto owned = std::make_unique<Owned>();
    Owned& handler = *owned;
    Registration registration = reactor.adopt(pipe.reading.get(), no_interest, std::move(owned));
    std::optional<Hook> hook;
    Timer timer(reactor, [&] {
        story += "timer, ";
        defer("timer");
    });
    const char* expected = nullptr;
    SUBCASE("outside of any turn") {
        defer("outside");
        expected = "outside deferred";
    }
    SUBCASE("in a hook before the wait, which then takes no time") {
        hook.emplace(reactor, Hook::When::before_wait, [&] {
            if (story.empty()) defer("hook");
        });
        expected = "hook deferred";
    }
    SUBCASE("in a handler, before posted work") {
        registration.set_interest(readable);
        handler.on_readable = [&] {
            defer("handler");
            reactor.post([&] { story += "posted, "; });
        };
        expected = "posted, handler deferred";
    }
    SUBCASE("in a timer") {
        timer.start(no_wait);
        expected = "timer, timer deferred";
    }
    SUBCASE("in posted work") {
        reactor.post([&] { defer("task"); });
        expected = "task deferred";
    }
    SUBCASE("in the last call of a handler that is retired") {
        handler.on_retired = [&] { defer("retired"); };
        registration.reset();
        expected = "retired deferred";
    }
    if (handler.on_retired == nullptr) handler.on_retired = [] {};
    reactor.run_once();
    CHECK(story == expected);
    hook.reset();
    registration.reset();
    reactor.run_once(no_wait);
    reactor.run_once(no_wait);
    CHECK(story == expected);
}

TEST_CASE(
    "S92: a deferred call may defer again, which comes a turn later, and destroy what keeps it; its captures live on") {
    Reactor reactor;
    int calls = 0;
    auto deferred = std::make_unique<Deferred>();
    std::function<void()> again = [&, big = std::string(100, 'x')] {
        ++calls;
        deferred = std::make_unique<Deferred>(reactor.defer(again));
        CHECK(big.size() == 100);
    };
    *deferred = reactor.defer(again);
    for (int turn = 1; turn <= 5; ++turn) {
        reactor.run_once();
        CHECK(calls == turn);
    }
    deferred.reset();
    CHECK_FALSE(reactor.next_timeout());
    reactor.run_once(no_wait);
    CHECK(calls == 5);
}

TEST_CASE(
    "S57: a deferred call that is cancelled, or whose keeper is destroyed or assigned to, never comes, nor wakes the "
    "loop") {
    Reactor reactor;
    reactor.run_once(no_wait);
    int destroyed = 0, calls = 0;
    const auto make = [&] {
        return reactor.defer([token = std::make_unique<OnDestruction>([&] { ++destroyed; })] { FAIL("called"); });
    };
    Deferred one = make(), other, later;
    SUBCASE("cancelled") {
        CHECK(one.cancel());
    }
    SUBCASE("destroyed") {
        const Deferred moved = std::move(one);
    }
    SUBCASE("assigned to") {
        one = Deferred();
    }
    SUBCASE("by one that is called before it, in the same turn") {
        one = Deferred();
        destroyed = 0;
        other = reactor.defer([&] {
            ++calls;
            CHECK(one.cancel());
            CHECK(later.waiting());
        });
        one = make();
        later = reactor.defer([&] { ++calls; });
        reactor.run_once();
        CHECK(calls == 2);
    }
    CHECK(destroyed == 1);
    CHECK_FALSE(one.waiting());
    CHECK_FALSE(one.cancel());
    CHECK_FALSE(reactor.next_timeout());
    reactor.run_once(no_wait);
    CHECK(destroyed == 1);
    CHECK_THROWS_AS((void)reactor.defer({}), std::invalid_argument);
}

TEST_CASE("S8: a reactor destroyed destroys deferred calls and calls none, also if one holds the keeper of another") {
    int destroyed = 0;
    {
        std::optional<Deferred> outlives;  // the closures, but not the reactor
        Reactor reactor;
        Deferred kept =
            reactor.defer([token = std::make_unique<OnDestruction>([&] { ++destroyed; })] { FAIL("called"); });
        reactor.defer([keeper = std::move(kept)] { FAIL("called"); }).cancel();
        CHECK(destroyed == 1);
        outlives = reactor.defer([token = std::make_unique<OnDestruction>([&] {
                                      ++destroyed;
                                      outlives.reset();
                                  })] { FAIL("called"); });
    }
    CHECK(destroyed == 2);
}

TEST_CASE("S69: an exception out of a deferred call costs the others nothing") {
    Reactor reactor;
    int calls = 0;
    const Deferred first = reactor.defer([] { throw std::runtime_error("as planned"); });
    const Deferred second = reactor.defer([&] { ++calls; });
    CHECK_THROWS_WITH(reactor.run_once(), "as planned");
    CHECK(calls == 1);
}

// A loop that knows of another one only what it may: sleeps if nothing is planned, and would then sleep for ever.
static bool outer_loop_would_turn(Reactor& inner) {
    pollfd entry{inner.native_handle(), POLLIN, 0};  // a negative number is left out
    return inner.next_timeout() == no_wait || ::poll(&entry, 1, 0) == 1;
}

TEST_CASE("S107: inside another loop a hook before the wait sees what callbacks left for it, and then the loop rests") {
    Reactor reactor;
    Pipe pipe;
    Probe probe;
    bool left = false, done = false;
    const auto leave = [&] { left = true; };
    probe.on_readable = [&] {
        pipe.read();
        leave();
    };
    const Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    reactor.run_once(no_wait);
    std::optional<Hook> hook, after;
    const auto make_hook = [&] {
        hook.emplace(reactor, Hook::When::before_wait, [&] {
            if (std::exchange(left, false)) done = true;
        });
    };
    SUBCASE("when it is made") {
        leave();
        make_hook();
    }
    make_hook();
    bool both = false;
    SUBCASE("with one after the wait too, which also runs in every turn") {
        both = true;
    }
    SUBCASE("with one before it alone") {}
    if (both) after.emplace(reactor, Hook::When::after_wait, [] {});
    while (outer_loop_would_turn(reactor)) reactor.run_once(no_wait);
    CHECK_FALSE(left);
    Timer timer(reactor, leave);
    Deferred deferred;
    Pipe other, third;
    Probe triggered;
    triggered.on_readable = leave;
    const Registration to_trigger = reactor.watch(other.reading.get(), readable, triggered);
    struct Retiring final : OwnedHandler {
        explicit Retiring(std::function<void()> call) : last_call(std::move(call)) {}
        void retired() override { last_call(); }
        std::function<void()> last_call;
    };
    Registration to_retire = reactor.adopt(third.reading.get(), readable, std::make_unique<Retiring>(leave));
    reactor.run_once(no_wait);
    const std::function<void()> causes[] = {
        [&] { pipe.write(); },
        [&] { timer.start(no_wait); },
        [&] { reactor.post(leave); },
        [&] { deferred = reactor.defer(leave); },
        [&] { to_trigger.trigger(readable); },
        [&] { to_retire.reset(); },
    };
    for (const auto& cause : causes) {
        done = false;
        cause();
        int turns = 0;
        // The backends without a descriptor are given a turn by time alone.
        do reactor.run_once(no_wait);
        while (++turns < 10 && outer_loop_would_turn(reactor));
        CHECK(done);
        CHECK(turns < 5);  // and no longer
    }
}

TEST_CASE("S107: inside another loop a hook after the wait may leave something for one before it") {
    Reactor reactor;
    bool left = false;
    int done = 0;
    const Hook after(reactor, Hook::When::after_wait, [&] { left = done == 0; });
    const Hook before(reactor, Hook::When::before_wait, [&] {
        if (std::exchange(left, false)) ++done;
    });
    while (outer_loop_would_turn(reactor)) reactor.run_once(no_wait);
    CHECK(done == 1);
}

TEST_CASE("S107: inside another loop a regular file is always ready, and triggers and changed interests are seen") {
    Reactor reactor;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
    REQUIRE(file);
    Probe probe;
    Registration registration = reactor.watch(::fileno(file.get()), readable, probe);
    CHECK(outer_loop_would_turn(reactor));
    reactor.run_once(no_wait);
    CHECK(probe.readables == 1);
    if (is_epoll(reactor)) CHECK(outer_loop_would_turn(reactor));  // its descriptor does not know the file
    registration.set_interest(no_interest);
    CHECK(outer_loop_would_turn(reactor));
    reactor.run_once(no_wait);
    CHECK_FALSE(outer_loop_would_turn(reactor));
    registration.trigger(readable);
    CHECK(outer_loop_would_turn(reactor));
    reactor.run_once(no_wait);
    CHECK_FALSE(outer_loop_would_turn(reactor));
}

// ── F. timers ──

TEST_CASE("S53, S54: a timer of the machine's clock is never early, whatever its delay, and does not spin") {
    Reactor reactor;
    for (const Duration delay : {Duration(1), Duration(999), Duration(300us), Duration(999'999), Duration(1ms),
                                 Duration(1'000'001), Duration(1'500us), Duration(2'999'999)}) {
        CAPTURE(delay.count());
        TimePoint came{};
        Timer timer(reactor, [&] {
            came = reactor.now();
            reactor.stop();
        });
        const std::uint64_t turns = reactor.counters().turns;
        const TimePoint deadline = reactor.now() + delay;
        timer.start_at(deadline);
        reactor.run();
        CHECK((came >= deadline));
        CHECK(reactor.counters().turns - turns <= 2 + interruptions());
    }
}

TEST_CASE("S55: delays of 0, 1 ns, INT_MAX ms and its neighbours and the longest of all come when they should") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    const Duration most = std::chrono::milliseconds(INT_MAX);
    for (const Duration delay :
         {Duration(0), Duration(1), most - 1ms, most, most + 1ms, Duration(-1), Duration::min()}) {
        CAPTURE(delay.count());
        int calls = 0;
        Timer timer(reactor, [&] { ++calls; });
        timer.start(delay);
        CHECK(reactor.next_timeout() == std::max(delay, no_wait));
        if (delay > no_wait) {
            clock.advance(delay - 1ns);
            reactor.run_once(no_wait);
            CHECK(calls == 0);
            clock.advance(1ns);
        }
        reactor.run_once(no_wait);
        CHECK(calls == 1);
        CHECK_FALSE(reactor.next_timeout());
    }
    Timer never(reactor, [] { FAIL("called"); });
    never.start(Duration::max());
    CHECK(never.deadline() == TimePoint::max());
    reactor.run_once(no_wait);

    // The kernel takes such a limit: something is ready, so that the loop does not wait for it.
    Pipe pipe;
    pipe.write();
    Probe probe;
    const Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    for (const Duration limit : {most - 1ms, most, most + 1ms, Duration::max()}) CHECK(reactor.run_once(limit) == 1);
    CHECK(reactor.run_once() == 1);
}

TEST_CASE(
    "S55, S91: a deadline at the beginning of time is due at once and one at its end never, whatever the clock says") {
    for (const TimePoint start : {TimePoint(1h), TimePoint{}, TimePoint(-1h), TimePoint::min()}) {
        CAPTURE(start.time_since_epoch().count());
        testing::ManualClock clock(start);
        Reactor reactor("auto", clock);
        reactor.run_once(no_wait);
        std::string order;
        Timer one(reactor, [&] { order += '1'; }), other(reactor, [&] { order += '2'; });
        Timer never(reactor, [] { FAIL("called"); });
        never.start_at(TimePoint::max());
        REQUIRE(reactor.next_timeout());
        CHECK(*reactor.next_timeout() >= Duration::max() - 1h);

        one.start_at(TimePoint::min());
        other.start_at(TimePoint::min());
        one.start_at(TimePoint::min());  // now the second of them
        CHECK(reactor.next_timeout() == no_wait);
        reactor.run_once();
        CHECK(order == "21");

        reactor.post([&] { reactor.stop(); });
        reactor.run_for(Duration::max());
        one.start_periodic(Duration::max());
        CHECK((one.deadline() == deadline_after(start, Duration::max())));
        CHECK(reactor.run_once(no_wait) == 0);
    }
    static_assert(deadline_after(TimePoint::min(), Duration::max()) == TimePoint(-1ns));
    static_assert(deadline_after(TimePoint(1ns), Duration::max()) == TimePoint::max());
    static_assert(time_between(TimePoint::min(), TimePoint::max()) == Duration::max());
    static_assert(time_between(TimePoint::max(), TimePoint::min()) == Duration::zero());
    static_assert(time_between(TimePoint(-1ns), TimePoint::max()) == Duration::max());
    static_assert(time_between(TimePoint(1ns), TimePoint::max()) == Duration::max() - 1ns);
}

TEST_CASE("S56: a zero timer that starts itself again leaves every turn to input") {
    Reactor reactor;
    Pipe pipe;
    pipe.write();
    Probe probe;
    const Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    int calls = 0;
    std::unique_ptr<Timer> timer;
    timer = std::make_unique<Timer>(reactor, [&] {
        ++calls;
        timer->start(no_wait);
    });
    timer->start(no_wait);
    for (int turn = 0; turn < 10; ++turn) reactor.run_once();
    CHECK(calls == 10);
    CHECK(probe.readables == 10);
}

TEST_CASE("S57: a timer cancelled by another of the same turn never fires, and cancel says who won") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    int calls = 0;
    bool won = false;
    Timer second(reactor, [&] { ++calls; });
    Timer first(reactor, [&] { won = second.cancel(); });
    first.start(1s);
    second.start(1s);
    clock.advance(2s);
    reactor.run_once(no_wait);
    reactor.run_once(no_wait);
    CHECK(won);
    CHECK(calls == 0);
    CHECK_FALSE(second.cancel());
    CHECK_FALSE(first.cancel());
}

TEST_CASE("S58: a timer may be restarted, made periodic and cancelled in its own callback") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    int calls = 0;
    std::unique_ptr<Timer> timer;
    std::function<void()> action;
    timer = std::make_unique<Timer>(reactor, [&] {
        ++calls;
        action();
    });
    SUBCASE("restarted") {
        action = [&] { timer->start(5s); };
        timer->start(1s);
        clock.advance(1s);
        reactor.run_once(no_wait);
        CHECK(timer->active());
        clock.advance(4s);
        reactor.run_once(no_wait);
        CHECK(calls == 1);
        clock.advance(1s);
        reactor.run_once(no_wait);
        CHECK(calls == 2);
    }
    SUBCASE("a periodic one cancelled") {
        action = [&] { CHECK(timer->cancel()); };
        timer->start_periodic(1s);
        for (int i = 0; i < 3; ++i) {
            clock.advance(1s);
            reactor.run_once(no_wait);
        }
        CHECK(calls == 1);
    }
    SUBCASE("a periodic one made to fire once more") {
        action = [&] {
            if (calls == 1) timer->start(1s);
        };
        timer->start_periodic(1s);
        for (int i = 0; i < 5; ++i) {
            clock.advance(1s);
            reactor.run_once(no_wait);
        }
        CHECK(calls == 2);
    }
}

TEST_CASE("S59, S62: a periodic timer keeps to its grid, fires once after a long pause and says what it missed") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    int calls = 0;
    Timer timer(reactor, [&] { ++calls; });
    const TimePoint start = clock.now();
    timer.start_periodic(10s);
    for (int k = 1; k <= 1000; ++k) {
        clock.set(start + 10s * k + 3s);  // always late
        reactor.run_once(no_wait);
        REQUIRE(calls == k);
        REQUIRE(timer.missed() == 0);
        REQUIRE((timer.deadline() == start + 10s * (k + 1)));
    }
    clock.advance(100s);
    reactor.run_once(no_wait);
    reactor.run_once(no_wait);
    CHECK(calls == 1001);
    CHECK(timer.missed() == 9);
    CHECK((timer.deadline() == start + 10s * 1011));
    CHECK_THROWS_AS(timer.start_periodic(no_wait), std::invalid_argument);
}

TEST_CASE("S60: a timer set after a long callback counts from now, not from the start of the turn") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Pipe pipe;
    pipe.write();
    Probe probe;
    int calls = 0;
    Timer timer(reactor, [&] { ++calls; });
    probe.on_readable = [&] {
        pipe.read();
        CHECK((reactor.turn_time() == clock.now()));
        clock.advance(10s);
        timer.start(5s);
    };
    const Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    reactor.run_once(no_wait);
    CHECK(calls == 0);
    CHECK(reactor.next_timeout() == 5s);
    clock.advance(5s);
    reactor.run_once(no_wait);
    CHECK(calls == 1);
}

TEST_CASE("Each iteration has one time, and in a run the next iteration has another") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    const TimePoint start = clock.now();
    int iterations = 0;
    std::function<void()> note = [&] {
        CHECK((reactor.turn_time() == start + 10s * iterations));
        clock.advance(10s);
        CHECK((reactor.turn_time() == start + 10s * iterations));
        ++iterations < 3 ? void(reactor.post(note)) : reactor.stop();
    };
    reactor.post(note);
    reactor.run();
    CHECK(iterations == 3);
    CHECK((reactor.turn_time() == clock.now()));
}

TEST_CASE("S61: a million restarts and cancels of timers leave no trace") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    reactor.run_once(no_wait);
    std::vector<std::unique_ptr<Timer>> timers;
    for (int i = 0; i < 1000; ++i) timers.push_back(std::make_unique<Timer>(reactor, [] { FAIL("called"); }));
    for (int round = 0; round < 1000; ++round) {
        for (auto& timer : timers) timer->start(std::chrono::seconds(1 + round));
        REQUIRE(Internals(reactor).timers().size() == 1000);
        if (round % 2 == 0)
            for (auto& timer : timers) timer->cancel();
    }
    timers.clear();
    CHECK(Internals(reactor).timers().size() == 0);
    CHECK_FALSE(reactor.next_timeout());
}

// ── G. threads and control ──

TEST_CASE("S63: of many threads' posts none is lost, and each thread's run in order") {
    Reactor reactor;
    constexpr int threads = 4, posts = 50'000;
    std::vector<int> seen(threads, 0);
    int total = 0;
    bool in_order = true;
    std::vector<std::thread> posters;
    for (int thread = 0; thread < threads; ++thread)
        posters.emplace_back([&, thread] {
            for (int i = 0; i < posts; ++i)
                reactor.post([&, thread, i] {
                    in_order = in_order && seen[std::size_t(thread)] == i;
                    ++seen[std::size_t(thread)];
                    if (++total == threads * posts) reactor.stop();
                });
        });
    reactor.run();
    for (std::thread& poster : posters) poster.join();
    CHECK(total == threads * posts);
    CHECK(in_order);
    CHECK(reactor.counters().tasks == threads * posts);
}

TEST_CASE("S63: a post wakes a loop that is just going to sleep, ten thousand times") {
    Reactor reactor;
    std::atomic<int> done{0};
    std::thread poster([&] {
        for (int i = 1; i <= 10'000; ++i) {
            reactor.post([&, i] {
                done = i;
                done.notify_one();
            });
            for (int seen = done; seen != i; seen = done) done.wait(seen);  // so the loop sleeps each time
        }
        reactor.stop();
    });
    reactor.run();
    poster.join();
    CHECK(done == 10'000);
}

TEST_CASE("S64: any number of posts to a sleeping loop wake it once") {
    Reactor reactor;
    int calls = 0;
    std::thread poster([&] {
        for (int i = 0; i < 1000; ++i) reactor.post([&] { ++calls; });
    });
    poster.join();
    while (calls < 1000) reactor.run_once();
    reactor.run_once(no_wait);
    CHECK(reactor.counters().wakeups == 1);

    Probe probe;
    Pipe pipe;
    pipe.write();
    probe.on_readable = [&] {
        pipe.read();
        for (int i = 0; i < 1000; ++i) reactor.post([&] { ++calls; });  // it is awake: no wake-up at all
    };
    const Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    while (calls < 2000) reactor.run_once();
    reactor.run_once(no_wait);
    CHECK(reactor.counters().wakeups == 1);
}

TEST_CASE("A busy wait looks again after a turn with little to do, and sleeps after an idle or a crowded one") {
    testing::ManualClock clock;
    auto made = std::make_unique<testing::ScriptedDemultiplexer>(clock);
    testing::ScriptedDemultiplexer& script = *made;
    Reactor reactor(std::move(made), clock);
    struct : EventHandler {
    } handler;
    std::vector<Registration> registrations;
    std::vector<Event> crowd;
    for (int descriptor = 1000; descriptor < 1005; ++descriptor) {
        registrations.push_back(reactor.watch(descriptor, Interest::readable, handler));
        crowd.push_back(testing::ready(descriptor, Condition::readable));
    }
    const std::vector<Event> one(crowd.begin(), crowd.begin() + 1);
    reactor.set_busy_wait(std::chrono::microseconds(50));

    for (const auto& batch : {one, one, crowd, one, one}) script.report(batch, std::chrono::milliseconds(1));
    std::vector<std::uint64_t> looks;
    for (int turn = 0; turn < 5; ++turn) {
        const std::uint64_t before = reactor.counters().looks;
        CHECK(reactor.run_once() > 0);
        looks.push_back(reactor.counters().looks - before);
    }
    CHECK(looks[0] == 0);
    CHECK(looks[1] > 0);
    CHECK(looks[2] > 0);
    CHECK(looks[3] == 0);
    CHECK(looks[4] > 0);

    script.report(one);
    reactor.run_once();
    CHECK(reactor.run_once(std::chrono::milliseconds(3)) ==
          0);  // nothing came: the whole limit has passed, and no more
    const std::uint64_t before = reactor.counters().looks;
    CHECK(reactor.run_once(std::chrono::milliseconds(3)) == 0);
    CHECK(reactor.counters().looks == before);
}

TEST_CASE("S65: a reactor that is being destroyed refuses posts and destroys the closure once, unrun") {
    int destroyed = 0, refused = 0;
    auto reactor = std::make_unique<Reactor>();
    Reactor& dying = *reactor;
    reactor->post([token = std::make_unique<OnDestruction>([&] {
                       auto inner = std::make_unique<OnDestruction>([&] { ++destroyed; });
                       if (!dying.post([moved = std::move(inner)] { FAIL("called"); })) ++refused;
                   })] { FAIL("called"); });
    reactor.reset();
    CHECK(refused == 1);
    CHECK(destroyed == 1);
}

TEST_CASE("S66: a prepared task is posted once, runs before the other posted work, and may post what runs next time") {
    Reactor reactor;
    std::string order;
    PreparedPost empty, task([&] {
        order += 'p';
        reactor.post(PreparedPost([&] { order += 'n'; }));
    });
    CHECK_FALSE(reactor.post(std::move(empty)));
    reactor.post([&] { order += 't'; });
    CHECK(reactor.post(std::move(task)));
    CHECK_FALSE(reactor.post(std::move(task)));
    CHECK(reactor.next_timeout() == no_wait);
    reactor.run_once();
    CHECK(order == "pt");
    CHECK(reactor.counters().tasks == 2);
    reactor.run_once();
    CHECK(order == "ptn");
    Reactor sleeping;
    sleeping.post(PreparedPost([] {}));
    sleeping.run_once();
    CHECK(sleeping.counters().wakeups == 1);
    CHECK_THROWS_AS((void)PreparedPost(nullptr), std::invalid_argument);
}

TEST_CASE("S65: a reactor that is being destroyed destroys a prepared task unrun, whether it has it or refuses it") {
    int destroyed = 0;
    auto reactor = std::make_unique<Reactor>();
    Reactor& dying = *reactor;
    const auto count = [&] { return std::make_unique<OnDestruction>([&] { ++destroyed; }); };
    reactor->post(PreparedPost([last = count()] { FAIL("called"); }));
    reactor->post([token = std::make_unique<OnDestruction>([&] {
                       CHECK_FALSE(dying.post(PreparedPost([late = count()] { FAIL("called"); })));
                   })] { FAIL("called"); });
    reactor.reset();
    CHECK(destroyed == 2);
}

TEST_CASE("S66: what posted work posts waits for the next turn") {
    Reactor reactor;
    int calls = 0;
    std::function<void()> again = [&] {
        ++calls;
        reactor.post([&] { again(); });
    };
    reactor.post([&] { again(); });
    for (int turn = 1; turn <= 5; ++turn) {
        reactor.run_once();
        CHECK(calls == turn);
    }
}

TEST_CASE("S67: stop before a run holds for the next one, which returns at once; each return uses it up") {
    Reactor reactor;
    int calls = 0;
    reactor.stop();
    reactor.stop();
    reactor.post([&] { ++calls; });
    SUBCASE("run") {
        reactor.run();
        CHECK(reactor.counters().turns == 0);
        CHECK(calls == 0);
    }
    SUBCASE("run_for") {
        reactor.run_for(1h);
        CHECK(reactor.counters().turns == 0);
    }
    SUBCASE("run_once makes a turn that does not wait") {
        reactor.run_once();
        CHECK(reactor.counters().turns == 1);
    }
    // Used up: the next run ends by its own stop.
    bool reached = false;
    reactor.post([&] {
        reached = true;
        reactor.stop();
    });
    reactor.run();
    CHECK(reached);
    CHECK(calls == 1);
}

TEST_CASE("S67: stop inside a callback lets the turn end and returns; then the loop runs again") {
    Reactor reactor;
    for (const auto& run : ways_to_run) {
        std::vector<std::string> story;
        Timer timer(reactor, [&] {
            story.push_back("timer");
            reactor.stop();
            reactor.post([&] { story.push_back("posted"); });
        });
        timer.start(no_wait);
        run(reactor);
        CHECK(story == std::vector<std::string>{"timer", "posted"});
    }
}

TEST_CASE("S67: stop from another thread ends a wait without a limit") {
    Reactor reactor;
    for (int round = 0; round < 100; ++round)
        for (const auto& run : ways_to_run) {
            std::thread stopper([&] { reactor.stop(); });
            run(reactor);
            stopper.join();
        }
}

TEST_CASE("S67: a stop in the last turn of run_for is used up by its return") {
    Reactor reactor;
    reactor.post([&] { reactor.stop(); });
    reactor.run_for(no_wait);
    bool reached = false;
    reactor.post([&] {
        reached = true;
        reactor.stop();
    });
    reactor.run();
    CHECK(reached);
}

TEST_CASE("S68: run inside run is an error, and the outer loop goes on") {
    Reactor reactor;
    int refused = 0;
    bool after = false;
    reactor.post([&] {
        for (const auto& run : ways_to_run) {
            try {
                run(reactor);
            } catch (const std::logic_error&) {
                ++refused;
            }
        }
        reactor.post([&] {
            after = true;
            reactor.stop();
        });
    });
    reactor.run();
    CHECK(refused == 3);
    CHECK(after);
}

TEST_CASE("S69: an exception out of a handler does not end its turn: nothing that was due is lost or repeated") {
    Reactor reactor;
    Pipe pipes[3];
    Probe probes[3];
    Registration registrations[3];
    int timers = 0, tasks = 0;
    for (int i = 0; i < 3; ++i) {
        pipes[i].write();
        probes[i].on_readable = [&, i] {
            pipes[i].read();
            throw std::runtime_error("as planned");
        };
        registrations[i] = reactor.watch(pipes[i].reading.get(), readable, probes[i]);
    }
    Timer first(reactor, [&] {
        ++timers;
        throw std::runtime_error("as planned");
    });
    Timer second(reactor, [&] { ++timers; });
    first.start(no_wait);
    second.start(no_wait);
    reactor.post([&] {
        ++tasks;
        throw std::runtime_error("as planned");
    });
    reactor.post([&] { ++tasks; });

    SUBCASE("and the first one leaves run when the turn is done") {
        reactor.post([&] { reactor.stop(); });
        CHECK_THROWS_AS(reactor.run(), std::runtime_error);
        CHECK(reactor.counters().turns == 1);
        CHECK_NOTHROW(reactor.run());  // which the stop of that turn ends
    }
    SUBCASE("which a hook takes") {
        int hooked = 0;
        reactor.on_exception([&](std::exception_ptr exception) {
            ++hooked;
            CHECK_THROWS_AS(std::rethrow_exception(exception), std::runtime_error);
        });
        reactor.run_once(no_wait);
        CHECK(hooked == 5);
    }
    for (const Probe& probe : probes) CHECK(probe.readables == 1);
    CHECK(timers == 2);
    CHECK(tasks == 2);
    CHECK(turns_until_quiet(reactor, 1) <= 1);  // the stop may have left a wake-up
    for (const Probe& probe : probes) CHECK(probe.readables == 1);
}

TEST_CASE("S69: a handler that throws in its last call takes no other's last call away, and all are destroyed") {
    struct Owned final : OwnedHandler {
        Owned(int& t, int& d) : told(t), destroyed(d) {}
        ~Owned() override { ++destroyed; }
        void retired() override {
            ++told;
            throw std::runtime_error("as planned");
        }
        int& told;
        int& destroyed;
        Registration registration;
    };
    Reactor reactor;
    Pipe pipes[3];
    int told = 0, destroyed = 0;
    for (const Pipe& pipe : pipes) {
        auto owned = std::make_unique<Owned>(told, destroyed);
        Owned& handler = *owned;
        handler.registration = reactor.adopt(pipe.reading.get(), readable, std::move(owned));
        handler.registration.reset();
    }
    SUBCASE("which leaves run") {
        CHECK_THROWS_AS(reactor.run_once(no_wait), std::runtime_error);
    }
    SUBCASE("which a hook takes") {
        int hooked = 0;
        reactor.on_exception([&](std::exception_ptr) { ++hooked; });
        reactor.run_once(no_wait);
        CHECK(hooked == 3);
    }
    CHECK_NOTHROW(reactor.run_once(no_wait));
    CHECK(told == 3);
    CHECK(destroyed == 3);
}

TEST_CASE("S69: an exception hook may replace itself, and what it throws leaves run") {
    Reactor reactor;
    int first = 0;
    reactor.on_exception([&, big = std::string(100, 'x')](std::exception_ptr) {
        reactor.on_exception({});
        ++first;
        CHECK(big.size() == 100);
        throw std::logic_error("the hook's own");
    });
    reactor.post([] { throw std::runtime_error("as planned"); });
    CHECK_THROWS_AS(reactor.run_once(), std::logic_error);
    reactor.post([] { throw std::runtime_error("as planned"); });
    CHECK_THROWS_AS(reactor.run_once(), std::runtime_error);
    CHECK(first == 1);
}

TEST_CASE("S69: an exception out of a hook ends neither the turn nor the hooks behind it, and its wait takes no time") {
    Reactor reactor;
    Pipe pipe;
    pipe.write();
    Probe probe;
    Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    auto when = Hook::When::before_wait;
    SUBCASE("before the wait") {}
    SUBCASE("after the wait") {
        when = Hook::When::after_wait;
    }
    int behind = 0, hooked = 0;
    const Hook hook(reactor, when, [&] { throw std::runtime_error("as planned"); });
    const Hook next(reactor, when, [&] { ++behind; });

    CHECK_THROWS_AS(reactor.run_once(no_wait), std::runtime_error);
    CHECK(behind == 1);
    CHECK(probe.readables == 1);

    pipe.read();
    if (when == Hook::When::before_wait)
        CHECK_THROWS_AS(reactor.run(), std::runtime_error);  // with nothing that is ready
    pipe.write();
    behind = 0;
    reactor.on_exception([&](std::exception_ptr) { ++hooked; });
    CHECK(reactor.run_once() == 1);
    CHECK(hooked == 1);
    CHECK(behind == 1);
    CHECK(probe.readables == 2);
}

TEST_CASE("S69: where several throw in a turn, the first exception leaves run and the hook sees each") {
    Reactor reactor;
    std::string seen;
    const auto throws = [&](const char* what) { reactor.post([what] { throw std::runtime_error(what); }); };
    throws("first");
    throws("second");
    CHECK_THROWS_WITH(reactor.run_once(no_wait), "first");
    CHECK_NOTHROW(reactor.run_once(no_wait));

    reactor.on_exception([&](std::exception_ptr exception) {
        try {
            std::rethrow_exception(exception);
        } catch (const std::runtime_error& failure) {
            seen += failure.what();
        }
    });
    throws("first ");
    throws("second");
    CHECK_NOTHROW(reactor.run_once(no_wait));
    CHECK(seen == "first second");
}

TEST_CASE(
    "S69: a handler that throws keeps nothing from the others that watch its descriptor, nor from its own next call") {
    Reactor reactor;
    auto [left, right] = Socket::pair();
    REQUIRE(::write(right.get(), "x", 1) == 1);
    Probe thrower, other;
    thrower.on_readable = [] { throw std::runtime_error("as planned"); };
    const Registration first = reactor.watch(left.get(), readable | writable, thrower);
    int thrown = 0;
    bool shared = false;
    SUBCASE("watched once") {}
    SUBCASE("watched twice") {
        shared = true;
    }
    Registration second;
    if (shared) second = reactor.watch(left.get(), readable, other);
    const auto run = [&](int turns) {
        for (int turn = 0; turn < turns; ++turn) {
            try {
                reactor.run_once(no_wait);
            } catch (const std::runtime_error&) {
                ++thrown;
            }
        }
    };
    run(3);
    CHECK(thrown == 3);
    reactor.on_exception([&](std::exception_ptr) { ++thrown; });
    run(3);
    CHECK(thrown == 6);
    CHECK(thrower.readables == 6);
    CHECK(thrower.writables == 6);
    CHECK(other.readables == (shared ? 6 : 0));
}

TEST_CASE("S73: after a fork the child's own loop does not disturb the parent's") {
    Reactor reactor;
    Pipe pipe, report;
    Probe probe;
    const Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    CHECK(reactor.run_once(no_wait) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {  // leaves the parent's reactor alone: its epoll set is one and the same for both
        Reactor own;
        Pipe inner;
        inner.write();
        Probe heard;
        Registration one = own.watch(inner.reading.get(), readable, heard);
        Registration inherited = own.watch(pipe.reading.get(), readable, heard);
        own.run_once(no_wait);
        inherited.reset();
        one.reset();
        pipe.reading.reset();
        ::_exit(heard.readables == 1 ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(reactor.run_once(no_wait) == 0);
    pipe.write();
    CHECK(reactor.run_once(no_wait) == 1);
    CHECK(probe.readables == 1);
}

// ── looking in, and embedding ──

TEST_CASE("S77: two hooks see for how long a callback blocks the loop") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    TimePoint began{};
    Duration longest{};
    const Hook before(reactor, Hook::When::before_wait, [&] {
        if (began != TimePoint{}) longest = std::max(longest, clock.now() - began);
    });
    const Hook after(reactor, Hook::When::after_wait, [&] { began = clock.now(); });
    for (const Duration blocks : {Duration(1ms), Duration(3s), Duration(2ms)}) {
        reactor.post([&clock, blocks] { clock.advance(blocks); });
        reactor.run_once(no_wait);
    }
    reactor.run_once(no_wait);
    CHECK(longest == 3s);
}

TEST_CASE("The loop inside another: its descriptor turns readable for what it watches and for posts of other threads") {
    Reactor reactor;
    Pipe pipe;
    Probe probe;
    const Registration registration = reactor.watch(pipe.reading.get(), readable, probe);
    CHECK(reactor.next_timeout() == no_wait);  // a registration waits to be handed over
    reactor.run_once(no_wait);
    CHECK_FALSE(reactor.next_timeout());
    if (!is_epoll(reactor)) {
        CHECK(reactor.native_handle() == -1);
        return;
    }
    pollfd outer{reactor.native_handle(), POLLIN, 0};
    CHECK(::poll(&outer, 1, 0) == 0);
    bool called = false;
    std::thread poster([&] { reactor.post([&] { called = true; }); });
    poster.join();
    CHECK(::poll(&outer, 1, 0) == 1);
    reactor.run_once(no_wait);
    CHECK(called);
    CHECK(::poll(&outer, 1, 0) == 0);

    pipe.write();
    CHECK(::poll(&outer, 1, 0) == 1);
    reactor.run_once(no_wait);
    CHECK(probe.readables == 1);
}

TEST_CASE("The environment's choice counts for auto alone, and a name that is unknown is never replaced in silence") {
    const char* variable = std::getenv("REACTOR_BACKEND");
    const std::string before = variable == nullptr ? "" : variable;
    if (variable != nullptr) CHECK(Reactor().backend() == before);
    for (const std::string_view name : available_backends()) CHECK(Reactor(name).backend() == name);

    ::setenv("REACTOR_BACKEND", "kqueue", 1);
    CHECK_NOTHROW(Reactor("select"));
    for (const char* asked : {"auto", "devpoll", ""}) {
        CAPTURE(asked);
        std::string message;
        try {
            Reactor reactor(asked);
        } catch (const std::system_error& failure) {
            message = failure.what();
            CHECK(failure.code() == std::errc::invalid_argument);
        }
        const std::string culprit =
            asked == std::string("auto") ? "REACTOR_BACKEND 'kqueue'" : "'" + std::string(asked) + "'";
        CHECK(message.find(culprit) != std::string::npos);
        for (const std::string_view name : available_backends()) CHECK(message.find(name) != std::string::npos);
    }
    ::setenv("REACTOR_BACKEND", "", 1);
    CHECK(Reactor().backend() == available_backends().front());
    if (variable == nullptr) {
        ::unsetenv("REACTOR_BACKEND");
    } else {
        ::setenv("REACTOR_BACKEND", before.c_str(), 1);
    }
}

TEST_CASE("An event of a registration that was removed earlier in its batch is skipped, and the backend is kept") {
    Reactor reactor;
    auto ends = Socket::pair();
    auto other_ends = Socket::pair();
    struct RemovesOther final : EventHandler {
        void readable() override {
            ++calls;
            other->reset();
        }
        Registration* other = nullptr;
        int calls = 0;
    } first, second;
    Registration one = reactor.watch(ends.first.get(), Interest::readable, first);
    Registration two = reactor.watch(other_ends.first.get(), Interest::readable, second);
    first.other = &two;
    second.other = &one;
    reactor.run_once(Duration::zero());
    const int before = reactor.native_handle();
    for (const Socket* end : {&ends.second, &other_ends.second}) REQUIRE(::send(end->get(), "x", 1, MSG_NOSIGNAL) == 1);
    reactor.run_once(Duration::zero());
    CHECK(first.calls + second.calls == 1);
    reactor.run_once(Duration::zero());
    CHECK(reactor.native_handle() == before);  // a new set would be another descriptor
}
