// The numbers 0 to 2 belong to the standard streams, also in a program that was started without them. Not installed.
#pragma once

#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>

#include <unistd.h>

namespace reactor {

REACTOR_EXPORT FileDescriptor move_beyond_standard(int descriptor) noexcept;

/// Takes over the descriptor that a system call has just made, and returns it under a number above 2. The kernel gives
/// the lowest free number. At 0 to 2 the program and its children would read and write the loop's own descriptor as a
/// standard stream. Close-on-exec stays. The result is empty, with errno set, if the call has failed (-1) or no higher
/// number is free (EMFILE).
inline FileDescriptor beyond_standard(int descriptor) noexcept {
    if (descriptor > STDERR_FILENO) [[likely]]
        return FileDescriptor(descriptor);
    return move_beyond_standard(descriptor);
}

}  // namespace reactor
