// A TLS connection goes from one loop to another, at any moment: before, inside and behind its handshake.
#include "raw_peer.hpp"

#include <reactor/detail/internals.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <fcntl.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace reactor;
using Calls = std::vector<std::string>;

namespace {

const TlsContext& moving_server() {
    static const TlsContext context(server_options());
    return context;
}
const TlsContext& moving_client() {
    static const TlsContext context(client_options());
    return context;
}

// This side of a conversation on one of two loops, which this thread turns in turn, and a peer of OpenSSL alone.
struct Moving {
    explicit Moving(bool server = true, TlsVersion version = TlsVersion::tls_1_3) : peer(!server, version) {
        auto [far, near] = Socket::pair();
        socket = std::move(far);
        auto protocol = std::make_unique<Recorder>(journal);
        carrier = &Connection::open(here, std::move(near),
                                    server ? tls(moving_server(), std::move(protocol))
                                           : tls(moving_client(), "localhost", std::move(protocol)));
    }
    void settle() {
        ::settle(here);
        ::settle(there);
        ::settle(here);
    }
    void send(std::string_view data) {
        REQUIRE(write_some(socket, data) == data.size());
        settle();
    }
    /// Carries what both have to say, until they are silent.
    void run() {
        settle();
        peer.step();
        for (;;) {
            peer.feed(read_all(socket));
            const std::string data = peer.take();
            if (data.empty()) return;
            send(data);
        }
    }
    std::size_t connections(Reactor& loop) {
        std::size_t count = 0;
        Internals(loop).for_each_owned([&](OwnedHandler&) { ++count; });
        return count;
    }

    testing::ManualClock clock;  // it stands: a handshake never waits for time
    Reactor here{"auto", clock}, there{"auto", clock};
    Journal journal;
    RawPeer peer;
    Socket socket;
    Connection* carrier = nullptr;
};

}  // namespace

TEST_CASE("A TLS connection goes on on another loop, with its handles, its rest and what waits to be sent") {
    Moving moving;
    Journal& journal = moving.journal;
    moving.run();
    CHECK(journal.calls == Calls{"connected"});
    const TransportHandle handle = journal.transport->handle();
    std::vector<std::string> inputs;
    bool arrived = false;
    journal.on_received = [&](Bytes input) {
        inputs.emplace_back(text_of(input));
        if (inputs.size() > 1) return input.size();
        journal.transport->write("one moment");
        journal.transport->move_to(moving.there, [&] {
            arrived = true;
            journal.transport->write(", from there");
        });
        CHECK_FALSE(journal.transport->reading());
        journal.transport->write(", please");
        return std::size_t(2);
    };
    moving.peer.write("hello");
    moving.peer.write("more");
    moving.run();
    CHECK(arrived);
    CHECK(&journal.transport->reactor() == &moving.there);
    CHECK(moving.connections(moving.here) == 0);
    REQUIRE(inputs.size() >= 2);
    CHECK(inputs[1] == "llomore");
    CHECK(handle.write(", posted"));
    moving.run();
    CHECK(moving.peer.received == "one moment, please, from there, posted");
    SSL_shutdown(moving.peer.ssl());
    moving.run();
    CHECK(journal.count("end") == 1);
    moving.socket.close();
    moving.settle();
    CHECK(journal.over);
    CHECK_FALSE(journal.reason);
}

