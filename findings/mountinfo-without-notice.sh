#!/bin/bash
# The text of /proc/self/mountinfo changes without the notification that poll(2) gives for it.
#
# Expected: mountinfo is pollable, so each change of its text makes poll say POLLPRI: a mount, an unmount, a remount,
#   and a change of propagation (shared, private, unbindable), which is a field of the line.
# Happens: mounts, unmounts and both kinds of remount are notified. Changes of propagation are not: the text differs,
#   and poll says nothing, until something else happens.
# Who meets it: programs that keep a copy of the mount table and refresh it when poll says so (desktop services,
#   container tools, backup tools), and then decide by the propagation field whether a bind mount reaches others.
# Seen with: Linux 6.18.44, mount of util-linux 2.38.1-5+deb12u3.
# Sources: /proc/pid/mountinfo and /proc/pid/mounts in proc(5), and mount_namespaces(7) of man-pages 6.03.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

[ "$(id -u)" = 0 ] || cannot "it takes root to mount"
unshare --mount --propagation private true 2>/dev/null || cannot "no mount namespace can be made"
packages mount=2.38.1-5+deb12u3 libmount1=2.38.1-5+deb12u3 libblkid1=2.38.1-5+deb12u3

cat >"$folder/notice.c" <<'C'
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char before[1 << 20], after[1 << 20];

static void text_of(char* room) {
    memset(room, 0, 1 << 20);
    int file = open("/proc/self/mountinfo", O_RDONLY);
    size_t length = 0;
    for (ssize_t count; (count = read(file, room + length, (1 << 20) - 1 - length)) > 0;) length += count;
    close(file);
}

int main(int count, char** commands) {
    int watched = open("/proc/self/mountinfo", O_RDONLY);
    struct pollfd asked = {watched, POLLPRI, 0};
    poll(&asked, 1, 0);
    for (int i = 1; i < count; ++i) {
        text_of(before);
        if (system(commands[i]) != 0) {
            fprintf(stderr, "failed: %s\n", commands[i]);
            return 77;
        }
        text_of(after);
        asked.revents = 0;
        poll(&asked, 1, 100);
        printf("%s: the text %s, poll says %s\n", commands[i], strcmp(before, after) ? "changes" : "stays",
               asked.revents & POLLPRI ? "POLLPRI" : "nothing");
    }
}
C
build notice
versions
mkdir "$folder/disk"
cd "$folder"
export LD_LIBRARY_PATH=$folder/root/lib/$triplet:$libraries
export PATH=$folder/root/bin:$folder/root/usr/bin:$PATH
bounded unshare --mount --propagation private "$folder/notice" \
    'mount -n -t tmpfs none disk' \
    'mount -n -o remount,size=1m disk' \
    'mount -n -o remount,bind,ro disk' \
    'mount -n --make-shared disk' \
    'mount -n --make-private disk' \
    'mount -n --make-unbindable disk' \
    'umount -n disk'
verdict <<'END'
mount -n -t tmpfs none disk: the text changes, poll says POLLPRI
mount -n -o remount,size=1m disk: the text changes, poll says POLLPRI
mount -n -o remount,bind,ro disk: the text changes, poll says POLLPRI
mount -n --make-shared disk: the text changes, poll says nothing
mount -n --make-private disk: the text changes, poll says nothing
mount -n --make-unbindable disk: the text changes, poll says nothing
umount -n disk: the text changes, poll says POLLPRI
END
