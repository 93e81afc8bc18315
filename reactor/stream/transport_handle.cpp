// The way to a connection from any thread. All handles of a connection share one state, which its loop clears when the
// connection ends, and moves with it to another loop.
#include <reactor/detail/callback.hpp>
#include <reactor/stream/handle_state_impl.hpp>
#include <reactor/stream/transport_handle.hpp>

#include <utility>

namespace reactor {

bool TransportHandle::post(MoveOnlyFunction<void(Protocol&)> callable) const {
    callable = required(std::move(callable), "TransportHandle::post: the callable is empty");
    return state_ != nullptr && state_->post([callable = std::move(callable)](Transport&, Protocol& protocol) mutable {
        callable(protocol);
    });
}

bool TransportHandle::write_text(std::string text) const {
    return state_ != nullptr &&
           state_->post([text = std::move(text)](Transport& transport, Protocol&) { transport.write(text); });
}

bool HandleState::post(Call call) {
    return send(std::make_shared<Work>(Work{std::move(call), 0}));
}

// The reactor is there as long as the lock is held: it ends its connections before it goes. `work` outlives the lock,
// because what the caller's objects do when they are destroyed is unknown.
bool HandleState::send(const std::shared_ptr<Work>& work) {
    const std::lock_guard lock(mutex_);
    if (reactor_ == nullptr) return false;
    work->moves = moves_;
    return reactor_->post([self = shared_from_this(), work]() mutable { self->arrived(work); });
}

void HandleState::arrived(const std::shared_ptr<Work>& work) {
    bool here = false;
    {
        const std::lock_guard lock(mutex_);
        if (reactor_ == nullptr) return;
        here = work->moves == moves_;  // it may have left and be on its way back: so not by the loop
    }
    // On the connection's own loop nothing but this thread can end or move it.
    if (!here || !run_(transport_, work->call)) send(work);
}

}  // namespace reactor
