// offload: work that blocks runs on a thread of a pool, and its task goes on with the result on the loop.
#pragma once

#include <reactor/coroutine/detail/promise.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/worker_pool.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

namespace reactor {

namespace coroutine_detail {

template <class Work>
class OffloadOperation : public Operation<OffloadOperation<Work>> {
public:
    using Value = std::invoke_result_t<Work&>;

    OffloadOperation(WorkerPool& pool, Work work) : pool_(pool), shared_(std::make_shared<Shared>(std::move(work))) {}
    OffloadOperation(OffloadOperation&& other) noexcept : pool_(other.pool_), shared_(std::move(other.shared_)) {}

    // Refused if too much waits already: done at once.
    bool ready() {
        offloaded_ = pool_.run([shared = shared_] { shared->run(); }, [this] { resume(continuation_); });
        return !offloaded_;
    }
    void start(Root&, Continuation continuation) noexcept { continuation_ = continuation; }
    Result<Value> result() {
        if (shared_->exception) std::rethrow_exception(shared_->exception);
        if (!shared_->done) return std::make_error_code(std::errc::resource_unavailable_try_again);
        if constexpr (std::is_void_v<Value>) {
            return {};
        } else {
            return std::move(*shared_->value);
        }
    }

private:
    // With the thread, which may go on with work whose task is gone.
    struct Shared {
        explicit Shared(Work the_work) : work(std::move(the_work)) {}
        void run() noexcept {
            try {
                if constexpr (std::is_void_v<Value>) {
                    work();
                } else {
                    value.emplace(work());
                }
            } catch (...) {
                exception = std::current_exception();
            }
            done = true;
        }
        Work work;
        std::optional<std::conditional_t<std::is_void_v<Value>, char, Value>> value;
        std::exception_ptr exception;
        bool done = false;
    };

    WorkerPool& pool_;
    std::shared_ptr<Shared> shared_;
    Continuation continuation_;
    Offloaded offloaded_;
};

}  // namespace coroutine_detail

/// Runs `work` on a thread of the pool, and returns its result: `co_await offload(pool, work)`. It must not refer to
/// what may go before it has run, since destroying the await drops the result and stops no thread. Errors:
/// resource_unavailable_try_again if too much waits (WorkerPool::most_waiting); an exception out of the work is thrown.
/// A lambda that captures needs a name in a statement before: g++ 12 destroys captures twice in an expression with an
/// await.
template <class Work>
coroutine_detail::OffloadOperation<Work> offload(WorkerPool& pool, Work work) {
    return {pool, std::move(work)};
}

}  // namespace reactor
