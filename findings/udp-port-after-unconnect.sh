#!/bin/bash
# A UDP socket that was bound to port 0 loses its port when it is disconnected.
#
# Expected: bind(2) with port 0 gives the socket a port, and connect(2) with AF_UNSPEC takes only the peer away. The
#   socket keeps its local address and port, and goes on receiving there.
# Happens: it is bound to nothing afterwards. getsockname(2) says port 0, what is sent to the old port is refused, and
#   the next send or connect picks another port. Only a port that was named in bind is kept.
# Who meets it: programs that connect and disconnect one UDP socket in turn to learn which local address is used or to
#   get errors (resolvers, QUIC and STUN clients, DTLS servers), and have told peers their port.
# Seen with: Linux 6.18.44.
# Sources: connect(2), udp(7) and ip(7) of man-pages 6.03, which speak only of the association with the peer.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/port.c" <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int port_of(int socket) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    getsockname(socket, (struct sockaddr*)&address, &length);
    return ntohs(address.sin_port);
}

static int bound(int port) {
    int made = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return bind(made, (struct sockaddr*)&address, sizeof address) == 0 ? made : -1;
}

static void try(const char* name, int socket_, int peer) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    address.sin_port = htons(port_of(peer));
    const int before = port_of(socket_);
    connect(socket_, (struct sockaddr*)&address, sizeof address);
    const int connected = port_of(socket_);
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    const int result = connect(socket_, &nobody, sizeof nobody);
    const int after = port_of(socket_);
    address.sin_port = htons(before);
    sendto(peer, "!", 1, 0, (struct sockaddr*)&address, sizeof address);
    usleep(20000);
    char byte;
    const ssize_t received = recv(socket_, &byte, 1, MSG_DONTWAIT);
    printf("%s: %s while connected, disconnecting %s, then %s and %s\n", name,
           connected == before ? "the same port" : "another port", result == 0 ? "succeeds" : "fails",
           after == before ? "the same port" : after == 0 ? "no port" : "another port",
           received == 1 ? "receives" : "does not receive");
}

int main(void) {
    int peer = bound(0);
    int chosen = bound(0);
    const int port = port_of(chosen);
    try("port 0 in bind", chosen, peer);
    close(chosen);
    int named = bound(port);  // a port that was free a moment ago
    if (named < 0) {
        fprintf(stderr, "the port is in use\n");
        return 77;
    }
    try("a port named in bind", named, peer);
}
C
build port
versions
bounded "$folder/port"
verdict <<'END'
port 0 in bind: the same port while connected, disconnecting succeeds, then no port and does not receive
a port named in bind: the same port while connected, disconnecting succeeds, then the same port and receives
END
