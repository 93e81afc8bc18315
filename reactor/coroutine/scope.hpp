// Scope: tasks that run side by side, and end with their owner.
#pragma once

#include <reactor/coroutine/detail/ready_list.hpp>
#include <reactor/coroutine/stopping.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/export.hpp>

#include <cstddef>
#include <exception>
#include <optional>
#include <system_error>
#include <utility>

namespace reactor {

/// Starts tasks, waits for all of them, or cancels them: no task outlives its scope. A local variable of a coroutine,
/// or a member of an object.
///
///     Scope scope(reactor);
///     for (auto& url : urls) scope.start(fetch(url));
///     co_await scope.join();
///
/// An exception out of a task cancels the others, and `join` throws it. If nothing joins, the destructor hands it to
/// the loop: to the exception hook, or out of run(). Thread: the loop's. Lifetime: must go before its reactor. A task
/// that destroys its own scope runs on until its next await, and is destroyed there.
class REACTOR_EXPORT Scope {
public:
    explicit Scope(Reactor& reactor) noexcept : reactor_(reactor) {}
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    /// The task begins in this iteration of the loop, or in the next one, and not inside this call. Throws
    /// std::logic_error if it was awaited or started already, and std::bad_alloc: then it is destroyed.
    void start(Task<> task);

    /// Asks the tasks to end: those that wait in `stopping` go on. Others do not notice.
    void stop() noexcept;

    /// Destroys the tasks, the last one first. Their local variables are destroyed before this returns.
    void cancel() noexcept;

    /// How many have not ended.
    std::size_t size() const noexcept { return size_; }

    class JoinOperation;
    /// Waits until all tasks have ended. Throws the first exception that left one of them, once.
    JoinOperation join() noexcept;

private:
    class Child;

    void ended(std::exception_ptr failure) noexcept;
    void remove(Child& child) noexcept;
    void wake_joining() noexcept;

    Reactor& reactor_;
    Child* last_ = nullptr;
    std::size_t size_ = 0;
    std::exception_ptr failure_;
    coroutine_detail::LinkList joining_;
};

class REACTOR_EXPORT Scope::JoinOperation : public coroutine_detail::Operation<Scope::JoinOperation> {
public:
    JoinOperation(JoinOperation&& other) noexcept : scope_(other.scope_) {}

    bool ready() const noexcept { return scope_.size_ == 0; }
    void start(coroutine_detail::Root& root, coroutine_detail::Continuation continuation);
    void result() const;

private:
    friend class Scope;
    explicit JoinOperation(Scope& scope) noexcept : scope_(scope) {}

    Scope& scope_;
    coroutine_detail::Link link_;
};

inline Scope::JoinOperation Scope::join() noexcept {
    return JoinOperation(*this);
}

namespace coroutine_detail {

/// The root of `run`.
class REACTOR_EXPORT MainRoot final : public Root {
public:
    explicit MainRoot(Reactor& reactor) noexcept : reactor_(reactor) {}
    Reactor& reactor() const override { return reactor_; }
    void finished() override;
    StopState& stop_state() override { return stop_; }
    /// Starts it and runs the loop. Throws std::system_error if the loop was stopped before the end.
    void run(PromiseBase& promise, std::coroutine_handle<> task);

private:
    Reactor& reactor_;
    StopState stop_;
    bool done_ = false;
};

}  // namespace coroutine_detail

/// Runs the loop until the task has ended, and returns its result: `int main() { Reactor reactor; return run(reactor,
/// client(reactor)); }`. An exception out of the task is thrown. Errors: std::system_error (operation_canceled) if the
/// loop was stopped before; std::logic_error inside a running loop. The task is destroyed in any case.
template <class T>
T run(Reactor& reactor, Task<T> task) {
    task.require_new();
    coroutine_detail::MainRoot root(reactor);
    root.run(task.coroutine().promise(), task.coroutine());
    return coroutine_detail::TaskOperation<T>(task.coroutine()).result();
}

}  // namespace reactor
