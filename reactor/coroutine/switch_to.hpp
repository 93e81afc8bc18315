// switch_to: a connection's coroutine goes on with its connection on another loop.
#pragma once

#include <reactor/coroutine/detail/promise.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>

#include <memory>

namespace reactor {

namespace coroutine_detail {

/// Not an Operation, so that first_of and all_of do not take it: other branches would stay behind on the loop.
class REACTOR_EXPORT SwitchOperation {
public:
    explicit SwitchOperation(Reactor& target) noexcept : target_(target) {}
    SwitchOperation(const SwitchOperation&) = delete;
    SwitchOperation& operator=(const SwitchOperation&) = delete;
    ~SwitchOperation() {
        if (waiting_ != nullptr) *waiting_ = {};
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> coroutine) {
        static_assert(std::derived_from<Promise, PromiseBase>,
                      "only a coroutine that returns a reactor::Task can await this");
        start(*coroutine.promise().root, Continuation(coroutine));
    }
    void await_resume() noexcept { waiting_.reset(); }

private:
    void start(Root& root, Continuation continuation);

    Reactor& target_;
    std::shared_ptr<Continuation> waiting_;  // the arriving connection's as well
};

}  // namespace coroutine_detail

/// In the coroutine of an accepted connection: moves the connection to another loop, as Connection::move_to does, and
/// goes on there: `co_await switch_to(group[1]);`. If the connection ends before it has left, or the other loop is
/// being destroyed, the coroutine is destroyed with it. Nothing else of the coroutine may wait meanwhile: tasks in a
/// Scope of its own would stay behind. Thread: the loop's; the frame may be freed on the other one. Errors:
/// std::logic_error for a task of a Scope or of `run`, which belongs to its loop (see run_on), and for a transport that
/// is no Connection; std::bad_alloc. Lifetime: as of Connection::move_to.
inline coroutine_detail::SwitchOperation switch_to(Reactor& reactor) noexcept {
    return coroutine_detail::SwitchOperation(reactor);
}

}  // namespace reactor
