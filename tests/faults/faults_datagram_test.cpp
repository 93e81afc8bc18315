// Whatever fails, it ends in order, for datagrams and packets: their exchanges are run again and again, and each time
// another system call or another allocation fails.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"
#include "faults_sweep.hpp"

#include <protocols/echo.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/datagram/packet_acceptor.hpp>
#include <reactor/reactor.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using faults::Call;

namespace {

constexpr int rounds = 12;

// Asks again until the answer comes, as one does with datagrams.
class Asker final : public DatagramProtocol {
public:
    Asker(Reactor& reactor, int& answered, int& closed, int& failed)
        : answered_(answered), closed_(closed), failed_(failed), again_(reactor, [this] { ask(); }) {}

private:
    void opened() override { ask(); }
    void received(const Datagram& datagram) override {
        if (datagram.data.empty() || int(datagram.data[0]) != answered_) return;  // an earlier one, again
        ++answered_;
        if (answered_ == rounds) return transport().close();
        ask();
    }
    void closed(std::error_code error) override {
        ++closed_;
        failed_ += int(bool(error));
    }
    void ask() {
        again_.start(std::chrono::milliseconds(100));
        // Enough for a batch, and longer each time: the kernel would be given equal ones as one, to cut up.
        const std::byte number[] = {std::byte(answered_), std::byte(answered_), std::byte(answered_)};
        for (std::size_t size = 1; size <= std::size(number); ++size) transport().send(Bytes(number, size));
    }
    int& answered_;
    int& closed_;
    int& failed_;
    Timer again_;
};

// Takes every other descriptor that comes, and keeps it for as long as it lives.
class Keeper final : public DatagramProtocol {
public:
    explicit Keeper(int& told) : told_(told) {}

private:
    void received(const Datagram& datagram) override {
        ++told_;
        if (datagram.descriptors.size() > 1) kept_ = std::move(datagram.descriptors[0]);
    }
    void closed(std::error_code) override { told_ = 1'000; }
    int& told_;
    FileDescriptor kept_;
};

class Answerer final : public DatagramProtocol {
public:
    explicit Answerer(int& failed) : failed_(failed) {}

private:
    void received(const Datagram& datagram) override { transport().answer(datagram, datagram.data); }
    void closed(std::error_code error) override { failed_ += int(bool(error)); }
    int& failed_;
};

struct DatagramOutcome : faults::Traces {
    bool set_up = false;
    int answered = 0, closed = 0, failed = 0, told = 0, turns = 0;
    unsigned sent_in_batches = 0;
};

DatagramOutcome exchange_datagrams(const faults::Plan& plan, std::size_t batch) {
    DatagramOutcome outcome;
    faults::run(plan, true, outcome, [&](testing::ManualClock& clock) {
        Reactor reactor("auto", clock);
        DatagramOptions options;
        options.batch = batch;
        Socket server = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        server.bind(*Address::ip("127.0.0.1", 0));
        Socket client = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        const Address to = server.local();
        if (const auto error = client.connect(to); error && error != std::errc::operation_in_progress)
            throw std::system_error(error, "connect");
        DatagramEndpoint::open(reactor, std::move(server), std::make_unique<Answerer>(outcome.failed), options);
        DatagramEndpoint::open(reactor, std::move(client),
                               std::make_unique<Asker>(reactor, outcome.answered, outcome.closed, outcome.failed),
                               options);
        auto [mine, theirs] = Socket::pair(SocketKind::sequenced_packets);
        const int given[] = {mine.get(), theirs.get(), mine.get()};
        options.descriptors = 2;
        DatagramEndpoint::open(reactor, std::move(theirs), std::make_unique<Keeper>(outcome.told), options);
        DatagramEndpoint& giver =
            DatagramEndpoint::open(reactor, std::move(mine), std::make_unique<Answerer>(outcome.failed));
        for (const std::size_t count : {1U, 2U, 3U})
            giver.send_descriptors({}, bytes_of("x"), std::span(given).first(count));
        outcome.set_up = true;
        while ((outcome.closed == 0 || outcome.told < 3) && outcome.turns < 1'000) {
            ++outcome.turns;
            try {
                reactor.run_once();
            } catch (const std::exception&) {
                ++outcome.exceptions;
            }
            if (faults::waited_for_ever()) break;
        }
        outcome.sent_in_batches = faults::calls(Call::sendmmsg);
    });
    return outcome;
}

}  // namespace

TEST_CASE("S75, S83: any call of an exchange of datagrams and descriptors fails, and nothing leaks, hangs or spins") {
    const DatagramOutcome sound = exchange_datagrams({}, 32);
    CHECK(sound.answered == rounds);
    CHECK(sound.told == 3);
    CHECK(sound.turns < 100);
    CHECK((sound.sent_in_batches > 0) == (REACTOR_HAS(RECVMMSG) != 0));
    CHECK(exchange_datagrams({}, 1).answered == rounds);
    int runs = 0;
    for (const std::size_t batch : {std::size_t(1), std::size_t(32)}) {
        runs += faults::fail_each(
            {Call::recvmmsg, Call::recvmsg, Call::sendmmsg, Call::sendmsg, Call::setsockopt, Call::getsockopt,
             Call::getsockname, Call::getpeername, Call::allocation},
            {EPIPE, ECONNRESET},  // a socket of datagrams does not break, and the plan would have to break it
            [&](const faults::Plan& plan) { return exchange_datagrams(plan, batch); },
            [](const faults::Plan& plan, const DatagramOutcome& outcome) {
                CHECK(outcome.closed <= 1);
                if (outcome.failed == 0) CHECK(outcome.turns < 500);  // or no answer comes, and it asks again and again
                if (outcome.exceptions == 0) CHECK(outcome.set_up);
                if (outcome.exceptions + outcome.failed == 0) {
                    CHECK(outcome.answered == rounds);
                    CHECK(outcome.closed == 1);
                }
                // Memory may run out where a socket is opened; nothing else ends one.
                if (plan.call != Call::allocation && outcome.set_up) CHECK(outcome.failed + outcome.exceptions == 0);
            });
    }
    MESSAGE(runs << " failures");
    CHECK(runs > 200);
}

namespace {

struct PacketOutcome : faults::Traces {
    bool set_up = false, drained = false;
    int answered = 0, ended = 0, turns = 0;
};

// Clients ask a server of packets one question each, and then it is drained.
PacketOutcome serve_packets(const faults::Plan& plan) {
    constexpr int clients = 4;
    PacketOutcome outcome;
    faults::run(plan, false, outcome, [&](testing::ManualClock& clock) {
        Reactor reactor("auto", clock);
        const Address address = new_unix_name();
        int failed = 0;
        PacketAcceptor acceptor(reactor, address, [&] { return std::make_unique<Answerer>(failed); });
        std::vector<Socket> asking;
        {
            const faults::Suspended suspended;
            for (int i = 0; i < clients; ++i) {
                asking.push_back(Socket::open(Address::Family::unix_domain, SocketKind::sequenced_packets));
                REQUIRE_FALSE(asking.back().connect(address));
                REQUIRE(::send(asking.back().get(), "x", 1, MSG_NOSIGNAL) == 1);
            }
        }
        outcome.set_up = true;
        const auto turn = [&] {
            ++outcome.turns;
            try {
                reactor.run_once();
            } catch (const std::exception&) {
                ++outcome.exceptions;
            }
        };
        while (outcome.answered + outcome.ended < clients && outcome.turns < 500 && !faults::waited_for_ever()) {
            turn();
            const faults::Suspended suspended;
            std::erase_if(asking, [&](const Socket& client) {
                char byte = 0;
                const ssize_t count = ::recv(client.get(), &byte, 1, 0);
                if (count < 0 && errno == EAGAIN) return false;
                ++(count == 1 && byte == 'x' ? outcome.answered : outcome.ended);
                return true;
            });
        }
        acceptor.drain(std::chrono::seconds(1), [&](const Acceptor::Drained&) { outcome.drained = true; });
        while (!outcome.drained && outcome.turns < 500 && !faults::waited_for_ever()) turn();
        if (acceptor.connections() > 0) outcome.drained = false;
    });
    return outcome;
}

}  // namespace

TEST_CASE("S27, S75: any call of a server of packets fails: who is accepted is answered, and nothing leaks or spins") {
    const PacketOutcome sound = serve_packets({});
    CHECK(sound.answered == 4);
    CHECK(sound.drained);
    CHECK(sound.turns < 50);
    const int runs = faults::fail_each(
        {Call::accept4, Call::socket, Call::bind, Call::listen, Call::open, Call::setsockopt, Call::getsockopt,
         Call::getsockname, Call::getpeername, Call::recvmsg, Call::sendmsg, Call::allocation},
        {EPIPE, ECONNRESET, ENOTCONN},  // then the plan would break it
        serve_packets, [](const faults::Plan& plan, const PacketOutcome& outcome) {
            CHECK(outcome.turns < 200);
            CHECK((outcome.set_up || outcome.exceptions > 0));
            if (outcome.exceptions == 0) CHECK(outcome.drained);
            // A packet that finds no memory is dropped. Without descriptors a waiting client is refused. No other error
            // of accept costs a client anything.
            const bool dropped = plan.call == Call::sendmsg && (plan.error == ENOBUFS || plan.error == ENOMEM);
            if (outcome.set_up && outcome.exceptions == 0)
                CHECK(outcome.answered + outcome.ended == 4 - int(dropped && outcome.struck));
            if (outcome.set_up) CHECK(outcome.ended <= 1);
            const bool turned_away = (plan.error == EMFILE || plan.error == ENFILE) && plan.from <= 4;
            if (plan.call == Call::accept4) CHECK(outcome.ended == int(turned_away));
        });
    MESSAGE(runs << " failures");
    CHECK(runs > 100);
}

TEST_CASE("S72: every other call of an exchange of datagrams is interrupted, and all is well") {
    for (const std::size_t batch : {std::size_t(1), std::size_t(32)}) {
        faults::Plan plan;
        plan.interrupted = true;
        const DatagramOutcome outcome = exchange_datagrams(plan, batch);
        CHECK(outcome.struck);
        CHECK(outcome.answered == rounds);
        CHECK(outcome.told == 3);
        CHECK(outcome.exceptions == 0);
    }
}

TEST_CASE("What goes to one receiver in pieces of one size leaves in one piece, or as the kernel will have it") {
    struct Sender final : DatagramProtocol {
        explicit Sender(const Address& the_receiver) : receiver(the_receiver) {}
        void opened() override {
            const faults::Suspended suspended;  // except for the datagrams that leave when this returns
            for (int i = 0; i < 24; ++i)
                CHECK(transport().send(receiver, std::string(i < 20 ? 1'000 : 17, char('a' + i))));
        }
        void received(const Datagram&) override {}
        const Address receiver;
    };
    struct Receiver final : DatagramProtocol {
        void received(const Datagram& datagram) override {
            const faults::Suspended suspended;
            CHECK(text_of(datagram.data) == std::string(count < 20 ? 1'000 : 17, char('a' + count)));
            ++count;
        }
        int count = 0;
    };
    for (const int error : {0, EINVAL, EIO, EMSGSIZE}) {
        CAPTURE(error);
        testing::ManualClock clock;
        faults::Plan plan;
        plan.call = error == 0 ? Call::none : Call::sendmmsg;
        plan.error = error;
        const faults::Armed armed(plan, clock, true);
        Reactor reactor("auto", clock);
        std::vector<Socket> sockets;
        for (int i = 0; i < 2; ++i) {
            sockets.push_back(Socket::open(Address::Family::ipv4, SocketKind::datagram));
            sockets.back().bind(*Address::ip("127.0.0.1", 0));
        }
        auto owned = std::make_unique<Receiver>();
        Receiver& receiver = *owned;
        DatagramEndpoint& sender =
            DatagramEndpoint::open(reactor, std::move(sockets[0]), std::make_unique<Sender>(sockets[1].local()));
        DatagramEndpoint::open(reactor, std::move(sockets[1]), std::move(owned));
        for (int turns = 0; receiver.count < 24 && turns < 100; ++turns) reactor.run_once();
        CHECK(receiver.count == 24);
        CHECK(sender.counters().sent == 24);
        CHECK(sender.counters().refused == 0);
        const unsigned calls = faults::calls(Call::sendmmsg) + faults::calls(Call::sendmsg);
        if (error == 0) CHECK(calls <= 2);
    }
}

#if REACTOR_HAS(RECVMMSG)
TEST_CASE("If fewer datagrams arrive than one call can take, no second call asks for more") {
    testing::ManualClock clock;
    int failed = 0;
    const faults::Armed armed({}, clock, true);
    Reactor reactor("auto", clock);
    Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    socket.bind(*Address::ip("127.0.0.1", 0));
    const Address to = socket.local();
    DatagramEndpoint& receiver = DatagramEndpoint::open(reactor, std::move(socket), std::make_unique<Answerer>(failed));
    const Socket sender = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    for (unsigned round = 1; round <= 3; ++round) {
        for (int i = 0; i < 5; ++i) REQUIRE(::sendto(sender.get(), "x", 1, 0, to.data(), socklen_t(to.size())) == 1);
        for (int turns = 0; receiver.counters().received < 5 * round && turns < 10; ++turns) reactor.run_once();
        CHECK(receiver.counters().received == 5 * round);
        CHECK(faults::calls(Call::recvmmsg) == round);
        CHECK(faults::calls(Call::recvmsg) == 0);
    }
}

TEST_CASE("S96: where a filter forbids the calls for many datagrams at once, they go one by one, and none is refused") {
    for (const Call call : {Call::recvmmsg, Call::sendmmsg}) {
        for (const int error : {EPERM, ENOSYS}) {
            CAPTURE(faults::name_of(call));
            CAPTURE(error);
            testing::ManualClock clock;
            faults::Plan plan;
            plan.call = call;
            plan.error = error;
            plan.times = UINT_MAX;
            const faults::Armed armed(plan, clock, true);
            Reactor reactor("auto", clock);
            std::vector<DatagramEndpoint*> ends;
            for (int i = 0; i < 2; ++i) {
                Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
                socket.bind(*Address::ip("127.0.0.1", 0));
                ends.push_back(&DatagramEndpoint::open(reactor, std::move(socket), std::make_unique<DatagramEcho>()));
            }
            // Of two sizes in turn, so that they do not leave as one.
            for (int i = 0; i < 10; ++i) ends[0]->send(ends[1]->local(), i % 2 == 0 ? "even" : "not even");
            for (int turns = 0; ends[0]->counters().received < 200 && turns < 2'000; ++turns) reactor.run_once();
            CHECK(ends[0]->counters().received >= 200);
            CHECK(faults::struck());
            CHECK(faults::calls(call) <= 2);  // each socket has asked once, and remembers the answer
            for (const DatagramEndpoint* end : ends) {
                CHECK(end->counters().refused == 0);
                CHECK(end->counters().dropped == 0);
            }
        }
    }
}
#endif

TEST_CASE("S96: where a filter forbids an option of a datagram socket, the socket is not opened or does without it") {
    for (const Call call : {Call::getsockopt, Call::setsockopt}) {
        faults::Plan plan;
        plan.call = call;
        plan.error = EPERM;
        for (bool struck = true; struck; ++plan.from) {
            REQUIRE(plan.from < 100);
            const DatagramOutcome outcome = exchange_datagrams(plan, 32);
            CAPTURE(faults::name_of(call));
            CAPTURE(plan.from);
            if (outcome.set_up) CHECK(outcome.answered == rounds);
            if (!outcome.set_up) CHECK(outcome.exceptions == 1);
            CHECK(outcome.failed == 0);
            CHECK(outcome.left_open == 0);
            struck = outcome.struck;
        }
    }
}

TEST_CASE("S96: a socket from which receiving is forbidden ends with that error, and does not spin") {
    for (const int error : {EPERM, ENOSYS}) {
        struct Listener final : DatagramProtocol {
            explicit Listener(std::vector<std::error_code>& the_end) : end(the_end) {}
            void received(const Datagram&) override {}
            void refused(const Address&, std::error_code) override { ++refusals; }
            void closed(std::error_code reason) override { end.push_back(reason); }
            std::vector<std::error_code>& end;
            int refusals = 0;
        };
        testing::ManualClock clock;
        std::vector<std::error_code> end;
        faults::Plan plan;
        plan.call = Call::recvmsg;
        plan.error = error;
        plan.times = UINT_MAX;
        const faults::Armed armed(plan, clock, true);
        Reactor reactor("auto", clock);
        Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        socket.bind(*Address::ip("127.0.0.1", 0));
        const Address to = socket.local();
        DatagramOptions options;
        options.batch = 1;
        DatagramEndpoint::open(reactor, std::move(socket), std::make_unique<Listener>(end), options);
        const Socket sender = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        REQUIRE(::sendto(sender.get(), "x", 1, 0, to.data(), socklen_t(to.size())) == 1);
        for (int turns = 0; end.empty() && turns < 10; ++turns) reactor.run_once();
        CHECK(end == std::vector<std::error_code>{{error, std::system_category()}});
    }
}

TEST_CASE("Datagrams on their ordinary way allocate nothing") {
    testing::ManualClock clock;
    const faults::Armed armed({}, clock, true);
    Reactor reactor("auto", clock);
    std::vector<DatagramEndpoint*> ends;
    for (int i = 0; i < 2; ++i) {
        Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        socket.bind(*Address::ip("127.0.0.1", 0));
        ends.push_back(&DatagramEndpoint::open(reactor, std::move(socket), std::make_unique<DatagramEcho>()));
    }
    for (int i = 0; i < 50; ++i) ends[0]->send(ends[1]->local(), "back and forth, for ever");
    while (ends[0]->counters().received < 1'000) reactor.run_once();
    const unsigned before = faults::calls(Call::allocation);
    while (ends[0]->counters().received < 20'000) reactor.run_once();
    CHECK(faults::calls(Call::allocation) == before);
}
