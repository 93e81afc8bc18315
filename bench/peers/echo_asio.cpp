// The echo on Asio, standalone, as its examples write it: a session that shares itself, read some, write all.
#include "listen.hpp"

#include <asio.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>

namespace {

class Session : public std::enable_shared_from_this<Session> {
public:
    explicit Session(asio::ip::tcp::socket socket) : socket_(std::move(socket)) {}

    void receive() {
        socket_.async_read_some(asio::buffer(bytes_),
                                [self = shared_from_this()](std::error_code error, std::size_t count) {
                                    if (!error) self->send(count);
                                });
    }

private:
    void send(std::size_t count) {
        asio::async_write(socket_, asio::buffer(bytes_, count),
                          [self = shared_from_this()](std::error_code error, std::size_t) {
                              if (!error) self->receive();
                          });
    }

    asio::ip::tcp::socket socket_;
    std::array<char, 64 * 1024> bytes_;
};

void accept(asio::ip::tcp::acceptor& acceptor) {
    acceptor.async_accept([&acceptor](std::error_code error, asio::ip::tcp::socket socket) {
        if (!error) {
            std::error_code ignored;
            socket.set_option(asio::ip::tcp::no_delay(true), ignored);
            std::make_shared<Session>(std::move(socket))->receive();
        }
        accept(acceptor);
    });
}

}  // namespace

int main(int count, char** arguments) {
    const int descriptor = bench::listen_as_told(count, arguments, "Asio");
    asio::io_context loop(1);
    asio::ip::tcp::acceptor acceptor(loop, asio::ip::tcp::v4(), descriptor);
    accept(acceptor);
    loop.run();
}
