#include <protocols/echo.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/testing/memory_transport.hpp>
#include <reactor/testing/scripted_demultiplexer.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace reactor::testing;
using namespace std::chrono_literals;

namespace {

/// Notes its calls, and acts as the test says.
struct Recorder final : Protocol {
    std::vector<std::string> log;
    std::function<std::size_t(Bytes)> on_received = [](Bytes input) { return input.size(); };
    std::function<void()> on_connected = [] {};
    std::function<void()> on_end = [] {};
    std::function<void()> on_resume = [] {};

    using Protocol::transport;
    void connected() override {
        log.push_back("connected");
        on_connected();
    }
    std::size_t received(Bytes input) override {
        log.push_back("received " + std::string(text_of(input)));
        return on_received(input);
    }
    void end_of_stream() override {
        log.push_back("end");
        on_end();
    }
    void disconnected(std::error_code reason) override {
        log.push_back(reason ? "disconnected " + reason.message() : "disconnected");
    }
    void pause_writing() override { log.push_back("pause"); }
    void resume_writing() override {
        log.push_back("resume");
        on_resume();
    }
};

using Log = std::vector<std::string>;

}  // namespace

TEST_CASE("An echo is tested without a socket") {
    MemoryTransport connection(std::make_unique<Echo>());
    connection.feed("hel");
    connection.feed("lo");
    CHECK(connection.take() == "hello");
    CHECK_FALSE(connection.ended());

    connection.end();
    CHECK(connection.ended());
    CHECK(connection.disconnected() == std::error_code());
}

TEST_CASE("A memory transport tells of a connection's life in order, and of its end once") {
    Recorder protocol;
    protocol.on_end = [&] { protocol.transport().close(); };
    MemoryTransport connection(protocol);
    connection.feed("a");
    connection.feed("b");
    connection.end();
    connection.reset();
    connection.settle();
    CHECK(protocol.log == Log{"connected", "received a", "received b", "end", "disconnected"});
}

TEST_CASE("What received leaves stands first in the next call, and is gone with the end") {
    Recorder protocol;
    protocol.on_received = [](Bytes input) { return input.size() / 3 * 3; };
    std::string left;
    protocol.on_end = [&] { left = text_of(protocol.transport().unconsumed()); };
    MemoryTransport connection(protocol);
    connection.feed("abcd");
    connection.feed("efgh");
    connection.end();
    CHECK(protocol.log == Log{"connected", "received abcd", "received defgh", "end"});
    CHECK(left == "gh");
    CHECK(connection.unconsumed().empty());
}

TEST_CASE("One read takes no more than read_size") {
    Recorder protocol;
    Limits limits;
    limits.read_size = 2;
    MemoryTransport connection(protocol, limits);
    connection.feed("abcde");
    CHECK(protocol.log == Log{"connected", "received ab", "received cd", "received e"});
}

