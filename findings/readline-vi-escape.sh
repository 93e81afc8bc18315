#!/bin/bash
# In readline's vi mode a lone Escape holds the loop up for half a second, also in the callback interface.
#
# Expected: rl_callback_read_char() takes one character and returns; that is what the callback interface is for. A key
#   sequence that is not complete waits for the next call, as it does in emacs mode.
# Happens: in vi mode the call that reads Escape waits inside readline for the rest of a sequence, for keyseq-timeout,
#   by default 500 ms. Nothing else in the loop runs. In emacs mode the call returns at once.
# Who meets it: programs with a prompt in their event loop (chat clients, debuggers, network consoles) whose user has
#   "set editing-mode vi" in ~/.inputrc: each change to command mode stops the program for half a second.
# Seen with: libreadline8 8.2-1.3, Linux 6.18.44.
# Sources: "Alternate Interface" in readline's manual; keyseq-timeout in readline(3readline).
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libreadline-dev=8.2-1.3 libreadline8=8.2-1.3 libtinfo6=6.4-4

cat >"$folder/escape.c" <<'C'
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <readline/readline.h>

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void line(char* text) { free(text); }

// On the terminal: takes two characters, "a" and Escape, and says how long the call for the second one took.
static void edit(const char* mode, int terminal) {
    FILE* stream = fdopen(terminal, "r+");
    rl_instream = rl_outstream = stream;
    rl_variable_bind("editing-mode", mode);
    rl_callback_handler_install("", line);
    for (int i = 0; i < 2; ++i) {
        struct pollfd asked = {terminal, POLLIN, 0};
        if (poll(&asked, 1, 5000) != 1) exit(1);
        const double before = milliseconds();
        rl_callback_read_char();
        const double took = milliseconds() - before;
        if (i == 0) continue;
        fprintf(stderr, "%s: %.0f ms\n", mode, took);
        printf("%s: the call for Escape returns %s\n", mode, took > 400 ? "after 400 ms or more" : "at once");
    }
    rl_callback_handler_remove();
    fflush(stdout);
    _exit(0);
}

int main(void) {
    setenv("TERM", "dumb", 1);
    setenv("INPUTRC", "/dev/null", 1);
    const char* modes[] = {"emacs", "vi"};
    for (int i = 0; i < 2; ++i) {
        int master = posix_openpt(O_RDWR | O_NOCTTY);
        if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return 77;
        int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
        pid_t child = fork();
        if (child == 0) edit(modes[i], terminal);
        usleep(300000);
        if (write(master, "a", 1) != 1) return 1;
        usleep(100000);
        if (write(master, "\033", 1) != 1) return 1;
        int status;
        waitpid(child, &status, 0);
        if (status != 0) return 1;
        close(terminal);
        close(master);
    }
}
C
build escape -I"$include" -L"$libraries" -L"$folder/root/lib/$triplet" -lreadline \
    -Wl,-rpath,"$folder/root/lib/$triplet:$libraries"
versions
bounded "$folder/escape"
cat "$folder/errors"
verdict <<'END'
emacs: the call for Escape returns at once
vi: the call for Escape returns after 400 ms or more
END
