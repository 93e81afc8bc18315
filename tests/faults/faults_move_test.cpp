// A connection on its way to another loop, while any allocation on that way fails.
#include "faults_sweep.hpp"

#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>

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

}  // namespace

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
