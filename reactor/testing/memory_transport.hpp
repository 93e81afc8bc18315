// A connection that is nothing but memory: a protocol is tested on it with no socket, no loop and no waiting.
// The test plays the peer and decides what comes in which pieces, what is taken of the answer, and how it
// ends. Time stands still until the test advances it; then the deadlines of Limits hold, and so do the protocol's own
// timers on `transport().reactor()`.
//
//     MemoryTransport connection(std::make_unique<Echo>());
//     connection.feed("hel");
//     connection.feed("lo");
//     CHECK(connection.take() == "hello");
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/stream/detail/stream_transport.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/stream/transport.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace reactor::testing {

/// Keeps every promise of Transport and Protocol: calls come in order, never from inside a call to the
/// transport, and the end comes once, last. Small inputs lie in memory of their own for the time of a call,
/// so that a sanitizer sees a protocol that reads past them or keeps them. An exception out of a protocol ends the
/// connection (Error::exception) and leaves the peer's call that led to it.
class REACTOR_EXPORT MemoryTransport final : public StreamTransport {
public:
    /// Connects: `connected` is called. The protocol is destroyed after `disconnected`, as by any transport.
    explicit MemoryTransport(std::unique_ptr<Protocol> protocol, const Limits& limits = {});

    /// The same for a protocol that the test keeps, and must keep longer than this. Its timers on `reactor()`, if it
    /// has such, must go before this, in `disconnected` for instance.
    explicit MemoryTransport(Protocol& protocol, const Limits& limits = {});

    /// If the connection is not over, neither `closing` nor `disconnected` is called. A protocol that this owns is
    /// destroyed.
    ~MemoryTransport();

    // ── what the peer does; each call lets the protocol do all that follows from it ──

    /// The peer sends these, in one piece (or several, where they are more than Limits::read_size). Lost if
    /// the connection is over. Throws std::logic_error after `end`.
    void feed(Bytes data);
    void feed(std::string_view data) { feed(bytes_of(data)); }

    /// The peer shuts its side, behind what it sent.
    void end();

    /// The connection breaks. Bytes fed before are received before; queued output is lost.
    void reset(std::error_code reason = std::make_error_code(std::errc::connection_reset));

    /// The peer takes nothing more: output stays queued.
    void fill();
    /// The peer takes so many bytes more, queued now or later.
    void drain(std::size_t bytes);
    /// The peer takes everything, now and from now on. It is so at the beginning.
    void drain();

    /// Makes the calls that the protocol's own actions led to. Needed only after it acted outside a call of
    /// this transport, in a timer for instance. Where a protocol writes without end, one
    /// `resume_writing` is all it gets per call that the peer does not answer.
    void settle();

    /// Time passes: timers on `reactor()` that become due are called, each at its time. A deadline of the limits that
    /// is reached now ends the connection, as a loop's timer would. Throws std::invalid_argument for a negative
    /// duration.
    void advance(Duration time);

    /// Asks the protocol to end, as a drain of its acceptor or loop does: calls `draining`, unless it has closed.
    void ask_to_drain();

    // ── what the peer sees ──

    /// The bytes that it has taken, and the test has not.
    const std::string& output() const noexcept;
    /// The same, which is then gone.
    std::string take();
    /// It has seen the end of the stream: after `shutdown_write` or `close`, once everything is taken.
    bool ended() const noexcept;
    /// It got a reset: after `abort`, or because a limit was passed.
    bool was_reset() const noexcept;

    // ── what the test may want to know besides ──

    /// The reason that `disconnected` was called with, if it was.
    std::optional<std::error_code> disconnected() const noexcept;
    /// Bytes fed and not yet received, because the protocol paused or its answers passed the high mark.
    std::size_t waiting() const noexcept;
    void set_addresses(const Address& peer, const Address& local);
    void set_peer_credentials(const PeerCredentials& credentials);

    // ── what the protocol sees ──

    using Transport::write;
    bool write(Bytes data) override;
    void abort(std::error_code reason = std::make_error_code(std::errc::operation_canceled)) override;
    /// A loop of its own, made when it is first asked for, whose clock `advance` moves. Everything that is due on it
    /// happens in the test's calls; a test need not run it. It has no descriptors: to watch one waits for ever.
    Reactor& reactor() const override;
    Answer ask(Question question) const override;

private:
    void let_go() noexcept;

    struct Memory;

    MemoryTransport(std::unique_ptr<Protocol> protocol, const Limits& limits, bool kept);

    // As StreamTransport says.
    void flush() override;
    std::error_code end_output() override { return {}; }
    void update_interest() override {}
    void call_soon() noexcept override {}
    void read_soon() noexcept override {}
    void protocol_changes() override;
    void prepare() override {}
    void ended(std::error_code reason, std::size_t unsent) noexcept override;
    std::string name() const override { return "memory"; }
    TimePoint now() const override;
    TimePoint turn_time() const override { return now(); }
    StreamParts& parts() override { return *parts_; }

    bool step();
    bool receive();
    bool run_loop();
    std::size_t taken(Bytes data);

    std::unique_ptr<Memory> memory_;
};

/// Connects two protocols: the output of one is fed to the other, ends and resets too, until both are silent.
REACTOR_EXPORT void converse(MemoryTransport& one, MemoryTransport& other);

}  // namespace reactor::testing
