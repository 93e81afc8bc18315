// Internals: what the library's other rooms need of a loop beyond its interface. A Workspace is the memory that a room
// keeps with a loop, for all its objects there.
#pragma once

#include <reactor/detail/timer_queue.hpp>
#include <reactor/event_handler.hpp>
#include <reactor/observing.hpp>
#include <reactor/reactor.hpp>
#include <reactor/registration.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace reactor {

class REACTOR_EXPORT Workspace {
public:
    virtual ~Workspace() = default;
    virtual void iteration_ends() {}
    std::uint64_t connections = 0;  // for Counters
    std::uint64_t bytes_received = 0;
    std::uint64_t bytes_sent = 0;
};

class Internals {
public:
    explicit Internals(Reactor& reactor) noexcept : reactor_(reactor) {}

    TimerQueue& timers() const noexcept { return reactor_.timers_; }

    /// As Registration::reset and Reactor::release. Nothing happens to an empty view.
    void retire(RegistrationView registration) const noexcept { reactor_.retire(registration); }
    std::unique_ptr<OwnedHandler> release(RegistrationView registration) const noexcept {
        return reactor_.release(registration);
    }

    /// Calls `visit` with every handler that the reactor owns. It may retire any of them.
    template <class Visit>
    void for_each_owned(Visit visit) const {
        reactor_.visit_owned([](void* with, OwnedHandler& handler) { (*static_cast<Visit*>(with))(handler); }, &visit);
    }

    /// For Reactor::on_notice: `text()` is called only if there is a hook.
    template <class Text>
    void notice(Notice what, Text&& text) const noexcept {
        if (reactor_.on_notice_ == nullptr) return;
        try {
            (*reactor_.on_notice_)(what, text());
        } catch (...) {  // a log that fails must not end what it reports on
        }
    }

    /// Of the connections, of the sockets of datagrams, of the coroutines, and of TLS; null before the first.
    std::unique_ptr<Workspace>& streams() const noexcept { return reactor_.workspace_; }
    std::unique_ptr<Workspace>& datagrams() const noexcept { return reactor_.datagram_workspace_; }
    std::unique_ptr<Workspace>& coroutines() const noexcept { return reactor_.coroutine_workspace_; }
    std::unique_ptr<Workspace>& tls() const noexcept { return reactor_.tls_workspace_; }
    /// Has `iteration_ends` called at the end of the iteration that is under way: for streams before handlers that
    /// ended are retired, for coroutines behind posted work. If something waits for it, the iteration does not sleep.
    void call_streams_at_end() const noexcept { reactor_.workspace_waits_ = true; }
    void call_coroutines_at_end() const noexcept { reactor_.coroutines_wait_ = true; }
    /// The engine that moves the bytes of connections; null where readiness does.
    Completions* completions() const noexcept;
    bool in_iteration() const noexcept { return reactor_.running_; }

    /// How many connections have left another loop, or are about to, and have not arrived at this one. From any thread.
    std::atomic<std::size_t>& arriving() const noexcept { return reactor_.arriving_; }
    /// How many answers other threads owe this loop, which posts bring. Thread: the loop's.
    std::size_t& awaited() const noexcept { return reactor_.awaited_; }

private:
    Reactor& reactor_;
};

}  // namespace reactor
