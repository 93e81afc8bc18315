// The echo on libevent's events: the loop is libevent's, reading and writing are done by hand.
#include "listen.hpp"

#include <event2/event.h>
#include <event2/listener.h>

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <vector>

namespace {

char buffer[64 * 1024];

struct Connection {
    evutil_socket_t descriptor = -1;
    event* readable = nullptr;
    event* writable = nullptr;
    std::vector<char> rest;

    Connection() = default;
    Connection(const Connection&) = delete;
    ~Connection() {
        if (readable != nullptr) event_free(readable);
        if (writable != nullptr) event_free(writable);
        evutil_closesocket(descriptor);
    }
};

void receive(evutil_socket_t descriptor, short, void* data) {
    auto* connection = static_cast<Connection*>(data);
    const ssize_t count = ::recv(descriptor, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        delete connection;
        return;
    }
    ssize_t sent = ::send(descriptor, buffer, std::size_t(count), MSG_NOSIGNAL);
    if (sent == count) return;
    if (sent < 0) sent = 0;
    connection->rest.assign(buffer + sent, buffer + count);
    event_del(connection->readable);
    event_add(connection->writable, nullptr);
}

void send_rest(evutil_socket_t descriptor, short, void* data) {
    auto* connection = static_cast<Connection*>(data);
    const ssize_t sent = ::send(descriptor, connection->rest.data(), connection->rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {
        delete connection;
        return;
    }
    connection->rest.erase(connection->rest.begin(), connection->rest.begin() + sent);
    if (!connection->rest.empty()) return;
    event_del(connection->writable);
    event_add(connection->readable, nullptr);
}

void accept(evconnlistener* listener, evutil_socket_t descriptor, sockaddr*, int, void*) {
    bench::no_delay(descriptor);
    auto* connection = new Connection;
    event_base* base = evconnlistener_get_base(listener);
    connection->descriptor = descriptor;
    connection->readable = event_new(base, descriptor, EV_READ | EV_PERSIST, receive, connection);
    connection->writable = event_new(base, descriptor, EV_WRITE | EV_PERSIST, send_rest, connection);
    event_add(connection->readable, nullptr);
}

}  // namespace

int main(int count, char** arguments) {
    const int descriptor = bench::listen_as_told(count, arguments, "libevent");
    event_base* base = event_base_new();
    evconnlistener_new(base, accept, nullptr, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, descriptor);
    return event_base_dispatch(base);
}
