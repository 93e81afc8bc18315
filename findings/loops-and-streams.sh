#!/bin/bash
# What servers of nine loops do that their authors have not chosen: the backlog, the answer to a client that has shut its
# writing, and what comes after the end of the input.
#
# Expected: the listener has the backlog of the system (net.core.somaxconn), or the author gives it; an answer of 4 MB
#   arrives whole at a client that has shut its writing (shutdown(2)) behind its question, as with netcat; a connection
#   that is reset after the client's end reports that.
# Happens: the backlog is 5 to 4096; libuv's is given by the author, 128 here. In Twisted and Qt the end of the input
#   closes the connection. What has not left by then is thrown away: all of the answer, if the end came with the
#   question. In libevent, libuv, GLib and Asio nothing is called for the reset: reading has stopped with the end, and a
#   server that waits for something else keeps the connection. In Tcl the end is reported for ever until the handler is
#   removed. ACE and POCO leave reading and writing to the program.
# Who meets it: servers that stay with a loop's defaults, and clients behind half-closing proxies.
# Seen with: Debian 12, Linux 6.18.44; the versions are below.
# Sources: each loop's manual: evconnlistener_new, uv_listen, g_socket_listener_set_backlog, listenTCP, QTcpServer,
#   Tcl_OpenTcpServer, ACE_SOCK_Acceptor, Poco::Net::ServerSocket.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/loops.sh"

cat >"$folder/loop.cpp" <<'C'
#include "loop.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <atomic>
#include <cstring>
#include <poll.h>
#include <thread>

static std::string answer;   // to each question
static int ends = 0;  // calls for the end of the input, and those after it
static bool closed = false;
static void ended() { ++ends; }

static sockaddr_in loopback(int port = 0) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

