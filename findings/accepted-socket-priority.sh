#!/bin/bash
# An accepted TCP socket has its listener's type of service (IP_TOS) and not the priority that goes with it.
#
# Expected: IP_TOS sets the type of service and, with it, SO_PRIORITY, by which the network queues are chosen. An
#   accepted socket inherits its listener's options, so both; IPV6_TCLASS does the same for IPv6.
# Happens: the accepted socket's packets carry the type of service, and its priority is 0, also where SO_PRIORITY was
#   set on the listener itself. SO_MARK is inherited. IPV6_TCLASS sets no priority at all, not even on the socket
#   itself.
# Who meets it: servers that mark their answers once, on the listener, on machines that order by priority (pfifo_fast,
#   prio and mqprio queues, VLAN priorities): the answers wait with the rest.
# Seen with: Linux 6.18.44.
# Sources: SO_PRIORITY in socket(7) and IP_TOS in ip(7) of man-pages 6.03.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/priority.c" <<'C'
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int get(int socket, int level, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    getsockopt(socket, level, option, &value, &length);
    return value;
}

static void set(int socket, int level, int option, int value) {
    setsockopt(socket, level, option, &value, sizeof value);
}

static void try(const char* name, int family, int level, int option, int value) {
    int listener = socket(family, SOCK_STREAM, 0), client = socket(family, SOCK_STREAM, 0);
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {{family}};
    socklen_t length = family == AF_INET ? sizeof address.v4 : sizeof address.v6;
    if (family == AF_INET) address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else address.v6.sin6_addr = in6addr_loopback;
    if (bind(listener, &address.any, length) != 0) {
        fprintf(stderr, "there is no IPv6 here\n");
        exit(77);
    }
    listen(listener, 1);
    getsockname(listener, &address.any, &length);
    set(listener, level, option, value);
    connect(client, &address.any, length);
    int accepted = accept(listener, NULL, NULL);
    int service = family == AF_INET ? IP_TOS : IPV6_TCLASS, of = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    printf("%s: listener: service 0x%x, priority %d; accepted: service 0x%x, priority %d\n", name,
           get(listener, of, service), get(listener, SOL_SOCKET, SO_PRIORITY), get(accepted, of, service),
           get(accepted, SOL_SOCKET, SO_PRIORITY));
}

int main(void) {
    try("IP_TOS", AF_INET, IPPROTO_IP, IP_TOS, IPTOS_LOWDELAY);
    try("SO_PRIORITY", AF_INET, SOL_SOCKET, SO_PRIORITY, 5);
    try("IPV6_TCLASS", AF_INET6, IPPROTO_IPV6, IPV6_TCLASS, IPTOS_LOWDELAY);
    try("SO_PRIORITY over IPv6", AF_INET6, SOL_SOCKET, SO_PRIORITY, 5);
}
C
build priority
versions
bounded "$folder/priority"
verdict <<'END'
IP_TOS: listener: service 0x10, priority 6; accepted: service 0x10, priority 0
SO_PRIORITY: listener: service 0x0, priority 5; accepted: service 0x0, priority 0
IPV6_TCLASS: listener: service 0x10, priority 0; accepted: service 0x10, priority 0
SO_PRIORITY over IPv6: listener: service 0x0, priority 5; accepted: service 0x0, priority 0
END
