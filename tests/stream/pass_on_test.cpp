// Bytes that one connection receives and the kernel passes on to another: none is lost, doubled or kept, whatever
// either end does, and small amounts go the ordinary way again.
#include "../support/loop.hpp"

#include <reactor/system_impl.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <optional>
#include <random>

using namespace reactor;

namespace {

constexpr bool kernel_can = REACTOR_HAS(SPLICE);

// Sends on all that it receives, and notes how much of it it has seen.
class Sender final : public Protocol {
public:
    explicit Sender(Journal& journal) : journal_(journal) {}

private:
    void connected() override { journal_.transport = &transport(); }
    std::size_t received(Bytes input) override {
        journal_.input += text_of(input);
        if (target == nullptr) return input.size();
        const Bytes taken = input.first(input.size() - std::min(keeps_back, input.size()));
        target->write(taken);
        transport().pass_on_to(*target);
        return taken.size();
    }
    void end_of_stream() override {
        if (target != nullptr) target->shutdown_write();
    }
    void pause_writing() override {
        if (target != nullptr) target->pause_reading();
    }
    void resume_writing() override {
        if (target != nullptr) target->resume_reading();
    }
    void disconnected(std::error_code reason) override {
        journal_.over = true;
        journal_.reason = reason;
        journal_.transport = nullptr;
    }
    Journal& journal_;

public:
    Transport* target = nullptr;
    std::size_t keeps_back = 0;  // so many bytes of its input are left for the next time
};

// client ─ one │ other ─ server: the middle is ours.
struct Way {
    explicit Way(bool over_tcp = true, const ConnectionOptions& options = {}, const Clock& clock = Clock::monotonic())
        : reactor("auto", clock) {
        connect(over_tcp, options);
    }
    void connect(bool over_tcp, const ConnectionOptions& options = {}) {
        one = Journal{};
        other = Journal{};
        const auto ends = [&] { return over_tcp ? tcp_pair() : Socket::pair(); };
        for (auto [far, journal, sender] : {std::tuple{&client, &one, &one_sender}, {&server, &other, &other_sender}}) {
            auto [outer, inner] = ends();
            *far = std::move(outer);
            auto protocol = std::make_unique<Sender>(*journal);
            *sender = protocol.get();
            Connection::open(reactor, std::move(inner), std::move(protocol), options);
        }
        run_until(reactor, [&] { return one.transport != nullptr && other.transport != nullptr; });
        one_sender->target = other.transport;
        other_sender->target = one.transport;
    }
    // Sends it through, and reads it at the other end, all of it.
    std::string through(const std::string& sent, bool end = true) {
        std::string got;
        std::size_t written = 0;
        bool ended = false;
        run_until(reactor, [&] {
            if (written < sent.size()) {
                written += write_some(client, std::string_view(sent).substr(written));
                if (written == sent.size() && end) (void)client.shutdown_write();
            }
            got += read_all(server, &ended);
            return end ? ended : got.size() == sent.size();
        });
        return got;
    }

    Reactor reactor;
    Journal one, other;
    Sender *one_sender = nullptr, *other_sender = nullptr;
    Socket client, server;
};

}  // namespace

TEST_CASE("Much is passed on without being seen, exactly, and its end behind it") {
    for (const bool over_tcp : {true, false}) {
        CAPTURE(over_tcp);
        Way way(over_tcp);
        const std::string sent = random_bytes(8'000'000, 1);
        CHECK(way.through(sent) == sent);
        if (kernel_can) CHECK(way.one.input.size() < sent.size() / 2);
        (void)way.server.shutdown_write();
        run_until(way.reactor, [&] { return way.one.over && way.other.over; });
        CHECK_FALSE(way.one.reason);
        CHECK_FALSE(way.other.reason);
    }
}

