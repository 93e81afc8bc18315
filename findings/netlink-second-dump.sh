#!/bin/bash
# A second dump that is requested on a netlink socket is refused, and the refusal comes in the middle of the first
# one.
#
# Expected: a netlink socket answers requests one after another. Two dumps that are sent at once (the links, then the
#   addresses) come one after the other, each with its NLMSG_DONE.
# Happens: while a dump is not read to its end, each further one fails with EBUSY. That error is between the parts of
#   the first dump, and the addresses never come. A reader that takes an error for the end of what it reads loses the
#   rest. A request that is no dump is answered in the middle as well.
# Who meets it: programs that fill several caches over one socket in an event loop (links, addresses, routes) and send
#   all requests at once, as a pipeline; blocking programs that read each dump to its end do not.
# Seen with: Linux 6.18.44.
# Sources: netlink(7) and rtnetlink(7) of man-pages 6.03, which do not speak of it.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

cat >"$folder/dumps.c" <<'C'
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int netlink;

static void request(int type, int flags, int sequence) {
    struct {
        struct nlmsghdr header;
        union {
            struct rtgenmsg general;
            struct ifinfomsg link;
        } body;
    } message = {.header = {.nlmsg_len = sizeof message, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags}};
    message.header.nlmsg_seq = sequence;
    message.body.link.ifi_index = flags & NLM_F_DUMP ? 0 : 1;  // 1 is the loopback interface
    send(netlink, &message, sizeof message, 0);
}

// Reads until nothing comes any more, and prints how each of the two requests was answered.
static void answers(void) {
    static char room[1 << 16];
    int objects[3] = {0}, done[3] = {0}, error[3] = {0}, before[3] = {0};
    for (ssize_t length; (length = recv(netlink, room, sizeof room, 0)) > 0;) {
        int left = (int)length;
        struct nlmsghdr* message = (struct nlmsghdr*)room;
        for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
            const unsigned to = message->nlmsg_seq;
            if (to < 1 || to > 2) continue;
            if (to == 2 && objects[1] && !done[1]) before[2] = 1;
            if (message->nlmsg_type == NLMSG_DONE) done[to] = 1;
            else if (message->nlmsg_type == NLMSG_ERROR) error[to] = -((struct nlmsgerr*)NLMSG_DATA(message))->error;
            else ++objects[to];
        }
    }
    for (int i = 1; i <= 2; ++i) {
        if (!objects[i] && !done[i] && !error[i]) continue;
        printf("  request %d: %s%s%s%s\n", i, objects[i] ? "answered" : "no answer", done[i] ? ", NLMSG_DONE" : "",
               before[i] ? ", inside the answer to request 1" : "", error[i] ? ", EBUSY" : "");
        if (error[i] && error[i] != EBUSY) printf("  but the error is %s\n", strerrorname_np(error[i]));
    }
}

int main(void) {
    netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct timeval wait = {0, 200000};
    setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (netlink < 0) return 77;
    printf("a dump of links (1) is read, then one of addresses (2)\n");
    request(RTM_GETLINK, NLM_F_DUMP, 1);
    answers();
    request(RTM_GETADDR, NLM_F_DUMP, 2);
    answers();
    printf("both at once\n");
    request(RTM_GETLINK, NLM_F_DUMP, 1);
    request(RTM_GETADDR, NLM_F_DUMP, 2);
    answers();
    printf("a dump of links (1) and a request for one link (2) at once\n");
    request(RTM_GETLINK, NLM_F_DUMP, 1);
    request(RTM_GETLINK, 0, 2);
    answers();
}
C
build dumps
versions
bounded "$folder/dumps"
verdict <<'END'
a dump of links (1) is read, then one of addresses (2)
  request 1: answered, NLMSG_DONE
  request 2: answered, NLMSG_DONE
both at once
  request 1: answered, NLMSG_DONE
  request 2: no answer, inside the answer to request 1, EBUSY
a dump of links (1) and a request for one link (2) at once
  request 1: answered, NLMSG_DONE
  request 2: answered, inside the answer to request 1
END
