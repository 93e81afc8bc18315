// The transport as a protocol sees it: over a connection, a pipe and the memory of a test alike.
#include "../support/loop.hpp"

#include <reactor/stream/connector.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/testing/memory_transport.hpp>
#include <reactor/timer.hpp>

#include <unistd.h>

#include <array>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

using namespace reactor;

namespace {

// A text, as the elements of another type.
template <class Element>
std::vector<Element> elements_of(std::string_view text) {
    std::vector<Element> result;
    for (const char character : text) result.push_back(Element(character));
    return result;
}

// A number converts to no bytes, and neither does a range of wider elements.
static_assert(ByteSource<std::string> && ByteSource<const char*> && ByteSource<Bytes> && ByteSource<std::u8string>);
static_assert(!ByteSource<int> && !ByteSource<std::vector<int>> && !ByteSource<std::wstring> &&
              !ByteSource<std::vector<bool>>);

// Notes the beginning of the end, and whether it was called inside a call to the transport.
class Leaver final : public Protocol {
public:
    struct Log {
        std::vector<std::string> calls;
        Transport* transport = nullptr;
        bool inside = false;
        bool throws = false;
        std::string act_on;  // the call in which it closes or aborts
        bool aborts = false;
        std::error_code reason;

        void end() {
            inside = true;
            aborts ? transport->abort() : transport->close();
            inside = false;
        }
        std::size_t count(std::string_view call) const {
            return std::size_t(std::count(calls.begin(), calls.end(), call));
        }
    };
    explicit Leaver(Log& log) : log_(log) {}
    void connected() override {
        log_.transport = &transport();
        CHECK(transport().open());
        note("connected");
    }
    std::size_t received(Bytes input) override {
        note("received");
        return input.size();
    }
    void end_of_stream() override {
        note("end");
        transport().close();
    }
    void closing() override {
        CHECK_FALSE(transport().open());
        CHECK_FALSE(transport().write("too late"));
        note("closing");
        if (log_.throws) throw std::runtime_error("closing failed");
    }
    void disconnected(std::error_code reason) override {
        CHECK_FALSE(transport().open());
        note("disconnected");
        log_.reason = reason;
    }

private:
    void note(const char* call) {
        CHECK_FALSE(log_.inside);
        log_.calls.emplace_back(call);
        if (log_.act_on == call) log_.end();
    }
    Log& log_;
};

using Calls = std::vector<std::string>;

}  // namespace

TEST_CASE("closing is called once when the end begins, before disconnected, whatever begins the end, and where") {
    for (const bool tcp : {true, false}) {
        for (const bool aborts : {false, true}) {
            for (const std::string_view where : {"outside", "connected", "received", "end", "peer"}) {
                for (const bool queued : {false, true}) {
                    CAPTURE(tcp);
                    CAPTURE(aborts);
                    CAPTURE(where);
                    CAPTURE(queued);
                    Reactor reactor;
                    auto [peer, mine] = tcp ? tcp_pair() : Socket::pair();
                    Leaver::Log log;
                    log.act_on = where;
                    log.aborts = aborts;
                    Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<Leaver>(log));
                    if (where == "connected") {
                        run_until(reactor, [&] { return log.count("closing") == 1; });
                    } else {
                        run_until(reactor, [&] { return log.count("connected") == 1; });
                        if (queued) connection.write(std::string(8'000'000, 'x'));
                        if (where == "outside") log.end();
                        if (where == "received") write_some(peer, "hello");
                        if (where == "end") (void)peer.shutdown_write();
                        if (where == "peer") peer.close();
                        CHECK(log.count("closing") == 0);
                        run_until(reactor, [&] { return log.count("closing") == 1; });
                    }
                    // The peer reads all and closes.
                    run_until(reactor, [&, &peer = peer] {
                        bool ended = false;
                        if (peer) read_all(peer, &ended);
                        if (ended) peer.close();
                        return log.count("disconnected") == 1;
                    });
                    CHECK(log.count("closing") == 1);
                    CHECK(log.calls[log.calls.size() - 2] == "closing");
                }
            }
        }
    }
}

