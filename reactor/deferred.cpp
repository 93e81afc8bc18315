// Deferred calls wait in a list; each has a number, by which its place is found without a search.
#include <reactor/deferred.hpp>

#include <reactor/detail/callback.hpp>
#include <reactor/loop_thread_impl.hpp>
#include <reactor/reactor.hpp>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace reactor {

Deferred Reactor::defer(MoveOnlyFunction<void()> callable) {
    require_loop_thread("Reactor::defer");
    deferred_.push_back(required(std::move(callable), "Reactor::defer: the callable is empty"));
    ++deferred_waiting_;
    return {*this, first_deferred_ + deferred_.size() - 1};
}

bool Reactor::deferred_waits(std::uint64_t id) const noexcept {
    const bool running = id < first_deferred_;  // taken out by the turn that is under way
    const std::vector<MoveOnlyFunction<void()>>& list = running ? deferred_now_ : deferred_;
    const std::uint64_t place = id - (running ? first_deferred_now_ : first_deferred_);
    return place < list.size() && list[std::size_t(place)];
}

bool Reactor::cancel_deferred(std::uint64_t id) noexcept {
    assert(on_loop_thread() && "a deferred call was cancelled from another thread than the one that runs the loop");
    if (!deferred_waits(id)) return false;
    const bool running = id < first_deferred_;
    MoveOnlyFunction<void()>& place =
        running ? deferred_now_[std::size_t(id - first_deferred_now_)] : deferred_[std::size_t(id - first_deferred_)];
    const MoveOnlyFunction<void()> cancelled =
        std::move(place);  // destroyed last: its captures may defer, or cancel, others
    --deferred_waiting_;
    return true;
}

bool Deferred::cancel() noexcept {
    return reactor_ != nullptr && reactor_->cancel_deferred(id_);
}
bool Deferred::waiting() const noexcept {
    return reactor_ != nullptr && reactor_->deferred_waits(id_);
}

}  // namespace reactor
