// NoTransport: the transport of a protocol without a connection. It is closed, and does nothing. Not installed.
#pragma once

#include <reactor/stream/protocol.hpp>
#include <reactor/stream/transport.hpp>

#include <stdexcept>
#include <system_error>

namespace reactor {

class NoTransport final : public Transport {
public:
    /// On this loop; null: on none.
    explicit NoTransport(Reactor* reactor) noexcept : reactor_(reactor) { state_.set(StreamState::over); }
    void serve(Protocol& protocol) noexcept { attach(protocol, this); }

    using Transport::write;
    bool write(Bytes) override { return false; }
    bool write_file(FileDescriptor, std::uint64_t, std::uint64_t) override { return false; }
    void abort(std::error_code) override {}
    Reactor& reactor() const override {
        if (reactor_ == nullptr) throw std::logic_error("Transport::reactor: the protocol has no connection");
        return *reactor_;
    }
    TransportHandle handle() override { return {}; }
    Bytes unconsumed() const noexcept override { return {}; }
    std::size_t queued() const noexcept override { return 0; }
    const Limits& limits() const noexcept override {
        static constexpr Limits none;
        return none;
    }
    void set_limits(const Limits&) override {}

private:
    void requested(Request) override {}

    Reactor* const reactor_;
};

}  // namespace reactor
