#!/bin/bash
# Nine event loops differ in six habits that programs rely on without knowing it.
#
# Expected: descriptors that are ready at once are called in the order in which they became ready, or were registered;
#   timers of the same length in the order in which they were started; a timer of zero that starts itself again lets
#   descriptors be called in between; five signals are five calls; a timer of 10 ms takes 10 ms, from a callback that
#   has worked for 20 ms too.
# Happens: none of them does all of this. reactor/MIGRATING.md has the table. The signals are raised in a callback, at
#   once. "Early by more than 1 ms" is of a timer started between two iterations: the loop's clock is that of the last one.
# Who meets it: programs that are moved from one loop to another.
# Seen with: Debian 12, Linux 6.18.44; the versions are below.
# Sources: each loop's manual, which says nothing of most of this.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

command -v "${CXX:-c++}" >/dev/null || cannot "there is no C++ compiler"
packages libevent-dev=2.1.12-stable-8+deb12u1 libevent-core-2.1-7=2.1.12-stable-8+deb12u1 libev-dev=1:4.33-1 \
    libev4=1:4.33-1 libuv1-dev=1.44.2-1+deb12u1 libuv1=1.44.2-1+deb12u1 libglib2.0-dev=2.74.6-2+deb12u9 \
    libglib2.0-0=2.74.6-2+deb12u9 libsystemd-dev=252.39-1~deb12u2 libsystemd0=252.39-1~deb12u2 \
    libtevent-dev=0.14.1-1 libtevent0=0.14.1-1 libtalloc-dev=2.4.0-f2 libtalloc2=2.4.0-f2 tcl8.6-dev=8.6.13+dfsg-2 \
    libtcl8.6=8.6.13+dfsg-2 libasio-dev=1:1.22.1-1 qtbase5-dev=5.15.8+dfsg-11+deb12u3 \
    libqt5core5a=5.15.8+dfsg-11+deb12u3 libdouble-conversion3=3.2.1-1 libpcre2-16-0=10.42-1 libicu72=72.1-3+deb12u1

cat >"$folder/loop.cpp" <<'C'
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <string>
#include <unistd.h>
using F = std::function<void()>;
using Clock = std::chrono::steady_clock;

