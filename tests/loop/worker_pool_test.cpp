#include "../support/loop.hpp"

#include <reactor/worker_pool.hpp>

#include <doctest/doctest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace reactor;

namespace {

/// Holds up the threads of a pool until it is opened.
class Gate {
public:
    void pass() {
        std::unique_lock lock(mutex_);
        ++waiting_;
        changed_.notify_all();
        changed_.wait(lock, [this] { return open_; });
    }
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void wait_for(int threads) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return waiting_ >= threads; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int waiting_ = 0;
    bool open_ = false;
};

}  // namespace

TEST_CASE("Work runs on another thread, and its result comes to the loop") {
    Reactor reactor;
    WorkerPool pool{reactor};
    const auto loop = std::this_thread::get_id();
    std::string answer;
    bool called_on_loop = false;
    Offloaded work = offload(
        pool, [loop] { return std::string(std::this_thread::get_id() != loop ? "elsewhere" : "here"); },
        [&](std::string result) {
            answer = std::move(result);
            called_on_loop = std::this_thread::get_id() == loop;
        });
    CHECK(work);
    CHECK(answer.empty());  // never from inside the call
    run_until(reactor, [&] { return !answer.empty(); });
    CHECK(answer == "elsewhere");
    CHECK(called_on_loop);
    CHECK_FALSE(work);
}

TEST_CASE("Work may own what can only be moved, and return nothing") {
    Reactor reactor;
    WorkerPool pool{reactor};
    int seen = 0;
    bool done = false;
    Offloaded work = offload(
        pool, [value = std::make_unique<int>(7), &seen] { seen = *value; }, [&] { done = true; });
    run_until(reactor, [&] { return done; });
    CHECK(seen == 7);
}

TEST_CASE("An exception out of work is thrown on the loop, and its callback is not called") {
    Reactor reactor;
    WorkerPool pool{reactor};
    std::string what;
    reactor.on_exception([&](std::exception_ptr thrown) {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::exception& error) {
            what = error.what();
        }
    });
    bool called = false;
    Offloaded work = offload(
        pool, []() -> int { throw std::runtime_error("no such number"); }, [&](int) { called = true; });
    run_until(reactor, [&] { return !what.empty(); });
    CHECK(what == "no such number");
    CHECK_FALSE(called);
}

TEST_CASE("Work that is cancelled before it begins never begins, and a cancelled callback is never called") {
    Reactor reactor;
    WorkerPool pool{reactor, 1};
    Gate gate;
    bool begun = false, called = false, last = false;
    const auto captured = std::make_shared<int>(0);
    Offloaded running = offload(
        pool, [&] { gate.pass(); }, [&, captured] { called = true; });
    gate.wait_for(1);
    Offloaded waiting = offload(
        pool, [&] { begun = true; }, [&] { called = true; });
    CHECK(pool.waiting() == 1);
    Offloaded behind = offload(
        pool, [] {}, [&] { last = true; });
    running.cancel();
    CHECK(captured.use_count() == 1);  // the callback's captures are gone
    waiting = Offloaded();
    gate.open();
    run_until(reactor, [&] { return last; });
    CHECK_FALSE(begun);
    CHECK_FALSE(called);
}

TEST_CASE("Work beyond the limit of a pool is refused") {
    Reactor reactor;
    WorkerPool pool{reactor, 1};
    Gate gate;
    int done = 0;
    std::vector<Offloaded> all;
    all.push_back(offload(
        pool, [&] { gate.pass(); }, [&] { ++done; }));
    gate.wait_for(1);
    for (std::size_t i = 0; i < WorkerPool::most_waiting; ++i)
        all.push_back(offload(
            pool, [] {}, [&] { ++done; }));
    CHECK_FALSE(offload(
        pool, [] {}, [&] { ++done; }));
    gate.open();
    run_until(reactor, [&] { return done == 1 + int(WorkerPool::most_waiting); });
}

TEST_CASE("S91, S93: the number of a pool's threads is checked, and one that is refused leaves nothing") {
    Reactor reactor;
    CHECK_THROWS_AS(((void)WorkerPool{reactor, 0}), std::invalid_argument);
    CHECK_THROWS_AS(((void)WorkerPool{reactor, 1025}), std::invalid_argument);
    CHECK_THROWS_AS(((void)WorkerPool{reactor, SIZE_MAX}), std::invalid_argument);
    WorkerPool pool{reactor, 1};
    CHECK_THROWS_AS((void)pool.run(nullptr, [] {}), std::invalid_argument);
    CHECK_THROWS_AS((void)pool.run([] {}, nullptr), std::invalid_argument);
    CHECK(settle(reactor) < 10);
}

TEST_CASE("S92: a callback may destroy the pool it came from; work that is done then calls nothing any more") {
    Reactor reactor;
    auto pool = std::make_unique<WorkerPool>(reactor, 1);
    bool destroyed = false, called = false;
    Offloaded first = offload(
        *pool, [] {},
        [&] {
            pool.reset();
            destroyed = true;
        });
    Offloaded second = offload(
        *pool, [] {}, [&] { called = true; });
    run_until(reactor, [&] { return destroyed; });
    CHECK(settle(reactor) < 10);
    CHECK_FALSE(called);
    CHECK_FALSE(second);
}
