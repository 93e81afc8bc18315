// A connection's life: how it begins, what time limits it has, and how it ends. The way of its messages stands in
// connection.cpp.
#include <reactor/probes_impl.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/stream/last_calls_impl.hpp>

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
#ifdef SO_PEERNAME
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
    : protocol_(std::move(protocol)), group_(std::move(group)), socket_(std::move(socket)) {
    attach(*protocol_, this);
    group_->join();
    group_->enter_loop(*group_->workspace);
}

SocketConnection::~SocketConnection() {
    if (extra_ != nullptr && extra_->handles != nullptr) extra_->handles->end();
    protocol_.reset();
    if (is(resets)) reset_peer(socket_);  // not before, since the protocol may still ask for its address
    group_->leave(*this);
    group_->leave_loop();
}

// Throws std::bad_alloc, and then it is still in its group.
void SocketConnection::join(ConnectionGroup::Reference group) {
    if (group->workspace != group_->workspace)
        throw std::invalid_argument("Acceptor::adopt: the connection is on another loop");
    const Meter* const meter = extra_ == nullptr ? nullptr : extra_->meter.get();
    const bool own_rates = meter != nullptr && meter->own;
    use_rates(own_rates ? RateLimits(meter->rates) : group->rates, own_rates, *group.get());
    if (!is(fresh)) accept_descriptors(group->descriptors);
    group_->leave(*this);
    group_ = std::move(group);
    group_->join();
    set(unmeasured);  // and not now: the loop's buffer may hold what `received` is looking at
}

SocketConnection::Workspace& SocketConnection::workspace_of(Reactor& reactor) {
    if (reactor.workspace() == nullptr) reactor.workspace() = std::make_unique<Workspace>(reactor);
    return static_cast<Workspace&>(*reactor.workspace());
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

void ConnectionGroup::enter_loop(Reactor::Workspace& loop) noexcept {
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

void SocketConnection::start() {
    unset(fresh);
    prepare();
    if (is(over)) return set(fresh);  // `connected` has not been called, so `closing` is not either
    call([this] { protocol_->connected(); });
}

void SocketConnection::prepare() {
    if (!make_room_for_reads()) return;
    try {
        accept_descriptors(group_->descriptors);
        if (group_->limits_rates && !is(metered)) use_rates(group_->rates, false, *group_.get());
    } catch (const std::bad_alloc&) {
        return finish(std::make_error_code(std::errc::not_enough_memory));
    }
    plan_deadline();
}

TransportHandle SocketConnection::handle() {
    if (is(over)) return {};
    std::shared_ptr<HandleState>& handles = extra().handles;
    if (handles == nullptr) handles = std::make_shared<HandleState>(loop(), *this, &run_posted);
    return handles->handle();
}

// From the loop: a call that a handle posted.
bool SocketConnection::run_posted(Transport& transport, HandleState::Call& posted) {
    auto& connection = static_cast<SocketConnection&>(transport);
    if (!connection.open()) return true;
    if (connection.is(fresh)) return false;
    connection.call([&] { posted(connection, *connection.protocol_); });
    return true;
}

Transport::Answer SocketConnection::ask(Question question) const {
    if (question == Question::peer_credentials) return {{}, socket_.peer_credentials()};
    if (question == Question::local) return {socket_.local()};
    const Address peer = socket_.peer();
    return {peer.family() == Address::Family::none ? last_peer(socket_) : peer};
}

// ── the end ──

void SocketConnection::begin_close() {
    if (extra_ != nullptr) plan_deadline();  // otherwise settle() does, if it is not over by then, as it mostly is
    if (is(over) || workspace().owner == this) return;
    settle();
    if (!is(over) && state_.owes_closing()) trigger(Interest::writable);  // not from inside this call
}

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
void SocketConnection::finish(std::error_code reason) noexcept {
    if (is(over)) return;
    // The output is lost, and the peer must not take its part for the whole, as it would at an end of stream.
    if (const std::size_t unsent = queued(); unsent > 0) {
        reset_on_close();
        group_->note_unsent(unsent);
    }
    set(over);
    if (reason) {
        try {
            extra().reason = reason;
        } catch (const std::bad_alloc&) {
            set(out_of_memory);
        }
    }
    leave_gathering();
    unset(gathers);
    if (extra_ != nullptr) {
        extra_->timers->cancel(*extra_);
        if (extra_->handles != nullptr) extra_->handles->end();
        pass_on_no_longer();
        drop_channel();
        extra_->meter.reset();
        unset(metered);
        extra_->output.clear();  // not the input: received() may be looking at it
    }
    loop().retire(registration());
}

void SocketConnection::retired() {
    std::error_code reason = extra_ == nullptr ? std::error_code() : extra_->reason;
    if (is(out_of_memory)) reason = std::make_error_code(std::errc::not_enough_memory);
    group_->note_end(reason);
    REACTOR_PROBE(connection_ended, socket_.get(), reason.value());
    make_last_calls(state_, *protocol_, reason);
}

void SocketConnection::lost(std::error_code reason) {
    finish(reason);
}

// ── deadlines: of all that hold, one timer waits for the first ──

// From now on other deadlines hold; that of idleness, and to close in, begins now.
void SocketConnection::plan_deadline() {
    const bool idleness = !is(closing) && std::max(limits().idle_timeout, limits().receive_timeout) > Duration::zero();
    try {
        if (is(closing) || idleness) extra();
    } catch (const std::bad_alloc&) {
        return finish(std::make_error_code(std::errc::not_enough_memory));
    }
    if (extra_ == nullptr) return unset(watches_idleness);
    extra_->since.begin(loop().now());
    idleness ? set(watches_idleness) : unset(watches_idleness);
    wait_for_deadline();
}

void SocketConnection::wait_for_deadline() noexcept {
    const TimePoint first = extra_->next_deadline().at;
    try {
        if (first == TimePoint::max() && !is(closing)) {
            extra_->timers->cancel(*extra_);
        } else {
            extra_->timers->schedule(*extra_, first);
        }
    } catch (const std::bad_alloc&) {
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
}

// Traffic only stores a time; here, once a period, that is turned into the next deadline. Input since the loop's last
// look is still unread: so the time of that look counts, and not the present one.
void SocketConnection::deadline() {
    Reactor& reactor = loop();
    const TimePoint now = reactor.turn_time();
    // While nothing is read, nothing can come: it is not the peer's time.
    if (!reading()) extra_->since.rest_since = extra_->since.received = now;
    if (is(input_spent) && !is(closing)) extra_->since.last_activity = now;  // nor, here, the peer's
    if (is(output_spent)) extra_->since.last_activity = extra_->since.output_since = now;
    const Deadlines::Next next = extra_->next_deadline();
    if (now < next.at) return wait_for_deadline();
    reactor.notice(next.notice, [&] {
        return peer().to_string() + ": " + next.text + ", with " + std::to_string(output_size()) + " bytes unsent";
    });
    finish(next.error);  // resets a connection with output; the kernel may still deliver the bytes that it has taken
}

void SocketConnection::set_limits(const Limits& limits) {
    if (is(over)) return;
    extra().limits = std::make_unique<Limits>(limits.bounded());
    if (!is(closing)) plan_deadline();
}

}  // namespace reactor
