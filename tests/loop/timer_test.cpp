// Timers that functions return, and that move.
#include <reactor/reactor.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

struct Loop {
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};

    void pass(Duration time) {
        clock.advance(time);
        reactor.run_once(Duration::zero());
    }
};

}  // namespace

TEST_CASE("after calls once when its time has come, and every calls each time") {
    Loop loop;
    int once = 0, again = 0;
    const Timer one = loop.reactor.after(2s, [&] { ++once; });
    const Timer many = loop.reactor.every(1s, [&] { ++again; });
    loop.pass(1s);
    CHECK(once == 0);
    CHECK(again == 1);
    for (int second = 2; second <= 5; ++second) loop.pass(1s);
    CHECK(once == 1);
    CHECK(again == 5);
    CHECK_FALSE(one.active());
    CHECK(many.active());
    CHECK_THROWS_AS((void)loop.reactor.every(0s, [] {}), std::invalid_argument);
    CHECK_THROWS_AS((void)loop.reactor.after(1s, nullptr), std::invalid_argument);
}

TEST_CASE("Destroying the timer that after or every returned cancels the call and destroys its callable") {
    Loop loop;
    int calls = 0;
    const auto held = std::make_shared<int>();
    {
        const Timer one = loop.reactor.after(1s, [&calls, held] { ++calls; });
        const Timer many = loop.reactor.every(1s, [&calls, held] { ++calls; });
        CHECK(held.use_count() == 3);
    }
    loop.pass(1h);
    CHECK(calls == 0);
    CHECK(held.use_count() == 1);
    CHECK_FALSE(loop.reactor.next_timeout());
}

TEST_CASE("A timer that is moved keeps its deadline, and its order among equal deadlines") {
    Loop loop;
    std::string order;
    std::vector<Timer> timers, elsewhere;
    for (int i = 0; i < 60; ++i) {
        const Duration delay = 100s - std::chrono::seconds(i / 2);
        timers.push_back(loop.reactor.after(delay, [&order, i] { order += std::to_string(i) + " "; }));
    }
    for (std::size_t i = 0; i < timers.size(); i += 3) timers[i].start(timers[i].deadline() - loop.clock.now() + 0s);
    for (Timer& timer : timers) elsewhere.push_back(std::move(timer));
    for (const Timer& timer : timers) CHECK_FALSE(timer.active());
    timers.clear();
    for (const Timer& timer : elsewhere) CHECK(timer.active());
    Timer first = std::move(elsewhere.front());
    CHECK(first.deadline() == loop.clock.now() + 100s);

    std::string expected;
    for (int pair = 29; pair >= 0; --pair) {
        const int even = 2 * pair, odd = even + 1;
        const bool set_again = even % 3 == 0;  // then it comes behind the other one
        for (const int i : {set_again ? odd : even, set_again ? even : odd}) expected += std::to_string(i) + " ";
    }
    loop.pass(100s);
    CHECK(order == expected);
}

TEST_CASE("A timer that another of the same due set moves is called at its new place") {
    Loop loop;
    std::vector<Timer> kept;
    int calls = 0;
    Timer second;
    const Timer first = loop.reactor.after(1s, [&] { kept.push_back(std::move(second)); });
    second = loop.reactor.after(1s, [&] { ++calls; });
    const Timer third = loop.reactor.after(1s, [&] { ++calls; });
    loop.pass(1s);
    CHECK(calls == 2);
    CHECK(kept.size() == 1);
}

TEST_CASE("A timer that is moved in its own callback is called at its new place from then on") {
    Loop loop;
    std::unique_ptr<Timer> kept;
    int calls = 0;
    Timer timer;
    timer = loop.reactor.every(1s, [&, held = std::make_unique<int>(7)] {
        calls += *held;
        if (kept == nullptr) kept = std::make_unique<Timer>(std::move(timer));
        calls += *held;
    });
    loop.pass(1s);
    CHECK(calls == 14);
    REQUIRE(kept != nullptr);
    CHECK(kept->active());
    CHECK_FALSE(timer.active());
    loop.pass(1s);
    CHECK(calls == 28);
    kept.reset();
    loop.pass(1s);
    CHECK(calls == 28);
}

TEST_CASE("A timer that is assigned to in its own callback calls what it was assigned") {
    Loop loop;
    std::string calls;
    Timer timer;
    const auto held = std::make_shared<int>();
    timer = loop.reactor.after(1s, [&, held] {
        timer = loop.reactor.after(1s, [&] { calls += "second "; });
        CHECK(held.use_count() == 2);  // its captures live until it returns
        calls += "first ";
    });
    loop.pass(1s);
    CHECK(calls == "first ");
    CHECK(held.use_count() == 1);
    loop.pass(1s);
    CHECK(calls == "first second ");
}

TEST_CASE("A timer without a reactor can be cancelled, assigned to and destroyed, and throws when it is started") {
    Loop loop;
    Timer empty;
    CHECK_FALSE(empty.active());
    CHECK_FALSE(empty.cancel());
    CHECK_THROWS_AS(empty.start(1s), std::logic_error);
    CHECK_THROWS_AS(empty.start_at(TimePoint()), std::logic_error);
    CHECK_THROWS_AS(empty.start_periodic(1s), std::logic_error);
    int calls = 0;
    Timer timer = loop.reactor.after(1s, [&] { ++calls; });
    timer = std::move(empty);  // which cancels it
    loop.pass(1s);
    CHECK(calls == 0);
    static_assert(std::is_nothrow_move_constructible_v<Timer> && std::is_nothrow_move_assignable_v<Timer>);
}
