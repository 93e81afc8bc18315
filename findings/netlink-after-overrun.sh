#!/bin/bash
# A netlink socket that has overrun loses every message until it has been read empty, however much room it has.
#
# Expected: when the receive buffer is full, messages are dropped and recvmsg(2) fails with ENOBUFS once. Each message
#   that is then received makes room, and the next message that arrives is queued again.
# Happens: after the overrun the socket takes no multicast message until its queue is empty. With one message left
#   unread, new ones are dropped, and no second ENOBUFS says so. With NETLINK_NO_ENOBUFS it is as expected.
# Who meets it: programs that read a bounded number of netlink messages in an iteration of their loop (routing
#   daemons, network managers, udev-like monitors), and ask for the whole state (a dump) right after ENOBUFS, before
#   they have emptied the queue: changes that come after the dump are missing from it and never arrive.
# Seen with: Linux 6.18.44.
# Sources: netlink(7) of man-pages 6.03.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/overrun.c" <<'C'
#include <errno.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int sender;

static void send_message(unsigned number) {
    struct {
        struct nlmsghdr header;
        unsigned number;
        char rest[200];
    } message = {.header = {.nlmsg_len = sizeof message, .nlmsg_type = 20}, .number = number};
    // The message goes to the members of group 31, and to the kernel, which takes none of this protocol: so the call
    // fails after the group has it.
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_groups = 1u << 30};
    sendto(sender, &message, sizeof message, 0, (struct sockaddr*)&to, sizeof to);
}

// The number of the next message, or minus the error.
static int next(int receiver) {
    struct {
        struct nlmsghdr header;
        unsigned number;
        char rest[4000];
    } message;
    return recv(receiver, &message, sizeof message, MSG_DONTWAIT) < 0 ? -errno : (int)message.number;
}

static int try(const char* name, int no_enobufs) {
    int receiver = socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1u << 30};
    if (receiver < 0 || bind(receiver, (struct sockaddr*)&address, sizeof address) != 0) {
        fprintf(stderr, "a netlink group cannot be joined here: %s\n", strerror(errno));
        return 77;
    }
    int small = 8192;
    setsockopt(receiver, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(receiver, SOL_NETLINK, NETLINK_NO_ENOBUFS, &no_enobufs, sizeof no_enobufs);
    for (unsigned i = 1; i <= 100; ++i) send_message(i);
    int first = next(receiver), told = first == -ENOBUFS;
    if (told) first = next(receiver);
    int left = 0;  // all but the last are received
    while (1) {
        int number = next(receiver);
        if (number < 0) break;
        left = number;
    }
    printf("%s: ENOBUFS %s, messages 1 to %s than 100 were queued\n", name, told ? "once" : "never",
           first == 1 && left > 4 && left < 100 ? "fewer" : "no fewer");

    // The same again, but one message is left unread when more arrive.
    for (unsigned i = 1; i <= 100; ++i) send_message(i);
    if (next(receiver) != -ENOBUFS && told) return 1;
    for (int i = told ? 1 : 2; i < left; ++i) next(receiver);
    for (unsigned i = 201; i <= 203; ++i) send_message(i);
    int old = 0, later = 0, errors = 0, number;
    while ((number = next(receiver)) != -EAGAIN) {
        if (number < 0) ++errors;
        else if (number > 200) ++later;
        else ++old;
    }
    printf("  with %d message unread 3 more are sent: %d of them arrive, ENOBUFS %d times\n", old, later, errors);
    send_message(301);
    printf("  read empty, then 1 more is sent: %s\n", next(receiver) == 301 ? "it arrives" : "it is lost");
    close(receiver);
    return 0;
}

int main(void) {
    sender = socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
    if (sender < 0) return 77;
    int result = try("as it is", 0);
    return result ? result : try("with NETLINK_NO_ENOBUFS", 1);
}
C
build overrun
versions
bounded "$folder/overrun"
verdict <<'END'
as it is: ENOBUFS once, messages 1 to fewer than 100 were queued
  with 1 message unread 3 more are sent: 0 of them arrive, ENOBUFS 0 times
  read empty, then 1 more is sent: it arrives
with NETLINK_NO_ENOBUFS: ENOBUFS never, messages 1 to fewer than 100 were queued
  with 1 message unread 3 more are sent: 3 of them arrive, ENOBUFS 0 times
  read empty, then 1 more is sent: it arrives
END
