// Names, looked up on a few threads of the process; and connectors whose answers come late or never.
#include "../support/loop.hpp"
#include "../support/names.hpp"

#include <protocols/echo.hpp>
#include <reactor/net/resolver.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

using Addresses = std::vector<Address>;

std::string numbered(int number) {
    return "host" + std::to_string(number) + ".test";
}

ProtocolFactory record(Journal& journal) {
    return [&journal]() -> std::unique_ptr<Protocol> { return std::make_unique<Recorder>(journal); };
}

// On a clock that stands still, which run_until would wait for.
bool happens(Reactor& reactor, const std::function<bool()>& condition) {
    for (int turns = 0; turns < 20'000 && !condition(); ++turns) reactor.run_once(std::chrono::milliseconds(1));
    return condition();
}

// A server whose name is looked up by a connector, on a clock that stands still. Its name server says what the test
// scripts, before connect() or later.
struct Named {
    explicit Named(std::string_view host) : acceptor(reactor, host, 0, factory<Echo>()) {}
    void connect() { connector.emplace(reactor, "server.test", acceptor.addresses()[0].port(), record(journal)); }
    bool connects() {
        return happens(reactor, [this] { return journal.transport != nullptr; });
    }
    /// When the answer with IPv4 addresses is there, nothing is due before the end of the resolution delay.
    bool waits_for_ipv6() {
        return happens(reactor, [this] { return reactor.next_timeout() == std::chrono::milliseconds(50); });
    }

    names::Script script;
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};
    Acceptor acceptor;
    Journal journal;
    std::optional<Connector> connector;
};

}  // namespace

TEST_CASE("S76, S99: however many names are looked up, few threads do it, and those given up are never asked for") {
    names::Script script;
    Reactor reactor;
    std::vector<std::unique_ptr<Resolver>> resolvers;
    int told = 0;
    for (int i = 0; i < 300; ++i)
        for (const auto family : {Address::Family::ipv4, Address::Family::ipv6, Address::Family::none})
            resolvers.push_back(std::make_unique<Resolver>(reactor, numbered(i), 80, family,
                                                           [&](std::error_code, Addresses) { ++told; }));
    REQUIRE(script.wait_for(Resolver::most_threads));
    resolvers.clear();
    for (int i = 0; i < 300; ++i)
        for (const int family : {AF_INET, AF_INET6, AF_UNSPEC}) script.answer(numbered(i), family, {});
    REQUIRE(names::wait_for_threads_to_end());
    CHECK(script.most_waiting() == Resolver::most_threads);
    CHECK(script.asked() == Resolver::most_threads);
    settle(reactor);
    CHECK(told == 0);
}

TEST_CASE("S76: look-ups that wait for a thread are asked in order when one is free, and all are told") {
    names::Script script;
    Reactor reactor;
    constexpr int count = 50;
    std::vector<std::unique_ptr<Resolver>> resolvers;
    std::vector<std::string> found(count);
    for (int i = 0; i < count; ++i) {
        const auto keep = [&into = found[std::size_t(i)]](std::error_code error, Addresses addresses) {
            into = error ? error.message() : addresses.at(0).to_string();
        };
        resolvers.push_back(
            std::make_unique<Resolver>(reactor, numbered(i), std::uint16_t(i), Address::Family::ipv4, keep));
    }
    for (int i = 0; i < count; ++i) script.answer(numbered(i), AF_INET, {"192.0.2.1"});
    run_until(reactor, [&] { return std::find(found.begin(), found.end(), "") == found.end(); });
    for (int i = 0; i < count; ++i) CHECK(found[std::size_t(i)] == "192.0.2.1:" + std::to_string(i));
}

TEST_CASE("S76: equal questions of several loops are one look-up, and each is told with its own port") {
    names::Script script;
    Reactor first, second;
    Addresses of_first, of_second;
    const auto keep = [](Addresses& into) {
        return [&into](std::error_code, Addresses addresses) { into = std::move(addresses); };
    };
    const Resolver one(first, "host.test", 1, Address::Family::ipv4, keep(of_first));
    REQUIRE(script.wait_for(1));
    const Resolver other(second, "host.test", 2, Address::Family::ipv4, keep(of_second));
    script.answer("host.test", AF_INET, {"192.0.2.1", "192.0.2.2", "192.0.2.1"});
    run_until(first, [&] { return !of_first.empty(); });
    run_until(second, [&] { return !of_second.empty(); });
    CHECK(of_first == Addresses{*Address::ip("192.0.2.1", 1), *Address::ip("192.0.2.2", 1)});
    CHECK(of_second == Addresses{*Address::ip("192.0.2.1", 2), *Address::ip("192.0.2.2", 2)});
    CHECK(script.asked() == 1);
}

