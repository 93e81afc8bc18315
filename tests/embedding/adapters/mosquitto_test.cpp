// Against a mosquitto of with_server.py's, on the port in EMBEDDING_BROKER.
#include "driven.hpp"

#include <reactor/adapters/mosquitto.hpp>
#include <reactor/net/socket.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Client {
    explicit Client(Reactor& the_reactor, const char* name = nullptr)
        : reactor(the_reactor), client(mosquitto_new(name, true, this)) {
        mosquitto_connect_callback_set(client, [](mosquitto*, void* self, int) { ++of(self).connects; });
        mosquitto_subscribe_callback_set(
            client, [](mosquitto*, void* self, int, int, const int*) { of(self).subscribed = true; });
        mosquitto_publish_callback_set(client, [](mosquitto*, void* self, int) { ++of(self).published; });
        mosquitto_message_callback_set(client, [](mosquitto*, void* self, const mosquitto_message* message) {
            Client& owner = of(self);
            owner.received.emplace_back(static_cast<const char*>(message->payload), std::size_t(message->payloadlen));
            if (owner.answered) owner.answered();
        });
        mosquitto_disconnect_callback_set(client, [](mosquitto* of_it, void* self, int) {
            ++of(self).disconnects;
            if (of(self).comes_back) mosquitto_reconnect_async(of_it);  // its socket has the number of the last one
        });
        const char* const port = std::getenv("EMBEDDING_BROKER");
        REQUIRE(port != nullptr);
        driver.emplace(reactor, client);
        REQUIRE(mosquitto_connect_async(driver->client(), "127.0.0.1", std::atoi(port), 60) == MOSQ_ERR_SUCCESS);
        run_until(reactor, [this] { return connects == 1; });
    }
    ~Client() {
        driver.reset();
        mosquitto_destroy(client);
    }
    static Client& of(void* self) { return *static_cast<Client*>(self); }
    void publish(const std::string& text, int quality = 0) {
        REQUIRE(mosquitto_publish(driver->client(), nullptr, "news", int(text.size()), text.data(), quality, false) ==
                0);
    }
    void subscribe() {
        mosquitto_subscribe(driver->client(), nullptr, "news", 0);
        run_until(reactor, [this] { return subscribed; });
    }

    Reactor& reactor;
    mosquitto* client;
    std::optional<MosquittoDriver> driver;
    std::vector<std::string> received;
    std::function<void()> answered;
    int connects = 0, disconnects = 0, published = 0;
    bool subscribed = false, comes_back = false;
};

struct Library {
    Library() { mosquitto_lib_init(); }
    ~Library() { mosquitto_lib_cleanup(); }
} library;

}  // namespace

TEST_CASE("mosquitto: one client gets the messages that another one publishes, in order") {
    Reactor reactor;
    Client subscriber(reactor), publisher(reactor);
    subscriber.subscribe();
    for (int i = 0; i < 1000; ++i) publisher.publish(std::to_string(i));
    run_until(reactor, [&] { return subscriber.received.size() == 1000; });
    for (int i = 0; i < 1000; ++i) REQUIRE(subscriber.received[std::size_t(i)] == std::to_string(i));
}

TEST_CASE("mosquitto: a message larger than the socket's buffers goes out as there is room") {
    Reactor reactor;
    Client subscriber(reactor), publisher(reactor);
    subscriber.subscribe();
    const std::string large(20'000'000, 'x');
    publisher.publish(large, 1);
    run_until(reactor, [&] { return publisher.published == 1 && subscriber.received.size() == 1; });
    CHECK(subscriber.received[0] == large);
}

TEST_CASE("mosquitto: a client that reconnects in its disconnect callback is driven on its new socket") {
    Reactor reactor;
    Client client(reactor, "same");
    client.comes_back = true;
    const int before = mosquitto_socket(client.client);
    Client other(reactor, "same");  // the broker closes the connection of the first one
    run_until(reactor, [&] { return client.connects == 2; });
    CHECK(client.disconnects == 1);
    CHECK(mosquitto_socket(client.client) == before);  // the same number: libmosquitto has closed the last one first
    client.subscribe();
    client.publish("again");
    run_until(reactor, [&] { return client.received.size() == 1; });
}

TEST_CASE("mosquitto: a client that reconnects of its own accord is driven on its new socket") {
    Reactor reactor;
    Client subscriber(reactor), publisher(reactor);
    subscriber.subscribe();
    CHECK(mosquitto_reconnect_async(publisher.driver->client()) == MOSQ_ERR_SUCCESS);
    run_until(reactor, [&] { return publisher.connects == 2; });
    publisher.publish("again");
    run_until(reactor, [&] { return subscriber.received.size() == 1; });
}

TEST_CASE("mosquitto: a refusal that comes at once is an error of the call, and no callback comes") {
    Reactor reactor;
    Client client(reactor);
    Socket silent = Socket::open(Address::Family::ipv4);  // it does not listen
    silent.bind(*Address::ip("127.0.0.1", 0));
    const int port = silent.local().port();
    mosquitto_disconnect(client.driver->client());
    run_until(reactor, [&] { return client.disconnects == 1; });
    CHECK(mosquitto_connect_async(client.driver->client(), "127.0.0.1", port, 60) == MOSQ_ERR_ERRNO);
    bool later = false;
    const Deferred soon = reactor.defer([&] { reactor.post([&] { later = true; }); });
    run_until(reactor, [&] { return later; });
    CHECK(client.disconnects == 1);
    CHECK(client.connects == 1);
}

TEST_CASE("mosquitto: a message and its answer cost the loop few iterations, and a quiet client one each second") {
    Reactor reactor;
    Client client(reactor);
    client.subscribe();
    int left = 101;
    client.answered = [&] {
        if (--left > 0) client.publish("x");
    };
    client.publish("x");
    run_until(reactor, [&] { return left <= 100; });
    const Cost cost = cost_of(reactor, "mosquitto: a message of QoS 0 to itself", 100,
                              [&] { run_until(reactor, [&] { return left == 0; }); });
    CHECK(cost.iterations <= 2.1);
    CHECK(cost.changes <= 0.1);
    const std::uint64_t timers = reactor.counters().timers, turns = reactor.counters().turns;
    run_until(reactor, [&] { return reactor.counters().timers > timers; });
    CHECK(reactor.counters().turns - turns <= 4);
}
