// A client's socket of datagrams by the server's name. The addresses are not raced as a Connector races them:
// connecting such a socket sends nothing, so there is no answer to win with.
#include <reactor/datagram/connect_datagram.hpp>

#include <reactor/net/resolver.hpp>
#include <reactor/reactor.hpp>

#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

struct DatagramConnecting::State {
    Reactor& reactor;
    std::unique_ptr<DatagramProtocol> protocol;  // null when this is over
    DatagramOptions options;
    std::optional<Resolver> resolver;

    void resolved(std::error_code error, const std::vector<Address>& addresses);
    std::error_code open(const Address& address);
};

DatagramConnecting::DatagramConnecting() noexcept = default;
DatagramConnecting::DatagramConnecting(DatagramConnecting&&) noexcept = default;
DatagramConnecting& DatagramConnecting::operator=(DatagramConnecting&&) noexcept = default;
DatagramConnecting::~DatagramConnecting() = default;
DatagramConnecting::DatagramConnecting(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

DatagramConnecting::operator bool() const noexcept {
    return state_ != nullptr && state_->protocol != nullptr;
}

// Without an error the endpoint has the protocol.
std::error_code DatagramConnecting::State::open(const Address& address) {
    Socket socket;
    try {
        socket = Socket::open(address.family(), SocketKind::datagram);
        if (address.family() == Address::Family::unix_domain) socket.bind_to_any_name();
    } catch (const std::system_error& failure) {
        return failure.code();
    }
    if (const std::error_code error = socket.connect(address)) return error;
    DatagramEndpoint::open(reactor, std::move(socket), std::move(protocol), options);
    return {};
}

void DatagramConnecting::State::resolved(std::error_code error, const std::vector<Address>& addresses) {
    for (const Address& address : addresses) {
        error = open(address);
        if (protocol == nullptr) return;
    }
    const std::unique_ptr<DatagramProtocol> told = std::move(protocol);
    told->closed(error);  // may destroy this
}

DatagramConnecting connect_datagram(Reactor& reactor, std::string_view host, std::uint16_t port,
                                    std::unique_ptr<DatagramProtocol> protocol, const DatagramOptions& options) {
    if (protocol == nullptr) throw std::invalid_argument("connect_datagram: there is no protocol");
    std::unique_ptr<DatagramConnecting::State> state(
        new DatagramConnecting::State{reactor, std::move(protocol), options, std::nullopt});
    state->resolver.emplace(reactor, host, port,
                            [self = state.get()](std::error_code error, std::vector<Address> addresses) {
                                self->resolved(error, addresses);
                            });
    return DatagramConnecting(std::move(state));
}

}  // namespace reactor
