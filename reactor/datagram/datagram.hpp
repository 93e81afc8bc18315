// DatagramEndpoint: the transport that is a socket of datagrams: UDP, or a Unix socket of datagrams or packets. It
// receives and sends in batches. It knows nothing of retransmission, order or congestion: that is a protocol's
// business.
#pragma once

#include <reactor/datagram/datagram_protocol.hpp>
#include <reactor/detail/byte_queue.hpp>
#include <reactor/export.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/drain.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <vector>

struct msghdr;

namespace reactor {

/// The bounds and socket options of one endpoint of datagrams.
struct REACTOR_EXPORT DatagramOptions {
    /// The longest datagram that is received whole; of longer ones the rest is lost, and Datagram::truncated says so.
    /// No UDP datagram is longer than 65,535 bytes. 0 counts as 1. More than 65,535 counts as that on UDP sockets, and
    /// more than 16 MiB as 16 MiB on all others. The loop keeps room for a batch of such datagrams.
    std::size_t largest = 65'535;
    /// Bytes that may wait for the kernel; datagrams beyond that are dropped. 0: no datagram is queued behind a waiting
    /// one.
    std::size_t queue_limit = 256 * 1024;
    /// How many a system call moves at most, 1 to 64 (recvmmsg(2), sendmmsg(2)); 0 counts as 1, more as 64. Where the
    /// kernel can, what goes to one receiver in pieces of one size goes through it as one (udp(7): UDP_SEGMENT,
    /// UDP_GRO). If there are no such calls, or a filter forbids them (EPERM), and with 1, each datagram costs a system
    /// call. A large `largest` makes the batch smaller: together they take at most 8 MiB, or one datagram.
    std::size_t batch = 32;
    /// How many descriptors may come with a datagram, at most 253 (unix(7)). With 0 none is accepted: since Linux 6.16
    /// the sender's call fails with EPERM (SO_PASSRIGHTS); before, and elsewhere, the kernel closes them. Ignored on
    /// sockets that are not Unix sockets: no descriptor can come there.
    std::size_t descriptors = 0;
};

/// The transport over a socket of datagrams or packets. It belongs to its reactor from `open` on, and ends with its
/// protocol's `closed`. Thread: the loop's.
class REACTOR_EXPORT DatagramEndpoint final : public Drainable, public DatagramTransport {
public:
    /// Runs `protocol` over a socket of datagrams or packets, bound or connected, and with the options, that its owner
    /// wants (Socket::set_broadcast, set_receive_buffer); both belong to the reactor from now on. `opened` comes from
    /// the loop. In an iteration it receives 128 datagrams, or a few more, and leaves time for the others. Throws
    /// std::system_error, std::bad_alloc, or std::invalid_argument without a protocol; the socket is then closed. For
    /// each multicast group to receive from see Socket::join_group: groups that other sockets of the machine have
    /// joined are not received (IP_MULTICAST_ALL and, since Linux 4.20, IPV6_MULTICAST_ALL are switched off).
    static DatagramEndpoint& open(Reactor& reactor, Socket socket, std::unique_ptr<DatagramProtocol> protocol,
                                  const DatagramOptions& options = {});

    ~DatagramEndpoint() override;

    using DatagramTransport::send;
    bool send(const Route& route, Bytes data) override;
    bool send_descriptors(const Route& route, Bytes data, std::span<const int> descriptors) override;
    void pause_receiving() override;
    void resume_receiving() override;
    void close() override;
    std::size_t queued() const noexcept override { return queued_; }
    std::uint64_t dropped() const noexcept override { return counters_.dropped; }
    Address local() const override { return socket_.local(); }
    Address peer() const override { return socket_.peer(); }
    std::optional<PeerCredentials> peer_credentials() const override { return socket_.peer_credentials(); }

    /// For its options, and groups to join. Not for reading and writing.
    Socket& socket() noexcept { return socket_; }

    /// Datagrams, by their fate on this side, since it was opened.
    struct Counters {
        std::uint64_t received = 0;
        std::uint64_t sent = 0;
        std::uint64_t dropped = 0;    ///< for lack of room, on this side
        std::uint64_t refused = 0;    ///< by the kernel or the network, as far as it reported them
        std::uint64_t truncated = 0;  ///< of those received
    };
    const Counters& counters() const noexcept { return counters_; }

private:
    friend class PacketAcceptor;
    struct Workspace;
    struct Outgoing;
    struct Failure;
    struct Membership;

    static DatagramEndpoint& open(Reactor& reactor, Socket socket, std::unique_ptr<DatagramProtocol> protocol,
                                  const DatagramOptions& options, ConnectionGroup* group);
    DatagramEndpoint(Socket socket, std::unique_ptr<DatagramProtocol> protocol, const DatagramOptions& options);

