// The acceptor of packets: limits, running out of descriptors, handing its socket on, and ending.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"

#include <protocols/echo.hpp>
#include <reactor/datagram/packet_acceptor.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <unistd.h>

#include <deque>
#include <optional>

using namespace reactor;

namespace {

constexpr SocketKind packets = SocketKind::sequenced_packets;

Socket connect_to(const Address& address) {
    Socket socket = Socket::open(address.family(), packets);
    if (const auto error = socket.connect(address)) throw std::system_error(error, address.to_string());
    return socket;
}

std::vector<Socket> connect_to(const Address& address, int count) {
    std::vector<Socket> clients;
    while (count-- > 0) clients.push_back(connect_to(address));
    return clients;
}

// Does the server at the other end echo? An end is an answer too.
bool echoes(Reactor& reactor, const Socket& client, std::string_view text = "hello") {
    write_some(client, text);
    std::string buffer(100, '\0');
    ssize_t count = -1;
    run_until(reactor, [&] {
        count = ::recv(client.get(), buffer.data(), buffer.size(), 0);
        return count >= 0 || errno == ECONNRESET;
    });
    return count >= 0 && buffer.substr(0, std::size_t(count)) == text;
}

// The calls of one connection, and the action that the test wants when it is asked to end.
struct PacketNotes {
    int opened = 0, draining = 0, closed = 0;
    std::error_code reason;
    DatagramTransport* transport = nullptr;
    std::function<void()> on_draining;
};

class Noted final : public DatagramProtocol {
public:
    explicit Noted(PacketNotes& notes) : notes_(notes) {}

private:
    void opened() override {
        ++notes_.opened;
        notes_.transport = &transport();
    }
    void received(const Datagram& packet) override { transport().send(packet.data); }
    void draining() override {
        ++notes_.draining;
        if (notes_.on_draining) return notes_.on_draining();
        DatagramProtocol::draining();
    }
    void closed(std::error_code reason) override {
        ++notes_.closed;
        notes_.reason = reason;
    }
    PacketNotes& notes_;
};

const auto make_echo = [] { return std::make_unique<DatagramEcho>(); };

}  // namespace

TEST_CASE("At its limit an acceptor of packets leaves others waiting, and goes on when one ends") {
    Reactor reactor;
    PacketAcceptor acceptor(reactor, new_unix_name(), make_echo, {}, 2);
    std::vector<Socket> clients = connect_to(acceptor.address(), 3);
    CHECK(echoes(reactor, clients[0]));
    CHECK(echoes(reactor, clients[1]));
    CHECK(write_some(clients[2], "waiting") == 7);
    CHECK(settle(reactor, 20) <= 3);
    CHECK(acceptor.connections() == 2);
    CHECK(read_all(clients[2]).empty());
    clients.erase(clients.begin());
    run_until(reactor, [&] { return read_all(clients[1]) == "waiting"; });
    CHECK(acceptor.connections() == 2);
    CHECK(acceptor.counters().accepted == 3);
}

TEST_CASE("An acceptor of packets that is paused leaves others waiting until it goes on") {
    Reactor reactor;
    PacketAcceptor acceptor(reactor, new_unix_name(), make_echo);
    acceptor.pause();
    const Socket client = connect_to(acceptor.address());
    settle(reactor);
    CHECK(acceptor.connections() == 0);
    acceptor.resume();
    CHECK(echoes(reactor, client));
}

TEST_CASE("A flood of packet connections is accepted in portions") {
    Reactor reactor;
    PacketAcceptor acceptor(reactor, new_unix_name(), make_echo);
    std::vector<Socket> clients = connect_to(acceptor.address(), 100);
    std::uint64_t before = 0;
    while (before < 100) {
        reactor.run_once();
        CHECK(acceptor.counters().accepted - before <= 64);
        before = acceptor.counters().accepted;
    }
    for (const Socket& client : clients) CHECK(echoes(reactor, client));
}

TEST_CASE("S27: out of descriptors an acceptor of packets sheds, says so, does not spin, and recovers") {
    Reactor reactor;
    PacketAcceptor acceptor(reactor, new_unix_name(), make_echo);
    const Address address = acceptor.address();
    std::uint64_t told_shed = 0, told_back_offs = 0;
    reactor.on_notice([&](Notice what, std::string_view text) {
        if (what == Notice::connection_shed) told_shed += text.starts_with(address.to_string()) ? 1 : 0;
        if (what == Notice::accept_backed_off) ++told_back_offs;
    });
    std::vector<Socket> clients = connect_to(address, 30);
    {
        const FewDescriptors few(10);
        run_until(reactor, [&] { return acceptor.counters().accepted + acceptor.counters().shed == 30; });
        CHECK(acceptor.counters().shed >= 15);
        CHECK(acceptor.counters().back_offs >= 1);
        CHECK(settle(reactor, 20) <= 3);
        CHECK(echoes(reactor, clients[0]));
        CHECK_FALSE(echoes(reactor, clients[29]));
    }
    CHECK(told_shed == acceptor.counters().shed);
    CHECK(told_back_offs == acceptor.counters().back_offs);
    clients.clear();
    CHECK(echoes(reactor, connect_to(address)));
    run_until(reactor, [&] { return acceptor.connections() == 0; });
}

