// hiredis driven by a reactor: attach it to an asynchronous context once, and the context owns it.
#pragma once

#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <hiredis/async.h>

#include <stdexcept>

class HiredisAdapter final : public reactor::EventHandler {
public:
    static void attach(reactor::Reactor& reactor, redisAsyncContext& context) {
        if (context.ev.data != nullptr) throw std::logic_error("the context has a loop already");
        context.ev.data = new HiredisAdapter(reactor, context);
        context.ev.addRead = [](void* self) { of(self).want(reactor::Interest::readable); };
        context.ev.delRead = [](void* self) { of(self).do_not_want(reactor::Interest::readable); };
        context.ev.addWrite = [](void* self) { of(self).want(reactor::Interest::writable); };
        context.ev.delWrite = [](void* self) { of(self).do_not_want(reactor::Interest::writable); };
#if HIREDIS_MAJOR >= 1  // earlier versions have no timeouts
        context.ev.scheduleTimer = [](void* self, timeval time) {
            of(self).timer_.start(std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec));
        };
#endif
        context.ev.cleanup = [](void* self) { delete &of(self); };
    }

private:
    HiredisAdapter(reactor::Reactor& reactor, redisAsyncContext& context)
        : context_(context),
#if HIREDIS_MAJOR >= 1
          timer_(reactor, [this] { redisAsyncHandleTimeout(&context_); }),
#endif
          registration_(reactor.watch(context.c.fd, reactor::Interest::none, *this)) {
    }

    static HiredisAdapter& of(void* self) {
        return *static_cast<HiredisAdapter*>(self);
    }

    // hiredis wants to write for every command and does not want to any more when it is written. Nearly always there is
    // room: so a command given in a callback is written in the same turn, and the kernel is never asked. If there is no
    // room the interest stays, and before the next wait the kernel hears of it.
    void want(reactor::Interest interest) {
        if (any(registration_.interest(), interest)) return;
        registration_.set_interest(registration_.interest() | interest);
        if (interest == reactor::Interest::writable) registration_.trigger(interest);
    }
    void do_not_want(reactor::Interest interest) {
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
    reactor::Timer timer_;
#endif
    reactor::Registration registration_;
};
