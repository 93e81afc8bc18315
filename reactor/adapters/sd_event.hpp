// sd-event (libsystemd) inside a reactor: D-Bus by sd-bus, units, resolved and other clients of libsystemd run on this
// loop. For the reverse see inside_sd_event.hpp.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>

#include <systemd/sd-event.h>

#include <system_error>

namespace reactor::adapters {

/// Runs an event loop of libsystemd, which belongs to the caller. Its handlers come from this loop; they must not
/// throw. Thread: the loop's. Errors: the constructor throws std::system_error; an error of sd_event ends the running
/// of it, and `state()` is SD_EVENT_FINISHED after sd_event_exit. Lifetime: must go before the reactor; a handler must
/// not destroy it. Source: sd_event_wait(3), sd_event_get_fd(3).
class [[nodiscard]] SdEventDriver {
public:
    [[nodiscard]] SdEventDriver(Reactor& reactor, sd_event* event)
        : reactor_(reactor), event_(sd_event_ref(event)), descriptor_(reactor, [this](Interest) { wait(); }) {
        descriptor_.watch(sd_event_get_fd(event), Interest::readable);
        this->event();
    }
    ~SdEventDriver() { sd_event_unref(event_); }
    SdEventDriver(const SdEventDriver&) = delete;
    SdEventDriver& operator=(const SdEventDriver&) = delete;

    /// To be called for each call of sd-event: a source that is added is only prepared at the end of the iteration.
    sd_event* event() {
        if (!soon_.waiting()) soon_ = reactor_.defer([this] { prepare(); });
        return event_;
    }
    int state() const { return sd_event_get_state(event_); }

private:
    // Arms its timers; it is left armed, and its descriptor becomes readable.
    void prepare() {
        if (state() == SD_EVENT_ARMED) sd_event_wait(event_, 0);  // back to the beginning: a source is new since
        if (state() == SD_EVENT_INITIAL) sd_event_prepare(event_);
        if (state() == SD_EVENT_PENDING) dispatch();
    }

    void wait() {
        if (state() == SD_EVENT_ARMED) sd_event_wait(event_, 0);
        if (state() == SD_EVENT_PENDING) return dispatch();
        event();
    }

    // One source, that of the highest priority. The others come in the next iterations.
    void dispatch() {
        sd_event_dispatch(event_);
        if (state() == SD_EVENT_FINISHED) return descriptor_.reset();
        event();
    }

    Reactor& reactor_;
    sd_event* event_;
    DescriptorWatch descriptor_;
    Deferred soon_;
};

}  // namespace reactor::adapters
