#include <reactor/net/packet_acceptor.hpp>

#include <new>
#include <utility>

namespace reactor {

namespace {

constexpr int backlog = 4096;
constexpr int accepts_per_turn = 64;
constexpr Duration rest_time = std::chrono::milliseconds(50);

}  // namespace

PacketAcceptor::PacketAcceptor(Reactor& reactor, const Address& address, DatagramProtocolFactory factory,
                               const DatagramOptions& options)
    : reactor_(reactor),
      factory_(std::move(factory)),
      options_(options),
      socket_(Socket::open(address.family(), SocketKind::sequenced_packets)),
      rest_timer_(reactor, [this] { registration_.set_interest(Interest::readable); }) {
    bind_replacing(socket_, address);
    file_ = SocketFile(address);
    socket_.listen(backlog);
    registration_ = reactor.watch(socket_.get(), Interest::readable, *this);
}

PacketAcceptor::~PacketAcceptor() {
    registration_.reset();
    file_.remove();
}

void PacketAcceptor::readable() {
    for (int count = 0; count < accepts_per_turn && accept_one(); ++count) {
    }
}

// False if there is nothing more to do, perhaps because the factory has destroyed the acceptor.
bool PacketAcceptor::accept_one() {
    Socket accepted;
    Address peer;
    if (const std::error_code error = socket_.accept(accepted, peer)) {
        if (error == std::errc::connection_aborted) return true;
        if (error != std::errc::operation_would_block) rest();
        return false;
    }
    const Lifetime::Watch watch(lifetime_);
    try {
        std::unique_ptr<DatagramProtocol> protocol = factory_();
        if (watch.over()) return false;
        if (protocol) DatagramEndpoint::open(reactor_, std::move(accepted), std::move(protocol), options_);
    } catch (const std::bad_alloc&) {
        if (watch.over()) return false;
        rest();
    }
    return true;
}

void PacketAcceptor::rest() noexcept {
    try {
        rest_timer_.start(rest_time);
        registration_.set_interest(Interest::none);
    } catch (const std::bad_alloc&) {  // then the next turn tries again
    }
}

}  // namespace reactor
