// A reactor a thread, started and stopped together. The threads share what they need by a shared_ptr, because a group
// may be destroyed on one of its own threads, which goes on for a while.
#include <reactor/reactor_group.hpp>
#include <reactor/signals_blocked_impl.hpp>
#include <reactor/system_impl.hpp>

#include <pthread.h>

#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace reactor {

namespace {

// A name that cannot be set is no reason not to run.
void name_this_thread([[maybe_unused]] std::string_view name, [[maybe_unused]] std::size_t index) {
#if REACTOR_HAS(THREAD_NAMES)
    constexpr std::size_t longest = 15;
    const std::string number = "-" + std::to_string(index);
    const std::string whole = std::string(name.substr(0, longest - std::min(longest, number.size()))) + number;
#if REACTOR_HAS(NAMES_OF_OTHER_THREADS)
    ::pthread_setname_np(::pthread_self(), whole.c_str());
#else
    ::pthread_setname_np(whole.c_str());
#endif
#endif
}

}  // namespace

ReactorGroup::ReactorGroup(std::size_t threads, std::string_view backend) : shared_(std::make_shared<Shared>()) {
    if (threads == 0) threads = std::max<std::size_t>(std::thread::hardware_concurrency(), 1);
    std::vector<std::unique_ptr<Reactor>>& reactors = shared_->reactors;
    reactors.reserve(threads);
    while (reactors.size() < threads) reactors.push_back(std::make_unique<Reactor>(backend));
}

ReactorGroup::~ReactorGroup() {
    stop();
    for (std::thread& thread : threads_)
        thread.get_id() == std::this_thread::get_id() ? thread.detach() : thread.join();
}

void ReactorGroup::start(Body body) {
    if (!body) throw std::invalid_argument("ReactorGroup::start: the body is empty");
    if (!threads_.empty()) throw std::logic_error("ReactorGroup::start: it runs already");
    shared_->body = std::move(body);
    shared_->failure = nullptr;
    threads_.reserve(size());
    const SignalsBlocked blocked;
    try {
        while (threads_.size() < size())
            threads_.emplace_back([shared = shared_, index = threads_.size()] { shared->run(index); });
    } catch (...) {
        stop();
        join_all();
        throw;
    }
}

void ReactorGroup::Shared::run(std::size_t index) noexcept {
    try {
        if (!name.empty()) name_this_thread(name, index);
        body(*reactors[index], index);
    } catch (...) {
        {
            const std::lock_guard lock(failure_mutex);
            if (failure == nullptr) failure = std::current_exception();
        }
        stop();
    }
}

void ReactorGroup::stop() noexcept {
    shared_->stop();
}

void ReactorGroup::Shared::stop() noexcept {
    for (const auto& reactor : reactors) reactor->stop();
}

// A loop whose body had returned when it was stopped would keep that for the next run.
void ReactorGroup::join_all() noexcept {
    for (std::thread& thread : threads_) thread.join();
    if (!threads_.empty())
        for (const auto& reactor : shared_->reactors) reactor->forget_stop();
    threads_.clear();
    shared_->body = nullptr;
}

void ReactorGroup::join() {
    for (const std::thread& thread : threads_)
        if (thread.get_id() == std::this_thread::get_id())
            throw std::logic_error("ReactorGroup::join: called on one of its own threads");
    join_all();
    if (shared_->failure != nullptr) std::rethrow_exception(std::exchange(shared_->failure, nullptr));
}

}  // namespace reactor
