#!/bin/bash
# A UDP socket that is shut down for reading is readable for ever, and a non-blocking read of it says EAGAIN.
#
# Expected: after shutdown(2) with SHUT_RD poll(2) says POLLIN and POLLRDHUP, recv(2) returns 0 as at the end of a
#   stream, and no more is received. On a socket that is not connected shutdown fails with ENOTCONN and changes
#   nothing.
# Happens: poll says so, but a non-blocking recv fails with EAGAIN, so a loop is woken again and again for nothing.
#   What peers send is still received. On a socket that is not connected shutdown fails with ENOTCONN, and does the
#   same all the same.
# Who meets it: programs that shut a UDP socket down to wake a thread that waits in recv (a usual trick, which works:
#   a blocking recv returns 0), with the same socket in an event loop; libraries that shut down every socket before
#   they close it, while a duplicate of it is watched.
# Seen with: Linux 6.18.44.
# Sources: shutdown(2), recv(2) and udp(7) of man-pages 6.03.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/shut.c" <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in address_of(int socket) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    getsockname(socket, (struct sockaddr*)&address, &length);
    return address;
}

static int bound(void) {
    int made = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bind(made, (struct sockaddr*)&address, sizeof address);
    return made;
}

static const char* received(int socket, int flags) {
    static char text[32];
    ssize_t count = recv(socket, text, sizeof text, flags);
    if (count < 0) return strerrorname_np(errno);
    snprintf(text, sizeof text, "%zd bytes", count);
    return text;
}

static void try(const char* name, int connected) {
    int peer = bound(), watched = bound();
    struct sockaddr_in to = address_of(watched), from = address_of(peer);
    if (connected) connect(watched, (struct sockaddr*)&from, sizeof from);
    const int result = shutdown(watched, SHUT_RD);
    printf("%s: shutdown says %s\n", name, result == 0 ? "nothing" : strerrorname_np(errno));
    int wakeups = 0, nothing = 0;
    for (int i = 0; i < 100; ++i) {
        struct pollfd asked = {watched, POLLIN, 0};
        if (poll(&asked, 1, 0) == 1 && asked.revents & POLLIN) ++wakeups;
        if (strcmp(received(watched, MSG_DONTWAIT), "EAGAIN") == 0) ++nothing;
    }
    printf("  nothing was sent: POLLIN %d times of 100, EAGAIN %d times of 100\n", wakeups, nothing);
    sendto(peer, "late", 4, 0, (struct sockaddr*)&to, sizeof to);
    printf("  a datagram comes: recv says %s\n", received(watched, MSG_DONTWAIT));
    printf("  a recv that may block: %s\n", received(watched, 0));
}

int main(void) {
    try("connected", 1);
    try("not connected", 0);
}
C
build shut
versions
bounded "$folder/shut"
verdict <<'END'
connected: shutdown says nothing
  nothing was sent: POLLIN 100 times of 100, EAGAIN 100 times of 100
  a datagram comes: recv says 4 bytes
  a recv that may block: 0 bytes
not connected: shutdown says ENOTCONN
  nothing was sent: POLLIN 100 times of 100, EAGAIN 100 times of 100
  a datagram comes: recv says 4 bytes
  a recv that may block: 0 bytes
END
