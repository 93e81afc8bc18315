// The options of a socket (setsockopt(2), getsockopt(2)), and its membership in groups. Each error names the option.
#include <reactor/net/socket.hpp>

#include <reactor/last_error_impl.hpp>
#include <reactor/system_impl.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace reactor {

namespace {

template <class Value>
void set_option(int descriptor, int level, int option, const Value& value, const char* name) {
    if (::setsockopt(descriptor, level, option, &value, sizeof value) != 0) throw_last_error("setsockopt", name);
}

// Of TCP's options: one that this kind of socket does not have is left out, so that one set of options serves sockets
// of several kinds. Linux 6.18 says ENOPROTOOPT of TCP_USER_TIMEOUT on MPTCP.
template <class Value>
void set_option_of_tcp(int descriptor, int option, const Value& value, const char* name) {
    if (::setsockopt(descriptor, IPPROTO_TCP, option, &value, sizeof value) == 0) return;
    if (errno != ENOPROTOOPT && errno != EOPNOTSUPP) throw_last_error("setsockopt", name);
}

template <class Value = int>
Value option(int descriptor, int level, int name, const char* words) {
    Value value{};
    socklen_t length = sizeof value;
    if (::getsockopt(descriptor, level, name, &value, &length) != 0) throw_last_error("getsockopt", words);
    return value;
}

// Options are ints; a larger value becomes the largest int, and the kernel says whether it takes that.
template <class Number>
constexpr int as_int(Number number) noexcept {
    return std::in_range<int>(number) ? int(number) : INT_MAX;
}

int at_least_one(std::chrono::seconds time) noexcept {
    return as_int(std::max(time, std::chrono::seconds(1)).count());
}

// Its peer is a process of this machine, which the kernel itself sees end: nothing of TCP's has a meaning there, and
// the kernel refuses its options (EOPNOTSUPP).
bool over_unix(const Socket& socket) noexcept {
    return socket.local().family() == Address::Family::unix_domain;
}

// Options that IPv4 and IPv6 name differently, with the same int for a value.
void set_ip_option(const Socket& socket, int ipv4, int ipv6, int value, const char* name) {
    const bool is_ipv6 = socket.local().family() == Address::Family::ipv6;
    set_option(socket.get(), is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, is_ipv6 ? ipv6 : ipv4, value, name);
}

void change_membership(const Socket& socket, int option, const Address& group, unsigned interface, const char* name) {
    group_req request{};
    request.gr_interface = interface;
    std::memcpy(&request.gr_group, group.data(), group.size());
    const int level = group.family() == Address::Family::ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
    if (::setsockopt(socket.get(), level, option, &request, sizeof request) == 0) return;
    const std::error_code error = last_error();
    throw std::system_error(error, std::string("setsockopt(") + name + ", " + group.host() + ")");
}

#if REACTOR_HAS(SO_PASSRIGHTS)  // the kernel may know it though the headers do not
#if defined(__hppa__)
constexpr int pass_rights = 0x4051;
#elif defined(__sparc__)
constexpr int pass_rights = 0x005c;
#else
constexpr int pass_rights = 83;
#endif
#endif

#if REACTOR_HAS(TCP_KEEPIDLE)
constexpr int keep_alive_idle = TCP_KEEPIDLE;
#else
constexpr int keep_alive_idle = TCP_KEEPALIVE;  // macOS
#endif

}  // namespace

SocketKind Socket::kind() const {
    switch (option(get(), SOL_SOCKET, SO_TYPE, "SO_TYPE")) {
        case SOCK_STREAM: return SocketKind::stream;
        case SOCK_DGRAM: return SocketKind::datagram;
        case SOCK_SEQPACKET: return SocketKind::sequenced_packets;
    }
    throw std::system_error(std::make_error_code(std::errc::wrong_protocol_type), "getsockopt(SO_TYPE)");
}

void Socket::set_no_delay(bool on) {
    if (over_unix(*this)) return;
    set_option_of_tcp(get(), TCP_NODELAY, int(on), "TCP_NODELAY");
}

