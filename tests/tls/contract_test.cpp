// Promises of every transport that no other test holds over TLS: the limits that are the carrier's, addresses, and
// writes of several pieces.
#include "pair.hpp"

#include <reactor/coroutine/stream.hpp>

#include <memory>
#include <string>
#include <vector>

using namespace reactor;
using Calls = std::vector<std::string>;

namespace {

std::unique_ptr<Pair> with(const Limits& limits) {
    auto pair = std::make_unique<Pair>(TlsContext(server_options()), TlsContext(client_options()), "localhost", limits);
    pair->run();
    return pair;
}

}  // namespace

TEST_CASE("A connection without traffic ends by its idle timeout, and one that sends nothing by its own") {
    Limits limits;
    limits.idle_timeout = std::chrono::seconds(5);
    const auto idle = with(limits);
    idle->server.advance(std::chrono::seconds(4));
    idle->of_client.transport->write("here");
    idle->client.settle();
    idle->server.feed(idle->client.take());
    idle->server.advance(std::chrono::seconds(4));
    CHECK_FALSE(idle->of_server.over);
    idle->server.advance(std::chrono::seconds(1));
    CHECK(idle->of_server.reason == Error::idle_timeout);
    limits = {};
    limits.receive_timeout = std::chrono::seconds(5);
    const auto silent = with(limits);
    silent->server.advance(std::chrono::seconds(3));
    silent->of_server.transport->write("a sign of life of this side");
    silent->server.settle();
    silent->server.advance(std::chrono::seconds(2));
    CHECK(silent->of_server.reason == Error::receive_timeout);
}

TEST_CASE("A peer that takes no output for too long ends the connection, and new limits hold at once") {
    const auto pair = with({});
    Limits limits;
    limits.write_timeout = std::chrono::seconds(5);
    pair->of_server.transport->set_limits(limits);
    pair->server.fill();
    pair->of_server.transport->write("not taken");
    pair->server.settle();
    pair->server.advance(std::chrono::seconds(4));
    CHECK_FALSE(pair->of_server.over);
    pair->server.advance(std::chrono::seconds(1));
    CHECK(pair->of_server.reason == Error::write_timeout);
}

TEST_CASE("The addresses and the peer's process are those of the carrier") {
    const auto pair = with({});
    pair->server.set_addresses(*Address::ip("192.0.2.1", 1234), *Address::ip("192.0.2.2", 443));
    pair->server.set_peer_credentials({.process = 17, .user = 18, .group = 19});
    const Transport& transport = *pair->of_server.transport;
    CHECK(transport.peer().to_string() == "192.0.2.1:1234");
    CHECK(transport.local().to_string() == "192.0.2.2:443");
    REQUIRE(transport.peer_credentials());
    CHECK(transport.peer_credentials()->user == 18);
}

TEST_CASE("Several pieces of one write are one record, and an empty write is none") {
    const auto pair = with({});
    pair->server.take();
    CHECK(pair->of_server.transport->write(""));
    CHECK(pair->server.output().empty());
    CHECK(pair->of_server.transport->write("head", std::string(100, 'b'), "tail"));
    CHECK(pair->server.output().size() == 108 + 22);
    pair->run();
    CHECK(pair->of_client.input == "head" + std::string(100, 'b') + "tail");
}

TEST_CASE("A reset that comes before what the peer said is told as one, behind the bytes that had come") {
    const auto pair = with({});
    pair->of_client.transport->write("last words");
    pair->client.settle();
    pair->server.feed(pair->client.take());
    pair->server.reset();
    CHECK(pair->of_server.input == "last words");
    CHECK(pair->of_server.count("end") == 0);
    CHECK(pair->of_server.reason == std::errc::connection_reset);
}

namespace {

Task<> answer(Stream stream) {
    while (const Result<Bytes> line = co_await stream.read_some()) co_await stream.write("you said ", *line);
}

}  // namespace

TEST_CASE("A coroutine that serves plain connections serves those over TLS") {
    Journal journal;
    testing::MemoryTransport server(tls(TlsContext(server_options()), coroutine(answer)()));
    testing::MemoryTransport client(
        tls(TlsContext(client_options()), "localhost", std::make_unique<Recorder>(journal)));
    journal.on_connected = [&] { journal.transport->write("hello"); };
    converse(server, client);
    CHECK(journal.input == "you said hello");
    journal.transport->close();
    client.settle();
    converse(server, client);
    CHECK(server.disconnected() == std::error_code());
    CHECK(client.disconnected() == std::error_code());
}

TEST_CASE("An end of the peer that waits behind a pause and a rest comes also where this side has ended before") {
    const auto pair = with({});
    Journal& journal = pair->of_server;
    journal.transport->shutdown_write();
    pair->server.settle();
    journal.on_received = [&](Bytes) {
        journal.transport->pause_reading();
        return std::size_t(0);
    };
    pair->of_client.transport->write("rest");
    pair->of_client.transport->close();
    pair->client.settle();
    pair->server.feed(pair->client.take());
    pair->server.end();
    CHECK(journal.count("end") == 0);
    journal.on_received = nullptr;
    journal.transport->resume_reading();
    pair->server.settle();
    CHECK(journal.input == "rest");
    CHECK(journal.calls == Calls{"connected", "received", "end", "disconnected"});
    CHECK_FALSE(journal.reason);
}
