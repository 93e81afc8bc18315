// Common to all transports: several pieces in one write, and files for those without a better way.
#include <reactor/stream/no_transport_impl.hpp>
#include <reactor/stream/transport.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

namespace reactor {

namespace {

// The error, if there was one.
std::error_code read_whole(const FileDescriptor& file, std::uint64_t offset, std::span<std::byte> bytes) noexcept {
    while (!bytes.empty()) {
        const ssize_t count = ::pread(file.get(), bytes.data(), bytes.size(), off_t(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return {errno, std::system_category()};
        if (count == 0) return Error::file_shortened;
        bytes = bytes.subspan(std::size_t(count));
        offset += std::uint64_t(count);
    }
    return {};
}

}  // namespace

Transport* Protocol::no_transport() noexcept {
    static NoTransport closed(nullptr);
    return &closed;
}

void Transport::move_to(Reactor&, MoveOnlyFunction<void()>) {
    throw std::logic_error("Transport::move_to: this transport cannot move to another loop");
}

// Put together first, and not written one by one: of a transport that sends at once each would be a packet of its own.
bool Transport::write_together(std::span<const Bytes> pieces) {
    std::size_t size = 0;
    for (const Bytes piece : pieces) size += piece.size();
    std::array<std::byte, 4096> few;
    std::unique_ptr<std::byte[]> many;
    if (size > few.size()) many.reset(new std::byte[size]);
    std::byte* const all = many != nullptr ? many.get() : few.data();
    std::byte* end = all;
    for (const Bytes piece : pieces) end = std::copy(piece.begin(), piece.end(), end);
    return write(Bytes(all, size));
}

std::uint64_t Transport::length_of(const FileDescriptor& file, std::uint64_t offset, std::uint64_t length) {
    struct stat state {};
    if (::fstat(file.get(), &state) != 0)
        throw std::system_error(errno, std::system_category(),
                                "Transport::write_file: fstat of " + std::to_string(file.get()));
    if (!S_ISREG(state.st_mode)) throw std::invalid_argument("Transport::write_file: not a regular file");
    const auto size = std::uint64_t(state.st_size);
    if (offset > size || (length != rest_of_file && length > size - offset))
        throw std::invalid_argument("Transport::write_file: the file has " + std::to_string(size) + " bytes, and " +
                                    (length == rest_of_file ? "those" : std::to_string(length)) + " from " +
                                    std::to_string(offset) + " on are wanted");
    // The files in /proc, and in some file systems in user space, have content and a size of 0. To trust that would be
    // to send nothing and call it the whole.
    std::byte first;
    if (size == 0 && length == rest_of_file && ::pread(file.get(), &first, 1, 0) == 1)
        throw std::invalid_argument("Transport::write_file: the file has content, and a size of 0");
    return std::min(length, size - offset);
}

bool Transport::write_at_once(const FileDescriptor& file, std::uint64_t offset, std::uint64_t length) {
    std::array<std::byte, small_file> buffer;
    while (length > 0) {
        const auto piece = std::span(buffer).first(std::size_t(std::min<std::uint64_t>(length, buffer.size())));
        if (const auto error = read_whole(file, offset, piece)) {
            abort(error);
            return false;
        }
        if (!write(piece)) return false;
        offset += piece.size();
        length -= piece.size();
    }
    return write(Bytes());  // false after the end also if there was nothing to write
}

bool Transport::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    length = length_of(file, offset, length);
    return write_at_once(file, offset, length);
}

}  // namespace reactor
