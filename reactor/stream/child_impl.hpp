// How a child of this program is signalled and waited for: by the kernel's handle of it where there is one. Not
// installed.
#pragma once

#include <reactor/file_descriptor.hpp>
#include <reactor/stream/process.hpp>

#include <sys/types.h>

#include <optional>

namespace reactor::children {

/// The kernel's handle of a child, readable when it has ended. Empty before Linux 5.3, on other systems, and with errno
/// ESRCH if the child has ended and has been waited for already. It is close-on-exec by itself (pidfd_open(2)).
FileDescriptor handle_of(pid_t id) noexcept;

/// Waits for this child and no other. An empty result means that it has not ended; `flags` are WNOHANG and WNOWAIT as
/// for waitid(2). An ExitStatus without code and signal means that the child has been waited for already.
///
/// The handle is used where there is one: if the child has been waited for already, its number may belong to another
/// child of this program by now, and that one's end would be taken.
std::optional<ExitStatus> wait_for(pid_t id, const FileDescriptor& handle, int flags) noexcept;

/// Sends a signal; false if the child has ended. The handle means this child or no process. Without a handle the number
/// is used.
bool send_signal(pid_t id, const FileDescriptor& handle, int signal) noexcept;

}  // namespace reactor::children
