// A server of HTTP whose connections two loops accept, each on a thread of its own and from its own socket: the program
// that bench/web_rates asks for an answer of 13 bytes on each new connection.
//
//     short_server BACKEND PORT
#include <protocols/http/server_connection.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/stream/acceptor.hpp>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

using namespace reactor;

int main(int count, char** arguments) {
    if (count != 3) {
        std::fputs("usage: short_server BACKEND PORT\n", stderr);
        return 2;
    }
    const auto port = static_cast<std::uint16_t>(std::stoul(arguments[2]));
    ReactorGroup group(2, arguments[1]);
    group.start([port](Reactor& reactor, std::size_t) {
        auto service = std::make_shared<http::Service>();
        service->get("/", [](const http::Request&, http::Exchange exchange) { exchange.answer(200, "Hello, World!"); });
        const Acceptor acceptor(reactor, "127.0.0.1", port, factory<http::ServerConnection>(service),
                                {.reuse_port = true});
        reactor.run();
    });
    group.join();
}
