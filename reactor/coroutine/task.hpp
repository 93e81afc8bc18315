// Task<T>: a coroutine that its owner holds. It begins when it is awaited, or started in a Scope, and is destroyed with
// its owner: at whatever await it waits then, its local variables are destroyed in order, at once.
#pragma once

#include <reactor/coroutine/detail/promise.hpp>

#include <concepts>
#include <functional>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace reactor {

template <class T = void>
class Task;

namespace coroutine_detail {

template <class T>
struct Promise : PromiseBase {
    static_assert(!std::is_reference_v<T>, "Task<T>: a coroutine returns a value, or a pointer");
    static_assert(alignof(T) <= 2 * sizeof(void*), "Task<T>: T is aligned to more than a frame is");

    inline Task<T> get_return_object() noexcept;
    FinalAwaiter final_suspend() const noexcept { return {}; }
    template <class U>
    requires std::constructible_from<T, U&&>
    void return_value(U&& returned) { value.emplace(std::forward<U>(returned)); }
    T take() { return std::move(*value); }

    std::optional<T> value;
};

template <>
struct Promise<void> : PromiseBase {
    inline Task<void> get_return_object() noexcept;
    FinalAwaiter final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void take() const noexcept {}
};

/// A task that is awaited. Owns nothing.
template <class T>
class TaskOperation : public Operation<TaskOperation<T>> {
public:
    explicit TaskOperation(std::coroutine_handle<Promise<T>> task) noexcept : task_(task) {}

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation) const noexcept {
        task_.promise().root = &root;
        task_.promise().continuation = continuation;
        root.next = Continuation(task_);
    }
    T result() const {
        Root& root = *task_.promise().root;
        if (root.exception) [[unlikely]]
            std::rethrow_exception(std::exchange(root.exception, nullptr));
        return task_.promise().take();
    }

private:
    std::coroutine_handle<Promise<T>> task_;
};

}  // namespace coroutine_detail

/// The result of a function that is a coroutine: `Task<int> count(Stream stream) { … co_return 3; }`.
///
/// Await it once, in another task: `int n = co_await count(std::move(stream));`; or start it in a Scope, or give its
/// function to `coroutine` (reactor/coroutine/stream.hpp). An exception out of it is thrown by the await.
/// Errors: std::logic_error for awaiting one that was awaited already, or is empty; std::bad_alloc out of the function
/// if there is no memory for the frame. Lifetime: destroying it destroys the coroutine. So the function's arguments
/// and everything that they refer to must live as long as the task: pass values, and references to what owns the task.
template <class T>
class [[nodiscard]] Task {
public:
    using promise_type = coroutine_detail::Promise<T>;
    using value_type = T;

    Task() noexcept = default;
    Task(Task&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
    Task& operator=(Task&& other) noexcept {
        if (this != &other) {
            const Task old(std::move(*this));
            coroutine_ = std::exchange(other.coroutine_, nullptr);
        }
        return *this;
    }
    ~Task() {
        if (const auto coroutine = std::exchange(coroutine_, nullptr)) coroutine.destroy();
    }

    explicit operator bool() const noexcept { return coroutine_ != nullptr; }

    coroutine_detail::TaskOperation<T> operator co_await() && {
        require_new();
        return coroutine_detail::TaskOperation<T>(coroutine_);
    }

    /// For owners of tasks: the coroutine, which stays this one's.
    std::coroutine_handle<promise_type> coroutine() const noexcept { return coroutine_; }
    /// Throws std::logic_error if it was awaited or started already.
    void require_new() const {
        if (coroutine_ == nullptr) throw std::logic_error("Task: an empty one is awaited; it may have been moved");
        if (coroutine_.promise().root != nullptr) throw std::logic_error("Task: awaited or started twice");
    }

private:
    friend promise_type;
    explicit Task(std::coroutine_handle<promise_type> coroutine) noexcept : coroutine_(coroutine) {}

    std::coroutine_handle<promise_type> coroutine_;
};

namespace coroutine_detail {

template <class T>
Task<T> Promise<T>::get_return_object() noexcept {
    return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
    return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}

template <class T>
concept HasCallOperator = requires {
    &T::operator();
}
|| requires {
    &T::template operator()<int>;
};

// A lambda's captures lie in the lambda, which is gone when the coroutine goes on: only its parameters live in the
// frame. A lambda that captures can be copied but not assigned to, as a class with a call operator and references.
template <class Argument, class Class = std::remove_cvref_t<Argument>>
inline constexpr bool is_closure_with_captures =
    std::is_reference_v<Argument>&& std::is_class_v<Class> && !std::is_empty_v<Class> &&
    !std::is_copy_assignable_v<Class> && HasCallOperator<Class>;

// A parameter that is a reference must not be given a copy that somebody else keeps: only std::ref says that its owner
// lives long enough.
template <class Parameter, class Argument>
inline constexpr bool may_be_passed =
    !std::is_reference_v<Parameter> ||
    std::is_same_v<Argument, std::reference_wrapper<std::remove_reference_t<Parameter>>>;

// A function that is a coroutine, by its pointer's type.
template <class Function>
struct TaskFunction;
template <class T, class... Parameters>
struct TaskFunction<Task<T> (*)(Parameters...)> {
    using Value = T;
    template <class... Arguments>
    static constexpr bool accepts = [] {
        if constexpr (sizeof...(Parameters) == sizeof...(Arguments)) {
            return (may_be_passed<Parameters, Arguments> && ...);
        } else {
            return false;
        }
    }();
};
template <class T, class... Parameters>
struct TaskFunction<Task<T> (*)(Parameters...) noexcept> : TaskFunction<Task<T> (*)(Parameters...)> {};

// The promise of a function with these parameters. They are looked at in the body of a function, because the type of a
// lambda is incomplete in the lambda's own body, and complete where templates are instantiated, behind it.
template <class T, class... Arguments>
struct PromiseOf final : Promise<T> {
    PromiseOf() noexcept {
        static_assert(!(is_closure_with_captures<Arguments> || ...),
                      "a coroutine that is a lambda with captures: its captures are gone at its first await. Make it a "
                      "function, and pass what it needs as arguments");
        static_assert(!(std::is_rvalue_reference_v<Arguments> || ...),
                      "a coroutine's parameter is an rvalue reference: what it refers to is gone at its first await. "
                      "Take it by value");
    }
};

}  // namespace coroutine_detail

}  // namespace reactor

/// @cond  the compiler asks this for the parameters of each coroutine, and for the object of a lambda or a member
template <class T, class... Arguments>
struct std::coroutine_traits<reactor::Task<T>, Arguments...> {
    using promise_type = reactor::coroutine_detail::PromiseOf<T, Arguments...>;
};
/// @endcond
