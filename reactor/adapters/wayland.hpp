// A Wayland client's display driven by a reactor: events are read and dispatched when they arrive, requests are flushed
// once at the end of an iteration.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>

#include <wayland-client-core.h>

#include <cerrno>
#include <utility>

namespace reactor::adapters {

/// Drives a display, which belongs to the caller. Listeners come from the loop, from inside libwayland: they must not
/// throw. Thread: the loop's; other threads may read other queues of the display. Errors: `lost` is called once, with
/// the errno of the display, when it is dead. Lifetime: must go before the reactor and before wl_display_disconnect; a
/// listener must not destroy it, `lost` may. Source: wl_display_prepare_read in libwayland's reference.
class [[nodiscard]] WaylandDriver {
public:
    [[nodiscard]] WaylandDriver(Reactor& reactor, wl_display* display, MoveOnlyFunction<void(int error)> lost)
        : reactor_(reactor),
          display_(display),
          lost_(std::move(lost)),
          socket_(reactor, [this](Interest ready) { ready == Interest::writable ? flush() : read(); }) {
        socket_.watch(wl_display_get_fd(display), Interest::readable);
        this->display();
    }

    /// To be called for each request: they are flushed at the end of the iteration. A round trip that blocks leaves
    /// events in the queue, which are dispatched then, too.
    wl_display* display() {
        if (!flush_.waiting()) flush_ = reactor_.defer([this] { flush(); });
        return display_;
    }

private:
    void read() {
        while (wl_display_prepare_read(display_) != 0) {
            if (wl_display_dispatch_pending(display_) < 0) return end();  // a dead display keeps its queue
        }
        if (wl_display_read_events(display_) >= 0) return flush();
        end();
    }

    void flush() {
        if (wl_display_dispatch_pending(display_) < 0) return end();
        const bool all = wl_display_flush(display_) >= 0;
        if (!all && errno != EAGAIN) return end();
        socket_.set_interest(interest_in(true, !all));
    }

    void end() {
        socket_.reset();
        flush_.cancel();
        if (lost_) std::exchange(lost_, nullptr)(wl_display_get_error(display_));
    }

    Reactor& reactor_;
    wl_display* display_;
    MoveOnlyFunction<void(int)> lost_;
    DescriptorWatch socket_;
    Deferred flush_;
};

}  // namespace reactor::adapters
