// The error of the last system call.
#pragma once

#include <cerrno>
#include <system_error>

namespace reactor {

inline std::error_code last_error() noexcept { return {errno, std::system_category()}; }

// Nothing is wrong: it is to be tried again, when the descriptor is ready or at once.
inline bool would_block(int error) noexcept { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace reactor
