// The client of HTTP and the server of HTTP over real sockets.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"

#include <protocols/http/client_impl.hpp>
#include <protocols/http/server.hpp>

#include <optional>
#include <string>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

/// A server and a client of it on one loop.
struct Pair {
    explicit Pair(http::ClientOptions options = {})
        : server(reactor, "127.0.0.1", 0), client(reactor, std::move(options)) {}
    std::string url(std::string_view path) const {
        return "http://127.0.0.1:" + std::to_string(server.port()) + std::string(path);
    }
    /// The outcome of one request.
    http::Response ask(http::ClientRequest request) {
        std::optional<http::Response> result;
        request.url = url(request.url);
        const http::Call call = client.send(std::move(request), [&](std::error_code error, http::Response response) {
            CHECK_FALSE(error);
            result = std::move(response);
        });
        run_until(reactor, [&] { return result.has_value(); });
        return std::move(*result);
    }
    Reactor reactor;
    http::Server server;
    http::Client client;
};

std::string bytes(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t at = 0; at < size; ++at) text[at] = static_cast<char>('a' + at * 7 % 26);
    return text;
}

}  // namespace

TEST_CASE("a client and a server of HTTP exchange requests, small and large, over one connection") {
    Pair pair;
    const std::string large = bytes(3'000'000);
    pair.server.get("/large", [&](const http::Request&, http::Exchange exchange) { exchange.answer(200, large); });
    pair.server.get("/parts", [](const http::Request&, http::Exchange exchange) {
        exchange.begin(200, "text/plain");
        exchange.write("a");
        exchange.write("b");
        exchange.end();
    });
    pair.server.post("/echo", [](const http::Request&, http::Exchange exchange) {
        exchange.receive_all(8 * 1024 * 1024,
                             [](http::Exchange all, Bytes content) { all.answer(200, text_of(content)); });
    });
    pair.server.get("/moved", [](const http::Request&, http::Exchange exchange) {
        exchange.set("Location", "parts");
        exchange.answer(302, "there");
    });
    CHECK(pair.ask({.url = "/large"}).content() == large);
    CHECK(pair.ask({.url = "/parts"}).content() == "ab");
    CHECK(pair.ask({.method = "POST", .url = "/echo", .content = large}).content() == large);
    CHECK(pair.ask({.method = "POST", .url = "/echo", .content = "x", .expects_continue = true}).content() == "x");
    CHECK(pair.ask({.url = "/moved"}).content() == "ab");
    CHECK(pair.ask({.url = "/none"}).status() == 404);
    CHECK(pair.ask({.method = "HEAD", .url = "/large"}).content().empty());
    CHECK(pair.server.service()->connections() == 1);
}

TEST_CASE("a client of HTTP sends and receives parts at the pace of the slower side") {
    Pair pair;
    // The server sends back what it gets, as it comes.
    pair.server.post("/echo", [](const http::Request&, http::Exchange exchange) {
        auto kept = std::make_shared<http::Exchange>(std::move(exchange));
        kept->begin(200, "text/plain");
        kept->on_writable([weak = std::weak_ptr(kept)] {
            if (const auto here = weak.lock()) here->resume();
        });
        kept->receive([kept](std::error_code error, Bytes part, bool last) {
            if (error) return;
            kept->write(part);
            if (kept->queued() > 128 * 1024 && !last) kept->pause();
            if (last) kept->end();
        });
    });
    const std::string content = bytes(5'000'000);
    std::size_t sent = 0;
    std::string got;
    bool done = false;
    http::Call call;
    call = pair.client.send({.method = "POST", .url = pair.url("/echo"), .in_parts = true},
                            http::Client::Parts{.part = [&](std::error_code error, Bytes part, bool last) {
                                CHECK_FALSE(error);
                                got += text_of(part);
                                done = last;
                            }});
    call.on_writable([&] {
        while (sent < content.size() && call.queued() <= 128 * 1024) {
            const std::string_view part = std::string_view(content).substr(sent, 50'000);
            call.write(part);
            sent += part.size();
        }
        if (sent == content.size()) call.end();
    });
    run_until(pair.reactor, [&] { return done; });
    CHECK(got == content);
}

TEST_CASE("a client of HTTP asks a server on a Unix socket") {
    Reactor reactor;
    const std::string name = new_unix_name().to_string();
    http::Server server(reactor, name, 0);
    server.get("/",
               [](const http::Request& request, http::Exchange exchange) { exchange.answer(200, request.host()); });
    http::ClientOptions options;
    options.address = name;
    http::Client client(reactor, std::move(options));
    std::string content;
    const http::Call call = client.get("http://service/", [&](std::error_code error, const http::Response& response) {
        CHECK_FALSE(error);
        content = response.content();
    });
    run_until(reactor, [&] { return !content.empty(); });
    CHECK(content == "service");
}

TEST_CASE("a client of HTTP goes on after its server was replaced, and says when there is none") {
    Reactor reactor;
    http::Client client(reactor);
    std::optional<http::Server> server;
    std::uint16_t port = 0;
    const auto serve = [&] {
        server.emplace(reactor, "127.0.0.1", port);
        server->get("/", [](const http::Request&, http::Exchange exchange) { exchange.answer(200, "x"); });
        port = server->port();
    };
    const auto ask = [&] {
        std::string text;
        const std::string url = "http://127.0.0.1:" + std::to_string(port) + "/";
        const http::Call call = client.get(url, [&](std::error_code error, const http::Response& response) {
            text = error ? error.message() : std::to_string(response.status());
        });
        run_until(reactor, [&] { return !text.empty(); });
        return text;
    };
    for (int i = 0; i < 2; ++i) {
        serve();
        CHECK(ask() == "200");
        server.reset();
        CHECK(ask() == "503");  // over the connection that is kept, and which ends then
    }
    CHECK(ask() == "Connection refused");
}

TEST_CASE("calls of a client of HTTP that are cancelled leave no connection and no descriptor") {
    Reactor reactor;
    const std::size_t before = open_descriptors();
    {
        http::Server server(reactor, "127.0.0.1", 0);
        std::vector<http::Exchange> kept;
        server.get("/", [&](const http::Request&, http::Exchange exchange) { kept.push_back(std::move(exchange)); });
        http::Client client(reactor);
        std::vector<http::Call> calls;
        for (int i = 0; i < 5; ++i) {
            calls.push_back(client.get("http://127.0.0.1:" + std::to_string(server.port()) + "/",
                                       [](std::error_code, const http::Response&) { FAIL("it was cancelled"); }));
        }
        run_until(reactor, [&] { return kept.size() == 5; });
        calls.clear();
        CHECK(client.connections() == 0);
        run_until(reactor, [&] { return server.service()->connections() == 0; });
    }
    settle(reactor);
    CHECK(open_descriptors() == before);
}

TEST_CASE("a proxy that grants a tunnel and resets before it was asked ends the protocol inside, which never began") {
    Reactor reactor;
    auto [proxy, socket] = tcp_pair();
    write_some(proxy, "HTTP/1.1 200 OK\r\n\r\n");
    proxy.set_linger(0s);
    proxy.close();
    Journal inside;
    Connection::open(reactor, std::move(socket), http::through_tunnel("b:443", 1s, std::make_unique<Recorder>(inside)));
    run_until(reactor, [&] { return inside.over; });
    CHECK(inside.reason);
    CHECK(inside.calls == std::vector<std::string>{"disconnected"});
}
