# Shared by the findings that compare event loops; each sources it after packages.sh. It unpacks the loops, and writes
# $folder/loop.hpp: the same few functions for each of them, chosen by a macro.
#
#   try NAME FLAG…    compiles $folder/loop.cpp for this loop, and runs it
#   try_all           does so for all of them
#   try_twisted FILE  runs a Python program with Twisted

command -v "${CXX:-c++}" >/dev/null || cannot "there is no C++ compiler"
packages libevent-dev=2.1.12-stable-8+deb12u1 libevent-core-2.1-7=2.1.12-stable-8+deb12u1 \
    libevent-extra-2.1-7=2.1.12-stable-8+deb12u1 libev-dev=1:4.33-1 \
    libev4=1:4.33-1 libuv1-dev=1.44.2-1+deb12u1 libuv1=1.44.2-1+deb12u1 libglib2.0-dev=2.74.6-2+deb12u9 \
    libglib2.0-0=2.74.6-2+deb12u9 libsystemd-dev=252.39-1~deb12u2 libsystemd0=252.39-1~deb12u2 \
    libtevent-dev=0.14.1-1 libtevent0=0.14.1-1 libtalloc-dev=2.4.0-f2 libtalloc2=2.4.0-f2 tcl8.6-dev=8.6.13+dfsg-2 \
    libtcl8.6=8.6.13+dfsg-2 libasio-dev=1:1.22.1-1 qtbase5-dev=5.15.8+dfsg-11+deb12u3 \
    libqt5core5a=5.15.8+dfsg-11+deb12u3 libqt5network5=5.15.8+dfsg-11+deb12u3 libdouble-conversion3=3.2.1-1 \
    libpcre2-16-0=10.42-1 libicu72=72.1-3+deb12u1 libivykis-dev=0.42.4-1 libivykis0=0.42.4-1 \
    libace-dev=7.0.8+dfsg-2 libace-7.0.8=7.0.8+dfsg-2 libpoco-dev=1.11.0-3+deb12u1 \
    libpocofoundation80=1.11.0-3+deb12u1 libpoconet80=1.11.0-3+deb12u1 libpocoutil80=1.11.0-3+deb12u1 \
    libpocojson80=1.11.0-3+deb12u1 libpocoxml80=1.11.0-3+deb12u1 python3-twisted=22.4.0-4+deb12u1 \
    python3-zope.interface=5.5.2-1+b1 python3-constantly=15.1.0-4 python3-incremental=21.3.0-2 python3-attr=22.2.0-1 \
    python3-automat=22.10.0-1 python3-hyperlink=21.0.0-5 python3-idna=3.3-1+deb12u1 python3-six=1.16.0-4 \
    python3-typing-extensions=4.4.0-1

cat >"$folder/loop.hpp" <<'C'
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <mutex>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
using F = std::function<void()>;
using Clock = std::chrono::steady_clock;

