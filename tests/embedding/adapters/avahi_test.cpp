// Avahi's client library, against avahi-daemon in a network of its own, which has a host and a service; and its poll
// interface by itself.
#include "driven.hpp"

#include <reactor/adapters/avahi.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <avahi-client/client.h>
#include <avahi-client/lookup.h>
#include <avahi-client/publish.h>
#include <avahi-common/error.h>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>

using namespace reactor;
using namespace reactor::adapters;
using namespace std::chrono_literals;

namespace {

struct Client {
    explicit Client(Reactor& the_reactor) : reactor(the_reactor), driver(std::in_place, reactor) {
        const auto changed = [](AvahiClient*, AvahiClientState now, void* self) {
            static_cast<Client*>(self)->state = now;
        };
        client.reset(avahi_client_new(driver->poll(), AvahiClientFlags(0), changed, this, nullptr));
        REQUIRE(client != nullptr);
        CHECK(state == AVAHI_CLIENT_S_RUNNING);  // inside the call
    }

    // The address of a host, or the error.
    std::string look_up(const char* host) {
        answer.clear();
        AvahiHostNameResolver* const resolver = avahi_host_name_resolver_new(
            client.get(), AVAHI_IF_UNSPEC, AVAHI_PROTO_INET, host, AVAHI_PROTO_INET, AvahiLookupFlags(0),
            [](AvahiHostNameResolver* it, AvahiIfIndex, AvahiProtocol, AvahiResolverEvent event, const char*,
               const AvahiAddress* address, AvahiLookupResultFlags, void* self) {
                char text[AVAHI_ADDRESS_STR_MAX] = "not found";
                if (event == AVAHI_RESOLVER_FOUND) avahi_address_snprint(text, sizeof text, address);
                static_cast<Client*>(self)->answer = text;
                avahi_host_name_resolver_free(it);
            },
            this);
        REQUIRE(resolver != nullptr);
        run_until(reactor, [this] { return !answer.empty(); });
        return answer;
    }

    Reactor& reactor;
    std::optional<AvahiDriver> driver;
    std::unique_ptr<AvahiClient, decltype(&avahi_client_free)> client{nullptr, &avahi_client_free};
    AvahiClientState state{};
    std::string answer;
};

timeval in(std::chrono::seconds delay) {
    timeval time{};
    ::gettimeofday(&time, nullptr);
    time.tv_sec += delay.count();
    return time;
}

void count(AvahiTimeout*, void* calls) {
    ++*static_cast<int*>(calls);
}

}  // namespace

TEST_CASE("Avahi: a host is found") {
    Reactor reactor;
    Client client(reactor);
    CHECK(client.look_up("reactor-test.local") == "127.0.0.1");
}

TEST_CASE("Avahi: a service is found, and another one is published and withdrawn") {
    Reactor reactor;
    Client client(reactor);
    struct Found {
        std::string name;
        bool all = false;
    } found;
    const std::unique_ptr<AvahiServiceBrowser, decltype(&avahi_service_browser_free)> browser{
        avahi_service_browser_new(
            client.client.get(), AVAHI_IF_UNSPEC, AVAHI_PROTO_INET, "_http._tcp", nullptr, AvahiLookupFlags(0),
            [](AvahiServiceBrowser*, AvahiIfIndex, AvahiProtocol, AvahiBrowserEvent event, const char* name,
               const char*, const char*, AvahiLookupResultFlags, void* self) {
                if (event == AVAHI_BROWSER_NEW) static_cast<Found*>(self)->name = name;
            },
            &found),
        &avahi_service_browser_free};
    run_until(reactor, [&] { return !found.name.empty(); });
    CHECK(found.name == "page");

    AvahiEntryGroupState state = AVAHI_ENTRY_GROUP_UNCOMMITED;
    const std::unique_ptr<AvahiEntryGroup, decltype(&avahi_entry_group_free)> group{
        avahi_entry_group_new(
            client.client.get(),
            [](AvahiEntryGroup*, AvahiEntryGroupState now, void* self) {
                *static_cast<AvahiEntryGroupState*>(self) = now;
            },
            &state),
        &avahi_entry_group_free};
    REQUIRE(avahi_entry_group_add_service(group.get(), AVAHI_IF_UNSPEC, AVAHI_PROTO_INET, AvahiPublishFlags(0), "other",
                                          "_echo._tcp", nullptr, nullptr, 7, nullptr) == AVAHI_OK);
    REQUIRE(avahi_entry_group_commit(group.get()) == AVAHI_OK);
    run_until(reactor, [&] { return state == AVAHI_ENTRY_GROUP_REGISTERING; });
}

