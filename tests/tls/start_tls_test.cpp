// STARTTLS: a connection begins in the clear and goes on in TLS, with input that has already arrived, over every
// carrier. The peer is OpenSSL alone.
#include "raw_peer.hpp"

#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

constexpr TlsVersion versions[] = {TlsVersion::tls_1_2, TlsVersion::tls_1_3};

const TlsContext& server_side() {
    static const TlsContext context(server_options());
    return context;
}
const TlsContext& client_side() {
    static const TlsContext context(client_options());
    return context;
}

// Lines, of which one asks for TLS and one agrees. A server sends back the others.
class Mail final : public Framed<Lines> {
public:
    Mail(bool server, std::vector<std::string>& seen)
        : Framed(Lines(1000, Lines::Ending::lf)), server_(server), seen_(seen) {}

private:
    void message(Bytes input) override {
        const std::string_view line = text_of(input);
        seen_.emplace_back(line);
        if (server_ && line == "STARTTLS") {
            send("ready");
            start_tls(transport(), server_side(), [this] { secured(); });
        } else if (!server_ && line == "ready") {
            start_tls(transport(), client_side(), "localhost", [this] { secured(); });
            send("early");
        } else if (server_) {
            send(line);
        }
    }
    void connected() override {
        seen_.emplace_back("<connected>");
        if (!server_) transport().write("STARTTLS\n");
    }
    void secured() {
        CHECK(tls_info(transport())->version.starts_with("TLSv1."));
        seen_.emplace_back("<secured>");
    }
    void closing() override { seen_.emplace_back("<closing>"); }
    void disconnected(std::error_code reason) override { seen_.push_back("<" + reason.message() + ">"); }

    const bool server_;
    std::vector<std::string>& seen_;
};

// How bytes come to a protocol and go, whatever carries them.
struct Wire {
    virtual ~Wire() = default;
    virtual void feed(std::string_view data) = 0;
    virtual std::string take() = 0;
    virtual void end() = 0;
};

struct MemoryWire final : Wire {
    explicit MemoryWire(std::unique_ptr<Protocol> protocol) : transport(std::move(protocol)) {}
    void feed(std::string_view data) override { transport.feed(data); }
    std::string take() override { return transport.take(); }
    void end() override { transport.end(); }
    testing::MemoryTransport transport;
};

struct SocketWire final : Wire {
    explicit SocketWire(std::unique_ptr<Protocol> protocol) {
        auto [far, near] = Socket::pair();
        peer = std::move(far);
        Connection::open(reactor, std::move(near), std::move(protocol));
        settle(reactor);
    }
    void feed(std::string_view data) override {
        write_some(peer, data);
        settle(reactor);
    }
    std::string take() override { return read_all(peer); }
    void end() override {
        peer.shutdown_write();
        settle(reactor);
    }
    testing::ManualClock clock;  // on which no step of a handshake takes time that others would have to wait for
    Reactor reactor{"auto", clock};
    Socket peer;
};

struct PipeWire final : Wire {
    explicit PipeWire(std::unique_ptr<Protocol> protocol) {
        auto [far, near] = Socket::pair();
        int there[2];
        REQUIRE(::pipe(there) == 0);
        to = FileDescriptor(there[1]);
        from = std::move(far);
        PipeTransport::open(reactor, FileDescriptor(there[0]), FileDescriptor(::dup(near.get())), std::move(protocol));
        settle(reactor);
    }
    void feed(std::string_view data) override {
        if (!data.empty()) REQUIRE(::write(to.get(), data.data(), data.size()) == ssize_t(data.size()));
        settle(reactor);
    }
    std::string take() override { return read_all(from); }
    void end() override {
        to.reset();
        settle(reactor);
    }
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};
    FileDescriptor to;
    Socket from;
};

using MakeWire = std::unique_ptr<Wire> (*)(std::unique_ptr<Protocol>);
template <class Made>
std::unique_ptr<Wire> make_wire(std::unique_ptr<Protocol> protocol) {
    return std::make_unique<Made>(std::move(protocol));
}
constexpr MakeWire wires[] = {&make_wire<MemoryWire>, &make_wire<SocketWire>, &make_wire<PipeWire>};

