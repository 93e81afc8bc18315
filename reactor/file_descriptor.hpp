// FileDescriptor: owns one descriptor of the kernel's and closes it once.
#pragma once

#include <reactor/export.hpp>

#include <utility>

namespace reactor {

/// The owner of a descriptor, or of none. It can be moved; destroying it closes the descriptor.
class REACTOR_EXPORT FileDescriptor {
public:
    FileDescriptor() noexcept = default;
    /// Takes ownership. A negative number is none.
    explicit FileDescriptor(int descriptor) noexcept : descriptor_(descriptor) {}
    FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(other.release()) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~FileDescriptor() { reset(); }

    int get() const noexcept { return descriptor_; }
    explicit operator bool() const noexcept { return descriptor_ >= 0; }

    /// Gives the descriptor away.
    [[nodiscard]] int release() noexcept { return std::exchange(descriptor_, -1); }

    /// Closes what it owns, then owns `descriptor`. close(2) is called once whatever it returns: on Linux the
    /// number is free even after EINTR, and a second call would close another file's. Leaves errno alone.
    void reset(int descriptor = -1) noexcept;

private:
    int descriptor_ = -1;
};

}  // namespace reactor
