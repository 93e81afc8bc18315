// Forward: the input of one connection is the output of another, both ways, until both have ended: the heart of every
// proxy, port forwarder and tunnel. An end of stream is passed on as one and the other direction continues; a reset is
// passed on as a reset. A slow reader slows its sender down, and no more is kept than the watermarks of both
// connections allow. Bulk data is moved by the kernel, if it can (Transport::pass_on_to).
//
//     client ──▶ Forward (accepted) ──▶ its far end (connected) ──▶ target
//            ◀──                    ◀──                         ◀──
#pragma once

#include <reactor/export.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <system_error>

namespace reactor {

/// One of two connections that continue each other. If one is closed, by a drain for example, then the other is, too;
/// if one ends with an error, the other is aborted.
class REACTOR_EXPORT ForwardEnd : public Protocol {
public:
    ~ForwardEnd() override;

protected:
    /// From now on each end sends on what the other receives. Until then an end that receives must be paused.
    void join(ForwardEnd& other) noexcept;
    /// Does the other end still live?
    bool joined() const noexcept { return other_ != nullptr; }

    void disconnected(std::error_code reason) override;

private:
    std::size_t received(Bytes input) override;
    void draining() override;
    void end_of_stream() override;
    void pause_writing() override;
    void resume_writing() override;

    ForwardEnd* other_ = nullptr;
    bool ended_ = false;  // the peer has ended its stream, and the other end has passed that on
};

/// For an acceptor: connects each accepted connection to a target. Nothing is read from the client before the target
/// has answered; if it does not, the client is reset. `tried` is called each time connecting has ended: without an
/// error if there is a connection.
///
///     Acceptor acceptor{reactor, "", 8080, factory<Forward>(std::ref(reactor), "localhost", 80)};
class REACTOR_EXPORT Forward final : public ForwardEnd {
public:
    /// The reactor is the one that the connection runs on. Host and port as for Connector.
    Forward(Reactor& reactor, std::string host, std::uint16_t port, ConnectorOptions options = {},
            std::function<void(std::error_code)> tried = nullptr);
    ~Forward() override;

private:
    class Far;

    void connected() override;
    void disconnected(std::error_code reason) override;

    Reactor& reactor_;
    std::string host_;
    std::uint16_t port_;
    ConnectorOptions options_;
    std::function<void(std::error_code)> tried_;
    std::optional<Connector> connector_;
};

}  // namespace reactor
