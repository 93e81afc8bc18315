// PulseAudio's client library driven by a reactor: its asynchronous interface on the loop's thread. It asks for
// descriptors to be watched, for times of the wall clock, and for calls in every iteration.
//
//     PulseDriver driver(reactor);
//     pa_context* context = pa_context_new(driver.interface(), "program");
#pragma once

#include <reactor/adapters/source_table.hpp>

#include <pulse/mainloop-api.h>

#include <memory>

namespace reactor::adapters {

/// The pa_mainloop_api of a reactor, for any number of contexts. Callbacks come from the loop, from inside PulseAudio:
/// they must not throw, and may destroy this object. Thread: the loop's. Errors: the constructor throws std::bad_alloc;
/// later, where there is no memory the program ends, as in PulseAudio itself. Lifetime: must go before the reactor.
/// Contexts may be released before it or after it, and are called no more in between. `quit` stops the reactor. Source:
/// pulse/mainloop-api.h.
class [[nodiscard]] PulseDriver {
public:
    [[nodiscard]] explicit PulseDriver(Reactor& reactor) : shared_(std::make_shared<Shared>(reactor)) {}
    ~PulseDriver() { shared_->sources.end(); }
    PulseDriver(const PulseDriver&) = delete;
    PulseDriver& operator=(const PulseDriver&) = delete;

    pa_mainloop_api* interface() const noexcept { return &shared_->interface; }

private:
    using Api = pa_mainloop_api;
    struct Shared;
    using Io = LibraryObject<pa_io_event, Shared, pa_io_event_cb_t, pa_io_event_destroy_cb_t>;
    using Time = LibraryObject<pa_time_event, Shared, pa_time_event_cb_t, pa_time_event_destroy_cb_t>;
    using Defer = LibraryObject<pa_defer_event, Shared, pa_defer_event_cb_t, pa_defer_event_destroy_cb_t>;

    struct Shared : std::enable_shared_from_this<Shared> {
        explicit Shared(Reactor& reactor) : sources(reactor) {}
        SourceTable sources;
        Api interface {
            this, add_io, enable_io, free<Io>, on_free<Io>, add_time, restart_time, free<Time>, on_free<Time>,
                add_defer, enable_defer, free<Defer>, on_free<Defer>, quit
        };
    };

    template <class Event, class Theirs, class Destroyed>
    static void on_free(Theirs* event, Destroyed destroyed) noexcept {
        Event::of(event)->destroyed = destroyed;
    }
    template <class Event, class Theirs>
    static void free(Theirs* event) noexcept {
        const std::unique_ptr<Event> last(Event::of(event));
        last->shared->sources.forget(event);
        if (last->destroyed != nullptr) last->destroyed(&last->shared->interface, event, last->data);
    }

    static pa_io_event* add_io(Api* api, int descriptor, pa_io_event_flags_t events, pa_io_event_cb_t call,
                               void* data) noexcept {
        pa_io_event* const event = Io::add(api->userdata, call, data, descriptor);
        enable_io(event, events);
        return event;
    }
    static void enable_io(pa_io_event* event, pa_io_event_flags_t events) noexcept {
        const auto ready = [it = Io::of(event)](Interest is) {
            const auto come = flag_of(is, PA_IO_EVENT_INPUT, PA_IO_EVENT_OUTPUT, PA_IO_EVENT_ERROR);
            it->call(&it->shared->interface, it->theirs(), it->descriptor, come, it->data);
        };
        const Interest interest = interest_in((events & PA_IO_EVENT_INPUT) != 0, (events & PA_IO_EVENT_OUTPUT) != 0);
        Io::of(event)->shared->sources.watch(event, Io::of(event)->descriptor, interest, ready);
    }

    static pa_time_event* add_time(Api* api, const timeval* time, pa_time_event_cb_t call, void* data) noexcept {
        pa_time_event* const event = Time::add(api->userdata, call, data);
        restart_time(event, time);
        return event;
    }
    static void restart_time(pa_time_event* event, const timeval* time) noexcept {
        const auto due = [it = Time::of(event), at = time == nullptr ? timeval{} : *time] {
            it->call(&it->shared->interface, it->theirs(), &at, it->data);
        };
        Time::of(event)->shared->sources.at(event, time, due);
    }

    static pa_defer_event* add_defer(Api* api, pa_defer_event_cb_t call, void* data) noexcept {
        pa_defer_event* const event = Defer::add(api->userdata, call, data);
        enable_defer(event, 1);
        return event;
    }
    static void enable_defer(pa_defer_event* event, int on) noexcept {  // for every iteration, until it is disabled
        SourceTable& sources = Defer::of(event)->shared->sources;
        if (on == 0) return sources.forget(event);
        sources.defer(event, [it = Defer::of(event)] {
            enable_defer(it->theirs(), 1);
            it->call(&it->shared->interface, it->theirs(), it->data);
        });
    }

    static void quit(Api* api, int) noexcept {
        if (Reactor* const reactor = static_cast<Shared*>(api->userdata)->sources.reactor()) reactor->stop();
    }

    std::shared_ptr<Shared> shared_;
};

}  // namespace reactor::adapters
