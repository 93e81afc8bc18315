// A task of another loop's, on this one: the part of run_on that does not depend on the result's type.
#pragma once

#include <reactor/coroutine/detail/ready_list.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/prepared_post.hpp>
#include <reactor/reactor.hpp>

#include <coroutine>
#include <exception>
#include <memory>
#include <mutex>

namespace reactor::coroutine_detail {

/// One task's stay on another loop, which both threads share. The awaiting side calls `begin` and `leave`; all virtual
/// functions are called on the other loop's thread.
class REACTOR_EXPORT Visit {
public:
    Visit() = default;
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;
    virtual ~Visit() = default;

    void begin(Root& root, Continuation continuation, Reactor& there, const std::shared_ptr<Visit>& self);
    void leave() noexcept;

    // For the awaiting side when it is resumed.
    std::exception_ptr exception;
    bool done = false;

private:
    class Guest;
    class Answer;

    virtual std::coroutine_handle<> arrive(Root& root) = 0;
    virtual void keep_result() = 0;
    virtual void destroy_task() noexcept = 0;
    void answered();

    // Of the awaiting side's thread.
    Continuation continuation_;  // while it waits
    Reactor* there_ = nullptr;
    PreparedPost cancel_;
    // Of the other loop's thread.
    Guest* guest_ = nullptr;
    // Of both: the loop that is owed an answer.
    std::mutex mutex_;
    Reactor* here_ = nullptr;
};

}  // namespace reactor::coroutine_detail
