// Output: the bytes and pieces of files that wait to be sent, in order. The bytes lie in memory, the pieces in their
// files.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/detail/byte_queue.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>

namespace reactor {

class REACTOR_EXPORT Output {
public:
    Output() noexcept;
    ~Output();
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    bool empty() const noexcept { return bytes_.empty() && files_ == nullptr; }
    /// Of both kinds together; no more than `most_size`, so that a little can be added. With so much in it no further
    /// file may be appended.
    static constexpr std::size_t most_size = std::numeric_limits<std::size_t>::max() / 2;
    std::size_t size() const noexcept { return files_ == nullptr ? bytes_.size() : size_with_files(); }
    std::size_t in_memory() const noexcept { return bytes_.size(); }

    /// Bytes of a file that one iteration sends at most.
    static constexpr std::size_t file_piece = 256 * 1024;

    /// Throw std::bad_alloc, and then nothing has changed.
    void append(Bytes bytes) { bytes_.append(bytes); }
    void append(FileDescriptor file, std::uint64_t offset, std::uint64_t length, bool to_blocking_socket = false);

    /// The bytes up to the next file. There are none if a file comes first.
    Bytes bytes() const noexcept { return files_ == nullptr ? bytes_.view() : bytes_before_file(); }
    bool begins_with_file() const noexcept { return files_ != nullptr && bytes_before_file().empty(); }

    /// Drops so many of `bytes()`.
    void consume(std::size_t size) noexcept;

    /// Sends `most` bytes at most of the file that comes first, as write(2) does: how many it was, or -1 and errno. 0:
    /// the file has become shorter. Without SIGPIPE.
    ssize_t send_file(int to, std::size_t most) noexcept;

    /// Reads of that file into `into`, as read(2) does, and drops what it has read. For a transport that changes the
    /// bytes on their way.
    ssize_t read_file(std::span<std::byte> into) noexcept;

    void clear() noexcept;

private:
    struct File;
    struct Files;
    static ssize_t copy(const File& file, int to, std::size_t size) noexcept;
    std::size_t size_with_files() const noexcept;
    void file_moved(std::size_t size) noexcept;
    Bytes bytes_before_file() const noexcept;

    ByteQueue bytes_;
    std::unique_ptr<Files> files_;  // only while there are some
};

}  // namespace reactor