// watch() returns what stops it. soon() is a hook of every iteration, which is called at least once, or a call at the
// end of the iteration where there are no hooks. run() is one iteration.
#if defined LIBEVENT
#include <event2/event.h>
static event_base* base = event_base_new();
static void call(evutil_socket_t, short, void* it) { (*static_cast<F*>(it))(); }
static F watch(int fd, F f) { auto* w = event_new(base, fd, EV_READ | EV_PERSIST, call, new F(f)); event_add(w, nullptr); return [w] { event_free(w); }; }
static void timer(int ms, F f) {
    const timeval time{ms / 1000, ms % 1000 * 1000};
    event_add(event_new(base, -1, 0, call, new F(f)), &time);
}
static bool signals(int number, F f) { return event_add(event_new(base, number, EV_SIGNAL | EV_PERSIST, call, new F(f)), nullptr) == 0; }
static void soon(F f) { event_active(event_new(base, -1, 0, call, new F(f)), EV_TIMEOUT, 0); }
static void run() { event_base_loop(base, EVLOOP_ONCE); }
#elif defined LIBEV
#include <ev.h>
static struct ev_loop* loop = ev_default_loop(0);
template <class W> static void call(struct ev_loop*, W* it, int) { (*static_cast<F*>(it->data))(); }
static F watch(int fd, F f) { auto* w = new ev_io; ev_io_init(w, call<ev_io>, fd, EV_READ); w->data = new F(f); ev_io_start(loop, w); return [w] { ev_io_stop(loop, w); }; }
static void timer(int ms, F f) { auto* w = new ev_timer; ev_timer_init(w, call<ev_timer>, ms / 1000., 0.); w->data = new F(f); ev_timer_start(loop, w); }
static bool signals(int number, F f) { auto* w = new ev_signal; ev_signal_init(w, call<ev_signal>, number); w->data = new F(f); ev_signal_start(loop, w); return true; }
static void soon(F f) { auto* w = new ev_prepare; ev_prepare_init(w, call<ev_prepare>); w->data = new F(f); ev_prepare_start(loop, w); }
static void run() { ev_run(loop, EVRUN_ONCE); }
#elif defined LIBUV
#include <uv.h>
static uv_loop_t* loop = uv_default_loop();
static F watch(int fd, F f) {
    auto* w = new uv_poll_t;
    uv_poll_init(loop, w, fd);
    w->data = new F(f);
    uv_poll_start(w, UV_READABLE, [](uv_poll_t* it, int, int) { (*static_cast<F*>(it->data))(); });
    return [w] { uv_poll_stop(w); };
}
static void timer(int ms, F f) { auto* w = new uv_timer_t; uv_timer_init(loop, w); w->data = new F(f); uv_timer_start(w, [](uv_timer_t* it) { (*static_cast<F*>(it->data))(); }, ms, 0); }
static bool signals(int number, F f) { auto* w = new uv_signal_t; uv_signal_init(loop, w); w->data = new F(f); return uv_signal_start(w, [](uv_signal_t* it, int) { (*static_cast<F*>(it->data))(); }, number) == 0; }
static void soon(F f) { auto* w = new uv_prepare_t; uv_prepare_init(loop, w); w->data = new F(f); uv_prepare_start(w, [](uv_prepare_t* it) { (*static_cast<F*>(it->data))(); }); }
// UV_RUN_ONCE runs the timers that are due first, and then waits: without this one for ever.
static const int ticks = [] { auto* w = new uv_timer_t; uv_timer_init(loop, w); return uv_timer_start(w, [](uv_timer_t*) {}, 5, 5); }();
static void run() { uv_run(loop, UV_RUN_ONCE); }
#elif defined GLIB
#include <glib-unix.h>
static gboolean again(void* it) { (*static_cast<F*>(it))(); return G_SOURCE_CONTINUE; }
static gboolean once(void* it) { (*static_cast<F*>(it))(); return G_SOURCE_REMOVE; }
static F watch(int fd, F f) { const guint w = g_unix_fd_add(fd, G_IO_IN, [](int, GIOCondition, void* it) { return again(it); }, new F(f)); return [w] { g_source_remove(w); }; }
static void timer(int ms, F f) { g_timeout_add(ms, once, new F(f)); }
static bool signals(int number, F f) { g_unix_signal_add(number, again, new F(f)); return true; }
struct Hook { GSource source; F* f; };
static GSourceFuncs hook{[](GSource* it, int*) -> gboolean { (*reinterpret_cast<Hook*>(it)->f)(); return FALSE; }, nullptr, [](GSource*, GSourceFunc, void*) -> gboolean { return TRUE; }};
static void soon(F f) { GSource* w = g_source_new(&hook, sizeof(Hook)); reinterpret_cast<Hook*>(w)->f = new F(f); g_source_attach(w, nullptr); }
static void run() { g_main_context_iteration(nullptr, TRUE); }
#elif defined SD_EVENT
#include <systemd/sd-event.h>
#include <sys/epoll.h>
static sd_event* event = [] { sd_event* it = nullptr; sd_event_new(&it); return it; }();
static F watch(int fd, F f) { sd_event_source* w = nullptr; sd_event_add_io(event, &w, fd, EPOLLIN, [](sd_event_source*, int, uint32_t, void* it) { (*static_cast<F*>(it))(); return 0; }, new F(f)); return [w] { sd_event_source_unref(w); }; }
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
static void soon(F f) {
    sd_event_source* w = nullptr;
    sd_event_add_post(event, &w, [](sd_event_source*, void*) { return 0; }, new F(f));
    sd_event_source_set_prepare(w, [](sd_event_source*, void* it) { (*static_cast<F*>(it))(); return 0; });
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
static F watch(int fd, F f) { auto* w = tevent_add_fd(event, event, fd, TEVENT_FD_READ, [](tevent_context*, tevent_fd*, uint16_t, void* it) { (*static_cast<F*>(it))(); }, new F(f)); return [w] { talloc_free(w); }; }
static void timer(int ms, F f) { tevent_add_timer(event, event, tevent_timeval_current_ofs(ms / 1000, ms % 1000 * 1000), [](tevent_context*, tevent_timer*, timeval, void* it) { (*static_cast<F*>(it))(); }, new F(f)); }
static bool signals(int number, F f) { return tevent_add_signal(event, event, number, 0, [](tevent_context*, tevent_signal*, int, int, void*, void* it) { (*static_cast<F*>(it))(); }, new F(f)) != nullptr; }
static void soon(F f) { tevent_schedule_immediate(tevent_create_immediate(event), event, [](tevent_context*, tevent_immediate*, void* it) { (*static_cast<F*>(it))(); }, new F(f)); }
static void run() { tevent_loop_once(event); }
#elif defined TCL
#include <tcl.h>
static void call(void* it) { (*static_cast<F*>(it))(); }
static const bool initialized = (Tcl_FindExecutable(""), true);
static F watch(int fd, F f) { Tcl_CreateFileHandler(fd, TCL_READABLE, [](void* it, int) { call(it); }, new F(f)); return [fd] { Tcl_DeleteFileHandler(fd); }; }
static void timer(int ms, F f) { Tcl_CreateTimerHandler(ms, call, new F(f)); }
static bool signals(int, F) { return false; }
static void soon(F f) { Tcl_CreateEventSource([](void* it, int) { call(it); }, [](void*, int) {}, new F(f)); }
static void run() { Tcl_DoOneEvent(0); }
#elif defined ASIO
#include <asio.hpp>
static asio::io_context context(1);
static void wait(asio::posix::stream_descriptor* w, F f) { w->async_wait(w->wait_read, [=](std::error_code error) { if (!error) f(), wait(w, f); }); }
static F watch(int fd, F f) { auto* w = new asio::posix::stream_descriptor(context, fd); wait(w, f); return [w] { delete w; }; }
static void timer(int ms, F f) { auto* w = new asio::steady_timer(context, std::chrono::milliseconds(ms)); w->async_wait([f](std::error_code) { f(); }); }
static void wait(asio::signal_set* w, F f) { w->async_wait([=](std::error_code, int) { f(); wait(w, f); }); }
static bool signals(int number, F f) { wait(new asio::signal_set(context, number), f); return true; }
static void soon(F f) { asio::post(context, f); }
static void run() { context.run_one(); }
#elif defined QT
#define QT_NO_KEYWORDS
#include <QAbstractEventDispatcher>
#include <QCoreApplication>
#include <QSocketNotifier>
#include <QTimer>
static int one = 1;
static char name[] = "loop", *words[] = {name, nullptr};
static QCoreApplication application(one, words);
static F watch(int fd, F f) { auto* w = new QSocketNotifier(fd, QSocketNotifier::Read); QObject::connect(w, &QSocketNotifier::activated, f); return [w] { delete w; }; }
static void timer(int ms, F f) { QTimer::singleShot(ms, f); }
static bool signals(int, F) { return false; }
static void soon(F f) { QObject::connect(QAbstractEventDispatcher::instance(), &QAbstractEventDispatcher::aboutToBlock, f); }
static void run() { QCoreApplication::processEvents(QEventLoop::WaitForMoreEvents); }
#elif defined IVYKIS
#define this self  // its headers are C alone
#include <iv.h>
#include <iv_signal.h>
#undef this
static std::function<bool()> until;  // iv_main knows no single iteration
static void call(void* it) { (*static_cast<F*>(it))(); if (!until || until()) iv_quit(); }
static const bool initialized = (iv_init(), true);
static F watch(int fd, F f) { auto* w = new iv_fd; IV_FD_INIT(w); w->fd = fd; w->cookie = new F(f); w->handler_in = call; iv_fd_register(w); return [w] { iv_fd_unregister(w); }; }
static void timer(int ms, F f) {
    auto* w = new iv_timer;
    IV_TIMER_INIT(w);
    w->expires = iv_now;
    const long nanoseconds = w->expires.tv_nsec + ms % 1000 * 1'000'000L;
    w->expires.tv_sec += ms / 1000 + nanoseconds / 1'000'000'000;
    w->expires.tv_nsec = nanoseconds % 1'000'000'000;
    w->cookie = new F(f);
    w->handler = call;
    iv_timer_register(w);
}
static bool signals(int number, F f) { auto* w = new iv_signal; IV_SIGNAL_INIT(w); w->signum = number; w->flags = 0; w->cookie = new F(f); w->handler = call; return iv_signal_register(w) == 0; }
static void soon(F f) { auto* w = new iv_task; IV_TASK_INIT(w); w->cookie = new F(f); w->handler = call; iv_task_register(w); }
static void run() { iv_main(); }
#elif defined ACE_LOOP
#include <ace/Event_Handler.h>
#include <ace/Reactor.h>
struct Handler : ACE_Event_Handler {
    Handler(F f, int fd = -1) : f(f), fd(fd) {}
    ACE_HANDLE get_handle() const override { return fd; }
    int handle_input(ACE_HANDLE) override { return f(), 0; }
    int handle_timeout(const ACE_Time_Value&, const void*) override { return f(), 0; }
    int handle_signal(int, siginfo_t*, ucontext_t*) override { return f(), 0; }
    int handle_exception(ACE_HANDLE) override { return f(), 0; }
    F f;
    int fd;
};
static ACE_Reactor& loop() { return *ACE_Reactor::instance(); }
static F watch(int fd, F f) { auto* w = new Handler(f, fd); loop().register_handler(w, ACE_Event_Handler::READ_MASK); return [w] { loop().remove_handler(w, ACE_Event_Handler::READ_MASK | ACE_Event_Handler::DONT_CALL); }; }
static void timer(int ms, F f) { loop().schedule_timer(new Handler(f), nullptr, ACE_Time_Value(ms / 1000, ms % 1000 * 1000)); }
static bool signals(int number, F f) { return loop().register_handler(number, new Handler(f)) == 0; }
static void soon(F f) { loop().notify(new Handler(f), ACE_Event_Handler::EXCEPT_MASK); }
static void run() { loop().handle_events(); }
#elif defined POCO
// Its reactor has no timers and runs in a thread, and so do its timers: they wait while the main thread is not in run().
#define SOCKETS
#include <Poco/NObserver.h>
#include <Poco/Net/SocketNotification.h>
#include <Poco/Net/SocketReactor.h>
#include <Poco/Net/StreamSocket.h>
#include <Poco/Net/StreamSocketImpl.h>
#include <Poco/Thread.h>
#include <Poco/Util/Timer.h>
#include <Poco/Util/TimerTask.h>
static std::mutex mutex;
static std::condition_variable called;
static std::unique_lock<std::mutex> held(mutex);
static void call(F& f) { const std::lock_guard lock(mutex); f(); called.notify_one(); }
struct Socket : Poco::Net::StreamSocket { explicit Socket(int fd) : StreamSocket(new Poco::Net::StreamSocketImpl(fd)) {} };
struct Handler { void ready(const Poco::AutoPtr<Poco::Net::ReadableNotification>&) { call(f); } F f; };
struct Task : Poco::Util::TimerTask { explicit Task(F f) : f(f) {} void run() override { call(f); } F f; };
static Poco::Net::SocketReactor& reactor = *new Poco::Net::SocketReactor(Poco::Timespan(0, 5000));
static Poco::Util::Timer& timers = *new Poco::Util::Timer;
static void start() { static auto* thread = new Poco::Thread; if (!thread->isRunning()) thread->start(reactor); }
static F watch(int fd, F f) {
    auto* socket = new Socket(fd);
    auto* observer = new Poco::NObserver<Handler, Poco::Net::ReadableNotification>(*new Handler{f}, &Handler::ready);
    reactor.addEventHandler(*socket, *observer);
    start();
    return [=] { reactor.removeEventHandler(*socket, *observer); };
}
static void timer(int ms, F f) { timers.schedule(new Task(f), Poco::Timestamp() + ms * 1000); }
static bool signals(int, F) { return false; }
static void run() { called.wait(held); }
#endif

struct Pipe {
#ifdef SOCKETS
    Pipe() { if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) std::exit(2); }
#else
    Pipe() { if (pipe2(ends, O_NONBLOCK) != 0) std::exit(2); }
#endif
    void fill() { (void)!write(ends[1], "x", 1); }
    void drain() { char byte; (void)!read(ends[0], &byte, 1); }
    int ends[2];
};
static void run_until(const std::function<bool()>& condition) {
#ifdef IVYKIS
    until = condition;
#endif
    while (!condition()) run();
#ifdef IVYKIS
    until = nullptr;
#endif
}
static double milliseconds(Clock::duration it) { return std::chrono::duration<double, std::milli>(it).count(); }
C

