// Coroutines while any allocation, and any call of their connection, fails: nothing is leaked, and whoever waits is
// answered or destroyed.
#include "../support/loop.hpp"
#include "faults_sweep.hpp"

#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/channel.hpp>
#include <reactor/coroutine/connect.hpp>
#include <reactor/coroutine/datagram_socket.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/open_stream.hpp>
#include <reactor/coroutine/run_on.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/signal_set.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connection.hpp>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <cerrno>
#include <csignal>

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;
using faults::Call;

namespace {

// ── what is allocated ──

Task<std::size_t> size_of_child(std::size_t size) {
    co_return size;
}

// An echo with each kind of await that a message may have.
Task<> busy_echo(Stream stream) {
    for (;;) {
        const auto next = co_await first_of(stream.read<Lines>(), sleep(1h));
        if (next.index() == 1 || !std::get<0>(next)) co_return;
        co_await stream.write(*std::get<0>(next), "\n");
        co_await yield();
        if (co_await size_of_child(7) != 7) co_return;
        co_await sleep(1ns);
    }
}

Task<> plain_echo(Stream stream) {
    while (const auto input = co_await stream.read_some()) co_await stream.write(*input);
}

struct Outcome : faults::Traces {
    std::string answer;
    bool asked_to_the_end = false;
};

Task<int> one() {
    co_await yield();
    co_return 1;
}

Task<> produce(Channel<int>& channel) {
    for (int i = 0; i < 3; ++i) co_await channel.send(i + co_await one());
    channel.close();
}

// Uses a bit of everything.
Task<> serve(Stream stream) {
    Scope scope(stream.reactor());
    Channel<int> channel(1);
    scope.start(produce(channel));
    int sum = 0;
    while (const auto value = co_await channel.receive()) sum += *value;
    co_await scope.join();
    for (;;) {
        const auto line = co_await timeout(10s, stream.read<Lines>());
        if (!line) co_return;
        co_await stream.write(*line, std::to_string(sum), "\n");
    }
}

Task<> ask(Reactor& reactor, std::vector<Address> addresses, Outcome& outcome) {
    auto server = co_await connect(reactor, addresses);
    if (!server) co_return;
    co_await server->write("sum ");
    co_await sleep(1ms);
    co_await server->write("is \n");
    const auto answer = co_await server->read<Lines>();
    if (answer) outcome.answer = std::string(text_of(*answer));
    outcome.asked_to_the_end = true;
}

void serve_and_ask(testing::ManualClock& clock, Outcome& outcome) {
    Reactor reactor("auto", clock);
    const Acceptor acceptor(reactor, "127.0.0.1", 0, coroutine(serve));
    Scope scope(reactor);
    scope.start(ask(reactor, acceptor.addresses(), outcome));
    for (int turn = 0; turn < 60 && scope.size() > 0; ++turn) {
        try {
            reactor.run_once(1ms);
        } catch (const std::exception&) {
            ++outcome.exceptions;
        }
    }
}

// The awaits beyond connections: another loop, sockets, datagrams, signals.
Task<std::string> shouted(std::string text) {
    co_await yield();
    for (char& letter : text) letter = char(letter - 'a' + 'A');
    co_return text;
}

Task<> echo_letters(DatagramSocket& socket) {
    while (const auto letter = co_await socket.receive()) co_await socket.answer(*letter, letter->data);
}

Task<> pass_around(Reactor& reactor, Reactor& other, Outcome& outcome) {
    const std::string text = "a text that is longer than a small string";
    auto there = co_await run_on(other, shouted, text.substr(0, 1));
    if (!there) co_return;
    auto sockets = Socket::pair();
    Stream from = open_stream(reactor, std::move(sockets.first)), to = open_stream(reactor, std::move(sockets.second));
    co_await to.write(*there, text.substr(1), "\n");
    const auto line = co_await from.read<Lines>();
    if (!line) co_return;
    const std::string carried(text_of(*line));
    auto letters = Socket::pair(SocketKind::datagram);
    DatagramSocket one(reactor, std::move(letters.first)), two(reactor, std::move(letters.second));
    Scope scope(reactor);
    scope.start(echo_letters(two));
    co_await one.send(carried);
    const auto answer = co_await one.receive();
    if (!answer) co_return;
    if (text_of(answer->data) == "A text that is longer than a small string") outcome.answer = "as sent";
    SignalSet signals(reactor, {SIGUSR1});
    ::raise(SIGUSR1);
    outcome.asked_to_the_end = co_await signals.wait() == SIGUSR1;
}

void visit_other_loop(testing::ManualClock& clock, Outcome& outcome) {
    Reactor other("auto", clock), reactor("auto", clock);
    Scope scope(reactor);
    scope.start(pass_around(reactor, other, outcome));
    for (int turn = 0; turn < 60 && scope.size() > 0; ++turn) {
        for (Reactor* const loop : {&reactor, &other}) {
            try {
                loop->run_once(Duration::zero());
            } catch (const std::exception&) {
                ++outcome.exceptions;
            }
        }
    }
}

// Without frames that are kept: each has to be allocated.
template <class Talk>
Outcome without_kept_frames(const faults::Plan& plan, Talk talk) {
    Outcome outcome;
    release_coroutine_frames();
    faults::run(plan, false, outcome, [&](testing::ManualClock& clock) {
        struct Release {
            ~Release() { release_coroutine_frames(); }
        } const release;
        try {
            talk(clock, outcome);
        } catch (const std::exception&) {
            ++outcome.exceptions;
        }
    });
    return outcome;
}

Outcome converse(const faults::Plan& plan) {
    return without_kept_frames(plan, serve_and_ask);
}

}  // namespace

