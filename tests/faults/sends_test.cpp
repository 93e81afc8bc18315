// No system call is made for nothing: how many a message takes.
#include "../support/loop.hpp"
#include "faults.hpp"

#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

using namespace reactor;
using faults::Call;

TEST_CASE("An answer is sent by one system call, whether it is a piece of the input, a small copy or a large one") {
    const std::string small(100, 'x'), large(20'000, 'x');
    for (const std::string* const answer : {static_cast<const std::string*>(nullptr), &small, &large}) {
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        auto [peer, served] = Socket::pair();
        Journal journal;
        journal.on_received = [&](Bytes input) {
            answer == nullptr ? journal.transport->write(input) : journal.transport->write(*answer);
            return input.size();
        };
        Connection::open(reactor, std::move(served), std::make_unique<Recorder>(journal));
        settle(reactor);
        write_some(peer, "question");
        unsigned sends = 0;
        {
            const faults::Armed counting(faults::Plan{}, clock, false);
            settle(reactor);
            sends = faults::calls(Call::send) + faults::calls(Call::sendmsg);
        }
        // On io_uring small ones are collected, and leave with the call that waits.
        const bool collected = reactor.backend() == "io_uring" && answer != &large;
        CHECK(sends == (collected ? 0 : 1));
        CHECK(read_all(peer) == (answer == nullptr ? "question" : *answer));
    }
}