try() {
    local name=$1
    shift
    "${CXX:-c++}" -std=gnu++20 -O1 -w "-D$name" -isystem "$include" -isystem "$include/$triplet" \
        -o "$folder/$name" "$folder/loop.cpp" -L"$libraries" \
        -Wl,--disable-new-dtags,-rpath,"$libraries" "$@" 2>"$folder/compiler" ||
        cannot "$name does not compile: $(grep -m 1 error "$folder/compiler" || true)"
    local missing
    missing=$(ldd "$folder/$name" | awk '/not found/ { print $1 }' | tr '\n' ' ')
    [ -z "$missing" ] || cannot "the packages need libraries that are not installed: $missing"
    bounded "$folder/$name" "$name"
}

try_all() {
    try LIBEVENT -levent_core
    try LIBEV -lev
    try LIBUV -luv
    try GLIB -isystem "$include/glib-2.0" -isystem "$libraries/glib-2.0/include" -lglib-2.0
    try SD_EVENT -lsystemd
    try TEVENT -ltevent -ltalloc
    try TCL -isystem "$include/tcl8.6" -ltcl8.6
    try ASIO -pthread
    try QT -fPIC -isystem "$include/$triplet/qt5" -isystem "$include/$triplet/qt5/QtCore" -lQt5Core
    try IVYKIS -livykis
    try ACE_LOOP -lACE
    try POCO -lPocoNet -lPocoUtil -lPocoFoundation -pthread
}

try_twisted() {
    [ -x /usr/bin/python3 ] || cannot "there is no /usr/bin/python3"
    bounded env PYTHONPATH="$folder/root/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1 \
        LD_PRELOAD="${preloaded:-}" /usr/bin/python3 "$1"
}
