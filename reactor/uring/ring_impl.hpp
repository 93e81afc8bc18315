// The kernel's ring as a CompletionQueue. Not installed.
#pragma once

#include <reactor/uring/completion_queue.hpp>

#include <memory>

namespace reactor {

/// Throws std::system_error if the kernel has no io_uring(7) for this process: older than Linux 6.1 (EINVAL), or
/// forbidden by a filter of system calls or by the administrator (ENOSYS, EPERM).
std::unique_ptr<CompletionQueue> make_ring();

/// Would one be made, as far as can be said without making it?
bool ring_is_allowed() noexcept;

}  // namespace reactor