TEST_CASE("closing comes while the peer still reads what is queued, so a member that closed leaves its room at once") {
    Reactor reactor;
    auto [peer, mine] = tcp_pair();
    Leaver::Log log;
    Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<Leaver>(log));
    run_until(reactor, [&] { return log.count("connected") == 1; });
    connection.write(std::string(8'000'000, 'x'));
    REQUIRE(connection.queued() > 0);
    connection.close();
    CHECK_FALSE(connection.open());
    settle(reactor, 3);
    CHECK(log.calls == Calls{"connected", "closing"});
    CHECK(connection.queued() > 0);
    connection.abort();
    run_until(reactor, [&] { return log.count("disconnected") == 1; });
    CHECK(log.count("closing") == 1);
}

TEST_CASE("closing is not called for a connection that was closed before connected, as nothing has begun") {
    for (const bool aborts : {false, true}) {
        Reactor reactor;
        auto [peer, mine] = tcp_pair();
        Leaver::Log log;
        Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<Leaver>(log));
        CHECK(connection.open());
        aborts ? connection.abort() : connection.close();
        CHECK_FALSE(connection.open());
        peer.close();
        run_until(reactor, [&] { return log.count("disconnected") == 1; });
        CHECK(log.calls == Calls{"disconnected"});
    }
}

TEST_CASE("An exception out of closing is the reason of the end, and leaves the loop after disconnected") {
    for (const bool aborts : {false, true}) {
        Reactor reactor;
        int thrown = 0;
        reactor.on_exception([&](std::exception_ptr) { ++thrown; });
        auto [peer, mine] = tcp_pair();
        Leaver::Log log;
        log.throws = true;
        log.aborts = aborts;
        Connection::open(reactor, std::move(mine), std::make_unique<Leaver>(log));
        run_until(reactor, [&] { return log.count("connected") == 1; });
        log.end();
        run_until(reactor, [&] { return log.count("disconnected") == 1; });
        CHECK(log.calls == Calls{"connected", "closing", "disconnected"});
        CHECK(log.reason == Error::exception);
        CHECK(thrown == 1);
    }
}

TEST_CASE("A pipe and the memory of a test call closing as a connection does") {
    for (const bool aborts : {false, true}) {
        for (const std::string_view where : {"outside", "received"}) {
            CAPTURE(aborts);
            CAPTURE(where);
            Leaver::Log log;
            log.aborts = aborts;
            log.act_on = where;
            {
                Reactor reactor;
                int in[2], out[2];
                REQUIRE(::pipe(in) == 0);
                REQUIRE(::pipe(out) == 0);
                const FileDescriptor to(in[1]), from(out[0]);
                PipeTransport& pipe = PipeTransport::open(reactor, FileDescriptor(in[0]), FileDescriptor(out[1]),
                                                          std::make_unique<Leaver>(log));
                CHECK(&pipe.reactor() == &reactor);
                run_until(reactor, [&] { return log.count("connected") == 1; });
                pipe.write(std::string(1'000'000, 'x'));  // more than a pipe holds
                if (where == "outside") log.end();
                if (where == "received") REQUIRE(::write(to.get(), "x", 1) == 1);
                run_until(reactor, [&] { return log.count("closing") == 1; });
                CHECK(log.count("disconnected") == (aborts ? 1 : 0));
                if (!aborts) pipe.abort();
                run_until(reactor, [&] { return log.count("disconnected") == 1; });
                CHECK(log.calls[log.calls.size() - 2] == "closing");
                CHECK(log.count("closing") == 1);
            }
            log.calls.clear();
            testing::MemoryTransport memory(std::make_unique<Leaver>(log));
            memory.fill();
            memory.write("waits");
            if (where == "outside") log.end();
            if (where == "received") memory.feed("x");
            memory.settle();
            CHECK(log.count("closing") == 1);
            CHECK(log.count("disconnected") == (aborts ? 1 : 0));
            memory.drain();
            memory.end();
            CHECK(log.count("closing") == 1);
            CHECK(log.calls.back() == "disconnected");
        }
    }
}

