// Addresses to text and back, as people write them, and the names that need no look-up. Text that comes from outside is
// never trusted: a Unix path may have no end, and an abstract name may be any bytes.
#include <reactor/net/address.hpp>
#include <reactor/net/look_up_impl.hpp>
#include <reactor/system_impl.hpp>

#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <system_error>

namespace reactor {

namespace {

constexpr std::size_t path_offset = offsetof(sockaddr_un, sun_path);
constexpr std::size_t path_room = sizeof(sockaddr_un::sun_path);

// The storage is bytes to the compiler, so what lies in it is copied out and never pointed at.
template <class Kind>
Kind copy_as(const Address& address) noexcept {
    Kind kind{};
    std::memcpy(&kind, address.data(), std::min(sizeof kind, address.size()));
    return kind;
}

// The part of a Unix address behind the family: a path with its terminator, an abstract name behind its NUL.
std::string_view unix_bytes(const Address& address) noexcept {
    return {reinterpret_cast<const char*>(address.data()) + path_offset, address.size() - path_offset};
}

std::optional<std::uint16_t> parse_port(std::string_view text) noexcept {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return port;
}

// An interface's number, from its name or written out (RFC 4007, 11.2). 0 is none.
std::uint32_t parse_scope(std::string_view text) noexcept {
    char name[IF_NAMESIZE] = {};
    if (text.empty() || text.size() >= sizeof name || text.find('\0') != std::string_view::npos) return 0;
    text.copy(name, text.size());
    if (const unsigned index = ::if_nametoindex(name)) return index;
    std::uint32_t index = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    return error == std::errc{} && end == text.data() + text.size() ? index : 0;
}

constexpr std::string_view hexadecimal_digits = "0123456789abcdef";

std::string escaped(std::string_view bytes) {
    std::string text;
    for (const char byte : bytes) {
        if (byte >= ' ' && byte <= '~' && byte != '\\') {
            text += byte;
        } else {
            const auto value = static_cast<unsigned char>(byte);
            text.append("\\x").append(1, hexadecimal_digits[value >> 4]).append(1, hexadecimal_digits[value & 15]);
        }
    }
    return text;
}

std::string unescaped(std::string_view text) {
    std::string bytes;
    for (std::size_t at = 0; at < text.size(); ++at) {
        unsigned char value = 0;
        if (text.substr(at, 2) == "\\x" && at + 4 <= text.size() &&
            std::from_chars(text.data() + at + 2, text.data() + at + 4, value, 16).ptr == text.data() + at + 4) {
            bytes += static_cast<char>(value);
            at += 3;
        } else {
            bytes += text[at];
        }
    }
    return bytes;
}

Address unix_address(std::string_view bytes) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    bytes.copy(address.sun_path, path_room);
    return Address(reinterpret_cast<const sockaddr*>(&address), path_offset + bytes.size());
}

[[noreturn]] void refuse(std::errc error, const char* what, std::string_view name) {
    throw std::system_error(std::make_error_code(error), std::string(what) + " '" + escaped(name.substr(0, 256)) + "'");
}

Address parse_unix(std::string_view name) {
    if (name.starts_with('@')) return Address::unix_abstract(unescaped(name.substr(1)));
    return Address::unix_path(name);
}

}  // namespace

Address::Address(const sockaddr* address, std::size_t length) {
    // Some systems give an accepted connection that is dead already an address of no length.
    if (length < offsetof(sockaddr, sa_data)) return;
    sa_family_t family = AF_UNSPEC;
    std::memcpy(&family, reinterpret_cast<const char*>(address) + offsetof(sockaddr, sa_family), sizeof family);
    std::size_t size = 0;
    if (family == AF_INET && length >= sizeof(sockaddr_in)) size = sizeof(sockaddr_in);
    if (family == AF_INET6 && length >= sizeof(sockaddr_in6)) size = sizeof(sockaddr_in6);
    if (family == AF_UNIX) {
        // A path of 108 bytes has no room for its terminator: Linux then reports a length of 111, more than
        // sockaddr_un has. A path that was bound with bytes behind its terminator is the path alone.
        size = std::min(length, path_offset + path_room);
        const char* path = reinterpret_cast<const char*>(address) + path_offset;
        if (size > path_offset && *path != '\0')
            size = path_offset + std::min(::strnlen(path, size - path_offset) + 1, path_room);
    }
    if (size == 0)
        throw std::system_error(std::make_error_code(std::errc::address_family_not_supported),
                                "Address: family " + std::to_string(family) + ", length " + std::to_string(length));
    static_assert(sizeof(sockaddr_un) <= sizeof storage_ && sizeof(sockaddr_in6) <= sizeof storage_ &&
                  alignof(sockaddr_un) <= 8 && alignof(sockaddr_in6) <= 8);
    std::memcpy(storage_, address, std::min(size, length));
    size_ = static_cast<std::uint8_t>(size);
}

