// Against a real dbus-daemon, one for each test, with a configuration and a socket in a folder of the test's own.
#include "driven.hpp"

#include <reactor/adapters/dbus.hpp>
#include "../../support/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <reactor/stream/process.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

// The daemon prints its address when it listens.
struct Address final : Protocol {
    explicit Address(std::string& the_text) : text(the_text) {}
    std::size_t received(Bytes input) override {
        text += text_of(input);
        return input.size();
    }
    std::string& text;
};

struct Bus {
    explicit Bus(Reactor& reactor) {
        std::ofstream(folder / "configuration")
            << "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
               "  \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
               "<busconfig><type>session</type><listen>unix:path="
            << folder / "bus"
            << "</listen><auth>EXTERNAL</auth><policy context=\"default\">"
               "<allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>\n";
        ProcessOptions options;
        options.output = ProcessOptions::Stream::pipe;
        options.protocol = std::make_unique<Address>(address);
        options.error = ProcessOptions::Stream::null;  // as root it complains of limits that it cannot raise
        daemon.emplace(reactor,
                       std::vector<std::string>{"dbus-daemon", "--nofork", "--nopidfile", "--print-address=1",
                                                "--config-file=" + (folder / "configuration")},
                       std::move(options), [this](ExitStatus) { ended = true; });
        run_until(reactor, [this] { return address.ends_with('\n') || ended; });
        REQUIRE_MESSAGE(!ended, "dbus-daemon does not start");
        address.pop_back();
    }

    TemporaryFolder folder;
    std::string address;
    bool ended = false;
    std::optional<Process> daemon;  // killed when this ends
};

struct Freed {
    void operator()(DBusMessage* message) const { dbus_message_unref(message); }
    void operator()(DBusConnection* connection) const {
        dbus_connection_close(connection);
        dbus_connection_unref(connection);
    }
};
using Message = std::unique_ptr<DBusMessage, Freed>;

// A client of the bus: it counts the signals named "tick", answers the method "double" with twice the text, and leaves
// every other one without an answer.
struct Peer {
    Peer(Reactor& the_reactor, const std::string& address) : reactor(the_reactor) {
        connection.reset(dbus_connection_open_private(address.c_str(), nullptr));
        REQUIRE(connection != nullptr);
        driver.emplace(reactor, connection.get());
        REQUIRE(dbus_connection_add_filter(connection.get(), &Peer::hear, this, nullptr));
        name = text(call("org.freedesktop.DBus", "Hello"));  // as dbus_bus_register does, which would block
        REQUIRE(!name.empty());
    }

    static Message method(const std::string& to, const char* what) {
        return Message(dbus_message_new_method_call(to.c_str(), "/", to.starts_with(':') ? "a.b" : to.c_str(), what));
    }
    static std::string text(const Message& message) {
        const char* result = nullptr;
        if (!dbus_message_get_args(message.get(), nullptr, DBUS_TYPE_STRING, &result, DBUS_TYPE_INVALID)) return "";
        return result;
    }
    static std::string error(const Message& message) {
        const char* name = dbus_message_get_error_name(message.get());
        return name == nullptr ? "" : name;
    }

    struct Call {
        DBusPendingCall* pending = nullptr;
        Message reply;
    };
    void begin(Call& call, const Message& message, int milliseconds) {
        REQUIRE(dbus_connection_send_with_reply(connection.get(), message.get(), &call.pending, milliseconds));
        REQUIRE(call.pending != nullptr);
        const auto ended = [](DBusPendingCall* pending, void* self) {
            static_cast<Call*>(self)->reply.reset(dbus_pending_call_steal_reply(pending));
        };
        REQUIRE(dbus_pending_call_set_notify(call.pending, ended, &call, nullptr));
    }
    Message finish(Call& call) {
        run_until(reactor, [&] { return call.reply != nullptr; });
        dbus_pending_call_unref(call.pending);
        return std::move(call.reply);
    }
    Message call(const std::string& to, const char* what, const char* argument = nullptr, int milliseconds = 30'000) {
        const Message message = method(to, what);
        if (argument != nullptr)
            REQUIRE(dbus_message_append_args(message.get(), DBUS_TYPE_STRING, &argument, DBUS_TYPE_INVALID));
        Call pending;
        begin(pending, message, milliseconds);
        return finish(pending);
    }

