// A server of HTTP and WebSocket for other people's clients: it sends back content, answers in parts, and echoes
// messages.
#include "serve.hpp"

#include <protocols/http/server_connection.hpp>
#include <protocols/websocket/websocket.hpp>

#include <memory>
#include <string>

using namespace reactor;

namespace {

class Echo final : public websocket::WebSocket {
public:
    Echo() : WebSocket({.longest_message = 16 * 1024 * 1024, .compress = true}) {}

private:
    void message(websocket::Kind kind, Bytes content) override {
        kind == websocket::Kind::text ? send(text_of(content)) : send_binary(content);
    }
};

void send_back(const http::Request&, http::Exchange exchange) {
    exchange.receive_all(16 * 1024 * 1024, [](http::Exchange all, Bytes content) {
        all.answer(200, text_of(content), "application/octet-stream");
    });
}

void in_parts(const http::Request&, http::Exchange exchange) {
    exchange.begin(200, "text/plain");
    for (int number = 0; number < 1000; ++number) exchange.write(std::to_string(number) + "\n");
    exchange.end();
}

}  // namespace

int main() {
    auto service = std::make_shared<http::Service>();
    service->get("/", [](const http::Request&, http::Exchange exchange) { exchange.answer(200, "hello\n"); });
    service->get("/parts", in_parts);
    service->post("/echo", send_back);
    service->route("PUT", "/echo", send_back);
    service->get("/socket", websocket::accept([](const http::Request&) { return std::make_unique<Echo>(); }));
    return interop::serve(factory<http::ServerConnection>(service));
}