TEST_CASE("It moves at any moment of its handshake, by its transport or by its carrier, and is connected once") {
    for (const bool server : {true, false}) {
        for (const TlsVersion version : {TlsVersion::tls_1_2, TlsVersion::tls_1_3}) {
            std::size_t size = 1000;
            for (std::size_t moment = 0; moment < size; moment += 53) {
                Moving moving(server, version);
                Journal& journal = moving.journal;
                int arrived = 0;
                const auto move = [&](Reactor& target) {
                    moving.carrier->move_to(target, [&] { ++arrived; });
                    moving.settle();
                };
                std::size_t sent = 0;
                if (moment == 0) move(moving.there);
                const auto feed = [&](std::string_view data) {
                    if (moment > sent && moment <= sent + data.size()) {
                        moving.send(data.substr(0, moment - sent));
                        move(moving.there);
                        move(moving.here);
                        move(moving.there);
                        data.remove_prefix(moment - sent);
                        sent = moment;
                    }
                    if (!data.empty()) moving.send(data);
                    sent += data.size();
                };
                moving.settle();
                moving.peer.step();
                for (;;) {
                    moving.peer.feed(read_all(moving.socket));
                    const std::string data = moving.peer.take();
                    if (data.empty()) break;
                    feed(data);
                }
                size = sent;
                REQUIRE(journal.calls == Calls{"connected"});
                CHECK(arrived == (moment == 0 ? 1 : 3));
                CHECK(&journal.transport->reactor() == &moving.there);
                moving.peer.write("question");
                journal.transport->write("answer");
                moving.run();
                CHECK(journal.input == "question");
                CHECK(moving.peer.received == "answer");
            }
        }
    }
}

TEST_CASE("A protocol that asks to move before its handshake is done is told of its arrival behind connected") {
    Moving moving;
    Journal& journal = moving.journal;
    moving.peer.step();
    moving.settle();
    moving.carrier->move_to(moving.there);
    // As a program does that has the carrier alone: it posts to the protocol inside, which is not connected yet.
    moving.carrier->handle().post([&](Protocol&) { journal.calls.emplace_back("posted"); });
    moving.run();
    CHECK(journal.calls == Calls{"connected", "posted"});
}

TEST_CASE("TLS inside TLS goes to another loop, and goes on there") {
    testing::ManualClock clock;
    Journal of_server, of_client;
    auto here = std::make_unique<Reactor>("auto", clock);
    Reactor there("auto", clock);
    auto [one, other] = Socket::pair();
    Connection::open(*here, std::move(one),
                     tls(moving_server(), tls(moving_server(), std::make_unique<Recorder>(of_server))));
    Connection::open(
        *here, std::move(other),
        tls(moving_client(), "localhost", tls(moving_client(), "localhost", std::make_unique<Recorder>(of_client))));
    of_server.on_received = [&](Bytes input) {
        of_server.transport->write(input);
        return input.size();
    };
    const auto hear = [&](std::string_view expected) {
        for (int i = 0; i < 1000 && of_client.input != expected; ++i) {
            if (here != nullptr) settle(*here);
            settle(there);
        }
        REQUIRE(of_client.input == expected);
    };
    of_client.on_connected = [&] { of_client.transport->write("here"); };
    hear("here");
    of_server.transport->move_to(there);
    of_client.transport->write(", there");
    hear("here, there");
    CHECK(&of_server.transport->reactor() == &there);
    of_client.transport->move_to(there);
    of_client.transport->write(", both");
    hear("here, there, both");
    here.reset();  // and with it what TLS had there
    of_client.transport->write(", alone");
    hear("here, there, both, alone");
}

TEST_CASE("A file and the bytes behind it go along to another loop") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(1'000'000, 1), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    Moving moving;
    moving.run();
    Transport& transport = *moving.journal.transport;
    transport.write_file(FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
    transport.write("tail");
    transport.shutdown_write();
    ::settle(moving.here, 3);
    transport.move_to(moving.there);
    for (int i = 0; i < 1000 && !moving.peer.ended(); ++i) {
        if (i % 10 == 5) transport.move_to(i % 20 == 5 ? moving.here : moving.there);
        moving.settle();
        moving.peer.feed(read_all(moving.socket));
    }
    CHECK(moving.peer.received == content + "tail");
    CHECK(moving.peer.ended());
}