TEST_CASE("coroutines that lack memory at any allocation leave nothing behind") {
    faults::Plan plan;
    plan.call = Call::allocation;
    int runs = 0;
    for (;; ++plan.from, ++runs) {
        REQUIRE(plan.from < 1'000);
        const Outcome outcome = converse(plan);
        CAPTURE(plan.from);
        CHECK(outcome.left_open == 0);
        CHECK(outcome.bad_closes == 0);
        CHECK(outcome.leaked == 0);
        if (!outcome.struck) {
            CHECK(outcome.answer == "sum is 6");
            break;
        }
    }
    CHECK(runs > 20);
}

TEST_CASE("coroutines that await other loops, sockets, datagrams and signals leave nothing when memory is short") {
    faults::Plan plan;
    plan.call = Call::allocation;
    int runs = 0;
    for (;; ++plan.from, ++runs) {
        REQUIRE(plan.from < 1'000);
        const Outcome outcome = without_kept_frames(plan, visit_other_loop);
        CAPTURE(plan.from);
        CHECK(outcome.left_open == 0);
        CHECK(outcome.bad_closes == 0);
        CHECK(outcome.leaked == 0);
        if (!outcome.struck) {
            CHECK(outcome.answer == "as sent");
            CHECK(outcome.asked_to_the_end);
            break;
        }
    }
    CHECK(runs > 20);
}

TEST_CASE("coroutines whose connection fails at any call leave nothing behind") {
    const int runs = faults::fail_each({Call::recv, Call::send, Call::sendmsg, Call::io_uring_enter}, {}, converse,
                                       [](const faults::Plan&, const Outcome& outcome) {
                                           if (!outcome.struck) CHECK(outcome.answer == "sum is 6");
                                       });
    CHECK(runs > 3);
}

TEST_CASE("a coroutine's messages allocate nothing: no read, write, sleep, child task, yield or first_of of two") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::vector<Socket> peers;
    for (int i = 0; i < 20; ++i) {
        auto [peer, ours] = Socket::pair();
        peers.push_back(std::move(peer));
        Connection::open(reactor, std::move(ours), i % 2 == 0 ? coroutine(busy_echo)() : coroutine(plain_echo)());
    }
    const auto talk = [&] {
        for (const Socket& peer : peers) REQUIRE(::send(peer.get(), "question\n", 9, 0) == 9);
        settle(reactor);
        clock.advance(1ms);
        settle(reactor);
        char answer[16];
        for (const Socket& peer : peers) REQUIRE(::recv(peer.get(), answer, sizeof answer, 0) == 9);
    };
    talk();
    const faults::Armed armed({}, clock, false);
    for (int i = 0; i < 100; ++i) talk();
    CHECK(faults::calls(Call::allocation) == 0);
}

TEST_CASE("a connection that a coroutine serves takes one allocation more than one of a protocol: the frame") {
    struct Plain final : Protocol {
        std::size_t received(Bytes input) override { return input.size(); }
    };
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    const auto open = [&](auto make) {
        auto [peer, ours] = Socket::pair();
        Connection::open(reactor, std::move(ours), make());
        settle(reactor);
        return std::move(peer);
    };
    const auto counted = [&](auto make) {
        {  // the tables of the loop have room then
            std::vector<Socket> peers;
            for (int i = 0; i < 10; ++i) peers.push_back(open(make));
        }
        settle(reactor);
        release_coroutine_frames();
        const faults::Armed armed({}, clock, false);
        const Socket peer = open(make);
        return faults::calls(Call::allocation);
    };
    const unsigned protocol = counted([] { return std::make_unique<Plain>(); });
    CHECK(counted([] { return coroutine(plain_echo)(); }) == protocol + 1);
}
