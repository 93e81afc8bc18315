// Forward: the input of one connection is the output of another, both ways, until both have ended: the heart of every
// proxy, port forwarder and tunnel. An end of stream is passed on as one and the other direction continues; a reset is
// passed on as a reset. A slow reader slows its sender down, and no more is kept than the watermarks of both
// connections allow. Bulk data is moved by the kernel, if it can (Transport::pass_on_to) and no observer looks on.
//
//     client ──▶ Forward (accepted) ──▶ its far end (connected) ──▶ target
//            ◀──                    ◀──                         ◀──
#pragma once

#include <reactor/export.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
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
    /// Sees input of this end on its way to the other one.
    using Observer = std::function<void(Bytes)>;

    /// From now on each end sends on what the other receives. Until then an end that receives must be paused.
    void join(ForwardEnd& other) noexcept;
    /// Does the other end still live?
    bool joined() const noexcept { return other_ != nullptr; }
    /// Called with all input of this end, in order, before it is sent on. The kernel moves none of it then. Empty:
    /// none.
    void set_observer(Observer observer) { observer_ = std::move(observer); }

    std::size_t received(Bytes input) override;
    void end_of_stream() override;
    void disconnected(std::error_code reason) override;

private:
    void draining() override;
    void pause_writing() override;
    void resume_writing() override;

    ForwardEnd* other_ = nullptr;
    Observer observer_;
    bool ended_ = false;  // the peer has ended its stream, and the other end has passed that on
};

/// For an acceptor: connects each accepted connection to a target. Nothing is read from the client before the target
/// has answered; if it does not, the client is reset.
///
///     Acceptor acceptor{reactor, "", 8080, factory<Forward>("localhost", 80)};
///
/// A class that derives from it chooses the target by the first bytes, as a SOCKS or a CONNECT proxy does: see
/// protocols/examples/socks5.hpp.
class REACTOR_EXPORT Forward : public ForwardEnd {
public:
    /// The direction of the bytes that an observer sees.
    enum class Way : std::uint8_t { to_target, to_client };

    /// Host, port and options as for Connector. `tried` is called each time connecting has ended: without an error if
    /// there is a connection. `dress` may put the target's end into another protocol, such as that of TLS.
    Forward(std::string host, std::uint16_t port, ConnectorOptions options = {},
            std::function<void(std::error_code)> tried = nullptr,
            std::function<std::unique_ptr<Protocol>(std::unique_ptr<Protocol>)> dress = nullptr);
    ~Forward() override;

    /// Has `observer` called with all that is forwarded, both ways: each byte once, in order, before it is sent on. It
    /// only looks; an exception out of it ends both connections. The watermarks hold as ever, so that a slow reader
    /// still slows its sender down. The kernel moves no bytes past it, and each costs a copy through this program.
    /// Throws std::invalid_argument for an empty observer, and std::logic_error if the target is connected already.
    void observe(std::function<void(Way, Bytes)> observer);

protected:
    /// The target is chosen later, by connect_to.
    explicit Forward(ConnectorOptions options = {});

    /// Called with the input as `received` is, until connect_to is called: returns how many bytes of it are consumed.
    /// The rest of an input in which connect_to is called is the target's, and so is all that follows.
    virtual std::size_t asked(Bytes input) { return input.size(); }

    /// Chooses the target, and begins to connect; nothing is received until it has answered. Nothing happens if this
    /// connection has ended or begun to. Throws std::logic_error if a target is chosen, std::bad_alloc.
    void connect_to(std::string host, std::uint16_t port);

    /// The target is connected, or cannot be, for this reason. Bytes that are written here come before all that the
    /// target sends. Unless overridden, an error resets the client. An override may close(), or choose another target.
    virtual void target_answered(std::error_code error);

    std::size_t received(Bytes input) override;
    void end_of_stream() override;
    void disconnected(std::error_code reason) override;

private:
    class Far;

    void connected() override;

    std::string host_;  // empty if it is chosen later
    std::uint16_t port_ = 0;
    bool chosen_later_ = false;
    bool chosen_ = false;
    ConnectorOptions options_;
    std::function<void(std::error_code)> tried_;
    std::shared_ptr<const std::function<void(Way, Bytes)>> observed_by_;
    std::function<std::unique_ptr<Protocol>(std::unique_ptr<Protocol>)> dress_;
    std::optional<Connector> connector_;
};

}  // namespace reactor
