// The forwarder: a client here, a target there, and nothing lost, kept or misunderstood in between.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <protocols/forward.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/drain.hpp>

#include <deque>
#include <optional>

using namespace reactor;

namespace {

// A target that writes down what it hears, a forwarder to it, and a raw client.
struct Path {
    explicit Path(std::size_t send_buffer = 0) : target(reactor, "127.0.0.1", 0, record(), small(send_buffer)) {
        forward.emplace(reactor, "127.0.0.1", 0,
                        factory<Forward>(std::ref(reactor), std::string("127.0.0.1"), target.addresses()[0].port(),
                                         far_options(send_buffer)),
                        small(send_buffer));
    }
    ProtocolFactory record() {
        return [this]() -> std::unique_ptr<Protocol> {
            targets.emplace_back();
            if (on_target) on_target(targets.back());
            return std::make_unique<Recorder>(targets.back());
        };
    }
    static std::function<void(Socket&)> buffers(std::size_t bytes) {
        return [bytes](Socket& socket) {
            if (bytes == 0) return;
            socket.set_send_buffer(bytes);
            socket.set_receive_buffer(bytes);
        };
    }
    static AcceptorOptions small(std::size_t buffer) {
        AcceptorOptions options;
        options.connection.prepare = buffers(buffer);
        return options;
    }
    static ConnectorOptions far_options(std::size_t buffer) {
        ConnectorOptions options;
        options.connection.prepare = buffers(buffer);
        return options;
    }
    Socket connect(int receive_buffer = 0) {
        Socket client = Socket::open(Address::Family::ipv4);
        if (receive_buffer > 0) client.set_receive_buffer(std::size_t(receive_buffer));
        (void)client.connect(forward->addresses()[0]);
        return client;
    }
    Journal& reached() {
        run_until(reactor, [&] { return !targets.empty() && targets.back().transport != nullptr; });
        return targets.back();
    }

    Reactor reactor;
    std::deque<Journal> targets;
    std::function<void(Journal&)> on_target;
    Acceptor target;
    std::optional<Acceptor> forward;
};

}  // namespace

