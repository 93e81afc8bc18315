// Draining a loop, and a group of loops: everything that makes connections stops, every connection is asked to end,
// and one report has the outcome. An acceptor's own drain is in acceptor_test.cpp.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/hook.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <atomic>
#include <deque>
#include <future>
#include <optional>

using namespace reactor;

namespace {

const Address loopback = *Address::ip("127.0.0.1", 0);

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
    Acceptor target(elsewhere, {loopback}, factory<Echo>());
    std::deque<Journal> accepted, connected;
    Acceptor first(reactor, {loopback}, record(accepted)), second(reactor, {loopback}, record(accepted));
    ConnectorOptions again;
    again.reconnect = std::chrono::seconds(30);
    Connector connector(reactor, {target.addresses()[0]}, record(connected), again);
    const Socket one = connect_to(first.addresses()[0]), two = connect_to(second.addresses()[0]);
    Conversation alone(reactor);
    run_until(reactor, [&] {
        elsewhere.run_once(Duration::zero());
        return accepted.size() == 2 && connected.size() == 1 && connected[0].transport != nullptr &&
               accepted[0].transport != nullptr && accepted[1].transport != nullptr &&
               alone.journal.transport != nullptr;
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
    silent.bind(loopback);
    std::deque<Journal> journals;
    ConnectorOptions again;
    again.reconnect = std::chrono::seconds(30);
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
    drain(
        reactor, std::chrono::hours(1), [&](const Drained& drained) { report = drained; }, Draining::left);
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
    drain(
        reactor, std::chrono::seconds(30), [&](const Drained& drained) { report = drained; }, Draining::left);
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
        ReactorGroup group(2);
        std::deque<Acceptor> acceptors;
        std::vector<Address> addresses;
        for (std::size_t i = 0; i < group.size(); ++i) {
            acceptors.emplace_back(group[i], std::vector<Address>{loopback},
                                   stubborn ? ProtocolFactory(factory<Stubborn>()) : ProtocolFactory(factory<Echo>()));
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

TEST_CASE("S101: of two threads that drain a group at the same moment one has its report, and only one") {
    constexpr int rounds = 200;
    ReactorGroup group(8);
    std::atomic<int> arrived{0};
    int reports = 0;  // by this thread, which turns the loops
    const auto drain_with_the_other = [&](int round) {
        ++arrived;
        while (arrived < 2 * round) {
        }
        drain(group, std::chrono::hours(1), [&](const Drained&) { ++reports; });
    };
    for (int round = 1; round <= rounds; ++round) {
        std::thread other(drain_with_the_other, round);
        drain_with_the_other(round);
        other.join();
        for (int turn = 0; turn < 3; ++turn)
            for (std::size_t i = 0; i < group.size(); ++i) group[i].run_once(Duration::zero());
        REQUIRE(reports == round);
    }
}

namespace {

// Two loops turned by this thread, so that each step of a move is the same every time.
struct Ways {
    Reactor from, to;
    Conversation travels{from}, stays{to};

    Ways() {
        run_until(from, [&] { return travels.journal.transport != nullptr; });
        run_until(to, [&] { return stays.journal.transport != nullptr; });
        travels.journal.on_draining = [] {};  // both go on
        stays.journal.on_draining = [] {};
    }
    void depart(MoveOnlyFunction<void()> arrived = nullptr) {
        static_cast<Connection&>(*travels.journal.transport).move_to(to, std::move(arrived));
        settle(from);
    }
};

}  // namespace

TEST_CASE("S101: a group's drain waits for a connection on its way between two loops, and counts it once") {
    ReactorGroup group(2);  // turned by this thread, and not started
    Conversation talk(group[0]);
    run_until(group[0], [&] { return talk.journal.transport != nullptr; });
    std::optional<Drained> report;
    group[0].post([&] {
        static_cast<Connection&>(*talk.journal.transport).move_to(group[1]);
        drain(group, Duration::max(), [&](const Drained& drained) { report = drained; });
    });
    group[0].run_once(Duration::zero());
    settle(group[1]);  // it drains, and has no connection
    settle(group[0]);  // the connection leaves, and then this loop drains and has none
    CHECK_FALSE(report);
    settle(group[1]);
    CHECK(talk.journal.count("draining") == 1);
    CHECK_FALSE(report);
    talk.peer.shutdown_write();
    run_until(group[1], [&] { return report.has_value(); });
    CHECK(talk.journal.over);
    CHECK(report->finished == 1);
    CHECK(report->cut == 0);
    settle(group[0]);
}

TEST_CASE("S101: a loop drains only when the connection that was on its way to it has arrived and ended") {
    Ways ways;
    ways.stays.journal.transport->abort();
    settle(ways.to);
    ways.depart();
    std::optional<Drained> report;
    // In a callback of the loop: the timers come next, and the arrival, which was posted, only behind them.
    Hook hook(ways.to, Hook::When::after_wait, [&, begun = false]() mutable {
        if (std::exchange(begun, true)) return;
        drain(ways.to, Duration::max(), [&](const Drained& drained) { report = drained; });
    });
    settle(ways.to);
    CHECK_FALSE(report);
    CHECK(ways.travels.journal.count("draining") == 1);
    ways.travels.journal.transport->close();
    ways.travels.peer.close();
    run_until(ways.to, [&] { return report.has_value(); });
    CHECK(report->finished == 1);
}

TEST_CASE("S101: a connection that arrives after the deadline of a drain is told and cut, and the drain ends") {
    Ways ways;
    ways.depart();
    std::optional<Drained> report;
    // The deadline passes with the timers of the next turn, and the arrival is posted work, which comes after these.
    drain(ways.to, Duration::zero(), [&](const Drained& drained) { report = drained; });
    run_until(ways.to, [&] { return report.has_value(); });
    CHECK(ways.stays.journal.reason == std::errc::timed_out);
    CHECK(ways.travels.journal.reason == std::errc::timed_out);
    CHECK(ways.travels.journal.count("draining") == 1);
    CHECK(report->cut == 2);
}

TEST_CASE("A connection that the program makes after the deadline of a drain is cut, and the drain ends") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Conversation first(reactor);
    std::optional<Conversation> late;
    run_until(reactor, [&] { return first.journal.transport != nullptr; });
    first.journal.on_draining = [] {};
    first.journal.on_disconnected = [&] { late.emplace(reactor); };  // to save what was not finished
    std::optional<Drained> report;
    drain(reactor, std::chrono::seconds(30), [&](const Drained& drained) { report = drained; });
    settle(reactor);
    clock.advance(std::chrono::seconds(30));
    run_until(reactor, [&] { return report.has_value(); });
    REQUIRE(late);
    CHECK(late->journal.reason == std::errc::timed_out);
    CHECK(report->cut == 2);
}

TEST_CASE("A connection that moves to a draining loop is told of its arrival, then of the drain; the others are not") {
    Ways ways;
    std::vector<std::string> order;
    ways.travels.journal.on_draining = [&] { order.push_back("draining"); };
    const auto depart = [&] { ways.depart([&] { order.push_back("arrived"); }); };
    bool done = false;
    const auto drain_there = [&] { drain(ways.to, Duration::max(), [&](const Drained&) { done = true; }); };
    SUBCASE("when the others have been told") {
        drain_there();
        settle(ways.to);
        CHECK(ways.stays.journal.count("draining") == 1);
        depart();
    }
    SUBCASE("when nobody has been told yet") {
        depart();
        drain_there();
    }
    settle(ways.to);
    CHECK(order == std::vector<std::string>{"arrived", "draining"});
    CHECK(ways.stays.journal.count("draining") == 1);
    CHECK_FALSE(done);
}

TEST_CASE("A further drain takes the place of the one before, with its own wish, deadline and report") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    talk.journal.on_draining = [] {};
    int first = 0, second = 0;
    drain(
        reactor, std::chrono::seconds(10), [&](const Drained&) { ++first; }, Draining::told);
    SUBCASE("to leave the connections before they were told") {
        drain(
            reactor, std::chrono::seconds(20), [&](const Drained&) { ++second; }, Draining::left);
        settle(reactor);
        CHECK(talk.journal.count("draining") == 0);
    }
    SUBCASE("to tell them once more") {
        settle(reactor);
        drain(
            reactor, std::chrono::seconds(20), [&](const Drained&) { ++second; }, Draining::told);
        settle(reactor);
        CHECK(talk.journal.count("draining") == 2);
    }
    clock.advance(std::chrono::seconds(10));
    settle(reactor);
    CHECK_FALSE(talk.journal.over);
    clock.advance(std::chrono::seconds(10));
    run_until(reactor, [&] { return second == 1; });
    CHECK(talk.journal.over);
    CHECK(first == 0);
}

TEST_CASE("A loop that is drained anew leaves its group's drain, which then reports nothing") {
    ReactorGroup group(2);
    Conversation last(group[1]);
    run_until(group[1], [&] { return last.journal.transport != nullptr; });
    last.journal.on_draining = [] {};
    auto held = std::make_shared<int>();
    const std::weak_ptr<int> captured = held;
    int of_group = 0, of_loop = 0;
    drain(group, Duration::max(), [&of_group, held = std::move(held)](const Drained&) { ++of_group; });
    settle(group[0]);
    settle(group[1]);  // now the group's drain waits for the second loop alone
    drain(group[0], Duration::max(), [&](const Drained&) { ++of_loop; });
    CHECK(captured.expired());
    settle(group[0]);
    CHECK(of_loop == 1);
    last.journal.transport->abort();
    settle(group[1]);
    CHECK(last.journal.over);
    CHECK(of_group == 0);
}

TEST_CASE("A drain that leaves connections alone lets a connector finish, and none connects again") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Reactor elsewhere;
    Acceptor target(elsewhere, {loopback}, factory<Echo>());
    const Address refusing = Acceptor(elsewhere, {loopback}, factory<Echo>()).addresses()[0];
    std::deque<Journal> connected, refused;
    ConnectorOptions again;
    again.reconnect = std::chrono::seconds(30);
    const Connector waits(reactor, {refusing}, record(refused), again);
    run_until(reactor, [&] { return refused.size() == 1; });
    REQUIRE(waits.connecting());
    const Connector connects(reactor, {target.addresses()[0]}, record(connected), again);
    Conversation conversation(reactor);
    std::optional<Drained> report;
    drain(
        reactor, Duration::max(), [&](const Drained& drained) { report = drained; }, Draining::left);
    CHECK_FALSE(waits.connecting());
    run_until(reactor, [&] {
        elsewhere.run_once(Duration::zero());
        return connected.size() == 1 && connected[0].transport != nullptr;
    });
    CHECK_FALSE(report);
    connected[0].transport->abort();
    settle(reactor);
    CHECK_FALSE(connects.connecting());
    conversation.journal.transport->abort();
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(report->cut == 2);
}

TEST_CASE("A drain reports only what ends after it has begun") {
    Reactor reactor;
    Conversation in_order(reactor), failed(reactor), talk(reactor);
    run_until(reactor, [&] {
        return in_order.journal.transport != nullptr && failed.journal.transport != nullptr &&
               talk.journal.transport != nullptr;
    });
    in_order.peer.close();
    failed.journal.transport->write(std::string(8'000'000, 'x'));
    failed.journal.transport->abort();
    run_until(reactor, [&] { return in_order.journal.over && failed.journal.over; });
    std::optional<Drained> report;
    drain(reactor, Duration::max(), [&](const Drained& drained) { report = drained; });
    talk.peer.shutdown_write();
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(report->finished == 1);
    CHECK(report->cut == 0);
    CHECK(report->bytes_cut == 0);
}

TEST_CASE("A connection that an acceptor adopts while it drains is drained with the others") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Acceptor acceptor(reactor, {loopback}, factory<Stubborn>());
    const Socket client = connect_to(acceptor.addresses()[0]);
    Conversation early(reactor), next(reactor), late(reactor);
    run_until(reactor, [&] {
        return acceptor.connections() == 1 && early.journal.transport != nullptr && next.journal.transport != nullptr &&
               late.journal.transport != nullptr;
    });
    early.journal.on_draining = next.journal.on_draining = late.journal.on_draining = [] {};
    std::optional<Drained> report;
    acceptor.drain(std::chrono::seconds(30), [&](const Drained& drained) { report = drained; });
    settle(reactor);
    acceptor.adopt(static_cast<Connection&>(*early.journal.transport));
    settle(reactor);
    CHECK(early.journal.count("draining") == 1);
    acceptor.adopt(static_cast<Connection&>(*next.journal.transport));
    settle(reactor);
    CHECK(next.journal.count("draining") == 1);
    CHECK(early.journal.count("draining") == 1);  // once is enough
    CHECK(late.journal.count("draining") == 0);
    // In the same turn as the deadline, before the report.
    early.journal.on_disconnected = [&] { acceptor.adopt(static_cast<Connection&>(*late.journal.transport)); };
    clock.advance(std::chrono::seconds(30));
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(early.journal.reason == std::errc::timed_out);
    CHECK(late.journal.reason == std::errc::timed_out);
    CHECK(report->cut == 4);
}
