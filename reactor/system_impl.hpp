// The system calls, flags and options that this build uses and that not every system has: the one place that asks which
// system this is. The code asks for a feature, `#if REACTOR_HAS(PIPE2)`, and has a portable twin beside it. A build
// with REACTOR_PORTABLE (meson setup -Dportable=true) has no feature that POSIX does not know: so Linux tests the
// twins. Not installed.
#pragma once

#if defined(__APPLE__)
#define __APPLE_USE_RFC_3542      // otherwise its headers have no IPV6_PKTINFO
#define _DARWIN_UNLIMITED_SELECT  // otherwise its select ends at descriptor 1023
#endif

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/types.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

/// Is this feature there? Without this header the question does not compile; -Wundef finds a misspelled feature.
#define REACTOR_HAS(feature) (REACTOR_HAS_##feature)

#if defined(__linux__) && !defined(REACTOR_PORTABLE)
#define REACTOR_ON_LINUX 1
#else
#define REACTOR_ON_LINUX 0
#endif
#if defined(__APPLE__) && !defined(REACTOR_PORTABLE)
#define REACTOR_ON_MACOS 1
#else
#define REACTOR_ON_MACOS 0
#endif
#if (defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)) && !defined(REACTOR_PORTABLE)
#define REACTOR_ON_BSD 1
#else
#define REACTOR_ON_BSD 0
#endif

// ── waiting ──
#define REACTOR_HAS_EPOLL REACTOR_ON_LINUX
#define REACTOR_HAS_EVENTFD REACTOR_ON_LINUX
#if REACTOR_ON_LINUX && __has_include(<linux/io_uring.h>)
#define REACTOR_HAS_IO_URING 1
#else
#define REACTOR_HAS_IO_URING 0
#endif
#define REACTOR_HAS_KQUEUE (REACTOR_ON_MACOS || REACTOR_ON_BSD)
#define REACTOR_HAS_PPOLL (REACTOR_ON_LINUX || REACTOR_ON_BSD)
#define REACTOR_HAS_POLLRDHUP REACTOR_ON_LINUX
#if REACTOR_ON_LINUX && defined(__GLIBC__)
#define REACTOR_HAS_EPOLL_PWAIT2 __GLIBC_PREREQ(2, 35)  // not in musl 1.2.3: there a wait ends on a millisecond
#else
#define REACTOR_HAS_EPOLL_PWAIT2 0
#endif

// ── descriptors: close-on-exec and non-blocking from the beginning ──
#define REACTOR_HAS_SOCK_NONBLOCK (REACTOR_ON_LINUX || REACTOR_ON_BSD)  // and accept4(2)
#define REACTOR_HAS_PIPE2 (REACTOR_ON_LINUX || REACTOR_ON_BSD)
#define REACTOR_HAS_MSG_CMSG_CLOEXEC (REACTOR_ON_LINUX || REACTOR_ON_BSD)

// ── moving bytes ──
#define REACTOR_HAS_MSG_MORE REACTOR_ON_LINUX
#define REACTOR_HAS_RECVMMSG REACTOR_ON_LINUX  // and sendmmsg(2)
#define REACTOR_HAS_SENDFILE REACTOR_ON_LINUX  // the calls of that name elsewhere are other calls
#define REACTOR_HAS_SPLICE REACTOR_ON_LINUX
#if REACTOR_ON_LINUX && defined(UDP_SEGMENT) && defined(UDP_GRO)
#define REACTOR_HAS_UDP_SEGMENT 1
#else
#define REACTOR_HAS_UDP_SEGMENT 0
#endif

// ── against SIGPIPE: POSIX's flag, or an option of the socket and of the pipe ──
#if defined(MSG_NOSIGNAL)
#define REACTOR_HAS_MSG_NOSIGNAL 1
#else
#define REACTOR_HAS_MSG_NOSIGNAL 0
#endif
#if defined(SO_NOSIGPIPE)
#define REACTOR_HAS_SO_NOSIGPIPE 1
#else
#define REACTOR_HAS_SO_NOSIGPIPE 0
#endif
#if defined(F_SETNOSIGPIPE)
#define REACTOR_HAS_F_SETNOSIGPIPE 1
#else
#define REACTOR_HAS_F_SETNOSIGPIPE 0
#endif