TEST_CASE("Avahi: a client that is freed in its own callback, and one that outlives its driver, are quiet") {
    Reactor reactor;
    Client outlived(reactor), freed(reactor);
    outlived.driver.reset();
    struct Last {
        Client& client;
        bool called = false;
    } last{freed};
    avahi_host_name_resolver_new(
        freed.client.get(), AVAHI_IF_UNSPEC, AVAHI_PROTO_INET, "reactor-test.local", AVAHI_PROTO_INET,
        AvahiLookupFlags(0),
        [](AvahiHostNameResolver*, AvahiIfIndex, AvahiProtocol, AvahiResolverEvent, const char*, const AvahiAddress*,
           AvahiLookupResultFlags, void* self) {
            static_cast<Last*>(self)->client.driver.reset();
            static_cast<Last*>(self)->called = true;
        },
        &last);
    run_until(reactor, [&] { return last.called; });
    CHECK(reactor.run_once(Duration::zero()) == 0);
    CHECK_FALSE(reactor.next_timeout().has_value());
}

TEST_CASE("Avahi: a time of the wall clock becomes a delay, one in the past is due at once, and null is never") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    const AvahiDriver driver(reactor);
    const AvahiPoll& poll = *driver.poll();
    int calls = 0;
    const timeval later = in(1h), past{};
    AvahiTimeout* const timeout = poll.timeout_new(&poll, &later, count, &calls);
    reactor.run_once(Duration::zero());
    REQUIRE(reactor.next_timeout().has_value());
    CHECK(*reactor.next_timeout() > 50min);
    CHECK(*reactor.next_timeout() <= 1h);
    clock.advance(1h);
    reactor.run_once(Duration::zero());
    CHECK(calls == 1);
    CHECK_FALSE(reactor.next_timeout().has_value());  // once
    poll.timeout_update(timeout, &past);
    CHECK(reactor.next_timeout() == Duration::zero());
    reactor.run_once(Duration::zero());
    CHECK(calls == 2);
    poll.timeout_update(timeout, &later);
    poll.timeout_update(timeout, nullptr);
    CHECK_FALSE(reactor.next_timeout().has_value());
    poll.timeout_free(timeout);
}

TEST_CASE("Avahi: a timeout and a watch may be freed in their own calls, and after the end of the driver") {
    Reactor reactor;
    std::optional<AvahiDriver> driver(std::in_place, reactor);
    const AvahiPoll& poll = *driver->poll();
    struct Program {
        const AvahiPoll& poll;
        int calls = 0;
        AvahiWatchEvent seen{};
    } program{poll};
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    const auto freed = [](AvahiWatch* watch, int, AvahiWatchEvent, void* self) {
        static_cast<Program*>(self)->seen = static_cast<Program*>(self)->poll.watch_get_events(watch);
        ++static_cast<Program*>(self)->calls;
        static_cast<Program*>(self)->poll.watch_free(watch);
    };
    const timeval past{};
    REQUIRE(::write(ends[1], "x", 1) == 1);
    poll.watch_new(&poll, ends[0], AvahiWatchEvent(AVAHI_WATCH_IN | AVAHI_WATCH_OUT), freed, &program);
    AvahiWatch* const quiet = poll.watch_new(&poll, ends[0], AvahiWatchEvent(0), freed, &program);
    poll.timeout_new(
        &poll, &past,
        [](AvahiTimeout* timeout, void* self) {
            ++static_cast<Program*>(self)->calls;
            static_cast<Program*>(self)->poll.timeout_free(timeout);
        },
        &program);
    AvahiTimeout* const left = poll.timeout_new(&poll, nullptr, count, &program.calls);
    run_until(reactor, [&] { return program.calls == 2; });
    CHECK(program.seen == AVAHI_WATCH_IN);
    const auto update_watch = poll.watch_update;
    const auto update_timeout = poll.timeout_update;
    const auto free_watch = poll.watch_free;
    const auto free_timeout = poll.timeout_free;
    update_watch(quiet, AVAHI_WATCH_IN);
    update_timeout(left, &past);
    driver.reset();
    CHECK(reactor.run_once(Duration::zero()) == 0);
    update_watch(quiet, AVAHI_WATCH_IN);
    update_timeout(left, &past);
    CHECK(reactor.run_once(Duration::zero()) == 0);
    CHECK(program.calls == 2);
    free_watch(quiet);
    free_timeout(left);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("Avahi: the cost of a look-up") {
    Reactor reactor;
    Client client(reactor);
    constexpr int look_ups = 50;
    const Cost cost = cost_of(reactor, "Avahi: a host of the daemon is looked up", look_ups, [&] {
        for (int i = 0; i < look_ups; ++i) client.look_up("reactor-test.local");
    });
    CHECK(cost.iterations <= 6);
}
