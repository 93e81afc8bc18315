// run_on: a task runs on another loop, and the one that awaits it goes on here with its result.
//
//     here:   run_on ──▶ waits ······································▶ goes on
//                  │ post                                    post ▲
//     there:       └──▶ function(arguments…) ──▶ … ──▶ its locals are gone
#pragma once

#include <reactor/coroutine/detail/guest.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/coroutine/task.hpp>

#include <concepts>
#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace reactor {

namespace coroutine_detail {

template <class T>
class RunOnOperation : public Operation<RunOnOperation<T>> {
public:
    using Make = MoveOnlyFunction<Task<T>()>;

    RunOnOperation(Reactor& there, Make make) noexcept : there_(there), make_(std::move(make)) {}
    RunOnOperation(RunOnOperation&& other) noexcept : there_(other.there_), make_(std::move(other.make_)) {}
    ~RunOnOperation() {
        if (visit_ != nullptr) visit_->leave();
    }

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation) {
        auto visit = std::make_shared<RemoteVisit>(std::move(make_));
        visit->begin(root, continuation, there_, visit);
        visit_ = std::move(visit);
    }
    Result<T> result() {
        if (visit_->exception) std::rethrow_exception(std::exchange(visit_->exception, nullptr));
        if (!visit_->done) return std::make_error_code(std::errc::operation_canceled);
        if constexpr (std::is_void_v<T>) {
            return {};
        } else {
            return std::move(*visit_->value);
        }
    }

private:
    // Both threads have it.
    struct RemoteVisit final : Visit {
        explicit RemoteVisit(Make make_task) : make(std::move(make_task)) {}
        std::coroutine_handle<> arrive(Root& root) override {
            task = std::exchange(make, nullptr)();
            task.require_new();
            task.coroutine().promise().root = &root;
            return task.coroutine();
        }
        void keep_result() override {
            if constexpr (std::is_void_v<T>) {
                task.coroutine().promise().take();
            } else {
                value.emplace(task.coroutine().promise().take());
            }
        }
        void destroy_task() noexcept override {
            task = {};
            make = nullptr;
        }
        Make make;
        Task<T> task;
        std::optional<std::conditional_t<std::is_void_v<T>, char, T>> value;
    };

    Reactor& there_;
    Make make_;
    std::shared_ptr<RemoteVisit> visit_;
};

}  // namespace coroutine_detail

/// Calls `function(arguments...)`, a coroutine, on another loop's thread, and returns its result here as a Result:
/// `auto size = co_await run_on(group[1], count, std::string("name"));`. Its local variables are gone before this goes
/// on. An exception out of it is thrown here. Destroying the await destroys the task there, soon: arguments must be
/// values, or refer to objects that outlive the other loop's next iteration. Errors: operation_canceled if the other
/// loop is being destroyed; std::bad_alloc. Thread: the loop's. Lifetime: the other reactor must outlive the await.
template <class Function, class... Arguments>
auto run_on(Reactor& reactor, Function function, Arguments... arguments) {
    using Called = coroutine_detail::TaskFunction<decltype(+function)>;
    static_assert(
        Called::template accepts<Arguments...>,
        "run_on(reactor, function, arguments...): the function takes other arguments than these, or takes one "
        "by reference that is not passed with std::ref");
    return coroutine_detail::RunOnOperation<typename Called::Value>(
        reactor, [function = +function, ... arguments = std::move(arguments)]() mutable {
            return function(std::move(arguments)...);
        });
}

}  // namespace reactor
