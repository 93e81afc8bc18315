// or_return: a task goes on with the value of a Result, or ends with its error.
#pragma once

#include <reactor/coroutine/detail/promise.hpp>
#include <reactor/coroutine/result.hpp>

#include <system_error>
#include <utility>

namespace reactor {

namespace coroutine_detail {

template <class T>
class OrReturn {
public:
    explicit OrReturn(Result<T> result) : result_(std::move(result)) {}

    bool await_ready() const noexcept { return result_.has_value(); }
    // The task has its result and is not resumed any more: it ends as if it had returned.
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> task) const {
        task.promise().return_value(result_.error());
        FinalAwaiter().await_suspend(task);
    }
    T await_resume() { return std::move(result_).value(); }

private:
    Result<T> result_;
};

}  // namespace coroutine_detail

/// In a task that returns a Result: `Stream server = co_await or_return(co_await connect(reactor, host, 80, 2s));` goes
/// on with the value, or ends the task with the error as its result. Its local variables are then destroyed when the
/// awaiting task has taken that, before its next statement.
template <class T>
coroutine_detail::OrReturn<T> or_return(Result<T> result) {
    return coroutine_detail::OrReturn<T>(std::move(result));
}

}  // namespace reactor
