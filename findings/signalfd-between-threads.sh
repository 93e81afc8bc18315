#!/bin/bash
# A thread that waits on a shared epoll descriptor takes the readiness of a signalfd away from the thread that the
# signal is for.
#
# Expected: a signal that is pending for thread B makes a level-triggered signalfd ready for B, whoever asked before.
#   A thread A for which nothing is pending gets nothing from epoll_wait(2), and that changes nothing for B.
# Happens: when A asks first, epoll finds the signalfd not readable in A, and forgets that it was ready. B then gets
#   nothing from epoll_wait, not even after waiting, though poll(2) says POLLIN in B and a read there gives the
#   signal. When B asks first, B gets it, again and again.
# Who meets it: programs with several threads in epoll_wait on one descriptor and signals that are directed to one of
#   them (pthread_kill, tgkill, timer_create with SIGEV_THREAD_ID, F_SETOWN_EX with a thread).
# Seen with: Linux 6.18.44.
# Sources: "Thread semantics" and "epoll(7) semantics" in signalfd(2) of man-pages 6.03, which speak of reads by
#   threads and of epoll after a fork; epoll(7).
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/threads.c" <<'C'
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int signals, epoll;
static pthread_barrier_t turn;

static void* thread_b(void* unused) {
    pthread_barrier_wait(&turn);  // the signal comes, and A may ask
    pthread_barrier_wait(&turn);
    struct epoll_event event;
    struct pollfd asked = {signals, POLLIN, 0};
    printf("  B: epoll_wait %d", epoll_wait(epoll, &event, 1, 0));
    printf(", again for 200 ms %d", epoll_wait(epoll, &event, 1, 200));
    printf(", poll %d", poll(&asked, 1, 0));
    struct signalfd_siginfo info;
    printf(", read gives %s\n", read(signals, &info, sizeof info) == sizeof info ? "the signal" : "nothing");
    return unused;
}

int main(void) {
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    for (int a_asks = 0; a_asks < 2; ++a_asks) {
        signals = signalfd(-1, &blocked, SFD_NONBLOCK | SFD_CLOEXEC);
        epoll = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN};
        epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &event);
        pthread_barrier_init(&turn, NULL, 2);
        pthread_t b;
        pthread_create(&b, NULL, thread_b, NULL);
        pthread_barrier_wait(&turn);
        pthread_kill(b, SIGUSR1);
        printf("a signal for B, %s\n", a_asks ? "A asks first" : "B asks first");
        if (a_asks) printf("  A: epoll_wait %d\n", epoll_wait(epoll, &event, 1, 0));
        pthread_barrier_wait(&turn);
        pthread_join(b, NULL);
        close(epoll);
        close(signals);
    }
}
C
build threads -pthread
versions
bounded "$folder/threads"
verdict <<'END'
a signal for B, B asks first
  B: epoll_wait 1, again for 200 ms 1, poll 1, read gives the signal
a signal for B, A asks first
  A: epoll_wait 0
  B: epoll_wait 0, again for 200 ms 0, poll 1, read gives the signal
END