TEST_CASE("What comes little by little after much is received again") {
    Way way;
    const std::string much = random_bytes(4'000'000, 2);
    CHECK(way.through(much, false) == much);
    settle(way.reactor);
    way.through("the first little may still go the other way", false);
    const std::size_t before = way.one.input.size();
    for (int i = 0; i < 10; ++i) CHECK(way.through("a little", false) == "a little");
    CHECK(way.one.input.size() == before + 80);
}

TEST_CASE("What is passed on puts off the idle timeouts of both ends") {
    testing::ManualClock clock;
    ConnectionOptions options;
    options.limits.idle_timeout = std::chrono::seconds(10);
    Way way(false, options, clock);
    const std::string block = random_bytes(64 * 1024, 6);  // fills what is read at once
    std::size_t seen = 0;
    for (int i = 0; i < 6; ++i) {
        CAPTURE(i);
        clock.advance(std::chrono::seconds(9));
        REQUIRE(write_some(way.client, block) == block.size());
        settle(way.reactor);
        CHECK(read_all(way.server) == block);
        REQUIRE_FALSE(way.one.over);
        REQUIRE_FALSE(way.other.over);
        if (i == 1) seen = way.one.input.size();
    }
    if (kernel_can) CHECK(way.one.input.size() == seen);
    clock.advance(std::chrono::seconds(10));
    settle(way.reactor);
    CHECK(way.one.reason == Error::idle_timeout);
    CHECK(way.other.reason == Error::idle_timeout);
}

TEST_CASE("Passed on, who reads nothing stops who sends, and no more is kept than a pipe and the marks hold") {
    Way way;
    const std::string block = random_bytes(256 * 1024, 3);
    std::size_t sent = 0;
    for (int quiet = 0; quiet < 3;) {
        const std::size_t count = write_some(way.client, block);
        sent += count;
        quiet = count == 0 && settle(way.reactor) <= 2 ? quiet + 1 : 0;
    }
    CHECK(settle(way.reactor) <= 2);
    CHECK(way.other.transport->queued() <= way.other.transport->limits().high_mark + (2 << 18));
    (void)way.client.shutdown_write();
    std::string got;
    bool ended = false;
    run_until(way.reactor, [&] {
        got += read_all(way.server, &ended);
        return ended;
    });
    CHECK(got.size() == sent);
}

TEST_CASE("Passed on, who takes some of it within every write timeout goes on, and who then takes nothing does not") {
    testing::ManualClock clock;
    ConnectionOptions options;
    options.limits.write_timeout = std::chrono::seconds(10);
    options.prepare = send_buffer(4096);  // so that what a pipe holds leaves in many pieces
    Way way(true, options, clock);
    way.server.set_receive_buffer(4096);
    const std::string block = random_bytes(256 * 1024, 12);
    for (int quiet = 0; quiet < 3;)
        quiet = write_some(way.client, block) == 0 && settle(way.reactor) <= 2 ? quiet + 1 : 0;
    const std::size_t seen = way.one.input.size();
    const auto sent = [&] { return way.reactor.counters().bytes_sent; };
    if (kernel_can) way.one_sender->target = nullptr;  // it is not asked, and need not know when the other one ends
    for (int i = 0; i < 5; ++i) {
        CAPTURE(i);
        settle(way.reactor);
        REQUIRE_FALSE(way.other.over);
        REQUIRE(way.other.transport->queued() > 0);
        clock.advance(std::chrono::seconds(6));
        settle(way.reactor);
        REQUIRE_FALSE(way.other.over);
        const std::uint64_t before = sent();
        for (int tries = 0; tries < 1000 && sent() == before; ++tries) {
            read_all(way.server);
            way.reactor.run_once(std::chrono::milliseconds(20));
        }
        REQUIRE(sent() > before);
    }
    if (kernel_can) CHECK(way.one.input.size() == seen);
    way.one_sender->target = nullptr;
    for (int tries = 0; tries < 100 && !way.other.over; ++tries) {
        clock.advance(std::chrono::seconds(1));
        settle(way.reactor);
    }
    CHECK(way.other.reason == Error::write_timeout);
}

