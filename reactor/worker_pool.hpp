// WorkerPool: threads for work that blocks or computes for long, which would hold up the loop. The work runs on one of
// them; its result comes back to the loop.
//
//     WorkerPool pool{reactor};
//     Offloaded question = offload(pool, [] { return read_slowly("data"); }, [](std::string data) { use(data); });
#pragma once

#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/reactor.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace reactor {

/// One piece of work that was handed to a pool. Destroying it cancels the work: if it has not begun, it never does, and
/// its result is dropped in any case, so that what the callback refers to may go. On the loop's thread.
class REACTOR_EXPORT [[nodiscard]] Offloaded {
public:
    Offloaded() noexcept = default;
    Offloaded(Offloaded&&) noexcept = default;
    Offloaded& operator=(Offloaded&& other) noexcept {
        if (this != &other) cancel();
        job_ = std::move(other.job_);
        return *this;
    }
    ~Offloaded() { cancel(); }

    /// True until the callback was called, or the work cancelled.
    explicit operator bool() const noexcept;
    void cancel() noexcept;

private:
    friend class WorkerPool;
    struct Job;
    explicit Offloaded(std::shared_ptr<Job> job) noexcept : job_(std::move(job)) {}
    std::shared_ptr<Job> job_;
};

/// Threads that work for one loop. All calls on the loop's thread.
class REACTOR_EXPORT WorkerPool final : EventHandler {
public:
    /// Pieces of work that may wait until a thread takes them; one more is refused.
    static constexpr std::size_t most_waiting = 1024;

    /// Starts 1 to 1024 threads. Throws std::invalid_argument for another number of them, and std::system_error if a
    /// thread cannot be started.
    [[nodiscard]] explicit WorkerPool(Reactor& reactor, std::size_t threads = 4);

    /// Waits for the work that is running, drops what has not begun, and calls no callback any more. Must go before its
    /// reactor.
    ~WorkerPool();
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;

    /// Runs `work` on a thread of the pool, and then `then` on the loop, from the loop and never from inside this call.
    /// An exception out of `work` is thrown on the loop in the place of calling `then`, like one out of any callback.
    /// The result is empty if `most_waiting` pieces wait already. Throws std::invalid_argument for an
    /// empty function, and std::bad_alloc. offload() is the same with a result.
    Offloaded run(MoveOnlyFunction<void()> work, MoveOnlyFunction<void()> then);

    /// Pieces of work that wait for a thread.
    std::size_t waiting() const;

private:
    struct Shared;
    void readable() override;

    std::unique_ptr<Shared> shared_;
    Registration registration_;
    std::size_t under_way_ = 0;  // pieces of work whose thread has not handed them back to the loop
};

/// Runs `work` on a thread of the pool, and calls `then` with its result (with nothing if it returns nothing) on the
/// loop. For errors, refusal and lifetime see WorkerPool::run.
template <class Work, class Then>
Offloaded offload(WorkerPool& pool, Work work, Then then) {
    using Result = std::invoke_result_t<Work&>;
    if constexpr (std::is_void_v<Result>) {
        static_assert(std::is_invocable_v<Then&>, "the callback of work that returns nothing takes nothing");
        return pool.run(std::move(work), std::move(then));
    } else {
        static_assert(std::is_invocable_v<Then&, Result>, "the callback takes what the work returns");
        auto result = std::make_shared<std::optional<Result>>();
        return pool.run([result, work = std::move(work)]() mutable { result->emplace(work()); },
                        [result, then = std::move(then)]() mutable { then(std::move(**result)); });
    }
}

}  // namespace reactor
