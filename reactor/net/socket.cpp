// The system calls of one socket. Non-blocking and close-on-exec come with socket(2) and accept4(2) in one step:
// another thread may fork between two. Each error names its call and argument. It does not know what the socket is for.
#include <reactor/net/socket.hpp>

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/c_string_impl.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>

namespace reactor {

namespace {

// The argument is a piece of text and not a finished message: making one could change errno.
[[noreturn]] void throw_last_error(const char* call, std::string_view argument) {
    const std::error_code error = last_error();
    throw std::system_error(error, std::string(call).append("(").append(argument).append(")"));
}

constexpr int domain(Address::Family family) noexcept {
    switch (family) {
        case Address::Family::ipv4: return AF_INET;
        case Address::Family::ipv6: return AF_INET6;
        case Address::Family::unix_domain: return AF_UNIX;
        case Address::Family::none: break;
    }
    return AF_UNSPEC;  // socket(2) refuses it
}

constexpr const char* name_of(Address::Family family) noexcept {
    switch (family) {
        case Address::Family::ipv4: return "ipv4";
        case Address::Family::ipv6: return "ipv6";
        case Address::Family::unix_domain: return "unix_domain";
        case Address::Family::none: break;
    }
    return "none";
}

// With the two properties that every socket here has, where the system can give them in the same call.
constexpr int type_of(SocketKind kind) noexcept {
    int type = SOCK_STREAM;
    if (kind == SocketKind::datagram) type = SOCK_DGRAM;
    if (kind == SocketKind::sequenced_packets) type = SOCK_SEQPACKET;
#if REACTOR_HAS(SOCK_NONBLOCK)
    type |= SOCK_NONBLOCK | SOCK_CLOEXEC;
#endif
    return type;
}

// False leaves the reason in errno.
bool set_properties(int descriptor) noexcept {
    const int flags = ::fcntl(descriptor, F_GETFL);
    if (flags < 0 || ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) return false;
    if (::fcntl(descriptor, F_SETFD, FD_CLOEXEC) < 0) return false;
#if REACTOR_HAS(SO_NOSIGPIPE)
    const int on = 1;
    ::setsockopt(descriptor, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
    return true;
}

// The same, where the call that made the descriptor did not do it.
bool complete_properties([[maybe_unused]] int descriptor) noexcept {
#if REACTOR_HAS(SOCK_NONBLOCK)
    return true;
#else
    return set_properties(descriptor);
#endif
}

int accept_complete(int listening, sockaddr* address, socklen_t* length) noexcept {
#if REACTOR_HAS(SOCK_NONBLOCK)
    const int complete = ::accept4(listening, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    // EPERM may also be a firewall's word against this peer (accept(2)); the older call then says it again.
    if (complete >= 0 || !call_is_unknown(errno)) return complete;
#endif
    FileDescriptor accepted(::accept(listening, address, length));
    return accepted && set_properties(accepted.get()) ? accepted.release() : -1;
}

// The families that an Address cannot hold (an adopted netlink socket) have no address here.
Address address_from(const sockaddr_storage& storage, socklen_t length) noexcept {
    try {
        return Address(reinterpret_cast<const sockaddr*>(&storage), length);
    } catch (const std::system_error&) {
        return {};
    }
}

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

Socket Socket::adopt(FileDescriptor descriptor) {
    if (!set_properties(descriptor.get())) throw_last_error("fcntl", "O_NONBLOCK");
    return Socket(std::move(descriptor));
}

Socket Socket::open(Address::Family family, SocketKind kind) {
    FileDescriptor descriptor = beyond_standard(::socket(domain(family), type_of(kind), 0));
    if (!descriptor || !complete_properties(descriptor.get())) throw_last_error("socket", name_of(family));
    return Socket(std::move(descriptor));
}

std::pair<Socket, Socket> Socket::pair(SocketKind kind) {
    int ends[2];
    if (::socketpair(AF_UNIX, type_of(kind), 0, ends) != 0) throw_last_error("socketpair", "AF_UNIX");
    FileDescriptor one = beyond_standard(ends[0]), other = beyond_standard(ends[1]);
    if (!one || !other || !complete_properties(one.get()) || !complete_properties(other.get()))
        throw_last_error("socketpair", "AF_UNIX");
    return {Socket(std::move(one)), Socket(std::move(other))};
}

void Socket::bind(const Address& address) {
    if (::bind(get(), address.data(), socklen_t(address.size())) == 0) return;
    const std::error_code error = last_error();
    throw std::system_error(error, "bind(" + address.to_string() + ")");
}

void Socket::bind_to_any_name() {
#if REACTOR_HAS(ABSTRACT_NAMES)
    sockaddr unnamed{};
    unnamed.sa_family = AF_UNIX;
    if (::bind(get(), &unnamed, sizeof unnamed.sa_family) != 0) throw_last_error("bind", "any Unix name");
#else
    throw std::system_error(std::make_error_code(std::errc::operation_not_supported), "bind(any Unix name)");
#endif
}

void Socket::listen(int backlog) {
    if (::listen(get(), backlog) == 0) return;
    const std::error_code error = last_error();
    throw std::system_error(error, "listen(" + local().to_string() + ")");
}

std::error_code Socket::connect(const Address& address) noexcept {
    if (::connect(get(), address.data(), socklen_t(address.size())) == 0) return {};
    // POSIX: a connect that a signal interrupts goes on, and calling it again says EALREADY, not EINPROGRESS.
    if (errno == EINTR || errno == EALREADY) errno = EINPROGRESS;
    return last_error();
}

std::error_code Socket::accept(Socket& accepted, Address& peer) noexcept {
    sockaddr_storage storage{};
    socklen_t length;
    FileDescriptor descriptor;
    do {
        length = sizeof storage;
        descriptor = beyond_standard(accept_complete(get(), reinterpret_cast<sockaddr*>(&storage), &length));
    } while (!descriptor && errno == EINTR);
    if (!descriptor) return last_error();
    // Asked of the kernel later, with getpeername(2), a connection that was reset meanwhile has no peer.
    peer = address_from(storage, length);
    accepted = Socket(std::move(descriptor));
    return {};
}

std::error_code Socket::pending_error() const noexcept {
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) return last_error();
    return {error, std::system_category()};
}

Address Socket::local() const noexcept {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    if (::getsockname(get(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
    return address_from(storage, length);
}

Address Socket::peer() const noexcept {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    if (::getpeername(get(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
    return address_from(storage, length);
}

#if REACTOR_HAS(SO_PEERCRED)
std::optional<PeerCredentials> Socket::peer_credentials() const noexcept {
    ucred known{};
    socklen_t length = sizeof known;
    // Other families answer too, with a user of -1, which no user has; so does a Unix socket that is not connected. A
    // process of 0 alone is one that this pid namespace does not show.
    if (::getsockopt(get(), SOL_SOCKET, SO_PEERCRED, &known, &length) != 0 || known.uid == uid_t(-1))
        return std::nullopt;
    PeerCredentials credentials{std::nullopt, known.uid, known.gid};
    if (known.pid != 0) credentials.process = known.pid;
    return credentials;
}
#elif REACTOR_HAS(GETPEEREID)
std::optional<PeerCredentials> Socket::peer_credentials() const noexcept {
    PeerCredentials known;
    if (::getpeereid(get(), &known.user, &known.group) != 0) return std::nullopt;
    return known;
}
#else
std::optional<PeerCredentials> Socket::peer_credentials() const noexcept {
    return std::nullopt;
}
#endif

SocketKind Socket::kind() const {
    switch (option(get(), SOL_SOCKET, SO_TYPE, "SO_TYPE")) {
        case SOCK_STREAM: return SocketKind::stream;
        case SOCK_DGRAM: return SocketKind::datagram;
        case SOCK_SEQPACKET: return SocketKind::sequenced_packets;
    }
    throw std::system_error(std::make_error_code(std::errc::wrong_protocol_type), "getsockopt(SO_TYPE)");
}

std::error_code Socket::shutdown_write() noexcept {
    return ::shutdown(get(), SHUT_WR) == 0 ? std::error_code{} : last_error();
}

void Socket::join_group(const Address& group, unsigned interface) {
    change_membership(*this, MCAST_JOIN_GROUP, group, interface, "MCAST_JOIN_GROUP");
}

void Socket::leave_group(const Address& group, unsigned interface) {
    change_membership(*this, MCAST_LEAVE_GROUP, group, interface, "MCAST_LEAVE_GROUP");
}

unsigned interface_number(std::string_view name) {
    refuse_nul(name, "if_nametoindex");
    if (const unsigned number = ::if_nametoindex(std::string(name).c_str())) return number;
    throw_last_error("if_nametoindex", name);
}

// ── options ──

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
