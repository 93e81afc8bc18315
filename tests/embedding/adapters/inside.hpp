// Shared by the tests of this loop inside others: the same checks for each outer loop. An outer loop gives one
// function, which runs one iteration of it, and may sleep.
#pragma once

#include <protocols/echo.hpp>
#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>

struct Outer {
    std::function<void()> iterate;                     ///< one iteration; a missing wake-up keeps it asleep
    std::function<void(std::function<void()>)> later;  ///< runs a callable from a handler of the outer loop's
    std::function<reactor::Reactor&()> inner;          ///< the reactor, for calls from outside its callbacks
};

inline int iterate_until(const Outer& outer, const std::function<bool()>& condition) {
    int iterations = 0;
    while (!condition() && iterations < 100'000) {
        outer.iterate();
        ++iterations;
    }
    REQUIRE(condition());
    return iterations;
}

class Asker final : public reactor::Framed<reactor::Lines> {
public:
    explicit Asker(int& left) : left_(left) {}

private:
    void connected() override { send("through the outer loop"); }
    void message(reactor::Bytes line) override {
        CHECK(reactor::text_of(line) == "through the outer loop");
        --left_ > 0 ? void(send("through the outer loop")) : transport().close();
    }
    int& left_;
};

inline void check_inside(const char* name, const Outer& outer) {
    using namespace reactor;
    using namespace std::chrono_literals;
    Reactor& inner = outer.inner();

    {  // a server and a client
        const Acceptor acceptor(outer.inner(), "127.0.0.1", 0, factory<Echo>());
        int left = 20;
        const Connector connector(outer.inner(), "127.0.0.1", acceptor.addresses().front().port(),
                                  factory<Asker>(std::ref(left)));
        const std::uint64_t before = inner.counters().turns;
        const int iterations = iterate_until(outer, [&] { return left == 0 && acceptor.connections() == 0; });
        const int turns = int(inner.counters().turns - before);
        std::printf("| %s | %.2f | %.2f |\n", name, iterations / 40.0, turns / 40.0);
        if (inner.native_handle() >= 0) CHECK(turns < 200);
    }
    {  // a timer, which is never early, and does not spin
        bool due = false;
        const TimePoint start = inner.now();
        const Timer timer = outer.inner().after(30ms, [&] { due = true; });
        const std::uint64_t before = inner.counters().turns;
        iterate_until(outer, [&] { return due; });
        CHECK(inner.now() - start >= 30ms);
        CHECK(inner.counters().turns - before < 20);
    }
    {  // a post from another thread
        bool posted = false;
        std::thread thread([&] { inner.post([&] { posted = true; }); });
        iterate_until(outer, [&] { return posted; });
        thread.join();
    }
    {  // a timer, a deferred call and a hook's work that a handler of the outer loop leaves
        bool due = false, called = false;
        Timer timer;
        Deferred deferred;
        outer.later([&] {
            timer = outer.inner().after(1ms, [&] { due = true; });
            deferred = outer.inner().defer([&] { called = true; });
        });
        iterate_until(outer, [&] { return due && called; });
    }
}

/// `make` makes the driver of the outer loop, which goes in a timer's call and in a posted task's.
template <class Make>
void check_destroyed_inside(reactor::Reactor& inner, Make make, const std::function<void()>& iterate) {
    for (const bool by_timer : {true, false}) {
        CAPTURE(by_timer);
        auto driver = make();
        reactor::Timer timer(inner, [&] { driver.reset(); });
        by_timer ? timer.start(std::chrono::milliseconds(1)) : void(inner.post([&] { driver.reset(); }));
        while (driver != nullptr) iterate();
    }
}
