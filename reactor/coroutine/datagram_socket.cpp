// The transport's callbacks resume what waits.
#include <reactor/coroutine/datagram_socket.hpp>
#include <reactor/error.hpp>

#include <stdexcept>
#include <utility>

namespace reactor {

using coroutine_detail::Continuation;
using coroutine_detail::ReadyList;
using coroutine_detail::Root;

struct DatagramSocket::State {
    DatagramTransport* transport = nullptr;  // until it is over
    ReceiveOperation* receiver = nullptr;    // that waits
    bool paused = true;
    coroutine_detail::LinkList senders;  // that wait
    std::error_code refusal;             // that no receive has returned
    std::error_code over;

    void pause() {
        if (receiver != nullptr || transport == nullptr || std::exchange(paused, true)) return;
        transport->pause_receiving();
    }
    void resume_receiver() {
        if (receiver != nullptr) resume(std::exchange(std::exchange(receiver, nullptr)->continuation_, Continuation()));
    }
    // Of a socket that is gone, or of a loop that is: nothing that waits is resumed.
    void forget_waiting() noexcept {
        if (receiver != nullptr) std::exchange(receiver, nullptr)->continuation_ = {};
        while (!senders.empty()) senders.front().unlink();
    }
    void end(std::error_code reason) noexcept {
        transport = nullptr;
        if (!over) over = reason;
    }
    void resume_senders() noexcept {
        while (!senders.empty()) {
            auto& waiting = static_cast<SendOperation::Waiting&>(senders.front());
            if (transport != nullptr && !over) {
                waiting.sent = transport->send(waiting.route, waiting.data);
                if (!waiting.sent) return;
            }
            waiting.ready->push(waiting);
        }
    }
};

class DatagramSocket::Callbacks final : public DatagramProtocol {
public:
    explicit Callbacks(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
    ~Callbacks() override {
        state_->forget_waiting();
        state_->end(std::make_error_code(std::errc::operation_canceled));
    }

private:
    // A receive waits, or the transport would be paused; unless its socket is gone.
    void received(const Datagram& datagram) override {
        if (state_->receiver == nullptr) return;
        state_->receiver->datagram_ = &datagram;
        state_->resume_receiver();
        state_->pause();
    }
    // Anybody can refuse what a socket without a peer sends: that must not end its server.
    void refused(const Address&, std::error_code error) override {
        if (transport().peer().family() == Address::Family::none) return;
        state_->refusal = error;
        state_->resume_receiver();
        state_->pause();
    }
    void resume_sending() override { state_->resume_senders(); }
    void closed(std::error_code reason) override {
        state_->end(reason ? reason : Error::end_of_stream);
        state_->resume_senders();
        state_->resume_receiver();
    }

    const std::shared_ptr<State> state_;
};

DatagramSocket::DatagramSocket(Reactor& reactor, Socket socket, const DatagramOptions& options)
    : DatagramSocket([&](std::unique_ptr<DatagramProtocol> protocol) -> DatagramTransport& {
          return DatagramEndpoint::open(reactor, std::move(socket), std::move(protocol), options);
      }) {}

DatagramSocket::DatagramSocket(Open open) : state_(std::make_shared<State>()) {
    DatagramTransport& transport = open(std::make_unique<Callbacks>(state_));
    transport.pause_receiving();
    state_->transport = &transport;
}

DatagramSocket::~DatagramSocket() {
    state_->forget_waiting();
    close();
}

void DatagramSocket::close() noexcept {
    if (state_->over) return;
    state_->over = std::make_error_code(std::errc::operation_canceled);
    state_->transport->close();  // which calls `closed` from the loop
}

std::error_code DatagramSocket::error() const noexcept {
    return state_->over;
}

DatagramTransport& DatagramSocket::transport() const {
    if (state_->transport == nullptr) throw std::system_error(state_->over, "DatagramSocket");
    return *state_->transport;
}

// ── receiving ──

DatagramSocket::ReceiveOperation DatagramSocket::receive() noexcept {
    return ReceiveOperation(*state_);
}

bool DatagramSocket::ReceiveOperation::ready() const noexcept {
    return state_->over || state_->refusal;
}

void DatagramSocket::ReceiveOperation::start(Root&, Continuation continuation) {
    if (state_->receiver != nullptr) throw std::logic_error("DatagramSocket: a second receive while one waits");
    continuation_ = continuation;
    state_->receiver = this;
    if (std::exchange(state_->paused, false)) state_->transport->resume_receiving();
}

Result<Datagram> DatagramSocket::ReceiveOperation::result() noexcept {
    if (datagram_ != nullptr) return *datagram_;
    if (state_->refusal) return std::exchange(state_->refusal, std::error_code());
    return state_->over;
}

void DatagramSocket::ReceiveOperation::leave() noexcept {
    state_->receiver = nullptr;
    state_->pause();
}

// ── sending ──

DatagramSocket::SendOperation DatagramSocket::send(const Route& route, Bytes data) {
    SendOperation operation(!state_->over && state_->transport->send(route, data));
    if (operation.accepted_ || state_->over) return operation;
    operation.waiting_ = std::make_unique<SendOperation::Waiting>(*state_, route, data);
    return operation;
}

void DatagramSocket::SendOperation::start(Root& root, Continuation continuation) {
    waiting_->ready = &ReadyList::of(root.reactor());
    waiting_->continuation = continuation;
    waiting_->state.senders.push_back(*waiting_);
}

}  // namespace reactor
