// The kernel's handle of a process.
#pragma once

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/file_descriptor.hpp>

#include <sys/types.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace reactor {

// Readable when the process has ended. It is close-on-exec by itself (pidfd_open(2)). Empty before Linux 5.3 and
// elsewhere.
inline FileDescriptor handle_of([[maybe_unused]] pid_t id) noexcept {
#ifdef SYS_pidfd_open
    return beyond_standard(int(::syscall(SYS_pidfd_open, id, 0)));
#else
    return {};
#endif
}

}  // namespace reactor
