// The echo on Asio, standalone, as its examples of C++20 coroutines write it.
#include "listen.hpp"

#include <asio.hpp>

#include <cstddef>
#include <system_error>
#include <utility>

namespace {

asio::awaitable<void> serve(asio::ip::tcp::socket socket) {
    char bytes[64 * 1024];
    std::error_code error;
    for (;;) {
        const std::size_t count =
            co_await socket.async_read_some(asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return;
        co_await asio::async_write(socket, asio::buffer(bytes, count),
                                   asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return;
    }
}

asio::awaitable<void> accept(asio::ip::tcp::acceptor acceptor) {
    for (;;) {
        asio::ip::tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        std::error_code ignored;
        socket.set_option(asio::ip::tcp::no_delay(true), ignored);
        asio::co_spawn(acceptor.get_executor(), serve(std::move(socket)), asio::detached);
    }
}

}  // namespace

int main(int count, char** arguments) {
    const int descriptor = bench::listen_as_told(count, arguments, "Asio, coroutines");
    asio::io_context loop(1);
    asio::co_spawn(loop, accept(asio::ip::tcp::acceptor(loop, asio::ip::tcp::v4(), descriptor)), asio::detached);
    loop.run();
}
