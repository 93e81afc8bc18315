// The numbers 0 to 2 belong to the standard streams, also in a program that was started without them. Not installed.
#pragma once

#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>

#include <unistd.h>

namespace reactor {

REACTOR_EXPORT FileDescriptor move_beyond_standard(int descriptor) noexcept;

/// Takes over what a system call has just made, and returns it under a number above 2. The kernel gives the lowest free
/// number; at 0 to 2 the loop's own descriptor would be what the program and its children read and write as standard
/// streams. Close-on-exec stays. Empty, with errno set, if the call has failed (-1) or there is no higher number (EMFILE).
inline FileDescriptor beyond_standard(int descriptor) noexcept {
    if (descriptor > STDERR_FILENO) [[likely]]
        return FileDescriptor(descriptor);
    return move_beyond_standard(descriptor);
}

}  // namespace reactor
