// The connection: Protocol and Transport over real sockets, on every backend.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/detail/byte_queue.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/timer.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

using namespace reactor;

namespace {

// A loop whose time passes when the test says so.
struct TimedLoop {
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};
    void settle() { ::settle(reactor); }
    void pass(Duration time) {
        clock.advance(time);
        settle();
    }
};

// A conversation on such a loop.
struct TimedConversation : TimedLoop, Conversation {
    explicit TimedConversation(const ConnectionOptions& options, int receive_buffer = 0)
        : Conversation(reactor, options, receive_buffer) {}
    TimedConversation(const ConnectionOptions& options, std::pair<Socket, Socket> ends)
        : Conversation(reactor, std::move(ends), options) {}
};

// Sends "rest of the world" with a reset, as an abortive close does.
void reset_by_peer(Socket& peer) {
    peer.set_linger(std::chrono::seconds(0));
    peer.close();
}

}  // namespace

TEST_CASE("S7: a connection is told connected, received, end and disconnected, each from the loop") {
    Reactor reactor;
    Conversation talk(reactor);
    CHECK(talk.journal.calls.empty());

    write_some(talk.peer, "hello");
    run_until(reactor, [&] { return talk.journal.input == "hello"; });
    talk.peer.close();
    run_until(reactor, [&] { return talk.journal.over; });

    CHECK(talk.journal.calls == std::vector<std::string>{"connected", "received", "end", "disconnected"});
    CHECK_FALSE(talk.journal.reason);
}

TEST_CASE("S7: `connected` comes first, whatever is asked before it, and not at all once the connection is closed") {
    for (const bool tcp : {true, false}) {
        for (const std::size_t written : {0u, 10u, 5'000'000u}) {
            for (int asked = 0; asked < 6; ++asked) {
                CAPTURE(tcp);
                CAPTURE(written);
                CAPTURE(asked);
                Reactor reactor;
                auto pair = tcp ? tcp_pair() : Socket::pair();
                Socket &peer = pair.first, &mine = pair.second;
                Journal journal;
                Connection& connection =
                    Connection::open(reactor, std::move(mine), std::make_unique<Recorder>(journal));
                const bool closed = asked == 3 || asked == 4;
                if (written > 0) connection.write(std::string(written, 'x'));
                if (asked == 1) connection.pause_reading();
                if (asked == 2) connection.shutdown_write();
                if (asked == 3) connection.close();
                if (asked == 4) connection.abort();
                if (asked == 5) connection.set_limits({});
                write_some(peer, "hello");
                std::size_t got = 0;
                run_until(reactor, [&] {
                    bool ended = false;
                    got += read_all(peer, &ended).size();
                    if (ended && peer) (void)peer.shutdown_write();
                    return journal.over || (!closed && got == written && !journal.calls.empty());
                });
                settle(reactor);
                if (closed) CHECK(journal.calls == std::vector<std::string>{"disconnected"});
                if (!closed) CHECK(journal.calls[0] == "connected");
                if (asked != 4) CHECK(got == written);
            }
        }
    }
}

TEST_CASE("S7: closing tells the end exactly once, last, and not from inside close(), whoever calls it where") {
    Reactor reactor;
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });

    talk.journal.transport->close();
    talk.journal.transport->close();
    CHECK_FALSE(talk.journal.over);
    CHECK_FALSE(talk.journal.transport->write("too late"));
    talk.peer.close();
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.count("disconnected") == 1);
    CHECK_FALSE(talk.journal.reason);
}

TEST_CASE("S4: a connection that aborts itself in any of its callbacks hears its end and nothing after it") {
    for (const std::string where : {"connected", "received", "end", "pause", "resume"}) {
        CAPTURE(where);
        Reactor reactor;
        ConnectionOptions options;
        options.limits.high_mark = 1000;
        options.prepare = send_buffer(4096);
        Conversation talk(reactor, options, 4096);
        const auto abort = [&] {
            talk.journal.transport->abort();
            CHECK_FALSE(talk.journal.transport->write("after the end"));
            CHECK(talk.journal.transport->queued() == 0);
            talk.journal.transport->pause_reading();
            talk.journal.transport->resume_reading();
            talk.journal.transport->shutdown_write();
            talk.journal.transport->close();
        };
        const auto much = [&] { talk.journal.transport->write(std::string(1'000'000, 'x')); };
        if (where == "connected") talk.journal.on_connected = abort;
        if (where == "received") {
            talk.journal.on_received = [&](Bytes input) {
                abort();
                return input.size();
            };
        }
        if (where == "end") talk.journal.on_end = abort;
        if (where == "pause") talk.journal.on_connected = much, talk.journal.on_pause = abort;
        if (where == "resume") talk.journal.on_connected = much, talk.journal.on_resume = abort;
        write_some(talk.peer, "data");
        if (where == "end") talk.peer.shutdown_write();

        run_until(reactor, [&] {
            if (where == "resume") read_all(talk.peer);
            return talk.journal.over;
        });

        CHECK(talk.journal.calls.back() == "disconnected");
        CHECK(talk.journal.count("disconnected") == 1);
        CHECK(talk.journal.reason == std::errc::operation_canceled);
        CHECK(settle(reactor) <= 2);
        bool ended = false;
        read_all(talk.peer, &ended);
        CHECK(ended);
    }
}

TEST_CASE("S5: a connection that another aborts in the same batch is told nothing of its waiting input") {
    Reactor reactor;
    Conversation one(reactor), two(reactor);
    run_until(reactor, [&] { return one.journal.transport && two.journal.transport; });
    // Whichever comes first aborts the other.
    const auto abort_other = [](Journal& other) {
        return [&other](Bytes input) {
            if (other.transport != nullptr) other.transport->abort();
            return input.size();
        };
    };
    int calls = 0;
    one.journal.on_received = [&, next = abort_other(two.journal)](Bytes input) { return ++calls, next(input); };
    two.journal.on_received = [&, next = abort_other(one.journal)](Bytes input) { return ++calls, next(input); };
    write_some(one.peer, "x");
    write_some(two.peer, "x");

    run_until(reactor, [&] { return one.journal.over || two.journal.over; });
    settle(reactor);
    CHECK(calls == 1);
    CHECK(one.journal.over != two.journal.over);
}

TEST_CASE("S10: reading paused on B by A in the same batch: B gets no data until it is resumed") {
    Reactor reactor;
    Conversation one(reactor), two(reactor);
    run_until(reactor, [&] { return one.journal.transport && two.journal.transport; });
    int calls = 0;
    Journal* paused = nullptr;
    const auto pause_other = [&](Journal& other) {
        return [&](Bytes input) {
            if (++calls == 1) {
                other.transport->pause_reading();
                paused = &other;
            }
            return input.size();
        };
    };
    one.journal.on_received = pause_other(two.journal);
    two.journal.on_received = pause_other(one.journal);
    write_some(one.peer, "x");
    write_some(two.peer, "x");

    run_until(reactor, [&] { return calls > 0; });
    CHECK(settle(reactor) <= 3);
    CHECK(calls == 1);
    paused->transport->resume_reading();
    run_until(reactor, [&] { return calls == 2; });
}

TEST_CASE("S8: a reactor destroyed with live connections closes them, destroys their protocols and calls nobody") {
    const std::size_t before = open_descriptors();
    Journal journal;
    Socket peer;
    {
        Reactor reactor;
        auto ends = tcp_pair();
        Socket& client = ends.first;
        Socket& server = ends.second;
        peer = std::move(client);
        Connection::open(reactor, std::move(server), std::make_unique<Recorder>(journal));
        run_until(reactor, [&] { return journal.transport != nullptr; });
        auto [other_client, other_server] = tcp_pair();
        Connection::open(reactor, std::move(other_server), std::make_unique<Recorder>(journal));  // not yet connected
        reactor.post([owned = std::make_unique<int>(1)] { FAIL("a posted task of a destroyed reactor ran"); });
    }
    CHECK(journal.calls == std::vector<std::string>{"connected"});
    bool ended = false;
    read_all(peer, &ended);
    CHECK(ended);
    peer.close();
    CHECK(open_descriptors() == before);
}