TEST_CASE("A drain of packets tells each protocol once, cuts what is left at its deadline, and reports both") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::deque<PacketNotes> notes;
    PacketAcceptor acceptor(reactor, new_unix_name(), [&]() -> std::unique_ptr<DatagramProtocol> {
        notes.emplace_back();
        return std::make_unique<Noted>(notes.back());
    });
    const Address address = acceptor.address();
    std::vector<Socket> clients;
    for (std::size_t i = 0; i < 4; ++i) {
        clients.push_back(connect_to(address));
        run_until(reactor, [&] { return notes.size() == i + 1 && notes.back().opened == 1; });
    }
    // One closes as all do, one has a word to say first, one ignores it, one has more to send than its peer reads.
    notes[1].on_draining = [&] {
        notes[1].transport->send("the last word");
        notes[1].transport->close();
    };
    notes[2].on_draining = [] {};
    while (notes[3].transport->queued() == 0) notes[3].transport->send(std::string(10'000, 'x'));
    notes[3].transport->send(std::string(10'000, 'x'));
    const std::size_t unsent = notes[3].transport->queued();

    std::optional<PacketAcceptor::Drained> report;
    acceptor.drain(std::chrono::seconds(30), [&](const PacketAcceptor::Drained& drained) { report = drained; });
    CHECK(acceptor.address() == Address());
    CHECK_THROWS_AS(connect_to(address), std::system_error);
    CHECK(notes[0].draining == 0);  // later, from the loop
    run_until(reactor, [&] { return acceptor.connections() == 1; });
    settle(reactor);
    CHECK_FALSE(report);
    CHECK(read_all(clients[1]) == "the last word");
    CHECK(notes[2].closed == 0);
    CHECK(echoes(reactor, clients[2]));

    clock.advance(std::chrono::seconds(30));
    run_until(reactor, [&] { return report.has_value(); });
    for (const PacketNotes& one : notes) {
        CHECK(one.draining == 1);
        CHECK(one.closed == 1);
    }
    CHECK(report->finished == 3);
    CHECK(report->cut == 1);
    CHECK(report->bytes_cut == unsent);
    CHECK(notes[2].reason == std::errc::timed_out);
    CHECK_FALSE(notes[3].reason);
}

TEST_CASE("A drain of packets that leaves connections alone ends with the last of them") {
    Reactor reactor;
    PacketAcceptor acceptor(reactor, new_unix_name(), make_echo);
    Socket client = connect_to(acceptor.address());
    CHECK(echoes(reactor, client));
    std::optional<PacketAcceptor::Drained> report;
    acceptor.drain(
        std::chrono::hours(1), [&](const PacketAcceptor::Drained& drained) { report = drained; },
        PacketAcceptor::Draining::left);
    CHECK(echoes(reactor, client));
    CHECK_FALSE(report);
    client.close();
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(report->finished == 1);
    CHECK(report->cut == 0);
}

TEST_CASE("A loop that is drained drains its acceptors and connections of packets with all others") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::deque<PacketNotes> notes;
    PacketAcceptor acceptor(reactor, new_unix_name(), [&]() -> std::unique_ptr<DatagramProtocol> {
        notes.emplace_back();
        return std::make_unique<Noted>(notes.back());
    });
    Acceptor streams(reactor, {*Address::ip("127.0.0.1", 0)}, factory<Echo>());
    Conversation talk(reactor);
    const Address address = acceptor.address();
    const Socket one = connect_to(address), two = connect_to(address);
    CHECK(echoes(reactor, one));
    CHECK(echoes(reactor, two));
    notes[1].on_draining = [] {};
    talk.journal.on_draining = [] {};
    const auto connections = reactor.counters().connections;
    CHECK(connections == 3);

    std::optional<Drained> report;
    drain(reactor, std::chrono::seconds(30), [&](const Drained& drained) { report = drained; });
    CHECK_THROWS_AS(connect_to(address), std::system_error);
    run_until(reactor, [&] { return notes[0].closed == 1 && talk.journal.count("draining") == 1; });
    settle(reactor);
    CHECK(notes[1].draining == 1);
    CHECK_FALSE(report);
    clock.advance(std::chrono::seconds(30));
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(report->finished == 1);
    CHECK(report->cut == 2);
    CHECK(notes[1].reason == std::errc::timed_out);
}

TEST_CASE("S69: a protocol of packets that throws when it is told of a drain ends alone, and the others are told") {
    Reactor reactor;
    int hooked = 0;
    reactor.on_exception([&](std::exception_ptr) { ++hooked; });
    std::deque<PacketNotes> notes;
    PacketAcceptor acceptor(reactor, new_unix_name(), [&]() -> std::unique_ptr<DatagramProtocol> {
        notes.emplace_back();
        notes.back().on_draining = [] { throw std::runtime_error("as planned"); };
        return std::make_unique<Noted>(notes.back());
    });
    std::vector<Socket> clients = connect_to(acceptor.address(), 3);
    for (const Socket& client : clients) CHECK(echoes(reactor, client));
    std::optional<PacketAcceptor::Drained> report;
    acceptor.drain(std::chrono::hours(1), [&](const PacketAcceptor::Drained& drained) { report = drained; });
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(report->cut == 3);
    CHECK(hooked == 1);
    for (const PacketNotes& one : notes) CHECK(one.reason == Error::exception);
}

TEST_CASE("A socket of packets is handed on: who waits is served by the successor, and the file stays") {
    const TemporaryFolder folder;
    const Address address = Address::unix_path(folder / "socket");
    Reactor reactor;
    std::optional<PacketAcceptor> first(std::in_place, reactor, address, make_echo);
    const Socket served = connect_to(address);
    CHECK(echoes(reactor, served));
    const Socket waits = connect_to(address);
    REQUIRE(first->listening_sockets().size() == 1);
    Socket handed_on = Socket::adopt(FileDescriptor(::dup(first->listening_sockets()[0])));
    first->leave_file();
    first.reset();
    PacketAcceptor second(reactor, std::move(handed_on), make_echo);
    CHECK(second.address() == address);
    CHECK(echoes(reactor, served));
    CHECK(echoes(reactor, waits));
    CHECK(echoes(reactor, connect_to(address)));
    CHECK(second.counters().accepted == 2);
}

TEST_CASE("Connections of packets outlive their acceptor, and one closed by its own factory stays closed") {
    const std::size_t before = open_descriptors();
    {
        Reactor reactor;
        std::optional<PacketAcceptor> acceptor;
        acceptor.emplace(reactor, new_unix_name(), [&] {
            acceptor->close();
            return make_echo();
        });
        const Address address = acceptor->address();
        const Socket client = connect_to(address);
        CHECK(echoes(reactor, client));
        CHECK(acceptor->listening_sockets().empty());
        CHECK_THROWS_AS(connect_to(address), std::system_error);
        CHECK(acceptor->connections() == 1);
        acceptor.reset();
        CHECK(echoes(reactor, client));
    }
    CHECK(open_descriptors() == before);
}

#if REACTOR_HAS(POLLRDHUP)
TEST_CASE("S95: a listener of packets that is shut down is given up with a word, and its waiting packets come first") {
    Reactor reactor;
    PacketAcceptor acceptor(reactor, new_unix_name(), make_echo);
    const Address address = acceptor.address();
    std::vector<std::string> lost;
    reactor.on_notice([&](Notice what, std::string_view text) {
        if (what == Notice::listener_lost) lost.emplace_back(text);
    });
    const Socket waits = connect_to(address);
    ::shutdown(acceptor.listening_sockets()[0], SHUT_RD);
    run_until(reactor, [&] { return acceptor.counters().listeners_lost == 1; });
    CHECK(settle(reactor, 20) <= 3);
    REQUIRE(lost.size() == 1);
    CHECK(lost[0].starts_with(address.to_string()));
    CHECK(acceptor.address() == Address());
    CHECK(echoes(reactor, waits));
}
#endif

TEST_CASE("S95: an acceptor of packets refuses a socket that does not listen") {
    Reactor reactor;
    auto ends = Socket::pair(packets);
    CHECK_THROWS_AS((void)PacketAcceptor(reactor, std::move(ends.first), make_echo), std::system_error);
    CHECK(settle(reactor) <= 2);
}

TEST_CASE("S101: a protocol of packets is told once of one drain, and again of the next") {
    Reactor reactor;
    PacketNotes notes;
    PacketAcceptor acceptor(reactor, new_unix_name(), [&] { return std::make_unique<Noted>(notes); });
    const Socket client = connect_to(acceptor.address());
    CHECK(echoes(reactor, client));
    notes.on_draining = [] {};
    Reactor elsewhere;
    Conversation travels(elsewhere);
    run_until(elsewhere, [&] { return travels.journal.transport != nullptr; });
    drain(reactor, Duration::max(), [](const Drained&) {});
    settle(reactor);
    static_cast<Connection&>(*travels.journal.transport).move_to(reactor);
    settle(elsewhere);
    settle(reactor);
    CHECK(travels.journal.count("draining") == 1);
    CHECK(notes.draining == 1);
    drain(reactor, Duration::max(), [](const Drained&) {});
    settle(reactor);
    CHECK(notes.draining == 2);
}

TEST_CASE("S101: a protocol of packets whose acceptor and loop begin to drain in one iteration is asked to end once") {
    Reactor reactor;
    PacketNotes notes;
    PacketAcceptor acceptor(reactor, new_unix_name(), [&] { return std::make_unique<Noted>(notes); });
    const Socket client = connect_to(acceptor.address());
    CHECK(echoes(reactor, client));
    notes.on_draining = [] {};
    acceptor.drain(Duration::max(), [](const Drained&) {});
    drain(reactor, Duration::max(), [](const Drained&) {});
    settle(reactor);
    CHECK(notes.draining == 1);
}