TEST_CASE("Either end may go at any moment while bytes are passed on: the other goes on, and nothing is left open") {
    const std::size_t before = open_descriptors();
    for (unsigned seed = 0; seed < 60; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        Way way(seed % 2 == 0);
        const std::string block = random_bytes(1'000'000, seed);
        const int moment = int(random() % 40);
        for (int turn = 0; turn < moment; ++turn) {
            write_some(way.client, block);
            write_some(way.server, block);
            if (random() % 3 == 0) read_all(way.server);
            if (random() % 3 == 0) read_all(way.client);
            way.reactor.run_once(Duration::zero());
        }
        const auto forget = [&] {  // each knows the other only as long as it lives
            if (way.one.over) way.other_sender->target = nullptr;
            if (way.other.over) way.one_sender->target = nullptr;
        };
        switch (random() % 5) {
            case 0: way.one.transport->abort(); break;
            case 1: way.other.transport->abort(); break;
            case 2: way.client.set_linger(std::chrono::seconds(0)), way.client.close(); break;
            case 3: way.server.set_linger(std::chrono::seconds(0)), way.server.close(); break;
            case 4: way.other.transport->close(); break;
        }
        for (int turn = 0; turn < 30; ++turn) {
            forget();
            way.reactor.run_once(Duration::zero());
            forget();
            if (way.client) write_some(way.client, block);
            if (way.server) read_all(way.server);
        }
        if (way.one.transport != nullptr) way.one.transport->abort();
        forget();
        if (way.other.transport != nullptr) way.other.transport->abort();
        run_until(way.reactor, [&] { return way.one.over && way.other.over; });
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("What was being passed on when its sender went arrives all the same, to the last byte") {
    Way way(false);
    const std::string sent = random_bytes(8'000'000, 7);
    std::size_t written = 0;
    for (int quiet = 0; quiet < 3;) {  // until there is no room for more
        const std::size_t count = write_some(way.client, std::string_view(sent).substr(written));
        written += count;
        quiet = count == 0 && settle(way.reactor) <= 2 ? quiet + 1 : 0;
    }
    REQUIRE(written < sent.size());
    REQUIRE(way.other.transport->queued() > 0);
    const auto received = std::size_t(way.reactor.counters().bytes_received);
    if (kernel_can) REQUIRE(way.one.input.size() < received);

    way.other_sender->target = nullptr;
    way.one.transport->abort();
    settle(way.reactor);
    REQUIRE(way.one.over);
    way.other.transport->shutdown_write();
    std::string got;
    bool ended = false;
    run_until(way.reactor, [&] {
        got += read_all(way.server, &ended);
        return ended;
    });
    CHECK(got.size() == received);
    CHECK(got == sent.substr(0, received));
    way.server.close();
    run_until(way.reactor, [&] { return way.other.over; });
    CHECK_FALSE(way.other.reason);
}

TEST_CASE("What was on its way to one that went does not come out at another") {
    Way way(false);
    const std::string block = random_bytes(256 * 1024, 9);
    for (int quiet = 0; quiet < 3;)
        quiet = write_some(way.client, block) == 0 && settle(way.reactor) <= 2 ? quiet + 1 : 0;
    REQUIRE(way.other.transport->queued() > 0);
    way.one_sender->target = nullptr;
    way.other.transport->abort();
    way.other_sender->target = nullptr;
    way.one.transport->abort();
    run_until(way.reactor, [&] { return way.one.over && way.other.over; });

    way.connect(false);
    const std::string sent = random_bytes(4'000'000, 10);
    CHECK(way.through(sent) == sent);
}

TEST_CASE("Nothing is passed on before what its receiver has left for later") {
    Way way(false);
    way.one_sender->keeps_back = 1;
    const std::string sent = random_bytes(1'000'000, 11);
    std::size_t written = 0;
    std::string got;
    for (int i = 0; i < 10'000 && got.size() + 1 < sent.size(); ++i) {
        if (written < sent.size()) written += write_some(way.client, std::string_view(sent).substr(written));
        way.reactor.run_once(Duration::zero());
        got += read_all(way.server);
    }
    CHECK(got == sent.substr(0, sent.size() - 1));
}

TEST_CASE("Without descriptors for it nothing is passed on, and everything arrives all the same") {
    Way way;
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    rlimit few = before;
    few.rlim_cur = rlim_t(FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)).get());
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    const std::string sent = random_bytes(2'000'000, 4);
    const std::string got = way.through(sent);
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK(got == sent);
    CHECK(way.one.input == sent);
}

