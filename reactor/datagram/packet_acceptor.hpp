// PacketAcceptor: listens on a Unix socket of packets (SOCK_SEQPACKET) and gives each new connection a protocol of
// datagrams: connected and ordered as a stream is, with the boundaries of datagrams, and with descriptors. It is an
// Acceptor that opens another kind of connection.
#pragma once

#include <reactor/datagram/datagram.hpp>
#include <reactor/detail/callback.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/drain.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace reactor {

/// Accepts from its construction until it is closed or destroyed; the connections live on. Everything is on the loop's
/// thread; must go before its reactor. Out of descriptors or memory it does what an Acceptor does.
class REACTOR_EXPORT PacketAcceptor final {
public:
    /// Listens on a Unix address; a dead socket's file is replaced, and its own removed at the end (socket_file.hpp).
    /// `factory` makes a protocol for each connection; if it returns null the connection is closed. The options are for
    /// the connections; at `max_connections` live ones it stops accepting, as in AcceptorOptions. Throws
    /// std::system_error that names the address, and std::invalid_argument for an empty factory.
    [[nodiscard]] PacketAcceptor(Reactor& reactor, const Address& address, DatagramProtocolFactory factory,
                                 const DatagramOptions& options = {}, std::size_t max_connections = SIZE_MAX);
    /// On a socket that listens already: an inherited one (reactor/stream/inherited.hpp). Its file is not removed.
    /// Throws std::system_error (invalid_argument) for a socket that does not listen.
    [[nodiscard]] PacketAcceptor(Reactor& reactor, Socket listening, DatagramProtocolFactory factory,
                                 const DatagramOptions& options = {}, std::size_t max_connections = SIZE_MAX);

    /// Where it listens; of family none once it is closed.
    Address address() const;

    /// Leaves new connections waiting in the kernel until `resume`.
    void pause() { acceptor_.pause(); }
    void resume() { acceptor_.resume(); }

    /// Stops listening. Connections go on. Also from its own factory.
    void close() noexcept { acceptor_.close(); }

    using Drained = reactor::Drained;
    using Draining = reactor::Draining;
    /// As reactor::drain (reactor/stream/drain.hpp), for this acceptor and its connections alone, by
    /// DatagramProtocol::draining. Each connection that closes sends as much as the kernel has room for;
    /// Drained::bytes_cut counts the rest.
    void drain(Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how = Draining::told) {
        acceptor_.drain(longest, std::move(done), how);
    }

    /// Its listening socket, for a Successor, and this acceptor's until it closes: one, or none when it is closed.
    std::vector<int> listening_sockets() const { return acceptor_.listening_sockets(); }
    /// The file of its socket stays when it closes: another process listens on it now.
    void leave_file() noexcept { acceptor_.leave_files(); }

    /// Its connections that have not ended.
    std::size_t connections() const noexcept { return acceptor_.connections(); }

    using Counters = Acceptor::Counters;
    const Counters& counters() const noexcept { return acceptor_.counters(); }

private:
    bool serve(Socket socket);

    Reactor& reactor_;
    Callback<std::unique_ptr<DatagramProtocol>()> factory_;
    DatagramOptions options_;
    Lifetime lifetime_;
    Acceptor acceptor_;
};

}  // namespace reactor