std::optional<Address> Address::ip(std::string_view text, std::uint16_t port) noexcept {
    const std::size_t percent = std::min(text.find('%'), text.size());
    const std::string_view host = text.substr(0, percent);
    char terminated[INET6_ADDRSTRLEN] = {};
    if (host.size() >= sizeof terminated) return std::nullopt;
    host.copy(terminated, host.size());
    // A NUL inside would hide what follows from inet_pton.
    if (host.find('\0') != std::string_view::npos) return std::nullopt;

    sockaddr_in ipv4{};
    if (percent == text.size() && ::inet_pton(AF_INET, terminated, &ipv4.sin_addr) == 1) {
        ipv4.sin_family = AF_INET;
        ipv4.sin_port = htons(port);
        return Address(reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4);
    }
    sockaddr_in6 ipv6{};
    if (::inet_pton(AF_INET6, terminated, &ipv6.sin6_addr) != 1) return std::nullopt;
    if (percent != text.size()) {
        ipv6.sin6_scope_id = parse_scope(text.substr(percent + 1));
        if (ipv6.sin6_scope_id == 0) return std::nullopt;
    }
    ipv6.sin6_family = AF_INET6;
    ipv6.sin6_port = htons(port);
    return Address(reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6);
}

Address Address::unix_path(std::string_view path) {
    if (path.empty() || path.find('\0') != std::string_view::npos)
        refuse(std::errc::invalid_argument, "Unix path", path);
    if (path.size() >= path_room) refuse(std::errc::filename_too_long, "Unix path", path);
    return unix_address(path);
}

Address Address::unix_abstract(std::string_view name) {
#if REACTOR_HAS(ABSTRACT_NAMES)
    if (name.empty()) refuse(std::errc::invalid_argument, "abstract Unix name", name);
    if (name.size() >= path_room) refuse(std::errc::filename_too_long, "abstract Unix name", name);
    return unix_address(std::string(1, '\0').append(name));
#else
    refuse(std::errc::operation_not_supported, "abstract Unix name", name);
#endif
}

Address Address::parse(std::string_view text) {
    if (text.starts_with("unix:") && text.size() > 5) return parse_unix(text.substr(5));
    const std::size_t colon = text.rfind(':');
    if (colon != std::string_view::npos) {
        const auto port = parse_port(text.substr(colon + 1));
        std::string_view host = text.substr(0, colon);
        // Without its brackets the end of an IPv6 address could be a port: "::1:80".
        const bool bracketed = host.starts_with('[') && host.ends_with(']');
        if (bracketed) host = host.substr(1, host.size() - 2);
        const auto address = port ? ip(host, *port) : std::nullopt;
        if (address && bracketed == (address->family() == Family::ipv6)) return *address;
    }
    throw std::system_error(
        std::make_error_code(std::errc::invalid_argument),
        "address '" + escaped(text.substr(0, 256)) + "': expected 127.0.0.1:80, [::1]:80, unix:/path or unix:@name");
}

Address::Family Address::family() const noexcept {
    if (size_ == 0) return Family::none;
    switch (copy_as<sockaddr>(*this).sa_family) {
        case AF_INET: return Family::ipv4;
        case AF_INET6: return Family::ipv6;
        default: return Family::unix_domain;
    }
}

