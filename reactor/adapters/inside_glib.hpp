// A reactor inside GLib's main loop, and so inside GTK: one source that waits for the reactor's descriptor, at most
// until its next timer, and then runs one iteration.
#pragma once

#include <reactor/adapters/inner_loop.hpp>

#include <glib-unix.h>
#include <glib.h>

namespace reactor::adapters {

/// Runs a reactor in a main context until it is destroyed. Thread: the one that runs the context; it is the reactor's
/// thread. Errors: an exception must not pass through GLib, which is C: set Reactor::on_exception. Lifetime: must go
/// before the reactor; a call of the reactor's may destroy it. A null context is the default one.
/// Source: g_source_new, GSourceFuncs in GLib's reference.
class [[nodiscard]] GlibSource {
public:
    [[nodiscard]] explicit GlibSource(Reactor& inner, GMainContext* context = nullptr)
        : source_(g_source_new(&functions, sizeof(Source))) {
        Source& self = of(source_);
        self.inner = new InnerLoop(inner);
        self.tag = nullptr;
        watch(self);
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
        InnerLoop* inner;
        int descriptor;
        gpointer tag;
    };
    static Source& of(GSource* source) { return *reinterpret_cast<Source*>(source); }

    static void watch(Source& self) {
        if (self.tag != nullptr) g_source_remove_unix_fd(&self.source, self.tag);
        self.descriptor = self.inner->descriptor();
        self.tag = self.descriptor < 0 ? nullptr : g_source_add_unix_fd(&self.source, self.descriptor, G_IO_IN);
    }

    static gboolean prepare(GSource* source, gint* timeout) {
        *timeout = of(source).inner->longest_sleep_milliseconds();
        return *timeout == 0;
    }

    // GLib asks this also when the time that `prepare` gave is over.
    static gboolean check(GSource* source) {
        const Source& self = of(source);
        return (self.tag != nullptr && g_source_query_unix_fd(source, self.tag) != 0) ||
               self.inner->longest_sleep() == Duration::zero();
    }

    static gboolean dispatch(GSource* source, GSourceFunc, gpointer) {
        Source& self = of(source);
        self.inner->run();
        const bool is_another = self.descriptor != self.inner->descriptor();  // an epoll set had to be left
        if (is_another && !g_source_is_destroyed(source)) watch(self);
        return G_SOURCE_CONTINUE;
    }

    static void finalize(GSource* source) { delete of(source).inner; }

    static inline GSourceFuncs functions{prepare, check, dispatch, finalize, nullptr, nullptr};

    GSource* source_;
};

}  // namespace reactor::adapters