TEST_CASE("The deadline of a handshake begins anew on the other loop, and that of the first loop is gone") {
    testing::ManualClock first, second;
    Reactor here("auto", first), there("auto", second);
    auto [far, near] = Socket::pair();
    Journal journal;
    Connection& carrier =
        Connection::open(here, std::move(near), tls(moving_server(), std::make_unique<Recorder>(journal)));
    ::settle(here);
    carrier.move_to(there);
    ::settle(here);
    ::settle(there);
    first.advance(std::chrono::seconds(11));
    ::settle(here);
    second.advance(std::chrono::seconds(9));
    ::settle(there);
    CHECK_FALSE(journal.over);
    second.advance(std::chrono::seconds(1));
    ::settle(there);
    CHECK(journal.reason == Error::handshake_timeout);
}

TEST_CASE("A connection whose handshake waits for its turn may move, and has its turn there") {
    // Each look at it takes longer than an iteration's time for handshakes.
    struct SlowClock final : Clock {
        TimePoint now() const noexcept override { return time += std::chrono::milliseconds(10); }
        mutable TimePoint time{std::chrono::hours(1)};
    } clock;
    TlsServerOptions of_server = server_options();
    TlsClientOptions of_client = client_options();
    of_server.handshake_timeout = of_client.handshake_timeout = Duration::zero();
    const TlsContext server_side(of_server), client_side(of_client);
    for (const bool server : {true, false}) {
        CAPTURE(server);
        Reactor here("auto", clock), there;
        Journal journals[3];
        Socket sockets[3];
        Connection* carriers[3];
        std::vector<std::unique_ptr<RawPeer>> peers;
        for (int i = 0; i < 3; ++i) {
            auto [far, near] = Socket::pair();
            sockets[i] = std::move(far);
            auto protocol = std::make_unique<Recorder>(journals[i]);
            carriers[i] = &Connection::open(
                here, std::move(near),
                server ? tls(server_side, std::move(protocol)) : tls(client_side, "localhost", std::move(protocol)));
            peers.push_back(std::make_unique<RawPeer>(!server, TlsVersion::tls_1_3));
            peers[std::size_t(i)]->step();
            write_some(sockets[i], peers[std::size_t(i)]->take());
        }
        for (int i = 0; i < 3; ++i) here.run_once(Duration::zero());
        for (Connection* const carrier : carriers) carrier->move_to(there);
        for (int turns = 0; turns < 20; ++turns) {
            ::settle(here, 5);
            ::settle(there, 5);
            for (int i = 0; i < 3; ++i) {
                peers[std::size_t(i)]->feed(read_all(sockets[i]));
                write_some(sockets[i], peers[std::size_t(i)]->take());
            }
        }
        for (const Journal& journal : journals) CHECK(journal.calls == Calls{"connected"});
    }
}

TEST_CASE("A transport that cannot move says so") {
    Pair pair;
    pair.run();
    Reactor other;
    CHECK_THROWS_AS(pair.of_server.transport->move_to(other), std::logic_error);
    CHECK_THROWS_AS(pair.server.move_to(other), std::logic_error);
}

TEST_CASE("A TLS connection goes to and fro between the loops of two threads, and loses nothing") {
    Moving moving;
    Journal& journal = moving.journal;
    moving.run();
    Reactor &here = moving.here, &there = moving.there;
    constexpr int most = 200;
    std::atomic<int> moves = 0;
    Transport& transport = *journal.transport;
    journal.on_received = [&](Bytes input) {
        const bool again = moves < most;
        const Bytes taken = input.first(again && input.size() > 3 ? input.size() - 3 : input.size());
        transport.write(taken);
        if (again) transport.move_to(&transport.reactor() == &here ? there : here, [&] { ++moves; });
        return taken.size();
    };
    std::thread other([&] { there.run(); });
    std::string sent, waiting;
    for (int last = 0; last < 2;) {
        if (moves >= most) ++last;
        const std::string piece = random_bytes(1000, unsigned(sent.size()));
        sent += piece;
        moving.peer.write(piece);
        run_until(here, [&] {
            waiting += moving.peer.take();
            waiting.erase(0, write_some(moving.socket, waiting));
            moving.peer.feed(read_all(moving.socket));
            return moving.peer.received.size() + 3 >= sent.size();
        });
    }
    there.stop();
    other.join();
    CHECK(moves >= most);
    CHECK(moving.peer.received == sent);
}
