// A ZeroMQ socket driven by a reactor. The descriptor of a ZeroMQ socket only says that something may have changed, and
// says it once: the adapter makes it level-triggered, as all else in the loop is.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>

#include <zmq.h>

#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

namespace reactor::adapters {

/// Calls `ready` once in each iteration in which the socket can receive or send, as far as `interest` asks. Receive
/// and send with ZMQ_DONTWAIT, as many messages as are fair to others. Thread: the loop's, which is also the socket's.
/// Errors: the constructor throws std::system_error if the socket has no descriptor. Lifetime: must go before the
/// reactor and before the socket, which is the caller's; `ready` may destroy it. Source: ZMQ_FD and ZMQ_EVENTS in
/// zmq_getsockopt(3).
class [[nodiscard]] ZmqDriver {
public:
    using Ready = DescriptorWatch::Ready;

    [[nodiscard]] ZmqDriver(Reactor& reactor, void* socket, Interest interest, Ready ready)
        : reactor_(reactor),
          socket_(socket),
          interest_(interest),
          ready_(required(std::move(ready), "ZmqDriver: the callable is empty")),
          descriptor_(reactor, [this](Interest) { look(); }) {
        descriptor_.watch(option(ZMQ_FD), Interest::readable);
        look_again();
    }

    /// To be called for each call of ZeroMQ: a send may use up the notice of a message that has arrived.
    void* socket() {
        look_again();
        return socket_;
    }

    void set_interest(Interest interest) {
        interest_ = interest;
        look_again();
    }

private:
    int option(int which) const {
        int value = 0;
        std::size_t size = sizeof value;
        if (zmq_getsockopt(socket_, which, &value, &size) != 0)
            throw std::system_error(errno, std::generic_category(), "zmq_getsockopt");
        return value;
    }

    void look_again() {
        if (!look_.waiting()) look_ = reactor_.defer([this] { look(); });
    }

    void look() {
        const int events = option(ZMQ_EVENTS);
        const Interest is = interest_ & interest_in((events & ZMQ_POLLIN) != 0, (events & ZMQ_POLLOUT) != 0);
        if (is == Interest::none) return;
        look_again();  // the descriptor says nothing of the messages that are left
        ready_(is);
    }

    Reactor& reactor_;
    void* socket_;
    Interest interest_;
    Callback<void(Interest)> ready_;
    DescriptorWatch descriptor_;
    Deferred look_;
};

}  // namespace reactor::adapters
