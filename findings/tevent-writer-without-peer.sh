#!/bin/bash
# tevent does not call a handler that watches only for writing when the peer is gone or a connection is refused.
#
# Expected: as in other loops, a handler for TEVENT_FD_WRITE is called when the descriptor has an error or has hung
#   up, since a write would not block: it would fail, and say why.
# Happens: it is not called, and nothing says why. tevent takes the TEVENT_FD_WRITE flag away and goes on waiting. It
#   is so in the epoll and in the poll backend, for a Unix peer that has closed and for a TCP connection that is
#   refused. With TEVENT_FD_READ as well, the handler is called.
# Who meets it: programs on tevent (Samba, sssd, ctdb and their plugins) that wait with TEVENT_FD_WRITE alone for a
#   connection that is being made or for room to write; adapters of other libraries to tevent that pass on just the
#   wish to write.
# Seen with: libtevent0 0.14.1-1, Linux 6.18.44.
# Sources: tevent.h of libtevent-dev 0.14.1-1, which calls TEVENT_FD_WRITE "write availability"; the comments on
#   errors in tevent's tevent_epoll.c and tevent_poll.c, which give select(2) as the reason (but select does call a
#   descriptor with an error writable).
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libtevent-dev=0.14.1-1 libtevent0=0.14.1-1 libtalloc-dev=2.4.0-f2 libtalloc2=2.4.0-f2

cat >"$folder/writer.c" <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <talloc.h>
#include <tevent.h>

static int calls;
static bool over;

static void ready(struct tevent_context* loop, struct tevent_fd* watch, uint16_t flags, void* data) {
    ++calls;
    over = true;
}

static void enough(struct tevent_context* loop, struct tevent_timer* timer, struct timeval now, void* data) {
    over = true;
}

static int closed_peer(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return -1;
    close(pair[1]);
    return pair[0];
}

static int refused(void) {
    int other = socket(AF_INET, SOCK_STREAM, 0), made = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(other, (struct sockaddr*)&address, length);  // bound, and does not listen
    getsockname(other, (struct sockaddr*)&address, &length);
    connect(made, (struct sockaddr*)&address, length);
    close(other);
    return made;
}

static bool select_says_writable(int descriptor) {
    fd_set writable;
    FD_ZERO(&writable);
    FD_SET(descriptor, &writable);
    struct timeval none = {0, 0};
    return select(descriptor + 1, NULL, &writable, NULL, &none) == 1;
}

static void try(const char* backend, const char* name, int descriptor, uint16_t flags) {
    struct tevent_context* loop = tevent_context_init_byname(NULL, backend);
    struct tevent_fd* watch = tevent_add_fd(loop, loop, descriptor, flags, ready, NULL);
    tevent_add_timer(loop, loop, tevent_timeval_current_ofs(0, 300000), enough, NULL);
    calls = 0;
    for (over = false; !over;) tevent_loop_once(loop);
    printf("%s, %s, %s: select %s, the handler is %s, flags afterwards:%s%s%s\n", backend, name,
           flags == TEVENT_FD_WRITE ? "WRITE" : "READ and WRITE",
           select_says_writable(descriptor) ? "writable" : "not writable",
           calls ? "called" : "not called", tevent_fd_get_flags(watch) & TEVENT_FD_READ ? " READ" : "",
           tevent_fd_get_flags(watch) & TEVENT_FD_WRITE ? " WRITE" : "", tevent_fd_get_flags(watch) ? "" : " none");
    talloc_free(loop);
    close(descriptor);
}

int main(void) {
    const char* backends[] = {"epoll", "poll"};
    for (int i = 0; i < 2; ++i) {
        try(backends[i], "peer closed", closed_peer(), TEVENT_FD_WRITE);
        try(backends[i], "refused", refused(), TEVENT_FD_WRITE);
        try(backends[i], "refused", refused(), TEVENT_FD_READ | TEVENT_FD_WRITE);
    }
}
C
build writer -I"$include" -L"$libraries" -ltevent -ltalloc -Wl,-rpath,"$libraries"
versions
bounded "$folder/writer"
verdict <<'END'
epoll, peer closed, WRITE: select writable, the handler is not called, flags afterwards: none
epoll, refused, WRITE: select writable, the handler is not called, flags afterwards: none
epoll, refused, READ and WRITE: select writable, the handler is called, flags afterwards: READ WRITE
poll, peer closed, WRITE: select writable, the handler is not called, flags afterwards: none
poll, refused, WRITE: select writable, the handler is not called, flags afterwards: none
poll, refused, READ and WRITE: select writable, the handler is called, flags afterwards: READ WRITE
END
