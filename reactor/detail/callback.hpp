// Callback: a callable whose owner may be destroyed or moved by it, as a timer may be in its own callback. Every
// callable that the library keeps for its user is one of these, factories included.
#pragma once

#include <reactor/function.hpp>

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
    ~Callback() { hand_calls_to(nullptr); }
    /// A call that is under way returns its callable to the new place.
    Callback(Callback&& other) noexcept
        : callable_(std::move(other.callable_)), call_(std::exchange(other.call_, nullptr)) {
        hand_calls_to(this);
    }
    Callback& operator=(Callback&& other) noexcept {
        if (this == &other) return *this;
        const Callback old(std::move(*this));  // destroyed last: its captures may refer to this
        callable_ = std::move(other.callable_);
        call_ = std::exchange(other.call_, nullptr);
        hand_calls_to(this);
        return *this;
    }
    explicit operator bool() const noexcept { return bool(callable_); }

    Result operator()(Arguments... arguments) {
        Call call(*this);
        return call.callable(std::forward<Arguments>(arguments)...);
    }

private:
    // One call. While it runs, the callable and its captures lie on the stack.
    struct Call {
        explicit Call(Callback& callback) noexcept
            : owner(&callback), callable(std::move(callback.callable_)), outer(std::exchange(callback.call_, this)) {}
        Call(const Call&) = delete;
        Call& operator=(const Call&) = delete;
        ~Call() {
            if (owner == nullptr) return;
            owner->call_ = outer;
            owner->callable_ = std::move(callable);
        }
        Callback* owner;  // null if it was destroyed meanwhile
        Callable callable;
        Call* outer;
    };

    void hand_calls_to(Callback* owner) noexcept {
        for (Call* call = call_; call != nullptr; call = call->outer) call->owner = owner;
    }

    Callable callable_;
    Call* call_ = nullptr;  // the innermost that is under way
};

}  // namespace reactor
