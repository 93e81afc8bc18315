// Draining a loop, and a group of loops: everything that makes connections stops, every connection is told, and one
// report says what came of it. An acceptor's own drain is in acceptor_test.cpp.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <atomic>
#include <deque>
#include <future>
#include <optional>

using namespace reactor;

namespace {

const Address anywhere = *Address::ip("127.0.0.1", 0);

Socket connect_to(const Address& address) {
    Socket socket = Socket::open(address.family());
    (void)socket.connect(address);
    return socket;
}

ProtocolFactory record(std::deque<Journal>& journals) {
    return [&journals] {
        journals.emplace_back();
        return std::make_unique<Recorder>(journals.back());
    };
}

// Finishes what it has begun: answers draining by nothing.
class Stubborn final : public Protocol {
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
    void draining() override {}
};

}  // namespace

TEST_CASE("A loop drains all its acceptors, connectors and connections as one, and reports once") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Reactor elsewhere;
    Acceptor target(elsewhere, {anywhere}, make_protocol<Echo>);
    std::deque<Journal> accepted, connected;
    Acceptor first(reactor, {anywhere}, record(accepted)), second(reactor, {anywhere}, record(accepted));
    ConnectorOptions again;
    again.reconnect.emplace();
    Connector connector(reactor, {target.addresses()[0]}, record(connected), again);
    const Socket one = connect_to(first.addresses()[0]), two = connect_to(second.addresses()[0]);
    Conversation alone(reactor);
    run_until(reactor, [&] {
        elsewhere.run_once(Duration::zero());
        return accepted.size() == 2 && connected.size() == 1 && connected[0].transport != nullptr &&
               accepted[0].transport != nullptr && accepted[1].transport != nullptr && alone.journal.transport != nullptr;
    });
    alone.journal.on_draining = [] {};  // this one will be cut
    alone.journal.transport->write(std::string(8'000'000, 'x'));
    const std::size_t unsent = alone.journal.transport->queued();

    int reports = 0;
    Drained report;
    drain(reactor, std::chrono::seconds(30), [&](const Drained& drained) {
        ++reports;
        report = drained;
    });
    CHECK(first.addresses().empty());
    CHECK(second.addresses().empty());
    CHECK(alone.journal.count("draining") == 0);  // later, from the loop
    run_until(reactor, [&] { return accepted[0].count("draining") == 1 && accepted[1].count("draining") == 1; });
    ::shutdown(one.get(), SHUT_WR);
    ::shutdown(two.get(), SHUT_WR);
    run_until(reactor, [&] {
        elsewhere.run_once(Duration::zero());
        return accepted[0].over && accepted[1].over && connected[0].over;
    });
    CHECK(reports == 0);
    CHECK_FALSE(alone.journal.over);
    CHECK(connected.size() == 1);
    CHECK_FALSE(connector.connecting());

    clock.advance(std::chrono::seconds(30));
    run_until(reactor, [&] { return reports == 1; });
    for (const Journal* journal : {&accepted[0], &accepted[1], &connected[0], &alone.journal})
        CHECK(journal->count("draining") == 1);
    CHECK(report.finished == 3);
    CHECK(report.cut == 1);
    CHECK(report.bytes_cut == unsent);
    CHECK(alone.journal.reason == std::errc::timed_out);
    clock.advance(std::chrono::hours(1));
    settle(reactor);
    CHECK(reports == 1);
}

TEST_CASE("A loop with nothing to drain says so at once, from the loop, as often as it is asked") {
    Reactor reactor;
    for (int i = 0; i < 3; ++i) {
        std::optional<Drained> report;
        drain(reactor, Duration::max(), [&](const Drained& drained) { report = drained; });
        CHECK_FALSE(report);
        run_until(reactor, [&] { return report.has_value(); });
        CHECK(report->finished + report->cut == 0);
    }
}

TEST_CASE("A loop that is drained does not go on connecting") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Socket silent = Socket::open(Address::Family::ipv4);  // bound and not listening
    silent.bind(anywhere);
    std::deque<Journal> journals;
    ConnectorOptions again;
    again.reconnect.emplace();
    Connector connector(reactor, {silent.local()}, record(journals), again);
    SUBCASE("that has not begun") {}
    SUBCASE("again") {
        run_until(reactor, [&] { return journals.size() == 1 && journals[0].over; });
        CHECK(connector.connecting());
    }
    const std::size_t before = journals.size();
    bool done = false;
    drain(reactor, std::chrono::hours(1), [&](const Drained&) { done = true; });
    run_until(reactor, [&] { return done; });
    clock.advance(std::chrono::hours(1));
    settle(reactor);
    CHECK(journals.size() == before);
    CHECK_FALSE(connector.connecting());
}

TEST_CASE("A loop that leaves its connections alone is drained with the last of them") {
    Reactor reactor;
    Conversation conversation(reactor);
    run_until(reactor, [&] { return conversation.journal.transport != nullptr; });
    std::optional<Drained> report;
    drain(reactor, std::chrono::hours(1), [&](const Drained& drained) { report = drained; }, Draining::left);
    settle(reactor);
    CHECK(conversation.journal.count("draining") == 0);
    CHECK_FALSE(report);
    conversation.peer.shutdown_write();
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(report->finished == 1);
}

