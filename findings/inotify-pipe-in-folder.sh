#!/bin/bash
# A watched folder does not report that somebody writes to a named pipe in it; a watch on the pipe itself does.
#
# Expected: a watch on a folder reports what a watch on each of its entries would, with the name. A write to a named
#   pipe (FIFO) in it is IN_MODIFY and a read from it IN_ACCESS, as for a file.
# Happens: the folder's watch reports IN_OPEN and IN_CLOSE_WRITE of the pipe and nothing between them. The watch on
#   the pipe itself reports IN_OPEN, IN_MODIFY, IN_ACCESS and IN_CLOSE_WRITE. For a file in the same folder both
#   report all of them.
# Who meets it: programs that watch a folder of named pipes (/run, a spool, a test's scratch folder) as a whole to see
#   which of them is in use.
# Seen with: Linux 6.18.44.
# Sources: inotify(7) of man-pages 6.03, whose list of events for entries of a folder names no such exception.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/watch.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static void report(const char* who, int watcher, const char* wanted) {
    char room[8192] __attribute__((aligned(8)));
    ssize_t length = read(watcher, room, sizeof room);
    printf("  %s:", who);
    for (ssize_t at = 0; at < length;) {
        struct inotify_event* event = (struct inotify_event*)(room + at);
        at += sizeof *event + event->len;
        if (event->len && strcmp(event->name, wanted) != 0) continue;
        printf("%s%s%s%s", event->mask & IN_OPEN ? " IN_OPEN" : "", event->mask & IN_MODIFY ? " IN_MODIFY" : "",
               event->mask & IN_ACCESS ? " IN_ACCESS" : "", event->mask & IN_CLOSE_WRITE ? " IN_CLOSE_WRITE" : "");
    }
    printf("\n");
}

static void try(const char* name) {
    int of_folder = inotify_init1(IN_NONBLOCK), of_entry = inotify_init1(IN_NONBLOCK);
    const unsigned all = IN_OPEN | IN_MODIFY | IN_ACCESS | IN_CLOSE_WRITE;
    if (inotify_add_watch(of_folder, ".", all) < 0 || inotify_add_watch(of_entry, name, all) < 0) exit(1);
    int entry = open(name, O_RDWR | O_NONBLOCK);
    char byte = '!';
    if (write(entry, &byte, 1) != 1) exit(1);
    lseek(entry, 0, SEEK_SET);  // of no effect on a pipe
    if (read(entry, &byte, 1) != 1) exit(1);
    close(entry);
    printf("a %s\n", name);
    report("watch on the folder", of_folder, name);
    report("watch on itself", of_entry, name);
}

int main(int count, char** values) {
    if (count != 2 || chdir(values[1]) != 0) return 1;
    mkfifo("pipe", 0600);
    close(open("file", O_CREAT | O_WRONLY, 0600));
    try("file");
    try("pipe");
}
C
build watch
versions
mkdir "$folder/watched"
bounded "$folder/watch" "$folder/watched"
verdict <<'END'
a file
  watch on the folder: IN_OPEN IN_MODIFY IN_ACCESS IN_CLOSE_WRITE
  watch on itself: IN_OPEN IN_MODIFY IN_ACCESS IN_CLOSE_WRITE
a pipe
  watch on the folder: IN_OPEN IN_CLOSE_WRITE
  watch on itself: IN_OPEN IN_MODIFY IN_ACCESS IN_CLOSE_WRITE
END
