// A network of a test's own: Acceptor and Connector, and all that is made of them (Requests, Forward), on one loop,
// with a clock that the test moves. Names are those that acceptors listen on. Nothing leaves the process, no port of
// the machine is taken, and nothing waits. The test has connections refused, made slow or reset.
//
//     MemoryNetwork network;
//     Acceptor server{network.reactor(), "db.example", 5432, factory<Echo>()};
//     Connector client{network.reactor(), "db.example", 5432, factory<Client>()};
//     network.settle();
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/net/address.hpp>
#include <reactor/reactor.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <system_error>

namespace reactor::testing {

/// A loop whose connectors and acceptors meet here. Each name has one address (of 192.0.2.0/24, RFC 5737), "localhost"
/// has 127.0.0.1 and ::1, and "" is every address. Port 0 takes a free one.
///
/// The connections are real ones, over Unix sockets without a file (elsewhere than on Linux: in a temporary folder).
/// Therefore: local() and peer() of a connection are Unix addresses, and its peers do not count for
/// max_connections_per_peer. An abort() is an end of stream for the other side if that has sent nothing that is
/// unread; `reset` is a reset for both. Several acceptors cannot share a port, and
/// ConnectorOptions::local is ignored. Sockets that the program opens itself, datagrams, and Resolver are not of this
/// network.
///
/// All calls on the thread of the test. Destroy acceptors, connectors and pools before it; connections may be left.
class REACTOR_EXPORT MemoryNetwork {
public:
    /// `backend` as for Reactor. Throws what that throws.
    explicit MemoryNetwork(std::string_view backend = "auto");
    ~MemoryNetwork();
    MemoryNetwork(const MemoryNetwork&) = delete;
    MemoryNetwork& operator=(const MemoryNetwork&) = delete;

    Reactor& reactor() noexcept;
    /// Stands still unless `advance` moves it.
    const Clock& clock() const noexcept;

    /// Runs the loop until nothing is left to do at this time: all bytes have arrived, and every timer that is due has
    /// been called. An exception of a callback leaves it as it leaves Reactor::run_once. Throws std::logic_error if
    /// there is no end of it after 100,000 iterations.
    void settle();

    /// Time passes. Each timer is called at its time, and all that follows from it happens before the next one. Throws
    /// std::invalid_argument for a negative duration; otherwise as `settle`.
    void advance(Duration time);

    /// Gives a name an address, although nothing listens there: connecting is refused. Without this, and without an
    /// acceptor, looking the name up fails. Returns the address with port 0.
    Address add(std::string_view host);

    // ── from now on, for each new connection to this name or numeric address, whatever the port ──

    /// It fails with `reason`.
    void refuse(std::string_view host, std::error_code reason = std::make_error_code(std::errc::connection_refused));
    /// It succeeds, or fails, after this time. Duration::max(): never, so that it is silent.
    void delay(std::string_view host, Duration time);
    /// It is as at first again. Attempts that wait already are not changed.
    void restore(std::string_view host);

    /// Resets every connection to this name or numeric address, or with "" those to acceptors of every address: both
    /// sides are disconnected with connection_reset, in the next `settle`. Returns how many there were.
    std::size_t reset(std::string_view host);

private:
    class Names;
    std::unique_ptr<Names> names_;
};

}  // namespace reactor::testing
