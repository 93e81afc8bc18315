// The echo on libev: the loop is libev's, reading and writing are done by hand.
#include "listen.hpp"

#include "../libev.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

namespace {

char buffer[64 * 1024];

struct Connection {
    ev_io watcher{};
    std::vector<char> rest;
};

void end(struct ev_loop* loop, Connection* connection) {
    ev_io_stop(loop, &connection->watcher);
    ::close(connection->watcher.fd);
    delete connection;
}

void wait_for(struct ev_loop* loop, ev_io* watcher, int events) {
    ev_io_stop(loop, watcher);
    bench::change(*watcher, watcher->fd, events);
    ev_io_start(loop, watcher);
}

void ready(struct ev_loop* loop, ev_io* watcher, int events) {
    auto* connection = static_cast<Connection*>(watcher->data);
    if (events & bench::libev_write) {
        const ssize_t sent = ::send(watcher->fd, connection->rest.data(), connection->rest.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) return;
        if (sent < 0) return end(loop, connection);
        connection->rest.erase(connection->rest.begin(), connection->rest.begin() + sent);
        if (connection->rest.empty()) wait_for(loop, watcher, bench::libev_read);
        return;
    }
    const ssize_t count = ::recv(watcher->fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return end(loop, connection);
    ssize_t sent = ::send(watcher->fd, buffer, std::size_t(count), MSG_NOSIGNAL);
    if (sent == count) return;
    if (sent < 0) sent = 0;
    connection->rest.assign(buffer + sent, buffer + count);
    wait_for(loop, watcher, bench::libev_write);
}

void accept(struct ev_loop* loop, ev_io* watcher, int) {
    for (;;) {
        const int descriptor = ::accept4(watcher->fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor < 0) return;
        bench::no_delay(descriptor);
        auto* connection = new Connection;
        bench::prepare(connection->watcher, descriptor, bench::libev_read, connection, ready);
        ev_io_start(loop, &connection->watcher);
    }
}

}  // namespace

int main(int count, char** arguments) {
    const int descriptor = bench::listen_as_told(count, arguments, "libev");
    struct ev_loop* loop = ev_loop_new(EVBACKEND_EPOLL);
    ev_io listener{};
    bench::prepare(listener, descriptor, bench::libev_read, nullptr, accept);
    ev_io_start(loop, &listener);
    ev_run(loop, 0);
}
