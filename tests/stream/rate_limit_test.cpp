// Rates: bytes in, bytes out and messages a second, of one connection and of several together, on a clock that the test
// moves.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/rate_limit.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <deque>
#include <random>

using namespace reactor;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

class EchoLines final : public Framed<Lines> {
    void message(Bytes line) override { send(line); }
};

struct Timed {
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};

    // In steps, as time passes; and in each whatever can happen then.
    void pass(Duration time, Duration step = milliseconds(50)) {
        for (; time > Duration::zero(); time -= step) {
            clock.advance(std::min(time, step));
            settle(reactor);
        }
    }
    // settle() takes a turn without events for the end, and a timer may have come in it.
    static void settle(Reactor& loop) {
        for (int quiet = 0; quiet < 2;) quiet = ::settle(loop) <= 1 ? quiet + 1 : 0;
    }
    void settle() { settle(reactor); }
};

// Connections of one acceptor, for which one rate of input holds together.
struct Together {
    Together(Timed& loop, Rate bytes_in, std::size_t count)
        : acceptor(loop.reactor, "127.0.0.1", 0, factory(), rates(bytes_in)) {
        for (std::size_t i = 0; i < count; ++i) {
            clients.push_back(Socket::open(Address::Family::ipv4));
            (void)clients.back().connect(acceptor.addresses()[0]);
            run_until(loop.reactor, [&] { return journals.size() == i + 1 && journals.back().transport != nullptr; });
        }
    }
    ProtocolFactory factory() {
        return [this] {
            journals.emplace_back();
            return std::make_unique<Recorder>(journals.back());
        };
    }
    static AcceptorOptions rates(Rate bytes_in) {
        AcceptorOptions options;
        options.connection.rates_together.bytes_in = bytes_in;
        return options;
    }
    std::size_t received() const {
        std::size_t sum = 0;
        for (const Journal& journal : journals) sum += journal.input.size();
        return sum;
    }
    std::deque<Journal> journals;
    Acceptor acceptor;
    std::vector<Socket> clients;
};

ConnectionOptions with(const RateLimits& rates) {
    ConnectionOptions options;
    options.rates = rates;
    return options;
}

}  // namespace

