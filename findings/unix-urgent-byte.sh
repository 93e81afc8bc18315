#!/bin/bash
# An ordinary read that fails with EAGAIN throws an urgent byte away, and on a Unix socket poll(2) asks for that read.
#
# Expected: a byte that was sent with MSG_OOB and waits alone makes poll say POLLPRI and not POLLIN, so that a loop
#   does not read. A recv(2) that fails with EAGAIN changes nothing, and recv with MSG_OOB receives the byte
#   afterwards.
# Happens: over TCP poll is as expected, but a recv that fails with EAGAIN takes the urgent byte with it: MSG_OOB then
#   fails with EINVAL. On a Unix stream socket poll says POLLIN as well, so every loop makes that recv and loses the
#   byte, and FIONREAD says 1 for ever, although nothing can be received and poll says nothing.
# Who meets it: event loops that read whatever is readable before they look at POLLPRI, with a peer on a Unix socket
#   that uses MSG_OOB; loops that try a read without asking poll; programs that believe FIONREAD.
# Seen with: Linux 6.18.44. Unix sockets have MSG_OOB since Linux 5.15.
# Sources: unix(7) and recv(2) of man-pages 6.03 (unix(7) still says that there is no MSG_OOB); tcp(7) for the
#   comparison.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/urgent.c" <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void state(const char* when, int socket) {
    struct pollfd asked = {socket, POLLIN | POLLPRI, 0};
    poll(&asked, 1, 1000);
    int waiting = -1;
    ioctl(socket, FIONREAD, &waiting);
    printf("  %s: poll says%s%s%s, FIONREAD %d\n", when, asked.revents & POLLIN ? " POLLIN" : "",
           asked.revents & POLLPRI ? " POLLPRI" : "", asked.revents ? "" : " nothing", waiting);
}

static void receive(const char* what, int socket, int flags) {
    char byte[8];
    ssize_t count = recv(socket, byte, sizeof byte, flags | MSG_DONTWAIT);
    if (count < 0) printf("  %s: %s\n", what, strerrorname_np(errno));
    else printf("  %s: %zd byte\n", what, count);
}

static void try(const char* kind, int sender, int receiver) {
    printf("%s\n", kind);
    if (send(sender, "!", 1, MSG_OOB) != 1) {
        fprintf(stderr, "this kernel has no MSG_OOB for Unix sockets\n");
        exit(77);
    }
    state("the urgent byte waits", receiver);
    receive("recv", receiver, 0);
    receive("recv with MSG_OOB", receiver, MSG_OOB);
    struct pollfd asked = {receiver, POLLIN | POLLPRI, 0};
    int waiting = -1;
    ioctl(receiver, FIONREAD, &waiting);
    printf("  at the end: poll says %s, FIONREAD %d\n", poll(&asked, 1, 0) ? "something" : "nothing", waiting);
}

int main(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr*)&address, length);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr*)&address, &length);
    if (connect(client, (struct sockaddr*)&address, length) != 0) return 1;
    try("TCP", client, accept(listener, NULL, NULL));
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    try("Unix", pair[0], pair[1]);
}
C
build urgent
versions
bounded "$folder/urgent"
verdict <<'END'
TCP
  the urgent byte waits: poll says POLLPRI, FIONREAD 0
  recv: EAGAIN
  recv with MSG_OOB: EINVAL
  at the end: poll says nothing, FIONREAD 0
Unix
  the urgent byte waits: poll says POLLIN POLLPRI, FIONREAD 1
  recv: EAGAIN
  recv with MSG_OOB: EINVAL
  at the end: poll says nothing, FIONREAD 1
END
