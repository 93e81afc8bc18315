// Callback: a callable whose owner may be destroyed by it, as a timer may be in its own callback.
#pragma once

#include <reactor/function.hpp>

#include <utility>

namespace reactor {

template <class... Arguments>
class Callback {
public:
    Callback(MoveOnlyFunction<void(Arguments...)> callable) noexcept : callable_(std::move(callable)) {}
    Callback(const Callback&) = delete;
    Callback& operator=(const Callback&) = delete;
    ~Callback() {
        if (destroyed_ != nullptr) *destroyed_ = true;
    }

    explicit operator bool() const noexcept { return bool(callable_); }

    void operator()(Arguments... arguments) {
        bool destroyed = false;
        struct Running {  // while it runs, the callable stands here, on the stack
            Callback& owner;
            MoveOnlyFunction<void(Arguments...)> callable;
            const bool& destroyed;
            ~Running() {
                if (destroyed) return;
                owner.destroyed_ = nullptr;
                owner.callable_ = std::move(callable);
            }
        } running{*this, std::move(callable_), destroyed};
        destroyed_ = &destroyed;
        running.callable(std::forward<Arguments>(arguments)...);
    }

private:
    MoveOnlyFunction<void(Arguments...)> callable_;
    bool* destroyed_ = nullptr;
};

}  // namespace reactor
