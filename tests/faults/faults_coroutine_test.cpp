// Coroutines while any allocation, and any call of their connection, fails: nothing is leaked, and whoever waits is
// answered or destroyed.
#include "faults_sweep.hpp"

#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/channel.hpp>
#include <reactor/coroutine/connect.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connection.hpp>

#include <doctest/doctest.h>
#include <cerrno>

#include <exception>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;
using faults::Call;

namespace {

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

// Without frames that are kept: each has to be allocated.
Outcome converse(const faults::Plan& plan) {
    Outcome outcome;
    release_coroutine_frames();
    faults::run(plan, false, outcome, [&](testing::ManualClock& clock) {
        struct Release {
            ~Release() { release_coroutine_frames(); }
        } const release;
        serve_and_ask(clock, outcome);
    });
    return outcome;
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

TEST_CASE("coroutines whose connection fails at any call leave nothing behind") {
    const int runs = faults::fail_each({Call::recv, Call::send, Call::sendmsg}, {}, converse,
                                       [](const faults::Plan&, const Outcome& outcome) {
                                           if (!outcome.struck) CHECK(outcome.answer == "sum is 6");
                                       });
    CHECK(runs > 3);
}
