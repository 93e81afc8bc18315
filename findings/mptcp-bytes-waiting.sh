#!/bin/bash
# FIONREAD of an MPTCP socket counts the peer's end of stream as one byte.
#
# Expected: as over TCP. After the peer has shut down its side and all its data has been received, FIONREAD says 0:
#   nothing can be read any more, and recv(2) returns 0.
# Happens: FIONREAD says 1, before the recv that returns 0 and after it. With data before the end it says one byte
#   more than recv gives.
# Who meets it: programs that take "readable, and FIONREAD says 0" for the end of a stream (an old idiom, in GUI
#   toolkits and in managed run-time libraries), or that make a buffer of exactly that size and wait until it is full;
#   on sockets of MPTCP, which Go's listeners are since Go 1.24.
# Seen with: Linux 6.18.44.
# Sources: FIONREAD in tcp(7) (SIOCINQ) and socket(7) of man-pages 6.03; RFC 8684, section 3.3.3 (the end of the data
#   takes one number of the data's sequence).
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/waiting.c" <<'C'
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int waiting_at(int socket) {
    int waiting = -1;
    ioctl(socket, FIONREAD, &waiting);
    return waiting;
}

static void try(const char* name, int protocol) {
    int listener = socket(AF_INET, SOCK_STREAM, protocol), client = socket(AF_INET, SOCK_STREAM, protocol);
    if (listener < 0 || client < 0) {
        fprintf(stderr, "this kernel has no MPTCP, or it is switched off\n");
        exit(77);
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr*)&address, length);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr*)&address, &length);
    if (connect(client, (struct sockaddr*)&address, length) != 0) exit(1);
    int server = accept(listener, NULL, NULL);
    char bytes[100];
    send(client, "hello", 5, 0);
    shutdown(client, SHUT_WR);
    struct pollfd ended = {server, POLLRDHUP, 0};
    poll(&ended, 1, 5000);
    printf("%s: FIONREAD %d", name, waiting_at(server));
    printf(", recv %zd", recv(server, bytes, sizeof bytes, MSG_DONTWAIT));
    printf(", FIONREAD %d", waiting_at(server));
    printf(", recv %zd", recv(server, bytes, sizeof bytes, MSG_DONTWAIT));
    printf(", FIONREAD %d\n", waiting_at(server));
}

int main(void) {
    try("TCP", 0);
    try("MPTCP", IPPROTO_MPTCP);
}
C
build waiting
versions
bounded "$folder/waiting"
verdict <<'END'
TCP: FIONREAD 5, recv 5, FIONREAD 0, recv 0, FIONREAD 0
MPTCP: FIONREAD 6, recv 5, FIONREAD 1, recv 0, FIONREAD 1
END
