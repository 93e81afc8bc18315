#!/bin/bash
# libmicrohttpd at its connection limit accepts further clients and closes them at once, without an answer.
#
# Expected: a daemon that the program drives itself (external select) leaves its listening socket out of MHD_get_fdset
#   while MHD_OPTION_CONNECTION_LIMIT is reached. Further clients wait in the kernel's queue, and are served when a
#   connection ends.
# Happens: the listening socket stays in the set. Each further client is accepted and closed; it gets no status 503
#   but the end of the stream, or a reset if its request was there already. When there is room again, it has to come
#   again by itself.
# Who meets it: programs that put an embedded HTTP server into their loop with a small limit to bound memory or
#   descriptors, and browsers and health checks that open a second connection to it.
# Seen with: libmicrohttpd12 0.9.75-6, Linux 6.18.44.
# Sources: MHD_OPTION_CONNECTION_LIMIT and MHD_get_fdset in microhttpd.h of libmicrohttpd-dev 0.9.75-6.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libmicrohttpd-dev=0.9.75-6 libmicrohttpd12=0.9.75-6

cat >"$folder/full.c" <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static enum MHD_Result answer(void* context, struct MHD_Connection* connection, const char* url, const char* method,
                              const char* version, const char* data, size_t* size, void** state) {
    static int begun;
    if (*state == NULL) {
        *state = &begun;
        return MHD_YES;
    }
    struct MHD_Response* response = MHD_create_response_from_buffer(5, "hello", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

static struct MHD_Daemon* daemon_;
static int listener;

static int drive(void) {  // for 100 ms; returns whether the listening socket was in the set at the end
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int listening = 0;
    do {
        fd_set readable, writable, failed;
        FD_ZERO(&readable);
        FD_ZERO(&writable);
        FD_ZERO(&failed);
        MHD_socket highest = -1;
        MHD_get_fdset(daemon_, &readable, &writable, &failed, &highest);
        listening = FD_ISSET(listener, &readable);
        struct timeval wait = {0, 10000};
        select(highest + 1, &readable, &writable, &failed, &wait);
        MHD_run_from_select(daemon_, &readable, &writable, &failed);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - end.tv_sec) * 1000 + (now.tv_nsec - end.tv_nsec) / 1000000 < 100);
    return listening;
}

static int client(void) {
    int made = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    address.sin_port = htons(MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_BIND_PORT)->port);
    if (connect(made, (struct sockaddr*)&address, sizeof address) != 0) printf("cannot connect\n");
    return made;
}

static void ask(int client) {
    const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    send(client, request, sizeof request - 1, MSG_NOSIGNAL);
}

static const char* outcome(int client) {
    static char text[512];
    ssize_t count = recv(client, text, sizeof text - 1, MSG_DONTWAIT);
    if (count < 0) return errno == EAGAIN ? "waits" : strerrorname_np(errno);
    if (count == 0) return "the stream ends";
    text[count] = 0;
    return strtok(text, "\r");
}

int main(void) {
    daemon_ = MHD_start_daemon(MHD_NO_FLAG, 0, NULL, NULL, answer, NULL, MHD_OPTION_CONNECTION_LIMIT, 1u,
                               MHD_OPTION_END);
    if (daemon_ == NULL) return 1;
    listener = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_LISTEN_FD)->listen_fd;
    int first = client();
    int listening = drive();
    printf("limit 1, one client: the listening socket is %s\n", listening ? "in the set" : "not in the set");
    int second = client();
    drive();
    printf("a second client before it asks: %s\n", outcome(second));
    int third = client();
    ask(third);
    drive();
    printf("a third client that asks at once: %s\n", outcome(third));
    ask(first);
    drive();
    printf("the first client: %s\n", outcome(first));
    close(first);
    drive();
    int last = client();
    ask(last);
    drive();
    printf("a client after the first has left: %s\n", outcome(last));
    MHD_stop_daemon(daemon_);
}
C
build full -I"$include" -L"$libraries" -lmicrohttpd -Wl,-rpath,"$libraries"
versions
bounded "$folder/full"
verdict <<'END'
limit 1, one client: the listening socket is in the set
a second client before it asks: the stream ends
a third client that asks at once: ECONNRESET
the first client: HTTP/1.1 200 OK
a client after the first has left: HTTP/1.1 200 OK
END
