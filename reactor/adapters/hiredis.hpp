// hiredis driven by a reactor: attached once to an asynchronous context, which owns the adapter from then on.
#pragma once

#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <hiredis/async.h>

#include <chrono>
#include <stdexcept>

namespace reactor::adapters {

/// The events of one context, which frees the adapter when it ends. Thread: the loop's. Errors: attach throws
/// std::logic_error if the context has a loop, and the errors of Reactor::watch; a connection's error arrives in the
/// callbacks of hiredis, which must not throw. Lifetime: the context must end before the reactor: redisAsyncFree.
/// Source: hiredis/async.h.
class HiredisAdapter final : public EventHandler {
public:
    static void attach(Reactor& reactor, redisAsyncContext& context) {
        if (context.ev.data != nullptr) throw std::logic_error("HiredisAdapter: the context has a loop already");
        context.ev.data = new HiredisAdapter(reactor, context);
        context.ev.addRead = [](void* self) { of(self).want(Interest::readable); };
        context.ev.delRead = [](void* self) { of(self).do_not_want(Interest::readable); };
        context.ev.addWrite = [](void* self) { of(self).want(Interest::writable); };
        context.ev.delWrite = [](void* self) { of(self).do_not_want(Interest::writable); };
#if HIREDIS_MAJOR >= 1  // earlier versions have no timeouts
        context.ev.scheduleTimer = [](void* self, timeval time) {
            of(self).timer_.start(std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec));
        };
#endif
        context.ev.cleanup = [](void* self) { delete &of(self); };
    }

private:
    HiredisAdapter(Reactor& reactor, redisAsyncContext& context)
        : context_(context),
#if HIREDIS_MAJOR >= 1
          timer_(reactor, [this] { redisAsyncHandleTimeout(&context_); }),
#endif
          registration_(reactor.watch(context.c.fd, Interest::none, *this)) {
    }
    static HiredisAdapter& of(void* self) {
        return *static_cast<HiredisAdapter*>(self);
    }

    // hiredis wants to write for each command, and no longer when it is written. There is nearly always room: so a
    // command given in a callback is written in the same iteration, without a call to the kernel about it. Without room
    // the interest stays, and the kernel gets it before the next wait.
    void want(Interest interest) {
        if (any(registration_.interest(), interest)) return;
        registration_.set_interest(registration_.interest() | interest);
        if (interest == Interest::writable) registration_.trigger(interest);
    }
    void do_not_want(Interest interest) {
        registration_.set_interest(registration_.interest() & ~interest);
    }

    // Either may free the context, and with it this object.
    void readable() override {
        redisAsyncHandleRead(&context_);
    }
    void writable() override {
        redisAsyncHandleWrite(&context_);
    }

    redisAsyncContext& context_;
#if HIREDIS_MAJOR >= 1
    Timer timer_;
#endif
    Registration registration_;
};

}  // namespace reactor::adapters
