// Hook: a call in every iteration, just before the loop waits or just after.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>

#include <vector>

namespace reactor {

class Reactor;

/// A callable that runs in every iteration, just before or after the wait, for as long as this object lives: for
/// libraries that prepare and check (D-Bus, Wayland, GLib). Its changes before the wait count for that wait. A
/// hook that is made in a hook of the same kind runs from the next iteration on, so that one that makes its successor
/// ends the iteration all the same. For work now and then Reactor::defer costs less: a hook is called in every
/// iteration.
/// Errors: an exception out of it is treated as that of any other callback (Reactor::on_exception); the wait of that
/// iteration then takes no time. Inside another loop: see Reactor::next_timeout.
class [[nodiscard]] REACTOR_EXPORT Hook {
public:
    /// Step 1 or step 3 of an iteration.
    enum class When { before_wait, after_wait };
    /// Throws std::invalid_argument for an empty callable, and std::bad_alloc.
    [[nodiscard]] Hook(Reactor& reactor, When when, MoveOnlyFunction<void()> callable);
    ~Hook();
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;

private:
    friend class Reactor;
    std::vector<Hook*>& list_;
    Callback<void()> callable_;
};

}  // namespace reactor