TEST_CASE("S7: no call to the transport calls the protocol from inside") {
    Recorder protocol;
    MemoryTransport connection(protocol);
    protocol.on_received = [&](Bytes input) {
        const std::size_t calls = protocol.log.size();
        protocol.transport().pause_reading();
        protocol.transport().resume_reading();
        protocol.transport().write(std::string(200'000, 'x'));
        protocol.transport().close();
        protocol.transport().abort();
        CHECK(protocol.log.size() == calls);
        return input.size();
    };
    connection.feed("a");
    CHECK(protocol.log == Log{"connected", "received a", "disconnected Operation canceled"});
    CHECK(connection.was_reset());
    CHECK_FALSE(connection.ended());
}

TEST_CASE("Paused, nothing is received, no end either; resumed, the rest is given again") {
    Recorder protocol;
    protocol.on_received = [&](Bytes) {
        protocol.transport().pause_reading();
        return std::size_t(1);
    };
    MemoryTransport connection(protocol);
    connection.feed("abc");
    connection.feed("d");
    connection.end();
    CHECK(protocol.log == Log{"connected", "received abc"});
    CHECK(connection.waiting() == 1);
    CHECK_FALSE(connection.reading());

    protocol.on_received = [](Bytes input) { return input.size(); };
    protocol.transport().resume_reading();
    CHECK(protocol.log.size() == 2);  // not from inside
    connection.settle();
    CHECK(protocol.log == Log{"connected", "received abc", "received bcd", "end"});
}

TEST_CASE("S40: past the high mark the protocol is told once and its peer not read from, until the low mark") {
    Recorder protocol;
    Limits limits;
    limits.high_mark = 10;
    protocol.on_received = [&](Bytes input) {
        protocol.transport().write(input);
        return input.size();
    };
    MemoryTransport connection(protocol, limits);
    connection.fill();
    connection.feed("12345");
    connection.feed("67890");
    CHECK(connection.reading());
    connection.feed("x");
    CHECK_FALSE(connection.reading());
    connection.feed("not yet");
    CHECK(protocol.log == Log{"connected", "received 12345", "received 67890", "received x", "pause"});
    CHECK(connection.queued() == 11);

    connection.drain(8);
    CHECK(protocol.log.back() == "pause");
    connection.drain(1);
    CHECK(protocol.log.at(5) == "resume");
    CHECK(protocol.log.at(6) == "received not yet");
    CHECK(connection.take() == "123456789");
    connection.drain();
    CHECK(connection.take() == "0xnot yet");
}

TEST_CASE("A write past the high mark is followed by pause and resume even if all of it left meanwhile") {
    Recorder protocol;
    protocol.on_connected = [&] { protocol.transport().write(std::string(200'000, 'x')); };
    MemoryTransport connection(protocol);
    CHECK(protocol.log == Log{"connected", "pause", "resume"});
    CHECK(connection.queued() == 0);
}

TEST_CASE("Output without a bound ends the connection, and so does input that is never consumed") {
    Recorder protocol;
    Limits limits;
    limits.output_limit = 100;
    limits.input_limit = 100;
    MemoryTransport connection(protocol, limits);
    connection.fill();
    CHECK(protocol.transport().write(std::string(1000, 'x')));  // one message may pass it
    CHECK_FALSE(protocol.transport().write(std::string_view("x")));
    connection.settle();
    CHECK(connection.disconnected() == Error::output_limit);
    CHECK(connection.was_reset());

    Recorder never;
    never.on_received = [](Bytes) { return std::size_t(0); };
    MemoryTransport other(never, limits);
    other.feed(std::string(100, 'x'));
    CHECK_FALSE(other.disconnected());
    other.feed("x");
    CHECK(other.disconnected() == Error::input_limit);
}

TEST_CASE("S46: closing sends what is queued, then shows the end; nothing is written after it") {
    Recorder protocol;
    MemoryTransport connection(protocol);
    connection.fill();
    CHECK(protocol.transport().write(std::string_view("last words")));
    protocol.transport().close();
    CHECK_FALSE(protocol.transport().write(std::string_view("more")));
    connection.feed("thrown away");
    CHECK_FALSE(connection.ended());

    connection.drain();
    CHECK(connection.take() == "last words");
    CHECK(connection.ended());
    CHECK_FALSE(connection.disconnected());  // the peer has not closed yet
    connection.end();
    CHECK(protocol.log == Log{"connected", "disconnected"});
}

TEST_CASE("S13: after the peer's end everything may still be written") {
    Recorder protocol;
    MemoryTransport connection(protocol);
    connection.feed("question");
    connection.end();
    CHECK_FALSE(connection.disconnected());
    CHECK(protocol.transport().write(std::string_view("answer")));
    CHECK(connection.take() == "answer");
    protocol.transport().shutdown_write();
    connection.settle();
    CHECK(connection.disconnected() == std::error_code());
}

TEST_CASE("S14: data, then a reset: the data, then the error, once") {
    Recorder protocol;
    protocol.on_received = [&](Bytes input) {
        protocol.transport().pause_reading();
        return input.size();
    };
    MemoryTransport connection(protocol);
    connection.feed("a");
    connection.feed("b");
    CHECK(protocol.log == Log{"connected", "received a"});

    protocol.on_received = [](Bytes input) { return input.size(); };
    protocol.transport().resume_reading();
    connection.settle();
    connection.reset();
    connection.reset();
    CHECK(protocol.log == Log{"connected", "received a", "received b", "disconnected Connection reset by peer"});
}

TEST_CASE("S109: a reset ends a memory transport that is paused, an end of stream waits") {
    Recorder protocol;
    MemoryTransport connection(protocol);
    protocol.transport().pause_reading();
    connection.feed("a");
    connection.end();
    CHECK(protocol.log == Log{"connected"});
    connection.reset();
    CHECK(protocol.log == Log{"connected", "disconnected Connection reset by peer"});
}

TEST_CASE("S69: what a protocol throws ends its connection and reaches the test") {
    Recorder protocol;
    protocol.on_received = [](Bytes) -> std::size_t { throw std::runtime_error("out"); };
    MemoryTransport connection(protocol);
    CHECK_THROWS_WITH(connection.feed("a"), "out");
    CHECK(connection.disconnected() == Error::exception);
    connection.feed("b");
    CHECK(protocol.log.size() == 3);
}

TEST_CASE("A protocol that returns more from received than it was given has consumed all of it") {
    Recorder greedy;
    greedy.on_received = [](Bytes input) { return input.size() + 1; };
    MemoryTransport connection(greedy);
    connection.feed("a");
    connection.feed("b");
    CHECK(greedy.log == Log{"connected", "received a", "received b"});
}

TEST_CASE("S51: the limits of time hold when the test advances the clock, and not before") {
    Recorder protocol;
    Limits limits;
    SUBCASE("idle: traffic counts, in either direction") {
        limits.idle_timeout = 10s;
        MemoryTransport connection(protocol, limits);
        connection.advance(9s);
        connection.feed("a");
        connection.advance(9s);
        protocol.transport().write(std::string_view("b"));
        connection.advance(9s);
        CHECK_FALSE(connection.disconnected());
        connection.advance(1s);
        CHECK(connection.disconnected() == Error::idle_timeout);
        CHECK(protocol.log.back() == "disconnected " + make_error_code(Error::idle_timeout).message());
    }
    SUBCASE("a message: further bytes of the same message do not count") {
        limits.message_timeout = 10s;
        protocol.on_received = [](Bytes) { return std::size_t(0); };
        MemoryTransport connection(protocol, limits);
        connection.advance(20s);
        connection.feed("a");
        connection.advance(9s);
        connection.feed("b");
        CHECK_FALSE(connection.disconnected());
        connection.advance(1s);
        CHECK(connection.disconnected() == Error::message_timeout);
    }
    SUBCASE("a message: the next one has its own time") {
        limits.message_timeout = 10s;
        protocol.on_received = [](Bytes input) { return input.size() / 2; };
        MemoryTransport connection(protocol, limits);
        connection.feed("ab");
        connection.advance(9s);
        connection.feed("c");
        connection.advance(9s);
        CHECK_FALSE(connection.disconnected());
    }
    SUBCASE("output: what the peer takes counts") {
        limits.write_timeout = 10s;
        MemoryTransport connection(protocol, limits);
        connection.fill();
        protocol.transport().write(std::string_view("abc"));
        connection.advance(9s);
        connection.drain(1);
        connection.advance(9s);
        CHECK_FALSE(connection.disconnected());
        connection.advance(1s);
        CHECK(connection.disconnected() == Error::write_timeout);
        CHECK(connection.was_reset());
    }
    SUBCASE("S45: closing") {
        limits.close_timeout = 10s;
        MemoryTransport connection(protocol, limits);
        connection.advance(20s);
        protocol.transport().close();
        connection.advance(9s);
        CHECK_FALSE(connection.disconnected());
        connection.advance(1s);
        CHECK(connection.disconnected() == Error::close_timeout);
    }
}

TEST_CASE("A drain asks the protocol of a memory transport to end, and not again once it has closed") {
    struct Farewell final : Protocol {
        explicit Farewell(int& count) : asked(count) {}
        std::size_t received(Bytes input) override { return input.size(); }
        void draining() override {
            ++asked;
            transport().write(std::string_view("bye"));
            transport().close();
        }
        int& asked;
    };
    int asked = 0;
    MemoryTransport connection(std::make_unique<Farewell>(asked));
    connection.ask_to_drain();
    connection.ask_to_drain();
    CHECK(asked == 1);
    CHECK(connection.take() == "bye");
    CHECK(connection.ended());
}

TEST_CASE("S91: a memory transport takes any size of read, and more consumed than there was as all of it") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    for (const std::size_t size : {std::size_t(0), std::size_t(1), most - 1, most}) {
        CAPTURE(size);
        Limits limits;
        limits.read_size = size;
        Recorder greedy;
        greedy.on_received = [&](Bytes input) { return input.size() + 1; };
        MemoryTransport connection(greedy, limits);
        connection.feed("abc");
        connection.feed("d");
        CHECK(connection.unconsumed().empty());
        CHECK_FALSE(connection.disconnected());
        CHECK(greedy.log.back() == "received d");
        CHECK(greedy.log.size() == (size < 2 ? 5u : 3u));
    }
}

TEST_CASE("A protocol that is owned is destroyed after its last call") {
    struct Watched final : Protocol {
        explicit Watched(int& count) : destroyed(count) {}
        ~Watched() override { ++destroyed; }
        std::size_t received(Bytes input) override { return input.size(); }
        int& destroyed;
    };
    int destroyed = 0;
    MemoryTransport connection(std::make_unique<Watched>(destroyed));
    CHECK(destroyed == 0);
    connection.end();
    CHECK(destroyed == 1);
    connection.settle();
    CHECK_FALSE(connection.write(bytes_of("x")));
}

TEST_CASE("A protocol is told the addresses that the test gives its transport, and none before") {
    Recorder protocol;
    MemoryTransport connection(protocol);
    CHECK(protocol.transport().peer() == Address());
    const Address peer = *Address::ip("192.0.2.1", 1024), local = *Address::ip("192.0.2.2", 80);
    connection.set_addresses(peer, local);
    CHECK(protocol.transport().peer() == peer);
    CHECK(protocol.transport().local() == local);
}

TEST_CASE("Two protocols converse") {
    Recorder client;
    client.on_connected = [&] { client.transport().write(std::string_view("hello")); };
    client.on_received = [&](Bytes input) {
        if (text_of(input) == "hello") client.transport().shutdown_write();
        return input.size();
    };
    client.on_end = [&] { client.transport().close(); };
    MemoryTransport one(client);
    MemoryTransport other(std::make_unique<Echo>());
    converse(one, other);
    CHECK(client.log == Log{"connected", "received hello", "end", "disconnected"});
    CHECK(other.disconnected() == std::error_code());
}

TEST_CASE("A manual clock moves when it is told to, and never back") {
    ManualClock clock;
    const TimePoint start = clock.now();
    CHECK(clock.now() == start);
    clock.advance(1500us);
    CHECK(clock.now() == start + 1500us);
    CHECK_THROWS_AS(clock.advance(-1ns), std::invalid_argument);
    CHECK_THROWS_AS(clock.set(start), std::invalid_argument);
}

namespace {

struct Script {
    Script() : Script(nullptr) {}
    ManualClock clock;
    ScriptedDemultiplexer* script;
    Reactor reactor;

private:
    explicit Script(std::unique_ptr<ScriptedDemultiplexer> owned)
        : script((owned = std::make_unique<ScriptedDemultiplexer>(clock)).get()), reactor(std::move(owned), clock) {}
};

struct Counting final : EventHandler {
    int reads = 0;
    std::function<void()> on_readable = [] {};
    void readable() override {
        ++reads;
        on_readable();
    }
};

}  // namespace

TEST_CASE("A scripted demultiplexer moves the clock where a loop would wait: an hour of timers takes no time") {
    Script loop;
    const TimePoint start = loop.clock.now();
    std::vector<Duration> calls;
    Timer tick(loop.reactor, [&] { calls.push_back(loop.clock.now() - start); });
    tick.start_periodic(20min);
    Timer end(loop.reactor, [&] { loop.reactor.stop(); });
    end.start(1h);
    loop.reactor.run();
    CHECK(calls == std::vector<Duration>{20min, 40min, 60min});
}

TEST_CASE("A scripted batch comes when its time comes, between the timers") {
    Script loop;
    const TimePoint start = loop.clock.now();
    Counting handler;
    std::vector<std::string> log;
    handler.on_readable = [&] { log.push_back("readable at " + std::to_string((loop.clock.now() - start) / 1s)); };
    const Registration registration = loop.reactor.watch(7, Interest::readable, handler);
    Timer timer(loop.reactor, [&] { log.push_back("timer at " + std::to_string((loop.clock.now() - start) / 1s)); });
    timer.start(2s);
    loop.script->report({ready(7, Condition::readable)}, 1s);
    loop.script->report({ready(7, Condition::readable)}, 4s);
    for (int i = 0; i < 3; ++i) loop.reactor.run_once();
    CHECK(log == std::vector<std::string>{"readable at 1", "timer at 2", "readable at 5"});
    CHECK(loop.script->finished());
}

TEST_CASE("A scripted demultiplexer never hangs, and says what is wrong with a script") {
    Script loop;
    CHECK_THROWS_WITH_AS(loop.reactor.run_once(), "nothing is scripted and no timer is set: would wait for ever",
                         std::logic_error);
    loop.script->report({ready(7, Condition::readable)});
    CHECK_THROWS_WITH_AS(loop.reactor.run_once(), "descriptor 7 is not watched", std::logic_error);
}

TEST_CASE("S1: an event for an earlier life of a descriptor reaches nobody") {
    Script loop;
    Counting first, second;
    Registration registration = loop.reactor.watch(7, Interest::readable, first);
    loop.reactor.run_once(Duration::zero());
    CHECK(loop.reactor.backend() == "scripted");
    CHECK(loop.script->interest(7) == Interest::readable);
    const Token ghost = loop.script->token(7);
    registration.reset();
    CHECK(loop.script->interest(7) == Interest::none);
    registration = loop.reactor.watch(7, Interest::readable, second);
    loop.script->report({{ghost, Condition::readable}});
    loop.reactor.run_once();
    CHECK(first.reads + second.reads == 0);
    loop.script->report({ready(7, Condition::readable)});
    loop.reactor.run_once();
    CHECK(second.reads == 1);
}

TEST_CASE("S10: a handler paused by another of the same batch is not called") {
    Script loop;
    Counting first, second;
    Registration one = loop.reactor.watch(7, Interest::readable, first);
    Registration two = loop.reactor.watch(8, Interest::readable, second);
    first.on_readable = [&] { two.set_interest(Interest::none); };
    loop.script->report({ready(7, Condition::readable), ready(8, Condition::readable)});
    loop.reactor.run_once();
    CHECK(first.reads == 1);
    CHECK(second.reads == 0);
}

TEST_CASE("Every cut of a short input is tried once, and each puts the input together again") {
    Cuts cuts(10);
    // By their descriptions: libstdc++ 12 orders vectors of wide unsigned numbers wrongly on big-endian machines
    // (lexicographical_compare_three_way compares as many bytes as there are numbers).
    std::set<std::string> seen;
    while (const auto pieces = cuts.next()) {
        std::size_t sum = 0;
        for (const std::size_t piece : *pieces) {
            CHECK(piece > 0);
            sum += piece;
        }
        CHECK(sum == 10);
        CHECK(seen.insert(cuts.describe(*pieces)).second);
    }
    CHECK(seen.size() == 512);
    CHECK_FALSE(Cuts(0).next());
    CHECK(Cuts(1).next() == std::vector<std::size_t>{1});
}

TEST_CASE(
    "Of a long input the cuts are byte by byte, in two at each place, and random ones that a seed brings "
    "back") {
    const auto all = [](std::uint64_t seed) {
        Cuts cuts(100, 500, seed);
        std::vector<std::vector<std::size_t>> list;
        while (auto pieces = cuts.next()) list.push_back(*std::move(pieces));
        return list;
    };
    const auto list = all(1);
    CHECK(list.size() == 500);
    CHECK(list[0] == std::vector<std::size_t>(100, 1));
    CHECK(list[1] == std::vector<std::size_t>{1, 99});
    CHECK(list[99] == std::vector<std::size_t>{99, 1});
    CHECK(all(1) == list);
    CHECK(all(2) != list);
}

TEST_CASE("S88: the checker passes what is right, and finds a protocol that takes a read for a message") {
    CHECK(check_every_cut_of_protocol("0123456789", factory<Echo>()) == 512);

    struct Naive final : Protocol {  // answers each read, as if it were a line
        std::size_t received(Bytes input) override {
            transport().write(std::string_view("ok\n"));
            return input.size();
        }
    };
    try {
        check_every_cut_of_protocol("a line\n", factory<Naive>());
        FAIL("not found");
    } catch (const CutFailure& failure) {
        const std::string text = failure.what();
        CHECK(text.find("cut 1 + 6") == 0);
        CHECK(text.find("seed") != std::string::npos);
        CHECK(text.find("\"ok\nok\n\"") != std::string::npos);
    }

    // Only a cut between the two last bytes shows this one, in an input that is too long for every cut.
    const std::string input(300, 'x');
    const auto faulty = [](std::span<const Bytes> pieces) {
        return pieces.size() == 2 && pieces.front().size() == 299;
    };
    CHECK_THROWS_AS(check_every_cut(input, faulty), CutFailure);
}
