#!/bin/bash
# A read of fanotify events at the limit of descriptors succeeds and loses one event without a word.
#
# Expected: each event brings a descriptor. When the process may open no more, read(2) returns the events that it
#   could deliver and keeps the rest; if it could deliver none, it fails with EMFILE, and the events can be read
#   later.
# Happens: the event at which the limit is met is lost. A read that has delivered others before it succeeds and does
#   not say so; each further read fails with EMFILE and loses one more event. A loop that waits, as the descriptor
#   stays readable, empties the queue that way.
# Who meets it: scanners, indexers and auditors on fanotify that handle a burst of events at the limit of descriptors,
#   and retry. Groups that ask for file handles (FAN_REPORT_FID) need no descriptors; with FAN_REPORT_FD_ERROR (Linux
#   6.13) the event comes with the error in place of the descriptor.
# Seen with: Linux 6.18.44.
# Sources: fanotify(7), section "Errors" (EMFILE), and fanotify_init(2) of man-pages 6.03.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/limit.c" <<'C'
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char** values) {
    if (count != 2 || chdir(values[1]) != 0) return 1;
    int group = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY);
    if (group < 0 || fanotify_mark(group, FAN_MARK_ADD, FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, AT_FDCWD, ".") != 0) {
        fprintf(stderr, "fanotify cannot be used here: %s\n", strerror(errno));
        return 77;
    }
    for (char name[] = "1"; name[0] <= '6'; ++name[0]) close(open(name, O_CREAT | O_WRONLY, 0600));
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlim_t before = limit.rlim_cur;
    int free_number = dup(group);
    close(free_number);
    limit.rlim_cur = free_number + 2;  // so two more can be opened
    setrlimit(RLIMIT_NOFILE, &limit);

    int received = 0;
    for (int turn = 1; turn <= 8; ++turn) {
        struct pollfd asked = {group, POLLIN, 0};
        poll(&asked, 1, 0);
        char room[4096] __attribute__((aligned(8)));
        ssize_t length = read(group, room, sizeof room);
        printf("%s, read: ", asked.revents & POLLIN ? "readable" : "nothing to read");
        if (length < 0) printf("%s\n", strerrorname_np(errno));
        struct fanotify_event_metadata* event = (struct fanotify_event_metadata*)room;
        int events = 0;
        for (; length > 0 && FAN_EVENT_OK(event, length); event = FAN_EVENT_NEXT(event, length)) ++events;
        if (events > 0) printf("%d events\n", events);
        received += events;
        if (turn == 2) {  // from here on there would be room for all of them
            limit.rlim_cur = before;
            setrlimit(RLIMIT_NOFILE, &limit);
        }
        if (!(asked.revents & POLLIN)) break;
    }
    printf("%d of 6 events were received\n", received);
}
C
build limit
versions
mkdir "$folder/watched"
bounded "$folder/limit" "$folder/watched"
verdict <<'END'
readable, read: 2 events
readable, read: EMFILE
readable, read: 2 events
nothing to read, read: EAGAIN
4 of 6 events were received
END
