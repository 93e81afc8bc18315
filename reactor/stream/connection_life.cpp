// A connection's life: how it begins, what time limits it has, and how it ends. The way of its messages stands in
// connection.cpp.
#include <reactor/probes_impl.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/stream/dressed_impl.hpp>
#include <reactor/system_impl.hpp>

#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace reactor {

namespace {

// SO_LINGER of 0 makes the last close a reset, and another process may hold the socket: a child of fork(2), say. TCP
// resets at once when it is connected to no address (Linux, tcp_disconnect). A Unix socket knows no such call; it is
// shut down, unless unread input will make its close a reset.
void reset_peer(const Socket& socket) noexcept {
    if (socket.local().family() == Address::Family::unix_domain) {
        int unread = 0;
        if (::ioctl(socket.get(), FIONREAD, &unread) == 0 && unread == 0) ::shutdown(socket.get(), SHUT_RDWR);
        return;
    }
    sockaddr nowhere{};
    nowhere.sa_family = AF_UNSPEC;
    ::connect(socket.get(), &nowhere, sizeof nowhere);
}

// Of a TCP socket that was reset or has closed in order getpeername(2) says ENOTCONN. Linux still knows the peer:
// SO_PEERNAME does not look at the state (seen on 6.18). It wants the address's own length: more is EINVAL.
Address last_peer([[maybe_unused]] const Socket& socket) noexcept {
#if REACTOR_HAS(SO_PEERNAME)
    const Address::Family family = socket.local().family();
    sockaddr_in6 name{};
    socklen_t length = family == Address::Family::ipv6 ? sizeof name : sizeof(sockaddr_in);
    if (family != Address::Family::unix_domain &&
        ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERNAME, &name, &length) == 0)
        return {reinterpret_cast<const sockaddr*>(&name), length};
#endif
    return {};
}

}  // namespace

void ConnectionOptions::apply_to(Socket& socket) const {
    socket.set_no_delay(true);
    if (prepare) prepare(socket);
    socket.set_accepts_descriptors(descriptors > 0);
}

// ── beginning ──

Connection& Connection::open(Reactor& reactor, Socket socket, std::unique_ptr<Protocol> protocol,
                             const ConnectionOptions& options) {
    options.apply_to(socket);
    return SocketConnection::open(reactor, std::move(socket), std::move(protocol),
                                  ConnectionGroup::make(reactor, options));
}

SocketConnection& SocketConnection::open(Reactor& reactor, Socket socket, std::unique_ptr<Protocol> protocol,
                                         ConnectionGroup::Reference group) {
    if (protocol == nullptr) throw std::invalid_argument("Connection::open: there is no protocol");
    const int descriptor = socket.get();
    std::unique_ptr<SocketConnection> made(
        new SocketConnection(std::move(socket), std::move(protocol), std::move(group)));
    SocketConnection& connection = *made;
    connection.enter_engine();
    connection.registration_id_ = reactor.adopt(descriptor, Interest::readable, std::move(made)).leave().id();
    ++connection.workspace().connections;
    REACTOR_PROBE(connection_opened, descriptor);
    const Drain* const drain = connection.workspace().drain.get();
    if (drain != nullptr && drain->has_told()) connection.set(told_of_drain);  // made to finish something
    connection.trigger(Interest::readable);                                    // connected() comes from the loop
    return connection;
}

SocketConnection::SocketConnection(Socket socket, std::unique_ptr<Protocol> protocol,
                                   ConnectionGroup::Reference group) noexcept
    : Connection(std::move(protocol)), group_(std::move(group)), socket_(std::move(socket)) {
    group_->join();
    group_->enter_loop(*group_->workspace);
}

// Throws std::bad_alloc.
void SocketConnection::enter_engine() {
    Completions* const completions = workspace().completions;
    if (completions == nullptr) return;
    completions->join(socket_.get());
    set(SocketConnection::completes);
    if (group_->descriptors > 0 || group_->limits_rates || is(takes_descriptors | metered))
        completions->receive_ahead(socket_.get(), false);
}

void SocketConnection::leave_engine() noexcept {
    if (!is(completes)) return;
    unset(completes);
    workspace().completions->leave(socket_.get());
}

SocketConnection::~SocketConnection() {
    destroy_protocol();
    leave_engine();
    if (is(resets)) reset_peer(socket_);  // not before, since the protocol may still ask for its address
    group_->leave(*this);
    group_->leave_loop();
    parts_.reset();  // before the group, to which they give tokens back
}

// Throws std::bad_alloc, and then it is still in its group.
void SocketConnection::join(ConnectionGroup::Reference group) {
    if (group->workspace != group_->workspace)
        throw std::invalid_argument("Acceptor::adopt: the connection is on another loop");
    const Meter* const meter = parts_ == nullptr ? nullptr : extra()->meter.get();
    const bool own_rates = meter != nullptr && meter->own;
    use_rates(own_rates ? RateLimits(meter->rates) : group->rates, own_rates, *group.get());
    if (!is(fresh)) accept_descriptors(group->descriptors);
    group_->leave(*this);
    group_ = std::move(group);
    group_->join();
    set(unmeasured);  // and not now: the loop's buffer may hold what `received` is looking at
}

SocketConnection::Workspace::Workspace(Reactor& reactor)
    : loop(reactor), completions(Internals(reactor).completions()) {
    if (completions == nullptr) return;
    completions->on_sent_less([](void* sender, ssize_t count, Bytes bytes) noexcept {
        static_cast<SocketConnection*>(sender)->sent_less(count, bytes);
    });
}

