// The TLS echo on libevent's bufferevents over OpenSSL.
#include "listen.hpp"
#include "tls_setup.hpp"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>

#include <csignal>

namespace {

void receive(bufferevent* connection, void*) {
    bufferevent_write_buffer(connection, bufferevent_get_input(connection));
}

void end(bufferevent* connection, short what, void*) {
    if ((what & BEV_EVENT_CONNECTED) == 0) bufferevent_free(connection);
}

void accept(evconnlistener* listener, evutil_socket_t descriptor, sockaddr*, int, void* context) {
    bench::no_delay(descriptor);
    bufferevent* const connection = bufferevent_openssl_socket_new(evconnlistener_get_base(listener), descriptor,
                                                                   SSL_new(static_cast<SSL_CTX*>(context)),
                                                                   BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(connection, receive, nullptr, end, nullptr);
    bufferevent_enable(connection, EV_READ | EV_WRITE);
}

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGPIPE, SIG_IGN);
    const int descriptor = bench::listen_as_told(count, arguments, "libevent TLS");
    SSL_CTX* const context = SSL_CTX_new(TLS_server_method());
    bench::set_up(context);
    event_base* const base = event_base_new();
    evconnlistener_new(base, accept, context, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, descriptor);
    return event_base_dispatch(base);
}
