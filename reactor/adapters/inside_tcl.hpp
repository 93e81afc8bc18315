// A reactor inside Tcl's event loop, and so inside Tk.
#pragma once

#include <reactor/adapters/inner_loop.hpp>

#include <tcl.h>

#include <chrono>

namespace reactor::adapters {

/// Runs a reactor in the event loop of this thread's notifier until it is destroyed. Thread: the one that runs
/// Tcl_DoOneEvent; it is the reactor's thread. Errors: an exception must not pass through Tcl, which is C: set
/// Reactor::on_exception. Lifetime: must go before the reactor; a call of the reactor's may destroy it.
/// Source: Tcl_CreateEventSource, Tcl_CreateFileHandler in Tcl's manual (Notifier).
class [[nodiscard]] TclSource {
public:
    [[nodiscard]] explicit TclSource(Reactor& inner) : inner_(inner) {
        Tcl_CreateEventSource(&TclSource::setup, &TclSource::check, this);
        watch();
    }
    ~TclSource() {
        if (descriptor_ >= 0) Tcl_DeleteFileHandler(descriptor_);
        Tcl_DeleteEventSource(&TclSource::setup, &TclSource::check, this);
        Tcl_DeleteEvents(
            [](Tcl_Event* event, ClientData self) { return int(event->proc == &TclSource::due && of(event) == self); },
            this);
    }
    TclSource(const TclSource&) = delete;
    TclSource& operator=(const TclSource&) = delete;

private:
    struct Event {
        Tcl_Event head;
        TclSource* source;
    };
    static TclSource* of(Tcl_Event* event) { return reinterpret_cast<Event*>(event)->source; }

    void watch() {
        if (descriptor_ == inner_.descriptor()) return;
        if (descriptor_ >= 0) Tcl_DeleteFileHandler(descriptor_);
        descriptor_ = inner_.descriptor();
        if (descriptor_ >= 0)
            Tcl_CreateFileHandler(
                descriptor_, TCL_READABLE, [](ClientData self, int) { static_cast<TclSource*>(self)->run(); }, this);
    }

    void run() {
        if (inner_.run()) watch();
    }

    static void setup(ClientData self, int) {
        const auto sleep = static_cast<TclSource*>(self)->inner_.longest_sleep();
        if (!sleep) return;
        const auto whole = std::chrono::ceil<std::chrono::microseconds>(*sleep).count();
        Tcl_Time time{};
        time.sec = long(whole / 1'000'000);
        time.usec = long(whole % 1'000'000);
        Tcl_SetMaxBlockTime(&time);
    }

    // Tcl runs events from its queue alone. It frees them itself.
    static void check(ClientData self, int) {
        TclSource* const source = static_cast<TclSource*>(self);
        if (source->queued_ || source->inner_.longest_sleep() != Duration::zero()) return;
        auto* const event = reinterpret_cast<Event*>(Tcl_Alloc(sizeof(Event)));
        event->head = {&TclSource::due, nullptr};
        event->source = source;
        source->queued_ = true;
        Tcl_QueueEvent(&event->head, TCL_QUEUE_TAIL);
    }

    static int due(Tcl_Event* event, int) {
        of(event)->queued_ = false;
        of(event)->run();
        return 1;  // it is done with
    }

    InnerLoop inner_;
    int descriptor_ = -1;
    bool queued_ = false;
};

}  // namespace reactor::adapters
