// The forwarder: a client here, a target there, and nothing lost, kept or misunderstood in between.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <protocols/forward.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <array>
#include <deque>
#include <optional>
#include <stdexcept>

using namespace reactor;

namespace {

// A target that writes down what it hears, a forwarder to it, and a raw client.
struct Path {
    explicit Path(std::size_t send_buffer = 0)
        : options(far_options(send_buffer)), target(reactor, "127.0.0.1", 0, record(), small(send_buffer)) {
        forward.emplace(reactor, "127.0.0.1", 0,
                        factory<Forward>(std::string("127.0.0.1"), target.addresses()[0].port(), options),
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

    const ConnectorOptions options;
    Reactor reactor;
    std::deque<Journal> targets;
    std::function<void(Journal&)> on_target;
    Acceptor target;
    std::optional<Acceptor> forward;
};

// A factory of forwarders to the target of a Path, whose bytes are noted on their way.
struct Watched {
    std::string to_target, to_client;

    ProtocolFactory factory(Path& path) {
        return [this, port = path.target.addresses()[0].port(), buffers = path.options] {
            auto forward = std::make_unique<Forward>("127.0.0.1", port, buffers);
            forward->observe([this](Forward::Way way, Bytes bytes) {
                (way == Forward::Way::to_target ? to_target : to_client) += text_of(bytes);
            });
            return forward;
        };
    }
};

// The target is the first word of the first line.
class Choosing final : public Forward {
public:
    explicit Choosing(std::vector<std::uint16_t> ports) : ports_(std::move(ports)) {}

private:
    std::size_t asked(Bytes input) override {
        const std::size_t end = text_of(input).find('\n');
        if (end == std::string_view::npos) return 0;
        if (text_of(input).substr(0, end) != "connect") {
            transport().write("no\n");
            transport().close();
        } else {
            choose();
        }
        return end + 1;
    }
    void target_answered(std::error_code error) override {
        if (error && !ports_.empty()) return choose();
        transport().write(error ? "none\n" : "yes\n");
        if (error) transport().close();
    }
    void choose() {
        const std::uint16_t port = ports_.front();
        ports_.erase(ports_.begin());
        connect_to("127.0.0.1", port);
        CHECK_THROWS_AS(connect_to("127.0.0.1", port), std::logic_error);
    }
    std::vector<std::uint16_t> ports_;
};

// An end whose observer is a test's.
class Half final : public ForwardEnd {
public:
    explicit Half(std::string& seen) {
        set_observer([&seen](Bytes bytes) { seen += text_of(bytes); });
    }
    using ForwardEnd::join;
};

}  // namespace

TEST_CASE("Past an observer, what it sees is what arrives, byte for byte and in both directions") {
    Path path;
    Watched watched;
    path.forward.emplace(path.reactor, "127.0.0.1", 0, watched.factory(path));
    const std::string question = random_bytes(3'000'000, 1), answer = random_bytes(3'000'000, 2);
    Socket client = path.connect();
    Journal& target = path.reached();
    target.transport->write(answer);
    std::size_t sent = 0;
    std::string back;
    run_until(path.reactor, [&] {
        sent += write_some(client, std::string_view(question).substr(sent));
        back += read_all(client);
        return target.input.size() == question.size() && back.size() == answer.size();
    });
    CHECK(target.input == question);
    CHECK(back == answer);
    CHECK(watched.to_target == question);
    CHECK(watched.to_client == answer);
}

TEST_CASE("Past an observer, a target that reads nothing stops the client, and the observer sees no more either") {
    Path path(8192);
    Watched watched;
    path.forward.emplace(path.reactor, "127.0.0.1", 0, watched.factory(path), Path::small(8192));
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
    CHECK(watched.to_target.size() < 500'000);  // the high watermark, and the buffers of the kernel

    target.transport->resume_reading();
    client.shutdown_write();
    run_until(path.reactor, [&] { return target.over; });
    CHECK(target.input.size() == sent);
    CHECK(watched.to_target.size() == sent);
}

TEST_CASE("In memory, two ends that are observed pause and resume each other at their watermarks") {
    std::string to_server, to_client;
    auto near = std::make_unique<Half>(to_server), far = std::make_unique<Half>(to_client);
    near->join(*far);
    Limits limits;
    limits.high_mark = 10;
    testing::MemoryTransport client(std::move(near), limits), server(std::move(far), limits);
    server.fill();
    client.feed("more than ten bytes");
    server.settle();  // the client's end has written over it, outside of its calls
    CHECK(to_server == "more than ten bytes");
    CHECK_FALSE(client.reading());
    client.feed(" and more");
    CHECK(to_server == "more than ten bytes");
    server.drain();
    client.settle();
    CHECK(to_server == "more than ten bytes and more");
    CHECK(server.take() == to_server);
    server.feed("answer");
    CHECK(client.take() == "answer");
    CHECK(to_client == "answer");
    client.end();
    CHECK(server.ended());
}

TEST_CASE("An exception out of an observer ends both connections") {
    Path path;
    int thrown = 0;
    path.reactor.on_exception([&](std::exception_ptr) { ++thrown; });
    path.forward.emplace(path.reactor, "127.0.0.1", 0, [&path] {
        auto forward = std::make_unique<Forward>("127.0.0.1", path.target.addresses()[0].port());
        forward->observe([](Forward::Way, Bytes) { throw std::runtime_error("seen enough"); });
        return forward;
    });
    Socket client = path.connect();
    Journal& target = path.reached();
    write_some(client, "look");
    run_until(path.reactor, [&] { return target.over && path.forward->connections() == 0; });
    CHECK(thrown == 1);
    CHECK(target.input.empty());
    CHECK(target.reason == std::errc::connection_reset);
}

TEST_CASE("An observer that is empty, or comes when the target is connected, is a mistake") {
    Forward forward("localhost", 80);
    CHECK_THROWS_AS(forward.observe(nullptr), std::invalid_argument);
    Path path;
    Forward* late = nullptr;
    path.forward.emplace(path.reactor, "127.0.0.1", 0, [&] {
        auto made = std::make_unique<Forward>("127.0.0.1", path.target.addresses()[0].port());
        late = made.get();
        return made;
    });
    const Socket client = path.connect();
    path.reached();
    CHECK_THROWS_AS(late->observe([](Forward::Way, Bytes) {}), std::logic_error);
}

TEST_CASE(
    "A target may be chosen by the first bytes, and is given those behind them; the answer comes before its own") {
    for (const bool together : {true, false}) {
        CAPTURE(together);
        Path path;
        path.on_target = [](Journal& target) { target.on_connected = [&] { target.transport->write("welcome"); }; };
        const std::uint16_t port = path.target.addresses()[0].port();
        path.forward.emplace(path.reactor, "127.0.0.1", 0, factory<Choosing>(std::vector{port}));
        Socket client = path.connect();
        if (together) {
            write_some(client, "connect\nto the target");
        } else {
            for (const char* piece : {"con", "nect", "\n", "to the", " target"}) {
                write_some(client, piece);
                settle(path.reactor);
            }
        }
        std::string back;
        run_until(path.reactor, [&] { return (back += read_all(client)).size() == 11; });
        CHECK(back == "yes\nwelcome");
        Journal& target = path.reached();
        run_until(path.reactor, [&] { return target.input.size() == 13; });
        CHECK(target.input == "to the target");
    }
}

TEST_CASE("A client that asks for no target, or leaves before it has asked, gets an end in good order") {
    for (const bool asks : {true, false}) {
        CAPTURE(asks);
        Path path;
        path.forward.emplace(path.reactor, "127.0.0.1", 0, factory<Choosing>(std::vector<std::uint16_t>{1}));
        Socket client = path.connect();
        write_some(client, asks ? "something\n" : "conn");
        if (!asks) client.shutdown_write();
        std::string back;
        bool ended = false;
        run_until(path.reactor, [&] { return back += read_all(client, &ended), ended; });
        CHECK(back == (asks ? "no\n" : ""));
        client.close();
        run_until(path.reactor, [&] { return path.forward->connections() == 0; });
        CHECK(path.targets.empty());
    }
}

TEST_CASE("When a target refuses, another may be chosen, and the client may be told that there is none") {
    Path path;
    Acceptor gone(path.reactor, "127.0.0.1", 0, factory<Echo>());
    const std::uint16_t refusing = gone.port(), port = path.target.addresses()[0].port();
    gone.close();
    std::vector<std::uint16_t> ports{refusing, refusing};
    std::string back;
    SUBCASE("another") {
        ports.push_back(port);
    }
    SUBCASE("none") {}
    path.forward.emplace(path.reactor, "127.0.0.1", 0, factory<Choosing>(ports));
    Socket client = path.connect();
    write_some(client, "connect\nhello");
    run_until(path.reactor, [&] { return (back += read_all(client)).ends_with('\n'); });
    CHECK(back == (ports.size() == 3 ? "yes\n" : "none\n"));
    if (ports.size() == 3) {
        Journal& target = path.reached();
        run_until(path.reactor, [&] { return target.input == "hello"; });
    }
}

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
    Acceptor forward(
        reactor, "127.0.0.1", 0,
        factory<Forward>(std::string("127.0.0.1"), target.addresses()[0].port(), ConnectorOptions(), tried));
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
        Internals(path.reactor).for_each_owned([&](OwnedHandler& handler) {
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
