// The engine of completions over a queue that uses every freedom that the kernel has. A connection is here as it is on
// every backend, whatever the order and the sizes of its completions.
#include "../support/c_library.hpp"
#include "../support/loop.hpp"

#include <reactor/testing/scripted_completions.hpp>

#include <doctest/doctest.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

using namespace reactor;
using testing::ScriptedCompletions;

namespace {

bool epoll_has_room = true;

}  // namespace

// In front of the C library's.
extern "C" int epoll_ctl(int set, int operation, int descriptor, epoll_event* event) noexcept(in_glibc) {
    if (epoll_has_room || operation != EPOLL_CTL_ADD)
        return int(::syscall(SYS_epoll_ctl, set, operation, descriptor, event));
    errno = ENOSPC;
    return -1;
}

namespace {

using Odds = ScriptedCompletions::Odds;

constexpr Odds never{0, 0, 0, 0, 0, 0, 0, 0, 0};

// A loop over a script, and the script.
struct Scripted {
    explicit Scripted(unsigned seed, Odds odds = Odds())
        : Scripted(std::make_unique<ScriptedCompletions>(seed, odds)) {}
    explicit Scripted(std::unique_ptr<ScriptedCompletions> made)
        : script(*made), reactor(testing::io_uring(std::move(made))) {}
    ScriptedCompletions& script;
    Reactor reactor;
};

// A script whose waits fail when the test says so, and which never sleeps: where the kernel would, it says so.
struct Failing final : CompletionQueue {
    explicit Failing(unsigned seed, Odds odds = Odds()) : queue(seed, odds) {}
    Place receive(int descriptor, std::uint64_t data) override { return queue.receive(descriptor, data); }
    Place accept(int descriptor, std::uint64_t data) override { return queue.accept(descriptor, data); }
    Place send(int descriptor, Bytes bytes, std::uint64_t data) override { return queue.send(descriptor, bytes, data); }
    Place poll(int descriptor, Interest interest, std::uint64_t data) override {
        return queue.poll(descriptor, interest, data);
    }
    void cancel(std::uint64_t data) override { queue.cancel(data); }
    bool handed_over(Place place) const noexcept override { return queue.handed_over(place); }
    void withdraw(Place place) noexcept override { queue.withdraw(place); }
    std::size_t waiting() const noexcept override { return queue.waiting(); }
    std::span<const Completion> wait(std::optional<Duration> limit) override {
        ++waits;
        if (fails) throw std::system_error(std::make_error_code(std::errc::not_enough_memory), "wait");
        std::span<const Completion> completions = queue.wait(Duration::zero());
        if (limit == Duration::zero()) return completions;
        // The script is slow on purpose: what it does not find so often is not there.
        for (int look = 0; look < 60 && completions.empty(); ++look) completions = queue.wait(Duration::zero());
        sleeps = completions.empty();
        return completions;
    }
    void give(std::uint16_t buffer, std::span<std::byte> memory) noexcept override { queue.give(buffer, memory); }

    ScriptedCompletions queue;
    std::size_t waits = 0;
    bool fails = false;
    bool sleeps = false;  // the last wait that might
};

void echo(Journal& journal) {
    journal.on_received = [&journal](Bytes input) {
        journal.input += text_of(input);
        journal.transport->write(input);
        return input.size();
    };
}

std::pair<Socket, Socket> ends_of(bool tcp) {
    return tcp ? tcp_pair() : Socket::pair();
}

}  // namespace

