#!/bin/bash
# Closing an io_uring makes a later wait of the same thread fail with EINTR, although there is no signal.
#
# Expected: close(2) of a ring on which nothing is under way ends it. EINTR means that a signal handler has run; a
#   program that has blocked every signal never sees it.
# Happens: the kernel takes the ring apart in a worker, which then sends the thread that used it a task of its own. That
#   task ends the next wait of the thread: one epoll_wait fails with EINTR for each ring, with all signals blocked. So
#   it is with a ring that was only set up, and never entered.
# Who meets it: programs that treat EINTR as "a signal has come" or as an error, tests that count wake-ups, and
#   libraries that make a ring only to see whether io_uring is allowed, and close it again.
# Seen with: Linux 6.18.44, liburing2 2.3-3.
# Sources: io_uring_queue_exit(3) of liburing 2.3, epoll_wait(2) and signal(7) of man-pages 6.03, which do not speak of
#   it.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages liburing-dev=2.3-3 liburing2=2.3-3

cat >"$folder/closed.c" <<'C'
#include <errno.h>
#include <liburing.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { rings = 20, waits = 3 };

// How many of the waits that follow a ring's end are interrupted.
static int interrupted(int enters) {
    int count = 0;
    for (int i = 0; i < rings; ++i) {
        struct io_uring ring;
        if (io_uring_queue_init(8, &ring, 0) != 0) return -1;
        if (enters) {
            io_uring_prep_nop(io_uring_get_sqe(&ring));
            struct io_uring_cqe* completion;
            if (io_uring_submit(&ring) != 1 || io_uring_wait_cqe(&ring, &completion) != 0) return -1;
            io_uring_cqe_seen(&ring, completion);
        }
        io_uring_queue_exit(&ring);
        struct epoll_event event;
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        for (int k = 0; k < waits; ++k) count += epoll_wait(epoll, &event, 1, 50) < 0 && errno == EINTR;
        close(epoll);
    }
    return count;
}

int main(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    int unused = interrupted(0), used = interrupted(1);
    if (unused < 0 || used < 0) {
        fprintf(stderr, "no ring can be made here\n");
        return 77;
    }
    printf("rings that were never entered, a wait for each is interrupted: %s\n", unused == rings ? "yes" : "no");
    printf("rings that were entered, a wait for each is interrupted: %s\n", used == rings ? "yes" : "no");
}
C
build closed -I"$include" -L"$libraries" -luring -Wl,-rpath,"$libraries"
versions
bounded "$folder/closed"
verdict <<'END'
rings that were never entered, a wait for each is interrupted: yes
rings that were entered, a wait for each is interrupted: yes
END