// The peer's stream is cut behind so many bytes. Its lines in the clear come together with its first records, if
// it speaks first.
std::vector<std::string> play(MakeWire make, bool server, TlsVersion version, std::size_t cut) {
    std::vector<std::string> seen;
    RawPeer peer(!server, version);
    INFO("wire " << (make == wires[0]) << (make == wires[1]) << " server " << server << " cut " << cut);
    const std::unique_ptr<Wire> wire = make(std::make_unique<Mail>(server, seen));
    std::size_t sent = 0;
    const auto feed = [&](const std::string& data) {
        const std::size_t first = cut > sent && cut < sent + data.size() ? cut - sent : data.size();
        wire->feed(data.substr(0, first));
        if (first < data.size()) wire->feed(data.substr(first));
        sent += data.size();
    };
    peer.step();
    feed((server ? "one\nSTARTTLS\n" : "one\nready\n") + peer.take());
    std::string answer = wire->take();
    const std::string_view plain = server ? "one\nready\n" : "STARTTLS\n";
    CHECK(answer.starts_with(plain));
    answer.erase(0, plain.size());
    const auto talk = [&] {
        for (;;) {
            peer.feed(std::exchange(answer, {}));
            const std::string data = peer.take();
            if (data.empty()) break;
            feed(data);
            answer = wire->take();
        }
    };
    talk();
    peer.write("two\n");
    talk();
    CHECK(peer.received == std::string(server ? "two\n" : "early\n"));
    SSL_shutdown(peer.ssl());
    talk();
    wire->end();
    CHECK(peer.ended());
    return seen;
}

}  // namespace

TEST_CASE("A connection turns into TLS in mid-stream, wherever the peer's stream is cut") {
    for (const MakeWire make : wires) {
        for (const TlsVersion version : versions) {
            for (const bool server : {true, false}) {
                std::vector<std::string> expected{
                    "<connected>", "one", server ? "STARTTLS" : "ready", "<secured>", "two", "<closing>", "<Success>"};
                for (std::size_t cut = 1; cut < 80; ++cut) {
                    const auto seen = play(make, server, version, cut);
                    CAPTURE(server);
                    CAPTURE(cut);
                    CHECK(seen == expected);
                }
            }
        }
    }
}

TEST_CASE("Input in the clear behind STARTTLS is refused as no TLS, and never given to the protocol") {
    for (const MakeWire make : wires) {
        std::vector<std::string> seen;
        const std::unique_ptr<Wire> wire = make(std::make_unique<Mail>(true, seen));
        wire->feed("STARTTLS\nevil\nevil\n");
        wire->end();
        REQUIRE(seen.size() == 4);
        CHECK(seen[1] == "STARTTLS");
        CHECK(seen[2] == "<closing>");
        CHECK(seen[3] == "<wrong version number>");
        CHECK(wire->take().starts_with("ready\n"));
    }
}

namespace {

// As Mail's server, and then reads lines one by one, or all that has come.
Task<> speak(Stream stream, bool lines, std::string& seen) {
    const auto line = co_await stream.read<Lines>();
    CHECK((line && text_of(*line) == "STARTTLS"));
    co_await stream.write("ready\n");
    CHECK(start_tls(stream.transport(), server_side()));
    for (;;) {
        const Result<Bytes> more = lines ? co_await stream.read<Lines>() : co_await stream.read_some();
        if (!more) break;
        seen += text_of(*more);
    }
}

}  // namespace

TEST_CASE("A coroutine starts TLS between two reads, and what came in the clear is not for the second") {
    for (const bool lines : {true, false}) {
        std::string seen;
        auto make = coroutine(speak, lines, std::ref(seen));
        {
            MemoryWire wire(make());
            wire.feed("STARTTLS\nevil\n");
            wire.end();
            CHECK(wire.transport.disconnected());
        }
        CHECK(seen.empty());
        RawPeer peer(false, TlsVersion::tls_1_3);
        MemoryWire wire(make());
        peer.step();
        wire.feed("STARTTLS\n" + peer.take());
        peer.feed(wire.take().substr(6));
        peer.write("hello\n");
        wire.feed(peer.take());
        CHECK(seen.starts_with("hello"));
    }
}

namespace {

// Shows its transport, which changes.
class Open final : public Protocol {
public:
    explicit Open(std::vector<std::string>& seen) : seen_(seen) {}
    using Protocol::transport;

private:
    void connected() override { seen_.emplace_back("connected"); }
    std::size_t received(Bytes input) override { return seen_.emplace_back(text_of(input)), input.size(); }
    void pause_writing() override { seen_.emplace_back("<pause>"); }
    void resume_writing() override { seen_.emplace_back("<resume>"); }
    void closing() override { seen_.emplace_back("<closing>"); }
    void disconnected(std::error_code reason) override { seen_.push_back("<" + reason.message() + ">"); }

