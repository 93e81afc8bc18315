// Socket: one socket of the kernel's, always non-blocking and close-on-exec, with the options that people need.
// Every call that fails in setting up throws std::system_error that names the call and its argument.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/net/address.hpp>
#include <reactor/net/peer_credentials.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

namespace reactor {

class Acceptor;

/// SOCK_STREAM, SOCK_DGRAM and SOCK_SEQPACKET (socket(2)).
enum class SocketKind { stream, datagram, sequenced_packets };

/// Keep-alive probes (tcp(7)): after `idle` without traffic, every `interval`, given up after `probes`. Whole
/// seconds; less than one counts as one.
struct KeepAlive {
    std::chrono::seconds idle{60};
    std::chrono::seconds interval{10};
    int probes = 6;
};

/// The number of a network interface: if_nametoindex(3). Throws std::system_error that names it.
REACTOR_EXPORT unsigned interface_number(std::string_view name);

/// The owner of one socket, or of none. It can be moved; destroying it closes the socket. Connections and endpoints
/// take it over.
class REACTOR_EXPORT Socket {
public:
    Socket() noexcept = default;

    /// Takes ownership of an open socket, which is made non-blocking and close-on-exec.
    static Socket adopt(FileDescriptor descriptor);

    /// A new one: socket(2).
    static Socket open(Address::Family family, SocketKind kind = SocketKind::stream);

    /// Two stream sockets of this machine's, connected to each other: socketpair(2).
    static std::pair<Socket, Socket> pair(SocketKind kind = SocketKind::stream);

    int get() const noexcept { return descriptor_.get(); }
    explicit operator bool() const noexcept { return bool(descriptor_); }
    FileDescriptor release() noexcept { return std::move(descriptor_); }
    void close() noexcept { descriptor_.reset(); }

    void bind(const Address& address);
    /// Gives a Unix socket a name of the system's choosing, so that it can be answered: unix(7), "Autobind feature",
    /// which Linux alone has. Elsewhere it throws std::system_error (operation_not_supported).
    void bind_to_any_name();
    /// The kernel shortens a backlog past net.core.somaxconn.
    void listen(int backlog);

    /// Starts to connect. No error: it is connected. operation_in_progress: it turns writable when it is, or is
    /// not, and `pending_error` says which (connect(2): EINPROGRESS; also EINTR and EALREADY, by which it goes on).
    /// Anything else: it failed.
    std::error_code connect(const Address& address) noexcept;

    /// The next waiting connection and its peer's address, if the kernel knows (an address of family none
    /// otherwise). An error if there is none (operation_would_block) or for any other reason (accept(2)).
    std::error_code accept(Socket& accepted, Address& peer) noexcept;

    /// Reads and clears what went wrong: getsockopt(SO_ERROR).
    std::error_code pending_error() const noexcept;

    /// getsockname(2) and getpeername(2). Empty if there is none (any more).
    Address local() const noexcept;
    Address peer() const noexcept;

    /// Of a Unix socket that is connected (SO_PEERCRED, unix(7); getpeereid(3) elsewhere); nullopt of any other.
    std::optional<PeerCredentials> peer_credentials() const noexcept;

    /// SO_TYPE. Throws std::system_error for another kind than these three.
    SocketKind kind() const;

    /// shutdown(2), SHUT_WR: the peer sees the end.
    std::error_code shutdown_write() noexcept;

    /// Receives from now on what is sent to the multicast group, on the interface with this number (see
    /// interface_number); 0: on one that the system chooses. Of IPv4 and IPv6 (RFC 3678: MCAST_JOIN_GROUP). Closing the
    /// socket leaves all its groups. Throws std::system_error that names the group.
    void join_group(const Address& group, unsigned interface = 0);
    void leave_group(const Address& group, unsigned interface = 0);

    // Options: socket(7), tcp(7), ipv6(7). Named as they are; sizes in bytes. A size or number that the kernel's int
    // cannot hold is the largest that it can. The first three are ignored by sockets that do not have them: Unix and
    // vsock sockets, and the user timeout by MPTCP. Otherwise what the kernel refuses, also because this kind of socket
    // has no such option, throws std::system_error that names it.
    void set_no_delay(bool on);                           ///< TCP_NODELAY
    void set_keep_alive(std::optional<KeepAlive> times);  ///< SO_KEEPALIVE with its times; nullopt: off
    void set_user_timeout(Duration timeout);  ///< TCP_USER_TIMEOUT, milliseconds rounded up; zero: the system's
    /// SO_PASSRIGHTS of a Unix socket, on at first: without it the call of a peer that sends descriptors fails with
    /// EPERM. Also of a listening socket, for all that it accepts. Ignored for other sockets, and before Linux 6.16.
    void set_accepts_descriptors(bool on) noexcept;
    void set_reuse_address(bool on);                ///< SO_REUSEADDR
    void set_reuse_port(bool on);                   ///< SO_REUSEPORT
    void set_bind_without_port(bool on);            ///< IP_BIND_ADDRESS_NO_PORT: connect chooses the port; a hint
    void set_v6_only(bool on);                      ///< IPV6_V6ONLY
    void set_broadcast(bool on);                    ///< SO_BROADCAST: may send to broadcast addresses
    void set_multicast_interface(unsigned number);  ///< IP_MULTICAST_IF; 0: the system's choice
    void set_multicast_loop(bool on);               ///< IP_MULTICAST_LOOP: its own come back; they do
    void set_multicast_hops(int most);              ///< IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS: 1 unless set
    void set_receive_buffer(std::size_t bytes);     ///< SO_RCVBUF; the kernel doubles it
    void set_send_buffer(std::size_t bytes);        ///< SO_SNDBUF; the kernel doubles it
    void set_linger(std::optional<std::chrono::seconds> time);  ///< SO_LINGER; zero: close resets; nullopt: off

    bool no_delay() const;
    std::optional<KeepAlive> keep_alive() const;
    Duration user_timeout() const;
    bool reuse_address() const;
    bool reuse_port() const;
    bool v6_only() const;
    bool broadcast() const;
    std::size_t receive_buffer() const;
    std::size_t send_buffer() const;
    std::optional<std::chrono::seconds> linger() const;

private:
    friend class Acceptor;
    explicit Socket(FileDescriptor descriptor) noexcept : descriptor_(std::move(descriptor)) {}

    FileDescriptor descriptor_;
};

}  // namespace reactor
