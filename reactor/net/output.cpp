// A piece of a file goes from the kernel's memory of the file to the socket, by sendfile(2), and through this program
// where that is not to be had.
#include <reactor/net/output.hpp>
#include <reactor/net/without_sigpipe.hpp>

#include <unistd.h>
#ifdef __linux__
#include <sys/sendfile.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <limits>
#include <utility>

namespace reactor {

struct Output::Files {
    struct File {
        FileDescriptor descriptor;
        std::uint64_t offset;
        std::uint64_t left;
        std::size_t before;  // bytes between the file before it, if there is one, and this one
        bool copied = false;
    };
    std::deque<File> queue;
    std::uint64_t left = 0;  // of all of them
    std::size_t before = 0;  // of all of them
};

Output::Output() noexcept = default;
Output::~Output() = default;

void Output::append(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    std::unique_ptr<Files> first = files_ == nullptr ? std::make_unique<Files>() : nullptr;
    Files& files = first ? *first : *files_;
    const std::size_t before = bytes_.size() - files.before;
    files.queue.push_back({std::move(file), offset, length, before});
    files.left += length;
    files.before += before;
    if (first) files_ = std::move(first);
}

std::size_t Output::size_with_files() const noexcept {
    constexpr std::uint64_t most = std::numeric_limits<std::size_t>::max();  // a file may have more than that
    return std::size_t(std::min(most, bytes_.size() + files_->left));
}

Bytes Output::bytes_before_file() const noexcept { return bytes_.view().first(files_->queue.front().before); }

void Output::consume(std::size_t size) noexcept {
    bytes_.consume(size);
    if (files_ == nullptr) return;
    files_->queue.front().before -= size;
    files_->before -= size;
}

ssize_t Output::send_file(int to, std::size_t most) noexcept {
    Files::File& file = files_->queue.front();
    const auto size = std::size_t(std::min<std::uint64_t>(file.left, most));
    ssize_t count = -1;
#ifdef __linux__
    if (!file.copied) {
        off_t offset = off_t(file.offset);
        count = without_sigpipe([&] { return ::sendfile(to, file.descriptor.get(), &offset, size); });
        file.copied = count < 0 && (errno == EINVAL || errno == ENOSYS);  // between these two it cannot
    }
#else
    file.copied = true;
#endif
    if (file.copied) {
        std::array<std::byte, 16 * 1024> piece;
        count = ::pread(file.descriptor.get(), piece.data(), std::min(piece.size(), size), off_t(file.offset));
        if (count > 0) count = without_sigpipe([&] { return ::write(to, piece.data(), std::size_t(count)); });
    }
    if (count <= 0) return count;
    file.offset += std::uint64_t(count);
    file.left -= std::uint64_t(count);
    files_->left -= std::uint64_t(count);
    if (file.left == 0) files_->queue.pop_front();
    if (files_->queue.empty()) files_.reset();
    return count;
}

void Output::clear() noexcept {
    bytes_.clear();
    files_.reset();
}

}  // namespace reactor