TEST_CASE("A token bucket never lets more through than its burst and what comes, and all of that") {
    std::mt19937 random(1);
    for (const Rate rate : {Rate{1000, 0}, Rate{3, 7}, Rate{1, 1}, Rate{1'000'000'007, 13}, Rate{1'000, 50'000}}) {
        TokenBucket bucket(rate);
        const TimePoint start{seconds(1000)};
        TimePoint now = start;
        const double burst = double(rate.burst == 0 ? rate.per_second : rate.burst);
        CHECK(double(bucket.available(now)) == burst);
        double taken = 0;
        for (int i = 0; i < 10'000; ++i) {
            const std::uint64_t there = bucket.available(now);
            const std::uint64_t count = random() % 4 == 0 ? there : there / 2;
            bucket.take(count, now);
            const std::uint64_t unused = random() % 3 == 0 ? count / 3 : 0;
            bucket.give_back(unused);
            taken += double(count - unused);
            const double came = std::chrono::duration<double>(now - start).count() * double(rate.per_second);
            if (taken > burst + came + 1) FAIL("more than there was");
            now += std::chrono::microseconds(random() % 100'000);
        }
        if (burst < 2 || burst < double(rate.per_second) / 10) continue;  // then it was full again and again
        const double came = std::chrono::duration<double>(now - start).count() * double(rate.per_second);
        CHECK(taken + double(bucket.available(now)) >= 0.9 * came);
    }
}

TEST_CASE("Who takes more than there is from a token bucket waits for just that, one after the other") {
    TokenBucket bucket({100, 10});
    const TimePoint now{seconds(1000)};
    bucket.take(10, now);
    CHECK(bucket.available(now) == 0);
    CHECK(bucket.ready_at(0) == now);
    bucket.take(5, now);
    CHECK(bucket.ready_at(0) == now + milliseconds(50));
    bucket.take(5, now);
    CHECK(bucket.ready_at(0) == now + milliseconds(100));
    CHECK(bucket.ready_at(1) == now + milliseconds(110));
    CHECK(bucket.available(now + milliseconds(100)) == 0);
    CHECK(bucket.available(now + milliseconds(130)) == 3);
    CHECK(bucket.available(now + seconds(9)) == 10);
    TokenBucket none({});
    none.take(1'000'000'000'000, now);
    CHECK(none.available(now) > 1'000'000'000'000);
}

TEST_CASE("S91: a token bucket of any rate and burst never has more than its burst, and gives back what was taken") {
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    for (const std::uint64_t rate : {std::uint64_t(0), std::uint64_t(1), most - 1, most}) {
        for (const std::uint64_t burst : {std::uint64_t(0), std::uint64_t(1), most - 1, most}) {
            for (const std::uint64_t count : {std::uint64_t(0), std::uint64_t(1), most - 1, most}) {
                CAPTURE(rate);
                CAPTURE(burst);
                CAPTURE(count);
                TokenBucket bucket({rate, burst});
                const TimePoint now = TimePoint() + std::chrono::hours(1);
                const std::uint64_t full = bucket.available(now);
                CHECK(full == (rate == 0 ? most : burst == 0 ? rate : burst));
                bucket.take(count, now);
                CHECK(bucket.available(now) <= full);
                for (int i = 0; i < 5; ++i) bucket.take(most, now);
                CHECK(bucket.available(now) <= full);
                for (int i = 0; i < 10; ++i) bucket.give_back(most);
                CHECK(bucket.available(now) == full);
                CHECK(bucket.ready_at(count) >= bucket.ready_at(0));
            }
        }
    }
    TokenBucket slow({1, most});
    slow.take(1, TimePoint());
    CHECK(slow.available(TimePoint()) == most - 1);
}

TEST_CASE("S91: a connection may have any rate: what is sent through it arrives") {
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    for (const std::uint64_t rate : {std::uint64_t(0), std::uint64_t(1), most - 1, most}) {
        for (const std::uint64_t burst : {std::uint64_t(0), std::uint64_t(1), most - 1, most}) {
            CAPTURE(rate);
            CAPTURE(burst);
            Timed loop;
            ConnectionOptions options;
            options.rates = {{rate, burst}, {rate, burst}, {rate, burst}};
            options.rates_together = options.rates;
            Conversation conversation(loop.reactor, options);
            conversation.journal.on_received = [&](Bytes input) {
                conversation.journal.transport->message_received();
                conversation.journal.transport->write(input);
                return input.size();
            };
            std::string got;
            write_some(conversation.peer, "abc");
            for (int second = 0; second < 20 && got.size() < 3; ++second) {
                loop.pass(seconds(1), seconds(1));
                got += read_all(conversation.peer);
            }
            CHECK(got == "abc");
        }
    }
}

TEST_CASE("A connection over its rate of input is not read from until there are tokens, and nothing spins") {
    Timed loop;
    Conversation conversation(loop.reactor, with({.bytes_in = {1000}}));
    const std::string sent = random_bytes(5000, 1);
    REQUIRE(write_some(conversation.peer, sent) == sent.size());
    loop.settle();
    CHECK(conversation.journal.input.size() == 1000);
    CHECK_FALSE(conversation.journal.transport->reading());
    CHECK(settle(loop.reactor) <= 2);
    for (const std::size_t seconds_gone : {1U, 2U, 3U}) {
        loop.pass(seconds(1));
        CHECK(conversation.journal.input.size() == 1000 + 1000 * seconds_gone);
    }
    conversation.peer.shutdown_write();
    loop.settle();
    CHECK(conversation.journal.count("end") == 0);  // it waits behind the rest
    loop.pass(seconds(2));
    CHECK(conversation.journal.input == sent);
    CHECK(conversation.journal.over);
    CHECK_FALSE(conversation.journal.reason);
}

TEST_CASE("Below its rates a connection notices nothing of them") {
    Timed loop;
    Conversation conversation(loop.reactor, with({{1'000'000}, {1'000'000}, {1'000'000}}));
    conversation.journal.on_received = [&](Bytes input) {
        conversation.journal.transport->write(input);
        return input.size();
    };
    const std::string sent = random_bytes(500'000, 2);
    std::size_t written = 0;
    std::string back;
    run_until(loop.reactor, [&] {
        written += write_some(conversation.peer, std::string_view(sent).substr(written));
        back += read_all(conversation.peer);
        return back.size() == sent.size();
    });
    CHECK(back == sent);
}

TEST_CASE("What a read does not find costs no tokens") {
    Timed loop;
    Conversation conversation(loop.reactor, with({{1000}, {1000}, {}}));
    for (std::size_t i = 1; i <= 100; ++i) {
        write_some(conversation.peer, "x");
        loop.settle();
        REQUIRE(conversation.journal.input.size() == i);
    }
}

TEST_CASE(
    "What is written leaves at the connection's rate, and closing waits for all of it, whatever its time limits") {
    Timed loop;
    ConnectionOptions options = with({.bytes_out = {1000, 2000}});
    options.limits.write_timeout = options.limits.close_timeout = milliseconds(300);
    Conversation conversation(loop.reactor, options);
    const std::string answer = random_bytes(20'000, 3);
    conversation.journal.on_connected = [&] {
        conversation.journal.transport->write(answer);
        conversation.journal.transport->close();
    };
    bool ended = false;
    loop.settle();
    std::string got = read_all(conversation.peer, &ended);
    CHECK(got.size() == 2000);
    CHECK(settle(loop.reactor) <= 2);
    for (int i = 0; i < 17; ++i) loop.pass(seconds(1), milliseconds(i % 2 == 0 ? 50 : 400));
    got += read_all(conversation.peer, &ended);
    CHECK(got.size() == 19'000);
    CHECK_FALSE(ended);
    loop.pass(seconds(1));
    got += read_all(conversation.peer, &ended);
    CHECK(ended);
    CHECK(got == answer);
    conversation.peer.close();
    loop.settle();
    CHECK(conversation.journal.over);
    CHECK_FALSE(conversation.journal.reason);
}

TEST_CASE("Output over the rate meets the marks: the writer is told to pause and to go on") {
    Timed loop;
    ConnectionOptions options = with({.bytes_out = {10'000}});
    options.limits.high_mark = 20'000;
    Conversation conversation(loop.reactor, options);
    Journal& journal = conversation.journal;
    loop.settle();
    SUBCASE("by itself") {
        journal.transport->write(std::string(40'000, 'x'));
    }
    SUBCASE("answering, and then it is not read from") {
        journal.on_received = [&](Bytes input) {
            journal.transport->write(std::string(40'000, 'x'));
            return input.size();
        };
        write_some(conversation.peer, "question");
        loop.settle();
        CHECK_FALSE(journal.transport->reading());
    }
    loop.settle();
    CHECK(read_all(conversation.peer).size() == 10'000);
    CHECK(journal.count("pause") == 1);
    CHECK(journal.count("resume") == 0);
    CHECK(settle(loop.reactor) <= 2);
    loop.pass(seconds(2));
    CHECK(journal.count("resume") == 0);
    loop.pass(seconds(1));
    CHECK(journal.count("resume") == 1);
    CHECK(journal.transport->reading());
    CHECK(read_all(conversation.peer).size() == 30'000);
}

TEST_CASE("Connections that share a rate have no more together than that, and each its part") {
    Timed loop;
    Together all(loop, {3000}, 30);
    for (const Socket& client : all.clients) REQUIRE(write_some(client, std::string(10'000, 'x')) == 10'000);
    loop.settle();
    CHECK(all.received() == 3000);
    const std::uint64_t timers = loop.reactor.counters().timers;
    loop.pass(seconds(40));
    CHECK(all.received() <= 3000 + 40 * 3000);
    CHECK(all.received() >= 40 * 3000);
    for (const Journal& journal : all.journals) CHECK(journal.input.size() >= 3000);  // a thirtieth would be 4000
    CHECK(loop.reactor.counters().timers - timers <= 40 * 21);  // a waiting connection is woken when it is its turn

    SUBCASE("also if some of them go while they wait") {
        for (std::size_t i = 0; i < 30; i += 2) all.journals[i].transport->abort();
        const std::size_t before = all.received();
        loop.pass(seconds(10));
        CHECK(all.received() >= before + 9 * 3000);
        CHECK(all.received() <= before + 10 * 3000 + 150);
    }
    SUBCASE("also if the acceptor is gone") {
        all.acceptor.close();
    }
    const std::size_t before = all.received();
    loop.pass(seconds(2));
    CHECK(all.received() > before + 5000);
}

TEST_CASE("If a connection ends while it waits for tokens, the others that share its rate get them") {
    for (const std::size_t ends : {0U, 1U}) {
        CAPTURE(ends);
        Timed loop;
        Together both(loop, {1000}, 2);
        for (const Socket& client : both.clients) write_some(client, std::string(10'000, 'x'));
        loop.settle();
        CHECK(both.received() == 1000);
        both.journals[ends].transport->abort();
        loop.pass(seconds(1));
        CHECK(both.received() == 2000);
    }
}

TEST_CASE("A read that finds little takes from the rate of all together no more than that") {
    Timed loop;
    Together both(loop, {1000, 10'000}, 2);
    for (std::size_t i = 1; i <= 20; ++i) {
        write_some(both.clients[0], "x");
        run_until(loop.reactor, [&] { return both.journals[0].input.size() == i; });
    }
    write_some(both.clients[1], std::string(10'000, 'y'));
    run_until(loop.reactor, [&] { return !both.journals[1].input.empty(); });
    loop.settle();
    CHECK(both.journals[1].input.size() == 10'000 - 20);
}

TEST_CASE("A connection gets so many messages a second and no more, also if all have come in one piece") {
    Timed loop;
    auto ends = tcp_pair();
    Socket &client = ends.first, &server = ends.second;
    Connection::open(loop.reactor, std::move(server), std::make_unique<EchoLines>(), with({.messages_in = {10}}));
    std::string lines;
    for (int i = 0; i < 40; ++i) lines += std::to_string(i) + "\r\n";
    REQUIRE(write_some(client, lines) == lines.size());
    std::string back;
    const auto answers = [&] {
        back += read_all(client);
        return std::count(back.begin(), back.end(), '\n');
    };
    loop.settle();
    CHECK(answers() == 10);
    CHECK(settle(loop.reactor) <= 2);
    loop.pass(milliseconds(100));
    CHECK(answers() == 11);
    loop.pass(milliseconds(900));
    CHECK(answers() == 20);
    loop.pass(seconds(2));
    CHECK(answers() == 40);
    CHECK(back == lines);
}

TEST_CASE("Connections that share a rate of messages have no more together than that") {
    Timed loop;
    AcceptorOptions options;
    options.connection.rates_together.messages_in = {10, 1};
    Acceptor acceptor(loop.reactor, "127.0.0.1", 0, factory<EchoLines>(), options);
    std::vector<Socket> clients;
    for (int i = 0; i < 3; ++i) {
        clients.push_back(Socket::open(Address::Family::ipv4));
        (void)clients.back().connect(acceptor.addresses()[0]);
    }
    run_until(loop.reactor, [&] { return acceptor.connections() == 3; });
    for (const Socket& client : clients) write_some(client, std::string(100, '\n'));
    std::size_t answers[3] = {};
    const auto sum = [&] {
        for (std::size_t i = 0; i < 3; ++i) {
            const std::string got = read_all(clients[i]);
            answers[i] += std::size_t(std::count(got.begin(), got.end(), '\n'));
        }
        return answers[0] + answers[1] + answers[2];
    };
    loop.settle();
    CHECK(sum() <= 3);  // each may find out that it is one too many only by its message
    loop.pass(seconds(10));
    CHECK(sum() <= 103);
    CHECK(sum() >= 98);
    for (const std::size_t one : answers) CHECK(one >= 25);
}

TEST_CASE("Whom a rate holds up is not idle, and is when there is nothing more to be had") {
    Timed loop;
    ConnectionOptions options = with({.bytes_in = {1, 1}});
    options.limits.idle_timeout = milliseconds(300);
    Conversation conversation(loop.reactor, options);
    write_some(conversation.peer, "0123456789");
    loop.settle();
    loop.pass(seconds(8));
    CHECK(conversation.journal.input == "012345678");
    CHECK_FALSE(conversation.journal.over);
    loop.pass(seconds(2));
    CHECK(conversation.journal.input == "0123456789");
    CHECK(conversation.journal.over);
    CHECK(conversation.journal.reason == Error::idle_timeout);
}

TEST_CASE("A connection may be given rates of its own, and none, at any time") {
    Timed loop;
    Conversation conversation(loop.reactor, with({.bytes_in = {1000}, .bytes_out = {1000}}));
    Journal& journal = conversation.journal;
    write_some(conversation.peer, std::string(50'000, 'x'));
    loop.settle();
    journal.transport->write(std::string(50'000, 'y'));
    loop.settle();
    CHECK(journal.input.size() == 1000);
    std::string got = read_all(conversation.peer);
    CHECK(got.size() == 1000);
    auto& connection = static_cast<Connection&>(*journal.transport);
    connection.set_rates({.bytes_in = {10'000}, .bytes_out = {20'000}});
    loop.settle();
    CHECK(journal.input.size() == 11'000);
    CHECK((got += read_all(conversation.peer)).size() == 21'000);
    connection.set_rates({});
    loop.settle();
    CHECK(journal.input.size() == 50'000);
    CHECK((got += read_all(conversation.peer)).size() == 50'000);
}

TEST_CASE("A pause lasts beyond the wait for tokens, and the wait beyond the pause") {
    Timed loop;
    Conversation conversation(loop.reactor, with({.bytes_in = {1000}}));
    Journal& journal = conversation.journal;
    write_some(conversation.peer, std::string(3000, 'x'));
    loop.settle();
    journal.transport->pause_reading();
    loop.pass(seconds(1));
    CHECK(journal.input.size() == 1000);
    journal.transport->resume_reading();
    loop.settle();
    CHECK(journal.input.size() == 2000);
    journal.transport->pause_reading();
    journal.transport->resume_reading();
    loop.settle();
    CHECK(journal.input.size() == 2000);
    CHECK_FALSE(journal.transport->reading());
    loop.pass(seconds(1));
    CHECK(journal.input.size() == 3000);
}

TEST_CASE("A connection's own rates go along to another loop, where its budget is full at first") {
    Timed here, there;
    Conversation conversation(here.reactor, with({.bytes_in = {1000}}));
    Journal& journal = conversation.journal;
    write_some(conversation.peer, std::string(5000, 'x'));
    here.settle();
    CHECK(journal.input.size() == 1000);
    static_cast<Connection&>(*journal.transport).move_to(there.reactor);
    here.settle();
    there.settle();
    here.pass(seconds(10));
    CHECK(journal.input.size() == 2000);
    there.pass(seconds(1));
    CHECK(journal.input.size() == 3000);
}

TEST_CASE("Through any rates an echo comes back exactly, whatever the pieces and the time between them") {
    for (unsigned seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        const auto any_rate = [&] { return Rate{random() % 3 == 0 ? 0 : 1 + random() % 5000, random() % 2000}; };
        Timed loop;
        auto [client, server] = tcp_pair(4096);
        ConnectionOptions options = with({any_rate(), any_rate(), {}});
        options.rates_together = {any_rate(), any_rate(), {}};
        options.limits.high_mark = 1 + random() % 5000;
        options.limits.read_size = 1 + random() % 3000;
        Connection::open(loop.reactor, std::move(server), std::make_unique<Echo>(), options);
        const std::string sent = random_bytes(5000, seed);
        std::string back;
        std::size_t written = 0;
        bool ended = false;
        for (int step = 0; !ended && step < 200'000; ++step) {
            if (written < sent.size())
                written += write_some(client, std::string_view(sent).substr(written, 1 + random() % 999));
            if (written == sent.size()) (void)client.shutdown_write();
            loop.settle();
            if (random() % 2 == 0) back += read_all(client, &ended);
            loop.clock.advance(milliseconds(random() % 20'000));
        }
        CHECK(ended);
        CHECK(back == sent);
    }
}
