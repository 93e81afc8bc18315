// The server whose costs bench/web_costs counts: an answer of 13 bytes, a WebSocket that sends messages back, and
// a room whose members get all messages; by HTTP, and by HTTPS with the certificate and key of the file that
// BENCH_CERTIFICATE names. It prints both ports.
#include <protocols/http/server_connection.hpp>
#include <protocols/websocket/websocket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#ifdef WITH_OPENSSL
#include <reactor/tls/tls.hpp>
#endif

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>

using namespace reactor;

namespace {

class Echo final : public websocket::WebSocket {
    void message(websocket::Kind kind, Bytes content) override {
        kind == websocket::Kind::text ? send(text_of(content)) : send_binary(content);
    }
};

class Member final : public websocket::WebSocket {
public:
    explicit Member(std::set<Member*>& room) : room_(room) {}

private:
    void opened() override { room_.insert(this); }
    void closing() override { room_.erase(this); }
    void message(websocket::Kind, Bytes content) override {
        const auto message = websocket::Encoded::text(text_of(content));
        for (Member* const member : room_) member->send(message);
    }

    std::set<Member*>& room_;
};

}  // namespace

int main() {
    Reactor reactor;
    std::set<Member*> room;
    auto service = std::make_shared<http::Service>();
    service->get("/", [](const http::Request&, http::Exchange exchange) { exchange.answer(200, "Hello, World!"); });
    service->get("/socket", websocket::accept([](const http::Request&) { return std::make_unique<Echo>(); }));
    service->get("/room", websocket::accept([&](const http::Request&) { return std::make_unique<Member>(room); }));
    const Acceptor acceptor(reactor, "127.0.0.1", 0, factory<http::ServerConnection>(service));
    std::uint16_t secure_port = 0;
#ifdef WITH_OPENSSL
    std::optional<Acceptor> secure;
    if (const char* const file = std::getenv("BENCH_CERTIFICATE")) {
        TlsServerOptions options;
        options.certificates = {{Pem::file(file), Pem::file(file)}};
        secure.emplace(reactor, "127.0.0.1", 0, tls(TlsContext(options), factory<http::ServerConnection>(service)));
        secure_port = secure->port();
    }
#endif
    const Signals signals(reactor, {SIGTERM}, [&](int) { reactor.stop(); });
    std::printf("%u\n%u\n", unsigned(acceptor.port()), unsigned(secure_port));
    std::fflush(stdout);
    reactor.run();
}
