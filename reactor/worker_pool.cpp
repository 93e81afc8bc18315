// Threads for work that would hold up the loop. Work goes to them under a lock, and results come back as a list of jobs
// and one wake-up, which needs no memory: a result is never lost for want of it.
#include <reactor/worker_pool.hpp>

#include <reactor/detail/wakeup.hpp>
#include <reactor/signals_blocked_impl.hpp>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace reactor {

// `work` and `thrown` belong to the thread that runs the job, until it is done; the rest to the loop.
struct Offloaded::Job {
    MoveOnlyFunction<void()> work;
    std::exception_ptr thrown;
    MoveOnlyFunction<void()> then;  // empty once it was called or cancelled
    std::shared_ptr<Job> next;      // in the list of those that are done
};

// Shared by the loop and the threads. Handing a result back needs no memory: the jobs that are done are a list of their
// own.
struct WorkerPool::Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::shared_ptr<Offloaded::Job>> waiting;
    std::shared_ptr<Offloaded::Job> first_done;
    Offloaded::Job* last_done = nullptr;
    bool ending = false;
    Wakeup wakeup;
    std::vector<std::thread> threads;

    void serve() noexcept;
    void end() noexcept;
};

Offloaded::operator bool() const noexcept {
    return job_ != nullptr && job_->then;
}

// The work stays: its thread may be running it. The callback's captures go now, on the loop's thread.
void Offloaded::cancel() noexcept {
    if (const std::shared_ptr<Job> job = std::move(job_)) {
        const MoveOnlyFunction<void()> unused = std::exchange(job->then, nullptr);
    }
}

void WorkerPool::Shared::serve() noexcept {
    std::unique_lock lock(mutex);
    for (;;) {
        changed.wait(lock, [this] { return ending || !waiting.empty(); });
        if (ending) return;
        std::shared_ptr<Offloaded::Job> job = std::move(waiting.front());
        waiting.pop_front();
        lock.unlock();
        if (job.use_count() > 1) {  // otherwise it was cancelled before it began
            try {
                job->work();
            } catch (...) {
                job->thrown = std::current_exception();
            }
        }
        lock.lock();
        Offloaded::Job* const last = job.get();
        (first_done == nullptr ? first_done : last_done->next) = std::move(job);
        last_done = last;
        wakeup.notify();
    }
}

void WorkerPool::Shared::end() noexcept {
    {
        const std::lock_guard lock(mutex);
        ending = true;
    }
    changed.notify_all();
    for (std::thread& thread : threads) thread.join();
    for (const auto& job : waiting) job->then = nullptr;
    while (first_done != nullptr) {
        first_done->then = nullptr;
        first_done = std::move(first_done->next);
    }
}

WorkerPool::WorkerPool(Reactor& reactor, std::size_t threads) : shared_(std::make_unique<Shared>()) {
    if (threads < 1 || threads > 1024) throw std::invalid_argument("WorkerPool: threads must be between 1 and 1024");
    shared_->threads.reserve(threads);
    registration_ = reactor.watch(shared_->wakeup.descriptor(), Interest::none, *this);
    const SignalsBlocked blocked;
    try {
        for (std::size_t i = 0; i < threads; ++i)
            shared_->threads.emplace_back([shared = shared_.get()] { shared->serve(); });
    } catch (...) {
        shared_->end();
        throw;
    }
}

WorkerPool::~WorkerPool() {
    shared_->end();
}

Offloaded WorkerPool::run(MoveOnlyFunction<void()> work, MoveOnlyFunction<void()> then) {
    if (!work || !then) throw std::invalid_argument("WorkerPool::run: an empty function");
    auto job = std::make_shared<Offloaded::Job>();
    job->work = std::move(work);
    job->then = std::move(then);
    {
        const std::lock_guard lock(shared_->mutex);
        if (shared_->waiting.size() >= most_waiting) return {};
        shared_->waiting.push_back(job);
    }
    shared_->changed.notify_one();
    // Only as long as a result is to come: a pool without work does not keep run_until_idle() from returning.
    if (under_way_++ == 0) registration_.set_interest(Interest::readable);
    return Offloaded(std::move(job));
}

std::size_t WorkerPool::waiting() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->waiting.size();
}

// One result an iteration: its callback may throw, and may destroy the pool.
void WorkerPool::readable() {
    std::shared_ptr<Offloaded::Job> job;
    {
        const std::lock_guard lock(shared_->mutex);
        if (shared_->first_done == nullptr) return shared_->wakeup.drain();
        job = std::move(shared_->first_done);
        shared_->first_done = std::move(job->next);
        if (shared_->first_done == nullptr) shared_->wakeup.drain();
    }
    if (--under_way_ == 0) registration_.set_interest(Interest::none);
    MoveOnlyFunction<void()> then = std::exchange(job->then, nullptr);
    if (!then) return;
    if (job->thrown) std::rethrow_exception(job->thrown);
    then();
}

}  // namespace reactor
