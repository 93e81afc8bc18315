// Coroutines on sockets, on every backend: an acceptor's connections, their end, and what they leave behind.
#include "../support/loop.hpp"
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/drain.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

using Notes = std::vector<std::string>;

Task<> echo_lines(Stream stream) {
    while (auto line = co_await stream.read<Lines>()) co_await stream.write(*line, "\n");
}

Task<> note_bytes(Stream stream, Notes& notes) {
    const Noting end(notes, "destroyed");
    while (auto bytes = co_await stream.read_some()) notes.push_back(std::string(text_of(*bytes)));
    notes.push_back(stream.error() ? stream.error().message() : "end");
}

Task<> produce(Stream stream, std::size_t count, std::size_t& written) {
    const std::string piece(100'000, 'x');
    for (std::size_t i = 0; i < count; ++i) {
        if (!co_await stream.write(piece)) co_return;
        written += piece.size();
    }
}

// A connection that a coroutine serves, and the raw socket at its other end.
template <class... Given>
Socket serve(Reactor& reactor, Given... given) {
    auto [client, server] = tcp_pair();
    Connection::open(reactor, std::move(server), coroutine(given...)());
    return std::move(client);
}

}  // namespace

TEST_CASE("a coroutine serves each connection of an acceptor") {
    Reactor reactor;
    const std::size_t frames = coroutine_frames().alive();
    {
        Acceptor acceptor{reactor, "127.0.0.1", 0, coroutine(echo_lines)};
        std::vector<Socket> clients;
        for (int i = 0; i < 10; ++i) {
            clients.push_back(Socket::open(Address::Family::ipv4));
            (void)clients.back().connect(*Address::ip("127.0.0.1", acceptor.port()));
        }
        run_until(reactor, [&] { return acceptor.connections() == 10; });
        for (const Socket& client : clients) write_some(client, "one\ntwo\nthr");
        std::size_t whole = 0;
        std::vector<std::string> answers(clients.size());
        run_until(reactor, [&] {
            whole = 0;
            for (std::size_t i = 0; i < clients.size(); ++i) {
                answers[i] += read_all(clients[i]);
                whole += answers[i] == "one\ntwo\n";
            }
            return whole == clients.size();
        });
        CHECK(coroutine_frames().alive() == frames + 10);
        clients.clear();
        run_until(reactor, [&] { return acceptor.connections() == 0; });
    }
    CHECK(coroutine_frames().alive() == frames);
}

TEST_CASE("a coroutine that waits in a read gets the reason when its connection is reset") {
    Reactor reactor;
    Notes notes;
    Socket client = serve(reactor, note_bytes, std::ref(notes));
    write_some(client, "abc");
    run_until(reactor, [&] { return !notes.empty(); });
    client.set_linger(std::chrono::seconds(0));
    client = Socket();
    run_until(reactor, [&] { return notes.size() == 3; });
    CHECK(notes == Notes{"abc", std::make_error_code(std::errc::connection_reset).message(), "destroyed"});
}

TEST_CASE("a coroutine that writes without end waits for its peer, and no more is queued than the watermarks allow") {
    Reactor reactor;
    std::size_t written = 0;
    const Socket client = serve(reactor, produce, std::size_t(200), std::ref(written));
    settle(reactor);
    CHECK(written < 20'000'000);  // what the kernel's buffers hold, and the high watermark
    const std::size_t before = written;
    settle(reactor);
    CHECK(written == before);
    std::size_t received = 0;
    bool ended = false;
    run_until(reactor, [&] {
        received += read_all(client, &ended).size();
        return ended;
    });
    CHECK(received == 20'000'000);
}

TEST_CASE("an echo larger than the high watermark goes on by itself") {
    Reactor reactor;
    const Socket client = serve(reactor, echo_lines);
    const std::string line = std::string(900'000, 'x') + "\n";
    std::size_t sent = 0;
    std::string answer;
    run_until(reactor, [&] {
        sent += write_some(client, std::string_view(line).substr(sent));
        answer += read_all(client);
        return answer.size() >= line.size();
    });
    CHECK(answer == line);
    write_some(client, "more\n");
    run_until(reactor, [&] { return (answer += read_all(client)).size() >= line.size() + 5; });
}

TEST_CASE("destroying the reactor destroys the coroutines of its connections where they wait") {
    const std::size_t frames = coroutine_frames().alive();
    const std::size_t descriptors = open_descriptors();
    Notes notes;
    {
        auto reactor = std::make_unique<Reactor>();
        const Socket client = serve(*reactor, note_bytes, std::ref(notes));
        std::size_t written = 0;
        const Socket other = serve(*reactor, produce, std::size_t(1000), std::ref(written));
        settle(*reactor);
        reactor.reset();
        CHECK(notes == Notes{"destroyed"});
    }
    CHECK(coroutine_frames().alive() == frames);
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a drain ends coroutines that wait") {
    Reactor reactor;
    Notes notes;
    const Socket client = serve(reactor, note_bytes, std::ref(notes));
    settle(reactor);
    bool drained = false;
    drain(reactor, std::chrono::seconds(10), [&](const Drained& all) {
        drained = true;
        CHECK(all.cut == 0);
    });
    settle(reactor);
    CHECK(notes == Notes{"destroyed"});
    bool ended = false;
    run_until(reactor, [&] { return (void)read_all(client, &ended), ended; });
    ::shutdown(client.get(), SHUT_WR);
    run_until(reactor, [&] { return drained; });
}

TEST_CASE("a coroutine that waits in a read moves with its connection to another loop") {
    Reactor here, there;
    const std::size_t frames = coroutine_frames().alive();
    auto [client, server] = tcp_pair();
    Connection& connection = Connection::open(here, std::move(server), coroutine(echo_lines)());
    settle(here);
    write_some(client, "one\nha");
    settle(here);
    CHECK(read_all(client) == "one\n");
    bool arrived = false;
    connection.move_to(there, [&] { arrived = true; });
    for (int turn = 0; turn < 100 && !arrived; ++turn) {
        here.run_once(Duration::zero());
        there.run_once(Duration::zero());
    }
    CHECK(arrived);
    write_some(client, "lf\n");
    std::string answer;
    run_until(there, [&, &end = client] { return (answer += read_all(end)) == "half\n"; });
    client = Socket();
    run_until(there, [&] { return coroutine_frames().alive() == frames; });
}

TEST_CASE("a write above the high watermark goes on when the kernel has taken all of it at once") {
    Reactor reactor;
    auto [client, server] = tcp_pair();
    ConnectionOptions options;
    options.limits.high_mark = 10;
    Connection::open(reactor, std::move(server), coroutine(echo_lines)(), options);
    std::string answer;
    for (std::size_t round = 1; round <= 3; ++round) {
        write_some(client, std::string(99, 'x') + "\n");
        run_until(reactor, [&, &end = client] { return (answer += read_all(end)).size() == 100 * round; });
    }
}
