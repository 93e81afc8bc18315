#!/bin/bash
# A read through io_uring waits although O_NONBLOCK is set, and a terminal has no read that only tries.
#
# Expected: O_NONBLOCK means EAGAIN when there is nothing to read. io_uring may wait where the file's driver can read
#   without blocking (sockets, pipes, eventfd), but for kinds that cannot (inotify, terminals) it has nothing else to
#   go by than the flag, and the completion is -EAGAIN at once.
# Happens: each of them waits, until data comes or the request is cancelled, although read(2) on the same descriptor
#   says EAGAIN. It is so for accept on a listening socket as well. RWF_NOWAIT in the request brings EAGAIN back for
#   sockets, pipes and eventfds. On a terminal and an inotify descriptor it fails with EOPNOTSUPP, with data and
#   without: no flag of a read makes it only try there.
# Who meets it: event loops that move from epoll to io_uring step by step and "try first, then wait" on descriptors
#   that are O_NONBLOCK for epoll's sake: the try never completes, and its buffer is in use until it is cancelled.
# Seen with: Linux 6.18.44, liburing2 2.3-3.
# Sources: io_uring_enter(2), io_uring_prep_read(3) and io_uring_prep_accept(3) of liburing 2.3, which do not speak of
#   O_NONBLOCK; RWF_NOWAIT in readv(2) of man-pages 6.03.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages liburing-dev=2.3-3 liburing2=2.3-3

cat >"$folder/reads.c" <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

static char room[4096];

// What a read or an accept through a ring gives within 100 ms.
static const char* through_ring(int descriptor, int accepts, int flags) {
    struct io_uring ring;
    int error = io_uring_queue_init(4, &ring, 0);
    if (error != 0) {
        fprintf(stderr, "io_uring cannot be used here: %s\n", strerror(-error));
        exit(77);
    }
    struct io_uring_sqe* request = io_uring_get_sqe(&ring);
    if (accepts) io_uring_prep_accept(request, descriptor, NULL, NULL, 0);
    else io_uring_prep_read(request, descriptor, room, sizeof room, -1);
    if (!accepts) request->rw_flags = flags;
    io_uring_submit(&ring);
    struct io_uring_cqe* completion;
    struct __kernel_timespec limit = {0, 100000000};
    const char* result = "waits";
    if (io_uring_wait_cqe_timeout(&ring, &completion, &limit) == 0)
        result = completion->res < 0 ? strerrorname_np(-completion->res) : "data";
    io_uring_queue_exit(&ring);
    return result;
}

static void try(const char* name, int descriptor, int other) {
    if (descriptor < 0) exit(1);
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
    const char* plain = read(descriptor, room, sizeof room) < 0 ? strerrorname_np(errno) : "data";
    printf("%s: read(2) %s, ring: %s", name, plain, through_ring(descriptor, 0, 0));
    printf(", with RWF_NOWAIT: %s", through_ring(descriptor, 0, RWF_NOWAIT));
    if (write(other, "12345678", 8) != 8) exit(1);
    usleep(20000);
    printf("; with data: ring with RWF_NOWAIT: %s\n", through_ring(descriptor, 0, RWF_NOWAIT));
}

int main(int count, char** values) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    try("Unix socket", pair[0], pair[1]);
    if (pipe(pair) != 0) return 1;
    try("pipe", pair[0], pair[1]);
    int event = eventfd(0, 0);
    try("eventfd", event, event);
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return 77;
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    struct termios settings;
    tcgetattr(terminal, &settings);
    cfmakeraw(&settings);
    tcsetattr(terminal, TCSANOW, &settings);
    try("terminal", terminal, master);
    if (count != 2 || chdir(values[1]) != 0) return 1;
    int file = open("watched", O_CREAT | O_WRONLY, 0600), notify = inotify_init1(0);
    inotify_add_watch(notify, "watched", IN_MODIFY);
    try("inotify", notify, file);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bind(listener, (struct sockaddr*)&address, sizeof address);
    listen(listener, 1);
    const char* plain = accept(listener, NULL, NULL) < 0 ? strerrorname_np(errno) : "a connection";
    printf("listening socket: accept(2) %s, ring: %s\n", plain, through_ring(listener, 1, 0));
}
C
build reads -I"$include" -L"$libraries" -luring -Wl,-rpath,"$libraries"
versions
mkdir "$folder/files"
bounded "$folder/reads" "$folder/files"
verdict <<'END'
Unix socket: read(2) EAGAIN, ring: waits, with RWF_NOWAIT: EAGAIN; with data: ring with RWF_NOWAIT: data
pipe: read(2) EAGAIN, ring: waits, with RWF_NOWAIT: EAGAIN; with data: ring with RWF_NOWAIT: data
eventfd: read(2) EAGAIN, ring: waits, with RWF_NOWAIT: EAGAIN; with data: ring with RWF_NOWAIT: data
terminal: read(2) EAGAIN, ring: waits, with RWF_NOWAIT: EOPNOTSUPP; with data: ring with RWF_NOWAIT: EOPNOTSUPP
inotify: read(2) EAGAIN, ring: waits, with RWF_NOWAIT: EOPNOTSUPP; with data: ring with RWF_NOWAIT: EOPNOTSUPP
listening socket: accept(2) EAGAIN, ring: waits
END
