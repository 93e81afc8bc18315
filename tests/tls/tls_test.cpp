// The TLS transport as its protocols see it, in memory.
#include "../support/giver.hpp"
#include "pair.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstddef>
#include <fstream>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace reactor;
using Calls = std::vector<std::string>;

namespace {

constexpr TlsVersion versions[] = {TlsVersion::tls_1_2, TlsVersion::tls_1_3};

// The sizes of the records in a stream, with their headers.
std::vector<std::size_t> records_in(std::string_view stream) {
    std::vector<std::size_t> sizes;
    while (stream.size() >= 5) {
        const std::size_t size =
            5 + std::size_t(static_cast<unsigned char>(stream[3])) * 256 + static_cast<unsigned char>(stream[4]);
        sizes.push_back(size);
        stream.remove_prefix(std::min(size, stream.size()));
    }
    return sizes;
}

constexpr std::size_t overhead = 22;  // of a record of TLS 1.3: header, type, tag

// Shows its transport before `connected`.
class Early final : public Protocol {
public:
    explicit Early(Journal& journal) : journal_(journal) {}
    Transport& way() { return transport(); }
    void connected() override { journal_.calls.emplace_back("connected"); }
    std::size_t received(Bytes input) override {
        journal_.input += text_of(input);
        return input.size();
    }
    void closing() override { journal_.calls.emplace_back("closing"); }
    void disconnected(std::error_code reason) override {
        journal_.calls.emplace_back("disconnected");
        journal_.reason = reason;
    }

private:
    Journal& journal_;
};

}  // namespace

TEST_CASE("A protocol runs over TLS as over any transport, in both versions") {
    for (const TlsVersion version : versions) {
        Pair pair(server_context(version));
        pair.of_client.on_connected = [&] { pair.of_client.transport->write("hello"); };
        pair.of_server.on_received = [&](Bytes input) {
            pair.of_server.transport->write(input);
            return input.size();
        };
        pair.run();
        CHECK(pair.of_client.input == "hello");
        const auto info = tls_info(*pair.of_client.transport);
        REQUIRE(info);
        CHECK(info->version == (version == TlsVersion::tls_1_2 ? "TLSv1.2" : "TLSv1.3"));
        CHECK_FALSE(info->resumed);
        CHECK(info->peer_verified);
        CHECK(info->peer_subject == "CN=localhost");
        CHECK(tls_info(*pair.of_server.transport)->server_name == "localhost");
        CHECK_FALSE(tls_info(pair.server));  // the carrier is no TLS transport
        pair.of_client.transport->close();
        pair.client.settle();
        pair.run();
        CHECK(pair.of_client.calls == Calls{"connected", "received", "disconnected"});
        CHECK(pair.of_server.calls == Calls{"connected", "end", "disconnected"});
        CHECK_FALSE(pair.of_server.reason);
        CHECK_FALSE(pair.of_client.reason);
    }
}