namespace {

// Never connected: asks its transport everything.
class Failing final : public Protocol {
public:
    struct Log {
        std::vector<ConnectFailure> failures;
        std::vector<std::string> calls;
        Reactor* loop = nullptr;
        std::function<void()> on_failure;
    };
    explicit Failing(Log& log) : log_(log) {
        CHECK_FALSE(transport().open());
        CHECK_THROWS_AS((void)transport().reactor(), std::logic_error);
    }
    std::size_t received(Bytes input) override { return input.size(); }
    void connect_failed(const std::vector<ConnectFailure>& failures) override {
        log_.calls.emplace_back("connect_failed");
        log_.failures = failures;
        log_.loop = &transport().reactor();
        CHECK_FALSE(transport().open());
        CHECK_FALSE(transport().write("hello"));
        transport().close();
        transport().abort();
        if (log_.on_failure) log_.on_failure();
    }
    void closing() override { log_.calls.emplace_back("closing"); }
    void disconnected(std::error_code reason) override {
        CHECK_FALSE(transport().write("hello"));
        log_.calls.emplace_back("disconnected: " + reason.message());
    }

private:
    Log& log_;
};

Address refusing() {
    Socket socket = Socket::open(Address::Family::ipv4);
    socket.bind(*Address::ip("127.0.0.1", 0));
    return socket.local();
}

}  // namespace

TEST_CASE("A protocol whose connecting failed gets what was tried, then the end, on a transport that is closed") {
    Reactor reactor;
    Failing::Log log;
    const Address one = refusing();
    const Address other = refusing();
    const Connector connector(reactor, std::vector<Address>{one, other}, factory<Failing>(std::ref(log)));
    run_until(reactor, [&] { return log.calls.size() == 2; });
    const std::error_code refused = std::make_error_code(std::errc::connection_refused);
    CHECK(log.calls == Calls{"connect_failed", "disconnected: " + refused.message()});
    REQUIRE(log.failures.size() == 2);
    CHECK(log.failures[0].address == one);
    CHECK(log.failures[1].address == other);
    CHECK(log.failures[1].error == std::errc::connection_refused);
    CHECK(log.loop == &reactor);
}

TEST_CASE("connect_failed may destroy the connector, and an exception out of it becomes the reason") {
    Reactor reactor;
    int thrown = 0;
    reactor.on_exception([&](std::exception_ptr) { ++thrown; });
    Failing::Log log;
    std::optional<Connector> connector;
    log.on_failure = [&] {
        connector.reset();
        throw std::runtime_error("no");
    };
    connector.emplace(reactor, std::vector<Address>{refusing()}, factory<Failing>(std::ref(log)));
    run_until(reactor, [&] { return log.calls.size() == 2; });
    CHECK(log.calls[1] == "disconnected: " + make_error_code(Error::exception).message());
    CHECK(thrown == 1);
}

TEST_CASE("A protocol sees the loop that its connection is on, the other one after it has moved") {
    Reactor here, there;
    Conversation talk(here);
    run_until(here, [&] { return talk.journal.transport != nullptr; });
    CHECK(&talk.journal.transport->reactor() == &here);
    bool arrived = false;
    static_cast<Connection*>(talk.journal.transport)->move_to(there, [&] { arrived = true; });
    settle(here);
    run_until(there, [&] { return arrived; });
    CHECK(&talk.journal.transport->reactor() == &there);
}

