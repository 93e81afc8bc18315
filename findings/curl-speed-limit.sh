#!/bin/bash
# libcurl takes 1.6 MB at once on a transfer that is limited to 100 KB a second, and then looks away for 16 seconds.
#
# Expected: with CURLOPT_MAX_RECV_SPEED_LARGE = 100000 the transfer is paused every few 10 KB; the program gets about
#   100 KB a second. libcurl's own page says that a transfer may be faster at the start if the limit is below the size
#   of a buffer (16 KB), which it is not here.
# Happens: one call of curl_multi_socket_action reads 100 buffers before it looks at the limit, if the server sends
#   fast enough: 1.6 MB in some milliseconds. A file of 1 MB arrives whole and at once, as if there was no limit.
#   After a burst of a larger file the socket is not watched until the average is right again, for about 16 s: the
#   server's send buffer stays full, its time limits run, and that it has closed is not seen.
# Who meets it: programs that limit downloads to leave room for others, or count on small pieces, on a fast network or
#   on one machine; servers and proxies that end a connection which takes nothing for 10 s.
# Seen with: libcurl4 7.88.1-10+deb12u15, Linux 6.18.44.
# Sources: CURLOPT_MAX_RECV_SPEED_LARGE(3), curl_multi_socket_action(3).
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libcurl4-openssl-dev=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15

cat >"$folder/limited.c" <<'C'
#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { limit = 100000 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

// An HTTP server that answers each connection with so many bytes as the path says, as fast as they are taken.
static void* serve_one(void* data) {
    int client = (int)(long)data;
    char request[4096] = "";
    size_t length = 0;
    while (strstr(request, "\r\n\r\n") == NULL) {
        ssize_t count = recv(client, request + length, sizeof request - 1 - length, 0);
        if (count <= 0) break;
        length += count;
        request[length] = 0;
    }
    long size = 0;
    sscanf(request, "GET /%ld", &size);
    char head[128], body[65536] = {0};
    length = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\n\r\n", size);
    send(client, head, length, MSG_NOSIGNAL);
    while (size > 0) {
        ssize_t count = send(client, body, size < (long)sizeof body ? (size_t)size : sizeof body, MSG_NOSIGNAL);
        if (count <= 0) break;
        size -= count;
    }
    close(client);
    return NULL;
}

static void* serve(void* data) {
    for (int client; (client = accept((int)(long)data, NULL, NULL)) >= 0;) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve_one, (void*)(long)client) == 0) pthread_detach(thread);
    }
    return NULL;
}

static curl_socket_t watched = CURL_SOCKET_BAD;
static int interest;
static double due = -1;
static long bytes;

static int socket_changed(CURL* transfer, curl_socket_t socket, int what, void* a, void* b) {
    watched = what == CURL_POLL_REMOVE ? CURL_SOCKET_BAD : socket;
    interest = what;
    return 0;
}

static int timer_changed(CURLM* multi, long milliseconds, void* unused) {
    due = milliseconds < 0 ? -1 : seconds() + milliseconds / 1e3;
    return 0;
}

static size_t take(char* text, size_t size, size_t count, void* unused) {
    bytes += size * count;
    return size * count;
}

// Gets so many bytes, at most until the transfer has been put off for more than 2 s. Returns whether a single call took
// what is due in 3 s or more.
static int burst(int port, long size) {
    char address[64];
    snprintf(address, sizeof address, "http://127.0.0.1:%d/%ld", port, size);
    CURLM* multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_changed);
    CURL* transfer = curl_easy_init();
    curl_easy_setopt(transfer, CURLOPT_URL, address);
    curl_easy_setopt(transfer, CURLOPT_PROXY, "");
    curl_easy_setopt(transfer, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(transfer, CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t)limit);
    bytes = 0;
    long most = 0;
    int running = 1, put_off = 0;
    const double start = seconds();
    curl_multi_add_handle(multi, transfer);
    while (running && !put_off && seconds() - start < 4) {
        struct pollfd asked = {watched, 0, 0};
        if (interest & CURL_POLL_IN) asked.events |= POLLIN;
        if (interest & CURL_POLL_OUT) asked.events |= POLLOUT;
        double wait = due < 0 ? 0.2 : due - seconds();
        if (wait > 0.2) wait = 0.2;
        const long before = bytes;
        if (poll(&asked, watched != CURL_SOCKET_BAD, wait > 0 ? (int)(wait * 1000) + 1 : 0) > 0)
            curl_multi_socket_action(multi, watched,
                                     (asked.revents & POLLIN ? CURL_CSELECT_IN : 0) |
                                         (asked.revents & POLLOUT ? CURL_CSELECT_OUT : 0),
                                     &running);
        else if (due >= 0 && seconds() >= due) {
            due = -1;
            curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        if (bytes - before > most) most = bytes - before;
        put_off = bytes > 0 && watched == CURL_SOCKET_BAD && due - seconds() > 2;
    }
    fprintf(stderr, "%ld bytes wanted, %ld received in %.3f s, at most %ld in one call", size, bytes,
            seconds() - start, most);
    if (put_off) fprintf(stderr, ", then not watched for %.1f s", due - seconds());
    fprintf(stderr, "\n");
    curl_multi_remove_handle(multi, transfer);
    curl_easy_cleanup(transfer);
    curl_multi_cleanup(multi);
    return most >= 3 * limit && (put_off || bytes == size);
}

static void get(int port, long size, const char* what) {
    int seen = 0;
    // Again if not seen: on a busy machine the server may have been held up.
    for (int tries = 0; tries < 5 && !seen; ++tries) seen = burst(port, size);
    printf("%ld KB, limit 100 KB/s: %s\n", size / 1000, seen ? what : "no such burst");
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr*)&address, length);
    listen(listener, 8);
    getsockname(listener, (struct sockaddr*)&address, &length);
    pthread_t thread;
    pthread_create(&thread, NULL, serve, (void*)(long)listener);
    get(ntohs(address.sin_port), 400000, "a call takes 300 KB or more");
    get(ntohs(address.sin_port), 10000000,
        "a call takes 300 KB or more, and the socket is not watched for more than 2 s");
    fflush(stdout);
    _exit(0);
}
C
build limited -I"$include" -I"$include/$triplet" "$libraries/libcurl.so.4" -Wl,-rpath,"$libraries" -pthread
versions
bounded "$folder/limited"
cat "$folder/errors"
verdict <<'END'
400 KB, limit 100 KB/s: a call takes 300 KB or more
10000 KB, limit 100 KB/s: a call takes 300 KB or more, and the socket is not watched for more than 2 s
END
