// The server of HTTP behind real sockets.
#include "../support/loop.hpp"
#include "answers.hpp"

#include <protocols/http/server.hpp>

#include <exception>
#include <stdexcept>
#include <string>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

/// A client that is a plain socket.
struct PlainClient {
    explicit PlainClient(std::uint16_t port) : socket(Socket::open(Address::Family::ipv4)) {
        (void)socket.connect(*Address::ip("127.0.0.1", port));
    }
    /// Sends, and turns the loop until the answers hold `text`.
    std::string ask(Reactor& reactor, std::string_view request, std::string_view text) {
        std::string answer;
        run_until(reactor, [&] {
            request.remove_prefix(write_some(socket, request));
            answer += read_all(socket, &ended);
            return ended || answer.find(text) != std::string::npos;
        });
        return without_date(answer);
    }
    Socket socket;
    bool ended = false;
};

}  // namespace

TEST_CASE("a server of HTTP answers on its port, and refuses what it cannot understand") {
    Reactor reactor;
    http::Server server(reactor, "127.0.0.1", 0);
    server.get("/", [](const http::Request& request, http::Exchange exchange) {
        exchange.answer(200, request.peer().to_string().starts_with("127.0.0.1:") ? "hello" : "who is this?");
    });
    PlainClient client(server.port());
    CHECK(client.ask(reactor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "hello").ends_with("\r\n\r\nhello"));
    const std::string refused = client.ask(reactor, "GET / HTTP/1.1\r\n\r\n", "never");
    CHECK(refused.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    CHECK(refused.ends_with("the Host field is missing\n"));
    CHECK(client.ended);
}

TEST_CASE("an exception out of a handler of HTTP answers 500, ends its connection, and reaches the hook") {
    Reactor reactor;
    std::string caught;
    reactor.on_exception([&](std::exception_ptr thrown) {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::runtime_error& error) {
            caught = error.what();
        }
    });
    http::Server server(reactor, "127.0.0.1", 0);
    server.get("/", [](const http::Request&, http::Exchange) { throw std::runtime_error("a fault"); });
    PlainClient client(server.port());
    const std::string answer = client.ask(reactor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "never");
    CHECK(answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
    CHECK(client.ended);
    run_until(reactor, [&] { return !caught.empty(); });
    CHECK(caught == "a fault");
}

TEST_CASE("a server of HTTP that is destroyed leaves connections that call no handler") {
    Reactor reactor;
    auto server = std::make_unique<http::Server>(reactor, "127.0.0.1", 0);
    server->get("/", [](const http::Request&, http::Exchange exchange) { exchange.answer(200, "hello"); });
    PlainClient client(server->port());
    client.ask(reactor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "hello");
    server.reset();
    CHECK(client.ask(reactor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "never").starts_with("HTTP/1.1 503"));
    CHECK(client.ended);
}

TEST_CASE("an answer that a timer gives leaves at once") {
    Reactor reactor;
    http::Server server(reactor, "127.0.0.1", 0);
    Timer later;
    server.get("/", [&](const http::Request&, http::Exchange exchange) {
        auto kept = std::make_shared<http::Exchange>(std::move(exchange));
        later = reactor.after(1ms, [kept] { kept->answer(200, "later"); });
    });
    PlainClient client(server.port());
    for (int i = 0; i < 3; ++i)
        CHECK(client.ask(reactor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "later").ends_with("later"));
}
