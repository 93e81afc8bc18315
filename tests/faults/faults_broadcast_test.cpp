// How many system calls it takes to say something to many.
#include "../support/loop.hpp"
#include "faults_sweep.hpp"

#include <protocols/examples/publish_subscribe.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <exception>
#include <fstream>
#include <functional>
#include <list>
#include <string>
#include <vector>

using namespace reactor;
using faults::Call;

namespace {

// A room of connections over Unix sockets, and a clock that moves instead of waiting.
struct Room {
    explicit Room(std::size_t size, const ConnectionOptions& options = {}) : reactor("auto", clock) {
        for (std::size_t i = 0; i < size; ++i) members.emplace_back(reactor, Socket::pair(), options);
        settle(reactor);
    }
    unsigned sends() const { return faults::calls(Call::send) + faults::calls(Call::sendmsg) - before; }
    // So many sends until the loop has nothing left to do.
    unsigned sends_of(const std::function<void()>& begin) {
        const faults::Armed armed({}, clock, false);
        begin();
        settle(reactor);
        return sends();
    }
    void say(const std::string& line) {
        for (Conversation& member : members)
            if (member.journal.transport != nullptr) member.journal.transport->write(line);
    }

    testing::ManualClock clock;
    Reactor reactor;
    std::list<Conversation> members;
    unsigned before = 0;
};

const std::string line = "a line of text\n";

std::string repeated(std::size_t count) {
    std::string result;
    while (count-- > 0) result += line;
    return result;
}

}  // namespace

TEST_CASE("S110: fifty lines that one callback writes to twenty others leave as one send each") {
    Room room(21);
    Conversation& speaker = room.members.front();
    speaker.journal.on_received = [&](Bytes input) {
        for (int i = 0; i < 50; ++i) room.say(line);
        return input.size();
    };
    CHECK(room.sends_of([&] {
        const faults::Suspended suspended;
        write_some(speaker.peer, "go");
    }) == (room.reactor.backend() == "io_uring" ? 0 : 21));  // there with the call that waits
    for (Conversation& member : room.members) CHECK(read_all(member.peer) == repeated(50));
}

TEST_CASE("S110: what timers, posted work and callbacks of one iteration write leaves together, in its order") {
    Room room(3);
    room.members.back().journal.on_received = [&](Bytes input) {
        room.say("received ");
        return input.size();
    };
    Timer timer(room.reactor, [&] { room.say("timer "); });
    timer.start(Duration::zero());
    room.reactor.post([&] { room.say("posted "); });
    write_some(room.members.back().peer, "go");
    {
        const faults::Armed armed({}, room.clock, false);
        room.reactor.run_once(Duration::zero());
        CHECK(room.sends() <= 4);  // its own callback's answer is one more
    }
    for (Conversation& member : room.members) CHECK(read_all(member.peer) == "received timer posted ");
}

TEST_CASE("S110: between iterations, and in the iteration that stops the loop, a write does not wait") {
    Room room(2);
    room.say("at once ");
    for (Conversation& member : room.members) CHECK(read_all(member.peer) == "at once ");
    room.reactor.post([&] {
        room.say("before the end");
        room.reactor.stop();
    });
    room.reactor.run();
    for (Conversation& member : room.members) CHECK(read_all(member.peer) == "before the end");
}

