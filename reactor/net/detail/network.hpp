// Network: how connectors and acceptors of one loop reach each other, in the place of the system's names, addresses and
// ports. The testing kit has one (reactor/testing/memory_network.hpp); without one they use the system's.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/net/address.hpp>

#include <cstdint>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor {

class Reactor;

class REACTOR_EXPORT Network {
public:
    /// The outcome of an attempt to connect.
    struct Way {
        Address to;               ///< where to connect to in truth
        std::error_code refused;  ///< or why that is refused
        Duration delay;           ///< the time before that is known
    };

    /// That of a loop; null if it uses the system's.
    static Network* of(const Reactor& reactor) noexcept;

    /// The addresses of a name, for an acceptor that listens there or for a connector. Throws std::system_error.
    virtual std::vector<Address> look_up(std::string_view host, std::uint16_t port, bool listens) = 0;
    /// Unix sockets are the system's in any case.
    static bool has(const Address& address) noexcept { return address.family() != Address::Family::unix_domain; }
    virtual Way way_to(const Address& address) = 0;
    /// Where an acceptor listens in truth; gives the address a port if it has none.
    virtual Address place_of(Address& address) = 0;

    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

protected:
    /// From now on until its destruction it is that of the loop.
    explicit Network(const Reactor& reactor);
    ~Network();
};

}  // namespace reactor
