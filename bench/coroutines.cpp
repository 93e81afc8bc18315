// The cost of coroutines without a connection: a task that another one awaits, and a resume through the ready list. The
// floor is a task written by hand that transfers control symmetrically and allocates by malloc. Asio's awaitable is
// measured where Asio is installed.
#include <reactor/coroutine/detail/coroutine_header.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/reactor.hpp>

#include <benchmark/benchmark.h>

#include <cstdint>
#include <exception>
#include <utility>

#ifdef WITH_ASIO
#include <asio.hpp>
#endif

namespace {

constexpr std::int64_t awaits = 10'000;

// What is measured, in any library: a task that awaits others, and one that lets others go first.
template <auto one>
auto await_children() -> decltype(one()) {
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < awaits; ++i) sum += co_await one();
    co_return sum;
}

constexpr int yielding_tasks = 1000;
constexpr std::int64_t yields = awaits / 100;

template <class Task, auto yield>
Task yield_often() {
    for (std::int64_t left = yields; left > 0; --left) co_await yield();
}

reactor::Task<std::int64_t> one() {
    co_return 1;
}

// Such a task as books show: lazy, with symmetric transfer and nothing else.
namespace bare {

class [[nodiscard]] Task {
public:
    struct promise_type {
        Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        struct Final {
            bool await_ready() noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> ended) noexcept {
                return ended.promise().continuation;
            }
            void await_resume() noexcept {}
        };
        Final final_suspend() noexcept { return {}; }
        void return_value(std::int64_t returned) noexcept { value = returned; }
        void unhandled_exception() { std::terminate(); }
        std::coroutine_handle<> continuation = std::noop_coroutine();
        std::int64_t value = 0;
    };
    explicit Task(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}
    Task(Task&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
    ~Task() {
        if (coroutine_) coroutine_.destroy();
    }
    bool await_ready() noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> continuation) noexcept {
        coroutine_.promise().continuation = continuation;
        return coroutine_;
    }
    std::int64_t await_resume() noexcept { return coroutine_.promise().value; }
    std::coroutine_handle<promise_type> coroutine_;
};

Task one() {
    co_return 1;
}

}  // namespace bare

void child_task_awaited(benchmark::State& state) {
    reactor::Reactor loop;
    for (auto _ : state) benchmark::DoNotOptimize(reactor::run(loop, await_children<one>()));
    state.SetItemsProcessed(state.iterations() * awaits);
}
BENCHMARK(child_task_awaited)->Name("coroutines/reactor/child task awaited");

void child_task_awaited_by_hand(benchmark::State& state) {
    for (auto _ : state) {
        bare::Task task = await_children<bare::one>();
        task.coroutine_.resume();
        benchmark::DoNotOptimize(task.coroutine_.promise().value);
    }
    state.SetItemsProcessed(state.iterations() * awaits);
}
BENCHMARK(child_task_awaited_by_hand)->Name("coroutines/by hand/child task awaited");

// A thousand tasks, so that a turn of the loop is shared by a thousand resumes.
void resumed_through_ready_list(benchmark::State& state) {
    reactor::Reactor loop;
    for (auto _ : state) {
        reactor::Scope scope(loop);
        for (int i = 0; i < yielding_tasks; ++i) scope.start(yield_often<reactor::Task<>, reactor::yield>());
        loop.run_until_idle();
    }
    state.SetItemsProcessed(state.iterations() * yielding_tasks * yields);
}
BENCHMARK(resumed_through_ready_list)->Name("coroutines/reactor/resumed through the ready list");

#ifdef WITH_ASIO
asio::awaitable<std::int64_t> one_of_asio() {
    co_return 1;
}

auto post_of_asio() {
    return asio::post(asio::use_awaitable);
}

void child_task_awaited_on_asio(benchmark::State& state) {
    for (auto _ : state) {
        asio::io_context loop(1);
        asio::co_spawn(loop, await_children<one_of_asio>(), asio::detached);
        loop.run();
    }
    state.SetItemsProcessed(state.iterations() * awaits);
}
BENCHMARK(child_task_awaited_on_asio)->Name("coroutines/Asio/child task awaited");

void resumed_by_post_on_asio(benchmark::State& state) {
    for (auto _ : state) {
        asio::io_context loop(1);
        for (int i = 0; i < yielding_tasks; ++i)
            asio::co_spawn(loop, yield_often<asio::awaitable<void>, post_of_asio>(), asio::detached);
        loop.run();
    }
    state.SetItemsProcessed(state.iterations() * yielding_tasks * yields);
}
BENCHMARK(resumed_by_post_on_asio)->Name("coroutines/Asio/resumed by post");
#endif

}  // namespace
