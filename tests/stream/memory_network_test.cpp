// The testing kit's network: acceptors and connectors that meet by name, on a clock that the test moves.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/testing/memory_network.hpp>
#include <reactor/timer.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;
using testing::MemoryNetwork;

namespace {

ProtocolFactory record(Journal& journal) {
    return [&journal] { return std::make_unique<Recorder>(journal); };
}
ProtocolFactory record(std::deque<Journal>& journals) {
    return [&journals] { return std::make_unique<Recorder>(journals.emplace_back()); };
}

}  // namespace

TEST_CASE("Acceptors and connectors of a network in memory meet by name and port, and bytes go both ways") {
    MemoryNetwork network;
    const Acceptor one(network.reactor(), "one.test", 80, factory<Echo>());
    std::deque<Journal> accepted;
    const Acceptor other(network.reactor(), "other.test", 80, record(accepted));
    Journal client;
    const Connector connector(network.reactor(), "one.test", 80, record(client));
    network.settle();
    REQUIRE(client.transport != nullptr);
    client.transport->write(std::string(1'000'000, 'x'));
    network.settle();
    CHECK(client.input.size() == 1'000'000);
    CHECK(one.connections() == 1);
    CHECK(accepted.empty());
}

TEST_CASE("In a network in memory a name that is not known is not found, and one without an acceptor is refused") {
    MemoryNetwork network;
    network.add("silent.test");
    Journal unknown, refused, wrong_port;
    const Acceptor acceptor(network.reactor(), "known.test", 80, factory<Echo>());
    const Connector first(network.reactor(), "unknown.test", 80, record(unknown));
    const Connector second(network.reactor(), "silent.test", 80, record(refused));
    const Connector third(network.reactor(), "known.test", 81, record(wrong_port));
    network.settle();
    CHECK(unknown.reason == std::errc::address_not_available);
    CHECK(refused.reason == std::errc::connection_refused);
    CHECK(wrong_port.reason == std::errc::connection_refused);
}

TEST_CASE("In a network in memory an acceptor has the addresses and the port of the network") {
    MemoryNetwork network;
    const Acceptor acceptor(network.reactor(), "server.test", 0, factory<Echo>());
    CHECK(acceptor.port() != 0);
    REQUIRE(acceptor.addresses().size() == 1);
    CHECK(acceptor.addresses()[0] == network.add("server.test").with_port(acceptor.port()));
    CHECK(acceptor.addresses()[0].host().starts_with("192.0.2."));
    const Acceptor both(network.reactor(), "localhost", 0, factory<Echo>());
    REQUIRE(both.addresses().size() == 2);
    CHECK(both.addresses()[0].port() == both.addresses()[1].port());
    CHECK(both.port() != acceptor.port());

    Journal client;
    const Connector connector(network.reactor(), acceptor.addresses(), record(client));
    network.settle();
    CHECK(client.transport != nullptr);
}

TEST_CASE("In a network in memory a port has one acceptor, and another one when that has closed") {
    MemoryNetwork network;
    Acceptor first(network.reactor(), "server.test", 80, factory<Echo>());
    CHECK_THROWS_AS((void)Acceptor(network.reactor(), "server.test", 80, factory<Echo>()), std::system_error);
    first.close();
    const Acceptor second(network.reactor(), "server.test", 80, factory<Echo>());
    MemoryNetwork elsewhere;  // in which the name is another's
    const Acceptor third(elsewhere.reactor(), "server.test", 80, factory<Echo>());
    Journal client;
    const Connector connector(elsewhere.reactor(), "server.test", 80, record(client));
    elsewhere.settle();
    network.settle();
    CHECK(third.connections() == 1);
    CHECK(second.connections() == 0);
}

TEST_CASE("An acceptor on every address of a network in memory is reached by each name") {
    MemoryNetwork network;
    network.add("one.test");
    const Acceptor acceptor(network.reactor(), "", 80, factory<Echo>());
    std::deque<Journal> clients;
    std::deque<Connector> connectors;
    for (const char* host : {"one.test", "localhost", "127.0.0.1", "::1"})
        connectors.emplace_back(network.reactor(), host, std::uint16_t(80), record(clients));
    network.settle();
    CHECK(acceptor.connections() == 4);
    CHECK(network.reset("") == 4);
    network.settle();
    CHECK(acceptor.connections() == 0);
}

TEST_CASE("In a network in memory a test may have connections refused, for any reason, and then no more") {
    MemoryNetwork network;
    const Acceptor acceptor(network.reactor(), "server.test", 80, factory<Echo>());
    network.refuse("server.test", std::make_error_code(std::errc::host_unreachable));
    Journal refused, accepted;
    const Connector first(network.reactor(), "server.test", 80, record(refused));
    network.settle();
    CHECK(refused.reason == std::errc::host_unreachable);
    network.restore("server.test");
    const Connector second(network.reactor(), "server.test", 80, record(accepted));
    network.settle();
    CHECK(accepted.transport != nullptr);
    CHECK(acceptor.counters().accepted == 1);
}

TEST_CASE("In a network in memory connecting takes as long as a test says, and a deadline ends it") {
    MemoryNetwork network;
    const Acceptor acceptor(network.reactor(), "server.test", 80, factory<Echo>());
    network.delay("server.test", 3s);
    Journal slow, late;
    const Connector first(network.reactor(), "server.test", 80, record(slow));
    network.advance(2999ms);
    CHECK(slow.transport == nullptr);
    network.advance(1ms);
    CHECK(slow.transport != nullptr);

    network.delay("server.test", Duration::max());
    ConnectorOptions options;
    options.timeout = 10s;
    const Connector second(network.reactor(), "server.test", 80, record(late), options);
    network.advance(9999ms);
    CHECK_FALSE(late.over);
    network.advance(1ms);
    CHECK(late.reason == std::errc::timed_out);
    CHECK(acceptor.counters().accepted == 1);
}