std::uint16_t Address::port() const noexcept {
    switch (family()) {
        case Family::ipv4: return ntohs(copy_as<sockaddr_in>(*this).sin_port);
        case Family::ipv6: return ntohs(copy_as<sockaddr_in6>(*this).sin6_port);
        default: return 0;
    }
}

Address Address::with_port(std::uint16_t port) const noexcept {
    static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
    Address result = *this;
    const std::uint16_t in_network_order = htons(port);
    if (family() == Family::ipv4 || family() == Family::ipv6)
        std::memcpy(result.storage_ + offsetof(sockaddr_in, sin_port), &in_network_order, sizeof in_network_order);
    return result;
}

std::string Address::host() const {
    char text[INET6_ADDRSTRLEN] = {};
    switch (family()) {
        case Family::none: return {};
        case Family::ipv4: {
            const auto address = copy_as<sockaddr_in>(*this);
            return ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
        }
        case Family::ipv6: {
            const auto address = copy_as<sockaddr_in6>(*this);
            std::string host = ::inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof text);
            if (address.sin6_scope_id == 0) return host;
            char name[IF_NAMESIZE] = {};
            // The interface may be gone by now; its number still distinguishes the address.
            if (::if_indextoname(address.sin6_scope_id, name) == nullptr)
                return host + '%' + std::to_string(address.sin6_scope_id);
            return host + '%' + name;
        }
        case Family::unix_domain: break;
    }
    const std::string_view bytes = unix_bytes(*this);
    if (bytes.empty()) return {};
    if (bytes.front() == '\0') return '@' + escaped(bytes.substr(1));
    const std::string_view path = bytes.substr(0, bytes.find('\0'));
    // A relative path that would read as an abstract name.
    return path.front() == '@' ? "./" + std::string(path) : std::string(path);
}

std::string Address::to_string() const {
    switch (family()) {
        case Family::ipv4: return host() + ':' + std::to_string(port());
        case Family::ipv6: return '[' + host() + "]:" + std::to_string(port());
        case Family::unix_domain: return "unix:" + host();
        case Family::none: break;
    }
    return "none";
}

bool operator==(const Address& a, const Address& b) noexcept {
    return (a <=> b) == 0;
}

// Field by field: the padding of a sockaddr_in, and the flow label that the kernel may fill in, make no difference.
std::strong_ordering operator<=>(const Address& a, const Address& b) noexcept {
    if (const auto order = a.family() <=> b.family(); order != 0) return order;
    switch (a.family()) {
        case Address::Family::none: return std::strong_ordering::equal;
        case Address::Family::ipv4: {
            const auto left = copy_as<sockaddr_in>(a), right = copy_as<sockaddr_in>(b);
            const int order = std::memcmp(&left.sin_addr, &right.sin_addr, sizeof left.sin_addr);
            return order != 0 ? order <=> 0 : a.port() <=> b.port();
        }
        case Address::Family::ipv6: {
            const auto left = copy_as<sockaddr_in6>(a), right = copy_as<sockaddr_in6>(b);
            const int order = std::memcmp(&left.sin6_addr, &right.sin6_addr, sizeof left.sin6_addr);
            if (order != 0) return order <=> 0;
            if (const auto scopes = left.sin6_scope_id <=> right.sin6_scope_id; scopes != 0) return scopes;
            return a.port() <=> b.port();
        }
        case Address::Family::unix_domain: break;
    }
    return unix_bytes(a) <=> unix_bytes(b);
}

// ── names ──

namespace {

// getaddrinfo's errors are numbers of its own.
const std::error_category& look_up_category() noexcept {
    struct Category final : std::error_category {
        const char* name() const noexcept override { return "getaddrinfo"; }
        std::string message(int value) const override { return ::gai_strerror(value); }
    };
    static const Category category;
    return category;
}

// Its EAI_SYSTEM means errno.
std::error_code look_up_error(int error, int system_error) noexcept {
    if (error == EAI_SYSTEM) return {system_error, std::system_category()};
    return {error, look_up_category()};
}

// RFC 6761, 6.3: these names, and all below them, never leave the machine.
bool is_localhost(std::string_view host) noexcept {
    constexpr std::string_view localhost = "localhost";
    if (host.ends_with('.')) host.remove_suffix(1);
    if (host.size() < localhost.size()) return false;
    const std::string_view end = host.substr(host.size() - localhost.size());
    const bool same = std::equal(end.begin(), end.end(), localhost.begin(),
                                 [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + ('a' - 'A') : a) == b; });
    return same && (host.size() == end.size() || host[host.size() - end.size() - 1] == '.');
}