SocketConnection::Workspace& SocketConnection::workspace_of(Reactor& reactor) {
    if (Internals(reactor).streams() == nullptr) Internals(reactor).streams() = std::make_unique<Workspace>(reactor);
    return static_cast<Workspace&>(*Internals(reactor).streams());
}

ConnectionGroup::Reference ConnectionGroup::make(Reactor& reactor, const ConnectionOptions& options, Owner* owner) {
    SocketConnection::Workspace& space = SocketConnection::workspace_of(reactor);
    Reference group(new ConnectionGroup(options, space, owner));
    if (owner != nullptr) space.owners.push_back(owner);
    return group;
}

void ConnectionGroup::disown() noexcept {
    std::erase(static_cast<SocketConnection::Workspace&>(*workspace).owners, owner);
    owner = nullptr;
}

void ConnectionGroup::leave(const OwnedHandler& connection) noexcept {
    --counts.live;
    if (owner != nullptr) owner->connection_ended(connection);
}

void ConnectionGroup::enter_loop(Workspace& loop) noexcept {
    workspace = &loop;
    auto& space = static_cast<SocketConnection::Workspace&>(loop);
    ++space.counts.live;
    if (space.drain != nullptr) space.drain->connection_came();
}

void ConnectionGroup::leave_loop() noexcept {
    if (workspace == nullptr) return;  // it is on its way
    auto& space = static_cast<SocketConnection::Workspace&>(*workspace);
    --space.counts.live;
    if (space.drain != nullptr) space.drain->connection_ended();
}

void ConnectionGroup::note_unsent(std::size_t bytes) noexcept {
    counts.bytes_unsent += bytes;
    static_cast<SocketConnection::Workspace&>(*workspace).counts.bytes_unsent += bytes;
}

void ConnectionGroup::note_end(std::error_code reason) noexcept {
    for (ConnectionCounts* all : {&counts, &static_cast<SocketConnection::Workspace&>(*workspace).counts}) {
        ++all->ended;
        if (reason) ++all->failed;
    }
}

void SocketConnection::prepare() {
    if (!make_room_for_reads()) return;
    try {
        accept_descriptors(group_->descriptors);
        if (group_->limits_rates && !is(metered)) use_rates(group_->rates, false, *group_.get());
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    plan_deadline();
}

void SocketConnection::protocol_changes() {
    stop_passing_on();
    leave_short_way();
}

Transport::Answer SocketConnection::ask(Question question) const {
    if (question == Question::peer_credentials) return {{}, socket_.peer_credentials()};
    if (question == Question::local) return {socket_.local()};
    const Address peer = socket_.peer();
    return {peer.family() == Address::Family::none ? last_peer(socket_) : peer};
}

// ── the end ──

void SocketConnection::tell_draining() {
    if (is(fresh)) return close();  // it has not even begun
    if (is(closing | over | told_of_drain | leaves)) return;
    set(told_of_drain);
    call([this] { protocol_->draining(); });
}

void SocketConnection::abort(std::error_code reason) {
    if (is(over)) return;
    reset_on_close();
    finish(reason);
}

void SocketConnection::reset_on_close() noexcept {
    set(resets);
    try {
        socket_.set_linger(std::chrono::seconds(0));
    } catch (const std::exception&) {
        // A Unix socket whose peer is gone, for example: there is no peer to reset.
    }
}

// Takes the connection out of the loop. The socket stays open until disconnected() has returned, at the end of
// the iteration, so that the protocol can still ask for its addresses.
void SocketConnection::ended(std::error_code /*reason*/, std::size_t unsent) noexcept {
    leave_short_way();
    if (is(completes) && workspace().completions->has_collected(socket_.get(), this)) {
        // They count as sent, as they would be on every other backend by now.
        Bytes bytes;
        const ssize_t count = workspace().completions->send_collected(socket_.get(), bytes);
        unsent -= std::size_t(std::max(count, ssize_t(0)));
    }
    // The output is lost, and the peer must not take its part for the whole, as it would at an end of stream.
    if (unsent > 0) {
        reset_on_close();
        group_->note_unsent(unsent);
    }
    leave_gathering();
    unset(gathers);
    if (parts_ != nullptr) {
        pass_on_no_longer();
        drop_channel();
        extra()->meter.reset();
        unset(metered);
    }
    if (is(completes)) workspace().completions->leave_soon(socket_.get());
    Internals(loop()).retire(registration());
}

void SocketConnection::retired() {
    group_->note_end(reason());
    REACTOR_PROBE(connection_ended, socket_.get(), reason().value());
    last_calls();
}

// ── deadlines ──

// A time is noted for each message only while one of these two limits holds.
void SocketConnection::plan_deadline() {
    const bool idleness = !is(closing) && std::max(limits().idle_timeout, limits().receive_timeout) > Duration::zero();
    try {
        if (is(closing) || idleness) make_extra();
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    idleness ? set(watches_idleness) : unset(watches_idleness);
    if (parts_ != nullptr) StreamTransport::plan_deadline();
}

// While it waits for tokens it is not the peer's time that passes.
void SocketConnection::deadline() {
    if (is(input_spent) && !is(closing)) parts_->since.last_activity = turn_time();
    if (is(output_spent)) parts_->since.last_activity = parts_->since.output_since = turn_time();
    StreamTransport::deadline();
}

}  // namespace reactor