TEST_CASE("A connection that is closed and moves is told closing once, on the loop where it arrives") {
    Reactor here, there;
    auto [peer, mine] = tcp_pair();
    Leaver::Log log;
    Connection& connection = Connection::open(here, std::move(mine), std::make_unique<Leaver>(log));
    run_until(here, [&] { return log.count("connected") == 1; });
    connection.write(std::string(8'000'000, 'x'));
    connection.move_to(there);
    connection.close();
    settle(here);
    CHECK(log.count("closing") == 0);
    run_until(there, [&] { return log.count("closing") == 1; });
    connection.abort();
    run_until(there, [&] { return log.count("disconnected") == 1; });
    CHECK(log.count("closing") == 1);
}

namespace {

class Ticking final : public Protocol {
public:
    void connected() override {
        timer_.emplace(transport().reactor(), [this] { transport().write("tick "); });
        timer_->start_periodic(std::chrono::seconds(2));
        transport().reactor().post([this] { transport().write("posted "); });
    }
    std::size_t received(Bytes input) override { return input.size(); }

private:
    std::optional<Timer> timer_;
};

}  // namespace

TEST_CASE("The memory of a test has a loop for the protocol's timers, and advance calls each at its time") {
    Limits limits;
    limits.receive_timeout = std::chrono::seconds(9);
    testing::MemoryTransport memory(std::make_unique<Ticking>(), limits);
    CHECK(memory.take() == "posted ");
    memory.advance(std::chrono::seconds(1));
    CHECK(memory.output().empty());
    const TimePoint before = memory.reactor().now();
    memory.advance(std::chrono::seconds(6));
    CHECK(memory.take() == "tick tick tick ");
    CHECK(memory.reactor().now() - before == std::chrono::seconds(6));
    memory.advance(std::chrono::hours(1));  // in which it ends
    CHECK(memory.take() == "tick ");
    CHECK(memory.disconnected() == make_error_code(Error::receive_timeout));
}

TEST_CASE("A peer that sends nothing ends by the receive timeout, however much is sent to it, and not while paused") {
    for (const bool idle_too : {false, true}) {
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        ConnectionOptions options;
        options.limits.receive_timeout = std::chrono::seconds(10);
        if (idle_too) options.limits.idle_timeout = std::chrono::seconds(10);
        Conversation talk(reactor, options);
        run_until(reactor, [&] { return talk.journal.transport != nullptr; });
        const auto pass = [&](int seconds) {
            clock.advance(std::chrono::seconds(seconds));
            settle(reactor);
        };
        pass(6);
        write_some(talk.peer, "hello");
        run_until(reactor, [&] { return talk.journal.input == "hello"; });
        pass(6);
        talk.journal.transport->write("news");
        settle(reactor);
        CHECK_FALSE(talk.journal.over);
        talk.journal.transport->pause_reading();
        pass(6);
        CHECK_FALSE(talk.journal.over);
        talk.journal.transport->write("news");
        settle(reactor);
        pass(6);
        CHECK_FALSE(talk.journal.over);
        talk.journal.transport->resume_reading();
        talk.journal.transport->write("news");
        settle(reactor);
        pass(6);
        CHECK_FALSE(talk.journal.over);
        talk.journal.transport->write("news");
        settle(reactor);
        pass(10);
        CHECK(talk.journal.over);
        CHECK(talk.journal.reason == std::errc::timed_out);
        CHECK(talk.journal.reason == Error::receive_timeout);
    }
}

TEST_CASE("S51: the time in which reading is paused does not count for the message that is unconsumed") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    ConnectionOptions options;
    options.limits.message_timeout = std::chrono::seconds(10);
    Conversation talk(reactor, options);
    int calls = 0;
    talk.journal.on_received = [&](Bytes) {
        ++calls;
        return std::size_t(0);
    };
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    write_some(talk.peer, "half a message");
    run_until(reactor, [&] { return calls == 1; });
    const auto pass = [&](int seconds) {
        clock.advance(std::chrono::seconds(seconds));
        settle(reactor);
    };
    talk.journal.transport->pause_reading();
    pass(9);
    talk.journal.transport->resume_reading();
    settle(reactor);
    pass(9);
    CHECK_FALSE(talk.journal.over);
    pass(1);
    CHECK(talk.journal.reason == Error::message_timeout);
}

