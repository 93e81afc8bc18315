// DatagramSocket, on every backend: receiving, sending, backpressure, refusals and the end.
#include "../support/loop.hpp"
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <reactor/coroutine/datagram_socket.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/testing/memory_datagram_transport.hpp>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

Socket bound() {
    Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    socket.bind(*Address::ip("127.0.0.1", 0));
    return socket;
}

Socket connected_to(const Address& server) {
    Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    (void)socket.connect(server);
    return socket;
}

std::string text(const Result<Datagram>& datagram) {
    return datagram ? std::string(text_of(datagram->data)) : "(" + datagram.error().message() + ")";
}

Task<> echo(DatagramSocket& socket) {
    while (auto question = co_await socket.receive()) co_await socket.answer(*question, question->data);
}

Task<std::vector<std::string>> ask(DatagramSocket& socket, int count) {
    std::vector<std::string> answers;
    for (int i = 0; i < count; ++i) {
        const std::string question = "question " + std::to_string(i);
        CHECK(co_await socket.send(question));
        answers.push_back(text(co_await timeout(60s, socket.receive())));
    }
    co_return answers;
}

Task<> note_slowly(DatagramSocket& socket, std::vector<std::string>& notes) {
    for (;;) {
        const auto datagram = co_await socket.receive();
        notes.push_back(text(datagram));
        if (!datagram) co_return;
        co_await sleep(1ms);  // nothing waits for the others of the batch meanwhile
    }
}

Task<> flood(DatagramSocket& socket, std::size_t count, std::size_t& sent) {
    const std::string piece(1000, 'x');
    for (; sent < count; ++sent)
        if (!co_await socket.send(piece)) co_return;
}

}  // namespace

