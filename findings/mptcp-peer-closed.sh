#!/bin/bash
# A peer that has closed an MPTCP connection goes on taking what is sent to it, without a reset.
#
# Expected: as over TCP. When the peer has closed and more is sent to it, its kernel resets the connection; a moment
#   later epoll(7) says EPOLLERR and EPOLLHUP, and the next send fails with EPIPE.
# Happens: each send succeeds. Within seconds no reset comes and epoll says no more than EPOLLIN, EPOLLOUT and
#   EPOLLRDHUP. A sender that does not wait fills the buffers of both sides (about 4 MB here) and then gets EAGAIN, as
#   from a peer that reads slowly. In a run of 80 s the error came after 62 s.
# Who meets it: servers that stream to clients which leave (downloads, events, subscriptions), where the listener was
#   made with IPPROTO_MPTCP; Go programs since Go 1.24 make theirs so, and mptcpize and systemd's SocketProtocol=mptcp
#   do it to others.
# Seen with: Linux 6.18.44.
# Sources: tcp(7); close_timeout (60 s) in the kernel's Documentation/networking/mptcp-sysctl.rst, which speaks of
#   sockets that nobody closed; RFC 8684, section 3.3.3, on closing a connection.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/closed.c" <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int make(int protocol) {
    int made = socket(AF_INET, SOCK_STREAM, protocol);
    if (made < 0) {
        fprintf(stderr, "this kernel has no MPTCP, or it is switched off\n");
        exit(77);
    }
    return made;
}

static int events_of(int socket) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP};
    epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event);
    int count = epoll_wait(epoll, &event, 1, 0);
    close(epoll);
    return count == 1 ? (int)event.events : 0;
}

static void try(const char* name, int protocol) {
    int listener = make(protocol), client = make(protocol);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr*)&address, length);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr*)&address, &length);
    if (connect(client, (struct sockaddr*)&address, length) != 0) exit(1);
    int server = accept(listener, NULL, NULL);
    char bytes[100000];
    memset(bytes, 'x', sizeof bytes);
    // Data in both directions first, so that the connection is established on all levels.
    send(client, bytes, 1, 0);
    recv(server, bytes, 1, 0);
    send(server, bytes, 1, 0);
    recv(client, bytes, 1, 0);
    close(client);
    usleep(100000);

    int failed = 0, good = 0;
    for (int tenth = 0; tenth < 30 && !failed; ++tenth) {
        if (send(server, bytes, 1000, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) ++good;
        else failed = errno;
        usleep(100000);
    }
    int events = events_of(server);
    printf("%s: after the close %s, then %s; epoll says%s%s%s\n", name,
           good == 30 ? "30 of 30 sends in 3 s succeeded" : "at most 2 sends succeeded",
           failed ? strerrorname_np(failed) : "no error", events & EPOLLRDHUP ? " EPOLLRDHUP" : "",
           events & EPOLLERR ? " EPOLLERR" : "", events & EPOLLHUP ? " EPOLLHUP" : "");
    if (good > 2 && good < 30) printf("%d sends succeeded\n", good);
    long accepted = 0;
    errno = 0;
    for (ssize_t sent; (sent = send(server, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;) accepted += sent;
    printf("%s: sent as fast as possible, %s, then %s\n", name, accepted > 500000 ? "more than 500 KB" : "nothing",
           strerrorname_np(errno));
    close(server);
    close(listener);
}

int main(void) {
    try("TCP", 0);
    try("MPTCP", IPPROTO_MPTCP);
}
C
build closed
versions
bounded "$folder/closed"
verdict <<'END'
TCP: after the close at most 2 sends succeeded, then EPIPE; epoll says EPOLLRDHUP EPOLLHUP
TCP: sent as fast as possible, nothing, then EPIPE
MPTCP: after the close 30 of 30 sends in 3 s succeeded, then no error; epoll says EPOLLRDHUP
MPTCP: sent as fast as possible, more than 500 KB, then EAGAIN
END
