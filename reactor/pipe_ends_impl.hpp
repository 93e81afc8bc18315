// A pipe of the library's own: for children, successors, wake-ups and splice(2). Not installed.
#pragma once

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace reactor {

struct PipeEnds {
    FileDescriptor reading, writing;

    explicit operator bool() const noexcept { return bool(reading); }
};

/// Makes a pipe, close-on-exec, whose ends have numbers above 2. `flags` is O_NONBLOCK or 0, for both ends. If that
/// fails, both are empty, and errno says why.
inline PipeEnds make_pipe(int flags = 0) noexcept {
    int ends[2];
#if REACTOR_HAS(PIPE2)
    // In one step: a child that another thread starts meanwhile must not inherit them.
    bool made = ::pipe2(ends, O_CLOEXEC | flags) == 0;
    if (!made && !call_is_unknown(errno)) return {};
#else
    bool made = false;
#endif
    if (!made) {
        if (::pipe(ends) != 0) return {};
        for (const int end : ends) {
            ::fcntl(end, F_SETFD, FD_CLOEXEC);
            if (flags != 0) ::fcntl(end, F_SETFL, flags);
#if REACTOR_HAS(F_SETNOSIGPIPE)
            ::fcntl(end, F_SETNOSIGPIPE, 1);
#endif
        }
    }
    PipeEnds pipe{beyond_standard(ends[0]), beyond_standard(ends[1])};
    if (pipe.reading && pipe.writing) return pipe;
    const int error = errno;
    pipe = {};
    errno = error;
    return pipe;
}

}  // namespace reactor
