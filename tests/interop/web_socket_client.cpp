// A client of WebSocket for other people's servers: sends messages of both kinds and of every form of length, and
// expects each of them back, then closes: web_socket_client PORT [TARGET].
#include <protocols/websocket/websocket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connector.hpp>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

using namespace reactor;

namespace {

const std::vector<std::size_t> sizes = {0, 1, 125, 126, 65535, 65536, 1000000};

class Asking final : public websocket::WebSocket {
public:
    explicit Asking(std::size_t& came) : WebSocket({.compress = true}), came_(came) {}

private:
    void opened() override { send_next(); }

    void send_next() {
        if (came_ == 2 * sizes.size()) return close();
        message_.assign(sizes[came_ / 2], came_ % 2 == 0 ? 'x' : '\xff');
        came_ % 2 == 0 ? send(message_) : send_binary(bytes_of(message_));
    }

    void message(websocket::Kind kind, Bytes content) override {
        const auto expected = came_ % 2 == 0 ? websocket::Kind::text : websocket::Kind::binary;
        if (kind != expected || text_of(content) != message_) return close(4000, "not what was sent");
        ++came_;
        ping();
        send_next();
    }

    void refused(int status) override { std::printf("refused with %d\n", status); }
    void closed(std::uint16_t code, std::string_view) override {
        std::printf("%zu messages, closed with %u\n", came_, code);
    }

    std::size_t& came_;
    std::string message_;
};

}  // namespace

int main(int count, char** words) {
    if (count < 2) return EXIT_FAILURE;
    const std::string target = count > 2 ? words[2] : "/";
    Reactor reactor;
    std::size_t came = 0;
    const Connector connector(reactor, "127.0.0.1", static_cast<std::uint16_t>(std::atoi(words[1])),
                              [&] { return websocket::client("localhost", target, std::make_unique<Asking>(came)); });
    reactor.run_until_idle();
    return came == 2 * sizes.size() ? EXIT_SUCCESS : EXIT_FAILURE;
}