    std::vector<std::string>& seen_;
};

using Seen = std::vector<std::string>;

}  // namespace

TEST_CASE("TLS is started from outside a call, while reading is paused and with output that waits") {
    Seen seen;
    auto made = std::make_unique<Open>(seen);
    Open& open = *made;
    Limits limits;
    limits.high_mark = 1000;
    testing::MemoryTransport ours(std::move(made), limits);
    const TransportHandle handle = open.transport().handle();
    ours.fill();
    open.transport().write(std::string(2000, 'x'));
    open.transport().pause_reading();
    ours.settle();
    RawPeer peer(false, TlsVersion::tls_1_3);
    peer.step();
    ours.feed(peer.take());
    Transport& plain = open.transport();
    CHECK(start_tls(plain, server_side(), [&] { seen.emplace_back("<secured>"); }));
    CHECK(&open.transport() != &plain);
    CHECK_FALSE(open.transport().reading());
    CHECK(open.transport().write("early "));
    CHECK(handle.write("posted"));  // by a handle from before
    ours.settle();
    CHECK(seen == Seen{"connected", "<pause>"});
    ours.drain();
    const std::string answer = ours.take();
    CHECK(answer.starts_with(std::string(2000, 'x')));
    peer.feed(std::string_view(answer).substr(2000));
    peer.write("question");
    ours.feed(peer.take());
    CHECK(seen == Seen{"connected", "<pause>", "<secured>", "<resume>"});
    peer.feed(ours.take());
    CHECK(peer.received == "early posted");
    open.transport().resume_reading();  // of the pause from before
    ours.settle();
    CHECK(seen.back() == "question");
}

TEST_CASE("A handshake that fails in mid-stream ends the connection with its reason, as every end does") {
    for (const bool in_time : {true, false}) {
        Seen seen;
        auto made = std::make_unique<Open>(seen);
        Open& open = *made;
        testing::MemoryTransport ours(std::move(made));
        CHECK(start_tls(open.transport(), client_side(), "localhost", [&] { seen.emplace_back("<secured>"); }));
        if (in_time) ours.feed("550 no\n");
        if (!in_time) ours.advance(std::chrono::seconds(10));
        ours.end();
        CHECK(seen ==
              Seen{"connected", "<closing>", in_time ? "<wrong version number>" : "<the TLS handshake took too long>"});
    }
}

TEST_CASE("TLS is started once, behind connected, before the end, and on a transport that can") {
    Seen seen;
    auto made = std::make_unique<Open>(seen);
    Open& open = *made;
    CHECK_THROWS_AS(start_tls(open.transport(), server_side()), std::logic_error);
    testing::MemoryTransport ours(std::move(made));
    CHECK_THROWS_AS(start_tls(open.transport(), client_side()), std::invalid_argument);
    CHECK_THROWS_AS(start_tls(open.transport(), server_side(), "localhost"), std::invalid_argument);
    CHECK(start_tls(open.transport(), server_side()));
    CHECK_THROWS_AS(start_tls(open.transport(), server_side()), std::logic_error);
    CHECK_THROWS_AS(start_tls(ours, server_side()), std::logic_error);
    ours.settle();
    CHECK_THROWS_AS(start_tls(ours, server_side()), std::logic_error);
    auto another = std::make_unique<Open>(seen);
    Open& closed = *another;
    testing::MemoryTransport other(std::move(another));
    closed.transport().close();
    CHECK_FALSE(start_tls(closed.transport(), server_side()));
    Open kept(seen);
    testing::MemoryTransport keeps(kept);
    CHECK_THROWS_AS(start_tls(kept.transport(), server_side()), std::logic_error);
}

TEST_CASE("TLS is not started on a connection that a protocol in TLS has: the layer inside is made by tls") {
    Pair pair;
    pair.run();
    CHECK_THROWS_AS(start_tls(*pair.of_server.transport, server_side()), std::logic_error);
    CHECK_THROWS_AS(start_tls(*pair.of_client.transport, client_side(), "localhost"), std::logic_error);
}

TEST_CASE("A connection that is closed during a handshake in mid-stream ends in order, also by a drain") {
    for (const bool drained : {true, false}) {
        Seen seen;
        auto made = std::make_unique<Open>(seen);
        Open& open = *made;
        testing::MemoryTransport ours(std::move(made));
        CHECK(start_tls(open.transport(), server_side()));
        ours.settle();
        drained ? ours.ask_to_drain() : open.transport().close();
        ours.end();
        CHECK(seen == Seen{"connected", "<closing>", "<Success>"});
    }
}
