// Observing a loop from outside: slow calls, and notices for an operator.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/detail/wakeup.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

struct Slow final : EventHandler {
    explicit Slow(testing::ManualClock& the_clock) : clock(the_clock) {}
    void readable() override {
        wakeup.drain();
        clock.advance(30ms);
    }
    testing::ManualClock& clock;
    Wakeup wakeup;
};

}  // namespace

TEST_CASE("A slow callback is told with its duration, its kind and whose it was; a quick one is not") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::vector<SlowCall> calls;
    reactor.on_slow_call(20ms, [&](const SlowCall& call) { calls.push_back(call); });
    Slow handler(clock);
    const Registration registration = reactor.watch(handler.wakeup.descriptor(), Interest::readable, handler);
    handler.wakeup.notify();
    Timer quick(reactor, [&] { clock.advance(19ms); });
    Timer slow(reactor, [&] { clock.advance(20ms); });
    quick.start(Duration::zero());
    slow.start(Duration::zero());
    reactor.post([&] { clock.advance(40ms); });
    settle(reactor);

    REQUIRE(calls.size() == 3);
    CHECK(calls[0].kind == SlowCall::Kind::event);
    CHECK(calls[0].who == static_cast<EventHandler*>(&handler));
    CHECK(calls[0].descriptor == handler.wakeup.descriptor());
    CHECK(calls[0].duration == Duration(30ms));
    CHECK(calls[1].kind == SlowCall::Kind::timer);
    CHECK(calls[1].who == &slow);
    CHECK(calls[1].duration == Duration(20ms));
    CHECK(calls[2].kind == SlowCall::Kind::task);
    CHECK(calls[2].duration == Duration(40ms));
}

TEST_CASE("A slow hook and a slow deferred call are told like any other callback") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::vector<SlowCall> calls;
    reactor.on_slow_call(20ms, [&](const SlowCall& call) { calls.push_back(call); });
    const Hook before(reactor, Hook::When::before_wait, [&] { clock.advance(20ms); });
    const Hook quick(reactor, Hook::When::before_wait, [&] { clock.advance(19ms); });
    const Hook after(reactor, Hook::When::after_wait, [&] { clock.advance(30ms); });
    const Deferred deferred = reactor.defer([&] { clock.advance(40ms); });
    reactor.run_once(Duration::zero());

    REQUIRE(calls.size() == 3);
    CHECK(calls[0].kind == SlowCall::Kind::hook);
    CHECK(calls[0].who == &before);
    CHECK(calls[0].duration == Duration(20ms));
    CHECK(calls[1].kind == SlowCall::Kind::hook);
    CHECK(calls[1].who == &after);
    CHECK(calls[1].duration == Duration(30ms));
    CHECK(calls[2].kind == SlowCall::Kind::deferred);
    CHECK(calls[2].duration == Duration(40ms));
}

TEST_CASE("A hook for slow calls may take itself away, and hears of calls that throw") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    int told = 0;
    reactor.on_slow_call(1ms, [&](const SlowCall&) {
        ++told;
        reactor.on_slow_call({}, nullptr);
    });
    reactor.post([&] {
        clock.advance(2ms);
        throw std::runtime_error("slow and wrong");
    });
    reactor.post([&] { clock.advance(2ms); });
    CHECK_THROWS_AS(reactor.run_once(), std::runtime_error);
    settle(reactor);
    CHECK(told == 1);
}

TEST_CASE("The end of a silent connection is told with the peer's address") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::vector<std::string> lines;
    reactor.on_notice([&](Notice what, std::string_view text) {
        CHECK(what == Notice::idle_timeout);
        lines.emplace_back(text);
        throw std::runtime_error("a log that fails does no harm");
    });
    ConnectionOptions options;
    options.limits.idle_timeout = 10s;
    Conversation conversation(reactor, options);
    settle(reactor);
    clock.advance(11s);
    settle(reactor);
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].find("127.0.0.1:") == 0);
    CHECK(conversation.journal.reason == std::errc::timed_out);
}

TEST_CASE("A close that takes too long is told with what could not be sent") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::vector<Notice> notices;
    reactor.on_notice([&](Notice what, std::string_view) { notices.push_back(what); });
    Conversation conversation(reactor);
    settle(reactor);
    conversation.journal.transport->close();
    settle(reactor);
    clock.advance(6s);
    settle(reactor);
    CHECK(notices == std::vector{Notice::close_timeout});
}
