// Connector: makes a connection to the first address of a name that answers, and gives it a protocol.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/export.hpp>
#include <reactor/net/resolver.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/detail/connection_group.hpp>
#include <reactor/timer.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor {

/// The options of a Connector: of its tries, and of the connection that comes of them.
struct ConnectorOptions {
    ConnectionOptions connection = {};
    /// For everything, from looking up the name until one address has answered. Zero or less: timed_out at once.
    Duration timeout = std::chrono::seconds(30);
    /// Where to connect from; by default the kernel chooses. Addresses of another family are not connected to
    /// (address_family_not_supported). With port 0 the kernel chooses the port when it knows the destination, so that
    /// one port serves many of them (ip(7): IP_BIND_ADDRESS_NO_PORT). Any other port is taken also while connections
    /// that ended wait in TIME_WAIT (SO_REUSEADDR).
    std::optional<Address> local = {};
    /// The longest wait before connecting again; zero or less: never. If it is given, the connector begins again when
    /// connecting has failed, when the factory has thrown or returned null, and when the connection has ended, until
    /// `cancel`. Each time the factory makes a new protocol.
    ///
    /// The back-off: the wait is 100 ms, or this if it is less, then twice as long each time, at most this; each time
    /// shortened by a random part, up to half of it, so that the clients of a server that restarts do not all come at
    /// once. It is 100 ms again after a connection that lasted at least as long as the wait before it (as it was before
    /// it was shortened): a server that accepts and hangs up at once is called ever more rarely. Less than 1 ms counts
    /// as 1 ms, and more than 100 years as that.
    Duration reconnect = Duration::zero();
};

/// Connects once, from its construction on. When a connection stands, the factory makes its protocol and `connected`
/// comes; it is the reactor's then and outlives the connector. If the factory returns null, the connection is closed.
/// If none could be made, a protocol's `connect_failed(failures)` comes, then its `disconnected(error)`. Either comes
/// from the loop, never from inside a call.
///
/// The error is timed_out at the deadline, a resolver's error, or that of the last address that failed. An address to
/// which this machine has no way (network_unreachable, address_family_not_supported, address_not_available) counts only
/// if all are such. `failures()` has them all.
///
/// Addresses are tried as RFC 8305 says: families in turn, IPv6 first, the next as soon as one has failed or been
/// silent for 250 ms; the first to answer wins and the others are dropped. IPv4 and IPv6 addresses of a name are
/// looked up apart (see Resolver). IPv6 addresses are tried at once; IPv4 addresses as soon as there are known to be no
/// others, or 50 ms after their answer (RFC 8305 3: resolution delay); later answers join those that wait. A socket
/// that on loopback happens to connect to itself counts as refused. Destroying the connector cancels; its factory and
/// its protocols may do that. On the loop's thread only; must go before its reactor. Throws std::invalid_argument for
/// an empty factory, and std::bad_alloc; then nothing remains of it.
class REACTOR_EXPORT Connector final : ConnectionGroup::Owner {
public:
    using Failure = ConnectFailure;

    [[nodiscard]] Connector(Reactor& reactor, std::string_view host, std::uint16_t port, ProtocolFactory factory,
                            ConnectorOptions options = {});
    /// To the first of these that answers; address_not_available if there is none.
    [[nodiscard]] Connector(Reactor& reactor, std::vector<Address> addresses, ProtocolFactory factory,
                            ConnectorOptions options = {});
    ~Connector();
    Connector(const Connector&) = delete;
    Connector& operator=(const Connector&) = delete;

    /// Gives up: neither connects nor reconnects, and calls nothing. An existing connection continues.
    void cancel() noexcept;

    /// Is it under way, with the outcome still to come? Also while it waits to reconnect.
    bool connecting() const noexcept { return state_ != State::over; }

    /// The error of each address, in order of time, since connecting began.
    const std::vector<Failure>& failures() const noexcept { return failures_; }

private:
    struct Attempt;
    enum class State : std::uint8_t { planned, trying, over };

    template <class Step>
    void or_fail(Step&& step);
    void begin();
    void look_up();
    void resolved(Address::Family family, std::error_code error, const std::vector<Address>& addresses);
    bool resolving() const noexcept { return ipv6_resolver_ != nullptr || ipv4_resolver_ != nullptr; }
    void wait_for_turn(const std::vector<Address>& addresses);
    bool take_next(Address& address);
    void try_next();
    bool try_address(const Address& address);
    std::error_code begin_connecting(Socket& socket, const Address& address) const;
    void bind(Socket& socket, const Address& destination) const;
    void answered(Attempt& attempt, std::error_code error);
    std::error_code verdict();
    void succeed(Socket socket);
    void fail(std::error_code error);
    void out_of_time();
    void stop_trying() noexcept;
    bool reconnects() const noexcept { return options_.reconnect > Duration::zero(); }
    void plan_reconnect() noexcept;
    void connection_ended(const OwnedHandler& connection) noexcept override;
    void no_new_ones(Draining how) noexcept override;

    Reactor& reactor_;
    bool by_name_ = false;
    std::string host_;
    std::uint16_t port_ = 0;
    std::vector<Address> given_;
    Callback<std::unique_ptr<Protocol>()> factory_;
    ConnectorOptions options_;
    ConnectionGroup::Reference group_;
    std::unique_ptr<Resolver> ipv6_resolver_;  // while it has not answered
    std::unique_ptr<Resolver> ipv4_resolver_;
    std::error_code look_up_error_;
    std::deque<Address> ipv6_waiting_;  // to be tried
    std::deque<Address> others_waiting_;
    bool ipv6_is_next_ = true;
    std::vector<std::unique_ptr<Attempt>> attempts_;
    std::vector<Failure> failures_;
    Timer begin_timer_;  // with `reconnect` it always has a place, so that planning to begin again needs no memory
    Timer next_timer_;
    Timer timeout_timer_;
    Duration reconnect_delay_ = Duration::zero();  // before the present try; zero before the first
    TimePoint connected_at_;
    std::uint32_t random_ = 0;  // the last one
    State state_ = State::planned;
    Lifetime lifetime_;
};

}  // namespace reactor
