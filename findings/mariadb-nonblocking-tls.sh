#!/bin/bash
# libmariadb's non-blocking connect waits for the server in the TLS handshake, and holds its caller up.
#
# Expected: mysql_real_connect_start and mysql_real_connect_cont never wait: they return a mask of what to wait for.
# Happens: a server that greets and then says nothing in the TLS handshake holds mysql_real_connect_cont up until the
#   connect timeout, here for two seconds. Without a timeout it is held up for as long as the server likes.
# Who meets it: event loops with an adapter of libmariadb, whose other connections stand still meanwhile.
# Seen with: libmariadb3 3.3.20 (1:10.11.19-0+deb12u1), Linux 6.18.44.
# Sources: "Using the Non-blocking Library" in MariaDB's manual, which names no exception for TLS.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libmariadb-dev=1:10.11.19-0+deb12u1 libmariadb3=1:10.11.19-0+deb12u1

cat >"$folder/handshake.c" <<'C'
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <mysql.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

// Greets as a server with TLS (its flag is 0x800), and then says nothing.
static void serve(int listener) {
    static const char greeting[] =
        "\x0a" "10.11.19-MariaDB\0" "\1\0\0\0" "abcdefgh\0" "\xfe\xff" "\x21" "\2\0" "\xbf\x81" "\x15"
        "\0\0\0\0\0\0\0\0\0\0" "ijklmnopqrst\0" "mysql_native_password";
    int client = accept(listener, NULL, NULL);
    char head[4] = {sizeof greeting, 0, 0, 0};
    if (write(client, head, 4) != 4 || write(client, greeting, sizeof greeting) != sizeof greeting) _exit(1);
    sleep(20);
    _exit(0);
}

int main(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr*)&address, length);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr*)&address, &length);
    pid_t server = fork();
    if (server == 0) serve(listener);

    MYSQL mysql, *made;
    unsigned seconds = 2;
    my_bool on = 1;
    mysql_init(&mysql);
    mysql_options(&mysql, MYSQL_OPT_NONBLOCK, 0);
    mysql_options(&mysql, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
    mysql_options(&mysql, MYSQL_OPT_SSL_ENFORCE, &on);
    double longest = 0, start = now();
    int waits = mysql_real_connect_start(&made, &mysql, "127.0.0.1", "user", "", NULL, ntohs(address.sin_port), NULL, 0);
    for (int most = 20; most > 0; --most) {
        if (now() - start > longest) longest = now() - start;
        if (waits == 0) break;
        struct pollfd socket = {mysql_get_socket(&mysql), POLLIN, 0};
        if (waits & MYSQL_WAIT_WRITE) socket.events = POLLOUT;
        int event = poll(&socket, 1, 5000) == 0 ? MYSQL_WAIT_TIMEOUT : waits & (MYSQL_WAIT_READ | MYSQL_WAIT_WRITE);
        start = now();
        waits = mysql_real_connect_cont(&made, &mysql, event);
    }
    printf("the longest call took %s\n", longest > 1.5 ? "as long as the connect timeout" : "no time");
    printf("connected: %s\n", made == NULL ? "no" : "yes");
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}
C
build handshake -isystem "$include/mariadb" -L"$libraries" -lmariadb -Wl,-rpath,"$libraries"
versions
bounded "$folder/handshake"
verdict <<'END'
the longest call took as long as the connect timeout
connected: no
END