TEST_CASE("S13: a half-closed client gets everything, then the end: a megabyte sent after its FIN") {
    Reactor reactor;
    Conversation talk(reactor);
    const std::string much = random_bytes(1'000'000, 13);
    talk.journal.on_end = [&] {
        talk.journal.transport->write(much);
        talk.journal.transport->close();
    };
    talk.peer.shutdown_write();

    std::string got;
    bool ended = false;
    run_until(reactor, [&] {
        got += read_all(talk.peer, &ended, 1013);
        return ended;
    });
    CHECK(got == much);
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK_FALSE(talk.journal.reason);
}

TEST_CASE("S12: data and the end that come together are told as data, then one end") {
    Reactor reactor;
    Conversation talk(reactor);
    const std::string much = random_bytes(300'000, 12);
    std::size_t sent = write_some(talk.peer, much);
    run_until(reactor, [&] {
        sent += write_some(talk.peer, std::string_view(much).substr(sent));
        return sent == much.size();
    });
    talk.peer.close();
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.input == much);
    CHECK(talk.journal.count("end") == 1);
}

TEST_CASE("S14: data, then a reset: the bytes come first, then one end, also if a write finds the reset first") {
    for (const bool writes : {false, true}) {
        CAPTURE(writes);
        Reactor reactor;
        Conversation talk(reactor);
        run_until(reactor, [&] { return talk.journal.transport != nullptr; });
        write_some(talk.peer, "last words");
        reset_by_peer(talk.peer);
        if (writes) talk.journal.transport->write("into the void");
        CHECK_FALSE(talk.journal.over);
        run_until(reactor, [&] { return talk.journal.over; });
        CHECK(talk.journal.input == "last words");
        CHECK(talk.journal.reason);
        if (!writes) CHECK(talk.journal.reason == std::errc::connection_reset);
        CHECK(talk.journal.count("disconnected") == 1);
        CHECK(talk.journal.count("end") == 0);
    }
}

TEST_CASE("S14: what came before a reset is received also by who was not reading, because its answers were not read") {
    Reactor reactor;
    ConnectionOptions options;
    options.prepare = send_buffer(4096);
    Conversation talk(reactor, options, 4096);
    std::string input;
    talk.journal.on_received = [&](Bytes bytes) {
        input += text_of(bytes);
        talk.journal.transport->write(std::string(4'000'000, 'a'));
        return bytes.size();
    };
    write_some(talk.peer, "ask");
    run_until(reactor, [&] { return input == "ask"; });
    settle(reactor);
    REQUIRE(talk.journal.transport->queued() > talk.journal.transport->limits().high_mark);
    write_some(talk.peer, " more");
    settle(reactor);
    REQUIRE(input == "ask");

    reset_by_peer(talk.peer);
    settle(reactor);
    CHECK(input == "ask more");
    CHECK(talk.journal.over);
    CHECK((talk.journal.reason == std::errc::connection_reset || talk.journal.reason == std::errc::broken_pipe));
}

TEST_CASE("S14: what came before a reset is received even if shutting down finds the reset first") {
    Reactor reactor;
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    write_some(talk.peer, "last words");
    reset_by_peer(talk.peer);

    talk.journal.transport->shutdown_write();
    CHECK_FALSE(talk.journal.over);
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.input == "last words");
    CHECK(talk.journal.reason == std::errc::connection_reset);
    CHECK(talk.journal.calls == std::vector<std::string>{"connected", "received", "disconnected"});
}

TEST_CASE("S15: a peer that is gone does not make the loop spin while the protocol holds on to the connection") {
    Reactor reactor;
    Conversation talk(reactor);
    talk.journal.on_end = [] {};  // neither closes nor writes
    talk.peer.close();
    run_until(reactor, [&] { return talk.journal.count("end") == 1; });

    CHECK(settle(reactor, 10) <= 2);
    talk.journal.transport->write("anybody?");  // answered by a reset
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.reason == std::errc::broken_pipe);
    CHECK(settle(reactor, 10) <= 2);
}

TEST_CASE("S20: a byte of urgent data neither spins the loop nor reaches the protocol as ordinary data") {
    Reactor reactor;
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    REQUIRE(::send(talk.peer.get(), "!", 1, MSG_OOB) == 1);
    write_some(talk.peer, "plain");
    run_until(reactor, [&] { return talk.journal.input == "plain"; });
    CHECK(settle(reactor, 10) <= 3);
}

TEST_CASE("8 MB of random bytes are echoed exactly to a client that writes and reads in odd pieces") {
    for (const bool tcp : {true, false}) {
        Reactor reactor;
        auto ends = tcp ? tcp_pair() : Socket::pair();
        Socket& client = ends.first;
        Socket& server = ends.second;
        Connection::open(reactor, std::move(server), std::make_unique<Echo>());
        const std::string sent = random_bytes(8 * 1024 * 1024, 8);
        std::mt19937 random(88);
        std::string got;
        std::size_t written = 0;
        bool ended = false;
        run_until(reactor, [&] {
            const std::size_t piece = 1 + random() % 70'001;
            if (written < sent.size()) {
                written += write_some(client, std::string_view(sent).substr(written, piece));
                if (written == sent.size()) client.shutdown_write();
            }
            got += read_all(client, &ended, 1 + random() % 9001);
            return ended;
        });
        CHECK(got.size() == sent.size());
        CHECK(got == sent);
    }
}

TEST_CASE("S40: against a peer that sends for ever and never reads, an echo stays bounded and then still") {
    Reactor reactor;
    auto ends = tcp_pair();
    Socket& client = ends.first;
    Socket& server = ends.second;
    Connection& echo = Connection::open(reactor, std::move(server), std::make_unique<Echo>());
    const std::string piece(64 * 1024, 'x');
    std::size_t quiet = 0;
    run_until(reactor, [&] {  // until the client cannot send any more
        const std::size_t sent = write_some(client, piece);
        CHECK(echo.queued() <= echo.limits().high_mark + echo.limits().read_size);
        quiet = sent == 0 ? quiet + 1 : 0;
        return quiet > 20;
    });
    CHECK(echo.queued() > echo.limits().high_mark);
    CHECK(settle(reactor, 10) <= 2);  // no CPU: nothing is ready any more

    // It is only asleep: when the client reads, everything flows again.
    run_until(reactor, [&] {
        read_all(client);
        return echo.queued() == 0;
    });
}

