// The view into a loop: its counters, and its hooks for slow calls, notices and exceptions.
#include <reactor/detail/internals.hpp>
#include <reactor/observing.hpp>
#include <reactor/reactor.hpp>
#include <reactor/registration_table_impl.hpp>

#include <memory>
#include <utility>

namespace reactor {

Counters Reactor::counters() const noexcept {
    Counters all = counters_;
    all.changes = table_->changes_handed_over();
    for (const Workspace* const space : {workspace_.get(), datagram_workspace_.get()}) {
        if (space == nullptr) continue;
        all.connections += space->connections;
        all.bytes_received += space->bytes_received;
        all.bytes_sent += space->bytes_sent;
    }
    return all;
}

void Reactor::report(SlowCall call, TimePoint start) noexcept {
    call.duration = time_between(start, now());
    if (on_slow_call_ != nullptr && call.duration >= slow_threshold_) (*on_slow_call_)(call);
}

void Reactor::on_slow_call(Duration threshold, MoveOnlyFunction<void(const SlowCall&)> hook) {
    on_slow_call_ = hook ? std::make_unique<Callback<void(const SlowCall&)>>(std::move(hook)) : nullptr;
    slow_threshold_ = threshold;
}

void Reactor::on_notice(MoveOnlyFunction<void(Notice, std::string_view)> hook) {
    on_notice_ = hook ? std::make_unique<Callback<void(Notice, std::string_view)>>(std::move(hook)) : nullptr;
}

void Reactor::on_exception(MoveOnlyFunction<void(std::exception_ptr)> hook) {
    on_exception_ = hook ? std::make_unique<Callback<void(std::exception_ptr)>>(std::move(hook)) : nullptr;
}

}  // namespace reactor
