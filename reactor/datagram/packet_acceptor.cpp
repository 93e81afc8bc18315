// Connections of packets (SOCK_SEQPACKET) are accepted as streams are, with all that accept(2) may answer: this is an
// Acceptor whose connections are opened as endpoints of datagrams.
#include <reactor/datagram/packet_acceptor.hpp>

#include <memory>

namespace reactor {

namespace {

AcceptorOptions of_acceptor(const DatagramOptions& options, std::size_t max_connections) {
    AcceptorOptions result;
    result.max_connections = max_connections;
    result.connection.descriptors = options.descriptors;  // or those sent before it is accepted would be refused
    return result;
}

// Also for packets to connections that are not accepted yet.
Socket told_of_descriptors(Socket listening, const DatagramOptions& options) {
    listening.set_accepts_descriptors(options.descriptors > 0);
    return listening;
}

}  // namespace

PacketAcceptor::PacketAcceptor(Reactor& reactor, const Address& address, DatagramProtocolFactory factory,
                               const DatagramOptions& options, std::size_t max_connections)
    : reactor_(reactor),
      factory_(required(std::move(factory), "PacketAcceptor: the factory is empty")),
      options_(options),
      acceptor_(
          reactor, address, SocketKind::sequenced_packets, [this](Socket socket) { return serve(std::move(socket)); },
          of_acceptor(options, max_connections)) {}

PacketAcceptor::PacketAcceptor(Reactor& reactor, Socket listening, DatagramProtocolFactory factory,
                               const DatagramOptions& options, std::size_t max_connections)
    : reactor_(reactor),
      factory_(required(std::move(factory), "PacketAcceptor: the factory is empty")),
      options_(options),
      acceptor_(
          reactor, told_of_descriptors(std::move(listening), options),
          [this](Socket socket) { return serve(std::move(socket)); }, of_acceptor(options, max_connections)) {}

Address PacketAcceptor::address() const {
    const std::vector<Address> addresses = acceptor_.addresses();
    return addresses.empty() ? Address() : addresses[0];
}

bool PacketAcceptor::serve(Socket socket) {
    const Lifetime::Watch watch(lifetime_);
    std::unique_ptr<DatagramProtocol> protocol = factory_();
    if (watch.over()) return false;
    if (!protocol) return true;
    DatagramEndpoint::open(reactor_, std::move(socket), std::move(protocol), options_, acceptor_.group_.get());
    return true;
}

}  // namespace reactor
