// connect: a coroutine opens a connection, by name, to the first address that answers.
#pragma once

#include <reactor/coroutine/result.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/export.hpp>
#include <reactor/stream/connector.hpp>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace reactor {

namespace coroutine_detail {

class REACTOR_EXPORT ConnectOperation : public Operation<ConnectOperation> {
public:
    ConnectOperation(Reactor& reactor, std::string_view host, std::uint16_t port, ConnectorOptions options);
    ConnectOperation(Reactor& reactor, std::vector<Address> addresses, ConnectorOptions options);
    ConnectOperation(ConnectOperation&&) noexcept;
    ~ConnectOperation();

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation);
    Result<Stream> result();

private:
    class Attempt;
    std::unique_ptr<Attempt> attempt_;
};

}  // namespace coroutine_detail

/// Connects as a Connector does: the name's addresses are tried side by side (RFC 8305), within `options.timeout`;
/// `options.reconnect` is ignored. Options that are built in an expression with an await are destroyed twice by g++ 12:
/// give them a name first. Errors: those of Connector, as values; it throws std::bad_alloc, and std::system_error if
/// the limits cannot be. Destroying the await gives the attempt up. Thread: that of the reactor, which must be the
/// coroutine's own.
inline coroutine_detail::ConnectOperation connect(Reactor& reactor, std::string_view host, std::uint16_t port,
                                                  ConnectorOptions options = {}) {
    return {reactor, host, port, std::move(options)};
}
/// The same within so long: `auto server = co_await connect(reactor, "localhost", 80, 2s);`
inline coroutine_detail::ConnectOperation connect(Reactor& reactor, std::string_view host, std::uint16_t port,
                                                  Duration within) {
    ConnectorOptions options;
    options.timeout = within;
    return {reactor, host, port, std::move(options)};
}
/// The same to the first of these addresses that answers.
inline coroutine_detail::ConnectOperation connect(Reactor& reactor, std::vector<Address> addresses,
                                                  ConnectorOptions options = {}) {
    return {reactor, std::move(addresses), std::move(options)};
}

}  // namespace reactor
