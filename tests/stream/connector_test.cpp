// The connector and the resolver: one outcome, once and later.
#include "../support/loop.hpp"
#include "../support/names.hpp"
#include "../support/unix_name.hpp"

#include <protocols/echo.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <netinet/in.h>
#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>

using namespace reactor;

namespace {

using Addresses = std::vector<Address>;

ProtocolFactory record(Journal& journal) {
    return [&journal]() -> std::unique_ptr<Protocol> { return std::make_unique<Recorder>(journal); };
}

// An address without a listener; the port was free a moment ago.
Address refusing_address(const char* host = "127.0.0.1") {
    Socket socket = Socket::open(Address::ip(host, 0)->family());
    socket.bind(*Address::ip(host, 0));
    return socket.local();
}

// A listener whose queue is full: on loopback a connecting client is then left without an answer.
struct SilentListener {
    SilentListener() : listener(Socket::open(Address::Family::ipv4)) {
        listener.bind(*Address::ip("127.0.0.1", 0));
        listener.listen(0);
        for (int i = 0; i < 3; ++i) {
            fillers.push_back(Socket::open(Address::Family::ipv4));
            (void)fillers.back().connect(listener.local());
        }
    }
    Socket listener;
    std::vector<Socket> fillers;
};

}  // namespace

TEST_CASE("Connecting by name reaches a server on either address, and tells it from the loop") {
    Reactor reactor;
    Acceptor acceptor(reactor, "localhost", 0, factory<Echo>());
    Journal journal;
    const Connector connector(reactor, "localhost", acceptor.addresses()[0].port(), record(journal));
    CHECK(connector.connecting());
    CHECK(journal.calls.empty());
    run_until(reactor, [&] { return journal.transport != nullptr; });
    CHECK_FALSE(connector.connecting());
    journal.transport->write("hello");
    run_until(reactor, [&] { return journal.input == "hello"; });
}

TEST_CASE("S34: refused is told once, later, as disconnected alone, with every address's error") {
    Reactor reactor;
    Journal journal;
    const Address nobody = refusing_address();
    const Connector connector(reactor, "localhost", nobody.port(), record(journal));
    CHECK(journal.calls.empty());
    run_until(reactor, [&] { return journal.over; });
    CHECK(journal.calls == std::vector<std::string>{"disconnected"});
    CHECK(journal.reason == std::errc::connection_refused);
    CHECK(connector.failures().size() == 2);
    for (const auto& failure : connector.failures()) CHECK(failure.error == std::errc::connection_refused);
    CHECK(settle(reactor) <= 2);
}

TEST_CASE("S34: a failure that connect() itself reports is told later all the same") {
    Reactor reactor;
    Journal journal;
    const Connector connector(reactor, {Address::unix_path("/nowhere/at/all")}, record(journal));
    CHECK(journal.calls.empty());
    run_until(reactor, [&] { return journal.over; });
    CHECK(journal.reason == std::errc::no_such_file_or_directory);
}

TEST_CASE("A name that does not resolve is the error of its look-up") {
    Reactor reactor;
    Journal journal;
    const Connector connector(reactor, "nowhere.invalid", 80, record(journal));
    run_until(reactor, [&] { return journal.over; });
    CHECK(journal.calls == std::vector<std::string>{"disconnected"});
    CHECK(journal.reason);
    CHECK(connector.failures().size() == 1);
}

