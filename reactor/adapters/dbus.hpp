// A libdbus connection driven by a reactor: calls, replies, signals and time limits on the loop's thread. libdbus asks
// for descriptors to be watched and for timers. It leaves messages in a queue, which is dispatched at the end of the
// iteration.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/timer.hpp>

#include <dbus/dbus.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <unordered_map>

namespace reactor::adapters {

/// Drives a connection, which belongs to the caller: opened privately, and closed after this object's end. Filters and
/// notifications are called from the loop, and may destroy this object. Thread: the loop's. Errors: the constructor
/// throws std::bad_alloc; filters must not throw, because libdbus is C. When the bus closes the connection, libdbus
/// notifies no pending call: a filter gets the errors, then "Disconnected". Lifetime: must go before the reactor.
/// Source: DBusConnection, DBusWatch and DBusTimeout in libdbus's reference.
class [[nodiscard]] DBusDriver {
public:
    [[nodiscard]] DBusDriver(Reactor& reactor, DBusConnection* connection)
        : reactor_(reactor), connection_(connection) {
        dbus_connection_set_exit_on_disconnect(connection_, FALSE);
        dbus_connection_set_dispatch_status_function(connection_, &DBusDriver::status_changed, this, nullptr);
        if (!dbus_connection_set_watch_functions(connection_, added, removed, toggled, this, nullptr) ||
            !dbus_connection_set_timeout_functions(connection_, added, removed, toggled, this, nullptr))
            release(), throw std::bad_alloc();
        status_changed(connection_, dbus_connection_get_dispatch_status(connection_), this);
    }
    ~DBusDriver() { release(); }
    DBusDriver(const DBusDriver&) = delete;
    DBusDriver& operator=(const DBusDriver&) = delete;

private:
    static DBusDriver& of(void* self) { return *static_cast<DBusDriver*>(self); }

    // libdbus has one watch for reading and another for writing, with the same descriptor.
    void update(DBusWatch* watch) {
        const auto ready = [watch](Interest is) {
            dbus_watch_handle(watch, flag_of(is, DBUS_WATCH_READABLE, DBUS_WATCH_WRITABLE, DBUS_WATCH_ERROR));
        };
        const unsigned flags = dbus_watch_get_enabled(watch) ? dbus_watch_get_flags(watch) : 0;
        const Interest interest = interest_in((flags & DBUS_WATCH_READABLE) != 0, (flags & DBUS_WATCH_WRITABLE) != 0);
        watches_.try_emplace(watch, reactor_, ready).first->second.want(dbus_watch_get_unix_fd(watch), interest);
    }

    void update(DBusTimeout* timeout) {  // it is due again and again until libdbus removes it
        const auto due = [timeout] { dbus_timeout_handle(timeout); };
        Timer& timer = timers_.try_emplace(timeout, reactor_, due).first->second;
        timer.cancel();
        if (dbus_timeout_get_enabled(timeout))
            timer.start_periodic(std::chrono::milliseconds(std::max(dbus_timeout_get_interval(timeout), 1)));
    }

    template <class Theirs>
    static dbus_bool_t added(Theirs* theirs, void* self) noexcept try {
        of(self).update(theirs);
        return TRUE;
    } catch (...) {
        return FALSE;
    }
    template <class Theirs>
    static void toggled(Theirs* theirs, void* self) noexcept {
        of(self).update(theirs);
    }
    static void removed(DBusWatch* watch, void* self) noexcept { of(self).watches_.erase(watch); }
    static void removed(DBusTimeout* timeout, void* self) noexcept { of(self).timers_.erase(timeout); }

    // libdbus must not be called back from here.
    static void status_changed(DBusConnection*, DBusDispatchStatus status, void* self) {
        if (status == DBUS_DISPATCH_DATA_REMAINS && !of(self).dispatch_.waiting())
            of(self).dispatch_ = of(self).reactor_.defer([self] { of(self).dispatch(); });
    }

    void dispatch() {  // bounded by the messages that have been read
        DBusConnection* const connection = dbus_connection_ref(connection_);
        const Lifetime::Watch watch(lifetime_);
        while (!watch.over() && dbus_connection_get_dispatch_status(connection) == DBUS_DISPATCH_DATA_REMAINS)
            dbus_connection_dispatch(connection);
        dbus_connection_unref(connection);
    }

    void release() noexcept {  // has all that was added removed
        dbus_connection_set_watch_functions(connection_, nullptr, nullptr, nullptr, nullptr, nullptr);
        dbus_connection_set_timeout_functions(connection_, nullptr, nullptr, nullptr, nullptr, nullptr);
        dbus_connection_set_dispatch_status_function(connection_, nullptr, nullptr, nullptr);
    }

    Reactor& reactor_;
    DBusConnection* connection_;
    std::unordered_map<DBusWatch*, DescriptorWatch> watches_;
    std::unordered_map<DBusTimeout*, Timer> timers_;
    Lifetime lifetime_;
    Deferred dispatch_;
};

}  // namespace reactor::adapters
