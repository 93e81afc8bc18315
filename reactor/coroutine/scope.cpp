// The tasks of a scope.
#include <reactor/coroutine/scope.hpp>
#include <reactor/reactor.hpp>

#include <new>

namespace reactor {

using coroutine_detail::Continuation;
using coroutine_detail::ReadyList;

// One task. It may outlive its scope in one case: it is running, or being destroyed, when the scope goes.
class Scope::Child final : public coroutine_detail::Root {
public:
    Child(Scope& scope, Task<> task) noexcept : scope_(&scope), reactor_(scope.reactor_), task_(std::move(task)) {}
    static void* operator new(std::size_t size) { return coroutine_detail::allocate_frame(size); }
    static void operator delete(void* block, std::size_t size) noexcept { coroutine_detail::free_frame(block, size); }

    void start(ReadyList& ready) noexcept {
        task_.coroutine().promise().root = this;
        link_.continuation = Continuation(task_.coroutine());
        ready.push(link_);
    }
    void ask_to_stop(ReadyList& ready) noexcept { stop_.ask(ready); }

    // Its scope goes.
    void leave() noexcept {
        scope_ = nullptr;
        if (ending_) return;
        if (!running) return delete this;
        given_up = true;
        next = Continuation::end();  // unless it awaits another task first
    }

    Child* before = nullptr;
    Child* behind = nullptr;

private:
    Reactor& reactor() const override { return reactor_; }
    coroutine_detail::StopState& stop_state() override { return stop_; }

    void finished() override {
        std::exception_ptr failure = std::exchange(exception, nullptr);
        ending_ = true;
        task_ = {};  // its parameters may own the scope
        Scope* const scope = scope_;
        if (scope != nullptr) scope->remove(*this);
        delete this;
        if (scope != nullptr) return scope->ended(std::move(failure));
        if (failure) std::rethrow_exception(failure);
    }

    Scope* scope_;
    Reactor& reactor_;
    Task<> task_;
    coroutine_detail::Link link_;
    coroutine_detail::StopState stop_;
    bool ending_ = false;
};

Scope::~Scope() {
    cancel();
    if (!failure_) return;
    try {
        reactor_.post([failure = failure_] { std::rethrow_exception(failure); });
    } catch (...) {  // no memory to say so
    }
}

void Scope::start(Task<> task) {
    task.require_new();
    ReadyList& ready = ReadyList::of(reactor_);
    Child* const child = new Child(*this, std::move(task));
    child->before = last_;
    if (last_ != nullptr) last_->behind = child;
    last_ = child;
    ++size_;
    child->start(ready);
}

void Scope::remove(Child& child) noexcept {
    if (child.behind != nullptr) child.behind->before = child.before;
    if (child.before != nullptr) child.before->behind = child.behind;
    if (last_ == &child) last_ = child.before;
    --size_;
}

void Scope::stop() noexcept {
    if (last_ == nullptr) return;
    ReadyList& ready = ReadyList::of(reactor_);  // there since the first start
    for (Child* child = last_; child != nullptr; child = child->before) child->ask_to_stop(ready);
}

void Scope::cancel() noexcept {
    while (last_ != nullptr) {
        Child& child = *last_;
        remove(child);
        child.leave();
    }
    wake_joining();
}

void Scope::ended(std::exception_ptr failure) noexcept {
    if (failure && !failure_) {
        failure_ = std::move(failure);
        cancel();
    } else if (size_ == 0) {
        wake_joining();
    }
}

void Scope::wake_joining() noexcept {
    while (!joining_.empty()) ReadyList::of(reactor_).push(joining_.front());
}

void Scope::JoinOperation::start(coroutine_detail::Root&, Continuation continuation) {
    (void)ReadyList::of(scope_.reactor_);  // whose memory is needed when they end
    link_.continuation = continuation;
    scope_.joining_.push_back(link_);
}

void Scope::JoinOperation::result() const {
    if (scope_.failure_) std::rethrow_exception(std::exchange(scope_.failure_, nullptr));
}

namespace coroutine_detail {

void MainRoot::finished() {
    done_ = true;
    reactor_.stop();
}

void MainRoot::run(PromiseBase& promise, std::coroutine_handle<> task) {
    Link link;
    link.continuation = Continuation(task);
    promise.root = this;
    ReadyList::of(reactor_).push(link);
    reactor_.run();
    if (!done_)
        throw std::system_error(std::make_error_code(std::errc::operation_canceled), "run: the loop was stopped");
}

}  // namespace coroutine_detail

}  // namespace reactor