    static DBusHandlerResult hear(DBusConnection* connection, DBusMessage* message, void* self) {
        Peer& peer = *static_cast<Peer*>(self);
        if (dbus_message_is_signal(message, "a.b", "tick")) ++peer.ticks;
        if (dbus_message_is_error(message, DBUS_ERROR_NO_REPLY)) ++peer.unanswered;
        if (dbus_message_is_signal(message, DBUS_INTERFACE_LOCAL, "Disconnected")) {
            peer.disconnected = true;
            if (peer.goes_when_disconnected) peer.driver.reset();
        }
        if (dbus_message_get_type(message) != DBUS_MESSAGE_TYPE_METHOD_CALL) return DBUS_HANDLER_RESULT_NOT_YET_HANDLED;
        const char* word = nullptr;
        if (dbus_message_is_method_call(message, "a.b", "double") &&
            dbus_message_get_args(message, nullptr, DBUS_TYPE_STRING, &word, DBUS_TYPE_INVALID)) {
            const std::string twice = std::string(word) + word;
            const char* answer = twice.c_str();
            const Message reply(dbus_message_new_method_return(message));
            dbus_message_append_args(reply.get(), DBUS_TYPE_STRING, &answer, DBUS_TYPE_INVALID);
            dbus_connection_send(connection, reply.get(), nullptr);
        }
        return DBUS_HANDLER_RESULT_HANDLED;
    }

    Reactor& reactor;
    std::unique_ptr<DBusConnection, Freed> connection;
    std::optional<DBusDriver> driver;  // goes before the connection
    std::string name;
    int ticks = 0, unanswered = 0;
    bool disconnected = false, goes_when_disconnected = false;
};

}  // namespace

TEST_CASE("D-Bus: the bus itself answers a call") {
    Reactor reactor;
    Bus bus(reactor);
    Peer peer(reactor, bus.address);
    CHECK(peer.name.starts_with(":1."));
    CHECK(!Peer::text(peer.call("org.freedesktop.DBus", "GetId")).empty());
    CHECK(Peer::error(peer.call("org.freedesktop.DBus", "NoSuchThing")) == DBUS_ERROR_UNKNOWN_METHOD);
}

TEST_CASE("D-Bus: one peer calls another, with more than the sockets hold") {
    Reactor reactor;
    Bus bus(reactor);
    Peer asker(reactor, bus.address), answerer(reactor, bus.address);
    CHECK(Peer::text(asker.call(answerer.name, "double", "ab")) == "abab");
    const std::string large(3'000'000, 'x');
    CHECK(Peer::text(asker.call(answerer.name, "double", large.c_str())) == large + large);
}

TEST_CASE("D-Bus: a hundred signals reach who asked for them, in one turn or in many") {
    Reactor reactor;
    Bus bus(reactor);
    Peer sender(reactor, bus.address), listener(reactor, bus.address), other(reactor, bus.address);
    CHECK(Peer::error(listener.call("org.freedesktop.DBus", "AddMatch", "type='signal',interface='a.b'")).empty());
    for (int i = 0; i < 100; ++i) {
        const Message tick(dbus_message_new_signal("/", "a.b", "tick"));
        REQUIRE(dbus_connection_send(sender.connection.get(), tick.get(), nullptr));
    }
    run_until(reactor, [&] { return listener.ticks == 100; });
    CHECK(other.ticks == 0);
}

TEST_CASE("D-Bus: a call that nobody answers ends by its time limit, and the next ones are answered") {
    Reactor reactor;
    Bus bus(reactor);
    Peer asker(reactor, bus.address), answerer(reactor, bus.address);
    CHECK(Peer::error(asker.call(answerer.name, "say_nothing", nullptr, 20)) == DBUS_ERROR_NO_REPLY);
    CHECK(Peer::text(asker.call(answerer.name, "double", "a")) == "aa");
    CHECK_FALSE(reactor.next_timeout().has_value());  // no timer is left over
}

TEST_CASE("D-Bus: when the daemon is killed all hear of it, and the loop is left in peace") {
    Reactor reactor;
    Bus bus(reactor);
    Peer asker(reactor, bus.address), answerer(reactor, bus.address);
    answerer.goes_when_disconnected = true;  // its driver is destroyed by its own call
    Peer::Call call;
    asker.begin(call, Peer::method(answerer.name, "say_nothing"), 30'000);
    REQUIRE(bus.daemon->kill(SIGKILL));
    run_until(reactor, [&] { return asker.disconnected && answerer.disconnected && bus.ended; });
    CHECK(asker.unanswered == 1);  // the call is no longer pending by then: its error is a filter's to hear
    dbus_pending_call_unref(call.pending);
    asker.driver.reset();
    CHECK(reactor.run_once(Duration::zero()) == 0);
    CHECK_FALSE(reactor.next_timeout().has_value());
}

TEST_CASE("D-Bus: a call costs one iteration or two, and none is spent on its queue") {
    Reactor reactor;
    Bus bus(reactor);
    Peer peer(reactor, bus.address);
    constexpr int calls = 100;
    const Cost cost = cost_of(reactor, "libdbus: a call of a method of the bus", calls, [&] {
        for (int i = 0; i < calls; ++i) peer.call("org.freedesktop.DBus", "GetId");
    });
    CHECK(cost.iterations <= (nested() ? 4 : 2.5));
    CHECK(cost.timers == 0);
}