TEST_CASE("S76: a look-up that was given up and goes on is joined by the next who asks the same") {
    names::Script script;
    Reactor reactor;
    bool told = false;
    std::optional<Resolver> given_up(std::in_place, reactor, "host.test", std::uint16_t(1),
                                     [](std::error_code, Addresses) { FAIL("it was cancelled"); });
    REQUIRE(script.wait_for(1));
    given_up.reset();
    const Resolver again(reactor, "host.test", 1, [&](std::error_code error, Addresses) { told = !error; });
    script.answer("host.test", AF_UNSPEC, {"192.0.2.1", "2001:db8::1"});
    run_until(reactor, [&] { return told; });
    CHECK(script.asked() == 1);
}

TEST_CASE("S99: a name server that is silent for IPv6 holds up no look-up of IPv4 addresses") {
    names::Script script;
    Reactor reactor;
    std::vector<std::unique_ptr<Resolver>> resolvers;
    int told = 0;
    const auto count = [&](std::error_code error, Addresses) { told += int(!error); };
    for (int i = 0; i < 100; ++i) {
        script.answer(numbered(i), AF_INET, {"192.0.2.1"});
        for (const auto family : {Address::Family::ipv6, Address::Family::ipv4})
            resolvers.push_back(std::make_unique<Resolver>(reactor, numbered(i), 80, family, count));
    }
    run_until(reactor, [&] { return told == 100; });
}

TEST_CASE("S76, S92: what a cancelled look-up would have called is destroyed on the loop's thread, at once") {
    struct Captured {
        ~Captured() { *destroyed_on = std::this_thread::get_id(); }
        std::thread::id* destroyed_on;
    };
    names::Script script;
    Reactor reactor;
    std::thread::id destroyed_on;
    std::optional<Resolver> resolver(std::in_place, reactor, "host.test", std::uint16_t(1),
                                     [captured = std::unique_ptr<Captured>(new Captured{&destroyed_on})](
                                         std::error_code, Addresses) { FAIL("it was cancelled"); });
    REQUIRE(script.wait_for(1));
    resolver.reset();
    CHECK(destroyed_on == std::this_thread::get_id());
}

TEST_CASE("S76: a look-up of one family finds that family's addresses, and says if there are none") {
    Reactor reactor;
    const auto ask = [&](std::string_view host, Address::Family family) {
        std::optional<std::string> said;
        const Resolver resolver(reactor, host, 80, family, [&](std::error_code error, Addresses addresses) {
            said = error ? std::string("none") : std::string();
            if (error) CHECK(error == std::errc::address_not_available);
            for (const Address& address : addresses) *said += address.to_string() + " ";
        });
        run_until(reactor, [&] { return said.has_value(); });
        return *said;
    };
    CHECK(ask("localhost", Address::Family::none) == "127.0.0.1:80 [::1]:80 ");
    CHECK(ask("localhost", Address::Family::ipv6) == "[::1]:80 ");
    CHECK(ask("localhost", Address::Family::ipv4) == "127.0.0.1:80 ");
    CHECK(ask("192.0.2.1", Address::Family::ipv6) == "none");
    names::Script script;
#ifdef __GLIBC__
    // Its answer for a name that has an IPv4 address in /etc/hosts, and no other: it does not go on to ask further.
    script.answer("hosts.test", AF_INET6, {"::ffff:192.0.2.1"});
    CHECK(ask("hosts.test", Address::Family::ipv6) == "none");
    CHECK(script.flags("hosts.test", AF_INET6) == AI_V4MAPPED);
#endif
    script.answer("hosts.test", AF_INET, {"192.0.2.1"});
    CHECK(ask("hosts.test", Address::Family::ipv4) == "192.0.2.1:80 ");
    CHECK(script.flags("hosts.test", AF_INET) == 0);
}

