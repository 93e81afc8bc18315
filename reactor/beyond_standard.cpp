#include <reactor/beyond_standard_impl.hpp>

#include <fcntl.h>
#include <unistd.h>

namespace reactor {

FileDescriptor move_beyond_standard(int descriptor) noexcept {
    const FileDescriptor low(descriptor);
    return FileDescriptor(low ? ::fcntl(low.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1);
}

}  // namespace reactor
