// The echo on libuv, as its guide writes it: a stream, a shared read buffer, a try before a queued write.
#include "listen.hpp"

#include <uv.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

namespace {

char buffer[64 * 1024];

struct Write {
    uv_write_t request{};
    std::unique_ptr<char[]> bytes;
};

void close(uv_stream_t* stream) {
    auto* handle = reinterpret_cast<uv_handle_t*>(stream);
    if (!uv_is_closing(handle))
        uv_close(handle, [](uv_handle_t* closed) { delete reinterpret_cast<uv_tcp_t*>(closed); });
}

void lend(uv_handle_t*, std::size_t, uv_buf_t* lent) {
    *lent = uv_buf_init(buffer, sizeof buffer);
}

void received(uv_stream_t* stream, ssize_t count, const uv_buf_t*) {
    if (count < 0) return close(stream);
    if (count == 0) return;
    const uv_buf_t bytes = uv_buf_init(buffer, unsigned(count));
    const int sent = std::max(uv_try_write(stream, &bytes, 1), 0);
    if (sent == count) return;
    const auto rest = std::size_t(count - sent);
    auto write = std::make_unique<Write>();
    write->bytes = std::make_unique<char[]>(rest);
    std::memcpy(write->bytes.get(), buffer + sent, rest);
    write->request.data = write.get();
    const uv_buf_t kept = uv_buf_init(write->bytes.get(), unsigned(rest));
    uv_read_stop(stream);
    const auto written = [](uv_write_t* request, int status) {
        const std::unique_ptr<Write> done(static_cast<Write*>(request->data));
        if (status == 0) uv_read_start(request->handle, lend, received);
    };
    Write* const owned = write.release();
    if (uv_write(&owned->request, stream, &kept, 1, written) != 0) close(stream);
}

void accept(uv_stream_t* listener, int status) {
    if (status != 0) return;
    auto connection = std::make_unique<uv_tcp_t>();
    uv_tcp_init(listener->loop, connection.get());
    auto* stream = reinterpret_cast<uv_stream_t*>(connection.release());
    if (uv_accept(listener, stream) != 0) return close(stream);
    uv_tcp_nodelay(reinterpret_cast<uv_tcp_t*>(stream), 1);
    uv_read_start(stream, lend, received);
}

}  // namespace

int main(int count, char** arguments) {
    const int descriptor = bench::listen_as_told(count, arguments, "libuv");
    uv_tcp_t listener{};
    uv_tcp_init(uv_default_loop(), &listener);
    uv_tcp_open(&listener, descriptor);
    uv_listen(reinterpret_cast<uv_stream_t*>(&listener), 4096, accept);
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