#ifdef SO_PEERNAME
#if REACTOR_HAS(SO_PEERNAME)
TEST_CASE("A connection knows the address of its peer also after a reset, and after both sides have closed") {
    for (const char* host : {"127.0.0.1", "::1"}) {
        for (const bool reset : {true, false}) {
            CAPTURE(host);
            CAPTURE(reset);
            Reactor reactor;
            Socket listener = Socket::open(Address::ip(host, 0)->family());
            listener.bind(*Address::ip(host, 0));
            listener.listen(1);
            Socket client = Socket::open(listener.local().family());
            (void)client.connect(listener.local());
            Socket server;
            Address from;
            while (listener.accept(server, from)) {
            }
            Journal journal;
            Transport* const transport =
                &Connection::open(reactor, std::move(server), std::make_unique<Recorder>(journal));
            Address last;
            journal.on_disconnected = [&] { last = transport->peer(); };
            run_until(reactor, [&] { return journal.transport != nullptr; });
            CHECK(transport->peer() == from);
            if (reset) client.set_linger(std::chrono::seconds(0));
            client.close();
            run_until(reactor, [&] { return journal.over; });
            CHECK((journal.reason == std::errc::connection_reset) == reset);
            CHECK(last == from);
        }
    }
}
#endif
#endif

TEST_CASE("A handle reaches a connection from another thread, and nothing happens once the connection has gone") {
    for (const bool aborts : {true, false}) {
        Reactor reactor;
        auto [peer, mine] = tcp_pair();
        Leaver::Log log;
        log.aborts = aborts;
        Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<Leaver>(log));
        const TransportHandle handle = connection.handle();
        int called = 0;
        std::thread([&] {
            CHECK(handle.post([&](Protocol&) { called += log.count("connected") == 1 ? 1 : 100; }));
            CHECK(handle.write("from far"));
        }).join();
        std::string got;
        run_until(reactor, [&, &peer = peer] {
            got += read_all(peer);
            return got == "from far";
        });
        CHECK(called == 1);
        CHECK_THROWS_AS(handle.post(nullptr), std::invalid_argument);

        // The end begins before the call arrives.
        CHECK(handle.post([&](Protocol&) { ++called; }));
        log.end();
        peer.close();
        run_until(reactor, [&] { return log.count("disconnected") == 1; });
        CHECK(called == 1);
        CHECK_FALSE(handle.post([&](Protocol&) { ++called; }));
        CHECK_FALSE(handle.write("too late"));
    }
    CHECK_FALSE(TransportHandle().write("nowhere"));
}

TEST_CASE("A handle follows its connection to another loop, also with calls that were posted to the one it left") {
    Reactor here, there;
    Conversation talk(here);
    run_until(here, [&] { return talk.journal.transport != nullptr; });
    Transport& transport = *talk.journal.transport;
    const TransportHandle handle = transport.handle();
    std::vector<const Reactor*> at;
    const auto note = [&](Protocol&) { at.push_back(&transport.reactor()); };
    bool arrived = false;
    static_cast<Connection&>(transport).move_to(there, [&] { arrived = true; });
    settle(here);  // it is on its way
    CHECK(handle.post(note));
    run_until(there, [&] { return at.size() == 1; });
    CHECK(arrived);
    CHECK(at == std::vector<const Reactor*>{&there});

    // Posted on a loop, which the connection leaves in the iteration before it would be called.
    here.post([&] { here.post([&] { CHECK(handle.post(note)); }); });
    static_cast<Connection&>(transport).move_to(here, [] {});
    CHECK(handle.post(note));
    for (int i = 0; i < 10; ++i) {
        settle(there);
        settle(here);
    }
    CHECK(at.size() == 3);
    CHECK(at.back() == &here);
}

