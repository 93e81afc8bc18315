// HandleState: shared by the handles of one transport. A transport makes it when it is first asked for one. Not
// installed.
#pragma once

#include <reactor/function.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/transport.hpp>
#include <reactor/stream/transport_handle.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace reactor {

class REACTOR_EXPORT HandleState : public std::enable_shared_from_this<HandleState> {
public:
    using Call = MoveOnlyFunction<void(Transport&, Protocol&)>;
    /// Calls `call` as a call of the protocol's, or not at all if the end has begun. False if it is too early for that.
    using Run = bool (*)(Transport& transport, Call& call);

    HandleState(Reactor& reactor, Transport& transport, Run run) noexcept
        : reactor_(&reactor), transport_(transport), run_(run) {}

    TransportHandle handle() { return TransportHandle(shared_from_this()); }
    bool post(Call call);
    /// An empty call, which a DressedProtocol posts to itself. False if it is known that it will not be called.
    static bool post_own(const TransportHandle& handle) { return handle.state_ != nullptr && handle.state_->post({}); }

    /// The connection is over. On its loop's thread, or with the loop.
    void end() noexcept {
        const std::lock_guard lock(mutex_);
        reactor_ = nullptr;
    }
    /// Runs `send`, which sends the connection to another loop. Calls that are posted meanwhile arrive after it.
    template <class Send>
    bool move_to(Reactor& target, Send&& send) {
        const std::lock_guard lock(mutex_);
        if (!send()) return false;
        reactor_ = &target;
        ++moves_;
        return true;
    }

private:
    struct Work {
        Call call;
        std::uint64_t moves = 0;  // when it was posted
    };
    bool send(const std::shared_ptr<Work>& work);
    void arrived(const std::shared_ptr<Work>& work);

    std::mutex mutex_;
    Reactor* reactor_;  // where the connection is, or will be when what is posted there now arrives; null: it is over
    std::uint64_t moves_ = 0;
    Transport& transport_;
    const Run run_;
};

}  // namespace reactor
