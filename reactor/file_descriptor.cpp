#include <reactor/beyond_standard_impl.hpp>
#include <reactor/file_descriptor.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace reactor {

void FileDescriptor::reset(int descriptor) noexcept {
    const int closing = std::exchange(descriptor_, descriptor);
    if (closing < 0) return;
    const int saved = errno;
    ::close(closing);
    errno = saved;
}

FileDescriptor move_beyond_standard(int descriptor) noexcept {
    const FileDescriptor low(descriptor);
    return FileDescriptor(low ? ::fcntl(low.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1);
}

}  // namespace reactor
