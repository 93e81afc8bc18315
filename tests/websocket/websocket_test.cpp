// The protocol of WebSocket over the memory transport: handshakes, both sides, and every end.
#include "../http/answers.hpp"

#include <protocols/http/server_connection.hpp>
#include <protocols/websocket/websocket.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::websocket;
using namespace std::chrono_literals;
using testing::MemoryTransport;

namespace {

/// Notes its calls, and answers text by itself.
class Noting final : public WebSocket {
public:
    explicit Noting(std::vector<std::string>& calls, const Options& options = {}) : WebSocket(options), calls_(calls) {}
    using WebSocket::transport;

private:
    void opened() override { calls_.push_back("opened"); }
    void message(Kind kind, Bytes content) override {
        calls_.push_back((kind == Kind::text ? "text " : "binary ") + std::string(text_of(content)));
        if (kind == Kind::text && !content.empty() && text_of(content)[0] != '<')
            send("<" + std::string(text_of(content)) + ">");
    }
    void pong(Bytes payload) override { calls_.push_back("pong " + std::string(text_of(payload))); }
    void closed(std::uint16_t code, std::string_view reason) override {
        calls_.push_back("closed " + std::to_string(code) + " " + std::string(reason));
    }
    void refused(int status) override { calls_.push_back("refused " + std::to_string(status)); }
    std::vector<std::string>& calls_;
};

const std::string handshake =
    "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
    "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const std::string accepted =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nSec-WebSocket-Accept: "
    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nUpgrade: websocket\r\n\r\n";

std::string masked(Frame::Opcode opcode, std::string_view payload, bool final = true) {
    return std::string(text_of(Bytes(Frame::masked(opcode, bytes_of(payload), 0x01020304, final))));
}
std::string plain(Frame::Opcode opcode, std::string_view payload, bool final = true) {
    return std::string(text_of(Bytes(Frame::unmasked(opcode, bytes_of(payload), final))));
}
std::string close_payload(unsigned code, std::string_view reason = {}) {
    return std::string{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)} + std::string(reason);
}

/// A server with one WebSocket at /chat, and a client in memory.
struct Server {
    explicit Server(const Options& options = {}, AcceptOptions accept_options = {}) {
        service->get("/chat", accept(
                                  [this, options](const http::Request&) {
                                      auto made = std::make_unique<Noting>(calls, options);
                                      socket = made.get();
                                      return made;
                                  },
                                  std::move(accept_options)));
        client = std::make_unique<MemoryTransport>(std::make_unique<http::ServerConnection>(service));
    }
    std::string ask(std::string_view input) {
        client->feed(input);
        return without_date(client->take());
    }
    void open() { REQUIRE(ask(handshake + "\r\n") == accepted); }
    std::string last() const { return calls.empty() ? "" : calls.back(); }

    std::vector<std::string> calls;
    Noting* socket = nullptr;
    std::shared_ptr<http::Service> service = std::make_shared<http::Service>();
    std::unique_ptr<MemoryTransport> client;
};

using Op = Frame::Opcode;

}  // namespace

