#!/bin/bash
# An epoll descriptor that more than 500 others watch can take no descriptor any more: epoll_ctl(2) fails with EINVAL.
#
# Expected: how many loops watch a nested epoll descriptor is a matter of memory (fs.epoll.max_user_watches) and of
#   the depth, at most 5, for which ELOOP is the error.
# Happens: the kernel counts the ways by which a descriptor's event can reach somebody who waits. It allows 500 of
#   length 2 (descriptor, inner epoll, outer epoll). With one descriptor in the inner epoll the 501st outer one is
#   refused; with 501 outer ones around an empty inner epoll, it is the inner loop's own, ordinary EPOLL_CTL_ADD that
#   fails. The error is EINVAL, which the manual gives for other mistakes. Without nesting there is no such limit.
# Who meets it: programs in which each of very many loops (one for a worker thread, a tenant, a test) watches the
#   descriptor of one shared loop, or of a library that hands out its epoll descriptor (sd_event_get_fd,
#   wl_event_loop_get_fd, libinput_get_fd).
# Seen with: Linux 6.18.44.
# Sources: epoll_ctl(2) and epoll(7) of man-pages 6.03, which do not speak of it.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/ways.c" <<'C'
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum { enough = 700 };

static const char* add(int epoll, int descriptor) {
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 ? "succeeds" : strerrorname_np(errno);
}

int main(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < enough + 50) limit.rlim_cur = enough + 50;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        fprintf(stderr, "so many descriptors may not be opened\n");
        return 77;
    }
    static int outer[enough];
    for (int i = 0; i < enough; ++i) outer[i] = epoll_create1(EPOLL_CLOEXEC);

    int event = eventfd(0, EFD_CLOEXEC), count = 0;
    while (count < enough && strcmp(add(outer[count], event), "succeeds") == 0) ++count;
    printf("a descriptor is watched by %d epolls, %s\n", count,
           count == enough ? "no limit is met" : "then it is refused");
    for (int i = 0; i < count; ++i) epoll_ctl(outer[i], EPOLL_CTL_DEL, event, NULL);

    int inner = epoll_create1(EPOLL_CLOEXEC);
    add(inner, event);
    for (count = 0; count < enough && strcmp(add(outer[count], inner), "succeeds") == 0; ++count) continue;
    printf("an epoll with a descriptor in it is watched by %d epolls, for the next one: %s\n", count,
           count == enough ? "no limit is met" : add(outer[count], inner));
    for (int i = 0; i < count; ++i) epoll_ctl(outer[i], EPOLL_CTL_DEL, inner, NULL);
    close(inner);

    inner = epoll_create1(EPOLL_CLOEXEC);
    for (count = 0; count < 501 && strcmp(add(outer[count], inner), "succeeds") == 0; ++count) continue;
    printf("an empty epoll is watched by %d epolls; to add a descriptor to it: %s\n", count, add(inner, event));
    epoll_ctl(outer[0], EPOLL_CTL_DEL, inner, NULL);
    printf("one of them less: %s\n", add(inner, event));
}
C
build ways
versions
bounded "$folder/ways"
verdict <<'END'
a descriptor is watched by 700 epolls, no limit is met
an epoll with a descriptor in it is watched by 500 epolls, for the next one: EINVAL
an empty epoll is watched by 501 epolls; to add a descriptor to it: EINVAL
one of them less: succeeds
END
