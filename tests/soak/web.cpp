// A server of HTTP and WebSocket to be abused: answers that never end, content that is counted, and a room, with limits
// that a test can wait for.
#include "../interop/serve.hpp"

#include <protocols/http/server_connection.hpp>
#include <protocols/websocket/websocket.hpp>
#include <reactor/stream/limits.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <utility>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

class Member;
using Room = std::set<Member*>;

class Member final : public websocket::WebSocket {
public:
    explicit Member(Room& room) : WebSocket({.slow = websocket::Slow::drop}), room_(room) {}

private:
    void opened() override { room_.insert(this); }
    void closing() override { room_.erase(this); }
    void message(websocket::Kind, Bytes content) override {
        const auto message = websocket::Encoded::text(text_of(content));
        for (Member* member : room_) member->send(message);
    }

    Room& room_;
};

/// Bytes for as long as the client takes them.
class Endless {
public:
    explicit Endless(http::Exchange exchange) : exchange_(std::move(exchange)) { exchange_.begin(200, "text/plain"); }

    void produce() {
        const std::string part(16 * 1024, 'x');
        while (exchange_.open() && exchange_.queued() <= Limits().high_mark) exchange_.write(part);
    }

    static void serve(const http::Request&, http::Exchange exchange) {
        auto stream = std::make_shared<Endless>(std::move(exchange));
        stream->exchange_.on_writable([stream] { stream->produce(); });
        stream->produce();
    }

private:
    http::Exchange exchange_;
};

void count(const http::Request&, http::Exchange exchange) {
    struct Counted {
        http::Exchange exchange;
        std::size_t bytes = 0;
    };
    auto counted = std::make_shared<Counted>();
    counted->exchange = std::move(exchange);
    counted->exchange.receive([counted](std::error_code error, Bytes part, bool last) {
        counted->bytes += part.size();
        if (last && !error) counted->exchange.answer(200, std::to_string(counted->bytes));
    });
}

}  // namespace

int main() {
    Room room;
    http::ServiceOptions options;
    options.head_timeout = 1s;
    auto service = std::make_shared<http::Service>(options);
    service->get("/", [](const http::Request&, http::Exchange exchange) { exchange.answer(200, "hello\n"); });
    service->get("/endless", Endless::serve);
    service->post("/count", count);
    service->get("/room", websocket::accept([&](const http::Request&) { return std::make_unique<Member>(room); }));
    return interop::serve(factory<http::ServerConnection>(service));
}
