// Look-ups on a thread that runs out of memory.
#include "../support/names.hpp"
#include "faults.hpp"

#include <reactor/net/resolver.hpp>
#include <reactor/reactor.hpp>

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <new>
#include <system_error>
#include <vector>

using namespace reactor;
using faults::Call;

TEST_CASE("S75, S76: the answer of a look-up whose thread runs out of memory is an error at worst, and never lost") {
    int struck = 0;
    for (unsigned first = 1; first <= 20; ++first) {
        INFO("from allocation ", first);
        names::Script script;
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        int told = 0;
        std::error_code reason;
        std::size_t addresses = 0;
        const Resolver resolver(reactor, "host.test", 80, Address::Family::ipv4,
                                [&](std::error_code error, const std::vector<Address>& found) {
                                    ++told;
                                    reason = error;
                                    addresses = found.size();
                                });
        REQUIRE(script.wait_for(1));
        reactor.run_once(Duration::zero());  // its first iteration needs memory of its own
        {
            faults::Plan plan;
            plan.call = Call::allocation;
            plan.from = first;
            plan.times = 3;
            const faults::Armed armed(plan, clock, true);
            for (bool answered = false; !answered;) {
                try {
                    script.answer("host.test", AF_INET, {"192.0.2.1"});
                    answered = true;
                } catch (const std::bad_alloc&) {
                    // This thread needs memory for it, too.
                }
            }
            for (int turn = 0; turn < 2'000 && told == 0; ++turn) {
                try {
                    reactor.run_once(std::chrono::milliseconds(1));
                } catch (const std::bad_alloc&) {
                    // As above.
                }
            }
            struck += int(faults::struck());
        }
        CHECK(told == 1);
        CHECK(addresses == (reason ? 0 : 1));
        if (reason) CHECK(reason == std::errc::not_enough_memory);
    }
    CHECK(struck > 0);
}