TEST_CASE("coroutines ask and answer by datagrams") {
    Reactor reactor;
    const std::size_t descriptors = open_descriptors();
    {
        DatagramSocket server(reactor, bound());
        DatagramSocket client(reactor, connected_to(server.transport().local()));
        Scope scope(reactor);
        scope.start(echo(server));
        CHECK(run(reactor, ask(client, 3)) == std::vector<std::string>{"question 0", "question 1", "question 2"});
        CHECK_FALSE(server.error());
        server.close();
        CHECK(server.error() == std::errc::operation_canceled);
        settle(reactor);
        CHECK(scope.size() == 0);
        CHECK_THROWS_AS((void)server.transport(), std::system_error);
    }
    settle(reactor);
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("datagrams of one batch that no receive waits for are received later, in their order") {
    Reactor reactor;
    Socket peer = bound();
    DatagramSocket socket(reactor, connected_to(peer.local()));
    (void)peer.connect(socket.transport().local());
    for (const char* const letter : {"a", "b", "c", ""}) CHECK(::send(peer.get(), letter, *letter != 0, 0) >= 0);
    std::vector<std::string> notes;
    Scope scope(reactor);
    scope.start(note_slowly(socket, notes));
    run_until(reactor, [&] { return notes.size() == 4; });
    CHECK(notes == std::vector<std::string>{"a", "b", "c", ""});
}

static Task<> give_up_and_receive(DatagramSocket& socket, const Socket& peer, std::vector<std::string>& notes) {
    notes.push_back(text(co_await timeout(1ms, socket.receive())));
    CHECK(::send(peer.get(), "late", 4, 0) == 4);
    co_await sleep(2ms);  // it has come by now, and nothing waits for it
    notes.push_back(text(co_await socket.receive()));
}

TEST_CASE("a receive that was given up takes no datagram: the next one gets it") {
    Reactor reactor;
    auto [mine, peer] = Socket::pair(SocketKind::datagram);
    DatagramSocket socket(reactor, std::move(mine));
    std::vector<std::string> notes;
    run(reactor, give_up_and_receive(socket, peer, notes));
    CHECK(notes == std::vector<std::string>{"(" + std::make_error_code(std::errc::timed_out).message() + ")", "late"});
}

TEST_CASE("the refusal of a connected socket's datagram is a receive's error, and the socket goes on") {
    Reactor reactor;
    Socket gone = bound();
    const Address address = gone.local();
    gone = Socket();
    DatagramSocket client(reactor, connected_to(address));
    CHECK(run(reactor, ask(client, 1)) ==
          std::vector<std::string>{"(" + std::make_error_code(std::errc::connection_refused).message() + ")"});
    Socket back = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    back.bind(address);
    DatagramSocket server(reactor, std::move(back));
    Scope scope(reactor);
    scope.start(echo(server));
    CHECK(run(reactor, ask(client, 1)) == std::vector<std::string>{"question 0"});
}

TEST_CASE("the refusal of a datagram from a socket without a peer is no error of its receive") {
    Reactor reactor;
    Socket gone = bound();
    const Address address = gone.local();
    gone = Socket();
    DatagramSocket server(reactor, bound());
    std::vector<std::string> notes;
    Scope scope(reactor);
    scope.start(note_slowly(server, notes));
    settle(reactor);
    (void)server.send(address, "to nobody");
    settle(reactor);
    const Socket peer = connected_to(server.transport().local());
    CHECK(::send(peer.get(), "hello", 5, 0) == 5);
    run_until(reactor, [&] { return !notes.empty(); });
    CHECK(notes == std::vector<std::string>{"hello"});
}

TEST_CASE("the end of a connection of packets is an end of stream") {
    Reactor reactor;
    auto [mine, peer] = Socket::pair(SocketKind::sequenced_packets);
    DatagramSocket socket(reactor, std::move(mine));
    CHECK(::send(peer.get(), "last", 4, 0) == 4);
    peer = Socket();
    std::vector<std::string> notes;
    Scope scope(reactor);
    scope.start(note_slowly(socket, notes));
    run_until(reactor, [&] { return scope.size() == 0; });
    CHECK(notes.front() == "last");
    CHECK(notes.size() == 2);
    CHECK(socket.error());
}

TEST_CASE("a send for which there is no room waits, and nothing is lost") {
    Reactor reactor;
    auto [mine, peer] = Socket::pair(SocketKind::sequenced_packets);
    DatagramOptions options;
    options.queue_limit = 5000;
    DatagramSocket socket(reactor, std::move(mine), options);
    std::size_t sent = 0, received = 0;
    Scope scope(reactor);
    scope.start(flood(socket, 2000, sent));
    settle(reactor);
    CHECK(sent < 2000);
    CHECK(socket.transport().queued() <= 6000);
    std::string buffer(2000, '\0');
    run_until(reactor, [&, &end = peer] {
        while (::recv(end.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) == 1000) ++received;
        return received == 2000;
    });
    CHECK(scope.size() == 0);
    sent = 0;
    scope.start(flood(socket, 2000, sent));
    settle(reactor);
    socket.close();  // the send that waits fails
    settle(reactor);
    CHECK(scope.size() == 0);
    CHECK(sent < 2000);
}

static Task<> receive_twice(DatagramSocket& socket) {
    co_await all_of(echo(socket), echo(socket));
}

TEST_CASE("a second receive while one waits is refused, and a socket may outlive its reactor") {
    auto reactor = std::make_unique<Reactor>();
    DatagramSocket socket(*reactor, bound());
    CHECK_THROWS_AS(run(*reactor, receive_twice(socket)), std::logic_error);
    reactor.reset();
    CHECK(socket.error() == std::errc::operation_canceled);
}

TEST_CASE("a coroutine of datagrams runs in the memory of a test") {
    Reactor reactor;
    std::optional<testing::MemoryDatagramTransport> memory;
    DatagramSocket socket([&](std::unique_ptr<DatagramProtocol> protocol) -> DatagramTransport& {
        return memory.emplace(std::move(protocol));
    });
    Scope scope(reactor);
    scope.start(echo(socket));
    memory->feed("early");
    CHECK(memory->waiting() == 1);  // nothing receives yet
    settle(reactor);
    memory->feed("one");
    memory->feed("two");
    REQUIRE(memory->sent().size() == 3);
    CHECK(memory->sent()[2].data == "two");
    memory->fail(std::make_error_code(std::errc::io_error));
    CHECK(scope.size() == 0);
    CHECK(socket.error() == std::errc::io_error);
}
