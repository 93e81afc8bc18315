#!/bin/bash
# Thirteen event loops differ in nine habits that programs rely on without knowing it.
#
# Expected: descriptors that are ready at once are called in the order in which they became ready, or were registered;
#   timers of the same length, and hooks, in the order in which they were started; a timer of zero that starts itself
#   again lets descriptors be called in between; five signals are five calls; a timer of 10 ms takes 10 ms, from a
#   callback that has worked for 20 ms too; the clock is the monotonic one; a child of fork that stops watching a
#   descriptor changes nothing for its parent.
# Happens: none of them does all of this. reactor/MIGRATING.md has the table. The signals are raised in a callback, at
#   once. "Early by 3 ms" is of a timer that is started 3 ms after an iteration: the loop's clock is that of the
#   iteration. The clock is seen by a wall clock that is set one hour forward under a timer of 2 s. The child unregisters
#   what it has inherited, and ends: where the loop is an epoll set, that is the parent's.
# Who meets it: programs that are moved from one loop to another.
# Seen with: Debian 12, Linux 6.18.44; the versions are below.
# Sources: each loop's manual, which says nothing of most of this.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/loops.sh"

# A wall clock that the program sets for itself alone.
cat >"$folder/wall.h" <<'C'
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static time_t shift;
#ifdef __cplusplus
extern "C" {
#endif
int clock_gettime(clockid_t clock, struct timespec* now) {
    const long result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += shift;
    return (int)result;
}
int gettimeofday(struct timeval* now, void*) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t* result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
void shift_the_wall_clock(long seconds) { shift = seconds; }
#ifdef __cplusplus
}
#endif
C

cat >"$folder/loop.cpp" <<'C'
#include "wall.h"
#include "loop.hpp"

#include <sys/wait.h>

