// libev's header for a program that compiles without warnings: its macros cast in the old style, so they are used here
// and nowhere else. It must come before libevent's headers, which have macros by the names of its constants.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wstrict-aliasing"
#include <ev.h>

namespace bench {

constexpr int libev_read = EV_READ, libev_write = EV_WRITE;

inline void prepare(ev_io& watcher, int descriptor, int events, void* data,
                    void (*callback)(struct ev_loop*, ev_io*, int)) {
    ev_io_init(&watcher, callback, descriptor, events);
    watcher.data = data;
}

inline void prepare(ev_timer& timer, double after, void* data, void (*callback)(struct ev_loop*, ev_timer*, int)) {
    ev_timer_init(&timer, callback, after, 0.);
    timer.data = data;
}

inline void prepare(ev_async& async, void* data, void (*callback)(struct ev_loop*, ev_async*, int)) {
    ev_async_init(&async, callback);
    async.data = data;
}

inline void change(ev_io& watcher, int descriptor, int events) {
    ev_io_set(&watcher, descriptor, events);
}
inline void set_after(ev_timer& timer, double after) {
    ev_timer_set(&timer, after, 0.);
}

}  // namespace bench

#pragma GCC diagnostic pop
