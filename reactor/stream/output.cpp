// A piece of a file goes from the kernel's memory of the file to the socket, by sendfile(2), and through this program
// where that is not to be had.
#include <reactor/stream/output_impl.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <poll.h>
#include <unistd.h>
#if REACTOR_HAS(SENDFILE)
#include <sys/sendfile.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <utility>

namespace reactor {

namespace {

// Leaves errno alone.
[[maybe_unused]] bool has_room(int to) noexcept {
    const int before = errno;
    pollfd entry{to, POLLOUT, 0};
    const bool room = ::poll(&entry, 1, 0) == 1 && (entry.revents & POLLOUT) != 0;
    errno = before;
    return room;
}

}  // namespace

struct Output::File {
    FileDescriptor descriptor;
    std::uint64_t offset;
    std::uint64_t left;
    std::size_t before;    // bytes between the file before it, if there is one, and this one
    bool blocking_socket;  // sendfile(2) would wait for it
    bool copied = blocking_socket;
};

struct Output::Files {
    std::deque<File> queue;
    std::uint64_t left = 0;  // of all of them
    std::size_t before = 0;  // of all of them
};

Output::Output() noexcept = default;
Output::~Output() = default;

void Output::append(FileDescriptor file, std::uint64_t offset, std::uint64_t length, bool to_blocking_socket) {
    std::unique_ptr<Files> first = files_ == nullptr ? std::make_unique<Files>() : nullptr;
    Files& files = first ? *first : *files_;
    const std::size_t before = bytes_.size() - files.before;
    files.queue.push_back({std::move(file), offset, length, before, to_blocking_socket});
    files.left += length;
    files.before += before;
    if (first) files_ = std::move(first);
}

std::size_t Output::size_with_files() const noexcept {
    const std::size_t bytes = std::min(bytes_.size(), most_size);
    return bytes + std::size_t(std::min<std::uint64_t>(most_size - bytes, files_->left));
}

Bytes Output::bytes_before_file() const noexcept {
    return bytes_.view().first(files_->queue.front().before);
}

void Output::consume(std::size_t size) noexcept {
    bytes_.consume(size);
    if (files_ == nullptr) return;
    files_->queue.front().before -= size;
    files_->before -= size;
}

ssize_t Output::copy(const File& file, int to, std::size_t size) noexcept {
    std::array<std::byte, 16 * 1024> piece;
    const int before = errno;
    ssize_t count = ::pread(file.descriptor.get(), piece.data(), std::min(piece.size(), size), off_t(file.offset));
    if (count == 0 || (count < 0 && errno == EINTR)) return count;
    if (count < 0) {  // a file system may return any error, which must not be taken for the peer's
        if (errno == EAGAIN || errno == EPIPE || errno == ECONNRESET) errno = EIO;
        return count;
    }
    size = std::size_t(count);
    if (file.blocking_socket) {
        count = ::send(to, piece.data(), size, MSG_DONTWAIT | send_flags);
    } else {
        count = without_sigpipe(size, [&] { return ::write(to, piece.data(), size); });
    }
    // A socket returns its error once, and EPIPE from then on.
    if (count < 0 && errno == EPIPE && before == ECONNRESET) errno = before;
    return count;
}

ssize_t Output::send_file(int to, std::size_t most) noexcept {
    File& file = files_->queue.front();
    errno = 0;
    const auto size = std::size_t(std::min<std::uint64_t>(file.left, most));
    ssize_t count = -1;
#if REACTOR_HAS(SENDFILE)
    if (!file.copied) {
        const auto send = [&] {
            off_t offset = off_t(file.offset);
            return without_sigpipe(size, [&] { return ::sendfile(to, file.descriptor.get(), &offset, size); });
        };
        count = send();
        // EAGAIN may be the file's word as well as the receiver's: a file system in a process of its own (FUSE) may say
        // it.
        if (count < 0 && errno == EAGAIN && has_room(to)) count = send();
        // It does not work between these two, or one of them is broken: then reading and writing show which.
        file.copied = count < 0 && errno != EINTR && (errno != EAGAIN || has_room(to));
    }
#else
    file.copied = true;
#endif
    if (file.copied && count < 0) count = copy(file, to, size);
    if (count > 0) file_moved(std::size_t(count));
    return count;
}

ssize_t Output::read_file(std::span<std::byte> into) noexcept {
    const File& file = files_->queue.front();
    const auto size = std::size_t(std::min<std::uint64_t>(file.left, into.size()));
    const ssize_t count = ::pread(file.descriptor.get(), into.data(), size, off_t(file.offset));
    if (count > 0) file_moved(std::size_t(count));
    return count;
}

// So much of the first file has left.
void Output::file_moved(std::size_t size) noexcept {
    File& file = files_->queue.front();
    file.offset += size;
    file.left -= size;
    files_->left -= size;
    if (file.left == 0) files_->queue.pop_front();
    if (files_->queue.empty()) files_.reset();
}

void Output::clear() noexcept {
    bytes_.clear();
    files_.reset();
}

}  // namespace reactor
