// connect: a coroutine's own connections, on every backend.
#include "../support/loop.hpp"
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/connect.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/drain.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

using Notes = std::vector<std::string>;

Task<> echo_lines(Stream stream) {
    while (auto line = co_await stream.read<Lines>()) co_await stream.write(*line, "\n");
}

Task<Result<std::string>> ask(Reactor& reactor, std::string host, std::uint16_t port, std::string question) {
    ConnectorOptions options;
    options.timeout = 10s;
    auto server = co_await connect(reactor, host, port, options);
    if (!server) co_return server.error();
    co_await server->write(question, "\n");
    const auto answer = co_await server->read<Lines>();
    if (!answer) co_return answer.error();
    co_return std::string(text_of(*answer));
}

Task<> wait_for_input(Reactor& reactor, std::vector<Address> addresses, Notes& notes) {
    const Noting end(notes, "destroyed");
    auto server = co_await connect(reactor, addresses);
    notes.push_back(server ? "connected" : server.error().message());
    if (!server) co_return;
    const auto bytes = co_await server->read_some();
    notes.push_back(bytes ? "input" : bytes.error().message());
}

}  // namespace

TEST_CASE("a coroutine asks a server by name and gets its answer") {
    Reactor reactor;
    const std::size_t frames = coroutine_frames().alive();
    const Acceptor acceptor{reactor, "127.0.0.1", 0, coroutine(echo_lines)};
    const auto answer = run(reactor, ask(reactor, "127.0.0.1", acceptor.port(), "hello"));
    CHECK(answer.value() == "hello");
    run_until(reactor, [&] { return acceptor.connections() == 0; });
    CHECK(coroutine_frames().alive() == frames);
}

TEST_CASE("a connect that fails returns the reason") {
    Reactor reactor;
    Socket closed = Socket::open(Address::Family::ipv4);
    closed.bind(*Address::ip("127.0.0.1", 0));
    Notes notes;
    run(reactor, wait_for_input(reactor, {closed.local()}, notes));
    CHECK(notes == Notes{std::make_error_code(std::errc::connection_refused).message(), "destroyed"});
    notes.clear();
    Scope scope(reactor);
    scope.start(wait_for_input(reactor, {closed.local()}, notes));
    scope.cancel();
    CHECK(notes.empty());
}

TEST_CASE("destroying a coroutine gives up its connect, or closes its connection, wherever it waits") {
    const std::size_t descriptors = open_descriptors();
    const std::size_t frames = coroutine_frames().alive();
    {
        Reactor reactor;
        Socket listener = Socket::open(Address::Family::ipv4);
        listener.bind(*Address::ip("127.0.0.1", 0));
        listener.listen(10);
        int connected = 0;
        for (int turns = 0; turns < 6; ++turns) {
            Notes notes;
            {
                Scope scope(reactor);
                scope.start(wait_for_input(reactor, {listener.local()}, notes));
                for (int turn = 0; turn < turns; ++turn) reactor.run_once(10ms);
            }
            CHECK((notes.empty() || notes.back() == "destroyed"));
            connected += int(notes.size() > 1);
        }
        CHECK(connected > 0);
        settle(reactor);
    }
    CHECK(coroutine_frames().alive() == frames);
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a drain of the loop ends a coroutine's own connection, and its read that waits") {
    Reactor reactor;
    Socket listener = Socket::open(Address::Family::ipv4);
    listener.bind(*Address::ip("127.0.0.1", 0));
    listener.listen(10);
    Notes notes;
    Scope scope(reactor);
    scope.start(wait_for_input(reactor, {listener.local()}, notes));
    run_until(reactor, [&] { return !notes.empty(); });
    drain(reactor, 10s, [](const Drained&) {});
    settle(reactor);
    CHECK(notes == Notes{"connected", std::make_error_code(std::errc::operation_canceled).message(), "destroyed"});
}

TEST_CASE("a coroutine's connection outlives its reactor as a stream that is over") {
    auto reactor = std::make_unique<Reactor>();
    Socket listener = Socket::open(Address::Family::ipv4);
    listener.bind(*Address::ip("127.0.0.1", 0));
    listener.listen(10);
    struct Connecting {
        static Task<Stream> to(Reactor& loop, Address address) {
            const std::vector<Address> addresses(1, address);
            co_return (co_await connect(loop, addresses)).value();
        }
    };
    Stream stream = run(*reactor, Connecting::to(*reactor, listener.local()));
    CHECK(stream.open());
    reactor.reset();
    CHECK_FALSE(stream.open());
    CHECK(stream.error() == std::errc::operation_canceled);
}