// ── sockets ──
#define REACTOR_HAS_ABSTRACT_NAMES REACTOR_ON_LINUX  // and names of the system's choosing
#define REACTOR_HAS_ERROR_QUEUE REACTOR_ON_LINUX     // IP_RECVERR
#define REACTOR_HAS_GETPEEREID (REACTOR_ON_MACOS || REACTOR_ON_BSD)
#define REACTOR_HAS_IP_MULTICAST_ALL REACTOR_ON_LINUX
#define REACTOR_HAS_IP_PKTINFO (REACTOR_ON_LINUX || REACTOR_ON_MACOS)
#define REACTOR_HAS_SO_PASSRIGHTS REACTOR_ON_LINUX
#define REACTOR_HAS_SO_PEERCRED REACTOR_ON_LINUX
#if defined(IPV6_PKTINFO) && defined(IPV6_RECVPKTINFO)  // RFC 3542
#define REACTOR_HAS_IPV6_PKTINFO 1
#else
#define REACTOR_HAS_IPV6_PKTINFO 0
#endif
#if REACTOR_ON_LINUX && defined(IP_BIND_ADDRESS_NO_PORT)
#define REACTOR_HAS_IP_BIND_ADDRESS_NO_PORT 1
#else
#define REACTOR_HAS_IP_BIND_ADDRESS_NO_PORT 0
#endif
#if REACTOR_ON_LINUX && defined(SO_PEERNAME)
#define REACTOR_HAS_SO_PEERNAME 1
#else
#define REACTOR_HAS_SO_PEERNAME 0
#endif
#if defined(TCP_KEEPIDLE)
#define REACTOR_HAS_TCP_KEEPIDLE 1
#else
#define REACTOR_HAS_TCP_KEEPIDLE 0  // macOS: TCP_KEEPALIVE
#endif
#if REACTOR_ON_LINUX && defined(TCP_USER_TIMEOUT)
#define REACTOR_HAS_TCP_USER_TIMEOUT 1
#else
#define REACTOR_HAS_TCP_USER_TIMEOUT 0
#endif

// ── looking up names ──
#if defined(__GLIBC__)
#define REACTOR_HAS_GLIBC 1
#else
#define REACTOR_HAS_GLIBC 0
#endif
#if defined(EAI_ADDRFAMILY)
#define REACTOR_HAS_EAI_ADDRFAMILY 1
#else
#define REACTOR_HAS_EAI_ADDRFAMILY 0
#endif
#if defined(EAI_NODATA)
#define REACTOR_HAS_EAI_NODATA 1
#else
#define REACTOR_HAS_EAI_NODATA 0
#endif

// ── files ──
#if defined(__APPLE__)
#define REACTOR_HAS_ST_MTIM 0  // st_mtimespec
#else
#define REACTOR_HAS_ST_MTIM 1
#endif

// ── processes, threads, terminals ──
#define REACTOR_HAS_NAMES_OF_OTHER_THREADS REACTOR_ON_LINUX  // pthread_setname_np takes the thread
#define REACTOR_HAS_PROC REACTOR_ON_LINUX
#define REACTOR_HAS_THREAD_NAMES (REACTOR_ON_LINUX || REACTOR_ON_MACOS)
#define REACTOR_HAS_TIOCGPTN REACTOR_ON_LINUX
#if REACTOR_ON_LINUX && defined(SYS_pidfd_open) && defined(SYS_pidfd_send_signal)
#define REACTOR_HAS_PIDFD 1
#else
#define REACTOR_HAS_PIDFD 0
#endif
#if defined(__APPLE__) || (defined(__FreeBSD__) && __FreeBSD__ >= 14) || defined(__linux__)
#define REACTOR_HAS_SPAWN_CHDIR 1  // musl since 1.1.24, glibc since 2.29, which C++20's compilers are newer than
#else
#define REACTOR_HAS_SPAWN_CHDIR 0
#endif
// Linux's select(2) sees an O_PATH descriptor as ready, which poll(2) calls invalid. It is no feature to be hidden.
#if defined(O_PATH)
#define REACTOR_HAS_O_PATH 1
#else
#define REACTOR_HAS_O_PATH 0
#endif
