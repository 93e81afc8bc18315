// The echo on libevent's bufferevents: one buffer is moved into the other.
#include "listen.hpp"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include <csignal>

namespace {

void receive(bufferevent* connection, void*) {
    bufferevent_write_buffer(connection, bufferevent_get_input(connection));
}

void end(bufferevent* connection, short, void*) {
    bufferevent_free(connection);
}

void accept(evconnlistener* listener, evutil_socket_t descriptor, sockaddr*, int, void*) {
    bench::no_delay(descriptor);
    bufferevent* connection =
        bufferevent_socket_new(evconnlistener_get_base(listener), descriptor, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(connection, receive, nullptr, end, nullptr);
    bufferevent_enable(connection, EV_READ | EV_WRITE);
}

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGPIPE, SIG_IGN);
    const int descriptor = bench::listen_as_told(count, arguments, "libevent bufferevent");
    event_base* base = event_base_new();
    evconnlistener_new(base, accept, nullptr, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, descriptor);
    return event_base_dispatch(base);
}
