// Connection: the transport that is a connected stream socket. Protocols see it as their Transport. A program that has
// a socket from elsewhere (socketpair, inetd, a parent) opens one here.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/function.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/stream/detail/stream_transport.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/stream/rate_limit.hpp>
#include <reactor/stream/transport.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace reactor {

class Reactor;

/// The options of the connections of one acceptor or connector.
struct REACTOR_EXPORT ConnectionOptions {
    Limits limits = {};
    /// The rates of each connection, and of all of them together.
    RateLimits rates = {};
    RateLimits rates_together = {};
    /// Called with each socket before it is bound, listens or connects, and with one that is given: for the options of
    /// sockets, `[](Socket& socket) { socket.set_keep_alive(KeepAlive{}); }`. On a listening socket they hold for all
    /// that it accepts: Linux and the BSDs copy them. TCP_NODELAY is on before the call, because writes are gathered
    /// here already, and Nagle's wait would come on top. A std::system_error out of it is that of the constructor, or
    /// of this attempt to connect.
    std::function<void(Socket&)> prepare = nullptr;
    /// How many descriptors that came over a Unix socket may wait to be taken (Connection::take_descriptor); at one
    /// more the connection ends (Error::descriptor_limit). With 0 none is accepted: since Linux 6.16 the peer's call
    /// fails with EPERM (SO_PASSRIGHTS); before, and elsewhere, the kernel closes them when their bytes are read.
    std::size_t descriptors = 0;

    /// Makes the socket ready for a connection with these options: calls `prepare`, among others.
    void apply_to(Socket& socket) const;
};

/// A connected stream socket: TCP, or a Unix socket. Acceptors and connectors make them. They belong to the reactor,
/// and go after their protocol's `disconnected`. A protocol that needs more than Transport of one:
/// `static_cast<Connection&>(transport())`. Thread: the loop's.
class REACTOR_EXPORT Connection : public StreamTransport {
public:
    using Transport::open;

    /// Runs `protocol` over a connected stream socket; both belong to the reactor from now on. `connected` comes from
    /// the loop. Throws std::system_error, std::bad_alloc, or std::invalid_argument without a protocol; the socket is
    /// then closed.
    static Connection& open(Reactor& reactor, Socket socket, std::unique_ptr<Protocol> protocol,
                            const ConnectionOptions& options = {});

    /// Rates of its own from now on, instead of those of its acceptor or connector. The rates of all together still
    /// hold. The budget is full at first. Throws std::bad_alloc, and then nothing has changed.
    virtual void set_rates(const RateLimits& rates) = 0;

    /// Writes `data`, and with its first byte copies of these descriptors, over a Unix socket; the caller keeps its
    /// own. False as for `write`. Throws std::invalid_argument for no data, more than 253 descriptors (unix(7)) and
    /// other sockets, std::system_error if one cannot be copied (fcntl(2), F_DUPFD_CLOEXEC), std::bad_alloc; then
    /// nothing is sent.
    virtual bool send_descriptors(Bytes data, std::span<const int> descriptors) = 0;

    /// The next received descriptor that is not taken yet, in the order of sending; an empty one if there is none. It
    /// is there when `received` is given the first of the bytes that it was sent with, or sooner. Descriptors that are
    /// not taken are closed with the connection. Out of descriptors of its own (EMFILE) the connection ends with that
    /// error, since the kernel has then dropped some.
    virtual FileDescriptor take_descriptor() noexcept = 0;

    /// Hands the living connection over to another reactor, which may run on another thread: with its protocol, its
    /// unconsumed input, its unsent output, and its limits; the same objects, so references to them stay good. It
    /// leaves this loop when the protocol's call, if one is under way, has returned, at the latest in the next turn.
    /// From this call on nothing is received, and until it is there only the protocol itself may use the transport. Its
    /// deadlines begin anew there, unconsumed input is given to `received` again, and `connected`, if that was
    /// still to come, comes there. `arrived` is called on the other loop like a call of the protocol's, after
    /// `connected` and before anything else.
    ///
    /// The protocol first gives up the objects of this loop that it holds: a timer, a place in a room. Objects that it
    /// shares with the other loop must bear two threads. Here the connection has ended for its acceptor or connector;
    /// there it belongs to none unless Acceptor::adopt is called. If it ends before it could leave, `disconnected`
    /// comes here and `arrived` never; so also if the other reactor is being destroyed. Destroyed with it on the way
    /// there, the other reactor destroys it with its own. A second call before it has left counts instead of the first.
    /// Throws std::bad_alloc, and then nothing has changed. On this loop's thread; `target` must live until it has
    /// arrived.
    virtual void move_to(Reactor& target, MoveOnlyFunction<void()> arrived = nullptr) = 0;

protected:
    using StreamTransport::StreamTransport;
    ~Connection() = default;
};

}  // namespace reactor
