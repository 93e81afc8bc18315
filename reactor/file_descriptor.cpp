#include <reactor/file_descriptor.hpp>

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

}  // namespace reactor