TEST_CASE("S40: passing the high mark pauses once, falling to the low mark resumes once") {
    Reactor reactor;
    ConnectionOptions options;
    options.limits.high_mark = 100'000;
    options.prepare = send_buffer(4096);
    Conversation talk(reactor, options, 4096);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    talk.journal.on_resume = [&] { CHECK(talk.journal.transport->queued() <= 25'000); };

    for (int i = 0; i < 50; ++i) CHECK(talk.journal.transport->write(std::string(10'000, 'x')));
    CHECK(talk.journal.count("pause") == 0);  // never from inside write
    run_until(reactor, [&] { return talk.journal.count("pause") == 1; });
    settle(reactor);
    CHECK(talk.journal.count("resume") == 0);

    std::size_t got = 0;
    run_until(reactor, [&] {
        got += read_all(talk.peer).size();
        return got == 500'000;
    });
    settle(reactor);
    CHECK(talk.journal.count("pause") == 1);
    CHECK(talk.journal.count("resume") == 1);
}

TEST_CASE("S40: an answer that the kernel does not take counts once for the high mark") {
    Reactor reactor;
    ConnectionOptions options;
    options.limits.high_mark = 1500;
    auto ends = Socket::pair();
    const std::string piece(1000, 'f');
    while (write_some(ends.second, piece) > 0) {
    }
    Conversation talk(reactor, std::move(ends), options);
    int asked = 0;
    talk.journal.on_received = [&](Bytes bytes) {
        ++asked;
        talk.journal.transport->write(std::string(1000, 'a'));
        return bytes.size();
    };
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    write_some(talk.peer, "?");
    run_until(reactor, [&] { return asked == 1; });
    settle(reactor);
    CHECK(talk.journal.transport->queued() == 1000);
    CHECK(talk.journal.transport->reading());
    CHECK(talk.journal.count("pause") == 0);
    write_some(talk.peer, "?");
    run_until(reactor, [&] { return talk.journal.count("pause") == 1; });
    CHECK(talk.journal.transport->queued() == 2000);
    CHECK_FALSE(talk.journal.transport->reading());
}

TEST_CASE("S48: a producer whose reader takes everything at once is still stopped at the high mark, every turn") {
    Reactor reactor;
    Conversation talk(reactor);
    std::size_t produced = 0, most_in_one_call = 0;
    const auto produce = [&] {
        std::size_t in_this_call = 0;
        while (talk.journal.transport->queued() <= talk.journal.transport->limits().high_mark) {
            talk.journal.transport->write(std::string(1000, 'x'));
            in_this_call += 1000;
            if (in_this_call > 10'000'000) break;  // the fault that the test looks for
        }
        produced += in_this_call;
        most_in_one_call = std::max(most_in_one_call, in_this_call);
    };
    talk.journal.on_connected = produce;
    talk.journal.on_resume = [&] {
        if (produced < 5'000'000) produce();
    };
    std::size_t got = 0;
    run_until(reactor, [&] {
        got += read_all(talk.peer).size();
        return produced >= 5'000'000 && got == produced;
    });
    CHECK(most_in_one_call <= 200'000);
}

TEST_CASE("S48: a producer of large pieces is stopped at the high mark every turn, however fast its reader is") {
    Reactor reactor;
    Conversation talk(reactor);
    std::size_t most_in_one_call = 0;
    int calls = 0;
    const auto produce = [&] {
        std::size_t in_this_call = 0;
        while (talk.journal.transport->queued() <= talk.journal.transport->limits().high_mark) {
            talk.journal.transport->write(std::string(64 * 1024, 'x'));
            in_this_call += 64 * 1024;
            read_all(talk.peer);
            if (in_this_call > 10'000'000) break;  // the fault that the test looks for
        }
        most_in_one_call = std::max(most_in_one_call, in_this_call);
    };
    talk.journal.on_connected = produce;
    talk.journal.on_resume = [&] {
        if (++calls < 20) produce();
    };
    run_until(reactor, [&] {
        read_all(talk.peer);
        return calls == 20;
    });
    CHECK(most_in_one_call <= 1'000'000);
}

TEST_CASE("A protocol that ignores the marks is ended at the output limit, and its memory goes back") {
    Reactor reactor;
    ConnectionOptions options;
    options.limits.output_limit = 1'000'000;
    Conversation talk(reactor, options, 4096);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });

    int accepted = 0;
    while (accepted < 1000 && talk.journal.transport->write(std::string(100'000, 'x'))) ++accepted;
    CHECK(accepted < 1000);
    CHECK_FALSE(talk.journal.over);
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.reason == Error::output_limit);
}

TEST_CASE(
    "Whoever loses what was still to be sent gets a reset, not an end that would make a piece look like the whole") {
    for (const std::string how : {"output limit", "exception", "idle"}) {
        CAPTURE(how);
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        reactor.on_exception([](std::exception_ptr) {});
        ConnectionOptions options;
        options.limits.output_limit = 1'000'000;
        Conversation talk(reactor, options, 4096);
        const auto turn_until_over = [&] {
            for (int turns = 0; turns < 1000 && !talk.journal.over; ++turns) reactor.run_once(Duration::zero());
        };
        if (how == "exception")
            talk.journal.on_connected = [&] {
                talk.journal.transport->write("half of");
                throw std::runtime_error("as planned");
            };
        reactor.run_once(Duration::zero());
        if (talk.journal.transport != nullptr) {
            while (talk.journal.transport->queued() == 0) talk.journal.transport->write(std::string(100'000, 'x'));
            if (how == "output limit")
                while (talk.journal.transport->write(std::string(100'000, 'x'))) continue;
            if (how == "idle") {
                Limits limits = talk.journal.transport->limits();
                limits.idle_timeout = std::chrono::seconds(1);
                talk.journal.transport->set_limits(limits);
                clock.advance(std::chrono::seconds(2));
            }
        }
        turn_until_over();

        REQUIRE(talk.journal.over);
        pollfd peer{talk.peer.get(), POLLIN, 0};
        REQUIRE(::poll(&peer, 1, 60'000) == 1);
        ssize_t count = 0;
        char buffer[4096];
        while ((count = ::recv(talk.peer.get(), buffer, sizeof buffer, 0)) > 0) {
        }
        CHECK(count < 0);
        CHECK(errno == ECONNRESET);
    }
}

TEST_CASE("S40: output that fills its limit exactly lets nothing more in") {
    Reactor reactor;
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    talk.journal.transport->write(std::string(8'000'000, 'x'));
    Limits limits = talk.journal.transport->limits();
    limits.output_limit = talk.journal.transport->queued() + 1;
    talk.journal.transport->set_limits(limits);
    CHECK(talk.journal.transport->write("y"));
    CHECK_FALSE(talk.journal.transport->write("z"));
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.reason == Error::output_limit);
}

TEST_CASE("S91: a limit may have any value: the conversation goes on, or ends by that limit") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    std::vector<Limits> all;
    for (const std::size_t value : {std::size_t(0), std::size_t(1), most / 2, most / 2 + 1, most - 1, most}) {
        for (std::size_t Limits::*field :
             {&Limits::high_mark, &Limits::output_limit, &Limits::input_limit, &Limits::read_size}) {
            all.emplace_back().*field = value;
        }
    }
    for (const Duration value :
         {Duration::min(), Duration(-1), Duration(0), Duration(1), Duration::max() - Duration(1), Duration::max()}) {
        for (Duration Limits::*field :
             {&Limits::idle_timeout, &Limits::message_timeout, &Limits::write_timeout, &Limits::close_timeout}) {
            all.emplace_back().*field = value;
        }
    }
    for (const bool later : {false, true}) {
        for (std::size_t i = 0; i < all.size(); ++i) {
            CAPTURE(later);
            CAPTURE(i);
            Reactor reactor;
            ConnectionOptions options;
            if (!later) options.limits = all[i];
            Conversation talk(reactor, Socket::pair(), options);
            if (later) talk.journal.on_connected = [&] { talk.journal.transport->set_limits(all[i]); };
            std::string input;
            talk.journal.on_received = [&](Bytes bytes) {  // a byte is left each time
                talk.journal.transport->write(bytes.first(bytes.size() - 1));
                input += text_of(bytes.first(bytes.size() - 1));
                return bytes.size() - 1;
            };
            // A byte at a time, less of it does.
            const std::string sent = random_bytes(all[i].read_size <= 1 ? 500 : 600'000, 91);
            std::size_t written = 0;
            std::string got;
            run_until(reactor, [&] {
                if (written < sent.size()) written += write_some(talk.peer, std::string_view(sent).substr(written));
                if (written == sent.size()) (void)talk.peer.shutdown_write();
                got += read_all(talk.peer);
                return talk.journal.over;
            });
            got += read_all(talk.peer);
            CHECK(input == sent.substr(0, input.size()));
            const std::error_code reason = talk.journal.reason;
            if (!reason) CHECK(got == sent.substr(0, sent.size() - 1));
            CHECK((!reason || reason == std::errc::timed_out || reason == Error::input_limit ||
                   reason == Error::output_limit));
        }
    }
}

TEST_CASE("S91: a protocol that takes more than it was given has taken all of it") {
    Reactor reactor;
    Conversation talk(reactor);
    talk.journal.on_received = [&](Bytes bytes) {
        talk.journal.input += text_of(bytes);
        return talk.journal.input.size() % 2 == 0 ? bytes.size() + 1 : std::numeric_limits<std::size_t>::max();
    };
    for (const std::string_view sent : {"a", "ab", "abc", "abcd", "abcde"}) {
        talk.journal.input.clear();
        write_some(talk.peer, sent);
        run_until(reactor, [&] { return talk.journal.input == sent; });
        CHECK(talk.journal.transport->unconsumed().empty());
        if (sent == "abc") {  // also with a rest
            talk.journal.on_received = [&, left = true](Bytes bytes) mutable {
                talk.journal.input = text_of(bytes);
                return std::exchange(left, false) ? 0 : bytes.size() + 1;
            };
            write_some(talk.peer, "r");
            run_until(reactor, [&] { return talk.journal.input == "r"; });
            write_some(talk.peer, "s");
            run_until(reactor, [&] { return talk.journal.input == "rs"; });
        }
    }
    CHECK_FALSE(talk.journal.over);
}

TEST_CASE("Large reads are for a peer that fills them, and end with the burst that it filled them with") {
    Reactor reactor;
    ConnectionOptions options;
    auto ends = Socket::pair();
    ends.first.set_send_buffer(2'000'000);
    Conversation talk(reactor, std::move(ends), options);
    std::vector<std::size_t> sizes;
    talk.journal.on_received = [&](Bytes bytes) {
        sizes.push_back(bytes.size());
        return bytes.size();
    };
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    for (int burst = 0; burst < 3; ++burst) {
        sizes.clear();
        for (int i = 0; i < 20; ++i) write_some(talk.peer, std::string(16 * 1024, 'x'));
        settle(reactor);
        REQUIRE(sizes.size() >= 2);
        CHECK(sizes[0] == options.limits.read_size);
        CHECK(*std::max_element(sizes.begin(), sizes.end()) > options.limits.read_size);
        write_some(talk.peer, "little");
        settle(reactor);
        CHECK(sizes.back() == 6);
    }
}

TEST_CASE("Input that is never consumed is ended at the input limit, not before") {
    Reactor reactor;
    ConnectionOptions options;
    options.limits.input_limit = 5000;
    Conversation talk(reactor, options);
    std::size_t largest = 0;
    talk.journal.on_received = [&](Bytes input) {
        largest = input.size();
        return std::size_t(0);
    };
    write_some(talk.peer, std::string(5000, 'x'));
    run_until(reactor, [&] { return largest == 5000; });
    settle(reactor);
    CHECK_FALSE(talk.journal.over);
    write_some(talk.peer, "y");
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.reason == Error::input_limit);
}

TEST_CASE("What received() leaves stands first in the next call, byte for byte, however large the rest") {
    for (const std::size_t unit : {7u, 4096u, 5000u, 100'000u}) {
        CAPTURE(unit);
        Reactor reactor;
        Conversation talk(reactor);
        std::string consumed;
        talk.journal.on_received = [&](Bytes input) {  // whole units only
            const std::size_t whole = input.size() / unit * unit;
            consumed += text_of(input.first(whole));
            return whole;
        };
        const std::string sent = random_bytes(unit * (300'000 / unit + 1), 5);
        std::mt19937 random(unsigned(unit + 1));
        std::size_t written = 0;
        run_until(reactor, [&] {
            if (written < sent.size())
                written += write_some(talk.peer, std::string_view(sent).substr(written, 1 + random() % 20'000));
            return consumed.size() == sent.size();
        });
        CHECK(consumed == sent);
    }
}

TEST_CASE("Pausing in received() and resuming later gives the rest again without new input") {
    Reactor reactor;
    Conversation talk(reactor);
    std::vector<std::string> calls;
    talk.journal.on_received = [&](Bytes input) {
        calls.emplace_back(text_of(input));
        talk.journal.transport->pause_reading();
        return std::size_t(3);
    };
    write_some(talk.peer, "onetwosix");
    run_until(reactor, [&] { return calls.size() == 1; });
    CHECK(settle(reactor) <= 2);
    for (std::size_t expected = 2; expected <= 3; ++expected) {
        talk.journal.transport->resume_reading();
        CHECK(calls.size() == expected - 1);  // not from inside the call
        run_until(reactor, [&] { return calls.size() == expected; });
    }
    talk.journal.transport->resume_reading();
    settle(reactor);
    CHECK(calls == std::vector<std::string>{"onetwosix", "twosix", "six"});
}

TEST_CASE("S109: an end of stream waits behind what came before it while reading is paused, and nothing spins") {
    for (const bool tcp : {true, false}) {
        for (const bool closed : {false, true}) {
            for (const bool shut :
                 {false, true}) {  // over in both directions: a hang-up for as long as there is no read
                CAPTURE(tcp);
                CAPTURE(closed);
                CAPTURE(shut);
                Reactor reactor;
                Conversation talk(reactor, tcp ? tcp_pair() : Socket::pair(), {});
                talk.journal.on_connected = [&] { talk.journal.transport->pause_reading(); };
                run_until(reactor, [&] { return talk.journal.transport != nullptr; });
                if (shut) talk.journal.transport->shutdown_write();
                settle(reactor);
                read_all(talk.peer);
                write_some(talk.peer, "data");
                closed ? talk.peer.close() : void(talk.peer.shutdown_write());
                CHECK(settle(reactor, 10) <= 3);
                CHECK(talk.journal.calls == std::vector<std::string>{"connected"});
                talk.journal.transport->resume_reading();
                talk.journal.transport->pause_reading();
                CHECK(settle(reactor, 10) <= 3);

                talk.journal.transport->resume_reading();
                run_until(reactor, [&] { return talk.journal.over || talk.journal.count("end") == 1; });
                CHECK(talk.journal.input == "data");
                CHECK(talk.journal.count("end") == 1);
            }
        }
    }
}

TEST_CASE("S109: a connection whose peer resets ends at once and says so, although nobody reads from it") {
    for (const bool tcp : {true, false}) {
        CAPTURE(tcp);
        Reactor reactor;
        Conversation talk(reactor, tcp ? tcp_pair() : Socket::pair(), {});
        run_until(reactor, [&] { return talk.journal.transport != nullptr; });
        bool half_closed = false;
        SUBCASE("paused") {
            talk.journal.transport->pause_reading();
        }
        SUBCASE("paused, with data that nobody has read") {
            talk.journal.transport->pause_reading();
            write_some(talk.peer, "data");
        }
        SUBCASE("paused, with urgent data that nobody reads") {
            talk.journal.transport->pause_reading();
            settle(reactor);
            for (int i = 0; i < 3; ++i) {
                REQUIRE(::send(talk.peer.get(), "!", 1, MSG_OOB) == 1);
                CHECK(settle(reactor, 10) <= 3);
            }
        }
        SUBCASE("paused since the peer shut its side") {
            half_closed = true;
            talk.journal.on_end = [] {};
            (void)talk.peer.shutdown_write();
            run_until(reactor, [&] { return talk.journal.count("end") == 1; });
        }
        settle(reactor);
        REQUIRE_FALSE(talk.journal.over);
        talk.journal.transport->write("unread");  // by which a Unix socket's close is a reset, too
        reset_by_peer(talk.peer);
        for (int turn = 0; turn < 10 && !talk.journal.over; ++turn) reactor.run_once(Duration::zero());
        REQUIRE(talk.journal.over);
        // The side that has seen the end gets a broken pipe: tcp_reset in Linux.
        if (!half_closed || !tcp) CHECK(talk.journal.reason == std::errc::connection_reset);
        if (half_closed && tcp) CHECK(talk.journal.reason == std::errc::broken_pipe);
        CHECK(settle(reactor, 10) <= 3);
    }
}

TEST_CASE("S41: writes of every size, inside and outside of callbacks, arrive once and in order") {
    Reactor reactor;
    ConnectionOptions options;
    options.prepare = send_buffer(8192);
    Conversation talk(reactor, options, 8192);
    const std::vector<std::size_t> sizes{0, 1, 63, 64, 4095, 16'383, 16'384, 16'385, 65'535, 65'536, 65'537, 200'000};
    std::string expected;
    std::mt19937 random(41);
    std::size_t rounds = 0;
    const auto write_several = [&] {
        for (int i = 0; i < 5; ++i) {
            const std::string piece = random_bytes(sizes[random() % sizes.size()], unsigned(random()));
            expected += piece;
            CHECK(talk.journal.transport->write(piece));
        }
        ++rounds;
    };
    talk.journal.on_connected = write_several;
    talk.journal.on_received = [&](Bytes input) {
        expected += text_of(input);
        talk.journal.transport->write(input);  // out of the loop's own buffer, then more behind it
        if (random() % 2) {
            expected += text_of(input.subspan(input.size() / 2));
            talk.journal.transport->write(input.subspan(input.size() / 2));
        }
        write_several();
        return input.size();
    };
    std::string got;
    run_until(reactor, [&] {
        if (talk.journal.transport != nullptr && rounds < 40) {
            if (random() % 2) {
                write_some(talk.peer, random_bytes(1 + random() % 3000, unsigned(random())));
            } else {
                write_several();
            }
        }
        got += read_all(talk.peer);
        return rounds >= 40 && got.size() >= expected.size() && talk.journal.transport->queued() == 0;
    });
    settle(reactor);
    got += read_all(talk.peer);
    CHECK(got.size() == expected.size());
    CHECK(got == expected);
}

TEST_CASE("Behind an answer that left in part what is written between callbacks leaves at once") {
    Reactor reactor;
    ConnectionOptions options;
    options.prepare = send_buffer(4096);
    Conversation talk(reactor, Socket::pair(), options);
    talk.journal.on_received = [&](Bytes input) {
        talk.journal.transport->write(input);
        return input.size();
    };
    settle(reactor);
    const std::string text = random_bytes(40'000, 41);
    REQUIRE(write_some(talk.peer, text) == text.size());
    settle(reactor);
    REQUIRE(talk.journal.transport->queued() > 0);
    std::string got;
    run_until(reactor, [&] {
        got += read_all(talk.peer);
        return got.size() >= text.size();
    });
    CHECK(got == text);
    settle(reactor);
    talk.journal.transport->write("and another thing");
    CHECK(talk.journal.transport->queued() == 0);
    CHECK(read_all(talk.peer) == "and another thing");
}

TEST_CASE("A callback that writes nothing sends nothing: a peer that is gone has ended in good order") {
    for (const int way : {0, 1, 2}) {
        CAPTURE(way);
        Reactor reactor;
        Conversation talk(reactor, Socket::pair(), {});
        talk.journal.on_received = [&](Bytes input) {
            talk.journal.input += text_of(input);
            if (way == 1) CHECK(talk.journal.transport->write(""));
            if (way == 2) {
                talk.journal.transport->pause_reading();
                talk.journal.transport->resume_reading();
            }
            return input.size();
        };
        write_some(talk.peer, "last words");
        talk.peer.close();
        run_until(reactor, [&] { return talk.journal.over; });
        CHECK(talk.journal.input == "last words");
        CHECK(talk.journal.count("end") == 1);
        CHECK_FALSE(talk.journal.reason);
    }
}

TEST_CASE("What is written in one callback leaves together: one segment for many small writes") {
    Reactor reactor;
    Conversation talk(reactor);
    talk.journal.on_received = [&](Bytes input) {
        for (int i = 0; i < 100; ++i) talk.journal.transport->write("0123456789");
        int waiting = -1;
        CHECK(::ioctl(talk.peer.get(), FIONREAD, &waiting) == 0);
        CHECK(waiting == 0);  // nothing left yet
        return input.size();
    };
    write_some(talk.peer, "go");
    run_until(reactor, [&] {
        int waiting = 0;
        ::ioctl(talk.peer.get(), FIONREAD, &waiting);
        return waiting > 0;
    });
    CHECK(read_all(talk.peer).size() == 1000);
}

TEST_CASE("Neighbouring pieces of the input that are written one by one leave together and as they came") {
    Reactor reactor;
    Conversation talk(reactor);
    talk.journal.on_received = [&](Bytes input) {
        std::size_t queued = 0;
        for (std::size_t at = 0; at < input.size(); at += 3) {
            const Bytes piece = input.subspan(at, std::min<std::size_t>(3, input.size() - at));
            talk.journal.transport->write(piece);
            queued += piece.size();
            CHECK(talk.journal.transport->queued() == queued);
        }
        return input.size();
    };
    const std::string text = random_bytes(1000, 4);
    write_some(talk.peer, text);
    std::string got;
    run_until(reactor, [&] { return (got += read_all(talk.peer)).size() == text.size(); });
    CHECK(got == text);
}

TEST_CASE("A small piece and a large one that one callback writes arrive whole, wherever the kernel's room ends") {
    for (const std::size_t size : {1u, 1000u, 4000u}) {
        CAPTURE(size);
        Reactor reactor;
        ConnectionOptions options;
        options.prepare = send_buffer(8192);
        Conversation talk(reactor, options, 8192);
        const std::string head = random_bytes(size, 5), body = random_bytes(1'000'000, 6);
        talk.journal.on_received = [&](Bytes input) {
            CHECK(talk.journal.transport->write(head));
            CHECK(talk.journal.transport->write(body));
            return input.size();
        };
        write_some(talk.peer, "please");
        std::string got;
        run_until(reactor, [&] { return (got += read_all(talk.peer)).size() >= size + body.size(); });
        CHECK((got == head + body));
    }
}

TEST_CASE("S46: the FIN comes only after the queue is out, and a second shutdown changes nothing") {
    Reactor reactor;
    ConnectionOptions options;
    options.prepare = send_buffer(8192);
    Conversation talk(reactor, options, 8192);
    const std::string much = random_bytes(2'000'000, 46);
    talk.journal.on_connected = [&] {
        talk.journal.transport->write(much);
        talk.journal.transport->shutdown_write();
        talk.journal.transport->shutdown_write();
        CHECK_FALSE(talk.journal.transport->write("more"));
    };
    std::string got;
    bool ended = false;
    run_until(reactor, [&] {
        got += read_all(talk.peer, &ended);
        return ended;
    });
    CHECK(got == much);
    CHECK_FALSE(talk.journal.over);  // the other direction is still open
    write_some(talk.peer, "and you?");
    run_until(reactor, [&] { return talk.journal.input == "and you?"; });
    talk.peer.close();
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK_FALSE(talk.journal.reason);
}

TEST_CASE("S44: a reply survives a close with unread input: the peer gets all of it and an end, no reset") {
    Reactor reactor;
    Conversation talk(reactor);
    const std::string reply = random_bytes(100'000, 44);
    talk.journal.on_received = [&](Bytes input) {
        talk.journal.transport->write(reply);
        talk.journal.transport->close();
        return input.size();
    };
    std::string got;
    bool ended = false;
    std::size_t pieces = 0;
    run_until(reactor, [&] {  // goes on sending bytes that are thrown away
        if (pieces < 50) pieces += write_some(talk.peer, std::string(1000, 'x')) > 0 ? 1 : 0;
        if (pieces < 50) return false;
        const ssize_t count = ::recv(talk.peer.get(), nullptr, 0, MSG_PEEK);
        CHECK((count >= 0 || errno == EAGAIN));
        got += read_all(talk.peer, &ended);
        return ended;
    });
    CHECK(got == reply);
    talk.peer.close();
    run_until(reactor, [&] { return talk.journal.over; });
    CHECK_FALSE(talk.journal.reason);
}

TEST_CASE("S44: a connection that closes without waiting sends everything, and is over although its peer stays") {
    const auto check = [](bool tcp, std::size_t size, bool in_call) {
        CAPTURE(tcp);
        CAPTURE(size);
        CAPTURE(in_call);
        Reactor reactor;
        Conversation talk(reactor, tcp ? tcp_pair() : Socket::pair(), {});
        const std::string reply = random_bytes(size, 45);
        const auto answer = [&] {
            talk.journal.transport->write(reply);
            talk.journal.transport->close_without_waiting();
            CHECK_FALSE(talk.journal.over);
            CHECK_FALSE(talk.journal.transport->write("too late"));
        };
        talk.journal.on_received = [&](Bytes input) {
            if (in_call) answer();
            if (!in_call) reactor.post(answer);
            return input.size();
        };
        CHECK(write_some(talk.peer, "the last") == 8);
        std::string got;
        bool ended = false;
        run_until(reactor, [&] {
            got += read_all(talk.peer, &ended);
            return ended && talk.journal.over;
        });
        CHECK(got == reply);
        CHECK_FALSE(talk.journal.reason);
        CHECK(talk.journal.count("disconnected") == 1);
        CHECK(talk.journal.count("end") == 0);
    };
    for (const bool tcp : {true, false})
        for (const std::size_t size : std::initializer_list<std::size_t>{0, 10, 4'000'000})
            for (const bool in_call : {true, false}) check(tcp, size, in_call);
}

TEST_CASE("S44: a connection that closes while reading is paused discards its input, and ends when its peer ends") {
    for (const bool tcp : {true, false}) {
        CAPTURE(tcp);
        Reactor reactor;
        Conversation talk(reactor, tcp ? tcp_pair() : Socket::pair(), {});
        talk.journal.on_connected = [&] { talk.journal.transport->pause_reading(); };
        run_until(reactor, [&] { return talk.journal.transport != nullptr; });
        talk.journal.transport->close();
        for (int i = 0; i < 3; ++i) {
            CHECK(write_some(talk.peer, std::string(1000, 'x')) == 1000);
            CHECK(settle(reactor, 10) <= 5);
            CHECK_FALSE(talk.journal.over);
        }
        talk.peer.shutdown_write();
        settle(reactor);
        REQUIRE(talk.journal.over);
        CHECK_FALSE(talk.journal.reason);
        CHECK(talk.journal.input.empty());
    }
}

TEST_CASE("S45: a graceful close to a peer that neither reads nor closes is aborted at its deadline") {
    ConnectionOptions options;
    options.limits.close_timeout = std::chrono::seconds(5);
    options.prepare = send_buffer(4096);
    TimedConversation talk(options, Socket::pair());  // TCP would probe the window, by its own clock
    talk.journal.on_connected = [&] {
        talk.journal.transport->write(std::string(1'000'000, 'x'));
        talk.journal.transport->close();
    };
    talk.reactor.run_once(Duration::zero());
    talk.pass(std::chrono::milliseconds(4999));
    CHECK_FALSE(talk.journal.over);
    talk.pass(std::chrono::milliseconds(1));
    CHECK(talk.journal.over);
    CHECK(talk.journal.reason == std::errc::timed_out);
}

TEST_CASE("S45: what was written in the same call as the close, and could not be sent, has its deadline too") {
    ConnectionOptions options;
    options.limits.close_timeout = std::chrono::seconds(5);
    options.prepare = send_buffer(4096);
    TimedConversation talk(options, Socket::pair());  // TCP would probe the window, by its own clock
    talk.journal.on_connected = [&] {
        for (int i = 0; i < 6; ++i) talk.journal.transport->write(std::string(10'000, 'x'));  // leaves as one
        CHECK(talk.journal.transport->queued() == 60'000);
        talk.journal.transport->close();
    };
    talk.reactor.run_once(Duration::zero());
    talk.pass(std::chrono::milliseconds(4999));
    CHECK_FALSE(talk.journal.over);
    talk.pass(std::chrono::milliseconds(1));
    CHECK(talk.journal.reason == Error::close_timeout);
}

TEST_CASE("S45: the time to close in counts from the close, whatever deadline came next before") {
    ConnectionOptions options;
    options.limits.idle_timeout = std::chrono::seconds(10);
    options.limits.close_timeout = std::chrono::seconds(5);
    options.prepare = send_buffer(4096);
    TimedConversation talk(options, Socket::pair());  // TCP would probe the window, by its own clock
    talk.journal.on_connected = [&] { talk.journal.transport->write(std::string(1'000'000, 'x')); };
    talk.reactor.run_once(Duration::zero());
    talk.pass(std::chrono::seconds(8));
    talk.journal.transport->close();
    talk.pass(std::chrono::milliseconds(4999));
    CHECK_FALSE(talk.journal.over);
    talk.pass(std::chrono::milliseconds(1));
    CHECK(talk.journal.reason == Error::close_timeout);
}

TEST_CASE("An idle timeout strikes when nothing moved for its whole length, and traffic either way puts it off") {
    ConnectionOptions options;
    options.limits.idle_timeout = std::chrono::seconds(10);
    TimedConversation talk(options);
    talk.settle();
    for (int i = 0; i < 5; ++i) {
        talk.clock.advance(std::chrono::seconds(9));
        if (i % 2) {
            write_some(talk.peer, "x");
        } else {
            talk.journal.transport->write("y");
        }
        talk.settle();
        CHECK_FALSE(talk.journal.over);
    }
    talk.pass(std::chrono::seconds(10) - Duration(1));
    CHECK_FALSE(talk.journal.over);
    talk.pass(Duration(1));
    CHECK(talk.journal.over);
    CHECK(talk.journal.reason == std::errc::timed_out);
}

TEST_CASE("Who speaks without reading what waits for it is not idle") {
    ConnectionOptions options;
    options.limits.idle_timeout = std::chrono::seconds(10);
    options.prepare = send_buffer(4096);
    TimedConversation talk(options, 4096);
    talk.settle();
    talk.journal.transport->write(std::string(4'000'000, 'a'));
    talk.settle();
    for (int i = 0; i < 5; ++i) {
        REQUIRE(talk.journal.transport->queued() > 0);
        talk.clock.advance(std::chrono::seconds(9));
        write_some(talk.peer, "x");
        talk.settle();
        REQUIRE_FALSE(talk.journal.over);
    }
    CHECK(talk.journal.input == "xxxxx");
    talk.pass(std::chrono::seconds(10));
    CHECK(talk.journal.reason == Error::idle_timeout);
}

TEST_CASE("A loop that was busy for longer than a deadline does not hold it against who spoke meanwhile") {
    ConnectionOptions options;
    options.limits.idle_timeout = std::chrono::seconds(10);
    TimedConversation patient(options);
    Conversation busy(patient.reactor);
    patient.settle();
    busy.journal.on_received = [&](Bytes input) {
        write_some(patient.peer, "here I am");
        patient.clock.advance(std::chrono::seconds(20));
        return input.size();
    };
    write_some(busy.peer, "a long calculation");
    run_until(patient.reactor, [&] { return !patient.journal.input.empty() || patient.journal.over; });
    patient.settle();
    CHECK(patient.journal.input == "here I am");
    CHECK_FALSE(patient.journal.over);
    patient.pass(std::chrono::seconds(10));
    CHECK(patient.journal.reason == Error::idle_timeout);
}

TEST_CASE("A message that comes a byte now and then ends its connection in time, whole ones however slow do not") {
    ConnectionOptions options;
    options.limits.message_timeout = std::chrono::seconds(10);
    TimedConversation talk(options);
    talk.journal.on_received = [&](Bytes input) { return input.size() / 4 * 4; };  // messages of four bytes
    talk.settle();
    for (int i = 0; i < 5; ++i) {  // each within its time, with pauses as long as they like
        talk.clock.advance(std::chrono::hours(1));
        write_some(talk.peer, "ab");
        talk.settle();
        talk.clock.advance(std::chrono::seconds(9));
        write_some(talk.peer, "cd");
        talk.settle();
        REQUIRE_FALSE(talk.journal.over);
    }
    // A rest that begins with the end of another message has a time of its own.
    write_some(talk.peer, "abcdef");
    talk.settle();
    talk.clock.advance(std::chrono::seconds(9));
    write_some(talk.peer, "ghi");
    talk.settle();
    for (int i = 0; i < 9; ++i) {  // bytes added to the rest do not put it off
        talk.pass(std::chrono::seconds(1));
        REQUIRE_FALSE(talk.journal.over);
    }
    talk.pass(std::chrono::seconds(1));
    REQUIRE(talk.journal.over);
    CHECK(talk.journal.reason == Error::message_timeout);
    CHECK(talk.journal.reason == std::errc::timed_out);
}

TEST_CASE("A message whose reading is paused is not its sender's delay") {
    ConnectionOptions options;
    options.limits.message_timeout = std::chrono::seconds(10);
    TimedConversation talk(options);
    talk.journal.on_received = [&](Bytes) { return std::size_t(0); };
    talk.settle();
    write_some(talk.peer, "begun");
    talk.settle();
    talk.journal.transport->pause_reading();
    for (int i = 0; i < 20; ++i) talk.pass(std::chrono::seconds(5));
    CHECK_FALSE(talk.journal.over);
    talk.journal.transport->resume_reading();
    talk.pass(std::chrono::seconds(20));
    talk.settle();
    CHECK(talk.journal.reason == Error::message_timeout);
}

TEST_CASE("A peer that reads nothing ends its connection in time, one that reads a little does not") {
    ConnectionOptions options;
    options.limits.write_timeout = std::chrono::seconds(10);
    options.prepare = send_buffer(4096);
    TimedConversation talk(options, 4096);
    talk.settle();
    talk.pass(std::chrono::hours(1));  // with nothing to send it does not count
    talk.journal.transport->write(std::string(1'000'000, 'x'));
    talk.settle();
    for (int i = 0; i < 5; ++i) {
        talk.clock.advance(std::chrono::seconds(9));
        const std::size_t queued = talk.journal.transport->queued();
        run_until(talk.reactor, [&] {
            read_all(talk.peer);
            return talk.journal.transport->queued() < queued;
        });
        REQUIRE_FALSE(talk.journal.over);
    }
    talk.settle();
    talk.pass(std::chrono::seconds(10));
    REQUIRE(talk.journal.over);
    CHECK(talk.journal.reason == Error::write_timeout);
}

TEST_CASE("A peer that reads nothing ends its connection in time, also in the middle of a message of its own") {
    ConnectionOptions options;
    options.limits.write_timeout = std::chrono::seconds(10);
    options.limits.message_timeout = std::chrono::seconds(60);
    options.prepare = send_buffer(4096);
    TimedConversation talk(options, Socket::pair());
    talk.journal.on_received = [](Bytes) { return std::size_t(0); };
    talk.settle();
    talk.journal.transport->write(std::string(1'000'000, 'x'));
    write_some(talk.peer, "begun");
    talk.settle();
    talk.pass(std::chrono::seconds(9));
    REQUIRE_FALSE(talk.journal.over);
    talk.pass(std::chrono::seconds(1));
    REQUIRE(talk.journal.over);
    CHECK(talk.journal.reason == Error::write_timeout);
}

TEST_CASE("An idle timeout that is taken back strikes no more, one that is given later counts from then") {
    ConnectionOptions options;
    options.limits.idle_timeout = std::chrono::seconds(10);
    TimedConversation talk(options);
    talk.settle();
    Limits limits = options.limits;
    limits.idle_timeout = Duration::zero();
    talk.journal.transport->set_limits(limits);
    talk.pass(std::chrono::hours(1));
    CHECK_FALSE(talk.journal.over);
    CHECK_FALSE(talk.reactor.next_timeout());

    limits.idle_timeout = std::chrono::seconds(10);
    talk.journal.transport->set_limits(limits);
    talk.pass(std::chrono::seconds(9));
    CHECK_FALSE(talk.journal.over);
    talk.pass(std::chrono::seconds(1));
    CHECK(talk.journal.over);
}

TEST_CASE(
    "S69: an exception out of any callback ends that connection only, reaches the hook, and is told as a reason") {
    for (const std::string where : {"connected", "received", "end", "disconnected"}) {
        CAPTURE(where);
        Reactor reactor;
        int hooked = 0;
        reactor.on_exception([&](std::exception_ptr) { ++hooked; });
        Conversation talk(reactor), other(reactor);
        const auto fail = [] { throw std::runtime_error("as planned"); };
        if (where == "connected") talk.journal.on_connected = fail;
        if (where == "received")
            talk.journal.on_received = [&](Bytes) -> std::size_t {
                fail();
                return 0;
            };
        if (where == "end") talk.journal.on_end = fail;
        if (where == "disconnected") talk.journal.on_disconnected = fail;
        write_some(talk.peer, "x");
        write_some(other.peer, "y");
        talk.peer.shutdown_write();

        run_until(reactor, [&] { return talk.journal.over && other.journal.input == "y"; });
        CHECK(hooked == 1);
        CHECK(talk.journal.count("disconnected") == 1);
        if (where != "disconnected") CHECK(talk.journal.reason == Error::exception);
        CHECK_FALSE(other.journal.over);
    }
}

TEST_CASE("500 resets, in every stage of a conversation, leave no descriptor behind") {
    const std::size_t before = open_descriptors();
    {
        Reactor reactor;
        for (int i = 0; i < 500; ++i) {
            auto ends = tcp_pair();
            Socket& client = ends.first;
            Socket& server = ends.second;
            Connection::open(reactor, std::move(server), std::make_unique<Echo>());
            if (i % 4 == 1) write_some(client, "some");
            if (i % 4 >= 2) settle(reactor);
            if (i % 4 == 3) write_some(client, std::string(100'000, 'x')), settle(reactor);
            reset_by_peer(client);
            if (i % 50 == 0) settle(reactor);
        }
        settle(reactor);
        std::size_t live = 0;
        Internals(reactor).for_each_owned([&](OwnedHandler&) { ++live; });
        CHECK(live == 0);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("200 idle connections cost no turn: the loop waits for as long as it may") {
    Reactor reactor;
    std::vector<std::unique_ptr<Conversation>> idle;
    for (int i = 0; i < 200; ++i) idle.push_back(std::make_unique<Conversation>(reactor));
    settle(reactor);
    const auto turns = reactor.counters().turns;
    CHECK_FALSE(reactor.next_timeout());
    reactor.run_for(std::chrono::milliseconds(50));
    CHECK(reactor.counters().turns - turns <= 2);
}

TEST_CASE("S22: what a short read leaves in the kernel, or received() in the rest, is told without new input") {
    Reactor reactor;
    ConnectionOptions options;
    options.limits.read_size = 3;
    Conversation talk(reactor, options);
    std::string got;
    talk.journal.on_received = [&](Bytes input) -> std::size_t {
        const std::size_t taken = std::min<std::size_t>(2, input.size());
        got += text_of(input.first(taken));
        if (taken < input.size()) {  // has enough for now, until other code says so
            talk.journal.transport->pause_reading();
            reactor.post([&] { talk.journal.transport->resume_reading(); });
        }
        return taken;
    };
    const std::string all = random_bytes(500, 22);
    REQUIRE(write_some(talk.peer, all) == all.size());
    run_until(reactor, [&] { return got.size() >= all.size(); });
    CHECK(got == all);
}

TEST_CASE("S42: writing to a peer that is gone raises no SIGPIPE, in any way of writing, and tells the reason") {
    static int signals;
    signals = 0;
    struct sigaction counting {
    }, before{};
    counting.sa_handler = [](int) { ++signals; };
    REQUIRE(::sigaction(SIGPIPE, &counting, &before) == 0);
    const std::string small(10, 'x'), large(100'000, 'x');
    for (const bool over_tcp : {false, true}) {
        for (const std::string way : {"small", "small in a callback", "large", "large in a callback", "queued"}) {
            CAPTURE(over_tcp);
            CAPTURE(way);
            Reactor reactor;
            Conversation talk(reactor, over_tcp ? tcp_pair() : Socket::pair(), {});
            const std::string& text = way.starts_with("small") ? small : large;
            settle(reactor);
            REQUIRE(talk.journal.transport != nullptr);
            talk.journal.on_end = [] {};  // goes on writing
            if (way == "queued") {
                while (talk.journal.transport->queued() == 0) talk.journal.transport->write(large);
            }
            if (over_tcp) reset_by_peer(talk.peer);
            talk.peer.close();
            for (int i = 0; i < 10 && !talk.journal.over; ++i) {
                if (way.ends_with("callback")) {
                    talk.journal.on_end = [&] { talk.journal.transport->write(text); };
                } else {
                    talk.journal.transport->write(text);
                }
                settle(reactor);
                if (!talk.journal.over && way.ends_with("callback")) talk.journal.transport->write(text);
            }
            CHECK(talk.journal.over);
            CHECK(
                (talk.journal.reason == std::errc::broken_pipe || talk.journal.reason == std::errc::connection_reset));
        }
    }
    CHECK(signals == 0);
    ::sigaction(SIGPIPE, &before, nullptr);
}

TEST_CASE("S103: a peer gets the end of an aborted connection although a child of fork holds the socket") {
    for (const bool tcp : {true, false}) {
        CAPTURE(tcp);
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        FileDescriptor lives(ends[0]), child_lives(ends[1]);
        Reactor reactor;
        auto pair = tcp ? tcp_pair() : Socket::pair();
        Conversation talk(reactor, std::move(pair), {});
        settle(reactor);
        const pid_t child = ::fork();
        if (child == 0) {  // holds all that is open here until it is asked to end
            char byte;
            child_lives.reset();
            ::_exit(::read(lives.get(), &byte, 1) < 0 ? 1 : 0);
        }
        talk.journal.transport->abort();
        run_until(reactor, [&] { return talk.journal.over; });
        settle(reactor);
        bool ended = false;
        read_all(talk.peer, &ended);
        const int reason = errno;
        CHECK(ended);
        if (tcp) CHECK(reason == ECONNRESET);
        child_lives.reset();
        CHECK(::waitpid(child, nullptr, 0) == child);
    }
}

TEST_CASE("S103: a protocol that is told of its abort may still ask who the peer was") {
    struct Asks final : Protocol {
        explicit Asks(Address& where) : peer(where) {}
        void connected() override { transport().abort(); }
        std::size_t received(Bytes input) override { return input.size(); }
        void disconnected(std::error_code) override { peer = transport().peer(); }
        Address& peer;
    };
    Reactor reactor;
    auto [client, server] = tcp_pair();
    Address peer;
    Connection::open(reactor, std::move(server), std::make_unique<Asks>(peer));
    settle(reactor);
    CHECK(peer == client.local());
}

TEST_CASE("S47: aborted while a shutdown or a close waits for its queue: a reset at once, told once") {
    for (const bool closing : {false, true}) {
        CAPTURE(closing);
        Reactor reactor;
        ConnectionOptions options;
        options.prepare = send_buffer(4096);
        Conversation talk(reactor, options, 4096);
        settle(reactor);
        Transport& transport = *talk.journal.transport;
        transport.write(std::string(1'000'000, 'x'));
        REQUIRE(transport.queued() > 0);
        if (closing) {
            transport.close();
        } else {
            transport.shutdown_write();
        }
        settle(reactor);
        CHECK_FALSE(talk.journal.over);
        transport.abort();
        CHECK_FALSE(talk.journal.over);
        run_until(reactor, [&] { return talk.journal.over; });
        settle(reactor);
        CHECK(talk.journal.count("disconnected") == 1);
        CHECK(talk.journal.reason == std::errc::operation_canceled);
        bool ended = false;
        const std::string got = read_all(talk.peer, &ended);
        const int reason = errno;
        CHECK(ended);
        CHECK(got.size() < 1'000'000);
        CHECK(reason == ECONNRESET);
    }
}

TEST_CASE("S51: a protocol's own timer ends a peer that sends a byte at a time, which an idle timeout would not") {
    struct Impatient final : Protocol {  // wants a whole line within ten seconds
        Impatient(Reactor& the_reactor, std::error_code& the_end)
            : end(the_end),
              timer(the_reactor, [this] { transport().abort(std::make_error_code(std::errc::timed_out)); }) {}
        void connected() override { timer.start(std::chrono::seconds(10)); }
        std::size_t received(Bytes input) override {
            if (text_of(input).find('\n') == std::string_view::npos) return 0;
            timer.start(std::chrono::seconds(10));
            return input.size();
        }
        void disconnected(std::error_code reason) override {
            timer.cancel();
            end = reason;
        }
        std::error_code& end;
        Timer timer;
    };
    TimedLoop loop;
    ConnectionOptions options;
    options.limits.idle_timeout = std::chrono::seconds(2);
    auto [peer, own] = tcp_pair();
    std::error_code end;
    Connection::open(loop.reactor, std::move(own), std::make_unique<Impatient>(loop.reactor, end), options);
    loop.settle();
    int seconds = 0;
    while (!end && seconds < 20) {
        write_some(peer, "x");
        loop.settle();
        loop.pass(std::chrono::seconds(1));
        ++seconds;
    }
    CHECK(end == std::errc::timed_out);
    CHECK(seconds == 10);
}

TEST_CASE("S43: a hundred thousand chained writes and reads need no stack") {
    Reactor reactor;
    auto [left, right] = Socket::pair();
    Journal one, two;
    int exchanged = 0;
    const auto answer = [&](Journal& journal) {
        return [&](Bytes input) {
            if (++exchanged < 100'000) journal.transport->write(input);
            return input.size();
        };
    };
    one.on_received = answer(one);
    two.on_received = answer(two);
    one.on_connected = [&] { one.transport->write("ball"); };
    Connection::open(reactor, std::move(left), std::make_unique<Recorder>(one));
    Connection::open(reactor, std::move(right), std::make_unique<Recorder>(two));
    run_until(reactor, [&] { return exchanged >= 100'000; });
}

TEST_CASE("S49: an endless sender starves neither other connections nor timers") {
    Reactor reactor;
    Conversation endless(reactor), other(reactor);
    std::size_t endless_calls = 0;
    endless.journal.on_received = [&](Bytes input) {
        ++endless_calls;
        CHECK(input.size() <= 256 * 1024);
        while (write_some(endless.peer, std::string(64 * 1024, 'x')) > 0) {
        }
        return input.size();
    };
    bool fired = false;
    Timer timer(reactor, [&] { fired = true; });
    run_until(reactor, [&] { return endless.journal.transport != nullptr; });
    write_some(endless.peer, "x");
    write_some(other.peer, "hello");
    timer.start(Duration::zero());
    for (int turn = 0; turn < 5; ++turn) reactor.run_once(Duration::zero());
    CHECK(fired);
    CHECK(other.journal.input == "hello");
    CHECK(endless_calls >= 4);
}

TEST_CASE("S52: after a burst of 64 MB through the output queue its memory goes back") {
    ByteQueue queue;
    const std::string piece(1 << 20, 'x');
    for (int i = 0; i < 64; ++i) queue.append(bytes_of(piece));
    CHECK(queue.prepare(0).size() + queue.size() >= 64u << 20);
    queue.consume((64 << 20) - 10);
    for (int i = 0; i < 100; ++i) {  // never empty, but small: the next time it must move it shrinks
        queue.append(bytes_of(piece));
        queue.consume(piece.size());
    }
    CHECK(queue.prepare(0).size() + queue.size() <= 4u << 20);
    queue.consume(queue.size());
    CHECK(queue.prepare(0).empty());
}

TEST_CASE("An echo costs no interest change and no wait that finds nothing") {
    Reactor reactor;
    auto ends = tcp_pair();
    Socket& client = ends.first;
    Socket& server = ends.second;
    Connection::open(reactor, std::move(server), std::make_unique<Echo>());
    settle(reactor);
    const Counters before = reactor.counters();
    for (int i = 0; i < 100; ++i) {
        write_some(client, "message");
        run_until(reactor, [&, got = std::string()]() mutable { return (got += read_all(client)) == "message"; });
    }
    CHECK(reactor.counters().changes == before.changes);
    CHECK(reactor.counters().events - before.events == 100);
    CHECK(reactor.counters().turns - before.turns == 100);
}

TEST_CASE("Addresses can be asked for until the end has been told") {
    Reactor reactor;
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    Transport& transport = *talk.journal.transport;
    CHECK(transport.peer() == talk.peer.local());
    CHECK(transport.local() == talk.peer.peer());

    Address at_the_end;
    talk.journal.on_disconnected = [&] { at_the_end = transport.peer(); };
    transport.abort();
    settle(reactor);
    CHECK(at_the_end == talk.peer.local());
}

TEST_CASE("S40: a client that has ten megabytes to say to an echo gets them all back: nobody waits for ever") {
    Reactor reactor;
    auto ends = Socket::pair();
    Journal journal;
    const std::string much = random_bytes(10'000'000, 40);
    journal.on_connected = [&] { CHECK(journal.transport->write(much)); };
    Connection::open(reactor, std::move(ends.first), std::make_unique<Recorder>(journal));
    Connection::open(reactor, std::move(ends.second), std::make_unique<Echo>());
    run_until(reactor, [&] { return journal.input.size() == much.size(); });
    CHECK(journal.input == much);
}

TEST_CASE(
    "writes of one call that pass the high watermark are followed by both calls, although the kernel takes all at "
    "once") {
    struct Producer final : Protocol {
        explicit Producer(std::string& calls) : log(calls) {}
        void connected() override { produce(); }
        std::size_t received(Bytes input) override {
            produce();
            return input.size();
        }
        void pause_writing() override { log += "pause "; }
        void resume_writing() override { log += "resume "; }
        void produce() {  // as the contract of pause_writing says: until queued() passes the watermark
            while (transport().queued() <= transport().limits().high_mark) transport().write(std::string(300, 'x'));
            log += "full ";
        }
        std::string& log;
    };
    Reactor reactor;
    auto [client, server] = tcp_pair();
    std::string log;
    ConnectionOptions options;
    options.limits.high_mark = 1000;
    Connection::open(reactor, std::move(server), std::make_unique<Producer>(log), options);
    run_until(reactor, [&] { return log == "full pause resume "; });
    write_some(client, "again");
    run_until(reactor, [&] { return log == "full pause resume full pause resume "; });
}
