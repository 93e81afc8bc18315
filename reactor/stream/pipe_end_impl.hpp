// PipeEnd: one descriptor of a PipeTransport, which never blocks its loop. Non-blocking is no property of a descriptor
// but of the open file behind it (open(2), "open file description"), which duplicates and other processes share; so the
// flag O_NONBLOCK is the last of three ways.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>

#include <sys/types.h>

#include <cstddef>

namespace reactor {

/// 1. A pipe or a terminal is opened anew: then the open file, and its flag, are this object's alone. 2. A socket is
/// asked not to block in each call, with MSG_DONTWAIT. 3. Everything else gets the flag, and the last object of this
/// program over the same open file puts back what was there before. A regular file never blocks, and stays as it is.
class REACTOR_EXPORT PipeEnd {
public:
    /// Takes the descriptor, or none, over. Throws std::system_error; it is closed then.
    explicit PipeEnd(FileDescriptor descriptor);
    ~PipeEnd() { close(); }
    PipeEnd(const PipeEnd&) = delete;
    PipeEnd& operator=(const PipeEnd&) = delete;

    int get() const noexcept { return descriptor_.get(); }
    explicit operator bool() const noexcept { return bool(descriptor_); }
    bool is_socket() const noexcept { return socket_; }

    /// As read(2) and write(2), which may also say EAGAIN; without SIGPIPE.
    ssize_t read(std::byte* into, std::size_t size) const noexcept;
    ssize_t write(Bytes data) const noexcept;
    /// Nothing more can be written, nobody is there to read what has been, and write(2) says only EAGAIN.
    bool hung_up() const noexcept;

    void close() noexcept;

private:
    void set_flag();
    void put_flag_back() noexcept;

    static PipeEnd* flagged_;  // all those of this program that have come to the third way
    PipeEnd* next_ = nullptr;
    FileDescriptor descriptor_;
    int flags_ = -1;  // to be put back, by this one
    bool socket_ = false;
};

}  // namespace reactor
