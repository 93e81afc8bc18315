#!/bin/bash
# libunbound's helper process keeps every descriptor of the program open, also those that are closed on exec.
#
# Expected: libunbound's asynchronous look-ups leave the program's other descriptors alone: its helper process closes
#   them, or O_CLOEXEC does. With ub_ctx_async(context, 1) there is a thread and no process.
# Happens: the helper is a fork without an exec, made by the first asynchronous look-up, and closes nothing. A
#   connection that the program closes afterwards stays open: its peer sees no end until the context is deleted.
#   Debian's library is built without threads: who asks for one gets the process, and no error.
# Who meets it: programs that look names up with libunbound beside connections of their own. A shutdown(2) before the
#   close(2) reaches the peer.
# Seen with: Debian 12, Linux 6.18; the versions are below.
# Sources: libunbound(3), which says "a process is forked" of ub_ctx_async.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libunbound-dev=1.17.1-2+deb12u4 libunbound8=1.17.1-2+deb12u4

cat >"$folder/helper.c" <<'C'
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unbound.h>
#include <unistd.h>

static int answers;
static void done(void* data, int error, struct ub_result* result) {
    (void)data;
    answers += error == 0 && result->havedata;
    ub_resolve_free(result);
}

// What the peer reads: an end, or nothing.
static const char* peer_of(int descriptor) {
    struct pollfd entry = {descriptor, POLLIN, 0};
    char byte;
    if (poll(&entry, 1, 300) == 0) return "nothing";
    return recv(descriptor, &byte, 1, MSG_DONTWAIT) == 0 ? "the end" : "an error";
}

static void try(int with_a_thread) {
    char zone[] = "test.", type[] = "static", record[] = "a.test. 60 IN A 127.0.0.1", name[] = "a.test.";
    struct ub_ctx* context = ub_ctx_create();
    if (context == NULL || ub_ctx_zone_add(context, zone, type) != 0 || ub_ctx_data_add(context, record) != 0) exit(1);
    ub_ctx_async(context, with_a_thread);
    int ends[2], shut[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) exit(1);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, shut) != 0) exit(1);
    if (ub_resolve_async(context, name, 1, 1, NULL, done, NULL) != 0) exit(1);
    if (ub_wait(context) != 0) exit(1);
    close(ends[0]);
    shutdown(shut[0], SHUT_RDWR);
    close(shut[0]);
    printf("asked for a %s: closed, the peer sees %s; ", with_a_thread ? "thread" : "process", peer_of(ends[1]));
    printf("shut down and closed, it sees %s; ", peer_of(shut[1]));
    ub_ctx_delete(context);
    printf("when the context is deleted it sees %s\n", peer_of(ends[1]));
    fflush(stdout);
}

int main(void) {
    try(0);
    try(1);
    printf("%d answers\n", answers);
    return 0;
}
C
build helper -isystem "$include" -L"$libraries" -Wl,-rpath,"$libraries" -lunbound
versions
bounded "$folder/helper"
verdict <<'END'
asked for a process: closed, the peer sees nothing; shut down and closed, it sees the end; when the context is deleted it sees the end
asked for a thread: closed, the peer sees nothing; shut down and closed, it sees the end; when the context is deleted it sees the end
2 answers
END
