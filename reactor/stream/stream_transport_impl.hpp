// Shared by the files of transports: the parts that lie beside a StreamTransport, and the way into a protocol's call
// and out of it. Not installed.
#pragma once

#include <reactor/detail/byte_queue.hpp>
#include <reactor/detail/timer_queue.hpp>
#include <reactor/stream/deadlines_impl.hpp>
#include <reactor/stream/detail/stream_transport.hpp>
#include <reactor/stream/handle_state_impl.hpp>
#include <reactor/stream/output_impl.hpp>

#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>

namespace reactor {

struct StreamParts : TimerQueue::Node {
    /// Without a queue of timers the transport looks at its deadlines itself.
    StreamParts(StreamTransport& owner, TimerQueue* queue) noexcept : transport(owner), timers(queue) {}
    ~StreamParts() override {
        if (scheduled()) timers->cancel(*this);
    }
    void due() override { transport.deadline(); }
    virtual std::size_t output_size() const noexcept { return output.size(); }

    Deadlines::Next next_deadline() const noexcept {
        const bool closes = transport.is(StreamState::closing);
        return since.next(transport.limits(), closes, !input.empty(), output_size() > 0);
    }

    StreamTransport& transport;
    TimerQueue* timers;
    ByteQueue input;  // unconsumed input
    Output output;    // bytes that were not taken
    std::unique_ptr<Limits> limits;
    std::shared_ptr<HandleState> handles;  // if there are any
    Deadlines since;
    std::error_code reason;
    StreamTransport::Calling calling = StreamTransport::Calling::none;
};

// Bytes that wait to be sent, without those that are written in a call that is under way.
inline std::size_t StreamTransport::output_size() const noexcept {
    return parts_ == nullptr ? 0 : parts_->output_size();
}

// For every call but received().
template <class ProtocolCall>
void StreamTransport::call(ProtocolCall&& protocol_call) {
    begin_call(Calling::other);
    try {
        protocol_call();
    } catch (...) {
        call_failed();
        throw;
    }
    leave_call();
}

}  // namespace reactor
