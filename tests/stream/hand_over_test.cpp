// A protocol that lets another one take its place, on every kind of transport.
#include "../support/giver.hpp"

#include <reactor/reactor.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/stream/transport_handle.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <doctest/doctest.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

using namespace reactor;

namespace {

using Log = Giver::Log;

struct OnSocket {
    void open(const ConnectionOptions& options = {}) {
        auto [theirs, ours] = Socket::pair();
        peer = std::move(theirs);
        Connection::open(reactor, std::move(ours), std::make_unique<Giver>(log), options);
    }
    void connect(const ConnectionOptions& options = {}) {
        open(options);
        settle(reactor);
    }

    Log log;  // before the loop, whose end destroys the protocols
    Reactor reactor;
    Socket peer;
};

}  // namespace

TEST_CASE_FIXTURE(
    OnSocket,
    "A protocol hands over in its call: the next one gets what was left and all that follows, and the first goes") {
    SUBCASE("on a socket") {
        connect();
        write_some(peer, "next\nleft");
        settle(reactor);
        CHECK(read_all(peer) == "handing over\n");
        CHECK(log.next.calls == std::vector<std::string>{"connected", "received"});
        CHECK(log.next.input == "left");
        write_some(peer, " and more");
        settle(reactor);
        CHECK(log.next.input == "left and more");
        CHECK(log.gone);
        log.next.transport->write("answer");
        CHECK(read_all(peer) == "answer");
        (void)peer.shutdown_write();
        settle(reactor);
        peer.close();
        settle(reactor);
        CHECK(log.next.calls == std::vector<std::string>{"connected", "received", "end", "disconnected"});
    }
    SUBCASE("in memory") {
        testing::MemoryTransport transport(std::make_unique<Giver>(log));
        transport.feed("next\nle");
        transport.feed("ft");
        CHECK(transport.take() == "handing over\n");
        CHECK(log.next.input == "left");
        CHECK(log.gone);
        transport.end();
        CHECK(log.next.calls == std::vector<std::string>{"connected", "received", "end", "disconnected"});
    }
    SUBCASE("on pipes") {
        int in[2], out[2];
        REQUIRE(::pipe(in) == 0);
        REQUIRE(::pipe(out) == 0);
        const FileDescriptor writing(in[1]), reading(out[0]);
        PipeTransport::open(reactor, FileDescriptor(in[0]), FileDescriptor(out[1]), std::make_unique<Giver>(log));
        settle(reactor);
        REQUIRE(::write(writing.get(), "next\nleft", 9) == 9);
        settle(reactor);
        char text[32];
        CHECK(::read(reading.get(), text, sizeof text) == 13);
        CHECK(log.next.input == "left");
        log.next.transport->close();
        settle(reactor);
        CHECK(log.next.over);
    }
    CHECK(log.result);
    CHECK(log.gone);
    CHECK_FALSE(log.gone_in_call);
    CHECK(log.calls == "r");
}

TEST_CASE_FIXTURE(
    OnSocket, "A protocol hands over outside of its calls, while reading is paused and output waits above the mark") {
    ConnectionOptions options;
    options.prepare = send_buffer(4096);
    options.limits.high_mark = 10'000;
    connect(options);
    Giver& giver = *log.giver;
    giver.transport().pause_reading();
    giver.transport().write(random_bytes(500'000, 1));
    settle(reactor);
    CHECK(log.calls == "p");
    write_some(peer, "unread");
    settle(reactor);
    REQUIRE(giver.give());
    CHECK_FALSE(log.gone);
    settle(reactor);
    CHECK(log.gone);
    CHECK(log.next.calls == std::vector<std::string>{"connected", "pause", "received"});
    CHECK(log.next.input == "unread");
    std::string got;
    run_until(reactor, [&] {
        got += read_all(peer);
        return log.next.count("resume") == 1;
    });
    CHECK(log.calls == "p");
}

TEST_CASE_FIXTURE(OnSocket,
                  "A protocol cannot hand over before it is connected, twice, to nothing, or when the end has begun") {
    SUBCASE("before it is connected") {
        open();
        CHECK_THROWS_AS(log.giver->give(), std::logic_error);
        settle(reactor);
        CHECK_FALSE(log.gone);
        return;
    }
    connect();
    SUBCASE("twice") {
        REQUIRE(log.giver->give());
        CHECK_THROWS_AS(log.giver->give(), std::logic_error);
    }
    SUBCASE("to nothing") {
        CHECK_THROWS_AS(log.giver->hand_over_to(nullptr), std::invalid_argument);
    }
    SUBCASE("after a close") {
        log.giver->transport().close();
        CHECK_FALSE(log.giver->give());
        settle(reactor);
        peer.close();
        settle(reactor);
        CHECK(log.calls == "cd");
    }
    SUBCASE("after the peer's end") {
        (void)peer.shutdown_write();
        settle(reactor);
        CHECK(log.calls == "e");
        CHECK_FALSE(log.giver->give());
        CHECK_FALSE(log.gone);
    }
}

TEST_CASE_FIXTURE(OnSocket,
                  "A connection that ends before the next protocol is connected is over for that one at once") {
    connect();
    log.in_received = [](Giver& giver) {
        REQUIRE(giver.give());
        giver.transport().abort();
    };
    write_some(peer, "next\n");
    settle(reactor);
    CHECK(log.next.calls == std::vector<std::string>{"disconnected"});
    CHECK(log.next.reason == std::errc::operation_canceled);
    CHECK(log.gone);
    CHECK(log.calls == "r");
}

TEST_CASE_FIXTURE(OnSocket, "A call that a handle posts meanwhile comes to the next protocol, behind its beginning") {
    connect();
    std::string seen;
    log.in_received = [&](Giver& giver) {
        giver.transport().handle().post([&](Protocol& protocol) {
            seen = log.next.calls.empty() ? "too early" : "behind";
            CHECK(dynamic_cast<Recorder*>(&protocol) != nullptr);
        });
        REQUIRE(giver.give());
    };
    write_some(peer, "next\n");
    settle(reactor);
    CHECK(seen == "behind");
}

TEST_CASE_FIXTURE(OnSocket, "A connection moves to another loop right behind handing over") {
    Reactor there;
    connect();
    log.in_received = [&](Giver& giver) {
        REQUIRE(giver.give());
        giver.transport().move_to(there);
    };
    write_some(peer, "next\nleft");
    for (int i = 0; i < 10; ++i) {
        settle(reactor);
        settle(there);
    }
    CHECK(log.gone);
    REQUIRE(log.next.transport != nullptr);
    CHECK(&log.next.transport->reactor() == &there);
    CHECK(log.next.input == "left");
}