TEST_CASE("TLS runs inside TLS: each layer has its own keys, and bytes of any number go both ways") {
    const TlsContext server_side(server_options()), client_side(client_options());
    Journal of_server, of_client;
    testing::MemoryTransport server(tls(server_side, tls(server_side, std::make_unique<Recorder>(of_server))));
    testing::MemoryTransport client(
        tls(client_side, "localhost", tls(client_side, "localhost", std::make_unique<Recorder>(of_client))));
    const std::string much(300'000, 'x');
    of_client.on_connected = [&] {
        of_client.transport->write("hello");
        of_client.transport->write(much);
    };
    of_server.on_received = [&](Bytes input) {
        of_server.transport->write(input);
        return input.size();
    };
    testing::converse(server, client);
    CHECK(of_client.input == "hello" + much);
    REQUIRE_FALSE(of_client.over);
    of_client.transport->close();
    client.settle();
    testing::converse(server, client);
    CHECK(of_client.over);
    CHECK_FALSE(of_client.reason);
    CHECK(of_server.count("end") == 1);
    CHECK_FALSE(of_server.reason);
}

TEST_CASE("Inside TLS a protocol hands over to one that begins TLS anew, as through a proxy of HTTPS") {
    const TlsContext server_side(server_options()), client_side(client_options());
    Journal of_server, of_client;
    const auto inner_server = [&] { return tls(server_side, std::make_unique<Recorder>(of_server)); };
    const auto inner_client = [&] { return tls(client_side, "localhost", std::make_unique<Recorder>(of_client)); };
    // Each side says "go", and then speaks TLS.
    class Gate final : public Protocol {
    public:
        explicit Gate(std::function<std::unique_ptr<Protocol>()> next) : next_(std::move(next)) {}

    private:
        void connected() override { transport().write("go"); }
        std::size_t received(Bytes input) override {
            if (input.size() < 2) return 0;
            CHECK(hand_over_to(next_()));
            return 2;
        }
        std::function<std::unique_ptr<Protocol>()> next_;
    };
    testing::MemoryTransport server(tls(server_side, std::make_unique<Gate>(inner_server)));
    testing::MemoryTransport client(tls(client_side, "localhost", std::make_unique<Gate>(inner_client)));
    of_client.on_connected = [&] { of_client.transport->write("hello"); };
    testing::converse(server, client);
    CHECK(of_server.input == "hello");
    CHECK_FALSE(of_client.over);
}

TEST_CASE("Many writes of one call leave as one record, and those of 16 KiB and more as full ones") {
    Pair pair;
    pair.run();
    pair.server.take();
    pair.of_server.on_received = [&](Bytes input) {
        if (input.size() > 1) {
            for (std::size_t i = 0; i < 100; ++i) pair.of_server.transport->write("0123456789");
        } else {
            pair.of_server.transport->write(std::string(100, 'a'));
            pair.of_server.transport->write(std::string(200'000, 'b'));
            pair.of_server.transport->write(std::string(1'000, 'c'));
        }
        return input.size();
    };
    pair.of_client.transport->write("go");
    pair.client.settle();
    pair.server.feed(pair.client.take());
    CHECK(records_in(pair.server.output()) == std::vector<std::size_t>{1'000 + overhead});
    pair.run();
    pair.of_client.transport->write("g");
    pair.client.settle();
    pair.server.feed(pair.client.take());
    const std::vector<std::size_t> sizes = records_in(pair.server.output());
    REQUIRE(sizes.size() == 13);  // 201,100 bytes are 12 full records and a part
    for (std::size_t i = 0; i < 12; ++i) CHECK(sizes[i] == 16'384 + overhead);
    pair.of_client.input.clear();
    pair.run();
    CHECK(pair.of_client.input == std::string(100, 'a') + std::string(200'000, 'b') + std::string(1'000, 'c'));
}

TEST_CASE("Pieces of the input are sent back without a copy, and a mixture of pieces and others in its order") {
    Pair pair;
    pair.run();
    pair.of_server.on_received = [&](Bytes input) {
        Transport& transport = *pair.of_server.transport;
        transport.write(input.first(2));
        transport.write(input.subspan(2, 2));
        transport.write("-");
        transport.write(input.last(1));
        return input.size();
    };
    pair.of_client.transport->write("abcde");
    pair.run();
    CHECK(pair.of_client.input == "abcd-e");
}

TEST_CASE("A stream that ends without close_notify is truncated, and never an end of stream") {
    for (const TlsVersion version : versions) {
        Pair pair(server_context(version));
        pair.run();
        pair.of_client.transport->write("a part");
        pair.client.settle();
        pair.server.feed(pair.client.take());
        pair.server.end();
        CHECK(pair.of_server.input == "a part");
        CHECK(pair.of_server.count("end") == 0);
        CHECK(pair.of_server.reason == Error::truncated);
        CHECK(pair.server.disconnected() == std::error_code());  // the carrier itself ended in order
    }
}

TEST_CASE("An end inside the handshake is truncation as well, and disconnected is the only call") {
    Pair pair;
    pair.server.feed(pair.client.take().substr(0, 20));
    pair.server.end();
    CHECK(pair.of_server.calls == Calls{"disconnected"});
    CHECK(pair.of_server.reason == Error::truncated);
}

TEST_CASE("Each side ends its stream when it likes: behind shutdown_write the other one may go on") {
    for (const TlsVersion version : versions) {
        Pair pair(server_context(version));
        pair.of_server.on_end = [&] { pair.of_server.transport->write(std::string(100'000, 'x')); };
        pair.run();
        pair.of_client.transport->write("question");
        pair.of_client.transport->shutdown_write();
        CHECK_FALSE(pair.of_client.transport->write("more"));
        CHECK(pair.of_client.transport->open());
        pair.client.settle();
        pair.run();
        CHECK(pair.of_server.input == "question");
        CHECK(pair.of_client.input == std::string(100'000, 'x'));
        CHECK_FALSE(pair.of_server.over);
        pair.of_server.transport->close();
        pair.server.settle();
        pair.run();
        CHECK(pair.of_client.calls == Calls{"connected", "received", "end", "disconnected"});
        CHECK_FALSE(pair.of_client.reason);
        CHECK_FALSE(pair.of_server.reason);
    }
}

TEST_CASE("Closing after shutdown_write ends the connection, and closing sends all that was written before") {
    Pair pair;
    pair.run();
    pair.of_client.transport->shutdown_write();
    pair.of_client.transport->close();
    pair.client.settle();
    pair.of_server.on_end = [&] {
        pair.of_server.transport->write(std::string(300'000, 'x'));
        pair.of_server.transport->close();
    };
    pair.run();
    CHECK(pair.of_client.calls == Calls{"connected", "disconnected"});
    CHECK(pair.of_server.calls == Calls{"connected", "end", "disconnected"});
    CHECK_FALSE(pair.of_client.reason);
    CHECK_FALSE(pair.of_server.reason);
}

TEST_CASE("A peer that does not answer close_notify is waited for as long as close_timeout says") {
    Pair pair;
    pair.run();
    pair.of_server.transport->close();
    pair.server.settle();
    pair.server.advance(std::chrono::seconds(4));
    CHECK_FALSE(pair.of_server.over);
    pair.server.advance(std::chrono::seconds(2));
    CHECK(pair.of_server.reason == Error::close_timeout);
}

TEST_CASE("A handshake has a deadline of ten seconds, also without any setting") {
    Pair pair;
    pair.server.advance(std::chrono::seconds(9));
    CHECK_FALSE(pair.of_server.over);
    pair.server.feed(pair.client.take().substr(0, 100));
    pair.server.advance(std::chrono::seconds(1));
    CHECK(pair.of_server.calls == Calls{"disconnected"});
    CHECK(pair.of_server.reason == Error::handshake_timeout);
    CHECK(pair.of_server.reason == std::errc::timed_out);
    CHECK(pair.server.was_reset());
    pair.client.advance(std::chrono::seconds(10));
    CHECK(pair.of_client.reason == Error::handshake_timeout);
}

TEST_CASE("After the handshake its deadline is gone, and with zero there is none") {
    Pair pair;
    pair.run();
    pair.server.advance(std::chrono::hours(1));
    CHECK_FALSE(pair.of_server.over);
    TlsServerOptions patient = server_options();
    patient.handshake_timeout = Duration::zero();
    Pair waiting{TlsContext(patient)};
    waiting.server.advance(std::chrono::hours(1));
    waiting.run();
    CHECK(waiting.of_server.calls == Calls{"connected"});
}

TEST_CASE("Watermarks count plain bytes: a reader that stops makes the writer pause just above the high one") {
    Limits limits;
    limits.high_mark = 10'000;
    Pair pair(TlsContext(server_options()), TlsContext(client_options()), "localhost", limits);
    pair.run();
    pair.server.fill();
    // 100 records of 100 bytes are 12,200 bytes as they are sent.
    for (int i = 0; i < 100; ++i) {
        pair.of_server.transport->write(std::string(100, 'x'));
        pair.server.settle();
    }
    CHECK(pair.of_server.transport->queued() == 10'000);
    CHECK(pair.of_server.count("pause") == 0);
    pair.of_server.transport->write("x");
    pair.server.settle();
    CHECK(pair.of_server.count("pause") == 1);
    CHECK(pair.of_server.count("resume") == 0);
    pair.server.drain(11'000);
    CHECK(pair.of_server.transport->queued() < 1'100);
    pair.server.drain();
    CHECK(pair.of_server.count("resume") == 1);
    CHECK(pair.of_server.transport->queued() == 0);
    pair.run();
    CHECK(pair.of_client.input.size() == 10'001);
}

TEST_CASE("A peer that does not read its answers is not read from, and read on when it has taken them") {
    Limits limits;
    limits.high_mark = 20'000;
    Pair pair(TlsContext(server_options()), TlsContext(client_options()), "localhost", limits);
    pair.run();
    pair.server.fill();
    pair.of_server.on_received = [&](Bytes input) {
        std::size_t consumed = 0;
        for (; consumed < input.size() && pair.of_server.transport->reading(); consumed += 8) {
            pair.of_server.input += text_of(input.subspan(consumed, 8));
            pair.of_server.transport->write(std::string(30'000, 'x'));
        }
        return consumed;
    };
    for (int i = 0; i < 10; ++i) {
        pair.of_client.transport->write("question");
        pair.client.settle();
        pair.server.feed(pair.client.take());
    }
    CHECK(pair.of_server.input == "question");
    CHECK_FALSE(pair.of_server.transport->reading());
    pair.server.drain();
    pair.run();
    CHECK(pair.of_server.input.size() == 80);
    CHECK(pair.of_client.input.size() == 300'000);
}

TEST_CASE(
    "A rest that was left because too many answers wait comes again when they have been taken, without new input") {
    Limits limits;
    limits.high_mark = 100'000;
    Pair pair(TlsContext(server_options()), TlsContext(client_options()), "localhost", limits);
    pair.run();
    pair.server.fill();
    pair.of_server.on_received = [&](Bytes input) {
        std::size_t consumed = 0;
        for (; consumed < input.size() && pair.of_server.transport->reading(); ++consumed)
            pair.of_server.transport->write(std::string(70'000, 'x'));
        return consumed;
    };
    pair.of_client.transport->write("12345");
    pair.client.settle();
    pair.server.feed(pair.client.take());
    CHECK(pair.of_server.transport->unconsumed().size() == 3);
    pair.server.drain();
    pair.run();
    CHECK(pair.of_client.input.size() == 350'000);
    CHECK(pair.of_server.transport->unconsumed().empty());
}

TEST_CASE("A protocol that pauses gets nothing, neither bytes nor the end, and all of it when it resumes") {
    for (const TlsVersion version : versions) {
        Pair pair(server_context(version));
        pair.run();
        pair.of_server.on_received = [&](Bytes input) {
            pair.of_server.input += text_of(input);
            pair.of_server.transport->pause_reading();
            return input.size();
        };
        for (const char* const text : {"one ", "two ", "three"}) {
            pair.of_client.transport->write(text);
            pair.client.settle();
        }
        pair.of_client.transport->close();
        pair.client.settle();
        // All of it at once, the close_notify and the end of the carrier included.
        pair.run();
        const std::size_t first = pair.of_server.input.size();
        CHECK(first > 0);
        CHECK(pair.of_server.count("end") == 0);
        for (int i = 0; i < 4 && !pair.of_server.over; ++i) {
            pair.of_server.transport->resume_reading();
            pair.server.settle();
        }
        pair.run();
        CHECK(pair.of_server.input == "one two three");
        CHECK(pair.of_server.count("end") == 1);
        CHECK_FALSE(pair.of_server.reason);
    }
}

TEST_CASE(
    "A pause takes effect at once, also in the middle of a large read, and what was read stays with the carrier") {
    Limits limits;
    limits.read_size = 256 * 1024;
    Pair pair(TlsContext(server_options()), TlsContext(client_options()), "localhost", limits);
    pair.run();
    int calls = 0;
    pair.of_server.on_received = [&](Bytes input) {
        ++calls;
        pair.of_server.input += text_of(input);
        pair.of_server.transport->pause_reading();
        return input.size();
    };
    const std::string sent = random_bytes(200'000, 3);
    pair.of_client.transport->write(sent);
    pair.client.settle();
    pair.server.feed(pair.client.take());
    CHECK(calls == 1);
    CHECK(pair.of_server.input.size() < sent.size() / 2);
    while (pair.of_server.input.size() < sent.size() && calls < 10) {
        pair.of_server.transport->resume_reading();
        pair.server.settle();
    }
    CHECK(calls > 2);
    CHECK(pair.of_server.input == sent);
}

TEST_CASE("Unconsumed input comes again, in front of what is new, and by itself when reading resumes") {
    Pair pair;
    pair.run();
    std::vector<std::string> seen;
    bool consumes = false;
    pair.of_server.on_received = [&](Bytes input) {
        seen.emplace_back(text_of(input));
        if (!consumes) pair.of_server.transport->pause_reading();
        return consumes ? input.size() : 1;
    };
    pair.of_client.transport->write("abc");
    pair.client.settle();
    pair.server.feed(pair.client.take());
    CHECK(seen == std::vector<std::string>{"abc"});
    CHECK(text_of(pair.of_server.transport->unconsumed()) == "bc");
    pair.of_server.transport->resume_reading();
    CHECK(seen.size() == 1);  // not from inside the call
    pair.server.settle();
    CHECK(seen == std::vector<std::string>{"abc", "bc"});
    consumes = true;
    pair.of_server.transport->resume_reading();
    pair.of_client.transport->write("d");
    pair.client.settle();
    pair.server.feed(pair.client.take());
    CHECK(seen == std::vector<std::string>{"abc", "bc", "c", "d"});
}

TEST_CASE("The limits hold: unconsumed input, a message that takes too long, output that is not read") {
    Limits limits;
    limits.input_limit = 100;
    limits.message_timeout = std::chrono::seconds(3);
    limits.output_limit = 50'000;
    const auto made = [&] {
        auto pair =
            std::make_unique<Pair>(TlsContext(server_options()), TlsContext(client_options()), "localhost", limits);
        pair->run();
        pair->of_server.on_received = [](Bytes) { return std::size_t(0); };
        return pair;
    };
    const auto say = [](Pair& pair, std::string_view text) {
        pair.of_client.transport->write(text);
        pair.client.settle();
        pair.server.feed(pair.client.take());
    };
    const auto greedy = made();
    say(*greedy, std::string(101, 'x'));
    CHECK(greedy->of_server.reason == Error::input_limit);
    const auto slow = made();
    say(*slow, "a part");
    slow->server.advance(std::chrono::seconds(2));
    say(*slow, " of it");
    slow->server.advance(std::chrono::milliseconds(999));
    CHECK_FALSE(slow->of_server.over);
    slow->server.advance(std::chrono::milliseconds(1));
    CHECK(slow->of_server.reason == Error::message_timeout);
    const auto unread = made();
    unread->server.fill();
    for (int i = 0; i < 60; ++i) {
        if (!unread->of_server.over) unread->of_server.transport->write(std::string(1'000, 'x'));
        unread->server.settle();
    }
    CHECK(unread->of_server.reason == Error::output_limit);
}

TEST_CASE("Aborting resets the carrier, and the reason arrives") {
    Pair pair;
    pair.run();
    pair.of_server.transport->abort(std::make_error_code(std::errc::io_error));
    CHECK_FALSE(pair.of_server.over);
    pair.server.settle();
    CHECK(pair.server.was_reset());
    CHECK(pair.of_server.reason == std::errc::io_error);
}

TEST_CASE("An exception out of a protocol ends its connection, and goes on") {
    Pair pair;
    pair.run();
    pair.of_server.on_received = [](Bytes) -> std::size_t { throw std::runtime_error("failed"); };
    pair.of_client.transport->write("x");
    pair.client.settle();
    CHECK_THROWS_AS(pair.server.feed(pair.client.take()), std::runtime_error);
    CHECK(pair.of_server.reason == Error::exception);
}

TEST_CASE("Before the handshake is done writes wait for it, and calls through a handle too") {
    Journal of_server;
    auto made = std::make_unique<Early>(of_server);
    Early& early = *made;
    testing::MemoryTransport server(tls(TlsContext(server_options()), std::move(made)));
    Journal of_client;
    testing::MemoryTransport client(
        tls(TlsContext(client_options()), "localhost", std::make_unique<Recorder>(of_client)));
    CHECK(early.way().open());
    CHECK(early.way().write("early "));
    CHECK(early.way().queued() == 6);
    const TransportHandle handle = early.way().handle();
    CHECK(handle.write("posted"));
    server.settle();
    CHECK(of_server.calls.empty());
    converse(server, client);
    CHECK(of_server.calls == Calls{"connected"});
    CHECK(of_client.input == "early posted");
    CHECK(early.way().queued() == 0);
    handle.write(", later");
    server.settle();
    converse(server, client);
    CHECK(of_client.input == "early posted, later");
    early.way().close();
    server.settle();
    converse(server, client);
    CHECK(of_server.calls == Calls{"connected", "closing", "disconnected"});
    CHECK_FALSE(handle.write("too late"));
}

TEST_CASE("A connection that is closed or drained before its handshake is done has begun nothing") {
    for (const bool drained : {false, true}) {
        Journal journal;
        auto made = std::make_unique<Early>(journal);
        Early& early = *made;
        testing::MemoryTransport server(tls(TlsContext(server_options()), std::move(made)));
        drained ? server.ask_to_drain() : early.way().close();
        server.end();
        CHECK(journal.calls == Calls{"disconnected"});
        CHECK_FALSE(journal.reason);
    }
}

TEST_CASE("A drain is the protocol's to answer, and closes with close_notify by default") {
    Pair pair;
    pair.run();
    pair.server.ask_to_drain();
    pair.run();
    CHECK(pair.of_server.calls == Calls{"connected", "draining", "disconnected"});
    CHECK(pair.of_client.calls == Calls{"connected", "end", "disconnected"});
}

TEST_CASE("A file is sent in its place between other writes, in pieces, and takes no memory") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(1'000'000, 1), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    Pair pair;
    pair.run();
    Transport& transport = *pair.of_server.transport;
    transport.write("head");
    CHECK(transport.write_file(FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC))));
    CHECK(transport.queued() >= 1'000'000);
    transport.write("tail");
    transport.shutdown_write();
    pair.server.settle();
    CHECK(pair.of_server.count("pause") == 1);
    CHECK(pair.of_server.count("resume") == 1);
    pair.run();
    CHECK(pair.of_client.input == "head" + content + "tail");
    CHECK(pair.of_client.count("end") == 1);
}

TEST_CASE("A file waits for a peer that does not read") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(1'000'000, 1), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    Pair pair;
    pair.run();
    pair.server.fill();
    CHECK(pair.of_server.transport->write_file(FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC))));
    pair.server.settle();
    CHECK(pair.server.queued() < 300'000);
    CHECK(pair.of_server.transport->queued() == 1'000'000);
    pair.server.drain();
    pair.run();
    CHECK(pair.of_client.input == content);
}

TEST_CASE(
    "A connection that is closed behind a file sends all of it, and a peer that takes none of it is not waited for") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(1'000'000, 1), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    for (const bool reads : {true, false}) {
        Pair pair;
        pair.run();
        if (!reads) pair.server.fill();
        pair.of_server.on_received = [&](Bytes input) {
            pair.of_server.transport->write_file(FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
            pair.of_server.transport->close();
            return input.size();
        };
        pair.of_client.transport->write("go");
        pair.client.settle();
        pair.server.feed(pair.client.take());
        if (reads) {
            pair.run();
            CHECK(pair.of_client.input == content);
            CHECK(pair.of_client.count("end") == 1);
            CHECK_FALSE(pair.of_server.reason);
        } else {
            pair.server.advance(std::chrono::seconds(4));
            CHECK_FALSE(pair.of_server.over);
            pair.server.advance(std::chrono::seconds(1));
            CHECK(pair.of_server.reason == Error::close_timeout);
        }
    }
}

TEST_CASE("Bytes that are no TLS end the connection, and the peer gets an alert that says so") {
    Pair pair;
    pair.server.feed("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    pair.server.end();
    CHECK(pair.of_server.calls == Calls{"disconnected"});
    CHECK(pair.of_server.reason.category() == tls_category());
    CHECK(pair.of_server.reason.message() == "http request");
}

TEST_CASE("A record that was changed on its way ends the connection, and the other side gets the alert") {
    for (const TlsVersion version : versions) {
        Pair pair(server_context(version));
        pair.run();
        pair.of_client.transport->write("hello");
        pair.client.settle();
        std::string sent = pair.client.take();
        sent[sent.size() / 2] = char(sent[sent.size() / 2] ^ 1);
        pair.server.feed(sent);
        CHECK(pair.of_server.input.empty());
        pair.run();
        CHECK(pair.of_server.reason.message() == "decryption failed or bad record mac");
        CHECK(pair.of_client.reason.message() == "the peer's alert: bad record mac");
    }
}

TEST_CASE("Errors that other code has left in OpenSSL's queue end no connection") {
    const auto leave = [] { ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER); };
    Pair pair;
    leave();
    pair.run();
    leave();
    pair.of_client.transport->write("hello");
    pair.client.settle();
    std::string sent = pair.client.take();
    leave();
    pair.server.feed(sent.substr(0, 10));
    leave();
    pair.server.feed(sent.substr(10));
    CHECK(pair.of_server.input == "hello");
    leave();
    pair.of_client.transport->close();
    pair.client.settle();
    leave();
    pair.run();
    CHECK_FALSE(pair.of_server.reason);
    CHECK(pair.of_server.count("end") == 1);
    ERR_clear_error();
}

TEST_CASE("A connection that fails leaves no error for the next one") {
    Pair failing;
    failing.server.feed("this is no TLS at all");
    CHECK(ERR_peek_error() == 0);
    Pair refused(TlsContext(server_options()), TlsContext(client_options()), "example.com");
    refused.run();
    CHECK(refused.of_client.reason.category() == certificate_category());
    CHECK(ERR_peek_error() == 0);
}

namespace {

/// A client that talks to a Giver over TLS, in memory.
struct GivingPair {
    GivingPair()
        : server(tls(TlsContext(server_options()), std::make_unique<Giver>(log)), large_reads()),
          client(tls(TlsContext(client_options()), "localhost", std::make_unique<Recorder>(of_client))) {
        run();
    }
    static Limits large_reads() {  // so that one brings more than a TLS transport decrypts at once
        Limits limits;
        limits.read_size = 400'000;
        return limits;
    }
    void run() { testing::converse(server, client); }
    void say(std::string_view text) {
        of_client.transport->write(text);
        run();
    }

    Giver::Log log;
    Journal of_client;
    testing::MemoryTransport server;
    testing::MemoryTransport client;
};

}  // namespace

TEST_CASE("over TLS a protocol hands over in its call, and the next one gets what was left and all that follows") {
    GivingPair pair;
    SUBCASE("in one record") {
        pair.say("next\nleft");
    }
    SUBCASE("in several records that arrive together") {
        pair.of_client.transport->write("next\nle");
        pair.of_client.transport->write("ft");
        pair.run();
    }
    SUBCASE("with much behind it") {
        const std::string much = random_bytes(300'000, 7);
        pair.of_client.transport->write("next\n");
        pair.of_client.transport->write(much);
        pair.run();
        CHECK(pair.log.next.calls.front() == "connected");
        CHECK(pair.log.next.input == much);
        pair.log.next.input = "left";
    }
    SUBCASE("with a pause before it") {
        pair.log.in_received = [&](Giver& giver) {
            giver.transport().pause_reading();
            REQUIRE(giver.give());
        };
        pair.say("next\nleft");
    }
    SUBCASE("outside of its call") {
        pair.log.giver->transport().pause_reading();
        pair.say("left");
        REQUIRE(pair.log.giver->give());
        pair.server.advance(Duration::zero());
        pair.run();
    }
    CHECK(pair.log.gone);
    CHECK(pair.log.next.input == "left");
    pair.say(" and more");
    CHECK(pair.log.next.input == "left and more");
    CHECK(pair.log.next.calls.front() == "connected");
    pair.log.next.transport->write("answer");
    pair.run();
    CHECK(pair.of_client.input.ends_with("answer"));
    pair.of_client.transport->close();
    pair.run();
    CHECK(pair.log.next.over);
    CHECK_FALSE(pair.log.next.reason);
}

TEST_CASE("over TLS a handle's call comes to the next protocol behind its beginning, and an end comes to it alone") {
    GivingPair pair;
    std::string seen;
    pair.log.in_received = [&](Giver& giver) {
        giver.transport().handle().post(
            [&](Protocol&) { seen = pair.log.next.calls.empty() ? "too early" : "behind"; });
        REQUIRE(giver.give());
        CHECK_THROWS_AS(giver.give(), std::logic_error);
    };
    SUBCASE("as it should") {
        pair.say("next\nleft");
        CHECK(seen == "behind");
        CHECK(pair.log.next.input == "left");
    }
    SUBCASE("with an end between") {
        pair.log.in_received = [&](Giver& giver) {
            REQUIRE(giver.give());
            giver.transport().abort();
        };
        pair.say("next\nleft");
        CHECK(pair.log.next.calls == std::vector<std::string>{"disconnected"});
    }
    SUBCASE("with the peer's end behind it") {
        pair.of_client.transport->write("next\nleft");
        pair.of_client.transport->close();
        pair.run();
        CHECK(pair.log.next.input == "left");
        CHECK(pair.log.next.count("end") == 1);
    }
}
