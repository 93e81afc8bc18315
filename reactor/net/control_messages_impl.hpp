// Control messages beside the bytes of a datagram, in both directions (cmsg(3), ip(7), ipv6(7)): their values, and
// addresses made of them.
#pragma once

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/net/address.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <utility>

namespace reactor::control_messages {

constexpr std::size_t most_descriptors = 253;  // SCM_MAX_FD, unix(7)

// Closes a received descriptor that was not taken. A socket may have SO_LINGER set by its sender: the last close(2)
// of it then waits until its data is acknowledged, for up to 18 hours, and O_NONBLOCK makes no difference (Linux 6.18).
inline void close_unwanted(FileDescriptor descriptor) noexcept {
    const ::linger off{};
    if (descriptor)
        ::setsockopt(descriptor.get(), SOL_SOCKET, SO_LINGER, &off, sizeof off);  // ENOTSOCK of anything else
}

template <class Value>
Value value_in(const cmsghdr* control) noexcept {
    Value value{};
    std::memcpy(&value, CMSG_DATA(control), sizeof value);
    return value;
}

template <class Value>
void put_control(msghdr& header, int level, int type, const Value& value) noexcept {
    auto* const control = reinterpret_cast<cmsghdr*>(static_cast<char*>(header.msg_control) + header.msg_controllen);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(control), &value, sizeof value);
    header.msg_controllen += CMSG_SPACE(sizeof value);
}

inline int descriptor_number(int descriptor) noexcept {
    return descriptor;
}
inline int descriptor_number(const FileDescriptor& descriptor) noexcept {
    return descriptor.get();
}

// Has the header send descriptors, at least one, with its bytes: numbers, or owners of them. `header.msg_control` has
// room for them (CMSG_SPACE).
template <class Descriptors>
void put_descriptors(msghdr& header, const Descriptors& descriptors) noexcept {
    const std::size_t size = descriptors.size() * sizeof(int);
    header.msg_controllen = decltype(header.msg_controllen)(CMSG_SPACE(size));
    cmsghdr* const control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = decltype(control->cmsg_len)(CMSG_LEN(size));
    std::size_t at = 0;
    for (const auto& descriptor : descriptors) {
        const int number = descriptor_number(descriptor);
        std::memcpy(CMSG_DATA(control) + at, &number, sizeof number);
        at += sizeof number;
    }
}

#if REACTOR_HAS(MSG_CMSG_CLOEXEC)
constexpr int receive_flags = MSG_CMSG_CLOEXEC;
#else
constexpr int receive_flags = 0;
#endif

// Gives each descriptor that came in this control message to `take`, close-on-exec and with a number above 2. It is
// empty, and errno says why, if no such number is free. Nothing happens for a control message of another kind.
template <class Take>
void take_descriptors(const cmsghdr* control, Take&& take) noexcept {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) return;
    for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= control->cmsg_len; at += sizeof(int)) {
        int number = -1;
        std::memcpy(&number, CMSG_DATA(control) + at, sizeof number);
        FileDescriptor descriptor = beyond_standard(number);
#if !REACTOR_HAS(MSG_CMSG_CLOEXEC)
        if (descriptor) ::fcntl(descriptor.get(), F_SETFD, FD_CLOEXEC);
#endif
        take(std::move(descriptor));
    }
}

template <class Kind>
Address address_of(const Kind& filled) noexcept {
    return Address(reinterpret_cast<const sockaddr*>(&filled), sizeof filled);
}

inline Address ipv4_address(const in_addr& host, std::uint16_t port) noexcept {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr = host;
    address.sin_port = htons(port);
    return address_of(address);
}

inline Address ipv6_address(const in6_addr& host, std::uint16_t port, unsigned interface) noexcept {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = host;
    address.sin6_port = htons(port);
    if (IN6_IS_ADDR_LINKLOCAL(&host) || IN6_IS_ADDR_MC_LINKLOCAL(&host) || IN6_IS_ADDR_MC_NODELOCAL(&host))
        address.sin6_scope_id = interface;
    return address_of(address);
}

// Of family none also where an Address cannot hold it.
inline Address sender_of(const msghdr& header) noexcept {
    try {
        return Address(static_cast<const sockaddr*>(header.msg_name), header.msg_namelen);
    } catch (const std::system_error&) {
        return {};
    }
}

}  // namespace reactor::control_messages
