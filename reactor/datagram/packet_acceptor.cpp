#include <reactor/datagram/packet_acceptor.hpp>

#include <memory>

namespace reactor {

namespace {

AcceptorOptions of_acceptor(const PacketAcceptorOptions& options) {
    AcceptorOptions result;
    result.backlog = options.backlog;
    result.accepts_per_turn = options.accepts_per_turn;
    result.max_connections = options.max_connections;
    result.connection.descriptors =
        options.connection.descriptors;  // or those sent before it is accepted would be refused
    return result;
}

// Also for packets to connections that are not accepted yet.
Socket told_of_descriptors(Socket listening, const PacketAcceptorOptions& options) {
    listening.set_accepts_descriptors(options.connection.descriptors > 0);
    return listening;
}

}  // namespace

PacketAcceptor::PacketAcceptor(Reactor& reactor, const Address& address, DatagramProtocolFactory factory,
                               const PacketAcceptorOptions& options)
    : reactor_(reactor),
      factory_(required(std::move(factory), "PacketAcceptor: the factory is empty")),
      options_(options.connection),
      acceptor_(
          reactor, address, SocketKind::sequenced_packets, [this](Socket socket) { return serve(std::move(socket)); },
          of_acceptor(options)) {}

PacketAcceptor::PacketAcceptor(Reactor& reactor, Socket listening, DatagramProtocolFactory factory,
                               const PacketAcceptorOptions& options)
    : reactor_(reactor),
      factory_(required(std::move(factory), "PacketAcceptor: the factory is empty")),
      options_(options.connection),
      acceptor_(
          reactor, told_of_descriptors(std::move(listening), options),
          [this](Socket socket) { return serve(std::move(socket)); }, of_acceptor(options)) {}

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
