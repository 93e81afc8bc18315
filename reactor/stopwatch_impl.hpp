// Measures one call, if Reactor::on_slow_call has a hook.
#pragma once

#include <reactor/observing.hpp>
#include <reactor/reactor.hpp>

namespace reactor {

class Reactor::Stopwatch {
public:
    Stopwatch(Reactor& reactor, SlowCall::Kind kind, const void* who, int descriptor = -1) noexcept
        : reactor_(reactor.on_slow_call_ == nullptr ? nullptr : &reactor), call_{kind, descriptor, who, {}} {
        if (reactor_ != nullptr) [[unlikely]]
            start_ = reactor.now();
    }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;
    ~Stopwatch() {
        if (reactor_ != nullptr) [[unlikely]]
            reactor_->report(call_, start_);
    }

private:
    Reactor* reactor_;
    SlowCall call_;
    TimePoint start_{};
};

}  // namespace reactor
