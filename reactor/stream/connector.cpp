#include <reactor/stream/connector.hpp>

#include <algorithm>
#include <new>
#include <random>
#include <utility>

namespace reactor {

namespace {

// What a Unix socket's full backlog is waited for before the next try: connect(2) says EAGAIN there, and
// nothing would tell when there is room.
constexpr Duration full_backlog_delay = std::chrono::milliseconds(20);

// RFC 8305 4: families in turn, so that a family that does not work costs one delay and not one for each address.
std::vector<Address> interleave(const std::vector<Address>& addresses) {
    std::vector<Address> ipv6, others, result;
    for (const Address& address : addresses)
        (address.family() == Address::Family::ipv6 ? ipv6 : others).push_back(address);
    for (std::size_t i = 0; i < std::max(ipv6.size(), others.size()); ++i) {
        if (i < ipv6.size()) result.push_back(ipv6[i]);
        if (i < others.size()) result.push_back(others[i]);
    }
    return result;
}

}  // namespace

struct Connector::Attempt final : EventHandler {
    Attempt(Connector& owner, Socket connecting, const Address& to)
        : connector(owner),
          address(to),
          socket(std::move(connecting)),
          registration(owner.reactor_.watch(socket.get(), Interest::writable, *this)) {}

    // Writable says that connecting has ended, not how.
    void writable() override {
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
};

Connector::Connector(Reactor& reactor, std::string_view host, std::uint16_t port, ProtocolFactory factory,
                     ConnectorOptions options)
    : Connector(reactor, std::vector<Address>(), std::move(factory), std::move(options)) {
    host_ = host;
    port_ = port;
}

Connector::Connector(Reactor& reactor, std::vector<Address> addresses, ProtocolFactory factory,
                     ConnectorOptions options)
    : reactor_(reactor),
      given_(std::move(addresses)),
      factory_(std::move(factory)),
      options_(std::move(options)),
      group_(ConnectionGroup::make(reactor, options_.connection, this)),
      begin_timer_(reactor, [this] { begin(); }),
      next_timer_(reactor, [this] { or_fail([this] { try_next(); }); }),
      timeout_timer_(reactor, [this] { or_fail([this] { out_of_time(); }); }) {
    begin_timer_.start(Duration::zero());
}

Connector::~Connector() { group_->disown(); }

void Connector::cancel() noexcept {
    stop_trying();
    begin_timer_.cancel();
    options_.reconnect.reset();
}

// Running out of memory on the way is an outcome like any other, unless one is being told already: then it comes from
// the factory or from its protocol, and is theirs.
template <class Step>
void Connector::or_fail(Step&& step) {
    const Lifetime::Watch watch(lifetime_);
    try {
        step();
    } catch (const std::bad_alloc&) {
        if (watch.over() || !connecting_ || begin_timer_.active()) throw;
        fail(std::make_error_code(std::errc::not_enough_memory));
    }
}

void Connector::begin() {
    connecting_ = true;
    failures_.clear();
    or_fail([this] {
        timeout_timer_.start(options_.timeout);
        if (!given_.empty()) return resolved({}, given_);
        resolver_ = std::make_unique<Resolver>(
            reactor_, host_, port_,
            [this](std::error_code error, std::vector<Address> addresses) { resolved(error, std::move(addresses)); });
    });
}

void Connector::resolved(std::error_code error, std::vector<Address> addresses) {
    resolver_.reset();
    or_fail([&] {
        if (error) {
            failures_.push_back({{}, error});
            return fail(error);
        }
        waiting_ = interleave(addresses);
        std::reverse(waiting_.begin(), waiting_.end());
        try_next();
    });
}

// Starts one more attempt, passing over the addresses that fail at once.
void Connector::try_next() {
    while (!waiting_.empty()) {
        const Address address = waiting_.back();
        waiting_.pop_back();
        if (try_address(address)) return;
    }
    if (attempts_.empty()) fail(failures_.empty() ? std::make_error_code(std::errc::address_not_available)
                                                  : failures_.back().error);
}

// True if there is now something to wait for.
bool Connector::try_address(const Address& address) {
    std::error_code error;
    try {
        Socket socket = Socket::open(address.family());
        options_.connection.apply_to(socket);
        if (options_.local) socket.bind(*options_.local);
        error = socket.connect(address);
        if (!error || error == std::errc::operation_in_progress) {
            attempts_.push_back(std::make_unique<Attempt>(*this, std::move(socket), address));
            if (!waiting_.empty()) next_timer_.start(options_.attempt_delay);
            return true;
        }
    } catch (const std::system_error& failure) {
        error = failure.code();
    }
    if (error == std::errc::resource_unavailable_try_again && address.family() == Address::Family::unix_domain) {
        waiting_.push_back(address);
        next_timer_.start(full_backlog_delay);
        return true;
    }
    failures_.push_back({address, error});
    return false;
}

void Connector::answered(Attempt& attempt, std::error_code error) {
    if (!error) return succeed(std::move(attempt.socket));
    or_fail([&] {
        failures_.push_back({attempt.address, error});
        std::erase_if(attempts_, [&](const auto& other) { return other.get() == &attempt; });
        try_next();
    });
}

void Connector::succeed(Socket socket) {
    stop_trying();
    reconnect_delay_ = Duration::zero();
    const Lifetime::Watch watch(lifetime_);
    std::unique_ptr<Protocol> protocol = factory_();
    if (protocol == nullptr || watch.over()) return;
    try {
        Connection::open(reactor_, std::move(socket), std::move(protocol), group_);
    } catch (const std::bad_alloc&) {
        fail(std::make_error_code(std::errc::not_enough_memory));  // told to another protocol: this one is gone
    }
}

void Connector::fail(std::error_code error) {
    stop_trying();
    try_to_reconnect();
    if (const std::unique_ptr<Protocol> protocol = factory_()) protocol->disconnected(error);
}

void Connector::out_of_time() {
    const auto error = std::make_error_code(std::errc::timed_out);
    if (attempts_.empty()) failures_.push_back({{}, error});
    for (const auto& attempt : attempts_) failures_.push_back({attempt->address, error});
    fail(error);
}

void Connector::stop_trying() noexcept {
    connecting_ = false;
    resolver_.reset();
    attempts_.clear();
    waiting_.clear();
    next_timer_.cancel();
    timeout_timer_.cancel();
}

void Connector::plan_reconnect() {
    if (!options_.reconnect) return;
    const Reconnect& reconnect = *options_.reconnect;
    reconnect_delay_ = reconnect_delay_ == Duration::zero() ? reconnect.first
                                                            : std::min(2 * reconnect_delay_, reconnect.longest);
    std::minstd_rand random(random_);
    const double kept = 1 - reconnect.jitter * std::uniform_real_distribution<>(0, 1)(random);
    random_ = std::uint32_t(random());
    begin_timer_.start(Duration(std::int64_t(double(reconnect_delay_.count()) * kept)));
    connecting_ = true;
}

std::uint32_t Connector::random_number() { return std::random_device{}(); }

void Connector::connection_ended(const OwnedHandler&) noexcept { try_to_reconnect(); }

void Connector::try_to_reconnect() noexcept {
    try {
        plan_reconnect();
    } catch (const std::bad_alloc&) {
        // Without memory for a timer there is no reconnecting.
    }
}

}  // namespace reactor
