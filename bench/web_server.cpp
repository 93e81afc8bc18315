// The server whose costs bench/web_costs counts: an answer of 13 bytes, and a WebSocket that sends messages back.
#include <protocols/http/server_connection.hpp>
#include <protocols/websocket/websocket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>

#include <csignal>
#include <cstdio>
#include <memory>

using namespace reactor;

namespace {

class Echo final : public websocket::WebSocket {
    void message(websocket::Kind kind, Bytes content) override {
        kind == websocket::Kind::text ? send(text_of(content)) : send_binary(content);
    }
};

}  // namespace

int main() {
    Reactor reactor;
    auto service = std::make_shared<http::Service>();
    service->get("/", [](const http::Request&, http::Exchange exchange) { exchange.answer(200, "Hello, World!"); });
    service->get("/socket", websocket::accept([](const http::Request&) { return std::make_unique<Echo>(); }));
    const Acceptor acceptor(reactor, "127.0.0.1", 0, factory<http::ServerConnection>(service));
    const Signals signals(reactor, {SIGTERM}, [&](int) { reactor.stop(); });
    std::printf("%u\n", unsigned(acceptor.port()));
    std::fflush(stdout);
    reactor.run();
}
