// How connections are accepted, counted and refused. The way of each is readable → accept_from → serve →
// SocketConnection::open. Most of the rest is about accept(2) failing: its errors are one connection's, one listener's
// or the whole process's, and each kind has another answer.
#include <reactor/stream/acceptor.hpp>

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/net/bind_everywhere_impl.hpp>
#include <reactor/net/detail/network.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/stream/dressed_impl.hpp>
#include <reactor/stream/listener_impl.hpp>
#include <reactor/stream/listening_socket_impl.hpp>
#include <reactor/stream/peer_counts_impl.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace reactor {

namespace {

// Meanwhile the connections wait in the kernel, established for their clients, so a short pause costs delay and nothing
// else. It ends early when a connection of this acceptor ends.
constexpr Duration shortest_back_off = std::chrono::milliseconds(50);
constexpr Duration longest_back_off = std::chrono::seconds(1);
constexpr unsigned most_failures = 64;  // of accept(2) in a row
constexpr std::size_t accepts_per_turn = 64;

// A file that is always there, and that takes no memory of the kernel's to speak of.
FileDescriptor open_reserve() noexcept {
    return beyond_standard(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

Socket listening(Socket socket) {
    if (listens(socket)) return socket;
    throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                            "Acceptor: the given socket, " + socket.local().to_string() + ", does not listen");
}

AcceptorFactory required(AcceptorFactory factory) {
    if (!factory) throw std::invalid_argument("Acceptor: the factory is empty");
    return factory;
}

std::vector<Address> addresses_of(const Reactor& reactor, std::string_view host, std::uint16_t port) {
    Network* const network = Network::of(reactor);
    return network != nullptr ? network->look_up(host, port, true) : resolve_blocking(host, port);
}

}  // namespace

Acceptor::Acceptor(Reactor& reactor, std::string_view host, std::uint16_t port, AcceptorFactory factory,
                   AcceptorOptions options)
    : Acceptor(reactor, addresses_of(reactor, host, port), std::move(factory), std::move(options)) {}

Acceptor::Acceptor(Reactor& reactor, AcceptorFactory factory, Opener opener, AcceptorOptions options)
    : reactor_(reactor),
      factory_(std::move(factory.make_)),
      factory_takes_peer_(factory.takes_peer_),
      opener_(std::move(opener)),
      options_(std::move(options)),
      group_(reactor, options_.connection, *this),
      reserve_(open_reserve()),
      back_off_timer_(reactor, [this] { update_interest(); }),
      back_off_time_(shortest_back_off),
      drain_(reactor, group_->counts, group_.get()) {
    if (options_.max_connections_per_peer != SIZE_MAX) peers_ = std::make_unique<PeerCounts>();
}

// Each public constructor delegates to the one above. If it then throws, the destructor runs, because for the language
// the object was complete when the first one had returned. So listeners that were opened before an error are closed.
Acceptor::Acceptor(Reactor& reactor, const std::vector<Address>& addresses, AcceptorFactory factory,
                   AcceptorOptions options)
    : Acceptor(reactor, required(std::move(factory)), nullptr, std::move(options)) {
    listen_on(addresses, SocketKind::stream);
    join_sharing();
}

Acceptor::Acceptor(Reactor& reactor, std::vector<Socket> sockets, AcceptorFactory factory, AcceptorOptions options)
    : Acceptor(reactor, required(std::move(factory)), nullptr, std::move(options)) {
    for (Socket& given : sockets) {
        Socket socket = listening(std::move(given));
        options_.connection.apply_to(socket);
        listeners_.push_back(std::make_unique<Listener>(*this, ListeningSocket(std::move(socket)), false));
    }
    join_sharing();
}

// Last of all, when nothing can fail any more: from then on others hand over to it.
void Acceptor::join_sharing() {
    if (options_.sharing != nullptr) member_ = options_.sharing->join(*this, reactor_, options_.max_connections);
}

Acceptor::Acceptor(Reactor& reactor, const Address& address, SocketKind sockets, Opener opener, AcceptorOptions options)
    : Acceptor(reactor, nullptr, std::move(opener), std::move(options)) {
    listen_on({address}, sockets);
}

Acceptor::Acceptor(Reactor& reactor, Socket socket, Opener opener, AcceptorOptions options)
    : Acceptor(reactor, nullptr, std::move(opener), std::move(options)) {
    listeners_.push_back(std::make_unique<Listener>(*this, ListeningSocket(listening(std::move(socket))), false));
}

void Acceptor::listen_on(const std::vector<Address>& addresses, SocketKind sockets) {
    Network* const network = Network::of(reactor_);
    const auto listen = [&](const Address& address) {
        return open_listening_socket(address, sockets, options_, network);
    };
    for (ListeningSocket& socket : bind_everywhere(addresses, listen))
        listeners_.push_back(std::make_unique<Listener>(*this, std::move(socket), accepts_ahead()));
}

Acceptor::~Acceptor() {
    if (member_ != nullptr) options_.sharing->leave(member_);
    group_->disown();  // before the destructors of the user's objects, which may drain the loop
}

std::vector<Address> Acceptor::addresses() const {
    std::vector<Address> result;
    for (const auto& listener : listeners_)
        if (listener->socket) result.push_back(listener->socket.local());
    return result;
}

std::uint16_t Acceptor::port() const {
    for (const auto& listener : listeners_)
        if (listener->socket) return listener->socket.local().port();
    return 0;
}

void Acceptor::visit_protocols(void (*visit)(void*, Protocol&), void* with) {
    const Lifetime::Watch watch(lifetime_);
    const Workspace* const space = Internals(reactor_).streams().get();
    Internals(reactor_).for_each_owned([&, group = ConnectionGroup::Reference(group_)](OwnedHandler& handler) {
        if (watch.over() || handler.shares() != space) return;
        auto& connection = static_cast<SocketConnection&>(static_cast<Drainable&>(handler));
        if (Protocol* const protocol = connection.protocol_in(*group.get())) visit(with, undressed(*protocol));
    });
}

void Acceptor::pause() {
    paused_ = true;
    update_interest();
}

void Acceptor::resume() {
    paused_ = false;
    update_interest();
}

void Acceptor::close() noexcept {
    // The listeners stay in their list: accept_from may be on the stack with a reference to one.
    for (auto& listener : listeners_) listener->close();
    back_off_timer_.cancel();
    if (member_ != nullptr) options_.sharing->leave(std::exchange(member_, nullptr));
}

std::vector<int> Acceptor::listening_sockets() const {
    std::vector<int> result;
    for (const auto& listener : listeners_)
        if (listener->socket) {
            listener->leave_to_kernel();  // another process is about to accept as well
            result.push_back(listener->socket->get());
        }
    return result;
}

void Acceptor::leave_files() noexcept {
    for (auto& listener : listeners_) listener->socket.leave_file();
}

void Acceptor::drain(Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how) {
    // The drain comes first, since it may throw; the acceptor then goes on as before.
    drain_.begin(longest, std::move(done), how);
    close();
}

void Acceptor::accept_from(Listener& listener) {
    // The factory may destroy this acceptor, and the listener with it.
    const Lifetime::Watch watch(lifetime_);
    std::error_code starved;
    try {
        for (std::size_t count = 0; count < accepts_per_turn && wants_more(listener); ++count) {
            Socket socket;
            Address peer;
            const std::error_code error = listener.accept(socket, peer);
            if (!error) {
                // That one came through says that whatever failed before is over.
                ++counters_.accepted;
                failures_ = 0;
                back_off_time_ = shortest_back_off;
                if (member_ != nullptr) {
                    options_.sharing->hand_over(std::move(socket));
                } else if (!serve(std::move(socket), peer)) {
                    return;
                }
            } else if (error == std::errc::operation_would_block) {
                failures_ = 0;
                // Ready, and no connection: another process that shares the socket was faster, or it is a Unix
                // socket that was shut down.
                if (count == 0 && listener.address.family() == Address::Family::unix_domain &&
                    !listens(listener.socket.get()))
                    lose(listener);
                break;
            } else if (error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system) {
                // The connection is still in the queue, so the listener stays ready: without shedding, or a pause, the
                // loop would spin.
                starved = error;
                if (!shed(listener)) break;
            } else if (error == std::errc::no_buffer_space || error == std::errc::not_enough_memory) {
                // Shedding needs the same memory that accept(2) has just not got, so here only waiting helps.
                starved = error;
                break;
            } else if (!listens(listener.socket.get())) {
                lose(listener);
                break;
            } else if (++failures_ >= most_failures) {
                failures_ = 0;
                starved = error;
                break;
            }
            // Otherwise it is about one connection that failed before it was accepted (accept(2), "Error handling"):
            // the next may be sound. If none is, then all fail, for example by a filter of system calls.
        }
    } catch (const std::bad_alloc&) {
        if (watch.over()) return;
        starved = std::make_error_code(std::errc::not_enough_memory);
    }
    if (starved) back_off(starved);
    update_interest();
}

// False if the factory has destroyed this acceptor. A factory that throws costs this connection; the others come at the
// next turn.
bool Acceptor::serve(Socket socket, const Address& peer) {
    if (opener_) return opener_(std::move(socket));
    const Lifetime::Watch watch(lifetime_);
    // The user's code, which may do anything: destroy this acceptor, close it, drain it, throw.
    std::unique_ptr<Protocol> protocol = factory_(peer);
    if (watch.over()) return false;
    if (!protocol) return true;
    if (peers_ == nullptr) {
        SocketConnection::open(reactor_, std::move(socket), std::move(protocol), group_);
        return true;
    }
    // Each connection of a client has another port. The peer is counted first and compared then, because that allocates
    // once for both outcomes.
    auto note = peers_->count_one_more(peer.with_port(0));
    const auto count = note.mapped();
    if (count->second > options_.max_connections_per_peer && count->first.family() != Address::Family::unix_domain) {
        peers_->count_one_less(count);
        ++counters_.refused;
        return true;
    }
    try {
        peers_->put(SocketConnection::open(reactor_, std::move(socket), std::move(protocol), group_), std::move(note));
    } catch (...) {
        if (!watch.over()) peers_->count_one_less(count);
        throw;
    }
    return true;
}

// From a listener that shares, on this loop or another.
void Acceptor::take(Socket socket) {
    const Lifetime::Watch watch(lifetime_);
    try {
        // accept(2) has said it on another loop's thread. Asking again is a system call, which only those pay that use
        // it. A peer that has reset meanwhile has no address any more, and is counted with the others without one.
        const Address peer = factory_takes_peer_ || peers_ != nullptr ? socket.peer() : Address();
        if (!serve(std::move(socket), peer)) return;
    } catch (...) {
        if (!watch.over()) count_shared(1);
        throw;
    }
    // Counted as on its way until now; it has arrived, if only to be refused.
    count_shared(1);
}

void Acceptor::count_shared(std::size_t arrived) noexcept {
    if (member_ != nullptr) options_.sharing->count(*member_, group_->counts.live, arrived);
}

void Acceptor::adopt(Connection& connection) {
    static_cast<SocketConnection&>(connection).join(group_);
    drain_.connection_came();
    // A connection that comes to an acceptor which is draining is asked to end, as those were that it had.
    drain_.tell_again();
    count_shared();
    update_interest();
}

// May the kernel hand connections over before they are asked for? Not where some may have to wait in its queue, for
// this acceptor or for another, and not where the address of each is wanted.
bool Acceptor::accepts_ahead() const noexcept {
    return !opener_ && !factory_takes_peer_ && peers_ == nullptr && options_.sharing == nullptr &&
           options_.max_connections == SIZE_MAX;
}

bool Acceptor::has_room() const noexcept {
    if (member_ != nullptr) return options_.sharing->has_room(*member_);
    return group_->counts.live < options_.max_connections;
}

bool Acceptor::wants_more(const Listener& listener) const noexcept {
    // A full acceptor takes its listeners out of the loop. The kernel then queues connections, up to the backlog, and
    // after that leaves SYNs without an answer, which clients repeat.
    return !paused_ && listener.socket && has_room();
}

// The connection that waits longest is accepted with the descriptor held in reserve, and closed. The client sees that
// at once; left in the queue it would keep the listener ready and the loop spinning. False if it cannot go on.
bool Acceptor::shed(Listener& listener) noexcept {
    // Another thread may take the descriptor in between. Then nothing is shed this time, and the acceptor backs off.
    reserve_.reset();
    Socket socket;
    Address peer;
    const std::error_code error = listener.socket->accept(socket, peer);
    if (!error) {
        ++counters_.shed;
        Internals(reactor_).notice(Notice::connection_shed, [&] {
            return listener.address.to_string() + ": out of descriptors, so " + peer.to_string() + " was turned away";
        });
    }
    socket.close();
    reserve_ = open_reserve();
    return !error && reserve_;
}

void Acceptor::back_off(std::error_code reason) noexcept {
    try {
        back_off_timer_.start(back_off_time_);
    } catch (const std::bad_alloc&) {
        return;  // then the next turn tries again
    }
    ++counters_.back_offs;
    Internals(reactor_).notice(Notice::accept_backed_off, [&] {
        const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(back_off_time_).count();
        return "accept paused for " + std::to_string(milliseconds) + " ms: " + reason.message();
    });
    back_off_time_ = std::min(2 * back_off_time_, longest_back_off);
}

// It will never accept anything again. The hook for notices only looks.
void Acceptor::lose(Listener& listener) noexcept {
    listener.close();
    ++counters_.listeners_lost;
    Internals(reactor_).notice(Notice::listener_lost, [&] {
        return listener.address.to_string() + ": the socket does not listen any more, so nothing is accepted on it";
    });
}

void Acceptor::update_interest() noexcept {
    const bool waits = back_off_timer_.active();
    // The reserve is renewed before any connection: the one after that may need it.
    if (!waits && !reserve_) reserve_ = open_reserve();
    for (auto& listener : listeners_)
        if (listener->registration)
            listener->registration.set_interest(!waits && wants_more(*listener) ? Interest::readable : Interest::none);
}

// From a connection that is about to close its descriptor.
void Acceptor::connection_ended(const OwnedHandler& connection) noexcept {
    if (peers_ != nullptr) peers_->ended(static_cast<const SocketConnection&>(connection));
    // The descriptor that it is about to close, or its memory, is what a pause waits for.
    back_off_timer_.cancel();
    count_shared();
    update_interest();
    drain_.connection_ended();
}

}  // namespace reactor
