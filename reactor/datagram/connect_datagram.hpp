// connect_datagram: the client's end of a conversation by datagrams, with a server that has a name.
//
//     DatagramConnecting server = connect_datagram(reactor, "time.example", 37, std::make_unique<AskTime>());
#pragma once

#include <reactor/datagram/datagram.hpp>
#include <reactor/export.hpp>

#include <cstdint>
#include <memory>
#include <string_view>

namespace reactor {

class Reactor;

/// A client's endpoint whose name is looked up. Destroying it cancels: the protocol is destroyed and not called. Once
/// the endpoint is open it belongs to the reactor, and destroying this changes nothing. Thread: the loop's. Lifetime:
/// must go before its reactor; the protocol may destroy it.
class [[nodiscard]] REACTOR_EXPORT DatagramConnecting {
public:
    DatagramConnecting() noexcept;
    DatagramConnecting(DatagramConnecting&&) noexcept;
    DatagramConnecting& operator=(DatagramConnecting&&) noexcept;
    ~DatagramConnecting();

    /// True until the endpoint is open, or the protocol was called with the error.
    explicit operator bool() const noexcept;

private:
    friend DatagramConnecting connect_datagram(Reactor&, std::string_view, std::uint16_t,
                                               std::unique_ptr<DatagramProtocol>, const DatagramOptions&);
    struct State;
    explicit DatagramConnecting(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

/// Looks `host` up without blocking (Resolver), connects a socket of datagrams to the first of its addresses that the
/// system can send to, and runs `protocol` over it (DatagramEndpoint::open). "unix:/path" is a Unix socket of
/// datagrams, with a name of its own that answers can be sent to (Linux). Connecting sends nothing: whether a server is
/// there shows when the protocol sends, in `received` or `refused`.
///
/// Thread: the loop's. Errors: if the look-up or every address fails, the protocol's `closed` is called once, from the
/// loop and never from inside this call, with the error of the look-up or of the last address; it has no transport
/// then, and is destroyed next. If DatagramEndpoint::open throws, that is an exception out of a callback, and ends the
/// protocol. Throws std::invalid_argument without a protocol, and std::bad_alloc. Lifetime: the result must be kept
/// until the protocol is opened or closed.
REACTOR_EXPORT DatagramConnecting connect_datagram(Reactor& reactor, std::string_view host, std::uint16_t port,
                                                   std::unique_ptr<DatagramProtocol> protocol,
                                                   const DatagramOptions& options = {});

}  // namespace reactor