// No AI_ADDRCONFIG: on a machine whose only interface is the loopback one, glibc then finds no name at all.
addrinfo hints_for(Address::Family family) noexcept {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    switch (family) {
        case Address::Family::none: hints.ai_family = AF_UNSPEC; break;
        case Address::Family::ipv4: hints.ai_family = AF_INET; break;
        case Address::Family::ipv6: hints.ai_family = AF_INET6; break;
        case Address::Family::unix_domain: hints.ai_family = AF_UNIX; break;  // getaddrinfo refuses it
    }
#if REACTOR_HAS(GLIBC)
    // A name may have an IPv4 address in /etc/hosts and none of IPv6. Asked for IPv6 alone, glibc (seen in 2.36) goes
    // on to the name server, and an address from there would be preferred to the one that this machine's owner wrote
    // down. With this flag glibc takes the IPv4 address for an answer and ends its search; look_up leaves that answer
    // out.
    if (family == Address::Family::ipv6) hints.ai_flags = AI_V4MAPPED;
#endif
    return hints;
}

bool is_mapped(const Address& address) noexcept {
    const auto ipv6 = copy_as<sockaddr_in6>(address);
    return address.family() == Address::Family::ipv6 && IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr);
}

}  // namespace

std::vector<Address> look_up(std::string_view host, Address::Family family) {
    const addrinfo hints = hints_for(family);
    addrinfo* list = nullptr;
    if (const int result = ::getaddrinfo(std::string(host).c_str(), nullptr, &hints, &list); result != 0) {
        const std::error_code error = look_up_error(result, errno);
        throw std::system_error(error, "host '" + escaped(host) + "'");
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, ::freeaddrinfo);

    std::vector<Address> addresses;
    for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
        if (entry->ai_family != AF_INET && entry->ai_family != AF_INET6) continue;
        const Address address(entry->ai_addr, entry->ai_addrlen);
        if ((hints.ai_flags & AI_V4MAPPED) != 0 && is_mapped(address)) continue;
        if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) addresses.push_back(address);
    }
    if (addresses.empty()) refuse(std::errc::address_not_available, "host", host);
    std::stable_partition(addresses.begin(), addresses.end(),
                          [](const Address& address) { return address.family() == Address::Family::ipv4; });
    return addresses;
}

bool says_no_address(const std::error_code& error) noexcept {
    if (error == std::errc::address_not_available) return true;
    if (error.category() != look_up_category()) return false;
#if REACTOR_HAS(EAI_ADDRFAMILY)
    if (error.value() == EAI_ADDRFAMILY) return true;
#endif
#if REACTOR_HAS(EAI_NODATA)
    if (error.value() == EAI_NODATA) return true;
#endif
    return false;
}

std::optional<std::vector<Address>> addresses_without_look_up(std::string_view host, std::uint16_t port) {
    using Addresses = std::vector<Address>;
    if (host.empty()) return Addresses{*Address::ip("0.0.0.0", port), *Address::ip("::", port)};
    if (is_localhost(host)) return Addresses{*Address::ip("127.0.0.1", port), *Address::ip("::1", port)};
    if (const auto address = Address::ip(host, port)) return Addresses{*address};
    if (host.starts_with("unix:")) return Addresses{Address::parse(host)};
    if (host.find('\0') != std::string_view::npos) refuse(std::errc::invalid_argument, "host", host);
    return std::nullopt;
}

std::vector<Address> resolve_blocking(std::string_view host, std::uint16_t port) {
    if (auto known = addresses_without_look_up(host, port)) return *std::move(known);
    std::vector<Address> addresses = look_up(host, Address::Family::none);
    for (Address& address : addresses) address = address.with_port(port);
    return addresses;
}

}  // namespace reactor
