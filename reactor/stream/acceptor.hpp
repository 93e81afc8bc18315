// Acceptor: listens on every address of a name and gives each new connection a protocol.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/stream/acceptor_sharing.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/detail/connection_group.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/timer.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace reactor {

struct PeerCounts;

/// Makes a protocol for each accepted connection. Any callable that a ProtocolFactory takes, and one that takes the
/// peer's address as a `const Address&`. An empty pointer refuses the connection.
class AcceptorFactory {
public:
    using Callable = MoveOnlyFunction<std::unique_ptr<Protocol>(const Address& peer)>;

    AcceptorFactory() noexcept = default;
    AcceptorFactory(std::nullptr_t) noexcept {}
    template <class F>
    requires(!std::same_as<std::decay_t<F>, AcceptorFactory> &&
             (std::is_constructible_v<Callable, F> || std::is_constructible_v<ProtocolFactory, F>))
        AcceptorFactory(F&& callable) {
        if constexpr (std::is_constructible_v<Callable, F>) {
            make_ = Callable(std::forward<F>(callable));
            takes_peer_ = true;
        } else if (ProtocolFactory plain(std::forward<F>(callable)); plain) {
            make_ = [plain = std::move(plain)](const Address&) mutable { return plain(); };
        }
    }

    explicit operator bool() const noexcept { return bool(make_); }

private:
    friend class Acceptor;
    Callable make_;
    bool takes_peer_ = false;
};

/// The options of an Acceptor: of its listening sockets, and of the connections that it accepts.
struct AcceptorOptions {
    /// For the connections that it accepts.
    ConnectionOptions connection = {};
    /// Several acceptors may share the port: SO_REUSEPORT. Closing one then resets what waits in its queue.
    bool reuse_port = false;
    /// At this many live connections it stops accepting, and goes on when one ends. Others wait in the kernel.
    std::size_t max_connections = SIZE_MAX;
    /// So many live connections from one address, whatever its ports; a further one is accepted and closed
    /// (Counters::refused), since in the kernel's queue it would keep others waiting. Not for Unix sockets.
    std::size_t max_connections_per_peer = SIZE_MAX;
    /// Hands accepted connections over to the loops of several acceptors. Null: they stay on its own loop.
    AcceptorSharing* sharing = nullptr;
};

/// Accepts from its construction until it is closed or destroyed; the connections live on. Everything is on
/// the loop's thread; must go before its reactor.
///
/// It takes at most 64 connections in an iteration, so that a flood of them leaves time for those that exist. The
/// kernel holds 4096 for it, or as many as it may (net.core.somaxconn), before further ones wait; a Socket that listens
/// with another backlog may be given. It binds although connections of an earlier run linger (SO_REUSEADDR).
///
/// Out of descriptors (EMFILE, ENFILE) it gives up a descriptor held in reserve to accept and close one
/// connection after another, so that the clients see it at once, and then pauses the listeners for a while; out of
/// memory, and when accept(2) fails 64 times in a row, it only does the latter. It goes on when a connection of its own
/// ends, or by itself.
///
/// A listening socket may be shared with other processes, and any of them may end it (shutdown(2)). It then accepts
/// nothing for ever: the acceptor closes it, counts it (Counters::listeners_lost), reports it (Notice::listener_lost),
/// and goes on with the others. `addresses()` leaves it out. Seen on Linux 6: a TCP socket that was shut down says
/// EINVAL to accept(2), a Unix socket EAGAIN, while poll(2) calls both readable.
class REACTOR_EXPORT Acceptor final : ConnectionGroup::Owner {
public:
    /// Listens on all addresses of `host`: "localhost" is 127.0.0.1 and ::1, "" every address of the machine,
    /// "unix:/path" a Unix socket, where the file of one that died is replaced and its own is removed at the end (see
    /// reactor/net/socket_file.hpp, and resolve_blocking, which this calls). Port 0 takes a free one, the
    /// same on all addresses. Of several addresses those that this machine does not have are left out. With no
    /// address it listens nowhere, and serves what others accept (AcceptorOptions::sharing).
    /// `factory` makes a protocol for each connection, and may take the peer's address; if it returns null the
    /// connection is closed. Throws std::system_error that names the address, and std::invalid_argument for an empty
    /// factory.
    [[nodiscard]] Acceptor(Reactor& reactor, std::string_view host, std::uint16_t port, AcceptorFactory factory,
                           AcceptorOptions options = {});
    [[nodiscard]] Acceptor(Reactor& reactor, const std::vector<Address>& addresses, AcceptorFactory factory,
                           AcceptorOptions options = {});
    /// On sockets that listen already: inherited ones (reactor/stream/inherited.hpp). Files of theirs are not removed.
    /// Throws std::system_error (invalid_argument) for a socket that does not listen: one that is only bound, or
    /// connected as systemd's Accept=yes passes it on.
    [[nodiscard]] Acceptor(Reactor& reactor, std::vector<Socket> sockets, AcceptorFactory factory,
                           AcceptorOptions options = {});
    ~Acceptor();
    Acceptor(const Acceptor&) = delete;
    Acceptor& operator=(const Acceptor&) = delete;