TEST_CASE("A handle outlives the loop, with calls that never came, and posts from the destructor of such a call") {
    struct Last {
        TransportHandle handle;
        ~Last() { CHECK_FALSE(handle.write("from a destructor")); }
    };
    TransportHandle handle;
    auto last = std::make_shared<Last>();
    const std::weak_ptr<Last> watched = last;
    {
        Reactor reactor;
        Conversation talk(reactor);
        run_until(reactor, [&] { return talk.journal.transport != nullptr; });
        handle = talk.journal.transport->handle();
        CHECK(handle.post([last](Protocol&) { FAIL("called"); }));
    }
    CHECK_FALSE(handle.write("nowhere"));
    last->handle = handle;
    last.reset();
    CHECK(watched.expired());
}

TEST_CASE("An exception out of a posted call ends the connection, on every transport") {
    Reactor reactor;
    int thrown = 0;
    reactor.on_exception([&](std::exception_ptr) { ++thrown; });
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    const auto fail = [](Protocol&) { throw std::runtime_error("posted"); };
    CHECK(talk.journal.transport->handle().post(fail));
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.reason == Error::exception);
    CHECK(thrown == 1);

    Journal journal;
    testing::MemoryTransport memory(std::make_unique<Recorder>(journal));
    CHECK(memory.handle().write("hello"));
    memory.settle();
    CHECK(memory.take() == "hello");
    CHECK(memory.handle().post(fail));
    CHECK_THROWS_AS(memory.settle(), std::runtime_error);
    CHECK(journal.reason == Error::exception);
    CHECK(journal.over);
}

TEST_CASE("A write takes any contiguous range of bytes, and a literal without its NUL") {
    Reactor reactor;
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    Transport& transport = *talk.journal.transport;
    std::string sent;
    const auto write = [&](const auto& data, std::string_view text) {
        CHECK(transport.write(data));
        sent += text;
    };
    write(elements_of<char>("a"), "a");
    write(elements_of<unsigned char>("b"), "b");
    write(elements_of<std::byte>("c"), "c");
    write(elements_of<char8_t>("d"), "d");
    write(std::string("e\0e", 3), std::string_view("e\0e", 3));
    write(std::array<std::byte, 2>{std::byte{'f'}, std::byte{'f'}}, "ff");
    std::vector<unsigned char> changing = elements_of<unsigned char>("g");
    write(std::span(changing), "g");
    write("literal", "literal");
    write(u8"ä", "\xc3\xa4");
    const char buffer[8] = "text";
    write(buffer, "text");
    const unsigned char octets[] = {0, 1, 2};
    write(octets, std::string_view("\0\1\2", 3));
    std::string got;
    run_until(reactor, [&] {
        got += read_all(talk.peer);
        return got.size() >= sent.size();
    });
    CHECK(got == sent);
}

TEST_CASE("Several pieces in one write leave as one send, also between iterations") {
    Reactor reactor;
    // Packets show what one send was.
    Conversation talk(reactor, Socket::pair(SocketKind::sequenced_packets), {});
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    const std::string body(10'000, 'b');
    CHECK(talk.journal.transport->write("head ", elements_of<std::byte>("and "), body, u8"."));
    std::string packet(64 * 1024, '\0');
    const ssize_t count = ::recv(talk.peer.get(), packet.data(), packet.size(), 0);
    REQUIRE(count > 0);
    packet.resize(std::size_t(count));
    CHECK(packet == "head and " + body + ".");
    CHECK(talk.journal.transport->write("", std::string()));  // nothing at all: no packet
    CHECK(::recv(talk.peer.get(), packet.data(), packet.size(), 0) < 0);
    talk.journal.transport->close();
    CHECK_FALSE(talk.journal.transport->write("too", "late"));
}