TEST_CASE("S110: what is gathered is followed in order by answers, large writes, files and the end of the stream") {
    Room room(2);
    Conversation &one = room.members.front(), &other = room.members.back();
    const std::string large = random_bytes(100'000, 1);
    std::string expected;
    one.journal.on_received = [&](Bytes input) {
        other.journal.transport->write("gathered ");
        other.journal.transport->write(large);
        other.journal.transport->write("again ");
        other.journal.transport->shutdown_write();
        return input.size();
    };
    expected = "gathered " + large + "again ";
    write_some(one.peer, "go");
    std::string got;
    bool ended = false;
    for (int i = 0; i < 100 && !ended; ++i) {
        settle(room.reactor);
        got += read_all(other.peer, &ended);
    }
    CHECK(ended);
    CHECK(got == expected);
    CHECK(other.journal.count("pause") == other.journal.count("resume"));
}

TEST_CASE("S110: gathering passes no mark and meets no deadline as long as the kernel takes all of it") {
    ConnectionOptions options;
    options.limits.high_mark = 100;
    options.limits.write_timeout = std::chrono::milliseconds(1);
    Room room(2, options);
    room.members.front().journal.on_received = [&](Bytes input) {
        for (int i = 0; i < 50; ++i) room.say(line);
        return input.size();
    };
    for (int i = 0; i < 3; ++i) {
        write_some(room.members.front().peer, "go");
        settle(room.reactor);
        room.clock.advance(std::chrono::seconds(1));
        for (Conversation& member : room.members) CHECK(read_all(member.peer) == repeated(50));
    }
    CHECK(room.members.back().journal.count("pause") == 0);
    CHECK_FALSE(room.members.back().journal.over);
}

TEST_CASE("S110: a connection that ends while something is gathered for it ends as it was asked to") {
    Room room(3);
    auto member = room.members.begin();
    Conversation &speaker = *member++, &closed = *member++, &aborted = *member;
    speaker.journal.on_received = [&](Bytes input) {
        room.say(line);
        closed.journal.transport->close();
        aborted.journal.transport->abort();
        return input.size();
    };
    write_some(speaker.peer, "go");
    settle(room.reactor);
    bool ended = false;
    CHECK(read_all(closed.peer, &ended) == line);
    CHECK(ended);
    closed.peer.close();
    settle(room.reactor);
    CHECK(closed.journal.over);
    CHECK(aborted.journal.over);
    CHECK(aborted.journal.reason == std::errc::operation_canceled);
    CHECK(read_all(aborted.peer).empty());
}

TEST_CASE("S110: a write timeout counts from when the kernel did not take what was gathered") {
    ConnectionOptions options;
    options.limits.write_timeout = std::chrono::seconds(1);
    options.prepare = send_buffer(4096);
    Room room(2, options);
    Conversation &speaker = room.members.front(), &silent = room.members.back();
    speaker.journal.on_received = [&](Bytes input) {
        for (int i = 0; i < 10'000; ++i) silent.journal.transport->write(line);
        return input.size();
    };
    write_some(speaker.peer, "go");
    settle(room.reactor);
    CHECK(silent.journal.count("pause") == 1);
    room.clock.advance(std::chrono::milliseconds(900));
    settle(room.reactor);
    CHECK_FALSE(silent.journal.over);
    room.clock.advance(std::chrono::seconds(1));
    settle(room.reactor);
    CHECK(silent.journal.over);
    CHECK(silent.journal.reason == Error::write_timeout);
}

TEST_CASE("S110: one line to be published costs a send a subscriber, and fifty of them at once no more") {
    testing::ManualClock clock;
    Broker broker;
    Reactor reactor("auto", clock);
    std::list<Socket> peers;
    for (int i = 0; i < 20; ++i) {
        auto [peer, mine] = Socket::pair();
        Connection::open(reactor, std::move(mine), broker.subscriber());
        write_some(peer, "SUBSCRIBE t\r\n");
        peers.push_back(std::move(peer));
    }
    auto [publisher, mine] = Socket::pair();
    Connection::open(reactor, std::move(mine), broker.subscriber());
    settle(reactor);
    for (Socket& peer : peers) CHECK(read_all(peer) == "OK\r\n");
    std::string lines;
    for (int i = 0; i < 50; ++i) lines += "PUBLISH t x\r\n";
    write_some(publisher, lines);
    {
        const faults::Armed armed({}, clock, false);
        settle(reactor);
        // On io_uring they leave with the call that waits.
        CHECK(faults::calls(Call::send) + faults::calls(Call::sendmsg) == (reactor.backend() == "io_uring" ? 0 : 21));
    }
    std::string got;
    for (int i = 0; i < 50; ++i) got += "MESSAGE t x\r\n";
    for (Socket& peer : peers) CHECK(read_all(peer) == got);
}

TEST_CASE("S110: a line to a room allocates nothing, however many there are") {
    Room room(200);
    Conversation& speaker = room.members.front();
    speaker.journal.on_received = [&](Bytes input) {
        room.say(line);
        return input.size();
    };
    const auto talk = [&] {
        write_some(speaker.peer, "go");
        settle(room.reactor);
        char got[64];
        for (Conversation& member : room.members)
            REQUIRE(::recv(member.peer.get(), got, sizeof got, 0) == ssize_t(line.size()));
    };
    talk();
    const faults::Armed armed({}, room.clock, false);
    for (int i = 0; i < 10; ++i) talk();
    CHECK(faults::calls(Call::allocation) == 0);
}

TEST_CASE("S110: each gets its own bytes, also where all together are more than the loop keeps for them") {
    Room room(200);
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < room.members.size(); ++i) texts.push_back(random_bytes(1000, unsigned(i / 2)));
    CHECK(room.sends_of([&] {
        room.reactor.post([&] {
            std::size_t i = 0;
            for (Conversation& member : room.members) member.journal.transport->write(texts[i++]);
        });
    }) == (room.reactor.backend() == "io_uring" ? 0 : 200));
    std::size_t i = 0;
    for (Conversation& member : room.members) CHECK(read_all(member.peer) == texts[i++]);
}

TEST_CASE("S110: all that comes behind a small piece that waits for the iteration's end finds it") {
    Room room(1);
    Conversation& member = room.members.front();
    Transport& transport = *member.journal.transport;
    const std::string first = "the first ";
    std::string expected = first;
    bool ends = false;
    std::function<void()> then;
    testing::ManualClock other_clock;
    Reactor other("auto", other_clock);
    SUBCASE("nothing") {}
    SUBCASE("the end of the stream") {
        then = [&] { transport.shutdown_write(); };
        ends = true;
    }
    SUBCASE("a close") {
        then = [&] { transport.close(); };
        ends = true;
    }
    SUBCASE("a pause") {
        then = [&] { transport.pause_reading(); };
    }
    SUBCASE("a second piece") {
        then = [&] { transport.write("and more"); };
        expected += "and more";
    }
    SUBCASE("a second and a large piece, and the end") {
        const std::string large = random_bytes(40'000, 3);
        then = [&transport, large] {
            transport.write("and more");
            transport.write(large);
            transport.shutdown_write();
        };
        expected += "and more" + large;
        ends = true;
    }
    SUBCASE("limits of its own") {
        then = [&] {
            Limits limits = transport.limits();
            limits.write_timeout = std::chrono::seconds(1);
            limits.idle_timeout = std::chrono::seconds(1);
            transport.set_limits(limits);
        };
    }
    SUBCASE("a file") {
        then = [&] {
            TemporaryFolder folder;
            const std::string path = folder / "text";
            std::ofstream(path) << random_bytes(50'000, 4);
            transport.write_file(FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
        };
        expected += random_bytes(50'000, 4);
    }
    SUBCASE("a move to another loop") {
        then = [&] { transport.move_to(other); };
    }
    room.reactor.post([&] {
        transport.write(first);
        CHECK(transport.queued() == first.size());
        if (then) then();
    });
    std::string got;
    bool ended = false;
    for (int i = 0; i < 20; ++i) {
        settle(room.reactor);
        settle(other);
        got += read_all(member.peer, &ended);
    }
    CHECK(got == expected);
    CHECK(ended == ends);
    CHECK_FALSE(member.journal.over);
}

TEST_CASE("S110: a small piece that a full socket does not take waits with its mark and its deadline") {
    ConnectionOptions options;
    options.prepare = send_buffer(4096);
    options.limits.write_timeout = std::chrono::seconds(1);
    Room room(1, options);
    Conversation& member = room.members.front();
    Transport& transport = *member.journal.transport;
    std::string expected;
    while (transport.queued() == 0) {  // between iterations each leaves at once
        transport.write(line);
        expected += line;
    }
    SUBCASE("behind output that waits already") {}
    SUBCASE("alone") {
        std::string got;
        while (transport.queued() > 0) {
            char piece[16];
            REQUIRE(::recv(member.peer.get(), piece, sizeof piece, 0) == sizeof piece);
            got.append(piece, sizeof piece);
            settle(room.reactor);
        }
        expected.erase(0, got.size());
    }
    const std::string piece = random_bytes(10'000, 5);
    room.reactor.post([&] { transport.write(piece); });
    settle(room.reactor);
    CHECK(transport.queued() > 0);
    std::string got;
    SUBCASE("and is read") {
        run_until(room.reactor, [&] {
            got += read_all(member.peer);
            return transport.queued() == 0;
        });
        CHECK(got + read_all(member.peer) == expected + piece);
        room.clock.advance(std::chrono::seconds(5));
        settle(room.reactor);
        CHECK_FALSE(member.journal.over);
    }
    SUBCASE("and is not read") {
        room.clock.advance(std::chrono::seconds(2));
        settle(room.reactor);
        CHECK(member.journal.over);
        CHECK(member.journal.reason == Error::write_timeout);
    }
}

namespace {

struct RoomOutcome : faults::Traces {
    bool whole = true;
    int over = 0;
};

// A line to three, then to one of them more of it and the end.
RoomOutcome say_to_three(const faults::Plan& plan) {
    RoomOutcome outcome;
    faults::run(plan, false, outcome, [&](testing::ManualClock& clock) {
        Reactor reactor("auto", clock);
        std::list<Conversation> members;
        {
            const faults::Suspended suspended;
            for (int i = 0; i < 3; ++i) members.emplace_back(reactor, Socket::pair(), ConnectionOptions{});
            settle(reactor);
        }
        const auto speak = [&] {
            for (Conversation& member : members) member.journal.transport->write(line);
            members.back().journal.transport->write(line);
            members.back().journal.transport->shutdown_write();
        };
        try {
            reactor.post(speak);
        } catch (const std::exception&) {
            ++outcome.exceptions;
        }
        for (int turn = 0; turn < 10; ++turn) {
            try {
                reactor.run_once(Duration::zero());
            } catch (const std::exception&) {
                ++outcome.exceptions;
            }
        }
        const faults::Suspended suspended;
        for (Conversation& member : members) {
            outcome.whole &= read_all(member.peer) == repeated(&member == &members.back() ? 2 : 1);
            outcome.over += member.journal.over;
        }
    });
    return outcome;
}

}  // namespace

TEST_CASE(
    "S75, S110: a line to a room while there is no memory, or a send fails, arrives whole, or its connection ends") {
    const auto check = [](const faults::Plan& plan, const RoomOutcome& outcome) {
        if (plan.call != Call::allocation) CHECK(outcome.exceptions == 0);
        if (outcome.exceptions == 0 && outcome.over == 0) CHECK(outcome.whole);
    };
    CHECK(say_to_three({}).whole);
    CHECK(faults::fail_each({Call::allocation, Call::send, Call::sendmsg}, {}, say_to_three, check) >= 3);
}
