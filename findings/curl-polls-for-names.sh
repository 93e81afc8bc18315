#!/bin/bash
# libcurl wakes the loop again and again while it waits for a name, although it has a descriptor for the answer.
#
# Expected: the name is looked up by a thread, which writes to a descriptor that libcurl has the loop watch. While the
#   name server is silent, nothing happens in the loop: a timer or two.
# Happens: libcurl has that descriptor watched, and sets timers as well: 20 in the first second, then 5 or 6 in each. Each
#   finds nothing.
# Who meets it: programs with many transfers to names that are slow, on machines that should sleep. CURLOPT_RESOLVE or a
#   libcurl with c-ares avoids the thread.
# Seen with: libcurl4 7.88.1-10+deb12u15, Linux 6.18.44.
# Sources: CURLMOPT_TIMERFUNCTION(3), CURLMOPT_SOCKETFUNCTION(3).
set -euo pipefail
source "$(dirname "$0")/packages.sh"

unshare --net --mount --propagation private true 2>/dev/null || cannot "no namespace can be made"
packages libcurl4-openssl-dev=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15

cat >"$folder/names.c" <<'C'
#include <arpa/inet.h>
#include <curl/curl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static double due = -1;
static int set_timer(CURLM* multi, long milliseconds, void* data) {
    (void)multi, (void)data;
    due = milliseconds < 0 ? -1 : seconds() + milliseconds / 1e3;
    return 0;
}
static int watched = -1;
static int set_socket(CURL* easy, curl_socket_t socket, int what, void* data, void* more) {
    (void)easy, (void)data, (void)more;
    watched = what == CURL_POLL_REMOVE ? -1 : socket;
    return 0;
}

int main(int count, char** word) {
    // A name server that is silent, in a network of this program's own.
    if (count < 2 || mount(word[1], "/etc/resolv.conf", NULL, MS_BIND, NULL) != 0) return 77;
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    const int server = socket(AF_INET, SOCK_DGRAM, 0);
    const struct sockaddr_in address = {AF_INET, htons(53), {htonl(INADDR_LOOPBACK)}, {0}};
    if (ioctl(server, SIOCSIFFLAGS, &request) != 0 || bind(server, (const struct sockaddr*)&address, sizeof address) != 0) return 77;

    curl_global_init(CURL_GLOBAL_ALL);
    CURLM* const multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    CURL* const easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, "http://name.test/");
    curl_multi_add_handle(multi, easy);
    const double start = seconds();
    int wakes[3] = {0, 0, 0}, had_descriptor = 0, running = 0;
    while (seconds() < start + 3) {
        struct pollfd entry = {watched, POLLIN, 0};
        const double left = (due < 0 || due > start + 3 ? start + 3 : due) - seconds();
        const int ready = poll(&entry, 1, left <= 0 ? 0 : (int)(left * 1e3) + 1);
        const int second = (int)(seconds() - start);
        if (second > 2) break;
        had_descriptor |= watched >= 0;
        ++wakes[second];
        if (ready > 0) {
            curl_multi_socket_action(multi, watched, CURL_CSELECT_IN, &running);
        } else {
            due = -1;
            curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
    }
    if (getenv("COUNTS")) fprintf(stderr, "%d %d %d\n", wakes[0], wakes[1], wakes[2]);
    printf("a descriptor is watched: %s; wakes in the first second: %s, in the second and third: %s\n", had_descriptor ? "yes" : "no",
           wakes[0] > 10 ? "more than 10" : wakes[0] > 2 ? "some" : "1 or 2",
           wakes[1] > 2 && wakes[2] > 2 ? "more than 2 each" : "1 or 2");
    fflush(stdout);
    _exit(running == 1 ? 0 : 1);
}
C
build names -isystem "$include/$triplet" -isystem "$include" -L"$libraries" -Wl,-rpath,"$libraries" -lcurl
printf 'nameserver 127.0.0.1\noptions timeout:5\n' >"$folder/resolv.conf"
versions
bounded unshare --net --mount --propagation private "$folder/names" "$folder/resolv.conf"
verdict <<'END'
a descriptor is watched: yes; wakes in the first second: more than 10, in the second and third: more than 2 each
END
