#include <reactor/reactor_group.hpp>

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace reactor {

namespace {

// Threads inherit the mask of the thread that makes them. A fault comes to the thread that causes it, and blocked it
// would end the process without whatever handler the program has for it.
class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) sigdelset(&all, fault);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
};

// A name that cannot be set is no reason not to run.
void name_this_thread([[maybe_unused]] std::string_view name, [[maybe_unused]] std::size_t index) {
#if defined(__linux__) || defined(__APPLE__)
    constexpr std::size_t longest = 15;
    const std::string number = "-" + std::to_string(index);
    const std::string whole = std::string(name.substr(0, longest - std::min(longest, number.size()))) + number;
#ifdef __linux__
    ::pthread_setname_np(::pthread_self(), whole.c_str());
#else
    ::pthread_setname_np(whole.c_str());
#endif
#endif
}

}  // namespace

ReactorGroup::ReactorGroup(const ReactorGroupOptions& options) : name_(options.name) {
    const std::size_t threads =
        options.threads > 0 ? options.threads : std::max<std::size_t>(std::thread::hardware_concurrency(), 1);
    reactors_.reserve(threads);
    while (reactors_.size() < threads) reactors_.push_back(std::make_unique<Reactor>(options.backend));
}

ReactorGroup::~ReactorGroup() {
    stop();
    join_all();
}

void ReactorGroup::start(Body body) {
    if (!body) throw std::invalid_argument("ReactorGroup::start: the body is empty");
    if (!threads_.empty()) throw std::logic_error("ReactorGroup::start: it runs already");
    body_ = std::move(body);
    failure_ = nullptr;
    threads_.reserve(size());
    const SignalsBlocked blocked;
    try {
        while (threads_.size() < size()) threads_.emplace_back([this, index = threads_.size()] { run(index); });
    } catch (...) {
        stop();
        join_all();
        throw;
    }
}

void ReactorGroup::run(std::size_t index) noexcept {
    try {
        if (!name_.empty()) name_this_thread(name_, index);
        body_(*reactors_[index], index);
    } catch (...) {
        {
            const std::lock_guard lock(failure_mutex_);
            if (failure_ == nullptr) failure_ = std::current_exception();
        }
        stop();
    }
}

void ReactorGroup::stop() noexcept {
    for (const auto& reactor : reactors_) reactor->stop();
}

void ReactorGroup::join_all() noexcept {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    body_ = nullptr;
}

void ReactorGroup::join() {
    join_all();
    if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
}

}  // namespace reactor
