// A reactor inside GLib's main loop, and so inside GTK: one source that waits for the reactor's descriptor, at most for
// its next time, and then gives it one turn. Handlers must not throw through GLib, which is C: set an exception hook.
#pragma once

#include <reactor/reactor.hpp>

#include <glib-unix.h>
#include <glib.h>

#include <algorithm>
#include <chrono>
#include <climits>

class GlibSource {
public:
    /// Runs the reactor, which must have a descriptor (epoll), in the main context of this thread until destruction.
    explicit GlibSource(reactor::Reactor& reactor, GMainContext* context = nullptr)
        : source_(g_source_new(&functions, sizeof(Source))) {
        self()->reactor = &reactor;
        self()->descriptor = reactor.native_handle();
        self()->tag = g_source_add_unix_fd(source_, self()->descriptor, G_IO_IN);
        g_source_attach(source_, context);
    }
    ~GlibSource() {
        g_source_destroy(source_);
        g_source_unref(source_);
    }
    GlibSource(const GlibSource&) = delete;
    GlibSource& operator=(const GlibSource&) = delete;

private:
    struct Source {
        GSource source;
        reactor::Reactor* reactor;
        int descriptor;
        gpointer tag;
    };

    Source* self() const { return reinterpret_cast<Source*>(source_); }

    // How long GLib may wait, in its milliseconds: rounded up, because a timer is never early.
    static gboolean prepare(GSource* source, gint* timeout) {
        const auto next = reinterpret_cast<Source*>(source)->reactor->next_timeout();
        *timeout = -1;
        if (!next) return FALSE;
        *timeout = int(std::min<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(*next).count(), INT_MAX));
        return *timeout == 0;
    }

    static gboolean check(GSource* source) {
        Source* self = reinterpret_cast<Source*>(source);
        return g_source_query_unix_fd(source, self->tag) != 0 ||
               self->reactor->next_timeout() == reactor::Duration::zero();
    }

    static gboolean dispatch(GSource* source, GSourceFunc, gpointer) {
        Source* self = reinterpret_cast<Source*>(source);
        self->reactor->run_once(reactor::Duration::zero());
        if (self->descriptor != self->reactor->native_handle()) {  // it changes where a backend had to be left
            g_source_remove_unix_fd(source, self->tag);
            self->descriptor = self->reactor->native_handle();
            self->tag = g_source_add_unix_fd(source, self->descriptor, G_IO_IN);
        }
        return G_SOURCE_CONTINUE;
    }

    static inline GSourceFuncs functions{prepare, check, dispatch, nullptr, nullptr, nullptr};

    GSource* source_;
};