// serve(): a listener on a free port, as the loop's manual has it, with a connection that answers. It has no code for the
// end but to count it.
#if defined LIBEVENT
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
static void serve() {
    const sockaddr_in address = loopback();
    const auto accepted = [](evconnlistener*, int fd, sockaddr*, int, void*) {
        bufferevent* const connection = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
        bufferevent_setcb(connection, [](bufferevent* it, void*) {
            evbuffer_drain(bufferevent_get_input(it), 1000);
            bufferevent_write(it, answer.data(), answer.size());
        }, nullptr, [](bufferevent*, short, void*) { ended(); }, nullptr);
        bufferevent_enable(connection, EV_READ | EV_WRITE);
    };
    evconnlistener_new_bind(base, accepted, nullptr, LEV_OPT_CLOSE_ON_FREE, -1, (const sockaddr*)&address, sizeof address);
}
#elif defined LIBUV
static void serve() {
    auto* const server = new uv_tcp_t;
    const sockaddr_in address = loopback();
    uv_tcp_init(loop, server);
    uv_tcp_bind(server, (const sockaddr*)&address, 0);
    uv_listen((uv_stream_t*)server, 128, [](uv_stream_t* server, int) {
        auto* const connection = new uv_tcp_t;
        uv_tcp_init(loop, connection);
        uv_accept(server, (uv_stream_t*)connection);
        uv_read_start((uv_stream_t*)connection, [](uv_handle_t*, size_t, uv_buf_t* buffer) { static char bytes[1000]; *buffer = uv_buf_init(bytes, sizeof bytes); },
                      [](uv_stream_t* it, ssize_t count, const uv_buf_t*) {
            if (count < 0) return ended();
            const uv_buf_t buffer = uv_buf_init(answer.data(), answer.size());
            if (count > 0) uv_write(new uv_write_t, it, &buffer, 1, nullptr);
        });
    });
}
#elif defined ASIO
using asio::ip::tcp;
static void receive(std::shared_ptr<tcp::socket> socket) {
    static char bytes[1000];
    socket->async_read_some(asio::buffer(bytes), [=](std::error_code error, size_t) {
        if (error) return ended();
        asio::async_write(*socket, asio::buffer(answer), [socket](std::error_code, size_t) {});
        receive(socket);
    });
}
static void serve() {
    static tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    static F accept = [] { acceptor.async_accept([](std::error_code, tcp::socket socket) { receive(std::make_shared<tcp::socket>(std::move(socket))); accept(); }); };
    accept();
}
#elif defined GLIB
#include <gio/gio.h>
static char bytes[1000];
static void receive(GSocketConnection* it) {
    g_input_stream_read_async(g_io_stream_get_input_stream(G_IO_STREAM(it)), bytes, sizeof bytes, 0, nullptr, [](GObject* stream, GAsyncResult* result, void* it) {
        if (g_input_stream_read_finish(G_INPUT_STREAM(stream), result, nullptr) <= 0) return ended();
        g_output_stream_write_all_async(g_io_stream_get_output_stream(G_IO_STREAM(it)), answer.data(), answer.size(), 0, nullptr, nullptr, nullptr);
        receive(static_cast<GSocketConnection*>(it));
    }, it);
}
static void serve() {
    GSocketService* const service = g_socket_service_new();
    GInetAddress* const host = g_inet_address_new_loopback(G_SOCKET_FAMILY_IPV4);
    g_socket_listener_add_address(G_SOCKET_LISTENER(service), g_inet_socket_address_new(host, 0), G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, nullptr, nullptr, nullptr);
    g_signal_connect(service, "incoming", G_CALLBACK(+[](GSocketService*, GSocketConnection* it, GObject*, void*) -> gboolean { receive((GSocketConnection*)g_object_ref(it)); return TRUE; }), nullptr);
    g_socket_service_start(service);
}
#elif defined QT
#include <QTcpServer>
#include <QTcpSocket>
static void serve() {
    auto* const server = new QTcpServer;
    server->listen(QHostAddress::LocalHost);
    QObject::connect(server, &QTcpServer::newConnection, [server] {
        QTcpSocket* const connection = server->nextPendingConnection();
        QObject::connect(connection, &QTcpSocket::readyRead, [connection] { connection->readAll(); connection->write(answer.data(), answer.size()); });
        QObject::connect(connection, &QTcpSocket::disconnected, [connection] { closed = connection->state() == QTcpSocket::UnconnectedState; ended(); });
        QObject::connect(connection, &QTcpSocket::errorOccurred, [](QAbstractSocket::SocketError) { if (ends > 0) ended(); });
    });
}
#elif defined TCL
static void readable(void* it, int) {
    const Tcl_Channel channel = static_cast<Tcl_Channel>(it);
    char bytes[1000];
    const int count = Tcl_Read(channel, bytes, sizeof bytes);
    if (count > 0) Tcl_Write(channel, answer.data(), answer.size()), Tcl_Flush(channel);
    if (count == 0 && Tcl_Eof(channel)) ended();
}
static void serve() {
    Tcl_OpenTcpServer(Tcl_CreateInterp(), 0, "127.0.0.1", [](void*, Tcl_Channel channel, char*, int) {
        Tcl_SetChannelOption(nullptr, channel, "-blocking", "0");
        Tcl_SetChannelOption(nullptr, channel, "-translation", "binary");
        Tcl_CreateChannelHandler(channel, TCL_READABLE, readable, channel);
    }, nullptr);
}
#elif defined ACE_LOOP
#define LISTENS_ONLY
#include <ace/INET_Addr.h>
#include <ace/SOCK_Acceptor.h>
static void serve() { new ACE_SOCK_Acceptor(ACE_INET_Addr(u_short(0), "127.0.0.1")); }
#elif defined POCO
#define LISTENS_ONLY
#include <Poco/Net/ServerSocket.h>
static void serve() { new Poco::Net::ServerSocket(Poco::Net::SocketAddress("127.0.0.1", 0)); }
#endif

struct Listener { int port, backlog; };
static Listener listener() {
    for (int fd = 3; fd < 100; ++fd) {
        int listens = 0;
        socklen_t size = sizeof listens;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) continue;
        sockaddr_in address{};
        tcp_info information{};
        getsockname(fd, (sockaddr*)&address, &(size = sizeof address));
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &information, &(size = sizeof information));
        return {ntohs(address.sin_port), int(information.tcpi_sacked)};  // tcp_diag: its limit, for a listener
    }
    std::exit(3);
}

static int asked(int port) {  // and has shut its writing
    const int fd = socket(AF_INET, SOCK_STREAM, 0), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    const sockaddr_in address = loopback(port);
    if (connect(fd, (const sockaddr*)&address, sizeof address) != 0) std::exit(4);
    (void)!write(fd, "ask", 3);
    shutdown(fd, SHUT_WR);
    return fd;
}