TEST_CASE("S36: a peer that never answers is given up at the deadline, and no descriptor is lost") {
    const std::size_t before = open_descriptors();
    {
        Reactor reactor;
        SilentListener silent;
        Journal journal;
        ConnectorOptions options;
        options.timeout = std::chrono::milliseconds(20);
        const Connector connector(reactor, {silent.listener.local()}, record(journal), options);
        run_until(reactor, [&] { return journal.over; });
        CHECK(journal.calls == std::vector<std::string>{"disconnected"});
        CHECK(journal.reason == std::errc::timed_out);
        CHECK(connector.failures().size() == 1);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("S36: cancelled in time, nobody is told, whatever the kernel had done by then") {
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
    Journal journal;
    const std::size_t before = open_descriptors();
    for (int turns = 0; turns < 3; ++turns) {
        std::optional<Connector> connector(std::in_place, reactor, acceptor.addresses(), record(journal));
        for (int i = 0; i < turns; ++i)
            if (connector->connecting()) reactor.run_once(Duration::zero());
        const bool cancelled = connector->connecting();
        connector.reset();
        if (cancelled) CHECK(journal.calls.empty());
        if (journal.transport != nullptr) journal.transport->abort();
        settle(reactor);
    }
    CHECK(acceptor.connections() == 0);
    CHECK(open_descriptors() == before);
}

TEST_CASE("S37: a socket that connects to itself is refused") {
    Reactor reactor;
    const Address own = refusing_address();
    Journal journal;
    ConnectorOptions options;
    options.local = own;  // makes what otherwise happens once in 28,000 times happen now
    const Connector connector(reactor, {own}, record(journal), options);
    run_until(reactor, [&] { return journal.over; });
    CHECK(journal.calls == std::vector<std::string>{"disconnected"});
    CHECK(journal.reason == std::errc::connection_refused);
}

TEST_CASE("S38: an address that is silent does not hold up the next, the winner is kept and the loser dropped") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    SilentListener silent;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
    const std::size_t before = open_descriptors();
    Journal journal;
    const Connector connector(reactor, {silent.listener.local(), acceptor.addresses()[0]}, record(journal));
    settle(reactor);
    clock.advance(std::chrono::milliseconds(249));
    settle(reactor);
    CHECK(open_descriptors() == before + 1);
    clock.advance(std::chrono::milliseconds(1));
    run_until(reactor, [&] { return journal.transport != nullptr && acceptor.connections() == 1; });
    CHECK(journal.transport->peer() == acceptor.addresses()[0]);
    CHECK(open_descriptors() == before + 2);  // both ends of the one connection
}

TEST_CASE("S38: an address that refuses is followed by the next at once") {
    testing::ManualClock clock;  // which stands still
    Reactor reactor("auto", clock);
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
    Journal journal;
    const Connector connector(reactor, {refusing_address(), refusing_address("::1"), acceptor.addresses()[0]},
                              record(journal));
    run_until(reactor, [&] { return journal.transport != nullptr; });
    CHECK(connector.failures().size() == 2);
}

TEST_CASE("S35: a Unix socket with a full backlog is tried again until there is room") {
    Reactor reactor;
    Socket listener = Socket::open(Address::Family::unix_domain);
    listener.bind(new_unix_name());
    listener.listen(0);
    std::vector<Socket> fillers;
    for (;;) {
        fillers.push_back(Socket::open(Address::Family::unix_domain));
        if (fillers.back().connect(listener.local())) break;
    }
    Journal journal;
    const Connector connector(reactor, {listener.local()}, record(journal));
    reactor.run_once();
    CHECK(journal.calls.empty());
    CHECK(connector.connecting());
    Socket accepted;
    Address peer;
    while (!listener.accept(accepted, peer)) {
    }
    run_until(reactor, [&] { return journal.transport != nullptr; });
}

TEST_CASE("S4: a connector that its protocol's factory destroys is gone, whatever the outcome") {
    for (const bool reachable : {true, false}) {
        Reactor reactor;
        Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
        std::optional<Connector> connector;
        int made = 0;
        connector.emplace(reactor, std::vector<Address>{reachable ? acceptor.addresses()[0] : refusing_address()},
                          ProtocolFactory([&]() -> std::unique_ptr<Protocol> {
                              ++made;
                              connector.reset();
                              return nullptr;
                          }));
        run_until(reactor, [&] { return made == 1; });
        settle(reactor);
        CHECK(made == 1);
    }
}

TEST_CASE("Reconnecting goes on after a failure and after the end of a connection, until it is cancelled") {
    Reactor reactor;
    Journal journal;
    std::optional<Acceptor> acceptor(std::in_place, reactor, "127.0.0.1", std::uint16_t(0), factory<Echo>());
    const std::vector<Address> addresses = acceptor->addresses();
    ConnectorOptions options;
    options.reconnect = std::chrono::milliseconds(4);
    Connector connector(reactor, addresses, record(journal), options);
    run_until(reactor, [&] { return journal.count("connected") == 1; });

    journal.transport->abort();
    run_until(reactor, [&] { return journal.count("connected") == 2; });

    acceptor.reset();
    journal.transport->abort();
    run_until(reactor, [&] { return journal.count("disconnected") >= 5; });
    CHECK(journal.count("connected") == 2);

    acceptor.emplace(reactor, addresses, factory<Echo>());
    run_until(reactor, [&] { return journal.count("connected") == 3; });
    connector.cancel();
    journal.transport->abort();
    settle(reactor);
    CHECK(journal.count("connected") == 3);
    CHECK_FALSE(connector.connecting());
}

TEST_CASE("S92: a factory that destroys its connector keeps what it has captured until it returns") {
    for (const bool reachable : {true, false}) {
        for (const bool refuses : {true, false}) {
            Reactor reactor;
            Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
            std::optional<Connector> connector;
            const auto captured = std::make_shared<int>(0);
            const std::weak_ptr<int> watched = captured;
            Journal journal;
            bool lived = false, made = false;
            const auto factory = [&, captured]() -> std::unique_ptr<Protocol> {
                connector.reset();
                lived = watched.use_count() > 2;  // the test's and the copy in here are two
                made = true;
                if (refuses) return nullptr;
                return std::make_unique<Recorder>(journal);
            };
            connector.emplace(reactor, Addresses{reachable ? acceptor.addresses()[0] : refusing_address()}, factory);
            run_until(reactor, [&] { return made; });
            CHECK(lived);
            settle(reactor);
            CHECK(journal.count("connected") == 0);
            CHECK(journal.count("disconnected") == std::size_t(!reachable && !refuses));
        }
    }
}

TEST_CASE("S92: reconnecting goes on after a factory that threw or refused, whatever the outcome was") {
    for (const bool reachable : {true, false}) {
        for (const bool throws : {true, false}) {
            Reactor reactor;
            int thrown = 0, made = 0;
            reactor.on_exception([&](std::exception_ptr) { ++thrown; });
            Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
            Journal journal;
            ConnectorOptions options;
            options.reconnect = std::chrono::milliseconds(4);
            const Connector connector(
                reactor, {reachable ? acceptor.addresses()[0] : refusing_address()},
                [&]() -> std::unique_ptr<Protocol> {
                    if (++made > 2) return std::make_unique<Recorder>(journal);
                    if (throws) throw std::runtime_error("not this time");
                    return nullptr;
                },
                options);
            run_until(reactor, [&] { return journal.count(reachable ? "connected" : "disconnected") > 0; });
            CHECK(thrown == (throws ? 2 : 0));
        }
    }
}

TEST_CASE("A connector without a factory is refused, and so is a look-up without a callback") {
    Reactor reactor;
    CHECK_THROWS_AS((void)Connector(reactor, "localhost", 80, nullptr), std::invalid_argument);
    CHECK_THROWS_AS((void)Connector(reactor, Addresses{refusing_address()}, ProtocolFactory()), std::invalid_argument);
    CHECK_THROWS_AS((void)Resolver(reactor, "localhost", 80, nullptr), std::invalid_argument);
    CHECK(settle(reactor) <= 2);
}

TEST_CASE("S100: a server that accepts and hangs up at once is called ever more rarely, until a connection lasts") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Journal server, client;
    bool hangs_up = true;
    server.on_connected = [&] {
        if (hangs_up) server.transport->close();
    };
    Acceptor acceptor(reactor, "127.0.0.1", 0, record(server));
    ConnectorOptions options;
    options.reconnect = std::chrono::milliseconds(800);
    const Connector connector(reactor, acceptor.addresses(), record(client), options);
    const auto next_wait = [&] {
        client.over = false;
        for (int turns = 0; !client.over && turns < 10'000; ++turns) reactor.run_once(std::chrono::milliseconds(1));
        settle(reactor);  // the acceptor too has seen the end
        return std::chrono::duration_cast<std::chrono::milliseconds>(reactor.next_timeout().value()).count();
    };
    for (const int milliseconds : {100, 200, 400, 800, 800}) {
        const auto wait = next_wait();  // shortened by up to half
        CHECK(wait >= milliseconds / 2);
        CHECK(wait <= milliseconds);
        clock.advance(std::chrono::milliseconds(milliseconds));
    }
    hangs_up = false;
    for (const int lasts : {799, 800}) {
        client.transport = nullptr;
        for (int turns = 0; client.transport == nullptr && turns < 10'000; ++turns)
            reactor.run_once(std::chrono::milliseconds(1));
        REQUIRE(client.transport != nullptr);
        clock.advance(std::chrono::milliseconds(lasts));
        client.transport->abort();
        CHECK((next_wait() >= 400) == (lasts < 800));
        clock.advance(std::chrono::milliseconds(800));
    }
}

TEST_CASE("S91, S100: no value of a connector's durations makes it spin, and none overflows") {
    constexpr Duration extremes[] = {Duration::min(), Duration(-1),    Duration(0),
                                     Duration(1),     Duration::max(), Duration::max() - Duration(1)};
    for (const Duration longest : extremes) {
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        Journal journal;
        ConnectorOptions options;
        options.reconnect = longest;
        const Connector connector(reactor, {Address::unix_path("/nowhere/at/all")}, record(journal), options);
        const int most = longest > Duration(0) ? 60 : 1;
        for (int tries = 1; tries <= most; ++tries) {
            settle(reactor);
            REQUIRE(journal.count("disconnected") == std::size_t(tries));
            if (tries == most) break;
            const Duration wait = reactor.next_timeout().value();
            CHECK(wait >= std::chrono::microseconds(500));   // 1 ms, shortened by up to half
            if (wait > std::chrono::hours(24 * 365)) break;  // it would be the end of the clock's time
            clock.advance(wait);
        }
        CHECK(connector.connecting() == (longest > Duration(0)));
    }
    for (const Duration timeout : extremes) {
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        SilentListener silent;
        Journal journal;
        ConnectorOptions options;
        options.timeout = timeout;
        const Connector connector(reactor, {silent.listener.local()}, record(journal), options);
        CHECK(settle(reactor) < 10);
        CHECK(journal.over == (timeout <= Duration(0)));
        if (journal.over) CHECK(journal.reason == std::errc::timed_out);
    }
}

TEST_CASE("Of several errors a refusal is told, not that this machine has no way to an address of the other family") {
    Reactor reactor;
    Journal journal;
    // Nothing connects to a group. Families come in turn, so the refusal is the second of three.
    const Connector connector(reactor, {*Address::ip("ff02::1", 80), *Address::ip("ff02::2", 80), refusing_address()},
                              record(journal));
    run_until(reactor, [&] { return journal.over; });
    REQUIRE(connector.failures().size() == 3);
    CHECK(connector.failures()[1].error == std::errc::connection_refused);
    CHECK(connector.failures()[2].error == std::errc::network_unreachable);
    CHECK(journal.reason == std::errc::connection_refused);
}

TEST_CASE("A connector with no address to connect to says so, and asks nobody") {
    Reactor reactor;
    Journal journal;
    const Connector connector(reactor, Addresses{}, record(journal));
    run_until(reactor, [&] { return journal.over; });
    CHECK(journal.reason == std::errc::address_not_available);
}

TEST_CASE("From an address of one family a connector connects to that family, and says so if there is none of it") {
    Reactor reactor;
    Acceptor acceptor(reactor, "localhost", 0, factory<Echo>());
    Journal journal, other;
    ConnectorOptions options;
    options.local = *Address::ip("127.0.0.2", 0);
    const Connector connector(reactor, "localhost", acceptor.addresses()[0].port(), record(journal), options);
    run_until(reactor, [&] { return journal.transport != nullptr; });
    CHECK(journal.transport->local().host() == "127.0.0.2");
    const Connector wrong(reactor, {*Address::ip("::1", 80)}, record(other), options);
    run_until(reactor, [&] { return other.over; });
    CHECK(other.reason == std::errc::address_family_not_supported);
}

TEST_CASE("A fixed local port can be connected from again while its last connection is in TIME_WAIT") {
    Reactor reactor;
    Journal server;
    Acceptor first(reactor, "127.0.0.1", 0, factory<Echo>()), second(reactor, "127.0.0.1", 0, factory<Echo>());
    ConnectorOptions options;
    options.local = refusing_address("127.0.0.3");
    // The one that closes first waits. Its next connection goes elsewhere: to the same address Linux lets it after 1 s.
    Journal journal;
    for (const Address& to : {first.addresses()[0], second.addresses()[0]}) {
        journal = Journal();
        const Connector connector(reactor, {to}, record(journal), options);
        run_until(reactor, [&] { return journal.transport != nullptr || journal.over; });
        REQUIRE(journal.transport != nullptr);
        CHECK(journal.transport->local() == *options.local);
        journal.transport->close();
        run_until(reactor, [&] { return journal.over; });
        CHECK_FALSE(journal.reason);
    }
}

#if REACTOR_HAS(IP_BIND_ADDRESS_NO_PORT)
TEST_CASE("A local address without a port takes none before the destination is known, so that ports serve many") {
    for (const char* host : {"127.0.0.1", "::1"}) {
        Socket socket = Socket::open(Address::ip(host, 0)->family());
        socket.set_bind_without_port(true);
        socket.bind(*Address::ip(host, 0));
        CHECK(socket.local().port() == 0);

        Reactor reactor;
        Acceptor acceptor(reactor, host, 0, factory<Echo>());
        Journal journal;
        ConnectorOptions options;
        options.local = *Address::ip(host, 0);
        const Connector connector(reactor, acceptor.addresses(), record(journal), options);
        run_until(reactor, [&] { return journal.transport != nullptr; });
        const Address local = journal.transport->local();
        CHECK(local.port() != 0);
        int without_port = 0;
        for (int descriptor = 0; descriptor < 1024; ++descriptor) {
            sockaddr_storage name{};
            socklen_t length = sizeof name, size = sizeof without_port;
            if (::getsockname(descriptor, reinterpret_cast<sockaddr*>(&name), &length) != 0) continue;
            if (name.ss_family != local.data()->sa_family) continue;
            if (Address(reinterpret_cast<const sockaddr*>(&name), length) == local)
                ::getsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &without_port, &size);
        }
        CHECK(without_port == 1);
    }
}
#endif

TEST_CASE("S76: a look-up never calls back from inside, and a cancelled one never at all") {
    const names::Script script;
    Reactor reactor;
    bool called = false;
    for (const char* name : {"127.0.0.1", "localhost", "nowhere.test"}) {
        const Resolver cancelled(reactor, name, 80, [&](std::error_code, std::vector<Address>) { called = true; });
        CHECK_FALSE(called);
    }
    settle(reactor);
    CHECK_FALSE(called);

    std::vector<Address> found;
    const Resolver resolver(reactor, "localhost", 80, [&](std::error_code error, std::vector<Address> addresses) {
        CHECK_FALSE(error);
        found = std::move(addresses);
    });
    CHECK(found.empty());
    run_until(reactor, [&] { return !found.empty(); });
    CHECK(found.size() == 2);
}

#ifdef __GLIBC__  // whose threads can be given a stack for which no memory has room
TEST_CASE("S76: with no thread to be had, that is the look-up's error, and it is told from the loop") {
    REQUIRE(names::wait_for_threads_to_end());  // or the look-up would wait for one of those that there are
    Reactor reactor;
    Journal journal;
    constexpr std::uint64_t most = std::numeric_limits<std::size_t>::max();
    constexpr auto no_room = std::size_t(std::min(std::uint64_t(1) << 47, most / 8 * 7));
    pthread_attr_t before, impossible;
    REQUIRE(::pthread_getattr_default_np(&before) == 0);
    REQUIRE(::pthread_attr_init(&impossible) == 0);
    REQUIRE(::pthread_attr_setstacksize(&impossible, no_room) == 0);
    REQUIRE(::pthread_setattr_default_np(&impossible) == 0);
    const Connector connector(reactor, "127.1", 80, record(journal));  // a name, for which the C library is asked
    settle(reactor);
    REQUIRE(::pthread_setattr_default_np(&before) == 0);
    CHECK(journal.calls == std::vector<std::string>{"disconnected"});
    CHECK(journal.reason == std::errc::resource_unavailable_try_again);
    REQUIRE(connector.failures().size() == 1);
    CHECK(connector.failures()[0].address == Address());
}
#endif
