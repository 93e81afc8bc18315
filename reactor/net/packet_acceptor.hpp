// PacketAcceptor: listens on a Unix socket of packets (SOCK_SEQPACKET) and gives each new connection a protocol of
// datagrams: connected and ordered as a stream is, with the boundaries of datagrams, and with descriptors.
#pragma once

#include <reactor/export.hpp>
#include <reactor/lifetime.hpp>
#include <reactor/net/datagram.hpp>
#include <reactor/net/socket_file.hpp>
#include <reactor/timer.hpp>

#include <cstddef>

namespace reactor {

/// Accepts from its construction until it is destroyed; the connections live on. Everything is on the loop's thread;
/// must go before its reactor. Out of descriptors or memory it leaves the listener alone for a while.
class REACTOR_EXPORT PacketAcceptor final : EventHandler {
public:
    /// Listens on a Unix address; a dead socket's file is replaced, and its own removed at the end (socket_file.hpp).
    /// If `factory` returns null the connection is closed. Throws std::system_error that names the address.
    PacketAcceptor(Reactor& reactor, const Address& address, DatagramProtocolFactory factory,
                   const DatagramOptions& options = {});
    ~PacketAcceptor();
    PacketAcceptor(const PacketAcceptor&) = delete;
    PacketAcceptor& operator=(const PacketAcceptor&) = delete;

    Address address() const noexcept { return socket_.local(); }

private:
    void readable() override;
    bool accept_one();
    void rest() noexcept;

    Reactor& reactor_;
    DatagramProtocolFactory factory_;
    DatagramOptions options_;
    Socket socket_;
    SocketFile file_;
    Timer rest_timer_;
    Lifetime lifetime_;
    Registration registration_;
};

}  // namespace reactor
