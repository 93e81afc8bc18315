#!/bin/bash
# A file that gets its name by O_TMPFILE and linkat(2) is reported closed under a name that no folder has.
#
# Expected: a file without a name makes no event in the watched folder, as nothing changes there. linkat gives it its
#   name and makes IN_CREATE; the close of the writer makes IN_CLOSE_WRITE with that name, as for a file that was made
#   by open(2).
# Happens: all the writer's events are reported, before the link and after it, under "#" and the inode's number:
#   IN_OPEN, IN_MODIFY and, last, IN_CLOSE_WRITE. IN_CREATE alone has the file's name. No event says that the file of
#   that name is complete.
# Who meets it: programs that wait for IN_CLOSE_WRITE to take a file from an inbox (uploads, hot folders, build
#   tools), when the writer publishes it the safest way; also programs that open what the event names, as that name
#   does not exist.
# Seen with: Linux 6.18.44 on tmpfs and ext4, inotify-tools 3.22.6.0-4.
# Sources: O_TMPFILE in open(2); inotify(7) of man-pages 6.03, which does not speak of it; inotifywait(1).
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages inotify-tools=3.22.6.0-4 libinotifytools0=3.22.6.0-4
# On tmpfs if there is one, as not every file system knows O_TMPFILE.
inbox=$folder/inbox
if [ -w /dev/shm ]; then inbox=$(mktemp -d -p /dev/shm); else mkdir "$inbox"; fi
trap 'rm -rf "$folder" "$inbox"' EXIT

cat >"$folder/publish.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char** values) {
    if (count != 2 || chdir(values[1]) != 0) return 1;
    int file = open(".", O_TMPFILE | O_WRONLY, 0600);
    if (file < 0) {
        fprintf(stderr, "the file system knows no O_TMPFILE\n");
        return 77;
    }
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", file);
    if (write(file, "whole", 5) != 5 || linkat(AT_FDCWD, self, AT_FDCWD, "letter", AT_SYMLINK_FOLLOW) != 0) return 1;
    close(file);
    struct stat found;
    if (stat("letter", &found) != 0) return 1;
    fprintf(stderr, "%llu", (unsigned long long)found.st_ino);
    close(open("last", O_CREAT | O_WRONLY, 0600));
    return 0;
}
C
build publish
versions

wait_command=$folder/root/usr/bin/inotifywait
LD_LIBRARY_PATH=$libraries timeout 20 "$wait_command" --monitor --event open,modify,create,close_write \
    --format '%e %f' "$inbox" >"$folder/events" 2>"$folder/state" &
for _ in {1..100}; do
    if grep -q established "$folder/state"; then break; fi
    sleep 0.05
done
grep -q established "$folder/state" || cannot "inotifywait does not start: $(tail -n 1 "$folder/state")"
status=0
timeout 10 "$folder/publish" "$inbox" 2>"$folder/inode" || status=$?
if [ "$status" = 77 ]; then cannot "$(cat "$folder/inode")"; fi
for _ in {1..100}; do
    if grep -q "CLOSE_WRITE.* last" "$folder/events"; then break; fi
    sleep 0.05
done
kill %1
wait 2>/dev/null || true
bounded sed -e "s/#$(cat "$folder/inode")\$/#INODE/" -e "/last/d" "$folder/events"
verdict <<'END'
OPEN #INODE
MODIFY #INODE
CREATE letter
CLOSE_WRITE,CLOSE #INODE
END