#ifndef __SANITIZE_THREAD__  // which lets a child of a program with threads have none
TEST_CASE("S73, S76: a child forked while look-ups are stuck looks names up by itself") {
    names::Script script;
    script.answer("known.test", AF_UNSPEC, {"192.0.2.1"});
    Reactor reactor;
    std::vector<std::unique_ptr<Resolver>> stuck;
    for (std::size_t i = 0; i < Resolver::most_threads; ++i)
        stuck.push_back(std::make_unique<Resolver>(reactor, numbered(int(i)), 80, [](std::error_code, Addresses) {}));
    REQUIRE(script.wait_for(Resolver::most_threads / 2));
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(30);
        Reactor own;
        bool told = false;
        const Resolver resolver(own, "known.test", 80, [&](std::error_code error, Addresses) { told = !error; });
        while (!told) own.run_once(std::chrono::milliseconds(20));
        stuck.clear();
        ::_exit(0);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
#endif

// ── a connector's two look-ups ──

TEST_CASE("S99: a name server that never answers for IPv6 costs a connector the resolution delay, and no more") {
    Named server("127.0.0.1");
    server.script.answer("server.test", AF_INET, {"127.0.0.1"});
    server.connect();
    REQUIRE(server.waits_for_ipv6());
    REQUIRE(server.script.wait_for(1));  // a question that has not begun is dropped with the connector's success
    server.clock.advance(std::chrono::milliseconds(49));
    settle(server.reactor);
    CHECK(server.acceptor.counters().accepted == 0);
    server.clock.advance(std::chrono::milliseconds(1));
    CHECK(server.connects());
    CHECK(server.script.asked("server.test", AF_INET6) == 1);
    CHECK(server.connector->failures().empty());
}

TEST_CASE("S99: a name server that never answers for IPv4 costs a connector nothing where IPv6 connects") {
    Named server("::1");
    server.script.answer("server.test", AF_INET6, {"::1"});
    server.connect();
    CHECK(server.connects());
}

TEST_CASE("S99: IPv6 addresses that come within the resolution delay are tried before IPv4 ones") {
    Named server("localhost");
    server.script.answer("server.test", AF_INET, {"127.0.0.1"});
    server.connect();
    REQUIRE(server.waits_for_ipv6());
    server.script.answer("server.test", AF_INET6, {"::1"});
    CHECK(server.connects());
    CHECK(server.journal.transport->peer().host() == "::1");
}

TEST_CASE("S99: that a name has no IPv6 address is an answer, after which IPv4 is tried without a delay") {
    for (const bool ipv4_is_first : {true, false}) {
        Named server("127.0.0.1");
        server.connect();
        const auto answer_ipv4 = [&] { server.script.answer("server.test", AF_INET, {"127.0.0.1"}); };
        if (ipv4_is_first) answer_ipv4();
        server.script.answer("server.test", AF_INET6, {});
        if (!ipv4_is_first) answer_ipv4();
        CHECK(server.connects());
        CHECK(server.connector->failures().empty());
    }
}

TEST_CASE("S99: addresses that come late join those that are tried, also after all of the others have failed") {
    Named server("127.0.0.1");
    server.script.answer("server.test", AF_INET6, {"ff02::1", "ff02::2"});  // to groups nothing connects
    server.connect();
    REQUIRE(happens(server.reactor, [&] { return server.connector->failures().size() == 2; }));
    CHECK(server.connector->connecting());
    server.script.answer("server.test", AF_INET, {"127.0.0.1"});
    CHECK(server.connects());
}

TEST_CASE("S99: a name server that does not answer at all is timed_out at the deadline, once") {
    names::Script script;
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Journal journal;
    const Connector connector(reactor, "server.test", 80, record(journal));
    reactor.run_once(Duration::zero());
    REQUIRE(script.wait_for(2));
    clock.advance(std::chrono::seconds(30));
    CHECK(happens(reactor, [&] { return journal.over; }));
    CHECK(journal.reason == std::errc::timed_out);
    CHECK(connector.failures().size() == 1);
}

TEST_CASE("A name that cannot be looked up is one failure, whose error is not that it lacks one family") {
    struct {
        int ipv6, ipv4, told;
    } const cases[] = {{EAI_NONAME, EAI_NONAME, EAI_NONAME},
                       {EAI_NODATA, EAI_AGAIN, EAI_AGAIN},
                       {EAI_AGAIN, EAI_NODATA, EAI_AGAIN},
                       {EAI_NODATA, EAI_NODATA, EAI_NODATA}};
    for (const auto& one : cases) {
        names::Script script;
        script.fail("server.test", AF_INET6, one.ipv6);
        script.fail("server.test", AF_INET, one.ipv4);
        Reactor reactor;
        Journal journal;
        const Connector connector(reactor, "server.test", 80, record(journal));
        run_until(reactor, [&] { return journal.over; });
        CHECK(journal.reason.category().name() == std::string("getaddrinfo"));
        CHECK(journal.reason.value() == one.told);
        CHECK(connector.failures().size() == 1);
    }
}