TEST_CASE("A connection that moves to another loop takes along what it has still to pass on") {
    for (const bool source_moves : {true, false}) {
        CAPTURE(source_moves);
        Way way;
        Reactor there;
        const std::string sent = random_bytes(6'000'000, 5);
        std::size_t written = 0;
        std::string got;
        // Both one after the other, so that in the end they are together again.
        for (int step = 0; step < 60; ++step) {
            written += write_some(way.client, std::string_view(sent).substr(written));
            way.reactor.run_once(Duration::zero());
        }
        auto& first = static_cast<Connection&>(source_moves ? *way.one.transport : *way.other.transport);
        auto& second = static_cast<Connection&>(source_moves ? *way.other.transport : *way.one.transport);
        int arrived = 0;
        first.move_to(there, [&] { ++arrived; });
        second.move_to(there, [&] { ++arrived; });
        run_until(there, [&] {
            if (arrived < 2) way.reactor.run_once(Duration::zero());
            if (arrived == 2 && written < sent.size())
                written += write_some(way.client, std::string_view(sent).substr(written));
            got += read_all(way.server);
            return got.size() == sent.size();
        });
        CHECK(got == sent);
    }
}

TEST_CASE("S90: an urgent byte amid what is passed on stops nothing and spins nothing, and what follows it arrives") {
    Way way;
    const std::string sent = random_bytes(8'000'000, 90);
    std::string got;
    std::size_t written = 0;
    bool urgent = false;  // only one: if another comes before it is passed over it becomes a byte like the others
    run_until(way.reactor, [&] {
        if (written > sent.size() / 2 && !urgent) urgent = ::send(way.client.get(), "!", 1, MSG_OOB) == 1;
        if (written < sent.size()) written += write_some(way.client, std::string_view(sent).substr(written, 100'000));
        got += read_all(way.server);
        return got.size() >= sent.size();
    });
    CHECK(urgent);
    const bool whole = got == sent;
    CHECK(whole);
    CHECK(settle(way.reactor, 20) <= 4);
    if (kernel_can) CHECK(way.one.input.size() < sent.size());
}

namespace {

// Fills the way until there is no room for more; returns how much was written.
std::size_t fill(Way& way, const std::string& sent) {
    std::size_t written = 0;
    for (int quiet = 0; quiet < 3;) {
        const std::size_t count = write_some(way.client, std::string_view(sent).substr(written));
        written += count;
        quiet = count == 0 && settle(way.reactor) <= 2 ? quiet + 1 : 0;
    }
    REQUIRE(written < sent.size());
    REQUIRE(way.other.transport->queued() > 0);
    return written;
}

}  // namespace

#if REACTOR_HAS(SPLICE)
TEST_CASE("What waits to be passed on is received when its way is given up for another reason than that it is free") {
    for (const int reason : {0, 1, 2}) {
        CAPTURE(reason);
        Way way(false);
        const std::string sent = random_bytes(8'000'000, 11);
        std::size_t written = fill(way, sent);
        if (kernel_can) REQUIRE(way.one.input.size() < way.reactor.counters().bytes_received);
        auto& other = static_cast<Connection&>(*way.other.transport);
        std::string got;
        if (reason == 0) other.set_rates({.bytes_out = {1'000'000'000}});
        if (reason == 1) static_cast<Connection&>(*way.one.transport).set_rates({.bytes_in = {1'000'000'000}});
        if (reason == 2) {  // it has no receiver: it is received and thrown away
            way.one_sender->target = nullptr;
            way.other_sender->target = nullptr;
            other.abort();
        }
        run_until(way.reactor, [&] {
            if (written < sent.size()) written += write_some(way.client, std::string_view(sent).substr(written));
            got += read_all(way.server);
            return reason == 2 ? written == sent.size() : got.size() == sent.size();
        });
        if (reason != 2) CHECK(got == sent);
    }
}
#endif

TEST_CASE("A connection that closes while bytes are passed on to it sends all that it has, and then its end") {
    for (const bool source_closes : {false, true}) {
        CAPTURE(source_closes);
        Way way(false);
        const std::string sent = random_bytes(8'000'000, 12);
        fill(way, sent);
        const auto received = std::size_t(way.reactor.counters().bytes_received);
        way.one_sender->target = nullptr;
        way.other_sender->target = nullptr;
        if (source_closes) way.one.transport->close();
        way.other.transport->close();
        settle(way.reactor);
        CHECK_FALSE(way.other.over);
        std::string got;
        bool ended = false;
        run_until(way.reactor, [&] {
            got += read_all(way.server, &ended);
            return ended;
        });
        CHECK(got == sent.substr(0, received));
        way.server.close();
        run_until(way.reactor, [&] { return way.other.over; });
        CHECK_FALSE(way.other.reason);
    }
}

TEST_CASE("S109: who waits for a receiver that takes nothing is seen to reset all the same") {
    Way way;
    const std::string sent = random_bytes(16'000'000, 13);
    for (int quiet = 0; quiet < 3;)
        quiet = write_some(way.client, sent) == 0 && settle(way.reactor) <= 2 ? quiet + 1 : 0;
    REQUIRE(way.other.transport->queued() > 0);
    way.other_sender->target = nullptr;
    way.client.set_linger(std::chrono::seconds(0));
    way.client.close();
    settle(way.reactor, 20);
    CHECK(way.one.over);
    CHECK(way.one.reason == std::errc::connection_reset);
    CHECK_FALSE(way.other.over);
}

// One of the two that speak is called before the connection that is passed on, whatever the backend's order is.
TEST_CASE("What another connection's callback writes is not overtaken by bytes that are passed on behind it") {
    Reactor reactor;
    Conversation first(reactor, Socket::pair(), {}), target(reactor, Socket::pair(), {});
    settle(reactor);
    auto [peer, socket] = Socket::pair();
    Journal passed;
    auto protocol = std::make_unique<Sender>(passed);
    protocol->target = target.journal.transport;
    Connection::open(reactor, std::move(socket), std::move(protocol));
    Conversation last(reactor, Socket::pair(), {});
    settle(reactor);
    std::string got, sent;
    std::vector<std::size_t> places;
    first.journal.on_received = last.journal.on_received = [&](Bytes input) {
        got += read_all(target.peer);
        places.push_back(got.size() + target.journal.transport->queued());
        target.journal.transport->write("line");
        return input.size();
    };
    const std::string block = random_bytes(64 * 1024, 7);  // fills what is read at once
    for (int i = 0; i < 6; ++i) {
        if (i >= 3) write_some(i % 2 == 0 ? first.peer : last.peer, "go");
        REQUIRE(write_some(peer, block) == block.size());
        sent += block;
        settle(reactor);
        got += read_all(target.peer);
    }
    REQUIRE(places.size() == 3);
    for (const std::size_t place : places) sent.insert(place, "line");
    CHECK(got == sent);
    if (kernel_can) CHECK(passed.input.size() < sent.size() / 2);
}