    // From the loop.
    void readable() override;
    void writable() override;
    void error() override;
    void lost(std::error_code reason) override;
    void retired() override;
    // From a drain.
    const reactor::Workspace* shares() const noexcept override;
    const ConnectionGroup* group() const noexcept override;
    void tell_draining() override;
    void begin_drain() noexcept override { told_of_drain_ = false; }
    void abort(std::error_code reason) override { finish(reason); }

    bool over_unix() const noexcept { return family_ == Address::Family::unix_domain; }
    Workspace& workspace() const noexcept;
    std::size_t receive_batch(Workspace& space, std::size_t wanted, std::error_code& error);
    std::size_t deliver_batch(Workspace& space, std::size_t count);
    void deliver(const Datagram& datagram);
    void deliver_kept(Workspace& space);
    void receiving_failed(std::error_code error);
    std::size_t take_control(msghdr& header, Datagram& datagram) noexcept;
    void close_descriptors() noexcept;
    void keep(const Datagram& datagram) noexcept;
    template <class Call>
    void call(Call&& protocol_call);
    void callback_failed(Workspace& space) noexcept;
    void leave_callback(Workspace& space);
    void tell_failures();
    bool drain_error_queue();
    void tell_refused(const Address& to, std::error_code error);
    std::size_t send_some(std::span<Outgoing> batch, std::error_code& error) noexcept;
    ssize_t send_messages(std::size_t messages) noexcept;
    void put_source(msghdr& header, const Route& route) const noexcept;
    static bool belongs_to_one(const Outgoing& first, const Outgoing& before, const Outgoing& next,
                               std::size_t together) noexcept;
    std::size_t send_until_blocked(std::span<Outgoing> batch) noexcept;
    void send_all(std::span<Outgoing> batch) noexcept;
    void flush_gathered(Workspace& space) noexcept;
    void flush_queue() noexcept;
    bool queue(const Outgoing& one) noexcept;
    bool waits_for_room() const noexcept;
    void note_failure(const Address& to, std::error_code error) noexcept;
    void update_interest() noexcept;
    void trigger(Interest ready) noexcept;
    void finish(std::error_code reason) noexcept;

    Registration registration_;
    std::unique_ptr<DatagramProtocol> protocol_;
    Socket socket_;
    DatagramOptions options_;
    Address::Family family_ = Address::Family::none;
    std::uint16_t port_ = 0;  // where it is bound
    bool packets_ = false;    // SOCK_SEQPACKET: connected, with an end
    bool connected_ = false;
    bool segments_ = false;     // the kernel cuts what goes to one receiver into datagrams: UDP_SEGMENT
    bool many_a_call_ = true;   // recvmmsg and sendmmsg are there, and no filter forbids them
    bool error_queue_ = false;  // the kernel says which datagram was refused: IP_RECVERR
    bool fresh_ = true;         // opened() has not been called yet
    bool told_of_drain_ = false;
    bool paused_ = false;
    bool closing_ = false;     // close() was called inside a callback
    bool over_ = false;        // retired: closed() comes next
    bool hung_up_ = false;     // of a packet socket, while it receives nothing: there is no further news of it
    bool wants_room_ = false;  // send has dropped something, and resume_sending is owed
    std::error_code reason_;
    std::error_code broken_;         // of a packet socket: the peer is gone, and its earlier packets may still be read
    ByteQueue output_;               // waits for the kernel's room: records of head and bytes
    std::size_t queued_ = 0;         // bytes of it that are data
    ByteQueue kept_;                 // received, and not delivered because the protocol paused
    std::vector<Failure> failures_;  // not yet reported
    std::unique_ptr<Membership> membership_;  // among those that an acceptor has accepted
    std::unique_ptr<FileDescriptor[]> descriptors_;
    std::size_t descriptor_count_ = 0;
    Counters counters_;
};

/// Sockets bound to every address of `host`, for a DatagramEndpoint each: "localhost" is 127.0.0.1 and ::1, "" every
/// address of the machine, "unix:/path" a Unix socket of datagrams, whose dead file is replaced (bind_replacing), and
/// whose own a SocketFile removes (see resolve_blocking, which this calls). Port 0 takes a
/// free one, the same on all addresses; of several addresses those that this machine does not have are left out.
/// `prepare` is called with each socket before it is bound, for an option that others share its port by:
/// Socket::set_reuse_port, each for a share of the senders, or set_reuse_address, each for a copy of the datagrams to a
/// multicast group. Throws std::system_error that names the address, and what `prepare` throws.
REACTOR_EXPORT std::vector<Socket> bind_datagrams(std::string_view host, std::uint16_t port,
                                                  const std::function<void(Socket&)>& prepare = nullptr);

}  // namespace reactor