int main(int, char** word) {
    alarm(20);
    std::string order;
    {
        static Pipe pipes[3];
        for (int i = 0; i < 3; ++i) watch(pipes[i].ends[0], [&, i] { pipes[i].drain(); order += char('1' + i); });
        timer(1, [] {});
        run();
#ifdef POCO  // the loop is busy while they become ready
        static Pipe gate;
        watch(gate.ends[0], [&] { gate.drain(); });
        gate.fill();
        usleep(50'000);
#endif
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

    std::string hooks = "none";
#if !defined POCO
    hooks = "";
    for (int i = 0; i < 3; ++i) soon([&, i] { if (hooks.size() < 3) hooks += char('1' + i); });
    timer(5, [] {});
    run_until([&] { return hooks.size() == 3; });
#endif

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
        usleep(3300);  // after the last iteration
        const auto start = Clock::now();
        timer(10, [&, start] { earliest = std::max(earliest, 10 - milliseconds(Clock::now() - start)); fired = true; });
        run_until([&] { return fired; });
    }
    bool jumped = false;
    timer(2000, [&] { jumped = true; });
    static Pipe tick;  // so that no wait of the kernel's ends by this clock
    int ticks_seen = 0;
    watch(tick.ends[0], [&] { tick.drain(); ++ticks_seen; });
    shift_the_wall_clock(3600);
    for (int i = 1; i <= 10; ++i) {
        usleep(5000);
        tick.fill();
        run_until([&] { return ticks_seen == i; });
    }
    shift_the_wall_clock(0);

    static Pipe inherited;
    bool heard = false;
    over = false;
    const F stop = watch(inherited.ends[0], [&] { inherited.drain(); heard = true; });
    timer(5, [&] { over = true; });
    run_until([&] { return over; });
    const pid_t child = fork();
    if (child == 0) alarm(5), stop(), _exit(0);
    waitpid(child, nullptr, 0);
    inherited.fill();
    over = false;
    timer(100, [&] { over = true; });
    run_until([&] { return over || heard; });

#ifdef POCO
    const char* const zero_timers = "have a thread";
#elif defined ACE_LOOP  // by a clock that goes on: those that fall due while it calls others, those of one microsecond
    const char* const zero_timers = zeros == 1000 ? "all" : "1 or more";
    if (equal == "123" || equal == "132") equal = "123 or 132";
#else
    const char* const zero_timers = zeros == 0 ? "0" : zeros == 1 ? "1" : zeros == 1000 ? "all" : "some";
#endif
    std::printf("%s: ready %s, timers %s, hooks %s, zero timers before a descriptor %s, five signals %s\n"
                "    10 ms after 20 ms of work: %s, early by %s, %s clock, after a child has tidied up the parent %s\n",
                word[1], order.c_str(), equal.c_str(), hooks.c_str(), zero_timers,
                has_signals ? (calls == 5 ? "5 calls" : calls == 1 ? "1 call" : "fewer calls") : "none",
                after_work < 9 ? "early" : "on time", earliest <= 0 ? "nothing" : earliest < 1.1 ? "at most 1 ms" : earliest > 2 ? "3 ms or more" : "some ms",
                jumped ? "wall" : "monotonic", heard ? "hears" : "is deaf");
    std::fflush(stdout);
    _exit(0);
}
C

cat >"$folder/habits.py" <<'P'
import ctypes
import os
import time
from twisted.internet import reactor

try:
    shift = ctypes.CDLL(None).shift_the_wall_clock
except AttributeError:
    raise SystemExit(77)
reactor.startRunning(installSignalHandlers=False)


def run():  # as reactor.mainLoop does
    reactor.doIteration(reactor.timeout())
    reactor.runUntilCurrent()


def run_until(condition):
    while not condition():
        run()


class Pipe:
    def __init__(self, call):
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.call = call
        reactor.addReader(self)

    def fileno(self):
        return self.reading

    def logPrefix(self):
        return "pipe"

    def connectionLost(self, reason):
        pass

    def doRead(self):
        os.read(self.reading, 1)
        self.call()

    def fill(self):
        os.write(self.writing, b"x")


order = []
pipes = [Pipe(lambda name=name: order.append(name)) for name in "123"]
reactor.callLater(0.001, lambda: None)
run()
for i in (2, 0, 1):
    pipes[i].fill()
run_until(lambda: len(order) == 3)

equal = []
for name in "123":
    reactor.callLater(0.005, equal.append, name)
run_until(lambda: len(equal) == 3)

zeros, ready = 0, []
pipe = Pipe(lambda: ready.append(True))
reactor.callLater(0.001, lambda: None)
run()
pipe.fill()


def zero():
    global zeros
    if not ready and zeros < 1000:
        zeros += 1
        reactor.callLater(0, zero)


reactor.callLater(0, zero)
run_until(lambda: ready)

hooks = []
for name in "123":
    reactor.callFromThread(hooks.append, name)
run_until(lambda: len(hooks) == 3)

took = []


def work():
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass
    start = time.monotonic()
    reactor.callLater(0.01, lambda: took.append(time.monotonic() - start))


reactor.callLater(0.001, work)
run_until(lambda: took)

earliest = 0
for _ in range(30):
    fired = []
    time.sleep(0.0033)
    start = time.monotonic()
    reactor.callLater(0.01, lambda: fired.append(time.monotonic()))
    run_until(lambda: fired)
    earliest = max(earliest, 0.01 - (fired[0] - start))

jumped = []
reactor.callLater(2, jumped.append, True)
ticks = []
tick = Pipe(lambda: ticks.append(True))
shift(3600)
for i in range(10):
    time.sleep(0.005)
    tick.fill()
    run_until(lambda: len(ticks) > i)
shift(0)
was_wall = bool(jumped)

heard, over = [], []
inherited = Pipe(lambda: heard.append(True))
child = os.fork()
if child == 0:
    reactor.removeReader(inherited)
    os._exit(0)
os.waitpid(child, 0)
inherited.fill()
reactor.callLater(0.1, over.append, True)
run_until(lambda: heard or over)

print(f"TWISTED: ready {''.join(order)}, timers {''.join(equal)}, hooks {''.join(hooks)}, zero timers before a descriptor "
      f"{'all' if zeros == 1000 else zeros}, five signals none\n    10 ms after 20 ms of work: "
      f"{'early' if took[0] < 0.009 else 'on time'}, early by "
      f"{'nothing' if earliest <= 0 else 'at most 1 ms' if earliest < 0.0011 else 'some ms'}, "
      f"{'wall' if was_wall else 'monotonic'} clock, after a child has tidied up the parent {'hears' if heard else 'is deaf'}",
      flush=True)
os._exit(0)
P

versions
try_all
cp "$folder/wall.h" "$folder/wall.so.c"
build wall.so -std=gnu2x -shared -fPIC
preloaded=$folder/wall.so
try_twisted "$folder/habits.py"
verdict <<'END'
LIBEVENT: ready 312, timers 132, hooks 123, zero timers before a descriptor 0, five signals 5 calls
    10 ms after 20 ms of work: early, early by nothing, monotonic clock, after a child has tidied up the parent is deaf
LIBEV: ready 213, timers 132, hooks 321, zero timers before a descriptor 1, five signals 1 call
    10 ms after 20 ms of work: early, early by 3 ms or more, monotonic clock, after a child has tidied up the parent hears
LIBUV: ready 312, timers 123, hooks 321, zero timers before a descriptor all, five signals 5 calls
    10 ms after 20 ms of work: early, early by 3 ms or more, monotonic clock, after a child has tidied up the parent is deaf
GLIB: ready 123, timers 123, hooks 123, zero timers before a descriptor 0, five signals 1 call
    10 ms after 20 ms of work: on time, early by nothing, monotonic clock, after a child has tidied up the parent hears
SD_EVENT: ready 321, timers 123, hooks 123, zero timers before a descriptor 0, five signals 1 call
    10 ms after 20 ms of work: early, early by 3 ms or more, monotonic clock, after a child has tidied up the parent hears
TEVENT: ready 312, timers 123, hooks 123, zero timers before a descriptor all, five signals 1 call
    10 ms after 20 ms of work: on time, early by nothing, wall clock, after a child has tidied up the parent hears
TCL: ready 321, timers 123, hooks 321, zero timers before a descriptor 0, five signals none
    10 ms after 20 ms of work: on time, early by nothing, wall clock, after a child has tidied up the parent hears
ASIO: ready 312, timers 123, hooks 123, zero timers before a descriptor 0, five signals 5 calls
    10 ms after 20 ms of work: on time, early by nothing, monotonic clock, after a child has tidied up the parent is deaf
QT: ready 123, timers 123, hooks 123, zero timers before a descriptor 1, five signals none
    10 ms after 20 ms of work: on time, early by nothing, monotonic clock, after a child has tidied up the parent hears
IVYKIS: ready 312, timers 132, hooks 123, zero timers before a descriptor 1, five signals 1 call
    10 ms after 20 ms of work: on time, early by nothing, monotonic clock, after a child has tidied up the parent is deaf
ACE_LOOP: ready 123, timers 123 or 132, hooks 123, zero timers before a descriptor 1 or more, five signals 5 calls
    10 ms after 20 ms of work: on time, early by nothing, wall clock, after a child has tidied up the parent hears
POCO: ready 123, timers 123, hooks none, zero timers before a descriptor have a thread, five signals none
    10 ms after 20 ms of work: on time, early by nothing, monotonic clock, after a child has tidied up the parent is deaf
TWISTED: ready 312, timers 123, hooks 123, zero timers before a descriptor 0, five signals none
    10 ms after 20 ms of work: on time, early by nothing, wall clock, after a child has tidied up the parent is deaf
END