TEST_CASE("Forwarded, 8 MB arrive exactly, in both directions at once, in whatever pieces they come") {
    Path path;
    const std::string question = random_bytes(8'000'000, 1), answer = random_bytes(8'000'000, 2);
    Socket client = path.connect();
    Journal& target = path.reached();
    target.transport->write(answer);
    std::size_t sent = 0;
    std::string back;
    run_until(path.reactor, [&] {
        sent += write_some(client, std::string_view(question).substr(sent, 99'991));
        back += read_all(client);
        return target.input.size() == question.size() && back.size() == answer.size();
    });
    CHECK(target.input == question);
    CHECK(back == answer);
}

TEST_CASE("Forwarded, the end of one direction leaves the other open, whichever side ends first") {
    for (const bool client_first : {true, false}) {
        CAPTURE(client_first);
        Path path;
        path.on_target = [](Journal& target) { target.on_end = [] {}; };  // does not close by itself
        Socket client = path.connect();
        Journal& target = path.reached();
        bool ended = false;
        std::string back;
        const auto client_sees_end = [&] {
            run_until(path.reactor, [&] {
                back += read_all(client, &ended);
                return ended;
            });
        };
        if (client_first) {
            write_some(client, "last words");
            client.shutdown_write();
            run_until(path.reactor, [&] { return target.count("end") == 1; });
            CHECK(target.input == "last words");
            target.transport->write("answer to them");
            target.transport->close();
            client_sees_end();
            CHECK(back == "answer to them");
        } else {
            target.transport->write("last words");
            target.transport->shutdown_write();
            client_sees_end();
            CHECK(back == "last words");
            write_some(client, "answer to them");
            client.shutdown_write();
            run_until(path.reactor, [&] { return target.over; });
            CHECK(target.input == "answer to them");
        }
        run_until(path.reactor, [&] { return target.over && path.forward->connections() == 0; });
        CHECK_FALSE(target.reason);
    }
}

TEST_CASE("Forwarded, a reset is a reset at the other side") {
    for (const bool by_client : {true, false}) {
        CAPTURE(by_client);
        Path path;
        Socket client = path.connect();
        Journal& target = path.reached();
        if (by_client) {
            client.set_linger(std::chrono::seconds(0));
            client = Socket();
            run_until(path.reactor, [&] { return target.over; });
            CHECK(target.reason == std::errc::connection_reset);
        } else {
            target.transport->abort();
            run_until(path.reactor, [&] { return path.forward->connections() == 0; });
            CHECK(client.pending_error() == std::errc::connection_reset);
        }
        run_until(path.reactor, [&] { return path.forward->connections() == 0 && path.target.connections() == 0; });
    }
}

TEST_CASE("Forwarded, who reads nothing stops who sends, with no more kept than the marks allow") {
    Path path(8192);
    path.on_target = [](Journal& target) { target.on_connected = [&target] { target.transport->pause_reading(); }; };
    Socket client = path.connect();
    client.set_send_buffer(8192);
    Journal& target = path.reached();
    const std::string block(65536, 'x');
    std::size_t sent = 0;
    for (int quiet = 0; quiet < 3;) {  // until nothing more fits anywhere
        const std::size_t count = write_some(client, block);
        sent += count;
        quiet = count == 0 && settle(path.reactor) <= 2 ? quiet + 1 : 0;
    }
    CHECK(sent < 2'000'000);
    CHECK(settle(path.reactor) <= 2);

    target.transport->resume_reading();
    client.shutdown_write();
    run_until(path.reactor, [&] { return target.over; });
    CHECK(target.input.size() == sent);
}

TEST_CASE("A client whose target refuses is reset") {
    Path path;
    path.target.close();
    Socket client = path.connect();
    write_some(client, "is anybody there?");
    run_until(path.reactor, [&] { return path.forward->counters().accepted == 1 && path.forward->connections() == 0; });
    CHECK(client.pending_error() == std::errc::connection_reset);
}

TEST_CASE("How connecting to the target ended is told each time") {
    Reactor reactor;
    Acceptor target(reactor, "127.0.0.1", 0, factory<Echo>());
    std::vector<std::error_code> told;
    const std::function<void(std::error_code)> tried = [&](std::error_code error) { told.push_back(error); };
    Acceptor forward(reactor, "127.0.0.1", 0,
                     factory<Forward>(std::ref(reactor), std::string("127.0.0.1"), target.addresses()[0].port(),
                                      ConnectorOptions(), tried));
    const auto connect = [&] {
        Socket client = Socket::open(Address::Family::ipv4);
        (void)client.connect(forward.addresses()[0]);
        run_until(reactor, [&, before = told.size()] { return told.size() > before; });
        return client;
    };
    const Socket served = connect();
    target.close();
    const Socket refused = connect();
    const Socket refused_too = connect();
    REQUIRE(told.size() == 3);
    CHECK_FALSE(told[0]);
    CHECK(told[1] == std::errc::connection_refused);
    CHECK(told[2] == std::errc::connection_refused);
}

TEST_CASE("Forwarders of which one end goes at any moment of the other's beginning leave nothing behind") {
    const std::size_t before = open_descriptors();
    for (int turns = 0; turns < 12; ++turns) {
        CAPTURE(turns);
        Path path;
        Socket client = path.connect();
        write_some(client, "going already");
        for (int turn = 0; turn < turns; ++turn) path.reactor.run_once(std::chrono::milliseconds(1));
        if (turns % 2 == 0) continue;  // everything goes at once
        client.set_linger(std::chrono::seconds(0));
        client = Socket();
        run_until(path.reactor, [&] { return path.forward->connections() == 0 && path.target.connections() == 0; });
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("S101: a forwarder that drains ends its connections to the target with those to its clients") {
    for (const bool whole_loop : {false, true}) {
        CAPTURE(whole_loop);
        Path path;
        path.on_target = [](Journal& target) { target.on_draining = [] {}; };
        Socket client = path.connect();
        Journal& target = path.reached();
        write_some(client, "hello");
        run_until(path.reactor, [&] { return target.input == "hello"; });
        bool done = false;
        if (whole_loop) {
            drain(path.reactor, Duration::max(), [&](const Drained&) { done = true; });
        } else {
            path.forward->drain([&] { done = true; });
        }
        bool ended = false;
        run_until(path.reactor, [&] { return read_all(client, &ended), ended && target.count("end") == 1; });
        CHECK_FALSE(done);  // the client has not closed
        client.close();
        run_until(path.reactor, [&] { return done && target.over; });
        CHECK_FALSE(target.reason);
    }
}

TEST_CASE("A forwarder whose one end is closed from outside closes the other, and what was on its way arrives") {
    for (const bool near : {true, false}) {
        CAPTURE(near);
        Path path;
        path.on_target = [](Journal& target) { target.on_end = [] {}; };
        Socket client = path.connect();
        Journal& target = path.reached();
        write_some(client, "hello");
        run_until(path.reactor, [&] { return target.input == "hello"; });
        // The forwarder's two ends are those of the loop's connections that are not the target's.
        std::vector<Connection*> ends;
        path.reactor.for_each_owned([&](OwnedHandler& handler) {
            auto* const connection = dynamic_cast<Connection*>(&handler);
            if (connection != nullptr && connection != target.transport) ends.push_back(connection);
        });
        REQUIRE(ends.size() == 2);
        const bool first_is_near = ends[0]->local() == path.forward->addresses()[0];
        ends[first_is_near == near ? 0 : 1]->close();
        if (near) {
            client.close();
            run_until(path.reactor, [&] { return target.count("end") == 1; });
            target.transport->close();
        } else {
            run_until(path.reactor, [&] { return target.count("end") == 1; });
            target.transport->close();
            bool ended = false;
            run_until(path.reactor, [&] { return read_all(client, &ended), ended; });
            client.close();
        }
        run_until(path.reactor, [&] { return target.over && path.forward->connections() == 0; });
        CHECK_FALSE(target.reason);
    }
}
