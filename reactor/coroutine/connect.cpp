// One attempt to connect, and the protocol that it leaves behind.
#include <reactor/coroutine/connect.hpp>

#include <optional>
#include <string>
#include <utility>

namespace reactor::coroutine_detail {

class ConnectOperation::Attempt final : public ConnectWaiter {
public:
    Attempt(Reactor& reactor, std::string_view host, std::uint16_t port, std::vector<Address> addresses,
            ConnectorOptions options)
        : reactor_(reactor),
          host_(host),
          port_(port),
          addresses_(std::move(addresses)),
          by_name_(addresses_.empty()),
          options_(std::move(options)) {
        options_.reconnect = Duration::zero();
    }
    ~Attempt() {
        connector_.reset();
        if (protocol_ == nullptr) return;
        protocol_->forget_waiter();  // and it closes when it is connected
        if (made_ == nullptr) protocol_->transport().abort();
    }

    void start(Continuation continuation) {
        made_ = std::make_unique<StreamProtocol>(*this);
        protocol_ = made_.get();
        continuation_ = continuation;
        const auto factory = [this]() -> std::unique_ptr<Protocol> { return std::move(made_); };
        if (by_name_) {
            connector_.emplace(reactor_, host_, port_, factory, options_);
        } else {
            connector_.emplace(reactor_, std::move(addresses_), factory, options_);
        }
    }

    Result<Stream> take() {
        if (error_) return error_;
        return std::move(stream_);
    }

private:
    void connected(StreamProtocol& protocol) override {
        protocol_ = nullptr;
        stream_ = Stream(protocol);
        resume(continuation_);
    }
    void failed(std::error_code reason) override {
        protocol_ = nullptr;
        error_ = reason ? reason : std::make_error_code(std::errc::connection_aborted);
        resume(continuation_);
    }
    void gone() noexcept override { protocol_ = nullptr; }

    Reactor& reactor_;
    const std::string host_;
    const std::uint16_t port_;
    std::vector<Address> addresses_;
    const bool by_name_;
    ConnectorOptions options_;
    Continuation continuation_;
    StreamProtocol* protocol_ = nullptr;    // while it has not called
    std::unique_ptr<StreamProtocol> made_;  // so that the factory cannot fail
    std::optional<Connector> connector_;
    Stream stream_;
    std::error_code error_;
};

ConnectOperation::ConnectOperation(Reactor& reactor, std::string_view host, std::uint16_t port,
                                   ConnectorOptions options)
    : attempt_(std::make_unique<Attempt>(reactor, host, port, std::vector<Address>(), std::move(options))) {}

ConnectOperation::ConnectOperation(Reactor& reactor, std::vector<Address> addresses, ConnectorOptions options)
    : attempt_(std::make_unique<Attempt>(reactor, "", std::uint16_t(0), std::move(addresses), std::move(options))) {}

ConnectOperation::ConnectOperation(ConnectOperation&&) noexcept = default;
ConnectOperation::~ConnectOperation() = default;

void ConnectOperation::start(Root&, Continuation continuation) {
    attempt_->start(continuation);
}

Result<Stream> ConnectOperation::result() {
    return attempt_->take();
}

}  // namespace reactor::coroutine_detail