bool Socket::no_delay() const {
    // A Unix socket has no delay to begin with.
    if (over_unix(*this)) return true;
    return option(get(), IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY") != 0;
}

// The times first: once probes are on, they count with the times that are set.
void Socket::set_keep_alive(std::optional<KeepAlive> times) {
    if (over_unix(*this)) return;
    if (times) {
        set_option_of_tcp(get(), keep_alive_idle, at_least_one(times->idle), "TCP_KEEPIDLE");
        set_option_of_tcp(get(), TCP_KEEPINTVL, at_least_one(times->interval), "TCP_KEEPINTVL");
        set_option_of_tcp(get(), TCP_KEEPCNT, times->probes, "TCP_KEEPCNT");
    }
    set_option(get(), SOL_SOCKET, SO_KEEPALIVE, int(times.has_value()), "SO_KEEPALIVE");
}

std::optional<KeepAlive> Socket::keep_alive() const {
    if (over_unix(*this) || option(get(), SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE") == 0) return std::nullopt;
    KeepAlive times;
    times.idle = std::chrono::seconds(option(get(), IPPROTO_TCP, keep_alive_idle, "TCP_KEEPIDLE"));
    times.interval = std::chrono::seconds(option(get(), IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL"));
    times.probes = option(get(), IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT");
    return times;
}

#if REACTOR_HAS(TCP_USER_TIMEOUT)
void Socket::set_user_timeout(Duration timeout) {
    if (over_unix(*this)) return;
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(std::max(timeout, Duration::zero()));
    set_option_of_tcp(get(), TCP_USER_TIMEOUT, as_int(milliseconds.count()), "TCP_USER_TIMEOUT");
}

Duration Socket::user_timeout() const {
    if (over_unix(*this)) return Duration::zero();
    return std::chrono::milliseconds(option(get(), IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"));
}
#else
void Socket::set_user_timeout(Duration timeout) {
    if (timeout > Duration::zero() && !over_unix(*this))
        throw std::system_error(std::make_error_code(std::errc::operation_not_supported),
                                "setsockopt(TCP_USER_TIMEOUT)");
}

Duration Socket::user_timeout() const {
    return Duration::zero();
}
#endif

void Socket::set_accepts_descriptors([[maybe_unused]] bool on) noexcept {
#if REACTOR_HAS(SO_PASSRIGHTS)
    const int value = on;
    ::setsockopt(get(), SOL_SOCKET, pass_rights, &value, sizeof value);
#endif
}

void Socket::set_reuse_address(bool on) {
    set_option(get(), SOL_SOCKET, SO_REUSEADDR, int(on), "SO_REUSEADDR");
}

bool Socket::reuse_address() const {
    return option(get(), SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR") != 0;
}

void Socket::set_reuse_port(bool on) {
    set_option(get(), SOL_SOCKET, SO_REUSEPORT, int(on), "SO_REUSEPORT");
}

bool Socket::reuse_port() const {
    return option(get(), SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT") != 0;
}

// Of IPv6 sockets too. Where the system does not know it, bind takes a port at once.
void Socket::set_bind_without_port([[maybe_unused]] bool on) {
#if REACTOR_HAS(IP_BIND_ADDRESS_NO_PORT)
    const int value = int(on);
    (void)::setsockopt(get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &value, sizeof value);
#endif
}

void Socket::set_v6_only(bool on) {
    set_option(get(), IPPROTO_IPV6, IPV6_V6ONLY, int(on), "IPV6_V6ONLY");
}

bool Socket::v6_only() const {
    return option(get(), IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY") != 0;
}

void Socket::set_broadcast(bool on) {
    set_option(get(), SOL_SOCKET, SO_BROADCAST, int(on), "SO_BROADCAST");
}

bool Socket::broadcast() const {
    return option(get(), SOL_SOCKET, SO_BROADCAST, "SO_BROADCAST") != 0;
}

void Socket::join_group(const Address& group, unsigned interface) {
    change_membership(*this, MCAST_JOIN_GROUP, group, interface, "MCAST_JOIN_GROUP");
}

void Socket::leave_group(const Address& group, unsigned interface) {
    change_membership(*this, MCAST_LEAVE_GROUP, group, interface, "MCAST_LEAVE_GROUP");
}

void Socket::set_multicast_interface(unsigned number) {
    if (local().family() == Address::Family::ipv6)
        return set_option(get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, as_int(number), "IPV6_MULTICAST_IF");
    ip_mreqn request{};
    request.imr_ifindex = as_int(number);
    set_option(get(), IPPROTO_IP, IP_MULTICAST_IF, request, "IP_MULTICAST_IF");
}

void Socket::set_multicast_loop(bool on) {
    set_ip_option(*this, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, int(on), "MULTICAST_LOOP");
}

void Socket::set_multicast_hops(int most) {
    set_ip_option(*this, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, most, "MULTICAST_HOPS");
}

void Socket::set_receive_buffer(std::size_t bytes) {
    set_option(get(), SOL_SOCKET, SO_RCVBUF, as_int(bytes), "SO_RCVBUF");
}

std::size_t Socket::receive_buffer() const {
    return std::size_t(option(get(), SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"));
}

void Socket::set_send_buffer(std::size_t bytes) {
    set_option(get(), SOL_SOCKET, SO_SNDBUF, as_int(bytes), "SO_SNDBUF");
}

std::size_t Socket::send_buffer() const {
    return std::size_t(option(get(), SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF"));
}

void Socket::set_linger(std::optional<std::chrono::seconds> time) {
    ::linger value{};
    value.l_onoff = int(time.has_value());
    if (time) value.l_linger = as_int(std::max(*time, std::chrono::seconds(0)).count());
    set_option(get(), SOL_SOCKET, SO_LINGER, value, "SO_LINGER");
}

std::optional<std::chrono::seconds> Socket::linger() const {
    const auto value = option<::linger>(get(), SOL_SOCKET, SO_LINGER, "SO_LINGER");
    if (value.l_onoff == 0) return std::nullopt;
    return std::chrono::seconds(value.l_linger);
}

}  // namespace reactor
