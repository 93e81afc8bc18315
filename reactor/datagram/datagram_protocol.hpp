// DatagramProtocol: implemented by the author of a protocol of datagrams. DatagramTransport: the protocol answers
// through it. The protocol gets every datagram that one socket receives, from any sender. It never sees the socket, so
// the same protocol runs over UDP, a Unix socket of datagrams or packets, or the memory of a test.
//
//     opened() ──▶ received(datagram) ⟲ ──▶ closed(error)
//                  refused(to, error) ⟲
//                  resume_sending()   ⟲
//                  draining()         ⟲
//
// opened() comes first, once; closed() exactly once, last, after which the protocol is destroyed. None is ever called
// from inside a call to the transport.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/export.hpp>
#include <reactor/factory.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/function.hpp>
#include <reactor/net/address.hpp>
#include <reactor/net/peer_credentials.hpp>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>

namespace reactor {

class DatagramProtocol;

/// A received datagram. All of it is valid until the call returns that brings it.
struct Datagram {
    /// Its bytes, perhaps none: an empty datagram is one.
    Bytes data;
    /// Its sender. Of family none if that has no name: a Unix socket that was not bound, the peer of a pair.
    Address sender;
    /// Where it was sent to: an address of this machine's, a multicast group or a broadcast address. With the socket's
    /// port. Of family none if the kernel does not say (Unix sockets; DatagramOptions::arrival).
    Address destination;
    /// This machine's address to answer from: `destination` unless that is no machine's. Of family none if unknown.
    Address local;
    /// The number of the interface on which it arrived (if_nametoindex(3)); 0 if unknown.
    unsigned interface = 0;
    /// It was longer than DatagramOptions::largest: these are its first bytes, the others are lost.
    bool truncated = false;
    /// More descriptors came than DatagramOptions::descriptors: these are the first ones, the others are closed.
    bool descriptors_truncated = false;
    /// Descriptors that came with it over a Unix socket (unix(7), SCM_RIGHTS). Move out the ones you want; the others
    /// are closed when the call returns.
    std::span<FileDescriptor> descriptors;
};

/// Where a datagram goes.
struct Route {
    Address to;              ///< of family none: to the peer that the socket is connected to
    Address from;            ///< the address of this machine's to send from; of family none: the system chooses
    unsigned interface = 0;  ///< the interface to leave by; 0: the system chooses
};

/// One socket. Lives as long as its protocol. All calls on the loop's thread.
class REACTOR_EXPORT DatagramTransport {
public:
    DatagramTransport() = default;
    DatagramTransport(const DatagramTransport&) = delete;
    DatagramTransport& operator=(const DatagramTransport&) = delete;

    /// Sends one datagram, or queues it for a kernel that has no room; copies what it queues. Inside a call to this
    /// transport's own protocol sends are gathered, and leave together when the datagrams that had come are dealt with;
    /// otherwise they are tried at once. True: it was taken, which is no promise that it arrives. False: it was
    /// dropped, because the queue is full or because it is closed; to wait instead of losing, continue in
    /// `resume_sending`. The kernel's objections (too long, no route, no receiver) arrive in `refused`.
    virtual bool send(const Route& route, Bytes data) = 0;
    bool send(const Address& to, Bytes data) { return send(Route{to, {}, 0}, data); }
    bool send(const Address& to, std::string_view text) { return send(to, bytes_of(text)); }
    /// To the peer that the socket is connected to.
    bool send(Bytes data) { return send(Route{}, data); }
    bool send(std::string_view text) { return send(Route{}, bytes_of(text)); }
    /// To its sender, from the address at which it came: on a machine with several addresses the system might choose
    /// another, and the client would not recognise the answer. By any interface that leads there.
    bool answer(const Datagram& question, Bytes data) { return send(Route{question.sender, question.local, 0}, data); }
    bool answer(const Datagram& question, std::string_view text) { return answer(question, bytes_of(text)); }

    /// Sends copies of these descriptors along, over a Unix socket; the caller keeps its own. At once or not at all:
    /// false also if the kernel has no room now. At least one byte of data should go with them; Linux does without.
    virtual bool send_descriptors(const Route& route, Bytes data, std::span<const int> descriptors) = 0;

    /// Leaves datagrams to the kernel, which keeps some and drops the rest, until `resume_receiving`. A connection of
    /// packets that is reset ends all the same, and its unread packets are lost.
    virtual void pause_receiving() = 0;
    virtual void resume_receiving() = 0;

    /// Ends it: queued datagrams are tried once more, and dropped if the kernel does not take them then. `closed` comes
    /// at the end of the turn.
    virtual void close() = 0;

    /// Bytes that wait for the kernel.
    virtual std::size_t queued() const noexcept = 0;
    /// How many datagrams were dropped on this side so far, because there was no room for them.
    virtual std::uint64_t dropped() const noexcept = 0;

    /// Where it is bound, and to whom connected; of family none where it is not.
    virtual Address local() const = 0;
    virtual Address peer() const = 0;

    /// The peer of a connected Unix socket; nullopt for any other.
    virtual std::optional<PeerCredentials> peer_credentials() const { return std::nullopt; }

protected:
    ~DatagramTransport() = default;

    /// For implementations: from now on `protocol.transport()` is this one.
    static void attach(DatagramProtocol& protocol, DatagramTransport* transport) noexcept;
};

/// One side of conversations by datagrams. All calls come on the loop's thread. An exception out of any of them closes
/// the socket (`closed` gets Error::exception) and goes on to the reactor's exception hook.
class REACTOR_EXPORT DatagramProtocol {
public:
    DatagramProtocol() = default;
    DatagramProtocol(const DatagramProtocol&) = delete;
    DatagramProtocol& operator=(const DatagramProtocol&) = delete;
    virtual ~DatagramProtocol() = default;

    /// The socket is watched: sending may begin.
    virtual void opened() {}

    /// One datagram has come.
    virtual void received(const Datagram& datagram) = 0;

    /// A datagram to `to` did not get there: the kernel would not send it (message_size, network_unreachable), or the
    /// network has answered so (connection_refused: nothing listens; RFC 1122 4.1.3.3). Called once for each that the
    /// kernel reports, which need not be each that was lost. `to` is of family none if it is unknown. The socket stays
    /// usable.
    virtual void refused(const Address& /*to*/, std::error_code /*error*/) {}

    /// `send` has dropped something for lack of room, and now half of the queue is free.
    virtual void resume_sending() {}

    /// The end of the connection is wished for: the acceptor of packets to which it belongs is being drained
    /// (PacketAcceptor::drain). At most once for each drain. Closes, unless overridden by a protocol that has something
    /// to finish first.
    virtual void draining() { transport().close(); }

    /// It is over: without an error after `close()` and, of packet sockets, when the peer has closed; broken_pipe if
    /// another process that shares the socket has shut it down. The last call; nothing can be sent any more.
    virtual void closed(std::error_code /*reason*/) {}

protected:
    /// Where to answer. There from before `opened` until the protocol is destroyed.
    DatagramTransport& transport() const noexcept {
        assert(transport_ != nullptr && "a protocol has a transport only once it is opened");
        return *transport_;
    }

private:
    friend class DatagramTransport;
    DatagramTransport* transport_ = nullptr;
};

inline void DatagramTransport::attach(DatagramProtocol& protocol, DatagramTransport* transport) noexcept {
    protocol.transport_ = transport;
}

/// Makes a protocol for each socket: `factory<P>(arguments...)`, or any callable that returns one.
using DatagramProtocolFactory = MoveOnlyFunction<std::unique_ptr<DatagramProtocol>()>;

}  // namespace reactor
