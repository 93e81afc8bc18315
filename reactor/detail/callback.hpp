// Callback: a callable whose owner may be destroyed by it, as a timer may be in its own callback. Every callable that
// the library keeps for its user is one of these, factories included.
#pragma once

#include <reactor/function.hpp>
#include <reactor/detail/lifetime.hpp>

#include <stdexcept>
#include <utility>

namespace reactor {

/// Returns `callable`. Throws std::invalid_argument with `missing` as its text if it is empty.
template <class Signature>
MoveOnlyFunction<Signature> required(MoveOnlyFunction<Signature> callable, const char* missing) {
    if (!callable) throw std::invalid_argument(missing);
    return callable;
}

template <class Signature>
class Callback;

template <class Result, class... Arguments>
class Callback<Result(Arguments...)> {
public:
    using Callable = MoveOnlyFunction<Result(Arguments...)>;

    /// An empty one must not be called; `required` refuses it where that would happen.
    Callback(Callable callable) noexcept : callable_(std::move(callable)) {}
    explicit operator bool() const noexcept { return bool(callable_); }

    Result operator()(Arguments... arguments) {
        struct Running {  // while it runs, the callable and its captures lie on the stack
            Callback& owner;
            Callable callable;
            Lifetime::Watch watch;
            ~Running() {
                if (!watch.over()) owner.callable_ = std::move(callable);
            }
        } running{*this, std::move(callable_), Lifetime::Watch(lifetime_)};
        return running.callable(std::forward<Arguments>(arguments)...);
    }

private:
    Callable callable_;
    Lifetime lifetime_;
};

}  // namespace reactor
