// Producers that write until more than the high watermark waits, and go on when they are called: on every backend each
// comes to its end, however small the watermark is and wherever it writes.
#include "../support/loop.hpp"

#include <doctest/doctest.h>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

using namespace reactor;

namespace {

constexpr std::size_t all_of_it = 40'000;
constexpr std::size_t high_marks[] = {0, 1, 10, 1000, 1500, 3000, 4000, 4096, 5000};
constexpr std::size_t pieces[] = {1, 20, 2000, 4096, 5000};

ConnectionOptions with_high_mark(std::size_t high_mark) {
    ConnectionOptions options;
    options.limits.high_mark = high_mark;
    return options;
}

// Plays with every high watermark and size of piece, begun in a callback and outside.
template <class Play>
void each_way(Play&& play) {
    for (const std::size_t high_mark : high_marks) {
        for (const std::size_t piece : pieces) {
            for (const bool from_outside : {false, true}) {
                CAPTURE(high_mark);
                CAPTURE(piece);
                CAPTURE(from_outside);
                play(high_mark, piece, from_outside);
            }
        }
    }
}

// Reads at the other end until all has come. False if the loop comes to rest before.
bool all_comes(Reactor& reactor, const Socket& peer) {
    std::size_t got = 0;
    for (int turns_at_rest = 0; turns_at_rest < 50 && got < all_of_it; ++turns_at_rest) {
        reactor.run_once(std::chrono::milliseconds(20));
        const std::size_t count = read_all(peer).size();
        got += count;
        if (count > 0) turns_at_rest = 0;
    }
    return got == all_of_it;
}

Task<> produce_in_pieces(Stream stream, std::size_t piece, bool from_outside) {
    for (std::size_t left = all_of_it; left > 0;) {
        if (from_outside) co_await yield();
        const std::size_t size = std::min(piece, left);
        left -= size;
        if (!co_await stream.write(std::string(size, 'x'))) co_return;
    }
}

Task<> echo_all(Stream stream) {
    while (const auto input = co_await stream.read_some()) co_await stream.write(*input);
}

}  // namespace

TEST_CASE("a producer that writes until the high watermark is passed is called again, wherever it began") {
    each_way([](std::size_t high_mark, std::size_t piece, bool from_outside) {
        Reactor reactor;
        Conversation talk(reactor, with_high_mark(high_mark));
        std::size_t left = all_of_it;
        const auto produce = [&] {
            while (left > 0 && talk.journal.transport->queued() <= high_mark) {
                const std::size_t size = std::min(piece, left);
                left -= size;
                talk.journal.transport->write(std::string(size, 'x'));
            }
        };
        talk.journal.on_resume = produce;
        talk.journal.on_connected = [&] {
            if (from_outside) return void(reactor.post(produce));
            produce();
        };
        CHECK(all_comes(reactor, talk.peer));
    });
}

TEST_CASE("a coroutine whose writes pass the high watermark goes on") {
    each_way([](std::size_t high_mark, std::size_t piece, bool from_outside) {
        Reactor reactor;
        auto [peer, socket] = tcp_pair();
        Connection::open(reactor, std::move(socket), coroutine(produce_in_pieces, piece, from_outside)(),
                         with_high_mark(high_mark));
        CHECK(all_comes(reactor, peer));
    });
}

TEST_CASE("a coroutine that echoes more than the high watermark goes on") {
    for (const std::size_t high_mark : high_marks) {
        CAPTURE(high_mark);
        Reactor reactor;
        auto [peer, socket] = tcp_pair();
        Connection::open(reactor, std::move(socket), coroutine(echo_all)(), with_high_mark(high_mark));
        write_some(peer, std::string(all_of_it, 'x'));
        CHECK(all_comes(reactor, peer));
    }
}
