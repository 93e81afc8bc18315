// Connector: makes a connection to the first address of a name that answers, and gives it a protocol.
#pragma once

#include <reactor/export.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/net/resolver.hpp>
#include <reactor/timer.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor {

/// How long to wait before connecting again: `first`, then twice as long after each failure in a row, at most
/// `longest`; each time shortened by a random part of up to `jitter` of it, so that the clients of a server
/// that restarts do not all come at once.
struct Reconnect {
    Duration first = std::chrono::milliseconds(100);
    Duration longest = std::chrono::seconds(30);
    double jitter = 0.5;
};

struct ConnectorOptions {
    ConnectionOptions connection;
    /// For everything, from looking up the name until one address has answered.
    Duration timeout = std::chrono::seconds(30);
    /// How long one address may be silent before the next is tried beside it (RFC 8305 5: 250 ms).
    Duration attempt_delay = std::chrono::milliseconds(250);
    /// Where to connect from; by default the kernel chooses.
    std::optional<Address> local;
    /// Connect again when connecting has failed and when the connection has ended, until `cancel`. Each time the
    /// factory makes a new protocol.
    std::optional<Reconnect> reconnect;
};

/// Connects once, from its construction on. When a connection stands, the factory makes its protocol and
/// `connected` comes; it is the reactor's then and outlives the connector. If none could be made, the protocol's
/// `disconnected(error)` comes, alone: connection_refused, timed_out, a resolver's error …, the last one of all
/// the addresses; `failures()` has them all. Either comes from the loop, never from inside a call.
///
/// Addresses are tried as RFC 8305 says: families in turn, IPv6 first, the next as soon as one has failed or
/// been silent for a while; the first to answer wins and the others are dropped. A socket that on loopback
/// happens to connect to itself counts as refused. Destroying the connector cancels. On the loop's thread only;
/// must go before its reactor.
class REACTOR_EXPORT Connector final : ConnectionGroup::Owner {
public:
    struct Failure {
        Address address;  ///< family none if the name could not be looked up
        std::error_code error;
    };

    Connector(Reactor& reactor, std::string_view host, std::uint16_t port, ProtocolFactory factory,
              ConnectorOptions options = {});
    Connector(Reactor& reactor, std::vector<Address> addresses, ProtocolFactory factory,
              ConnectorOptions options = {});
    ~Connector();
    Connector(const Connector&) = delete;
    Connector& operator=(const Connector&) = delete;

    /// Gives up: neither connects nor reconnects, and tells nobody. A connection that stands goes on.
    void cancel() noexcept;

    /// Is it under way, with the outcome still to come?
    bool connecting() const noexcept { return connecting_; }

    /// What went wrong with each address, in the order in which it did, since connecting began.
    const std::vector<Failure>& failures() const noexcept { return failures_; }

private:
    struct Attempt;

    template <class Step>
    void or_fail(Step&& step);
    void begin();
    void resolved(std::error_code error, std::vector<Address> addresses);
    void try_next();
    bool try_address(const Address& address);
    void answered(Attempt& attempt, std::error_code error);
    void succeed(Socket socket);
    void fail(std::error_code error);
    void out_of_time();
    void stop_trying() noexcept;
    static std::uint32_t random_number();
    void plan_reconnect();
    void try_to_reconnect() noexcept;
    void connection_ended(const OwnedHandler& connection) noexcept override;
    void no_new_ones() noexcept override { cancel(); }

    Reactor& reactor_;
    std::string host_;
    std::uint16_t port_ = 0;
    std::vector<Address> given_;
    ProtocolFactory factory_;
    ConnectorOptions options_;
    ConnectionGroup::Reference group_;
    std::unique_ptr<Resolver> resolver_;
    std::vector<Address> waiting_;  // to be tried, the next one last
    std::vector<std::unique_ptr<Attempt>> attempts_;
    std::vector<Failure> failures_;
    Timer begin_timer_;
    Timer next_timer_;
    Timer timeout_timer_;
    Duration reconnect_delay_ = Duration::zero();
    std::uint32_t random_ = random_number();  // the last one
    bool connecting_ = true;
    Lifetime lifetime_;
};

}  // namespace reactor
