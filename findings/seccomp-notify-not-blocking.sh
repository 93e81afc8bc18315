#!/bin/bash
# The descriptor of seccomp notifications ignores O_NONBLOCK: to receive when nothing waits stops the loop.
#
# Expected: the descriptor is pollable, so with O_NONBLOCK the ioctl(2) that receives fails with EAGAIN when no
#   notification waits.
# Happens: it blocks until a notification comes or a signal interrupts it. libseccomp's seccomp_notify_receive does
#   the same.
# Who meets it: supervisors of containers and sandboxes that receive in an event loop until there is no more, that
#   share the descriptor between two processes or threads (one takes the notification, and the other, woken too,
#   stops), or whose target is interrupted by a signal between the wake-up and the ioctl.
# Seen with: Linux 6.18.44, libseccomp 2.5.4-1+deb12u1.
# Sources: seccomp_unotify(2) of man-pages 6.03, which says that the operation blocks and does not speak of
#   O_NONBLOCK; seccomp_notify_receive(3) of libseccomp 2.5.4.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libseccomp-dev=2.5.4-1+deb12u1 libseccomp2=2.5.4-1+deb12u1

cat >"$folder/receive.c" <<'C'
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void interrupt(int signal_) { (void)signal_; }

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

// The target: getppid(2) asks its supervisor.
static void target(int channel) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL || seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(getppid), 0) != 0 ||
        seccomp_load(filter) != 0)
        _exit(1);
    int descriptor = seccomp_notify_fd(filter);
    char room[CMSG_SPACE(sizeof descriptor)] = {0}, byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    if (sendmsg(channel, &message, 0) != 1 || read(channel, &byte, 1) != 1) _exit(1);
    _exit(syscall(SYS_getppid) == 7 ? 0 : 1);
}

int main(void) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pid_t child = fork();
    if (child == 0) target(pair[1]);
    close(pair[1]);
    int descriptor = -1;
    char room[CMSG_SPACE(sizeof descriptor)], byte;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (recvmsg(pair[0], &message, 0) != 1) {
        fprintf(stderr, "a seccomp filter with notifications cannot be loaded here\n");
        return 77;
    }
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);

    struct sigaction action = {.sa_handler = interrupt};  // without SA_RESTART
    sigaction(SIGALRM, &action, NULL);
    struct seccomp_notif* request = NULL;
    struct seccomp_notif_resp* answer = NULL;
    seccomp_notify_alloc(&request, &answer);
    for (int library = 0; library < 2; ++library) {
        struct pollfd asked = {descriptor, POLLIN, 0};
        printf("nothing waits, poll says %s; ", poll(&asked, 1, 0) == 0 ? "nothing" : "something");
        alarm(1);
        const double before = seconds();
        errno = 0;
        memset(request, 0, sizeof *request);
        int result = library ? seccomp_notify_receive(descriptor, request)
                             : ioctl(descriptor, SECCOMP_IOCTL_NOTIF_RECV, request);
        const char* error = library ? (result == 0 ? "succeeds" : "fails") : strerrorname_np(errno);
        printf("%s %s %s\n", library ? "seccomp_notify_receive" : "ioctl", error,
               seconds() - before > 0.8 ? "after a second, when a signal comes" : "at once");
        alarm(0);
    }
    if (write(pair[0], "", 1) != 1) return 1;  // now the target calls
    struct pollfd asked = {descriptor, POLLIN, 0};
    poll(&asked, 1, 5000);
    alarm(5);
    memset(request, 0, sizeof *request);
    if (ioctl(descriptor, SECCOMP_IOCTL_NOTIF_RECV, request) != 0) return 1;
    answer->id = request->id;
    answer->val = 7;
    if (seccomp_notify_respond(descriptor, answer) != 0) return 1;
    int status;
    waitpid(child, &status, 0);
    printf("one waits, poll says %s; it is received and answered, the target %s\n",
           asked.revents & POLLIN ? "POLLIN" : "nothing", status == 0 ? "goes on" : "fails");
    return 0;
}
C
build receive -I"$include" -L"$libraries" -lseccomp -Wl,-rpath,"$libraries"
versions
bounded "$folder/receive"
verdict <<'END'
nothing waits, poll says nothing; ioctl EINTR after a second, when a signal comes
nothing waits, poll says nothing; seccomp_notify_receive fails after a second, when a signal comes
one waits, poll says POLLIN; it is received and answered, the target goes on
END
