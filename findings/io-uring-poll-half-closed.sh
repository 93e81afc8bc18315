#!/bin/bash
# A poll through io_uring for room to write completes at once when the peer has shut its side, however full the socket.
#
# Expected: IORING_OP_POLL_ADD for POLLOUT completes when there is room to write, or an error or a hang-up, as poll(2)
#   and epoll say. A peer that has only shut its own side (shutdown(SHUT_WR), a half-close) leaves the other direction as
#   it was; POLLRDHUP is said to who asked for it.
# Happens: the request completes at once with POLLRDHUP alone, and so does each that follows it. poll(2) and epoll wait
#   for room on the same socket.
# Who meets it: loops that ask a ring for readiness and ask again after each completion: while a client that has shut its
#   side reads slowly, as with a request and a large answer, the loop spins at full speed.
# Seen with: Linux 6.18.44, liburing2 2.3-3.
# Sources: io_uring_prep_poll_add(3) of liburing 2.3 and poll(2) of man-pages 6.03, which do not speak of it.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages liburing-dev=2.3-3 liburing2=2.3-3

cat >"$folder/polled.c" <<'C'
#include <arpa/inet.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char much[100000];

int main(void) {
    struct io_uring ring;
    if (io_uring_queue_init(8, &ring, 0) != 0) {
        fprintf(stderr, "no ring can be made here\n");
        return 77;
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    bind(listener, (struct sockaddr*)&address, size);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr*)&address, &size);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    connect(client, (struct sockaddr*)&address, size);
    int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    while (send(server, much, sizeof much, MSG_NOSIGNAL) > 0) continue;  // the client reads nothing
    shutdown(client, SHUT_WR);

    struct pollfd entry = {.fd = server, .events = POLLOUT};
    printf("poll(2): %s\n", poll(&entry, 1, 200) == 0 ? "waits" : "ready");
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLOUT};
    epoll_ctl(epoll, EPOLL_CTL_ADD, server, &event);
    printf("epoll: %s\n", epoll_wait(epoll, &event, 1, 200) == 0 ? "waits" : "ready");
    for (int i = 0; i < 3; ++i) {
        io_uring_prep_poll_add(io_uring_get_sqe(&ring), server, POLLOUT);
        io_uring_submit(&ring);
        struct io_uring_cqe* completion;
        struct __kernel_timespec limit = {.tv_nsec = 200000000};
        if (io_uring_wait_cqe_timeout(&ring, &completion, &limit) != 0) {
            printf("io_uring: waits\n");
            break;
        }
        printf("io_uring: %s\n", completion->res == POLLRDHUP ? "ready, POLLRDHUP alone" : "ready");
        io_uring_cqe_seen(&ring, completion);
    }
}
C
build polled -I"$include" -L"$libraries" -luring -Wl,-rpath,"$libraries"
versions
bounded "$folder/polled"
verdict <<'END'
poll(2): waits
epoll: waits
io_uring: ready, POLLRDHUP alone
io_uring: ready, POLLRDHUP alone
io_uring: ready, POLLRDHUP alone
END