TEST_CASE("S38: in a network in memory an address that is silent has 250 ms until the next is tried beside it") {
    MemoryNetwork network;
    const Acceptor acceptor(network.reactor(), "localhost", 80, factory<Echo>());
    network.delay("::1", Duration::max());
    Journal client;
    const Connector connector(network.reactor(), "localhost", 80, record(client));
    network.advance(249ms);
    CHECK(client.transport == nullptr);
    network.advance(1ms);
    CHECK(client.transport != nullptr);
}

TEST_CASE("In a network in memory the connections to a name are reset on both sides, and no others") {
    MemoryNetwork network;
    std::deque<Journal> accepted, clients, others;
    const Acceptor server(network.reactor(), "server.test", 80, record(accepted));
    const Acceptor other(network.reactor(), "other.test", 80, factory<Echo>());
    std::deque<Connector> connectors;
    for (int i = 0; i < 3; ++i)
        connectors.emplace_back(network.reactor(), "server.test", std::uint16_t(80), record(clients));
    connectors.emplace_back(network.reactor(), "other.test", std::uint16_t(80), record(others));
    network.settle();
    CHECK(network.reset("server.test") == 3);
    network.settle();
    for (const std::deque<Journal>* side : {&accepted, &clients}) {
        REQUIRE(side->size() == 3);
        for (const Journal& journal : *side) CHECK(journal.reason == std::errc::connection_reset);
    }
    CHECK_FALSE(others[0].over);
    CHECK(network.reset("server.test") == 0);
}

TEST_CASE("S100: in a network in memory a connector waits longer after each refusal, and is there when it may be") {
    MemoryNetwork network;
    network.add("server.test");
    std::deque<Journal> tries;
    ConnectorOptions options;
    options.reconnect = 800ms;
    const Connector connector(network.reactor(), "server.test", 80, record(tries), options);
    network.settle();
    CHECK(tries.size() == 1);
    network.advance(100ms + 200ms + 400ms);  // each shortened by up to half
    CHECK(tries.size() >= 4);
    CHECK(tries.size() <= 6);
    const Acceptor acceptor(network.reactor(), "server.test", 80, factory<Echo>());
    network.advance(800ms);
    CHECK(acceptor.connections() == 1);
    network.reset("server.test");
    network.advance(800ms);
    CHECK(acceptor.connections() == 1);
    CHECK(acceptor.counters().accepted == 2);
}

TEST_CASE("As time passes in a network in memory, each timer is called at its own time") {
    MemoryNetwork network;
    Reactor& reactor = network.reactor();
    const TimePoint start = reactor.now();
    std::vector<Duration> called;
    const auto note = [&] { called.push_back(reactor.now() - start); };
    Timer beat = reactor.every(3s, note), once = reactor.after(4s, note);
    network.advance(7s);
    CHECK(called == std::vector<Duration>{3s, 4s, 6s});
    CHECK(reactor.now() - start == 7s);
    CHECK_THROWS_AS(network.advance(-1s), std::invalid_argument);
}

TEST_CASE("Settling a network in memory includes what the other side sees of a connection that the test aborts") {
    MemoryNetwork network;
    Journal client, server;
    const Acceptor acceptor(network.reactor(), "a.test", 80, record(server));
    const Connector connector(network.reactor(), "a.test", 80, record(client));
    network.settle();
    REQUIRE(client.transport != nullptr);
    client.transport->abort();
    network.settle();
    CHECK(acceptor.connections() == 0);
}

TEST_CASE("A network in memory in which there is always something to do says so, and hangs no test") {
    MemoryNetwork network;
    std::function<void()> again = [&] { network.reactor().post(again); };
    again();
    CHECK_THROWS_AS(network.settle(), std::logic_error);
}

TEST_CASE("In a network in memory an acceptor drains: its connections are asked to end, and the rest is cut in time") {
    MemoryNetwork network;
    std::deque<Journal> accepted;
    Acceptor acceptor(network.reactor(), "server.test", 80, record(accepted));
    Journal client;
    const Connector connector(network.reactor(), "server.test", 80, record(client));
    network.settle();
    REQUIRE(accepted.size() == 1);
    accepted[0].on_draining = [] {};  // it does not end
    std::optional<Drained> report;
    acceptor.drain(30s, [&](const Drained& drained) { report = drained; });
    network.advance(29s);
    CHECK(accepted[0].count("draining") == 1);
    CHECK_FALSE(report);
    network.advance(1s);
    REQUIRE(report);
    CHECK(report->cut == 1);
}

TEST_CASE("Connections, acceptors and connectors under way may be left when a network in memory goes") {
    const std::size_t before = open_descriptors();
    {
        Journal client;
        MemoryNetwork network;
        const Acceptor acceptor(network.reactor(), "server.test", 80, factory<Echo>());
        const Connector connector(network.reactor(), "server.test", 80, record(client));
        network.settle();
        network.delay("server.test", 1s);
        const Connector late(network.reactor(), "server.test", 80, record(client));
        network.settle();
    }
    CHECK(open_descriptors() == before);
}
