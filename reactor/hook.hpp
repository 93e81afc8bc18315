// Hook: what is to be done in every turn, just before the loop waits or just after.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>

#include <vector>

namespace reactor {

class Reactor;

/// A callable that runs in every turn, just before or after the wait, for as long as this object lives: for
/// libraries that prepare and check (D-Bus, Wayland, GLib). What it changes before the wait counts for that wait.
/// What it throws leaves run().
class [[nodiscard]] REACTOR_EXPORT Hook {
public:
    enum class When { before_wait, after_wait };
    /// Throws std::invalid_argument for an empty callable, and std::bad_alloc.
    Hook(Reactor& reactor, When when, MoveOnlyFunction<void()> callable);
    ~Hook();
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;

private:
    friend class Reactor;
    std::vector<Hook*>& list_;
    Callback<void()> callable_;
};

}  // namespace reactor
