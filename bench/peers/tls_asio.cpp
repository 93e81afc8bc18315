// The TLS echo on Asio, standalone, as its examples write it.
#include "listen.hpp"
#include "tls_setup.hpp"

#include <asio.hpp>
#include <asio/ssl.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>

namespace {

class Session : public std::enable_shared_from_this<Session> {
public:
    Session(asio::ip::tcp::socket socket, asio::ssl::context& context) : stream_(std::move(socket), context) {}

    void begin() {
        stream_.async_handshake(asio::ssl::stream_base::server, [self = shared_from_this()](std::error_code error) {
            if (!error) self->receive();
        });
    }

private:
    void receive() {
        stream_.async_read_some(asio::buffer(bytes_),
                                [self = shared_from_this()](std::error_code error, std::size_t count) {
                                    if (!error) self->send(count);
                                });
    }
    void send(std::size_t count) {
        asio::async_write(stream_, asio::buffer(bytes_, count),
                          [self = shared_from_this()](std::error_code error, std::size_t) {
                              if (!error) self->receive();
                          });
    }

    asio::ssl::stream<asio::ip::tcp::socket> stream_;
    std::array<char, 64 * 1024> bytes_;
};

void accept(asio::ip::tcp::acceptor& acceptor, asio::ssl::context& context) {
    acceptor.async_accept([&](std::error_code error, asio::ip::tcp::socket socket) {
        if (!error) {
            std::error_code ignored;
            socket.set_option(asio::ip::tcp::no_delay(true), ignored);
            std::make_shared<Session>(std::move(socket), context)->begin();
        }
        accept(acceptor, context);
    });
}

}  // namespace

int main(int count, char** arguments) {
    const int descriptor = bench::listen_as_told(count, arguments, "Asio TLS");
    asio::ssl::context context(asio::ssl::context::tls_server);
    bench::set_up(context.native_handle());
    asio::io_context loop(1);
    asio::ip::tcp::acceptor acceptor(loop, asio::ip::tcp::v4(), descriptor);
    accept(acceptor, context);
    loop.run();
}