TEST_CASE("Whatever completes in whatever order and pieces, an echo comes back exactly, and the end behind it") {
    Odds met = never;
    for (unsigned seed = 0; seed < 200; ++seed) {
        CAPTURE(seed);
        Scripted loop(seed);
        std::mt19937 random(seed);
        Conversation talk(loop.reactor, ends_of(seed % 2 == 0), {});
        echo(talk.journal);
        const std::string text = random_bytes(1 + random() % (seed % 8 == 0 ? 300'000 : 20'000), seed);
        std::size_t written = 0;
        std::string answer;
        bool shut = false, ended = false;
        const auto ends = [&] {
            const std::string_view rest = std::string_view(text).substr(written);
            if (!rest.empty() && random() % 2 == 0) {
                const std::size_t most = random() % 4 == 0 ? 50'000 : 300;
                written += write_some(talk.peer, rest.substr(0, 1 + random() % most));
            }
            if (written == text.size() && !std::exchange(shut, true)) (void)talk.peer.shutdown_write();
            answer += read_all(talk.peer, &ended);
            return ended;
        };
        for (int turn = 0; !ends(); ++turn) {
            REQUIRE(turn < 100'000);
            // Mostly there is more to be written, and a sleep would only take time.
            loop.reactor.run_once(random() % 8 > 0 ? Duration::zero() : std::chrono::milliseconds(1));
        }
        CHECK(answer == text);
        run_until(loop.reactor, [&] { return talk.journal.over; });
        CHECK_FALSE(talk.journal.reason);
        for (const auto what : {&Odds::no_buffer, &Odds::ends, &Odds::unsent, &Odds::sent_less, &Odds::too_late,
                                &Odds::overlooked, &Odds::interrupted, &Odds::worked_on})
            met.*what += loop.script.happened().*what;
    }
    for (const auto what : {&Odds::no_buffer, &Odds::ends, &Odds::unsent, &Odds::sent_less, &Odds::too_late,
                            &Odds::overlooked, &Odds::interrupted, &Odds::worked_on})
        CHECK(met.*what > 0);
}

TEST_CASE("A connection that pauses is given nothing, and afterwards all of it in order") {
    for (unsigned seed = 0; seed < 50; ++seed) {
        CAPTURE(seed);
        Scripted loop(seed);
        Conversation talk(loop.reactor, ends_of(seed % 2 == 0), {});
        bool paused = false;
        talk.journal.on_received = [&](Bytes input) {
            CHECK_FALSE(paused);
            talk.journal.input += text_of(input);
            talk.journal.transport->pause_reading();
            paused = true;
            return input.size();
        };
        const std::string text = random_bytes(20'000, seed);
        std::size_t written = 0;
        run_until(loop.reactor, [&] {
            written += write_some(talk.peer, std::string_view(text).substr(written, 700));
            if (paused && talk.journal.transport != nullptr) {
                for (int turn = 0; turn < 3; ++turn) loop.reactor.run_once(Duration::zero());
                paused = false;
                talk.journal.transport->resume_reading();
            }
            return talk.journal.input.size() == text.size();
        });
        CHECK(talk.journal.input == text);
    }
}

TEST_CASE("A wait never sleeps while a connection that reads has input, an end or an error to come") {
    for (unsigned seed = 0; seed < 600; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        auto made = std::make_unique<Failing>(seed);
        Failing& queue = *made;
        Reactor reactor(testing::io_uring(std::move(made)));
        ConnectionOptions options;
        if (random() % 2 == 0) options.limits.read_size = 1 + random() % 700;
        const bool tcp = seed % 2 == 0;
        Conversation talk(reactor, ends_of(tcp), options);
        const std::string text = random_bytes(1 + random() % 6'000, seed);
        bool paused = false;
        talk.journal.on_received = [&](Bytes input) {
            const bool last = talk.journal.input.size() + input.size() == text.size();
            const std::size_t consumed = !last && random() % 4 == 0 ? random() % (input.size() + 1) : input.size();
            talk.journal.input += text_of(input.first(consumed));
            if (random() % 3 == 0) {
                talk.journal.transport->pause_reading();
                paused = true;
            }
            return consumed;
        };
        std::size_t written = 0;
        const bool resets = tcp && random() % 4 == 0;
        bool gone = false;
        for (int turn = 0; turn < 20'000 && !talk.journal.over; ++turn) {
            if (paused && random() % 2 == 0) {
                paused = false;
                talk.journal.transport->resume_reading();
            }
            if (written < text.size() && random() % 2 == 0)
                written += write_some(talk.peer, std::string_view(text).substr(written, 1 + random() % 3'000));
            if (written == text.size() && !std::exchange(gone, true)) {
                if (resets) talk.peer.set_linger(std::chrono::seconds(0));
                if (resets || random() % 2 == 0)
                    talk.peer.close();
                else
                    (void)talk.peer.shutdown_write();
            }
            const bool owes = gone && !paused;
            queue.sleeps = false;
            reactor.run_once();
            if (owes) REQUIRE_FALSE(queue.sleeps);
        }
        CHECK(talk.journal.over);
        CHECK((resets || talk.journal.input == text));
        CHECK(talk.journal.count("end") == std::size_t(!resets));
    }
}

TEST_CASE("An end that a connection could not be given, as others paused and resumed it meanwhile, comes again") {
    for (unsigned seed = 0; seed < 300; ++seed) {
        CAPTURE(seed);
        auto made = std::make_unique<Failing>(seed, never);
        Failing& queue = *made;
        Reactor reactor(testing::io_uring(std::move(made)));
        Conversation first(reactor), second(reactor), third(reactor);
        for (int turn = 0; turn < 1'000 && !queue.sleeps; ++turn) reactor.run_once();
        REQUIRE(queue.sleeps);
        queue.sleeps = false;
        bool paused = false;
        first.journal.on_received = [&](Bytes input) {
            if (!second.journal.over) second.journal.transport->pause_reading();
            paused = true;
            return input.size();
        };
        third.journal.on_received = [&](Bytes input) {
            if (!second.journal.over) second.journal.transport->resume_reading();
            paused = false;
            return input.size();
        };
        write_some(first.peer, "pause");
        (void)second.peer.shutdown_write();
        write_some(third.peer, "resume");
        for (int turn = 0; turn < 1'000 && !queue.sleeps; ++turn) reactor.run_once();
        CHECK((paused || second.journal.count("end") == 1));
    }
}

TEST_CASE("That a connection cannot be watched is told at once, and no wait sleeps before") {
    auto made = std::make_unique<Failing>(1, never);
    Failing& queue = *made;
    Reactor reactor(testing::io_uring(std::move(made)));
    ConnectionOptions options;
    options.limits.high_mark = options.limits.output_limit = 100'000'000;  // a pause would be a reason not to sleep
    Conversation talk(reactor, options);
    for (int turn = 0; turn < 1'000 && !queue.sleeps; ++turn) reactor.run_once();
    REQUIRE(queue.sleeps);
    queue.sleeps = false;
    talk.journal.transport->write(std::string(10'000'000, 'x'));
    epoll_has_room = false;
    for (int turn = 0; turn < 1'000 && !queue.sleeps && !talk.journal.over; ++turn) reactor.run_once();
    epoll_has_room = true;
    CHECK(talk.journal.over);
    CHECK(talk.journal.reason);
    CHECK_FALSE(queue.sleeps);
}

TEST_CASE("What came before a reset is received, and then the reset, although a receive tells of the former alone") {
    Odds odds = never;
    odds.overlooked = 1;
    for (unsigned seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        Scripted loop(seed, odds);
        Conversation talk(loop.reactor);
        run_until(loop.reactor, [&] { return talk.journal.transport != nullptr; });
        write_some(talk.peer, "last words");
        talk.peer.set_linger(std::chrono::seconds(0));
        talk.peer.close();
        run_until(loop.reactor, [&] { return talk.journal.over; });
        CHECK(talk.journal.input == "last words");
        CHECK(talk.journal.reason == std::errc::connection_reset);
    }
}

TEST_CASE("On a Unix socket the end comes behind the last bytes, although a receive tells of these alone") {
    Odds odds = never;
    odds.overlooked = 1;
    Scripted loop(1, odds);
    Conversation talk(loop.reactor, Socket::pair(), {});
    run_until(loop.reactor, [&] { return talk.journal.transport != nullptr; });
    write_some(talk.peer, "last words");
    talk.peer.close();
    run_until(loop.reactor, [&] { return talk.journal.over; });
    CHECK(talk.journal.input == "last words");
    CHECK(talk.journal.count("end") == 1);
}

TEST_CASE("Input that has come already goes along to another loop, in front of what comes there") {
    for (unsigned seed = 0; seed < 60; ++seed) {
        CAPTURE(seed);
        Scripted here(seed), there(seed + 1000);
        Reactor* const loops[] = {&here.reactor, &there.reactor};
        Conversation talk(here.reactor, ends_of(seed % 2 == 0), {});
        const std::string text = random_bytes(30'000, seed);
        std::size_t written = 0, at = 0;
        std::mt19937 random(seed);
        const auto turn = [&] {
            for (Reactor* loop : loops) loop->run_once(Duration::zero());
        };
        while (talk.journal.transport == nullptr) turn();
        for (int i = 0; i < 20'000 && talk.journal.input.size() < text.size(); ++i) {
            written += write_some(talk.peer, std::string_view(text).substr(written, 1 + random() % 3'000));
            if (random() % 5 == 0 && talk.journal.transport != nullptr &&
                &talk.journal.transport->reactor() == loops[at]) {
                at = 1 - at;
                talk.journal.transport->move_to(*loops[at]);
                for (int turns = 0; turns < 4; ++turns) turn();
            }
            turn();
        }
        CHECK(talk.journal.input == text);
        CHECK_FALSE(talk.journal.over);
    }
}

TEST_CASE("What a callback wrote arrives in front of the end that it asked for, however little a send takes") {
    const auto end = [](Transport& transport, unsigned how) {
        if (how == 0) transport.close();
        if (how == 1) transport.shutdown_write();
        if (how == 2) transport.write(std::string(100'000, 'z'));
    };
    for (const unsigned none_of : {1u, 2u}) {
        for (unsigned how = 0; how < 3; ++how) {
            for (const bool later : {false, true}) {  // in a callback of its own, behind the one that wrote
                CAPTURE(how);
                CAPTURE(later);
                Odds odds = never;
                (none_of == 1 ? odds.unsent : odds.sent_less) = 1;
                Scripted loop(how, odds);
                Conversation talk(loop.reactor);
                talk.journal.on_received = [&](Bytes input) {
                    talk.journal.transport->write(input);
                    if (later) loop.reactor.post([&] { end(*talk.journal.transport, how); });
                    if (!later) end(*talk.journal.transport, how);
                    return input.size();
                };
                write_some(talk.peer, "answer me");
                const std::size_t expected = how == 2 ? 100'009 : 9;
                std::string answer;
                bool ended = false;
                run_until(loop.reactor, [&] {
                    answer += read_all(talk.peer, &ended);
                    return how == 2 ? answer.size() >= expected : ended;
                });
                CHECK(answer.size() == expected);
                CHECK(answer.substr(0, 9) == "answer me");
            }
        }
    }
}

TEST_CASE("What was written before an abort is sent before it, as on every backend") {
    Scripted loop(1, never);
    Conversation talk(loop.reactor);
    talk.journal.on_received = [&](Bytes input) {
        talk.journal.transport->write(input);
        loop.reactor.post([&] { talk.journal.transport->abort(); });
        return input.size();
    };
    write_some(talk.peer, "answer me");
    run_until(loop.reactor, [&] { return talk.journal.over; });
    CHECK(read_all(talk.peer) == "answer me");
    CHECK(loop.reactor.counters().bytes_sent == 9);
}

TEST_CASE("Nothing is under way for a connection that has ended, and its number may be another one's at once") {
    for (unsigned seed = 0; seed < 40; ++seed) {
        CAPTURE(seed);
        Scripted loop(seed);
        std::string others;
        {
            Conversation talk(loop.reactor, ends_of(seed % 2 == 0), {});
            run_until(loop.reactor, [&] { return talk.journal.transport != nullptr; });
            settle(loop.reactor, 5);
            write_some(talk.peer, "late");
            talk.journal.transport->abort();
            run_until(loop.reactor, [&] { return talk.journal.over; });
            others = talk.journal.input;
        }
        CHECK(loop.script.under_way() <= 1);  // the watch on what is watched by readiness
        Conversation next(loop.reactor, ends_of(seed % 2 == 0), {});
        write_some(next.peer, "mine");
        run_until(loop.reactor, [&] { return next.journal.input.size() >= 4; });
        CHECK(next.journal.input == "mine");
    }
}

TEST_CASE("The requests of all connections that are aborted in an iteration are cancelled together") {
    auto made = std::make_unique<Failing>(1, never);
    Failing& queue = *made;
    Reactor reactor(testing::io_uring(std::move(made)));
    std::deque<Conversation> talks;
    while (talks.size() < 20) talks.emplace_back(reactor);
    for (int turn = 0; turn < 1'000 && !queue.sleeps; ++turn) reactor.run_once();
    REQUIRE(queue.sleeps);
    for (Conversation& talk : talks) talk.journal.transport->abort();
    queue.waits = 0;
    reactor.run_once(Duration::zero());
    for (const Conversation& talk : talks) CHECK(talk.journal.over);
    CHECK(queue.waits <= 3);  // the iteration's own, that of the cancellations, and one that hands over at its end
    CHECK(queue.queue.under_way() <= 1);
}

TEST_CASE("A loop that is destroyed while collected answers could not be handed over tells no connection of them") {
    Odds odds = never;
    odds.unsent = 1;
    for (unsigned seed = 0; seed < 100; ++seed) {
        CAPTURE(seed);
        auto made = std::make_unique<Failing>(seed, odds);
        Failing& queue = *made;
        auto reactor = std::make_unique<Reactor>(testing::io_uring(std::move(made)));
        Conversation talks[] = {Conversation(*reactor), Conversation(*reactor)};
        std::size_t answers = 0;
        for (Conversation& talk : talks) {
            talk.journal.on_received = [&](Bytes input) {
                talk.journal.transport->write(input);
                queue.fails = true;  // until the loop has returned, which hands over
                ++answers;
                return input.size();
            };
            run_until(*reactor, [&] { return talk.journal.transport != nullptr; });
            write_some(talk.peer, "answer me");
        }
        (void)talks[0].peer.shutdown_write();  // so that nothing of it is under way when it is destroyed
        for (int turn = 0; turn < 1'000 && answers == 0; ++turn) reactor->run_once(Duration::zero());
        REQUIRE(answers > 0);
        queue.fails = false;
        reactor.reset();
        for (const Conversation& talk : talks) CHECK_FALSE(talk.journal.over);
    }
}
