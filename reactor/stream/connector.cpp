// Connecting: names are looked up by family, addresses are tried side by side, and exactly one outcome is reported (RFC
// 8305, Happy Eyeballs 2). The order is begin → look_up → try_next → answered → succeed or fail, each of them called
// from the loop.
#include <reactor/net/detail/network.hpp>
#include <reactor/net/look_up_impl.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/no_transport_impl.hpp>

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <random>
#include <utility>

namespace reactor {

namespace {

// The wait for a Unix socket's full backlog before the next try: connect(2) says EAGAIN there, and nothing reports when
// there is room.
constexpr Duration full_backlog_delay = std::chrono::milliseconds(20);

// By getentropy(3), which needs no descriptor as std::random_device does with some libraries. Where it is forbidden the
// time and the place serve, since a jitter has to differ and no more.
std::uint32_t seed_for(const void* place) noexcept {
    std::uint32_t seed = 0;
    if (::getentropy(&seed, sizeof seed) == 0) return seed;
    const auto time = std::uint64_t(std::chrono::system_clock::now().time_since_epoch().count());
    return std::uint32_t(((reinterpret_cast<std::uintptr_t>(place) ^ time) * 0x9e37'79b9'7f4a'7c15) >> 32);
}

// RFC 8305 3: how long IPv4 addresses wait for the answer with IPv6 ones.
constexpr Duration resolution_delay = std::chrono::milliseconds(50);

// RFC 8305 5: how long an address may be silent before the next is tried beside it.
constexpr Duration attempt_delay = std::chrono::milliseconds(250);

constexpr Duration first_back_off = std::chrono::milliseconds(100);
constexpr Duration least_back_off = std::chrono::milliseconds(1);
constexpr Duration most_back_off = std::chrono::hours(24 * 365 * 100);  // twice as much is a Duration still
constexpr double jitter = 0.5;

// Does the error say that this machine has no way to the address, whatever may be there?
bool says_no_way(const std::error_code& error) noexcept {
    return error == std::errc::network_unreachable || error == std::errc::address_family_not_supported ||
           error == std::errc::address_not_available;
}

}  // namespace

struct Connector::Attempt final : EventHandler {
    Attempt(Connector& owner, Socket connecting, const Address& to)
        : connector(owner),
          address(to),
          socket(std::move(connecting)),
          registration(owner.reactor_.watch(socket.get(), Interest::writable, *this)) {}

    // In a network of a test's, where it is known after a time how this ends.
    Attempt(Connector& owner, const Address& to, const Network::Way& way)
        : connector(owner), address(to), later(std::in_place, owner.reactor_, [this, way] { begin(way); }) {
        later->start(way.delay);
    }
    void begin(const Network::Way& way) {
        std::error_code error = way.refused;
        try {
            if (!error) error = connector.begin_connecting(socket, way.to);
        } catch (const std::system_error& failure) {
            error = failure.code();
        }
        if (error && error != std::errc::operation_in_progress) return connector.answered(*this, error);
        connector.or_fail([this] { registration = connector.reactor_.watch(socket.get(), Interest::writable, *this); });
    }

    // Writable says that connecting has ended, not how.
    void writable() override {
        // Reading SO_ERROR clears it, so it is read once, here.
        std::error_code error = socket.pending_error();
        const Address peer = socket.peer();
        if (!error && peer.family() == Address::Family::none) return;  // it has not: a spurious event
        if (!error && peer == socket.local() && address.family() != Address::Family::unix_domain)
            error = std::make_error_code(std::errc::connection_refused);  // the kernel picked our own port
        connector.answered(*this, error);
    }
    void lost(std::error_code reason) override { connector.answered(*this, reason); }

    Connector& connector;
    Address address;
    Socket socket;
    Registration registration;
    std::optional<Timer> later;
};

Connector::Connector(Reactor& reactor, std::string_view host, std::uint16_t port, ProtocolFactory factory,
                     ConnectorOptions options)
    : Connector(reactor, std::vector<Address>(), std::move(factory), std::move(options)) {
    by_name_ = true;
    host_ = host;
    port_ = port;
}

Connector::Connector(Reactor& reactor, std::vector<Address> addresses, ProtocolFactory factory,
                     ConnectorOptions options)
    : reactor_(reactor),
      given_(std::move(addresses)),
      factory_(required(std::move(factory), "Connector: no factory")),
      options_(std::move(options)),
      begin_timer_(reactor, [this] { begin(); }),
      next_timer_(reactor, [this] { or_fail([this] { try_next(); }); }),
      timeout_timer_(reactor, [this] { or_fail([this] { out_of_time(); }); }) {
    if (reconnects()) {
        options_.reconnect = std::clamp(options_.reconnect, least_back_off, most_back_off);
        random_ = seed_for(this);
    }
    // From the loop, so that no callback comes from inside the constructor.
    begin_timer_.start(Duration::zero());
    // Last, because the loop knows the owner of a group: nothing may throw once it does.
    group_ = ConnectionGroup::make(reactor, options_.connection, this);
}

Connector::~Connector() {
    // A connection that it made lives on, and would report its end to an owner that has gone.
    group_->disown();
}

void Connector::cancel() noexcept {
    stop_trying();
    begin_timer_.cancel();
    // Nothing is planned either when a connection that stands now ends.
    options_.reconnect = Duration::zero();
}

// Running out of memory on the way is an outcome like any other, unless one is being reported already: then it comes
// from the factory or from its protocol, and is theirs.
template <class Step>
void Connector::or_fail(Step&& step) {
    const Lifetime::Watch watch(lifetime_);
    try {
        step();
    } catch (const std::bad_alloc&) {
        if (watch.over() || state_ != State::trying) throw;
        fail(std::make_error_code(std::errc::not_enough_memory));
    }
}

void Connector::begin() {
    state_ = State::trying;
    failures_.clear();
    look_up_error_.clear();
    ipv6_is_next_ = true;
    or_fail([this] {
        // For never: it keeps its place among the timers, so that planning the next connection needs no memory.
        if (reconnects()) begin_timer_.start(Duration::max());
        timeout_timer_.start(options_.timeout);
        if (by_name_) return look_up();
        wait_for_turn(given_);
        try_next();
    });
}

// ── addresses ──

void Connector::look_up() {
    std::optional<std::vector<Address>> known;
    try {
        Network* const network = Network::of(reactor_);
        known = network != nullptr ? network->look_up(host_, port_, false) : addresses_without_look_up(host_, port_);
    } catch (const std::system_error& failure) {
        look_up_error_ = failure.code();
        known.emplace();
    }
    if (known) {
        wait_for_turn(*known);
        return try_next();
    }
    // Each family by itself. One question for both is answered when the slower of the two name servers' answers is
    // there, and a firewall that drops AAAA questions makes that seconds.
    const auto ask = [this](Address::Family family) {
        return std::make_unique<Resolver>(reactor_, host_, port_, family,
                                          [this, family](std::error_code error, const std::vector<Address>& addresses) {
                                              resolved(family, error, addresses);
                                          });
    };
    ipv6_resolver_ = ask(Address::Family::ipv6);
    ipv4_resolver_ = ask(Address::Family::ipv4);
}

// One of the two look-ups is answered.
void Connector::resolved(Address::Family family, std::error_code error, const std::vector<Address>& addresses) {
    (family == Address::Family::ipv6 ? ipv6_resolver_ : ipv4_resolver_).reset();
    or_fail([&] {
        // That a host has no address of one family says nothing of the other.
        if (error && (!look_up_error_ || says_no_address(look_up_error_))) look_up_error_ = error;
        wait_for_turn(addresses);
        // Attempts under way are not disturbed: further addresses wait for their turn. If there is none, IPv4 waits a
        // little for IPv6 (RFC 8305 3).
        if (addresses.empty() && resolving()) return;
        if (!attempts_.empty()) {
            if (!next_timer_.active()) next_timer_.start(attempt_delay);
        } else if (ipv6_resolver_ != nullptr) {
            next_timer_.start(resolution_delay);
        } else {
            try_next();
        }
    });
}

void Connector::wait_for_turn(const std::vector<Address>& addresses) {
    for (const Address& address : addresses)
        (address.family() == Address::Family::ipv6 ? ipv6_waiting_ : others_waiting_).push_back(address);
}

// RFC 8305 4: families in turn, so that a family that does not work costs one delay and not one for each address.
bool Connector::take_next(Address& address) {
    const bool ipv6 = others_waiting_.empty() || (ipv6_is_next_ && !ipv6_waiting_.empty());
    std::deque<Address>& waiting = ipv6 ? ipv6_waiting_ : others_waiting_;
    if (waiting.empty()) return false;
    address = waiting.front();
    waiting.pop_front();
    ipv6_is_next_ = !ipv6;
    return true;
}

// ── attempts ──

// Starts one more attempt, passing over the addresses that fail at once.
void Connector::try_next() {
    for (Address address; take_next(address);)
        if (try_address(address)) return;
    if (attempts_.empty() && !resolving()) fail(verdict());
}

// True if there is now something to wait for.
bool Connector::try_address(const Address& address) {
    if (Network* const network = Network::of(reactor_); network != nullptr && network->has(address)) {
        attempts_.push_back(std::make_unique<Attempt>(*this, address, network->way_to(address)));
        if (!ipv6_waiting_.empty() || !others_waiting_.empty()) next_timer_.start(attempt_delay);
        return true;
    }
    std::error_code error;
    try {
        Socket socket;
        error = begin_connecting(socket, address);
        // A socket that is connected at once, as a Unix socket is, is writable at once: it takes the same way, by the
        // loop.
        if (!error || error == std::errc::operation_in_progress) {
            attempts_.push_back(std::make_unique<Attempt>(*this, std::move(socket), address));
            if (!ipv6_waiting_.empty() || !others_waiting_.empty()) next_timer_.start(attempt_delay);
            return true;
        }
    } catch (const std::system_error& failure) {
        error = failure.code();
    }
    if (error == std::errc::resource_unavailable_try_again && address.family() == Address::Family::unix_domain) {
        others_waiting_.push_front(address);
        next_timer_.start(full_backlog_delay);
        return true;
    }
    failures_.push_back({address, error});
    return false;
}

std::error_code Connector::begin_connecting(Socket& socket, const Address& address) const {
    socket = Socket::open(address.family());
    options_.connection.apply_to(socket);
    if (options_.local && Network::of(reactor_) == nullptr) bind(socket, address);
    return socket.connect(address);
}

void Connector::answered(Attempt& attempt, std::error_code error) {
    // The socket is taken out first: all the attempts, this one too, are destroyed by success.
    if (!error) return succeed(std::move(attempt.socket));
    or_fail([&] {
        failures_.push_back({attempt.address, error});
        std::erase_if(attempts_, [&](const auto& other) { return other.get() == &attempt; });
        try_next();
    });
}

// To the wanted address, as far as the destination has such an address.
void Connector::bind(Socket& socket, const Address& destination) const {
    const Address& local = *options_.local;
    if (local.family() != destination.family())
        throw std::system_error(std::make_error_code(std::errc::address_family_not_supported),
                                "bind(" + local.to_string() + ")");
    if (local.family() != Address::Family::unix_domain) {
        // With a port given, an earlier connection from it may be in TIME_WAIT.
        if (local.port() == 0) {
            socket.set_bind_without_port(true);
        } else {
            socket.set_reuse_address(true);
        }
    }
    socket.bind(local);
}

// Of several errors the most telling one: a refusal by IPv4 says more than that there is no IPv6 here.
std::error_code Connector::verdict() {
    if (failures_.empty()) {
        if (!look_up_error_) return std::make_error_code(std::errc::address_not_available);
        failures_.push_back({{}, look_up_error_});
    }
    const auto telling = std::find_if(failures_.rbegin(), failures_.rend(),
                                      [](const Failure& failure) { return !says_no_way(failure.error); });
    return telling != failures_.rend() ? telling->error : failures_.back().error;
}

// ── outcomes ──

void Connector::succeed(Socket socket) {
    stop_trying();
    // For the wait before the next connection, if this one does not last.
    connected_at_ = reactor_.now();
    const Lifetime::Watch watch(lifetime_);
    std::unique_ptr<Protocol> protocol;
    try {
        protocol = factory_();
    } catch (...) {
        if (!watch.over()) plan_reconnect();
        throw;
    }
    if (watch.over()) return;
    // A factory that returns null or throws has refused this connection, and not the ones to come.
    if (protocol == nullptr) return plan_reconnect();
    state_ = State::trying;  // a connection that cannot be opened is no connection that has ended
    std::error_code error;
    try {
        SocketConnection::open(reactor_, std::move(socket), std::move(protocol), group_);
    } catch (const std::system_error& failure) {
        error = failure.code();
    } catch (const std::bad_alloc&) {
        error = std::make_error_code(std::errc::not_enough_memory);
    }
    if (watch.over()) return;
    state_ = State::over;
    if (error) fail(error);  // reported to another protocol: this one is gone
}

void Connector::fail(std::error_code error) {
    stop_trying();
    // Planned before the protocol is called, which may cancel it or destroy this.
    plan_reconnect();
    const Lifetime::Watch watch(lifetime_);
    // The protocol can ask for its loop, to plan something of its own, but there is nothing to write to.
    NoTransport closed(&reactor_);
    const std::unique_ptr<Protocol> protocol = factory_();
    if (protocol == nullptr) return;
    closed.serve(*protocol);
    std::exception_ptr failure;
    try {
        protocol->connect_failed(watch.over() ? std::vector<Failure>() : failures_);
    } catch (...) {
        failure = std::current_exception();
        error = Error::exception;
    }
    protocol->disconnected(error);  // it may have destroyed this connector
    if (failure) std::rethrow_exception(failure);
}

void Connector::out_of_time() {
    const auto error = std::make_error_code(std::errc::timed_out);
    // All that is under way counts as failed now. A look-up has no address yet, and is named by its absence.
    if (attempts_.empty()) failures_.push_back({{}, error});
    for (const auto& attempt : attempts_) failures_.push_back({attempt->address, error});
    fail(error);
}

void Connector::stop_trying() noexcept {
    state_ = State::over;
    ipv6_resolver_.reset();
    ipv4_resolver_.reset();
    attempts_.clear();
    ipv6_waiting_.clear();
    others_waiting_.clear();
    next_timer_.cancel();
    timeout_timer_.cancel();
}

// ── reconnecting ──

void Connector::plan_reconnect() noexcept {
    if (!reconnects()) return;
    reconnect_delay_ =
        std::min(reconnect_delay_ == Duration::zero() ? first_back_off : 2 * reconnect_delay_, options_.reconnect);
    std::minstd_rand random(random_);
    // Clients that lost one server at the same moment must not come back at the same moment. Only shortened: the
    // longest wait is a promise.
    const double less = jitter * std::uniform_real_distribution<>(0, 1)(random);
    random_ = std::uint32_t(random());
    try {
        begin_timer_.start(reconnect_delay_ - Duration(std::int64_t(double(reconnect_delay_.count()) * less)));
    } catch (const std::bad_alloc&) {
        return;  // it lost its place for want of memory when it began, and there is none yet
    }
    state_ = State::planned;
}

// A connection that is left may need the one that is being made for it, as a proxy's does.
void Connector::no_new_ones(Draining how) noexcept {
    const bool waits = state_ == State::planned && reconnect_delay_ > Duration::zero();
    if (how == Draining::told || waits) return cancel();
    options_.reconnect = Duration::zero();
}

// A connection that lasted was worth its wait; one that ended sooner is as good as none.
void Connector::connection_ended(const OwnedHandler&) noexcept {
    if (state_ != State::over) return;
    if (reactor_.now() - connected_at_ >= reconnect_delay_) reconnect_delay_ = Duration::zero();
    plan_reconnect();
}

}  // namespace reactor
