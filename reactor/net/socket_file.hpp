// The file of a Unix socket. bind(2) makes it and the kernel never removes it, so a server that died leaves one behind
// on which no other can listen. Here such a file is replaced if no socket is bound to it any more, and its maker
// removes it.
#pragma once

#include <reactor/export.hpp>
#include <reactor/net/address.hpp>
#include <reactor/net/socket.hpp>

#include <cstdint>
#include <utility>

namespace reactor {

/// Binds as Socket::bind does. If a Unix socket's file is in the way and no socket is bound to it any more, removes the
/// file and binds again. A socket that is alive, listening or not, and a file that is no socket are left alone: then
/// it throws std::system_error (address_in_use). A live socket does not notice the check. If several processes find a
/// dead file at the same time, one takes it, by a lock on its folder (flock(2)), which leaves nothing behind. If
/// another process keeps that lock, the call waits for half a second and goes on without it.
REACTOR_EXPORT void bind_replacing(Socket& socket, const Address& address);

/// Removes the file when it is destroyed, unless another file has come into its place meanwhile.
class [[nodiscard]] REACTOR_EXPORT SocketFile {
public:
    /// None.
    SocketFile() noexcept = default;
    /// The file that binding a socket to `address` has just made; none if that is no path. A relative path counts
    /// from the folder that is then the current one.
    explicit SocketFile(const Address& address) noexcept;
    SocketFile(SocketFile&& other) noexcept
        : address_(std::exchange(other.address_, {})), device_(other.device_), number_(other.number_) {}
    SocketFile& operator=(SocketFile&& other) noexcept {
        if (this != &other) {
            remove();
            address_ = std::exchange(other.address_, {});
            device_ = other.device_;
            number_ = other.number_;
        }
        return *this;
    }
    ~SocketFile() { remove(); }

    /// Removes it now.
    void remove() noexcept;

    /// Leaves it where it is: for a process that hands the socket on.
    void release() noexcept { address_ = {}; }

private:
    Address address_;                        // not a string: a file must not stay for lack of memory
    std::uint64_t device_ = 0, number_ = 0;  // which file it was
};

}  // namespace reactor
