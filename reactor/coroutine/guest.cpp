// How a task goes to another loop, and its result comes back.
#include <reactor/coroutine/detail/guest.hpp>
#include <reactor/coroutine/stopping.hpp>
#include <reactor/detail/internals.hpp>

#include <utility>

namespace reactor::coroutine_detail {

// That the awaiting side is to go on: sent when this is destroyed, for whatever reason.
class Visit::Answer {
public:
    Answer() noexcept = default;
    explicit Answer(std::shared_ptr<Visit> visit) : post_([visit] { visit->answered(); }), visit_(std::move(visit)) {}
    Answer(Answer&& other) noexcept : post_(std::move(other.post_)), visit_(std::move(other.visit_)) {}
    Answer& operator=(Answer&& other) noexcept {
        std::swap(post_, other.post_);
        std::swap(visit_, other.visit_);
        return *this;
    }
    ~Answer() {
        if (visit_ == nullptr) return;
        const std::lock_guard lock(visit_->mutex_);
        if (visit_->here_ != nullptr) visit_->here_->post(std::move(post_));
    }
    Visit* visit() const noexcept { return visit_.get(); }

private:
    PreparedPost post_;
    std::shared_ptr<Visit> visit_;
};

// The task's owner on the other loop. Belongs to that loop's list until it has ended.
class Visit::Guest final : public Root, public OwnedLink {
public:
    explicit Guest(Reactor& reactor) noexcept : reactor_(reactor) {}
    ~Guest() override {
        Visit* const visit = answer_.visit();
        if (visit == nullptr) return;  // it has not begun
        visit->guest_ = nullptr;
        visit->destroy_task();  // and then the answer is sent
    }

    void begin(Answer& answer, ReadyList& ready) {
        link_.continuation = Continuation(answer.visit()->arrive(*this));
        answer_ = std::move(answer);
        answer_.visit()->guest_ = this;
        ready.push(link_);
    }

private:
    Reactor& reactor() const override { return reactor_; }
    StopState& stop_state() override { return stop_; }
    void finished() override {
        const std::unique_ptr<Guest> self(this);
        Visit& visit = *answer_.visit();
        visit.exception = std::exchange(exception, nullptr);
        if (visit.exception) return;
        try {
            visit.keep_result();
            visit.done = true;
        } catch (...) {
            visit.exception = std::current_exception();
        }
    }

    Reactor& reactor_;
    Answer answer_;
    Link link_;
    StopState stop_;
};

void Visit::begin(Root& root, Continuation continuation, Reactor& there, const std::shared_ptr<Visit>& self) {
    PreparedPost cancel([self] { delete self->guest_; });
    PreparedPost go([&there, answer = Answer(self)]() mutable {
        Visit& visit = *answer.visit();
        try {
            ReadyList& ready = ReadyList::of(there);
            auto guest = std::make_unique<Guest>(there);
            guest->begin(answer, ready);
            ready.own(std::move(guest));
        } catch (...) {
            visit.exception = std::current_exception();
        }
    });
    cancel_ = std::move(cancel);
    continuation_ = continuation;
    there_ = &there;
    here_ = &root.reactor();
    ++Internals(*here_).awaited();
    there.post(std::move(go));  // refused, it is destroyed: that answers as well
}

// On the awaiting side's thread.
void Visit::answered() {
    if (!continuation_) return;
    cancel_ = {};
    --Internals(*here_).awaited();
    resume(std::exchange(continuation_, Continuation()));
}

void Visit::leave() noexcept {
    if (!std::exchange(continuation_, Continuation())) return;
    {
        const std::lock_guard lock(mutex_);
        --Internals(*std::exchange(here_, nullptr)).awaited();
    }
    there_->post(std::move(cancel_));
}

}  // namespace reactor::coroutine_detail
