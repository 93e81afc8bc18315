// Callback: a callable whose owner may be destroyed by it, as a timer may be in its own callback.
#pragma once

#include <reactor/function.hpp>
#include <reactor/detail/lifetime.hpp>

#include <utility>

namespace reactor {

template <class... Arguments>
class Callback {
public:
    Callback(MoveOnlyFunction<void(Arguments...)> callable) noexcept : callable_(std::move(callable)) {}
    explicit operator bool() const noexcept { return bool(callable_); }

    void operator()(Arguments... arguments) {
        struct Running {  // while it runs, the callable stands here, on the stack
            Callback& owner;
            MoveOnlyFunction<void(Arguments...)> callable;
            Lifetime::Watch watch;
            ~Running() {
                if (!watch.over()) owner.callable_ = std::move(callable);
            }
        } running{*this, std::move(callable_), Lifetime::Watch(lifetime_)};
        running.callable(std::forward<Arguments>(arguments)...);
    }

private:
    MoveOnlyFunction<void(Arguments...)> callable_;
    Lifetime lifetime_;
};

}  // namespace reactor
