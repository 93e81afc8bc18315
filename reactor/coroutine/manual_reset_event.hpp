// ManualResetEvent: tasks wait until something has happened. It stays so until it is reset.
#pragma once

#include <reactor/coroutine/detail/ready_list.hpp>

namespace reactor {

/// `co_await event.wait()` completes at once while it is set, and otherwise when it is set next: then all that wait go
/// on in this iteration of the loop, in their order, also if it is reset meanwhile. May be set by callbacks. Thread:
/// the loop's. Lifetime: tasks that wait when it is destroyed are never resumed; they end with their owners.
class ManualResetEvent {
public:
    class WaitOperation;

    bool is_set() const noexcept { return set_; }
    void set() noexcept;
    void reset() noexcept { set_ = false; }
    WaitOperation wait() noexcept;

private:
    coroutine_detail::LinkList waiting_;
    coroutine_detail::ReadyList* ready_ = nullptr;  // once one waits
    bool set_ = false;
};

class ManualResetEvent::WaitOperation : public coroutine_detail::Operation<ManualResetEvent::WaitOperation> {
public:
    WaitOperation(WaitOperation&& other) noexcept : event_(other.event_) {}

    bool ready() const noexcept { return event_.set_; }
    void start(coroutine_detail::Root& root, coroutine_detail::Continuation continuation) {
        event_.ready_ = &coroutine_detail::ReadyList::of(root.reactor());
        link_.continuation = continuation;
        event_.waiting_.push_back(link_);
    }
    void result() const noexcept {}

private:
    friend class ManualResetEvent;
    explicit WaitOperation(ManualResetEvent& event) noexcept : event_(event) {}

    ManualResetEvent& event_;
    coroutine_detail::Link link_;
};

inline void ManualResetEvent::set() noexcept {
    set_ = true;
    while (!waiting_.empty()) ready_->push(waiting_.front());
}

inline ManualResetEvent::WaitOperation ManualResetEvent::wait() noexcept {
    return WaitOperation(*this);
}

}  // namespace reactor
