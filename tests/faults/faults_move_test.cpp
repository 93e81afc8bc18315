// A connection on its way to another loop, while any allocation on that way fails.
#include "faults_sweep.hpp"

#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/drain.hpp>

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

using namespace reactor;
using faults::Call;

namespace {

struct MoveOutcome : faults::Traces {
    bool set_up = false;
    int arrived = 0, ended = 0;
    bool arrived_after_its_end = false, written_after_the_end = false;
    std::error_code reason;
    std::string answers;
};

class Traveller final : public Protocol {
public:
    explicit Traveller(MoveOutcome& outcome) : outcome_(outcome) {}

private:
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
    void disconnected(std::error_code reason) override {
        ++outcome_.ended;
        outcome_.reason = reason;
        outcome_.written_after_the_end |= transport().write("z");
    }
    MoveOutcome& outcome_;
};

MoveOutcome move(const faults::Plan& plan) {
    MoveOutcome outcome;
    faults::run(plan, false, outcome, [&](testing::ManualClock& clock) {
        Reactor here("auto", clock), there("auto", clock);
        auto [peer, mine] = Socket::pair();
        const auto turn = [&] {
            for (int count = 0; count < 6; ++count) {
                for (Reactor* const loop : {&here, &there}) {
                    try {
                        loop->run_once(Duration::zero());
                    } catch (const std::exception&) {
                        ++outcome.exceptions;
                    }
                }
            }
        };
        const auto ask = [&, &end = peer](const char* question) {
            const faults::Suspended suspended;
            (void)!::send(end.get(), question, 1, MSG_NOSIGNAL);  // the connection may be over
        };
        const auto hear = [&, &end = peer] {
            const faults::Suspended suspended;
            char byte = 0;
            while (::recv(end.get(), &byte, 1, MSG_DONTWAIT) == 1) outcome.answers += byte;
        };
        Connection& connection = Connection::open(here, std::move(mine), std::make_unique<Traveller>(outcome));
        turn();
        if (outcome.ended > 0) return;
        ask("a");
        connection.move_to(there, [&] {
            ++outcome.arrived;
            outcome.arrived_after_its_end = outcome.ended > 0;
        });
        outcome.set_up = true;
        turn();
        hear();
        ask("b");
        turn();
        hear();
        peer.close();
        turn();
    });
    return outcome;
}

struct DrainOutcome : faults::Traces {
    bool set_up = false;
    int ended = 0, reported = 0;
};

class Ending final : public Protocol {
public:
    explicit Ending(DrainOutcome& outcome) : outcome_(outcome) {}

private:
    std::size_t received(Bytes input) override { return input.size(); }
    void disconnected(std::error_code) override { ++outcome_.ended; }
    DrainOutcome& outcome_;
};

// A connection goes to a loop that is being drained, and whose next iteration comes just when the memory is missing.
DrainOutcome move_to_drained(faults::Plan plan) {
    DrainOutcome outcome;
    testing::ManualClock clock;
    Reactor there("auto", clock);
    plan.with = &there;
    plan.meanwhile = [](void* with) { static_cast<Reactor*>(with)->run_once(Duration::zero()); };
    const auto mine = std::make_unique<Reactor>("auto", clock);
    Reactor& here = *mine;
    auto [peer, socket] = Socket::pair();
    Connection& connection = Connection::open(here, std::move(socket), std::make_unique<Ending>(outcome));
    here.run_once(Duration::zero());
    drain(there, std::chrono::hours(1), [&](const Drained&) { ++outcome.reported; });
    faults::run(plan, false, outcome, [&](testing::ManualClock&) {
        connection.move_to(there);
        outcome.set_up = true;
        here.run_once(Duration::zero());
    });
    outcome.leaked = 0;  // the allocations here live longer than the plan
    peer.close();
    for (int turn = 0; turn < 6; ++turn) {
        here.run_once(Duration::zero());
        there.run_once(Duration::zero());
    }
    return outcome;
}

}  // namespace

TEST_CASE("S101: a loop to which a connection does not come for lack of memory is drained all the same") {
    const auto check = [](const faults::Plan&, const DrainOutcome& outcome) {
        CHECK(outcome.reported == 1);
        if (outcome.set_up) CHECK(outcome.ended == 1);
    };
    CHECK(faults::fail_each({Call::allocation}, {}, move_to_drained, check) >= 3);
}

TEST_CASE("S75: a connection that moves while there is no memory arrives whole, or ends once and says why") {
    const MoveOutcome whole = move({});
    CHECK(whole.arrived == 1);
    CHECK(whole.ended == 1);
    CHECK_FALSE(whole.reason);
    CHECK(whole.answers == "ab");
    int on_the_way = 0;
    const auto check = [&](const faults::Plan&, const MoveOutcome& outcome) {
        CHECK_FALSE(outcome.arrived_after_its_end);
        CHECK_FALSE(outcome.written_after_the_end);
        CHECK(outcome.arrived <= 1);
        CHECK(outcome.ended <= 1);
        if (!outcome.set_up) {
            CHECK((outcome.ended == 1 || outcome.exceptions > 0));
            return;
        }
        CHECK(outcome.ended == 1);
        if (outcome.arrived == 0) {
            ++on_the_way;
            CHECK(outcome.reason == std::errc::not_enough_memory);
        } else if (!outcome.reason) {
            CHECK(outcome.answers == "ab");
        }
    };
    const int runs = faults::fail_each({Call::allocation}, {}, move, check);
    MESSAGE(runs << " failures, " << on_the_way << " of them on the way");
    CHECK(on_the_way >= 3);
}
