#include <protocols/echo.hpp>
#include <protocols/examples/chargen.hpp>
#include <protocols/examples/daytime.hpp>
#include <protocols/examples/discard.hpp>
#include <protocols/examples/publish_subscribe.hpp>
#include <protocols/examples/time.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <string>

using namespace reactor;
using namespace reactor::testing;

TEST_CASE("Echo gives back what comes, in every cut, and all of it before it closes") {
    CHECK_NOTHROW(check_every_cut_of_protocol("0123456789", factory<Echo>()));
    MemoryTransport connection(std::make_unique<Echo>());
    connection.fill();
    connection.feed("hello");
    connection.end();
    CHECK_FALSE(connection.ended());
    connection.drain();
    CHECK(connection.take() == "hello");
    CHECK(connection.disconnected() == std::error_code());
}

TEST_CASE("S40: an echo whose peer does not read stops reading from it, and loses nothing") {
    MemoryTransport connection(std::make_unique<Echo>());
    connection.fill();
    std::string input;
    for (int i = 0; i < 100'000; ++i) input += "line " + std::to_string(i) + "\n";
    connection.feed(input);
    CHECK(connection.queued() <= connection.limits().high_mark + connection.limits().read_size);
    CHECK(connection.waiting() > 0);
    std::string output;
    for (std::size_t i = 0; i < input.size(); i += 50'000) {
        connection.drain(50'000);
        output += connection.take();
    }
    CHECK(output == input);
}

TEST_CASE("Discard answers nothing and closes after its peer") {
    MemoryTransport connection(std::make_unique<Discard>());
    connection.feed("anything");
    connection.end();
    CHECK(connection.take().empty());
    CHECK(connection.ended());
    CHECK(connection.disconnected() == std::error_code());
}

TEST_CASE("The character generator's lines are those of RFC 864") {
    const std::string_view pattern = Chargen::pattern();
    CHECK(pattern.size() == 95 * 74);
    CHECK(pattern.substr(0, 74) == " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n");
    CHECK(pattern.substr(74, 74) == "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r\n");
    CHECK(pattern.substr(94 * 74, 4) == "~ !\"");
}

TEST_CASE("S40: the character generator is bounded by backpressure alone, and goes on without a gap") {
    MemoryTransport connection(std::make_unique<Chargen>());
    std::string output = connection.take();  // one turn's worth: no more is written than the peer takes
    connection.fill();
    connection.settle();
    const std::size_t bound = connection.limits().high_mark + Chargen::pattern().size();
    for (int i = 0; i < 50; ++i) {
        CHECK(connection.queued() <= bound);
        CHECK(connection.queued() > connection.limits().low_mark());
        connection.drain(100'000);
        output += connection.take();
    }
    CHECK(output.size() > 50 * 100'000);
    bool repeats = true;
    for (std::size_t i = 0; i < output.size(); ++i) {
        repeats = repeats && output[i] == Chargen::pattern()[i % Chargen::pattern().size()];
    }
    CHECK(repeats);
}

TEST_CASE("Who only speaks is not disturbed by what its peer says") {
    const auto never = [] { return std::chrono::system_clock::time_point(); };
    for (int which = 0; which < 3; ++which) {
        CAPTURE(which);
        const auto make = [&]() -> std::unique_ptr<Protocol> {
            if (which == 0) return std::make_unique<Daytime>(never);
            if (which == 1) return std::make_unique<Time>(never);
            return std::make_unique<Chargen>();
        };
        MemoryTransport silent(make()), talkative(make());
        silent.fill();
        talkative.fill();
        talkative.feed("what time is it?");
        CHECK_FALSE(talkative.disconnected());
        CHECK(talkative.unconsumed().empty());
        CHECK(talkative.take() == silent.take());
    }
}

TEST_CASE("Daytime says the date and the time in one line, and closes") {
    using namespace std::chrono;
    CHECK(Daytime::line(sys_days(year(1982) / 2 / 22) + 17h + 37min + 43s) ==
          "Monday, February 22, 1982 17:37:43-UTC\r\n");
    CHECK(Daytime::line(sys_days(year(2036) / 12 / 31) + 5min + 9s + 999ms) ==
          "Wednesday, December 31, 2036 00:05:09-UTC\r\n");

    MemoryTransport connection(std::make_unique<Daytime>([] { return system_clock::time_point(0s); }));
    CHECK(connection.take() == "Thursday, January 1, 1970 00:00:00-UTC\r\n");
    CHECK(connection.ended());
    connection.end();
    CHECK(connection.disconnected() == std::error_code());
}

TEST_CASE("Time says the seconds since 1900 as RFC 868 gives them, and closes") {
    using namespace std::chrono;
    using namespace std::string_view_literals;
    const auto seconds = [](sys_days day) {
        std::uint32_t value = 0;
        for (const std::byte byte : Time::encoded(day)) value = value << 8 | std::uint32_t(byte);
        return value;
    };
    // The RFC's own examples.
    CHECK(seconds(year(1970) / 1 / 1) == 2'208'988'800);
    CHECK(seconds(year(1976) / 1 / 1) == 2'398'291'200);
    CHECK(seconds(year(1980) / 1 / 1) == 2'524'521'600);
    CHECK(seconds(year(1983) / 5 / 1) == 2'629'584'000);
    CHECK(seconds(year(1858) / 11 / 17) == std::uint32_t(-1'297'728'000));
    // The era's end, 2^32 seconds after its beginning.
    CHECK(seconds(year(2036) / 2 / 7) == 0xffffffff - (6 * 3600 + 28 * 60 + 15));

    MemoryTransport connection(std::make_unique<Time>([] { return system_clock::time_point(1s); }));
    CHECK(connection.take() == "\x83\xaa\x7e\x81"sv);
    CHECK(connection.ended());
}

TEST_CASE("What is published reaches who has subscribed, and nobody else") {
    Broker broker;
    MemoryTransport alice(broker.subscriber());
    MemoryTransport bob(broker.subscriber());
    alice.feed("SUBSCRIBE news\nSUBSCRIBE news\nSUBSCRIBE weather\n");
    CHECK(alice.take() == "OK\r\nOK\r\nOK\r\n");
    bob.feed("PUBLISH news it  rains\r\nPUBLISH sport nobody cares\r\n");
    CHECK(bob.take() == "OK 1\r\nOK 0\r\n");
    CHECK(alice.take() == "MESSAGE news it  rains\r\n");

    bob.feed("SUBSCRIBE news\nPUBLISH news\n");  // its own message too, even an empty one
    CHECK(bob.take() == "OK\r\nMESSAGE news \r\nOK 2\r\n");
    CHECK(alice.take() == "MESSAGE news \r\n");

    alice.feed("UNSUBSCRIBE news\nUNSUBSCRIBE never\n");
    bob.feed("PUBLISH news gone\nPING\nQUIT\nPING\n");
    CHECK(alice.take() == "OK\r\nOK\r\n");
    CHECK(bob.take() == "MESSAGE news gone\r\nOK 1\r\nPONG\r\nBYE\r\n");
    CHECK(bob.ended());
    CHECK(broker.topics() == 1);
    alice.reset();
    CHECK(broker.topics() == 0);
}

TEST_CASE("The broker says what it does not understand, and ends only what cannot be understood") {
    Broker broker({.most_topics = 1});
    MemoryTransport connection(broker.subscriber());
    connection.feed("subscribe news\nSUBSCRIBE\nSUBSCRIBE two words\nSUBSCRIBE " + std::string(201, 'x') +
                    "\nSUBSCRIBE a\nSUBSCRIBE b\n\n");
    CHECK(connection.take() ==
          "ERROR unknown command\r\n"
          "ERROR a topic is one word of at most 200 bytes\r\n"
          "ERROR a topic is one word of at most 200 bytes\r\n"
          "ERROR a topic is one word of at most 200 bytes\r\n"
          "OK\r\nERROR too many topics\r\nERROR unknown command\r\n");
    connection.feed(std::string(8193, 'x'));
    CHECK(connection.take() == "ERROR a line has at most 8192 bytes\r\n");
    CHECK(connection.ended());
    CHECK(broker.topics() == 0);
}

TEST_CASE("A slow subscriber misses messages and is told how many; nobody else notices") {
    Broker broker({.backlog = 1000});
    MemoryTransport slow(broker.subscriber());
    MemoryTransport quick(broker.subscriber());
    MemoryTransport publisher(broker.subscriber());
    slow.feed("SUBSCRIBE t\n");
    quick.feed("SUBSCRIBE t\n");
    slow.take();
    quick.take();
    slow.fill();
    const std::string text(88, 'x');  // "MESSAGE t " and CRLF make 100
    for (int i = 0; i < 1000; ++i) publisher.feed("PUBLISH t " + text + "\n");
    CHECK(slow.queued() == 1000);
    CHECK(quick.take().size() == 100'000);

    slow.drain();
    CHECK(slow.take().size() == 1000);
    publisher.feed("PUBLISH t again\n");
    CHECK(slow.take() == "DROPPED 990\r\nMESSAGE t again\r\n");
    CHECK(quick.take() == "MESSAGE t again\r\n");
}

TEST_CASE("A slow subscriber is disconnected, where that is the policy, and nobody else notices") {
    Broker broker({.when_slow = Broker::WhenSlow::disconnect, .backlog = 1000});
    MemoryTransport slow(broker.subscriber());
    MemoryTransport quick(broker.subscriber());
    slow.feed("SUBSCRIBE t\n");
    quick.feed("SUBSCRIBE t\n");
    slow.fill();
    for (int i = 0; i < 20; ++i) broker.publish("t", std::string(88, 'x'));
    slow.settle();
    CHECK(slow.disconnected() == Error::output_limit);
    CHECK(quick.take().size() == 4 + 2000);
    CHECK(broker.publish("t", "x") == 1);
}

TEST_CASE("S88: the broker answers the same in every cut") {
    Broker broker;
    CHECK_NOTHROW(check_every_cut_of_protocol(
        "SUBSCRIBE a\r\nPUBLISH a b\nPING\nQUIT\n", [&] { return broker.subscriber(); }, 1000));
}

TEST_CASE("S110: a publisher whose lines ask for many messages gets all its answers, in several turns") {
    Broker broker({.messages_at_once = 3});
    MemoryTransport subscriber(broker.subscriber());
    MemoryTransport publisher(broker.subscriber());
    subscriber.feed("SUBSCRIBE t\n");
    subscriber.take();
    publisher.feed("PUBLISH t 1\nPUBLISH t 2\nPUBLISH t 3\nPUBLISH t 4\nPUBLISH t 5\nPING\nPUBLISH");
    CHECK(publisher.take() == "OK 1\r\nOK 1\r\nOK 1\r\nOK 1\r\nOK 1\r\nPONG\r\n");
    publisher.feed(" t 6\n");
    CHECK(publisher.take() == "OK 1\r\n");
    CHECK(subscriber.take().size() == 6 * std::string("MESSAGE t 1\r\n").size());
}
