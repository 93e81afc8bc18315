// Control messages beside the bytes of a datagram, in both directions (cmsg(3), ip(7), ipv6(7)): their values, and addresses
// made of them.
#pragma once

#include <reactor/file_descriptor.hpp>
#include <reactor/net/address.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <system_error>

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
