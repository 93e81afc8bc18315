// The error of the last system call.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

namespace reactor {

inline std::error_code last_error() noexcept {
    return {errno, std::system_category()};
}

// The argument is a piece of text and not a finished message: making one could change errno.
[[noreturn]] inline void throw_last_error(const char* call, std::string_view argument) {
    const std::error_code error = last_error();
    throw std::system_error(error, std::string(call).append("(").append(argument).append(")"));
}

// Nothing is wrong: it is to be tried again, when the descriptor is ready or at once.
inline bool would_block(int error) noexcept {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

// For a call that has an older neighbour. ENOSYS is a kernel's word that is older than the call. A system-call filter
// that is older than it answers EPERM (libseccomp's default action in container runtimes before 2020, also on new
// kernels).
inline bool call_is_unknown(int error) noexcept {
    return error == ENOSYS || error == EPERM;
}

}  // namespace reactor
