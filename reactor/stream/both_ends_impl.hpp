// The two ends of a new pipe(2).
#pragma once

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/last_error_impl.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <system_error>

namespace reactor {

// Both are close-on-exec, and neither is one of the three standard numbers, which the program may have closed.
struct BothEnds {
    FileDescriptor reading, writing;

    // Throws std::system_error.
    static BothEnds make() {
        int ends[2];
        if (!make_closed_on_exec(ends)) throw std::system_error(last_error(), "pipe");
        BothEnds both{beyond_standard(ends[0]), beyond_standard(ends[1])};
        if (!both.reading || !both.writing) throw std::system_error(last_error(), "fcntl(F_DUPFD_CLOEXEC)");
        return both;
    }

private:
    static bool make_closed_on_exec(int (&ends)[2]) noexcept {
#ifdef __linux__
        // In one step: a child that another thread starts now must not get them.
        if (::pipe2(ends, O_CLOEXEC) == 0) return true;
        if (!call_is_unknown(errno)) return false;
#endif
        if (::pipe(ends) != 0) return false;
        for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
        return true;
    }
};

}  // namespace reactor
