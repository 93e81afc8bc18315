// DatagramSocket: a coroutine receives and sends datagrams.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/coroutine/detail/ready_list.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/net/address.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>

#include <cstddef>
#include <memory>
#include <system_error>
#include <vector>

namespace reactor {

/// One socket of datagrams or packets, which it owns: destroying it closes the socket.
///
///     while (auto question = co_await socket.receive()) co_await socket.answer(*question, question->data);
///
/// Thread: the loop's. Lifetime: may outlive its reactor; tasks that wait when it is destroyed are never resumed.
class REACTOR_EXPORT DatagramSocket {
public:
    /// Takes over a socket that is bound or connected. Errors: those of DatagramEndpoint::open, thrown; the socket is
    /// then closed.
    [[nodiscard]] DatagramSocket(Reactor& reactor, Socket socket, const DatagramOptions& options = {});
    /// Over another transport, which `open` makes for the protocol that it is given: the memory of a test, for
    /// instance.
    using Open = MoveOnlyFunction<DatagramTransport&(std::unique_ptr<DatagramProtocol>)>;
    [[nodiscard]] explicit DatagramSocket(Open open);
    ~DatagramSocket();
    DatagramSocket(const DatagramSocket&) = delete;
    DatagramSocket& operator=(const DatagramSocket&) = delete;

    class ReceiveOperation;
    class SendOperation;

    /// The next datagram. Its bytes and descriptors are valid until the next await. One receive at a time waits;
    /// datagrams that none waits for are left to the kernel. Errors, as values: the network's refusal of a datagram
    /// (connection_refused) if the socket is connected, which can be used still; and the reason of the end, which is
    /// Error::end_of_stream if the peer has closed a socket of packets.
    ReceiveOperation receive() noexcept;

    /// Sends one datagram: it is sent or queued by the call, and the await completes at once. Without room the await
    /// waits for some, and keeps a copy meanwhile. False if the socket is closed. A send that is not awaited is lost
    /// if there is no room. Errors: std::bad_alloc.
    SendOperation send(const Route& route, Bytes data);
    template <ByteSource Data>
    SendOperation send(const Address& to, const Data& data);
    /// To the peer that the socket is connected to.
    template <ByteSource Data>
    SendOperation send(const Data& data);
    /// To its sender, from the address at which it came.
    template <ByteSource Data>
    SendOperation answer(const Datagram& question, const Data& data);

    /// Ends it: awaits fail from now on.
    void close() noexcept;
    /// The reason of the end, once it is over.
    std::error_code error() const noexcept;
    /// Its addresses, and what this does not have. Do not close it but by `close`. Throws std::system_error once it is
    /// over.
    DatagramTransport& transport() const;

private:
    struct State;
    class Callbacks;

    std::shared_ptr<State> state_;  // the callbacks' as well
};

class REACTOR_EXPORT DatagramSocket::ReceiveOperation
    : public coroutine_detail::Operation<DatagramSocket::ReceiveOperation> {
public:
    using View = Datagram;

    ReceiveOperation(ReceiveOperation&& other) noexcept : state_(other.state_) {}
    ~ReceiveOperation() {
        if (continuation_) leave();
    }

    bool ready() const noexcept;
    void start(coroutine_detail::Root& root, coroutine_detail::Continuation continuation);
    Result<Datagram> result() noexcept;

private:
    friend class DatagramSocket;
    explicit ReceiveOperation(State& state) noexcept : state_(&state) {}
    void leave() noexcept;

    State* state_;
    const Datagram* datagram_ = nullptr;
    coroutine_detail::Continuation continuation_;  // while it waits
};

class REACTOR_EXPORT DatagramSocket::SendOperation : public coroutine_detail::Operation<DatagramSocket::SendOperation> {
public:
    SendOperation(SendOperation&& other) noexcept = default;

    bool ready() const noexcept { return waiting_ == nullptr; }
    void start(coroutine_detail::Root& root, coroutine_detail::Continuation continuation);
    bool result() const noexcept { return waiting_ == nullptr ? accepted_ : waiting_->sent; }

private:
    friend class DatagramSocket;
    // A datagram that there was no room for.
    struct Waiting : coroutine_detail::Link {
        Waiting(State& its_state, const Route& its_route, Bytes bytes)
            : state(its_state), route(its_route), data(bytes.begin(), bytes.end()) {}
        State& state;
        const Route route;
        const std::vector<std::byte> data;
        coroutine_detail::ReadyList* ready = nullptr;
        bool sent = false;
    };
    explicit SendOperation(bool accepted) noexcept : accepted_(accepted) {}

    bool accepted_;
    std::unique_ptr<Waiting> waiting_;
};

template <ByteSource Data>
DatagramSocket::SendOperation DatagramSocket::send(const Address& to, const Data& data) {
    return send(Route{to, {}, 0}, bytes_of(data));
}
template <ByteSource Data>
DatagramSocket::SendOperation DatagramSocket::send(const Data& data) {
    return send(Route{}, bytes_of(data));
}
template <ByteSource Data>
DatagramSocket::SendOperation DatagramSocket::answer(const Datagram& question, const Data& data) {
    return send(Route{question.sender, question.local, 0}, bytes_of(data));
}

}  // namespace reactor