#if defined LIBEVENT
#include <event2/event.h>
static event_base* base = event_base_new();
static void call(evutil_socket_t, short, void* it) { (*static_cast<F*>(it))(); }
static void watch(int fd, F f) { event_add(event_new(base, fd, EV_READ | EV_PERSIST, call, new F(f)), nullptr); }
static void timer(int ms, F f) {
    const timeval time{0, ms * 1000};
    event_add(event_new(base, -1, 0, call, new F(f)), &time);
}
static bool signals(int number, F f) { return event_add(event_new(base, number, EV_SIGNAL | EV_PERSIST, call, new F(f)), nullptr) == 0; }
static void run() { event_base_loop(base, EVLOOP_ONCE); }
#elif defined LIBEV
#include <ev.h>
static struct ev_loop* loop = ev_default_loop(0);
template <class W> static void call(struct ev_loop*, W* it, int) { (*static_cast<F*>(it->data))(); }
static void watch(int fd, F f) { auto* w = new ev_io; ev_io_init(w, call<ev_io>, fd, EV_READ); w->data = new F(f); ev_io_start(loop, w); }
static void timer(int ms, F f) { auto* w = new ev_timer; ev_timer_init(w, call<ev_timer>, ms / 1000., 0.); w->data = new F(f); ev_timer_start(loop, w); }
static bool signals(int number, F f) { auto* w = new ev_signal; ev_signal_init(w, call<ev_signal>, number); w->data = new F(f); ev_signal_start(loop, w); return true; }
static void run() { ev_run(loop, EVRUN_ONCE); }
#elif defined LIBUV
#include <uv.h>
static uv_loop_t* loop = uv_default_loop();
static void watch(int fd, F f) { auto* w = new uv_poll_t; uv_poll_init(loop, w, fd); w->data = new F(f); uv_poll_start(w, UV_READABLE, [](uv_poll_t* it, int, int) { (*static_cast<F*>(it->data))(); }); }
static void timer(int ms, F f) { auto* w = new uv_timer_t; uv_timer_init(loop, w); w->data = new F(f); uv_timer_start(w, [](uv_timer_t* it) { (*static_cast<F*>(it->data))(); }, ms, 0); }
static bool signals(int number, F f) { auto* w = new uv_signal_t; uv_signal_init(loop, w); w->data = new F(f); return uv_signal_start(w, [](uv_signal_t* it, int) { (*static_cast<F*>(it->data))(); }, number) == 0; }
// UV_RUN_ONCE runs the timers that are due first, and then waits: without this one for ever.
static const int ticks = [] { auto* w = new uv_timer_t; uv_timer_init(loop, w); return uv_timer_start(w, [](uv_timer_t*) {}, 5, 5); }();
static void run() { uv_run(loop, UV_RUN_ONCE); }
#elif defined GLIB
#include <glib-unix.h>
static gboolean again(void* it) { (*static_cast<F*>(it))(); return G_SOURCE_CONTINUE; }
static gboolean once(void* it) { (*static_cast<F*>(it))(); return G_SOURCE_REMOVE; }
static void watch(int fd, F f) { g_unix_fd_add(fd, G_IO_IN, [](int, GIOCondition, void* it) { return again(it); }, new F(f)); }
static void timer(int ms, F f) { g_timeout_add(ms, once, new F(f)); }
static bool signals(int number, F f) { g_unix_signal_add(number, again, new F(f)); return true; }
static void run() { g_main_context_iteration(nullptr, TRUE); }
#elif defined SD_EVENT
#include <systemd/sd-event.h>
#include <sys/epoll.h>
static sd_event* event = [] { sd_event* it = nullptr; sd_event_new(&it); return it; }();
static void watch(int fd, F f) { sd_event_add_io(event, nullptr, fd, EPOLLIN, [](sd_event_source*, int, uint32_t, void* it) { (*static_cast<F*>(it))(); return 0; }, new F(f)); }
static void timer(int ms, F f) {
    uint64_t now = 0;
    sd_event_now(event, CLOCK_MONOTONIC, &now);
    sd_event_add_time(event, nullptr, CLOCK_MONOTONIC, now + ms * 1000, 1, [](sd_event_source*, uint64_t, void* it) { (*static_cast<F*>(it))(); return 0; }, new F(f));
}
static bool signals(int number, F f) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    return sd_event_add_signal(event, nullptr, number, [](sd_event_source*, const signalfd_siginfo*, void* it) { (*static_cast<F*>(it))(); return 0; }, new F(f)) >= 0;
}
static void run() { sd_event_run(event, UINT64_MAX); }
#elif defined TEVENT
extern "C" {
#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>
#include <talloc.h>
#include <tevent.h>
}
static tevent_context* event = tevent_context_init(nullptr);
static void watch(int fd, F f) { tevent_add_fd(event, event, fd, TEVENT_FD_READ, [](tevent_context*, tevent_fd*, uint16_t, void* it) { (*static_cast<F*>(it))(); }, new F(f)); }
static void timer(int ms, F f) { tevent_add_timer(event, event, tevent_timeval_current_ofs(0, ms * 1000), [](tevent_context*, tevent_timer*, timeval, void* it) { (*static_cast<F*>(it))(); }, new F(f)); }
static bool signals(int number, F f) { return tevent_add_signal(event, event, number, 0, [](tevent_context*, tevent_signal*, int, int, void*, void* it) { (*static_cast<F*>(it))(); }, new F(f)) != nullptr; }
static void run() { tevent_loop_once(event); }
#elif defined TCL
#include <tcl.h>
static void call(void* it) { (*static_cast<F*>(it))(); }
static const bool initialized = (Tcl_FindExecutable(""), true);
static void watch(int fd, F f) { Tcl_CreateFileHandler(fd, TCL_READABLE, [](void* it, int) { call(it); }, new F(f)); }
static void timer(int ms, F f) { Tcl_CreateTimerHandler(ms, call, new F(f)); }
static bool signals(int, F) { return false; }
static void run() { Tcl_DoOneEvent(0); }
#elif defined ASIO
#include <asio.hpp>
static asio::io_context context(1);
static void wait(asio::posix::stream_descriptor* w, F f) { w->async_wait(w->wait_read, [=](std::error_code) { f(); wait(w, f); }); }
static void watch(int fd, F f) { wait(new asio::posix::stream_descriptor(context, fd), f); }
static void timer(int ms, F f) { auto* w = new asio::steady_timer(context, std::chrono::milliseconds(ms)); w->async_wait([f](std::error_code) { f(); }); }
static void wait(asio::signal_set* w, F f) { w->async_wait([=](std::error_code, int) { f(); wait(w, f); }); }
static bool signals(int number, F f) { wait(new asio::signal_set(context, number), f); return true; }
static void run() { context.run_one(); }
#elif defined QT
#define QT_NO_KEYWORDS
#include <QCoreApplication>
#include <QSocketNotifier>
#include <QTimer>
static int one = 1;
static char name[] = "loop", *words[] = {name, nullptr};
static QCoreApplication application(one, words);
static void watch(int fd, F f) { QObject::connect(new QSocketNotifier(fd, QSocketNotifier::Read), &QSocketNotifier::activated, f); }
static void timer(int ms, F f) { QTimer::singleShot(ms, f); }
static bool signals(int, F) { return false; }
static void run() { QCoreApplication::processEvents(QEventLoop::WaitForMoreEvents); }
#endif

struct Pipe {
    Pipe() { if (pipe2(ends, O_NONBLOCK) != 0) std::exit(2); }
    void fill() { (void)!write(ends[1], "x", 1); }
    void drain() { char byte; (void)!read(ends[0], &byte, 1); }
    int ends[2];
};
static void run_until(const std::function<bool()>& condition) { while (!condition()) run(); }
static double milliseconds(Clock::duration it) { return std::chrono::duration<double, std::milli>(it).count(); }

