// Protocol: implemented by the author of a protocol. Its calls follow the life of one connection, and it answers
// through its transport. It never sees a socket, so that the same protocol runs over TCP, a Unix socket, or the memory
// of a test.
//
//                       ┌──────────────────────────────┐
//     connected() ──▶ received(bytes) ⟲ ──▶ end_of_stream() ──▶ closing() ──▶ disconnected(error)
//          │                │                     ▲                  ▲
//          │                └─────────────────────┼──────────────────┤
//          └──────────────────────────────────────┴──────────────────┘
//
// connected() comes first, once; received() any number of times; end_of_stream() at most once, if the peer
// shut its side; closing() once, when the end begins; disconnected() exactly once, last, after which the protocol is
// destroyed. Only a connection that this side closed before connected() starts with disconnected(), and one that never
// came about with connect_failed(). None is ever called from inside a call to the transport.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/export.hpp>
#include <reactor/factory.hpp>
#include <reactor/function.hpp>
#include <reactor/stream/transport.hpp>

#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

/// One address that a Connector tried in vain.
struct ConnectFailure {
    Address address;  ///< family none if the name could not be looked up
    std::error_code error;
};

/// One side of one connection's conversation. All calls come on the loop's thread. An exception out of any of
/// them ends this connection (`disconnected` gets Error::exception) and goes on to the reactor's exception hook.
class REACTOR_EXPORT Protocol {
public:
    Protocol() = default;
    Protocol(const Protocol&) = delete;
    Protocol& operator=(const Protocol&) = delete;
    /// Without `disconnected` before if the reactor is destroyed. The transport must not be used any more.
    virtual ~Protocol() = default;

    /// The connection stands: writing may begin.
    virtual void connected() {}

    /// Input: the unconsumed bytes of before, and new ones. Returns how many of them, from the front, are consumed. The
    /// rest is kept and comes first in the next call, which is made when there is more. More than there are counts as
    /// all of them. The bytes are valid until this call returns. Never called with none.
    virtual std::size_t received(Bytes input) = 0;

    /// The peer has shut its side: nothing more will be received, but everything may still be written. What
    /// `received` left unconsumed is lost with the return. Closes, unless overridden.
    virtual void end_of_stream() { transport().close(); }

    /// The connection is asked to end: its acceptor or its loop is being drained (reactor/stream/drain.hpp). At most
    /// once for each drain. Closes, unless overridden by a protocol that has something to finish first. A connection
    /// that continues beyond the grace period is aborted.
    virtual void draining() { transport().close(); }

    /// The end of the connection has begun: by `close` or `abort`, whoever called it, by a drain, by an error, or
    /// because both sides have shut down. Once, after `connected`; nothing is received and no write is accepted any
    /// more. Output that is queued may still take Limits::close_timeout until `disconnected`. So this is the place to
    /// leave a room, a pool or a list. It comes when the protocol's call that began the end has returned, or else from
    /// the loop.
    virtual void closing() {}

    /// Connecting has failed, for this protocol of a Connector's: these addresses were tried, in this order.
    /// `disconnected` with the verdict comes next; the transport is closed, and is on the connector's loop. `failures`
    /// is valid until the call returns or the connector is destroyed.
    virtual void connect_failed(const std::vector<ConnectFailure>& /*failures*/) {}

    /// The connection is over: without an error if both sides closed in order. The last call; the transport
    /// must not be written to, but may be asked for its addresses.
    virtual void disconnected(std::error_code /*reason*/) {}

    /// More output waits than the high watermark allows: a producer should stop until `resume_writing`. Until then the
    /// transport reads nothing more if these are answers, written inside `received`. Other output does not stop
    /// reading, or two peers with much to say would wait for each other. Called after every write that left more than
    /// the high watermark queued, also if it could all be sent meanwhile: so a producer writes until `queued()` passes
    /// the watermark, and continues in `resume_writing`.
    virtual void pause_writing() {}

    /// The output has fallen to the low watermark. Comes once for each `pause_writing`, unless the connection ends.
    virtual void resume_writing() {}

protected:
    /// Where to answer. The connection's from before `connected` until the protocol is destroyed. Before it there is a
    /// transport that is closed: `open` is false, and no write is accepted. So it is of a connection that never came
    /// about.
    Transport& transport() const noexcept { return *transport_; }

    /// From now on `next` is the protocol of this connection, after an upgrade for instance. Its first call is
    /// `connected`, from the loop, and then it is given the input that this one leaves unconsumed. Reading is not
    /// paused then. This one gets no further call, and is destroyed from the loop, soon. Handles stay good. False, and
    /// nothing has changed, nor is `next` taken, once the end has begun in either direction. Throws
    /// std::invalid_argument for a null pointer; std::logic_error before `connected`, a second time, and for a
    /// transport that is the program's own; std::bad_alloc.
    bool hand_over_to(std::unique_ptr<Protocol>&& next);

private:
    friend class Transport;
    static Transport* no_transport() noexcept;

    Transport* transport_ = no_transport();
};

/// Makes a protocol for each new connection. An empty pointer refuses the connection. `factory<P>(arguments...)` is one
/// for every connection alike.
using ProtocolFactory = MoveOnlyFunction<std::unique_ptr<Protocol>()>;

inline void Transport::attach(Protocol& protocol, Transport* transport) noexcept {
    protocol.transport_ = transport;
}

}  // namespace reactor
