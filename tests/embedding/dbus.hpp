// A libdbus connection driven by a reactor: calls, replies, signals and time limits, all on the loop's thread. libdbus
// asks for descriptors to be watched and for timers, and leaves messages that it has read in a queue. The queue
// is dispatched before each wait.
#pragma once

#include <reactor/detail/lifetime.hpp>
#include <reactor/hook.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <dbus/dbus.h>

#include <algorithm>
#include <chrono>
#include <new>

class DBusDriver {
public:
    /// The connection belongs to the caller, which opens it privately and closes it after this object's end.
    /// Filters and notifications are called from the loop and must not throw: libdbus is C. They may destroy this
    /// object. When the bus is gone libdbus notifies no pending call: a filter gets the errors, then "Disconnected".
    DBusDriver(reactor::Reactor& reactor, DBusConnection* connection) : reactor_(reactor), connection_(connection) {
        dbus_connection_set_exit_on_disconnect(connection_, FALSE);
        if (!dbus_connection_set_watch_functions(connection_, &add<Watched, DBusWatch>, &remove<Watched, DBusWatch>,
                                                 &toggle<Watched, DBusWatch>, this, nullptr) ||
            !dbus_connection_set_timeout_functions(connection_, &add<Timed, DBusTimeout>, &remove<Timed, DBusTimeout>,
                                                   &toggle<Timed, DBusTimeout>, this, nullptr)) {
            let_go();
            throw std::bad_alloc();
        }
    }
    ~DBusDriver() { let_go(); }
    DBusDriver(const DBusDriver&) = delete;
    DBusDriver& operator=(const DBusDriver&) = delete;

private:
    // libdbus has one watch for reading and another for writing on the same descriptor; so a loop must take several.
    struct Watched final : reactor::EventHandler {
        Watched(DBusDriver& driver, DBusWatch* the_watch)
            : watch(the_watch),
              registration(driver.reactor_.watch(dbus_watch_get_unix_fd(watch), reactor::Interest::none, *this)) {
            update();
        }
        void update() {
            const unsigned flags = dbus_watch_get_enabled(watch) ? dbus_watch_get_flags(watch) : 0;
            reactor::Interest interest = reactor::Interest::none;
            if ((flags & DBUS_WATCH_READABLE) != 0) interest |= reactor::Interest::readable;
            if ((flags & DBUS_WATCH_WRITABLE) != 0) interest |= reactor::Interest::writable;
            registration.set_interest(interest);
        }
        // libdbus may destroy this object in the call, so that is the last thing done. Without memory it leaves
        // the data where it is, and is called again.
        void readable() override { dbus_watch_handle(watch, DBUS_WATCH_READABLE); }
        void writable() override { dbus_watch_handle(watch, DBUS_WATCH_WRITABLE); }
        void lost(std::error_code) override { dbus_watch_handle(watch, DBUS_WATCH_ERROR); }

        DBusWatch* watch;
        reactor::Registration registration;
    };

    // It comes again and again until libdbus removes it.
    struct Timed {
        Timed(DBusDriver& driver, DBusTimeout* the_timeout)
            : timeout(the_timeout), timer(driver.reactor_, [this] { dbus_timeout_handle(timeout); }) {
            update();
        }
        void update() {
            timer.cancel();
            if (dbus_timeout_get_enabled(timeout))
                timer.start_periodic(std::chrono::milliseconds(std::max(dbus_timeout_get_interval(timeout), 1)));
        }

        DBusTimeout* timeout;
        reactor::Timer timer;
    };

    // The object of a DBusWatch or a DBusTimeout is attached to it as its data.
    static void set_data(DBusWatch* of, void* data) { dbus_watch_set_data(of, data, nullptr); }
    static void set_data(DBusTimeout* of, void* data) { dbus_timeout_set_data(of, data, nullptr); }
    static void* data(DBusWatch* of) { return dbus_watch_get_data(of); }
    static void* data(DBusTimeout* of) { return dbus_timeout_get_data(of); }

    template <class Ours, class Theirs>
    static dbus_bool_t add(Theirs* theirs, void* self) noexcept {
        try {
            set_data(theirs, new Ours(*static_cast<DBusDriver*>(self), theirs));
            return TRUE;
        } catch (...) {
            return FALSE;
        }
    }
    template <class Ours, class Theirs>
    static void remove(Theirs* theirs, void*) noexcept {
        delete static_cast<Ours*>(data(theirs));
        set_data(theirs, nullptr);
    }
    template <class Ours, class Theirs>
    static void toggle(Theirs* theirs, void*) {
        static_cast<Ours*>(data(theirs))->update();
    }

    // Bounded by the messages read since the last wait.
    void dispatch() {
        DBusConnection* connection = dbus_connection_ref(connection_);
        const reactor::Lifetime::Watch watch(lifetime_);
        while (!watch.over() && dbus_connection_get_dispatch_status(connection) == DBUS_DISPATCH_DATA_REMAINS)
            dbus_connection_dispatch(connection);
        dbus_connection_unref(connection);
    }

    void let_go() noexcept {  // has all that was added removed
        dbus_connection_set_watch_functions(connection_, nullptr, nullptr, nullptr, nullptr, nullptr);
        dbus_connection_set_timeout_functions(connection_, nullptr, nullptr, nullptr, nullptr, nullptr);
    }

    reactor::Reactor& reactor_;
    DBusConnection* connection_;
    reactor::Lifetime lifetime_;
    reactor::Hook before_wait_{reactor_, reactor::Hook::When::before_wait, [this] { dispatch(); }};
};
