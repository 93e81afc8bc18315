#!/bin/bash
# c-ares rounds its timeout down to milliseconds: a loop that obeys it spins until the time has come.
#
# Expected: ares_timeout() says how long to wait until ares_process_fd() has something to do: one wake-up for each
#   timeout of a query.
# Happens: it gives whole milliseconds, rounded down, while the queries' times are kept in microseconds. In the last
#   millisecond before each of them it says 0, and ares_process_fd() finds nothing to do: a loop goes round some
#   hundred or thousand times. A loop that waits 1 ms longer is woken once.
# Who meets it: every adapter of c-ares to an event loop that passes the time on as it is, when name servers do not
#   answer.
# Seen with: libc-ares2 1.18.1-3, Linux 6.18.44.
# Sources: ares_timeout(3) and ares_process_fd(3) of libc-ares-dev 1.18.1-3.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libc-ares-dev=1.18.1-3 libc-ares2=1.18.1-3

cat >"$folder/silent.c" <<'C'
#include <ares.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

static int over;

static void answered(void* data, int status, int timeouts, unsigned char* bytes, int length) { over = status; }

// Asks a name server that never answers, five times with two tries of 50 ms. Returns the wake-ups.
static int ask(int port, long more) {
    int wakeups = 0;
    for (int i = 0; i < 5; ++i) {
        struct ares_options options = {.timeout = 50, .tries = 2};
        ares_channel channel;
        if (ares_init_options(&channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES) != ARES_SUCCESS) exit(1);
        char servers[32];
        snprintf(servers, sizeof servers, "127.0.0.1:%d", port);
        ares_set_servers_ports_csv(channel, servers);
        over = 0;
        ares_query(channel, "name.test", 1, 1, answered, NULL);
        while (!over) {
            struct timeval wait;
            if (ares_timeout(channel, NULL, &wait) == NULL) exit(1);
            wait.tv_usec += more;
            wait.tv_sec += wait.tv_usec / 1000000;
            wait.tv_usec %= 1000000;
            select(0, NULL, NULL, NULL, &wait);
            ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
            ++wakeups;
        }
        ares_destroy(channel);
    }
    return wakeups;
}

int main(void) {
    int server = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(server, (struct sockaddr*)&address, length);
    getsockname(server, (struct sockaddr*)&address, &length);
    ares_library_init(ARES_LIB_INIT_ALL);
    for (int more = 0; more <= 1000; more += 1000) {
        int wakeups = ask(ntohs(address.sin_port), more);
        fprintf(stderr, "%d us more: %d wake-ups\n", more, wakeups);
        printf("10 timeouts, waiting %s: %s\n", more ? "1 ms longer" : "as ares_timeout says",
               wakeups <= 10 ? "at most 10 wake-ups" : wakeups > 50 ? "more than 50 wake-ups" : "11 to 50 wake-ups");
    }
}
C
build silent -I"$include" -L"$libraries" -lcares -Wl,-rpath,"$libraries"
versions
bounded "$folder/silent"
cat "$folder/errors"
verdict <<'END'
10 timeouts, waiting as ares_timeout says: more than 50 wake-ups
10 timeouts, waiting 1 ms longer: at most 10 wake-ups
END
