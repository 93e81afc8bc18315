// The connector and the resolver: one outcome, told once and later.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>

#include <pthread.h>

#include <optional>

using namespace reactor;

namespace {

ProtocolFactory record(Journal& journal) {
    return [&journal]() -> std::unique_ptr<Protocol> { return std::make_unique<Recorder>(journal); };
}

// An address at which nobody listens, though the port was free a moment ago.
Address refusing_address(const char* host = "127.0.0.1") {
    Socket socket = Socket::open(Address::ip(host, 0)->family());
    socket.bind(*Address::ip(host, 0));
    return socket.local();
}

// A listener whose queue is full: on loopback the one who connects is then left without an answer.
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
    Acceptor acceptor(reactor, "localhost", 0, make_protocol<Echo>);
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
    Acceptor acceptor(reactor, "127.0.0.1", 0, make_protocol<Echo>);
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
    Reactor reactor;
    SilentListener silent;
    Acceptor acceptor(reactor, "127.0.0.1", 0, make_protocol<Echo>);
    const std::size_t before = open_descriptors();
    Journal journal;
    ConnectorOptions options;
    options.attempt_delay = std::chrono::milliseconds(1);
    const Connector connector(reactor, {silent.listener.local(), acceptor.addresses()[0]}, record(journal), options);
    run_until(reactor, [&] { return journal.transport != nullptr && acceptor.connections() == 1; });
    CHECK(journal.transport->peer() == acceptor.addresses()[0]);
    CHECK(open_descriptors() == before + 2);  // both ends of the one connection
}

TEST_CASE("S38: an address that refuses is followed by the next at once") {
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, make_protocol<Echo>);
    Journal journal;
    ConnectorOptions options;
    options.attempt_delay = std::chrono::hours(1);
    const Connector connector(reactor, {refusing_address(), refusing_address("::1"), acceptor.addresses()[0]},
                              record(journal), options);
    run_until(reactor, [&] { return journal.transport != nullptr; });
    CHECK(connector.failures().size() == 2);
}

TEST_CASE("S35: a Unix socket with a full backlog is tried again until there is room") {
    Reactor reactor;
    Socket listener = Socket::open(Address::Family::unix_domain);
    listener.bind(Address::unix_abstract("reactor-test-" + std::to_string(::getpid())));
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
        Acceptor acceptor(reactor, "127.0.0.1", 0, make_protocol<Echo>);
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
    std::optional<Acceptor> acceptor(std::in_place, reactor, "127.0.0.1", std::uint16_t(0), make_protocol<Echo>);
    const std::vector<Address> addresses = acceptor->addresses();
    ConnectorOptions options;
    options.reconnect = Reconnect{std::chrono::milliseconds(1), std::chrono::milliseconds(4), 0.5};
    Connector connector(reactor, addresses, record(journal), options);
    run_until(reactor, [&] { return journal.count("connected") == 1; });

    journal.transport->abort();
    run_until(reactor, [&] { return journal.count("connected") == 2; });

    acceptor.reset();
    journal.transport->abort();
    run_until(reactor, [&] { return journal.count("disconnected") >= 5; });
    CHECK(journal.count("connected") == 2);

    acceptor.emplace(reactor, addresses, make_protocol<Echo>);
    run_until(reactor, [&] { return journal.count("connected") == 3; });
    connector.cancel();
    journal.transport->abort();
    settle(reactor);
    CHECK(journal.count("connected") == 3);
    CHECK_FALSE(connector.connecting());
}

TEST_CASE("S76: a look-up never calls back from inside, and a cancelled one never at all") {
    Reactor reactor;
    bool called = false;
    for (const char* name : {"127.0.0.1", "localhost", "nowhere.invalid"}) {
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
    Reactor reactor;
    Journal journal;
    pthread_attr_t before, impossible;
    REQUIRE(::pthread_getattr_default_np(&before) == 0);
    REQUIRE(::pthread_attr_init(&impossible) == 0);
    REQUIRE(::pthread_attr_setstacksize(&impossible, std::size_t(1) << 47) == 0);
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