TEST_CASE("A connection that has not begun when its loop tells of the drain is closed, and hears of its end alone") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::optional<Conversation> fresh;
    Timer opens(reactor, [&] { fresh.emplace(reactor); });
    opens.start(Duration::zero());
    std::optional<Drained> report;
    drain(reactor, Duration::max(), [&](const Drained& drained) { report = drained; });
    run_until(reactor, [&] { return fresh.has_value(); });
    settle(reactor);
    CHECK_FALSE(report);
    fresh->peer.close();
    run_until(reactor, [&] { return fresh->journal.over; });
    CHECK(fresh->journal.calls == std::vector<std::string>{"disconnected"});
    CHECK_FALSE(fresh->journal.reason);
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(report->finished == 1);
    CHECK(report->cut == 0);
}

TEST_CASE("Connections that a drain leaves alone are cut at its deadline all the same, untold") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    std::optional<Drained> report;
    drain(reactor, std::chrono::seconds(30), [&](const Drained& drained) { report = drained; }, Draining::left);
    clock.advance(std::chrono::seconds(30) - Duration(1));
    settle(reactor);
    CHECK_FALSE(talk.journal.over);
    clock.advance(Duration(1));
    settle(reactor);
    CHECK(talk.journal.calls == std::vector<std::string>{"connected", "disconnected"});
    CHECK(talk.journal.reason == std::errc::timed_out);
    REQUIRE(report.has_value());
    CHECK(report->cut == 1);
    CHECK(report->finished == 0);
}

TEST_CASE("A drain that had nobody to wait for waits for who comes before it has said so") {
    Reactor reactor;
    std::optional<Drained> report;
    drain(reactor, Duration::max(), [&](const Drained& drained) { report = drained; });
    Conversation late(reactor);
    settle(reactor);
    CHECK(late.journal.count("draining") == 1);
    CHECK_FALSE(report);
    late.peer.close();
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(late.journal.over);
    CHECK(report->finished == 1);
}

TEST_CASE("A connection that comes to a loop which is being drained is told when it has arrived") {
    Reactor from, to;
    Conversation travels(from), stays(to);
    const auto run = [&](const std::function<bool()>& condition) {
        run_until(to, [&] {
            from.run_once(Duration::zero());
            return condition();
        });
    };
    run([&] { return travels.journal.transport != nullptr && stays.journal.transport != nullptr; });
    stays.journal.on_draining = [] {};
    std::optional<Drained> report;
    drain(to, std::chrono::hours(1), [&](const Drained& drained) { report = drained; });
    run([&] { return stays.journal.count("draining") == 1; });
    static_cast<Connection&>(*travels.journal.transport).move_to(to);
    travels.peer.shutdown_write();
    run([&] { return travels.journal.over; });
    CHECK(travels.journal.count("draining") == 1);
    CHECK_FALSE(report);
    stays.journal.transport->close();
    stays.peer.shutdown_write();
    run([&] { return report.has_value(); });
    CHECK(report->finished == 2);

    std::optional<Drained> nobody;  // where it came from there is none left
    drain(from, std::chrono::hours(1), [&](const Drained& drained) { nobody = drained; });
    run([&] { return nobody.has_value(); });
    CHECK(nobody->finished + nobody->cut == 0);
}

TEST_CASE("A group drains each loop on its thread and reports the sums once") {
    for (const bool stubborn : {false, true}) {
        CAPTURE(stubborn);
        ReactorGroup group({.threads = 2});
        std::deque<Acceptor> acceptors;
        std::vector<Address> addresses;
        for (std::size_t i = 0; i < group.size(); ++i) {
            acceptors.emplace_back(group[i], std::vector<Address>{anywhere},
                                   stubborn ? ProtocolFactory(make_protocol<Stubborn>) : ProtocolFactory(make_protocol<Echo>));
            addresses.push_back(acceptors.back().addresses().at(0));
        }
        group.start();
        std::vector<FileDescriptor> clients;
        for (int i = 0; i < 6; ++i) {
            const Address& address = addresses[std::size_t(i) % 2];
            clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            const int client = clients.back().get();
            REQUIRE(::connect(client, address.data(), socklen_t(address.size())) == 0);
            char echoed = 0;
            REQUIRE(::send(client, "x", 1, MSG_NOSIGNAL) == 1);
            REQUIRE(::recv(client, &echoed, 1, MSG_WAITALL) == 1);
            if (!stubborn) ::shutdown(client, SHUT_WR);
        }
        std::atomic<int> reports{0};
        std::promise<Drained> promise;
        auto future = promise.get_future();
        const Duration longest = stubborn ? Duration(std::chrono::milliseconds(1)) : Duration(std::chrono::seconds(60));
        drain(group, longest, [&](const Drained& drained) {
            ++reports;
            promise.set_value(drained);
            group.stop();
        });
        REQUIRE(future.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
        const Drained drained = future.get();
        group.join();
        CHECK(reports == 1);
        CHECK(drained.cut == (stubborn ? 6 : 0));
        CHECK(drained.finished <= (stubborn ? 0 : 6));  // some may have ended before
        for (const Acceptor& acceptor : acceptors) {
            CHECK(acceptor.connections() == 0);
            CHECK(acceptor.addresses().empty());
        }
    }
}
