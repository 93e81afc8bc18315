#!/bin/bash
# What thirteen loops report to a program that has read the end of a connection's input, wants no more of it, and keeps
# its watch for the day when the connection breaks.
#
# Expected: the watch that is left is silent while the connection is half closed, and is called when the peer resets it.
# Happens: libevent's EV_CLOSED is called for ever while the connection is half closed, and not when it is reset: then the
#   loop spins and calls nothing. libuv's UV_DISCONNECT is called for ever too, once for the reset (with an error), and
#   then never again. libev, tevent, Tcl, ACE and Twisted have nothing that the reset would call. GLib, sd-event, Asio,
#   Qt, ivykis and POCO do as is expected, and call for the reset until the watch is taken away.
# Who meets it: programs that stream to clients which have shut their writing, and wait for something else meanwhile.
# Seen with: Debian 12, Linux 6.18.44; the versions are below.
# Sources: each loop's manual: event_new, ev_io, uv_poll_start, g_unix_fd_add, sd_event_source_set_io_events,
#   tevent_fd_set_flags, Tcl_CreateFileHandler, async_wait, QSocketNotifier, iv_fd, ACE_Event_Handler, ErrorNotification,
#   removeReader.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/loops.sh"

cat >"$folder/loop.cpp" <<'C'
#include "loop.hpp"

#include <arpa/inet.h>
#include <ctime>
#include <netinet/in.h>

static int calls = 0;

// The least watch that the loop has, in place of that for reading.
#if defined LIBEVENT
static void keep(int fd) { event_add(event_new(base, fd, EV_CLOSED | EV_PERSIST, call, new F([] { ++calls; })), nullptr); }
#elif defined LIBEV
static void keep(int fd) { auto* w = new ev_io; ev_io_init(w, call<ev_io>, fd, EV_NONE); w->data = new F([] { ++calls; }); ev_io_start(loop, w); }
#elif defined LIBUV
static void keep(int fd) { auto* w = new uv_poll_t; uv_poll_init(loop, w, fd); uv_poll_start(w, UV_DISCONNECT, [](uv_poll_t*, int, int) { ++calls; }); }
#elif defined GLIB
static void keep(int fd) { g_unix_fd_add(fd, GIOCondition(G_IO_HUP | G_IO_ERR), [](int, GIOCondition, void*) -> gboolean { ++calls; return G_SOURCE_CONTINUE; }, nullptr); }
#elif defined SD_EVENT
static void keep(int fd) { sd_event_add_io(event, nullptr, fd, 0, [](sd_event_source*, int, uint32_t, void*) { ++calls; return 0; }, nullptr); }
#elif defined TEVENT
static void keep(int fd) { tevent_add_fd(event, event, fd, 0, [](tevent_context*, tevent_fd*, uint16_t, void*) { ++calls; }, nullptr); }
#elif defined TCL
static void keep(int fd) { Tcl_CreateFileHandler(fd, TCL_EXCEPTION, [](void*, int) { ++calls; }, nullptr); }
#elif defined ASIO
static void wait_for_error(asio::posix::stream_descriptor* w) { w->async_wait(w->wait_error, [=](std::error_code) { ++calls; wait_for_error(w); }); }
static void keep(int fd) { wait_for_error(new asio::posix::stream_descriptor(context, fd)); }
#elif defined QT
static void keep(int fd) { QObject::connect(new QSocketNotifier(fd, QSocketNotifier::Exception), &QSocketNotifier::activated, [] { ++calls; }); }
#elif defined IVYKIS
static void keep(int fd) { auto* w = new iv_fd; IV_FD_INIT(w); w->fd = fd; w->cookie = new F([] { ++calls; }); w->handler_err = call; iv_fd_register(w); }
#elif defined ACE_LOOP
static void keep(int fd) { loop().register_handler(new Handler([] { ++calls; }, fd), ACE_Event_Handler::EXCEPT_MASK); }
#elif defined POCO
struct Failed { void failed(const Poco::AutoPtr<Poco::Net::ErrorNotification>&) { call(f); } F f; };
static void keep(int fd) { reactor.addEventHandler(*new Socket(fd), *new Poco::NObserver<Failed, Poco::Net::ErrorNotification>(*new Failed{[] { ++calls; }}, &Failed::failed)); start(); }
#endif

// Runs the loop for 200 ms. A loop that sleeps needs a hundredth of that of the processor.
static void report(const char* what) {
    calls = 0;
    static int ticks;
    ticks = 0;
    static F tick = [] { if (++ticks < 40) timer(5, tick); };
    const clock_t before = std::clock();
    timer(5, tick);
    run_until([] { return ticks == 40; });
    const bool spins = calls < 2 && std::clock() - before > CLOCKS_PER_SEC / 50;
    std::printf(", %s: %s%s", what, calls == 0 ? "no call" : calls == 1 ? "one call" : "calls for ever", spins ? ", and the loop spins" : "");
}

int main(int, char** word) {
    alarm(25);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM, 0), peer = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (const sockaddr*)&address, size);
    listen(listener, 1);
    getsockname(listener, (sockaddr*)&address, &size);
    if (connect(peer, (const sockaddr*)&address, size) != 0) return 2;
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);

    static bool ended = false;
    const F stop = watch(fd, [=] { char byte; ended = ended || read(fd, &byte, 1) == 0; });
    shutdown(peer, SHUT_WR);
    run_until([] { return ended; });
    const int kept = dup(fd);  // Asio closes the one that it has watched
#ifdef POCO
    held.unlock();  // its thread may be in the middle of a call
#endif
    stop();
    keep(kept);
#ifdef POCO
    held.lock();
#endif
    std::printf("%s", word[1]);
    report("the end");
    const linger reset{1, 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(peer);
    report("a reset");
    std::printf("\n");
    std::fflush(stdout);
    _exit(0);
}
C

cat >"$folder/ends.py" <<'P'
import os
import socket
import struct
from twisted.internet import reactor

listener = socket.create_server(("127.0.0.1", 0))
peer = socket.create_connection(listener.getsockname())
here = listener.accept()[0]
here.setblocking(False)
calls = []


class Watch:
    def fileno(self):
        return here.fileno()

    def logPrefix(self):
        return "watch"

    def connectionLost(self, reason):
        calls.append("lost")

    def doRead(self):
        if here.recv(1) == b"":
            reactor.removeReader(self)  # there is nothing less than a reader, but no watch
            reactor.callLater(0.05, quiet)


def of():
    return "no call" if not calls else "one call" if len(calls) == 1 else "calls for ever"


def quiet():
    print(f"TWISTED, the end: {of()}", end="")
    calls.clear()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    reactor.callLater(0.05, done)


def done():
    print(f", a reset: {of()}", flush=True)
    os._exit(0)


peer.shutdown(socket.SHUT_WR)
reactor.addReader(Watch())
reactor.run(installSignalHandlers=False)
P

versions
try_all
try_twisted "$folder/ends.py"
verdict <<'END'
LIBEVENT, the end: calls for ever, a reset: no call, and the loop spins
LIBEV, the end: no call, a reset: no call
LIBUV, the end: calls for ever, a reset: one call
GLIB, the end: no call, a reset: calls for ever
SD_EVENT, the end: no call, a reset: calls for ever
TEVENT, the end: no call, a reset: no call
TCL, the end: no call, a reset: no call
ASIO, the end: no call, a reset: calls for ever
QT, the end: no call, a reset: calls for ever
IVYKIS, the end: no call, a reset: calls for ever
ACE_LOOP, the end: no call, a reset: no call
POCO, the end: no call, a reset: calls for ever
TWISTED, the end: no call, a reset: no call
END
