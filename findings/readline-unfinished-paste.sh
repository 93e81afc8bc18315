#!/bin/bash
# readline's callback interface reads on until the end of a bracketed paste, and holds the loop up until it comes.
#
# Expected: rl_callback_read_char() takes what is there and returns; that is what the callback interface is for. A paste
#   that has not arrived whole goes on in the next call.
# Happens: the call that reads the mark of a paste's begin returns when the mark of its end has come, here after two
#   seconds. Nothing else in the loop runs. Bracketed paste is on by default since readline 8.1.
# Who meets it: programs with a prompt in their event loop, when a paste comes in pieces, as over a slow ssh, or its end
#   is lost.
# Seen with: libreadline8 8.2-1.3, Linux 6.18.44.
# Sources: "Alternate Interface" and enable-bracketed-paste in readline's manual.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libreadline-dev=8.2-1.3 libreadline8=8.2-1.3 libtinfo6=6.4-4

cat >"$folder/paste.c" <<'C'
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <readline/readline.h>

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void line(char* text) { free(text); }

int main(void) {
    setenv("TERM", "dumb", 1);
    setenv("INPUTRC", "/dev/null", 1);
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return 77;
    FILE* stream = fopen(ptsname(master), "r+");
    rl_instream = rl_outstream = stream;
    rl_callback_handler_install("", line);
    if (write(master, "\033[200~half a paste", 18) != 18) return 77;
    pid_t other = fork();
    if (other == 0) {
        sleep(2);
        _exit(write(master, "\033[201~", 6) == 6 ? 0 : 1);
    }
    double longest = 0;
    struct pollfd terminal = {fileno(stream), POLLIN, 0};
    while (poll(&terminal, 1, 500) == 1) {
        double start = seconds();
        rl_callback_read_char();
        if (seconds() - start > longest) longest = seconds() - start;
    }
    printf("the longest call took %s\n", longest > 1.5 ? "until the end of the paste" : "no time");
    rl_callback_handler_remove();
    waitpid(other, NULL, 0);
}
C
build paste -I"$include" -L"$libraries" -L"$folder/root/lib/$triplet" -lreadline \
    -Wl,-rpath,"$folder/root/lib/$triplet:$libraries"
versions
bounded "$folder/paste"
verdict <<'END'
the longest call took until the end of the paste
END
