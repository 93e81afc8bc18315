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
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace reactor {

namespace {

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

std::error_code Socket::shutdown_write() noexcept {
    return ::shutdown(get(), SHUT_WR) == 0 ? std::error_code{} : last_error();
}

unsigned interface_number(std::string_view name) {
    refuse_nul(name, "if_nametoindex");
    if (const unsigned number = ::if_nametoindex(std::string(name).c_str())) return number;
    throw_last_error("if_nametoindex", name);
}

}  // namespace reactor