    /// Where it listens, with the ports it got, in the order of the addresses; empty once it is closed.
    std::vector<Address> addresses() const;

    /// The port of the first of these; 0 if it has none, as a Unix socket, and once the acceptor is closed.
    std::uint16_t port() const;

    /// Calls `visit` with the protocol of each of its connections on this loop that has not ended: `for_each<Chat>(…)`
    /// with those that are a Chat (by dynamic_cast), `for_each(…)` with all. Also with one whose `connected` is still
    /// to come. `visit` may use the protocol's transport, and destroy the acceptor, after which it is not called again.
    /// An exception out of it ends the visit. Thread: the loop's. It looks at all connections of the loop.
    template <class P = Protocol, std::invocable<P&> Visit>
    void for_each(Visit visit) {
        visit_protocols(
            [](void* with, Protocol& protocol) {
                if constexpr (std::same_as<P, Protocol>) {
                    (*static_cast<Visit*>(with))(protocol);
                } else if (auto* const typed = dynamic_cast<P*>(&protocol)) {
                    (*static_cast<Visit*>(with))(*typed);
                }
            },
            &visit);
    }

    /// Leaves new connections waiting in the kernel until `resume`.
    void pause();
    void resume();

    /// Stops listening, and leaves what it shares. Connections go on. Also from its own factory.
    void close() noexcept;

    using Drained = reactor::Drained;
    using Draining = reactor::Draining;

    /// As reactor::drain (reactor/stream/drain.hpp), for this acceptor and its connections alone.
    void drain(Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how = Draining::told);
    /// The same without a deadline and without a report.
    template <class Done>
    requires std::is_invocable_v<Done&>
    void drain(Done done) {
        drain(Duration::max(), [done = std::move(done)](const Drained&) mutable { done(); });
    }

    /// Its listening sockets, for a Successor: in the order of the addresses, and this acceptor's until it closes. From
    /// now on connections stay in the kernel until they are accepted, on io_uring too.
    std::vector<int> listening_sockets() const;
    /// The files of its Unix sockets stay when it closes: another process listens on them now.
    void leave_files() noexcept;

    /// Counts a connection of this loop among its own from now on: one that Connection::move_to has brought here, as a
    /// rule. Its limits are then this acceptor's, unless set_limits has given it others. If this acceptor is draining,
    /// the connection is drained with the others.
    void adopt(Connection& connection);

    /// Its connections that have not ended.
    std::size_t connections() const noexcept { return group_->counts.live; }

    /// Numbers for an operator: how many connections its listeners accepted, how many were shed, how often it backed
    /// off.
    struct Counters {
        std::uint64_t accepted = 0;
        std::uint64_t shed = 0;
        std::uint64_t refused = 0;  // for max_connections_per_peer
        std::uint64_t back_offs = 0;
        std::uint64_t listeners_lost = 0;  // that ended without `close`
    };
    const Counters& counters() const noexcept { return counters_; }

private:
    friend class AcceptorSharing;
    friend class PacketAcceptor;
    struct Listener;
    // Opens a connection that is no stream; false if that has destroyed the acceptor.
    using Opener = MoveOnlyFunction<bool(Socket)>;

    Acceptor(Reactor& reactor, AcceptorFactory factory, Opener opener, AcceptorOptions options);
    Acceptor(Reactor& reactor, const Address& address, SocketKind sockets, Opener opener, AcceptorOptions options);
    Acceptor(Reactor& reactor, Socket socket, Opener opener, AcceptorOptions options);
    void listen_on(const std::vector<Address>& addresses, SocketKind sockets);
    void join_sharing();
    bool serve(Socket socket, const Address& peer);
    void visit_protocols(void (*visit)(void*, Protocol&), void* with);
    void take(Socket socket);
    void count_shared(std::size_t arrived = 0) noexcept;
    void accept_from(Listener& listener);
    bool wants_more(const Listener& listener) const noexcept;
    bool accepts_ahead() const noexcept;
    bool has_room() const noexcept;
    bool shed(Listener& listener) noexcept;
    void back_off(std::error_code reason) noexcept;
    void lose(Listener& listener) noexcept;
    void update_interest() noexcept;
    void connection_ended(const OwnedHandler& connection) noexcept override;
    void no_new_ones(Draining) noexcept override { close(); }

    Reactor& reactor_;
    Callback<std::unique_ptr<Protocol>(const Address&)> factory_;  // empty if there is an opener
    const bool factory_takes_peer_;
    Callback<bool(Socket)> opener_;
    AcceptorOptions options_;
    ConnectionGroup::Owned group_;
    AcceptorSharing::MemberPointer member_;  // of the sharing, until it closes
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::unique_ptr<PeerCounts> peers_;  // with max_connections_per_peer only
    FileDescriptor reserve_;
    Timer back_off_timer_;
    Duration back_off_time_;
    Drain drain_;
    bool paused_ = false;
    unsigned failures_ = 0;  // of accept(2), in a row
    Lifetime lifetime_;
    Counters counters_;
};

}  // namespace reactor