int main(int, char** word) {
    alarm(20);
    std::string order;
    {
        static Pipe pipes[3];
        for (int i = 0; i < 3; ++i) watch(pipes[i].ends[0], [&, i] { pipes[i].drain(); order += char('1' + i); });
        timer(1, [] {});
        run();
        for (int i : {2, 0, 1}) pipes[i].fill();
        run_until([&] { return order.size() == 3; });
    }
    std::string equal;
    for (int i = 0; i < 3; ++i) timer(5, [&, i] { equal += char('1' + i); });
    run_until([&] { return equal.size() == 3; });

    int zeros = 0;
    bool ready = false;
    static Pipe pipe;
    watch(pipe.ends[0], [&] { pipe.drain(); ready = true; });
    timer(1, [] {});
    run();
    pipe.fill();
    F zero = [&] { if (!ready && ++zeros < 1000) timer(0, zero); };
    timer(0, zero);
    run_until([&] { return ready || zeros == 1000; });
    run_until([&] { return ready; });

    // Another timer keeps run() from sleeping for ever where nothing comes.
    int calls = 0;
    const bool has_signals = signals(SIGUSR1, [&] { ++calls; });
    bool over = false;
    timer(20, [] {});
    if (has_signals) {
        timer(1, [&] { for (int i = 0; i < 5; ++i) raise(SIGUSR1); });
        timer(50, [&] { over = true; });
        run_until([&] { return over; });
    }

    double after_work = 0;
    bool fired = false;
    timer(1, [&] {
        const auto end = Clock::now() + std::chrono::milliseconds(20);
        while (Clock::now() < end) {
        }
        const auto start = Clock::now();
        timer(10, [&, start] { after_work = milliseconds(Clock::now() - start); fired = true; });
    });
    run_until([&] { return fired; });

    double earliest = 0;
    for (int i = 0; i < 30; ++i) {
        fired = false;
        usleep(300);  // between two of a clock's milliseconds
        const auto start = Clock::now();
        timer(10, [&, start] { earliest = std::max(earliest, 10 - milliseconds(Clock::now() - start)); fired = true; });
        run_until([&] { return fired; });
    }
    std::printf("%s: ready %s, timers %s, zero timers before a descriptor %s, five signals %s, 10 ms after 20 ms of work: %s, early by %s\n",
                word[1], order.c_str(), equal.c_str(), zeros == 0 ? "0" : zeros == 1 ? "1" : zeros == 1000 ? "all" : std::to_string(zeros).c_str(),
                has_signals ? (calls == 5 ? "5 calls" : "fewer calls") : "none", after_work < 9 ? "early" : "on time",
                earliest <= 0 ? "nothing" : earliest < 1.1 ? "at most 1 ms" : "more than 1 ms");
}
C

# try NAME FLAG...: compiles the program for this loop, and runs it.
try() {
    local name=$1
    shift
    "${CXX:-c++}" -std=gnu++20 -O1 -w "-D$name" -isystem "$include" -isystem "$include/$triplet" \
        -o "$folder/$name" "$folder/loop.cpp" -L"$libraries" -Wl,-rpath,"$libraries" "$@" 2>"$folder/compiler" ||
        cannot "$name does not compile: $(grep -m 1 error "$folder/compiler" || true)"
    bounded "$folder/$name" "$name"
}
versions
try LIBEVENT -levent_core
try LIBEV -lev
try LIBUV -luv
try GLIB -isystem "$include/glib-2.0" -isystem "$libraries/glib-2.0/include" -lglib-2.0
try SD_EVENT -lsystemd
try TEVENT -ltevent -ltalloc
try TCL -isystem "$include/tcl8.6" -ltcl8.6
try ASIO -pthread
try QT -fPIC -isystem "$include/$triplet/qt5" -isystem "$include/$triplet/qt5/QtCore" -lQt5Core
verdict <<'END'
LIBEVENT: ready 312, timers 132, zero timers before a descriptor 0, five signals 5 calls, 10 ms after 20 ms of work: early, early by nothing
LIBEV: ready 213, timers 132, zero timers before a descriptor 1, five signals fewer calls, 10 ms after 20 ms of work: early, early by more than 1 ms
LIBUV: ready 312, timers 123, zero timers before a descriptor all, five signals 5 calls, 10 ms after 20 ms of work: early, early by more than 1 ms
GLIB: ready 123, timers 123, zero timers before a descriptor 0, five signals fewer calls, 10 ms after 20 ms of work: on time, early by nothing
SD_EVENT: ready 321, timers 123, zero timers before a descriptor 0, five signals fewer calls, 10 ms after 20 ms of work: early, early by more than 1 ms
TEVENT: ready 312, timers 123, zero timers before a descriptor all, five signals fewer calls, 10 ms after 20 ms of work: on time, early by nothing
TCL: ready 321, timers 123, zero timers before a descriptor 0, five signals none, 10 ms after 20 ms of work: on time, early by nothing
ASIO: ready 312, timers 123, zero timers before a descriptor 0, five signals 5 calls, 10 ms after 20 ms of work: on time, early by nothing
QT: ready 123, timers 123, zero timers before a descriptor 1, five signals none, 10 ms after 20 ms of work: on time, early by nothing
END
