#!/bin/bash
# ELL's main loop runs once: after l_main_quit() a second l_main_run() returns at once, and says that all went well.
#
# Expected: l_main_run() can be called again after it has returned. ELL's own comment at l_main_run says so, as long
#   as l_main_exit() was not called.
# Happens: what l_main_quit() noted is not forgotten. The second l_main_run() returns EXIT_SUCCESS without looking at
#   a descriptor or a timer. Only l_main_init() makes the loop run again.
# Who meets it: programs and tests on ELL (iwd, mesh and modem daemons) that run the loop until one answer is there,
#   and then again for the next; the other loops of this kind (GLib, libevent, libev, sd-event by steps) can be run
#   so.
# Seen with: libell0 0.56-3, Linux 6.18.44.
# Sources: main.h of libell-dev 0.56-3; the comment at l_main_run in ELL's ell/main.c.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libell-dev=0.56-3 libell0=0.56-3

cat >"$folder/again.c" <<'C'
#include <ell/ell.h>
#include <stdio.h>
#include <stdlib.h>

static int fired;

static void quit(struct l_timeout* timer, void* data) {
    ++fired;
    l_main_quit();
}

static void run(const char* name) {
    struct l_timeout* timer = l_timeout_create_ms(50, quit, NULL, NULL);
    fired = 0;
    int status = l_main_run();
    printf("%s: %s, its timer %s\n", name, status == EXIT_SUCCESS ? "EXIT_SUCCESS" : "EXIT_FAILURE",
           fired ? "expired" : "did not expire");
    l_timeout_remove(timer);
}

int main(void) {
    if (!l_main_init()) return 1;
    run("first run");
    run("second run");
    run("third run");
    if (!l_main_init()) return 1;
    run("after l_main_init");
}
C
build again -I"$include" -L"$libraries" -lell -Wl,-rpath,"$libraries"
versions
bounded "$folder/again"
verdict <<'END'
first run: EXIT_SUCCESS, its timer expired
second run: EXIT_SUCCESS, its timer did not expire
third run: EXIT_SUCCESS, its timer did not expire
after l_main_init: EXIT_SUCCESS, its timer expired
END
