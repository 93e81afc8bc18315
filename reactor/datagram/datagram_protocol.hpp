// What the author of a datagram protocol implements, and what it answers through. A protocol is told of every datagram
// that one socket receives, whoever sent it, and never sees the socket, so that the same protocol runs over UDP, a Unix
// socket of datagrams or packets, or the memory of a test.
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

/// One that has come. All of it is valid until the call returns that tells of it.
struct Datagram {
    /// Its bytes, perhaps none: an empty datagram is one.
    Bytes data;
    /// Who sent it. Of family none where that has no name: a Unix socket that was not bound, the peer of a pair.
    Address sender;
    /// Where it was sent to: an address of this machine's, a multicast group or a broadcast address. With the socket's
    /// port. Of family none where the kernel does not tell (Unix sockets; DatagramOptions::arrival).
    Address destination;
    /// This machine's address to answer from: `destination` unless that is no machine's. Of family none if unknown.
    Address local;
    /// The number of the interface on which it arrived (if_nametoindex(3)); 0 if unknown.
    unsigned interface = 0;
    /// It was longer than DatagramOptions::largest: these are its first bytes, the others are lost.
    bool truncated = false;
    /// More descriptors came than DatagramOptions::descriptors: these are the first ones, the others are closed.
    bool descriptors_truncated = false;
    /// Descriptors that came with it over a Unix socket (unix(7), SCM_RIGHTS). Who wants one moves it out; what is left
    /// when the call returns is closed.
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
    /// dropped, because the queue is full or because it is closed; who would rather wait than lose goes on in
    /// `resume_sending`. What the kernel has against it (too long, no route, nobody there) is told by `refused`.
    virtual bool send(const Route& route, Bytes data) = 0;
    bool send(const Address& to, Bytes data) { return send(Route{to, {}, 0}, data); }
    bool send(const Address& to, std::string_view text) { return send(to, bytes_of(text)); }
    /// To the peer that the socket is connected to.
    bool send(Bytes data) { return send(Route{}, data); }
    bool send(std::string_view text) { return send(Route{}, bytes_of(text)); }
    /// To its sender, from the address at which it came: on a machine with several addresses the system might choose
    /// another, and who asked would not know whose answer that is. By whatever interface leads there.
    bool answer(const Datagram& question, Bytes data) { return send(Route{question.sender, question.local, 0}, data); }
    bool answer(const Datagram& question, std::string_view text) { return answer(question, bytes_of(text)); }

    /// Sends copies of these descriptors along, over a Unix socket; the caller keeps its own. At once or not at all:
    /// false also if the kernel has no room now. At least one byte of data should go with them; Linux does without.
    virtual bool send_descriptors(const Route& route, Bytes data, std::span<const int> descriptors) = 0;

    /// Leaves what comes to the kernel, which keeps some and drops the rest, until `resume_receiving`. A connection of
    /// packets that is reset ends all the same, and what had come before is lost.
    virtual void pause_receiving() = 0;
    virtual void resume_receiving() = 0;

    /// Ends it: what is queued is tried once more, and what the kernel does not take then is dropped. `closed` comes
    /// at the end of the turn.
    virtual void close() = 0;

    /// Bytes that wait for the kernel.
    virtual std::size_t queued() const noexcept = 0;
    /// How many datagrams were dropped on this side so far, because there was no room for them.
    virtual std::uint64_t dropped() const noexcept = 0;

    /// Where it is bound, and to whom connected; of family none where it is not.
    virtual Address local() const = 0;
    virtual Address peer() const = 0;

    /// Who the peer of a connected Unix socket is; nullopt of any other.
    virtual std::optional<PeerCredentials> peer_credentials() const { return std::nullopt; }

protected:
    ~DatagramTransport() = default;

    /// For implementations: from now on `protocol.transport()` is this one.
    static void attach(DatagramProtocol& protocol, DatagramTransport* transport) noexcept;
};

/// One side of conversations by datagrams. All calls come on the loop's thread. An exception out of any of them closes
/// the socket (`closed` is told Error::exception) and goes on to the reactor's exception hook.
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
    /// network has answered so (connection_refused: nobody listens; RFC 1122 4.1.3.3). Told once for each that the
    /// kernel tells of, which need not be each that was lost. `to` is of family none where it is unknown. Things go on.
    virtual void refused(const Address& /*to*/, std::error_code /*error*/) {}

    /// `send` has dropped something for lack of room, and now half of the queue is free.
    virtual void resume_sending() {}

    /// The end of the connection is wished for: the acceptor of packets to which it belongs is being drained
    /// (PacketAcceptor::drain). At most once for each drain. Closes, unless overridden by a protocol that has something
    /// to finish first.
    virtual void draining() { transport().close(); }

    /// It is over: without an error after `close()` and, of packet sockets, when the peer has closed; broken_pipe if
    /// somebody who shares the socket has shut it down. The last call; nothing can be sent any more.
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
