// PreparedPost: work for a loop that has its place in the queue before it is posted. Threads that owe a loop an answer
// make one while they may still fail; posting it needs no memory.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>

#include <list>
#include <utility>

namespace reactor {

/// A task for Reactor::post(PreparedPost&&), which cannot fail. Thread: one at a time, any. Errors:
/// std::invalid_argument for an empty callable, and std::bad_alloc.
class REACTOR_EXPORT PreparedPost {
public:
    /// Empty: nothing is posted.
    PreparedPost() noexcept = default;
    explicit PreparedPost(MoveOnlyFunction<void()> task) {
        place_.push_back(required(std::move(task), "PreparedPost: the task is empty"));
    }
    PreparedPost(PreparedPost&& other) noexcept { place_.swap(other.place_); }
    PreparedPost& operator=(PreparedPost&& other) noexcept {
        PreparedPost taken(std::move(other));
        place_.swap(taken.place_);
        return *this;
    }
    ~PreparedPost() = default;

    /// False when it was posted, and for one that is empty from the start.
    explicit operator bool() const noexcept { return !place_.empty(); }

private:
    friend class Reactor;
    std::list<MoveOnlyFunction<void()>> place_;
};

}  // namespace reactor