TEST_CASE("the value that accepts a key is the one of RFC 6455, 1.3") {
    CHECK(accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST_CASE("after the handshake messages go both ways, those behind it in the same segment too") {
    Server server;
    CHECK(server.ask(handshake + "\r\n" + masked(Op::text, "one")) == accepted + plain(Op::text, "<one>"));
    CHECK(server.ask(masked(Op::binary, "two")).empty());
    CHECK(server.ask(masked(Op::ping, "alive?")) == plain(Op::pong, "alive?"));
    CHECK(server.calls == std::vector<std::string>{"opened", "text one", "binary two"});
    CHECK(server.socket->send_binary(bytes_of("three")));
    CHECK(server.socket->ping(bytes_of("?")));
    server.client->settle();
    CHECK(server.client->take() == plain(Op::binary, "three") + plain(Op::ping, "?"));
    server.ask(masked(Op::pong, "!"));
    CHECK(server.last() == "pong !");
}

TEST_CASE("a request that is no handshake of version 13 is refused, and says what is missing") {
    Server server({}, {.origins = {"https://good"}});
    const auto with = [](std::string_view from, std::string_view to) {
        std::string request = handshake;
        const std::size_t at = request.find(from);
        REQUIRE(at != std::string::npos);
        return request.replace(at, from.size(), to) + "\r\n";
    };
    struct Refusal {
        std::string request, status;
    };
    for (const Refusal& each : {
             Refusal{with("Upgrade: websocket\r\n", ""), "426"},
             {with("Host: a\r\n", "Host: a\r\nContent-Length: 1\r\n") + "x", "400"},
             {with("Host: a\r\n", "Host: a\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", "400"},
             {with("Connection: Upgrade\r\n", ""), "426"},
             {with("websocket", "other"), "426"},
             {with("Version: 13", "Version: 8"), "426"},
             {with("Sec-WebSocket-Version: 13\r\n", ""), "426"},
             {with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"), "400"},
             {with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!Q=="), "400"},
             {with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), "400"},
             {with("Host: a\r\n", "Host: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "400"},
             {with("Host: a\r\n", "Host: a\r\nOrigin: https://evil\r\n"), "403"},
             {with("GET", "POST"), "405"},
         }) {
        CAPTURE(each.request);
        CHECK(server.ask(each.request).substr(9, 3) == each.status);
    }
    CHECK(server.calls.empty());
    CHECK(server.ask(with("Host: a\r\n", "Host: a\r\nOrigin: https://good\r\n")) == accepted);
}

TEST_CASE("the first subprotocol that both sides know is chosen") {
    Server server({}, {.protocols = {"second", "third"}});
    const std::string answer = server.ask(handshake + "Sec-WebSocket-Protocol: first, third, second\r\n\r\n");
    CHECK(answer.find("\r\nSec-WebSocket-Protocol: second\r\n") != std::string::npos);
    Server none({}, {.protocols = {"other"}});
    CHECK(none.ask(handshake + "Sec-WebSocket-Protocol: first\r\n\r\n") == accepted);
}

TEST_CASE("a close frame is answered with its code, and the connection ends in good order") {
    Server server;
    server.open();
    CHECK(server.ask(masked(Op::close, close_payload(3000, "why")) + masked(Op::text, "late")) ==
          plain(Op::close, close_payload(3000)));
    CHECK(server.calls == std::vector<std::string>{"opened", "closed 3000 why"});
    CHECK(server.client->ended());
    server.client->end();
    CHECK(server.client->disconnected() == std::error_code());
}

TEST_CASE("a close frame without a code is answered without one") {
    Server server;
    server.open();
    CHECK(server.ask(masked(Op::close, "")) == plain(Op::close, ""));
    CHECK(server.last() == "closed 1005 ");
}

TEST_CASE("close() waits for the other side's close frame, and messages come until then") {
    Server server;
    server.open();
    server.socket->close(1001, "bye");
    CHECK_FALSE(server.socket->open());
    CHECK_FALSE(server.socket->send("late"));
    server.socket->close(1000);
    server.client->settle();
    CHECK(server.client->take() == plain(Op::close, close_payload(1001, "bye")));
    CHECK_FALSE(server.client->ended());
    CHECK(server.ask(masked(Op::binary, "still") + masked(Op::ping, "x") + masked(Op::close, close_payload(1001)))
              .empty());
    CHECK(server.calls == std::vector<std::string>{"opened", "binary still", "closed 1001 "});
    CHECK(server.client->ended());
}

TEST_CASE("a peer that does not answer a close frame is waited for no longer than close_timeout") {
    Server server({.close_timeout = 3s});
    server.open();
    server.socket->close();
    server.client->advance(2s);
    CHECK_FALSE(server.client->ended());
    server.client->advance(1s);
    CHECK(server.client->ended());
    server.client->end();
    CHECK(server.last() == "closed 1006 ");
}

TEST_CASE("a connection that ends without a close frame is closed with 1006, once") {
    for (const bool reset : {false, true}) {
        Server server;
        server.open();
        reset ? server.client->reset() : server.client->end();
        CHECK(server.calls == std::vector<std::string>{"opened", "closed 1006 "});
    }
}

TEST_CASE("a peer that breaks the protocol gets the code and the reason, and nothing more is received") {
    Server server;
    server.open();
    CHECK(server.ask(plain(Op::text, "no mask") + masked(Op::text, "late")) ==
          plain(Op::close, close_payload(1002, "no mask from a client")));
    CHECK(server.calls == std::vector<std::string>{"opened", "closed 1002 no mask from a client"});
    CHECK(server.client->ended());
    Server small({.longest_message = 3});
    small.open();
    CHECK(small.ask(masked(Op::text, "four")) == plain(Op::close, close_payload(1009, "a message is too long")));
}

TEST_CASE("a message in fragments is given whole, or in parts to a socket that wants them") {
    Server server;
    server.open();
    CHECK(server.ask(masked(Op::text, "ab", false) + masked(Op::ping, "") + masked(Op::continuation, "", false)) ==
          plain(Op::pong, ""));
    CHECK(server.ask(masked(Op::continuation, "cd")) == plain(Op::text, "<abcd>"));
    CHECK(server.ask(masked(Op::text, "ef")) == plain(Op::text, "<ef>"));
}

TEST_CASE("a message may be sent in parts, and no other between them") {
    Server server;
    server.open();
    CHECK(server.socket->send_part(Kind::text, bytes_of("a"), false));
    CHECK_THROWS_AS(server.socket->send("b"), std::logic_error);
    CHECK_THROWS_AS(server.socket->send(Encoded::text("b")), std::logic_error);
    CHECK(server.socket->ping());
    CHECK(server.socket->send_part(Kind::text, bytes_of("b"), true));
    CHECK(server.socket->send("c"));
    server.client->settle();
    CHECK(server.client->take() ==
          plain(Op::text, "a", false) + plain(Op::ping, "") + plain(Op::continuation, "b") + plain(Op::text, "c"));
}

TEST_CASE("arguments that could not be sent throw") {
    Server server;
    server.open();
    CHECK_THROWS_AS(server.socket->close(1005), std::invalid_argument);
    CHECK_THROWS_AS(server.socket->close(1000, std::string(124, 'x')), std::invalid_argument);
    CHECK_THROWS_AS(server.socket->ping(bytes_of(std::string(126, 'x'))), std::invalid_argument);
    CHECK_THROWS_AS((void)accept(nullptr), std::invalid_argument);
    CHECK_THROWS_AS((void)client("a", "/", nullptr), std::invalid_argument);
    std::vector<std::string> calls;
    for (const auto& [host, target] :
         {std::pair{"a b", "/"}, {"a", "/ x"}, {"a", "x"}, {"", "/"}, {"a\r\nB: c", "/"}, {"a", ""}})
        CHECK_THROWS_AS((void)client(host, target, std::make_unique<Noting>(calls)), std::invalid_argument);
}

TEST_CASE("a silent peer is pinged, and aborted if it stays silent") {
    Server server({.ping_after = 10s});
    server.open();
    server.ask(masked(Op::binary, "x"));
    server.client->advance(10s);
    CHECK(server.client->take().empty());
    server.client->advance(10s);
    CHECK(server.client->take() == plain(Op::ping, ""));
    server.ask(masked(Op::pong, ""));
    server.client->advance(10s);
    CHECK(server.client->take().empty());
    server.client->advance(10s);
    CHECK(server.client->take() == plain(Op::ping, ""));
    server.client->advance(10s);
    CHECK(server.client->was_reset());
    CHECK(server.last() == "closed 1006 ");
}

TEST_CASE("a slow connection queues a broadcast, leaves it out, keeps the latest, or closes") {
    const std::string large(200'000, 'l');
    for (const Slow slow : {Slow::queue, Slow::drop, Slow::latest, Slow::close}) {
        CAPTURE(static_cast<int>(slow));
        Server server({.slow = slow});
        server.open();
        server.client->fill();
        CHECK(server.socket->send(Encoded::text(large)));
        const bool sent = server.socket->send(Encoded::text("one"));
        server.socket->send(Encoded::binary(bytes_of("two")));
        CHECK(sent == (slow == Slow::queue || slow == Slow::latest));
        CHECK(server.socket->open() == (slow != Slow::close));
        server.client->settle();
        server.client->drain();
        std::string expected = plain(Op::text, large);
        if (slow == Slow::queue) expected += plain(Op::text, "one") + plain(Op::binary, "two");
        if (slow == Slow::latest) expected += plain(Op::binary, "two");
        if (slow == Slow::close) expected += plain(Op::close, close_payload(1008, "too slow"));
        server.client->settle();
        CHECK((server.client->take() == expected));
    }
}

TEST_CASE("a drained WebSocket closes with 1001") {
    Server server;
    server.open();
    server.client->ask_to_drain();
    CHECK(server.client->take() == plain(Op::close, close_payload(1001)));
    server.ask(masked(Op::close, close_payload(1001)));
    CHECK(server.client->ended());
}

TEST_CASE("a client and a server of this library understand each other") {
    Server server;
    std::vector<std::string> calls;
    auto made = std::make_unique<Noting>(calls);
    Noting& socket = *made;
    MemoryTransport client_side(client("a:8080", "/chat", std::move(made)));
    testing::converse(client_side, *server.client);
    REQUIRE(socket.open());
    CHECK(socket.send("hello"));
    CHECK(socket.send(Encoded::binary(bytes_of("bytes"))));
    testing::converse(client_side, *server.client);
    CHECK(calls == std::vector<std::string>{"opened", "text <hello>"});
    CHECK(server.calls == std::vector<std::string>{"opened", "text hello", "binary bytes"});
}

TEST_CASE("a client's masks differ from frame to frame") {
    std::vector<std::string> calls;
    auto made = std::make_unique<Noting>(calls);
    Noting& socket = *made;
    MemoryTransport server(client("a", "/", std::move(made)));
    const std::string request = server.take();
    const std::size_t key = request.find("Sec-WebSocket-Key: ") + 19;
    server.feed("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: " +
                accept_value(request.substr(key, 24)) + "\r\n\r\n" + plain(Op::text, "first"));
    CHECK(calls == std::vector<std::string>{"opened", "text first"});
    const std::string answer = server.take();
    socket.send("<first>");
    server.settle();
    CHECK(server.take() != answer);
}

TEST_CASE("a client ends where the server refuses, or grants what was not asked for") {
    const std::string good = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    struct Answer {
        std::string text, call;
    };
    for (const Answer& each :
         {Answer{"HTTP/1.1 404 Not Found\r\n\r\n", "refused 404"},
          {"HTTP/1.1 101 x\r\n" + good + "\r\n", "refused 0"},
          {"HTTP/1.1 101 x\r\n" + good + "Sec-WebSocket-Accept: wrong\r\n\r\n", "refused 0"},
          {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\n\r\n", "refused 0"},
          {"HTTP/1.1 101 x\r\n" + good + "Sec-WebSocket-Accept: KEY\r\nSec-WebSocket-Extensions: x\r\n\r\n",
           "refused 0"},
          {"HTTP/1.1 101 x\r\n" + good + "Sec-WebSocket-Accept: KEY\r\nSec-WebSocket-Protocol: x\r\n\r\n", "refused 0"},
          {"nonsense\r\n", "refused 0"}}) {
        CAPTURE(each.text);
        std::vector<std::string> calls;
        MemoryTransport server(client("a", "/", std::make_unique<Noting>(calls)));
        const std::string request = server.take();
        std::string answer = each.text;
        if (const std::size_t at = answer.find("KEY"); at != std::string::npos)
            answer.replace(at, 3, accept_value(request.substr(request.find("Sec-WebSocket-Key: ") + 19, 24)));
        server.feed(answer);
        CHECK(calls == std::vector<std::string>{each.call});
        CHECK(server.was_reset());
    }
    std::vector<std::string> calls;
    MemoryTransport server(client("a", "/", std::make_unique<Noting>(calls)));
    server.end();
    CHECK(calls == std::vector<std::string>{"refused 0"});
}

TEST_CASE("a client that can say nothing any more when it is granted the handshake is refused") {
    std::vector<std::string> calls;
    MemoryTransport server(client("a", "/", std::make_unique<Noting>(calls)));
    const std::string request = server.take();
    server.shutdown_write();
    server.feed("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
                accept_value(request.substr(request.find("Sec-WebSocket-Key: ") + 19, 24)) + "\r\n\r\n");
    server.end();
    CHECK(calls == std::vector<std::string>{"refused 0"});
}

TEST_CASE("a conversation of WebSocket is the same in whatever pieces it arrives") {
    const std::string input = handshake + "\r\n" + masked(Op::text, "ab", false) + masked(Op::ping, "p") +
                              masked(Op::continuation, "cd") + masked(Op::text, std::string(130, 'x')) +
                              masked(Op::close, close_payload(1000));
    const auto run = [&](std::span<const Bytes> pieces) {
        Server server;
        for (const Bytes piece : pieces) server.client->feed(piece);
        std::string all = without_date(server.client->take());
        for (const std::string& call : server.calls) all += "|" + call;
        return all;
    };
    CHECK(testing::check_every_cut(input, run, 1000, 1) > 100);
}