int main(int, char** word) {
    alarm(25);
    serve();
    const Listener here = listener();
    std::printf("%s: backlog %d", word[1], here.backlog);
#ifndef LISTENS_ONLY
    static std::atomic<bool> done{false};
    const auto serve_until_done = [&](F peer) {
        done = false;
        std::thread thread([&] { peer(); done = true; });
        static F tick = [] { if (!done) timer(5, tick); };
        timer(5, tick);
        run_until([&] { return bool(done); });
        thread.join();
    };
    answer = std::string(4'000'000, 'x');
    size_t arrived = 0;
    serve_until_done([&] {
        const int fd = asked(here.port);
        usleep(100'000);
        static char bytes[100'000];
        pollfd entry{fd, POLLIN, 0};
        for (ssize_t count; poll(&entry, 1, 500) == 1 && (count = read(fd, bytes, sizeof bytes)) > 0;) arrived += count;
        close(fd);
    });
    std::printf(", %s of the answer after a half-close", arrived == answer.size() ? "all" : "nothing or a part");
    answer.clear();
    ends = 0;
    serve_until_done([&] {
        const int fd = asked(here.port);
        usleep(100'000);
        const linger reset{1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
        usleep(200'000);
    });
    std::printf(", the end of the input %s", closed ? "closes the connection" : ends == 0 ? "is not reported" : ends == 1 ? "is reported once, and a reset behind it is not" : ends == 2 ? "is reported once, and a reset behind it" : "is reported for ever");
#endif
    std::printf("\n");
    std::fflush(stdout);
    _exit(0);
}
C

cat >"$folder/streams.py" <<'P'
import os
import socket
import struct
import threading
import time
from twisted.internet import protocol, reactor

TCPI_SACKED = 28  # the offset in tcp_info; of a listener its limit
answer = b""
ends = []
still_open = []


class Server(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(answer)

    def connectionLost(self, reason):
        ends.append(reason)
        still_open.append(not self.transport.disconnected)


factory = protocol.Factory.forProtocol(Server)
listener = reactor.listenTCP(0, factory, interface="127.0.0.1")
backlog = struct.unpack_from("I", listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), TCPI_SACKED)[0]


def asked():
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.connect(("127.0.0.1", listener.getHost().port))
    peer.sendall(b"ask")
    peer.shutdown(socket.SHUT_WR)
    return peer


def talk():
    global answer
    answer = b"x" * 4_000_000
    arrived = 0
    with asked() as peer:
        time.sleep(0.1)
        peer.settimeout(0.5)
        try:
            while data := peer.recv(100_000):
                arrived += len(data)
        except OSError:
            pass
    word = "all" if arrived == len(answer) else "nothing or a part"
    answer = b""
    ends.clear()
    peer = asked()
    time.sleep(0.1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    time.sleep(0.2)
    reported = "closes the connection" if len(ends) == 1 and not any(still_open) else f"is reported {len(ends)} times"
    print(f"TWISTED: backlog {backlog}, {word} of the answer after a half-close, the end of the input {reported}", flush=True)
    os._exit(0)


reactor.callWhenRunning(lambda: threading.Thread(target=talk).start())
reactor.run(installSignalHandlers=False)
P

versions
try LIBEVENT -levent_core -levent_extra -pthread
try LIBUV -luv -pthread
try GLIB -isystem "$include/glib-2.0" -isystem "$libraries/glib-2.0/include" -lgio-2.0 -lgobject-2.0 -lglib-2.0 -pthread
try TCL -isystem "$include/tcl8.6" -ltcl8.6 -pthread
try ASIO -pthread
try QT -fPIC -isystem "$include/$triplet/qt5" -isystem "$include/$triplet/qt5/QtCore" \
    -isystem "$include/$triplet/qt5/QtNetwork" -lQt5Network -lQt5Core -pthread
try ACE_LOOP -lACE
try POCO -lPocoNet -lPocoUtil -lPocoFoundation -pthread
try_twisted "$folder/streams.py"
verdict <<'END'
LIBEVENT: backlog 128, all of the answer after a half-close, the end of the input is reported once, and a reset behind it is not
LIBUV: backlog 128, all of the answer after a half-close, the end of the input is reported once, and a reset behind it is not
GLIB: backlog 10, all of the answer after a half-close, the end of the input is reported once, and a reset behind it is not
TCL: backlog 4096, all of the answer after a half-close, the end of the input is reported for ever
ASIO: backlog 4096, all of the answer after a half-close, the end of the input is reported once, and a reset behind it is not
QT: backlog 50, nothing or a part of the answer after a half-close, the end of the input closes the connection
ACE_LOOP: backlog 5
POCO: backlog 64
TWISTED: backlog 50, nothing or a part of the answer after a half-close, the end of the input closes the connection
END
