// Against SIGPIPE, which is for the whole process: a peer that is gone is an error, EPIPE, and no more. Not installed.
#pragma once

#include <reactor/system_impl.hpp>

#include <pthread.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <csignal>
#include <cstddef>

namespace reactor {

// For send(2) and its like.
#if REACTOR_HAS(MSG_NOSIGNAL)
constexpr int send_flags = MSG_NOSIGNAL;
#else
constexpr int send_flags = 0;  // SO_NOSIGPIPE is set where there is no such flag
#endif

inline bool sigpipe_is_pending() noexcept {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGPIPE) == 1;
}

// For the calls that know no such flag: write(2), sendfile(2) and splice(2). The disposition is the process's and not
// ours; but the signal comes to the thread that writes, so it can be held back there and taken away.
//
// Returns what the call does, with its errno. A call that moves less than it was asked to may have met a peer that is
// gone on the way: sendfile(2) and splice(2) go in pieces, and return those that went before the signal.
template <class Call>
ssize_t without_sigpipe(std::size_t asked, Call&& call) noexcept {
    sigset_t pipe, before;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, &before);
    // One can be pending already only in a program that blocks it, and such a program keeps it.
    const bool was_pending = sigismember(&before, SIGPIPE) == 1 && sigpipe_is_pending();
    const ssize_t count = call();
    const int error = errno;
    const bool broken = count < 0 ? error == EPIPE : std::size_t(count) < asked;
    if (broken && !was_pending && sigpipe_is_pending()) {  // not if it is ignored
        int signal = 0;
        sigwait(&pipe, &signal);
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = error;
    return count;
}

}  // namespace reactor
