#!/bin/bash
# libmariadb's non-blocking connect waits for the second address of a host, and holds its caller up.
#
# Expected: mysql_real_connect_start and mysql_real_connect_cont never wait: they return a mask of what to wait for, for
#   each address of the host that they try.
# Happens: if the first address is refused, the second one is connected to by a connect(2) that blocks, inside the same call.
#   The connect timeout does not end it: the caller is held up for as long as the kernel tries, which is two minutes by
#   default. This finding gives up after four connect timeouts.
# Who meets it: event loops with an adapter of libmariadb, where a server's name has an address that is refused, such as
#   one of IPv6 beside one of IPv4.
# Seen with: libmariadb3 3.3.20 (1:10.11.19-0+deb12u1), Linux 6.18.44.
# Sources: "Using the Non-blocking Library" in MariaDB's manual, which names no exception for hosts with two addresses.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libmariadb-dev=1:10.11.19-0+deb12u1 libmariadb3=1:10.11.19-0+deb12u1

cat >"$folder/addresses.c" <<'C'
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <mysql.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

// The host's addresses, in place of a name server: one or two. Nothing listens at the first of two. The other one is
// silent: its queue of connections is full.
static struct sockaddr_in addresses[2];
static struct addrinfo entries[2];
static int first;
int getaddrinfo(const char* host, const char* service, const struct addrinfo* hints, struct addrinfo** result) {
    for (int i = 0; i < 2; ++i) {
        entries[i] = (struct addrinfo){.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP,
                                       .ai_addr = (struct sockaddr*)&addresses[i], .ai_addrlen = sizeof addresses[i]};
    }
    entries[0].ai_next = &entries[1];
    *result = &entries[first];
    return 0;
}
void freeaddrinfo(struct addrinfo* result) {}

static void give_up(int number) {
    (void)number;
    static const char text[] = "a refused and a silent address: a call takes longer than four connect timeouts\n";
    _exit(write(STDOUT_FILENO, text, sizeof text - 1) < 0);
}

static void connect_to_a_host(const char* name) {
    MYSQL mysql, *made = NULL;
    unsigned seconds = 2;
    mysql_init(&mysql);
    mysql_options(&mysql, MYSQL_OPT_NONBLOCK, 0);
    mysql_options(&mysql, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
    double start = now(), longest = 0;
    int waits = mysql_real_connect_start(&made, &mysql, "database", "user", "", NULL, ntohs(addresses[1].sin_port), NULL, 0);
    for (int most = 20; most > 0; --most) {
        if (now() - start > longest) longest = now() - start;
        if (waits == 0) break;
        struct pollfd socket = {mysql_get_socket(&mysql), POLLIN, 0};
        if (waits & MYSQL_WAIT_WRITE) socket.events = POLLOUT;
        int event = poll(&socket, 1, 2500) == 0 ? MYSQL_WAIT_TIMEOUT : waits & (MYSQL_WAIT_READ | MYSQL_WAIT_WRITE);
        start = now();
        waits = mysql_real_connect_cont(&made, &mysql, event);
    }
    printf("%s: the longest call took %s, connected: %s\n", name, longest > 1.5 ? "long" : "no time", made == NULL ? "no" : "yes");
    fflush(stdout);
    mysql_close(&mysql);
}

int main(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in silent = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof silent;
    bind(listener, (struct sockaddr*)&silent, length);
    listen(listener, 0);
    getsockname(listener, (struct sockaddr*)&silent, &length);
    for (int i = 0; i < 4; ++i) connect(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), (struct sockaddr*)&silent, length);
    addresses[0] = addresses[1] = silent;
    addresses[0].sin_addr.s_addr = htonl(0x7f000002);
    first = 1;
    connect_to_a_host("a silent address");
    first = 0;
    signal(SIGALRM, give_up);
    alarm(8);
    connect_to_a_host("a refused and a silent address");
}
C
build addresses -isystem "$include/mariadb" -L"$libraries" -lmariadb -Wl,-rpath,"$libraries"
versions
bounded "$folder/addresses"
verdict <<'END'
a silent address: the longest call took no time, connected: no
a refused and a silent address: a call takes longer than four connect timeouts
END
