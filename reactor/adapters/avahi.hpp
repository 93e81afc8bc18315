// Avahi's client library driven by a reactor: services of the local network are published and found on the loop's
// thread. Avahi asks for descriptors to be watched, and for timeouts at times of the wall clock.
//
//     AvahiDriver driver(reactor);
//     AvahiClient* client = avahi_client_new(driver.poll(), AVAHI_CLIENT_NO_FAIL, changed, &program, &error);
#pragma once

#include <reactor/adapters/source_table.hpp>

#include <avahi-common/watch.h>

#include <memory>

namespace reactor::adapters {

/// The AvahiPoll of a reactor, for any number of clients. Callbacks come from the loop, from inside Avahi: they must
/// not throw, and may free clients and destroy this object. The first one comes from inside avahi_client_new. Thread:
/// the loop's. Errors: the constructor throws std::bad_alloc; later, where there is no memory the program ends.
/// Lifetime: must go before the reactor. Clients may be freed before it or after it, and are called no more in
/// between. Source: avahi-common/watch.h.
class [[nodiscard]] AvahiDriver {
public:
    [[nodiscard]] explicit AvahiDriver(Reactor& reactor) : shared_(std::make_shared<Shared>(reactor)) {}
    ~AvahiDriver() { shared_->sources.end(); }
    AvahiDriver(const AvahiDriver&) = delete;
    AvahiDriver& operator=(const AvahiDriver&) = delete;

    const AvahiPoll* poll() const noexcept { return &shared_->poll; }

private:
    struct Shared;
    using Watch = LibraryObject<AvahiWatch, Shared, AvahiWatchCallback>;
    using Timeout = LibraryObject<AvahiTimeout, Shared, AvahiTimeoutCallback>;

    struct Shared : std::enable_shared_from_this<Shared> {
        explicit Shared(Reactor& reactor) : sources(reactor) {}
        SourceTable sources;
        const AvahiPoll poll{this, add_watch, want, happened, free<Watch>, add_timeout, start, free<Timeout>};
    };

    static AvahiWatch* add_watch(const AvahiPoll* poll, int descriptor, AvahiWatchEvent events, AvahiWatchCallback call,
                                 void* data) noexcept {
        AvahiWatch* const watch = Watch::add(poll->userdata, call, data, descriptor);
        want(watch, events);
        return watch;
    }
    static void want(AvahiWatch* watch, AvahiWatchEvent events) noexcept {
        const auto ready = [it = Watch::of(watch)](Interest is) {
            it->happened = flag_of(is, AVAHI_WATCH_IN, AVAHI_WATCH_OUT, AVAHI_WATCH_ERR);
            it->call(it->theirs(), it->descriptor, AvahiWatchEvent(it->happened), it->data);
        };
        const Interest interest = interest_in((events & AVAHI_WATCH_IN) != 0, (events & AVAHI_WATCH_OUT) != 0);
        Watch::of(watch)->shared->sources.watch(watch, Watch::of(watch)->descriptor, interest, ready);
    }
    static AvahiWatchEvent happened(AvahiWatch* watch) noexcept { return AvahiWatchEvent(Watch::of(watch)->happened); }

    static AvahiTimeout* add_timeout(const AvahiPoll* poll, const timeval* time, AvahiTimeoutCallback call,
                                     void* data) noexcept {
        AvahiTimeout* const timeout = Timeout::add(poll->userdata, call, data);
        start(timeout, time);
        return timeout;
    }
    static void start(AvahiTimeout* timeout, const timeval* time) noexcept {
        const auto due = [it = Timeout::of(timeout)] { it->call(it->theirs(), it->data); };
        Timeout::of(timeout)->shared->sources.at(timeout, time, due);
    }

    template <class Event, class Theirs>
    static void free(Theirs* event) noexcept {
        const std::unique_ptr<Event> last(Event::of(event));
        last->shared->sources.forget(event);
    }

    std::shared_ptr<Shared> shared_;
};

}  // namespace reactor::adapters
