// A socket's address: IPv4, IPv6 or Unix, as one value that can be parsed, printed and compared. No system
// header is needed to hold one, so protocols can ask for their peer's.
#pragma once

#include <reactor/export.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct sockaddr;

namespace reactor {

class Address;
REACTOR_EXPORT bool operator==(const Address& a, const Address& b) noexcept;
REACTOR_EXPORT std::strong_ordering operator<=>(const Address& a, const Address& b) noexcept;

/// The address of a socket, as a value: copied, compared, kept for as long as one likes.
class REACTOR_EXPORT Address {
public:
    /// The kinds of address; `none` if there is no address.
    enum class Family { none, ipv4, ipv6, unix_domain };

    /// No address, as of an unnamed Unix socket or a dead connection.
    Address() noexcept = default;

    /// From what the kernel filled in (accept(2), getsockname(2)). `length` is the kernel's, and may be more
    /// than it had room for; with none at all this is no address. Throws std::system_error
    /// (address_family_not_supported) for families other than IPv4, IPv6 and Unix.
    Address(const sockaddr* address, std::size_t length);

    /// A numeric IP address, "127.0.0.1", "::1", "fe80::1%eth0", without a port. Nothing is looked up:
    /// nullopt if it is not one.
    static std::optional<Address> ip(std::string_view text, std::uint16_t port) noexcept;

    /// A Unix socket's path. Throws std::system_error: filename_too_long for one that does not fit with its
    /// terminator (107 bytes are the most on Linux, unix(7)), invalid_argument for an empty one and for a NUL.
    static Address unix_path(std::string_view path);

    /// A name in Linux's abstract namespace (unix(7)): any bytes, NUL too, at least one and at most 107. Throws
    /// like `unix_path`. Other systems have no such names: there it throws operation_not_supported.
    static Address unix_abstract(std::string_view name);

    /// Reads back what `to_string` printed of a named one: "127.0.0.1:80", "[::1]:80", "unix:/run/socket",
    /// "unix:@name".
    /// Throws std::system_error (invalid_argument) that quotes the text and names the forms.
    static Address parse(std::string_view text);

    Family family() const noexcept;
    /// The port in the host's byte order; 0 where there is none.
    std::uint16_t port() const noexcept;
    /// The same address with another port. Unix addresses are returned unchanged.
    Address with_port(std::uint16_t port) const noexcept;
    /// The host alone: "127.0.0.1", "::1", "/run/socket", "@name"; empty for an unnamed one.
    std::string host() const;
    /// "127.0.0.1:80", "[::1]:80", "unix:/run/socket", "unix:@name"; "unix:" if unnamed, "none" if empty. Bytes
    /// of an abstract name that cannot be printed, and backslashes, are written `\xHH`. A path that begins
    /// with "@" gets "./" in front.
    std::string to_string() const;

    /// For system calls: the sockaddr and its length.
    const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(storage_); }
    std::size_t size() const noexcept { return size_; }

    /// Same family, host, scope and port; the flow label of IPv6 does not count. The order is that of the bytes:
    /// good for sets, meaningless otherwise.
    friend bool operator==(const Address& a, const Address& b) noexcept;
    friend std::strong_ordering operator<=>(const Address& a, const Address& b) noexcept;

private:
    // As large as the largest kind (sockaddr_un, 110 bytes), as strictly aligned as any.
    alignas(8) std::byte storage_[112] = {};
    std::uint8_t size_ = 0;
};

/// All the addresses that a name has for `port`, IPv4 first, each once. "" is every address of this machine
/// (0.0.0.0 and ::), "localhost" and names that end in ".localhost" are both loopback addresses (RFC 6761 6.3),
/// whatever /etc/hosts says; these, numeric addresses and "unix:…" cost no look-up. Everything else asks
/// getaddrinfo(3), which BLOCKS: for setting up only; while a loop runs use Resolver. Throws std::system_error that
/// names the host; its category is "getaddrinfo", or the system's.
REACTOR_EXPORT std::vector<Address> resolve_blocking(std::string_view host, std::uint16_t port);

}  // namespace reactor
