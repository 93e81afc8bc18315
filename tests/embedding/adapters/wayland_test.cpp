// libwayland's own server in the same loop, and a client of it. The server's loop is an epoll set, which the loop
// watches.
#include "../../support/temporary_folder.hpp"
#include "driven.hpp"

#include <reactor/adapters/wayland.hpp>

#include <doctest/doctest.h>
#include <wayland-client-protocol.h>
#include <wayland-server.h>

#include <cerrno>
#include <optional>
#include <string>

using namespace reactor;
using namespace reactor::adapters;

namespace {

// A compositor that has nothing but its registry.
struct Server final : EventHandler {
    explicit Server(Reactor& reactor) : display(wl_display_create()) {
        REQUIRE(wl_display_add_socket(display, (folder / "socket").c_str()) == 0);
        registration =
            reactor.watch(wl_event_loop_get_fd(wl_display_get_event_loop(display)), Interest::readable, *this);
    }
    ~Server() { end(); }
    void end() {
        registration.reset();
        if (display != nullptr) wl_display_destroy_clients(display), wl_display_destroy(display);
        display = nullptr;
    }
    void readable() override {
        wl_event_loop_dispatch(wl_display_get_event_loop(display), 0);
        wl_display_flush_clients(display);
    }
    TemporaryFolder folder;
    wl_display* display;
    Registration registration;
};

struct Client {
    Client(Reactor& the_reactor, Server& server)
        : reactor(the_reactor), display(wl_display_connect((server.folder / "socket").c_str())) {
        REQUIRE(display != nullptr);
        driver.emplace(reactor, display, [this](int is) { error = is; });
    }
    ~Client() {
        driver.reset();
        wl_display_disconnect(display);
    }
    // Asks the server to answer when it has done all before.
    void synchronize() {
        static constexpr wl_callback_listener listener{[](void* self, wl_callback* callback, std::uint32_t) {
            ++static_cast<Client*>(self)->answers;
            wl_callback_destroy(callback);
        }};
        wl_callback_add_listener(wl_display_sync(driver->display()), &listener, this);
    }
    Reactor& reactor;
    wl_display* display;
    std::optional<WaylandDriver> driver;
    std::optional<int> error;
    int answers = 0;
};

}  // namespace

TEST_CASE("Wayland: requests leave at the end of an iteration, and each is answered") {
    Reactor reactor;
    Server server(reactor);
    Client client(reactor, server);
    for (int i = 0; i < 1000; ++i) client.synchronize();
    run_until(reactor, [&] { return client.answers == 1000; });
    CHECK(reactor.counters().turns < 200);
}

TEST_CASE("Wayland: a server that goes ends the client once") {
    Reactor reactor;
    Server server(reactor);
    Client client(reactor, server);
    client.synchronize();
    run_until(reactor, [&] { return client.answers == 1; });
    server.end();
    run_until(reactor, [&] { return client.error.has_value(); });
    CHECK(*client.error != 0);
    CHECK(reactor.run_once(Duration::zero()) == 0);
}

TEST_CASE("Wayland: an error that a read of the program's own has found ends the client, with an event in the queue") {
    Reactor reactor;
    Server server(reactor);
    Client client(reactor, server);
    client.synchronize();
    wl_registry* const registry = wl_display_get_registry(client.display);
    wl_output* const nothing =
        static_cast<wl_output*>(wl_registry_bind(registry, 42, &wl_output_interface, 1));  // there is no such global
    wl_display_flush(client.display);
    for (int i = 0; i < 2; ++i) server.readable();  // the client, then its requests
    REQUIRE(wl_display_prepare_read(client.display) == 0);
    REQUIRE(wl_display_read_events(client.display) == 0);
    wl_event_queue* const other = wl_display_create_queue(client.display);
    CHECK(wl_display_dispatch_queue_pending(client.display, other) == -1);  // the error alone
    CHECK(client.answers == 0);
    run_until(reactor, [&] { return client.error.has_value(); });
    CHECK(*client.error == EPROTO);
    wl_event_queue_destroy(other);
    wl_output_destroy(nothing);
    wl_registry_destroy(registry);
}

TEST_CASE("Wayland: the cost of a round trip") {
    Reactor reactor;
    Server server(reactor);
    Client client(reactor, server);
    const Cost cost = cost_of(reactor, "Wayland: a round trip, client and server in the loop", 100, [&] {
        for (int i = 1; i <= 100; ++i) {
            client.synchronize();
            run_until(reactor, [&] { return client.answers == i; });
        }
    });
    CHECK(cost.iterations <= 4);
    CHECK(cost.changes <= 0.1);
}
