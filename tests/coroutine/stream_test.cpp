// Stream: a connection's coroutine, in memory: reads, writes and their backpressure, and each way in which it ends.
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <protocols/framing/delimited.hpp>
#include <protocols/framing/length_prefixed.hpp>
#include <protocols/framing/until_close.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace reactor;
using testing::MemoryTransport;

namespace {

using Notes = std::vector<std::string>;

std::string text(Result<Bytes> result) {
    return result ? std::string(text_of(*result)) : "(" + result.error().message() + ")";
}

// A protocol of this coroutine.
template <class... Given>
std::unique_ptr<Protocol> serving(Given... given) {
    return coroutine(given...)();
}

Task<> echo_lines(Stream stream) {
    while (auto line = co_await stream.read<Lines>()) co_await stream.write(*line, "\n");
}

Task<> echo_bytes(Stream stream) {
    while (auto bytes = co_await stream.read_some()) co_await stream.write(*bytes);
}

Task<> note_lines(Stream stream, Notes& notes) {
    const Noting end(notes, "destroyed");
    for (;;) {
        const auto line = co_await stream.read<Lines>();
        notes.push_back(text(line));
        if (!line) co_return;
    }
}

Task<> note_lines_and_stay(Stream stream, Notes& notes, Never& never) {
    const Noting end(notes, "destroyed");
    while (auto line = co_await stream.read<Lines>()) notes.push_back(text(line));
    notes.push_back("over: " + stream.error().message());
    notes.push_back(text(co_await stream.read_some()));
    notes.push_back(co_await stream.write("late") ? "written" : "refused");
    co_await never.wait();
}

}  // namespace

TEST_CASE("a coroutine answers line by line, however they come") {
    MemoryTransport connection(serving(echo_lines));
    connection.feed("on");
    CHECK(connection.take().empty());
    connection.feed("e\ntwo\r\nth");
    CHECK(connection.take() == "one\ntwo\n");
    connection.feed("ree\n");
    CHECK(connection.take() == "three\n");
    connection.end();
    CHECK(connection.ended());
    CHECK(connection.disconnected() == std::error_code());
}

TEST_CASE("a coroutine passes the check of every cut") {
    testing::check_every_cut_of_protocol("one\ntwo\r\n\nfour\nfi", [] { return serving(echo_lines); });
    testing::check_every_cut_of_protocol("some bytes", [] { return serving(echo_bytes); });
}

static Task<> each_kind(Stream stream, Notes& notes) {
    notes.push_back(text(co_await stream.read_exactly(3)));
    notes.push_back(text(co_await stream.read_exactly(0)));
    notes.push_back(text(co_await stream.read<Lines>()));
    Delimited delimited("--");
    notes.push_back(text(co_await stream.read(delimited)));
    notes.push_back(text(co_await stream.read(Delimited("a delimiter that is longer than a small string"))));
    notes.push_back(text(co_await stream.read<LengthPrefixed>()));
    notes.push_back(text(co_await stream.read_until_end()));
    notes.push_back(text(co_await stream.read_some()));
    notes.push_back(text(co_await stream.read<UntilClose>()));
    co_await stream.write("done");
}

TEST_CASE("each kind of read takes its own part of the input, at every cut") {
    const std::string input =
        "abcline\nx-y--za delimiter that is longer than a small string" + std::string("\0\0\0\2hi", 6) + "the rest";
    const auto run = [](std::span<const Bytes> pieces) {
        Notes notes;
        MemoryTransport connection(serving(each_kind, std::ref(notes)));
        for (const Bytes piece : pieces) connection.feed(piece);
        connection.end();
        notes.push_back(connection.take());
        return notes;
    };
    testing::check_every_cut(input, run, 500);
    const std::vector<Bytes> whole{bytes_of(input)};
    CHECK(run(whole) ==
          Notes{"abc", "", "line", "x-y", "z", "hi", "the rest", "(the peer has ended its stream)", "", "done"});
}

static Task<> note_exactly(Stream stream, std::size_t size, Notes& notes) {
    notes.push_back(text(co_await stream.read_exactly(size)));
}

static Task<> note_until_end(Stream stream, std::size_t most, Notes& notes) {
    notes.push_back(text(co_await stream.read_until_end(most)));
}

TEST_CASE("the errors of reads are values") {
    Notes notes;
    {
        MemoryTransport connection(serving(note_lines, std::ref(notes)));
        connection.feed("half");
        connection.end();
    }
    CHECK(notes == Notes{"(the stream ended inside a message)", "destroyed"});
    notes.clear();
    {
        MemoryTransport connection(serving(note_exactly, std::size_t(4), std::ref(notes)));
        connection.feed("abc");
        connection.end();
    }
    {
        MemoryTransport connection(serving(note_until_end, std::size_t(4), std::ref(notes)));
        connection.feed("abcde");
    }
    CHECK(notes == Notes{"(the stream ended inside a message)", "(message longer than allowed)"});
}

TEST_CASE("a broken connection gives its reason to the read that waits, and the rest is destroyed") {
    Notes notes;
    Never never;
    const std::size_t frames = coroutine_frames().alive();
    {
        MemoryTransport connection(serving(note_lines_and_stay, std::ref(notes), std::ref(never)));
        connection.feed("one\n");
        connection.reset();
        CHECK(connection.disconnected() == std::errc::connection_reset);
    }
    const std::string reason = std::make_error_code(std::errc::connection_reset).message();
    CHECK(notes == Notes{"one", "over: " + reason, "(" + reason + ")", "refused", "destroyed"});
    CHECK(never.waiting == 0);
    CHECK(coroutine_frames().alive() == frames);
}

static Task<> wait_between(Stream stream, Notes& notes, Scope*& scope, Reactor*& loop) {
    loop = &stream.reactor();
    Scope mine(*loop);
    scope = &mine;
    struct Waiting {
        static Task<> until_stopped() { co_await stopping(); }
    };
    for (int i = 0; i < 2; ++i) {
        notes.push_back(text(co_await stream.read<Lines>()));
        mine.start(Waiting::until_stopped());
        co_await mine.join();
    }
    notes.push_back(text(co_await stream.read<Lines>()));
    notes.push_back(text(co_await stream.read<Lines>()));
}

TEST_CASE("input that no read waits for is left to wait, and none of it is lost, nor the end behind it") {
    Notes notes;
    Scope* scope = nullptr;
    Reactor* loop = nullptr;
    MemoryTransport connection(serving(wait_between, std::ref(notes), std::ref(scope), std::ref(loop)));
    connection.feed("one\ntwo\nth");
    CHECK(notes == Notes{"one"});
    connection.feed("ree\n");
    CHECK(connection.waiting() > 0);
    scope->stop();
    connection.settle();
    CHECK(notes == Notes{"one", "two"});
    connection.end();
    CHECK_FALSE(connection.disconnected());
    scope->stop();
    connection.settle();
    CHECK(notes == Notes{"one", "two", "three", "(the peer has ended its stream)"});
    CHECK(connection.disconnected() == std::error_code());
}

static Task<> produce(Stream stream, int count, Notes& notes) {
    (void)co_await stream.read<Lines>();
    const std::string piece(1000, 'x');
    for (int i = 0; i < count; ++i) {
        if (!co_await stream.write(piece)) break;
        notes.push_back("written");
    }
}

TEST_CASE("a write waits above the high watermark, and goes on at the low one") {
    Notes notes;
    Limits limits;
    limits.high_mark = 3000;
    MemoryTransport connection(serving(produce, 10, std::ref(notes)), limits);
    connection.fill();
    connection.feed("go\n");
    CHECK(connection.queued() == 4000);
    CHECK(notes.size() == 3);
    std::size_t taken = 0;
    while (!connection.disconnected() && taken < 20'000) {
        CHECK(connection.queued() <= 4000);
        connection.drain(500);
        taken += 500;
        if (connection.ended()) connection.end();
    }
    CHECK(notes.size() == 10);
    CHECK(connection.take().size() == 10'000);
}

static Task<> write_much(Stream stream, Notes& notes) {
    while (auto bytes = co_await stream.read_some()) {
        co_await stream.write(*bytes);
        notes.push_back("goes on");
    }
}

TEST_CASE("a write above the high watermark goes on although the transport has sent all of it at once") {
    Notes notes;
    Limits limits;
    limits.high_mark = 10;
    MemoryTransport connection(serving(write_much, std::ref(notes)), limits);
    connection.feed(std::string(100, 'x'));
    CHECK(notes == Notes{"goes on"});
    connection.feed(std::string(100, 'x'));
    CHECK(notes == Notes{"goes on", "goes on"});
    CHECK(connection.take().size() == 200);
}

static Task<> fail_at(Stream stream, std::string word) {
    while (auto line = co_await stream.read<Lines>()) {
        if (text_of(*line) == word) throw std::runtime_error("the word came");
        co_await stream.write("ok\n");
    }
}

TEST_CASE("an exception out of a coroutine ends its connection and leaves the loop's call") {
    MemoryTransport connection(serving(fail_at, std::string("bad")));
    connection.feed("good\n");
    CHECK_THROWS_WITH_AS(connection.feed("bad\n"), "the word came", std::runtime_error);
    CHECK(connection.disconnected() == Error::exception);
    CHECK(connection.was_reset());
}

static Task<> fail_later(Stream) {
    co_await sleep(std::chrono::milliseconds(1));
    throw std::runtime_error("later");
}

TEST_CASE("an exception ends the connection also if a timer resumed the coroutine") {
    MemoryTransport connection(serving(fail_later));
    CHECK_THROWS_WITH_AS(connection.advance(std::chrono::milliseconds(1)), "later", std::runtime_error);
    connection.settle();
    CHECK(connection.disconnected() == Error::exception);
}

TEST_CASE("a drain destroys a coroutine that has not asked for it, and closes its connection") {
    Notes notes;
    MemoryTransport connection(serving(note_lines, std::ref(notes)));
    connection.feed("one\n");
    connection.ask_to_drain();
    CHECK(notes == Notes{"one", "destroyed"});
    CHECK(connection.ended());
}

static Task<> say_goodbye(Stream stream) {
    co_await stopping();
    co_await stream.write("bye\n");
}

TEST_CASE("a coroutine that waits for it has a drain's grace period to say goodbye") {
    MemoryTransport connection(serving(say_goodbye));
    connection.ask_to_drain();
    CHECK(connection.take() == "bye\n");
    CHECK(connection.ended());
}

static Task<> give_away(Stream stream, std::optional<Stream>& place) {
    (void)co_await stream.read<Lines>();
    place.emplace(std::move(stream));
}

TEST_CASE("a stream that is moved out of its coroutine keeps its connection, and closes it when it is destroyed") {
    std::optional<Stream> place;
    MemoryTransport connection(serving(give_away, std::ref(place)));
    connection.feed("go\n");
    REQUIRE(place);
    CHECK(place->open());
    CHECK((void(place->write("from outside")), connection.settle(), connection.take()) == "from outside");
    place.reset();
    connection.settle();
    CHECK(connection.ended());
    connection.end();
    CHECK(connection.disconnected() == std::error_code());
}

TEST_CASE("a stream notices that its connection is over") {
    std::optional<Stream> place;
    {
        MemoryTransport connection(serving(give_away, std::ref(place)));
        connection.feed("go\n");
        connection.reset();
    }
    REQUIRE(place);
    CHECK_FALSE(place->open());
    CHECK(place->error() == std::errc::connection_reset);
    CHECK_THROWS_AS((void)place->limits(), std::system_error);
    Stream none;
    CHECK(none.error() == std::errc::not_connected);
}

static Task<> close_and_read(Stream stream, Notes& notes) {
    (void)co_await stream.read_exactly(1);
    stream.close();
    notes.push_back(text(co_await stream.read_exactly(1)));
    notes.push_back(co_await stream.write("x") ? "written" : "refused");
}

TEST_CASE("after close a coroutine reads and writes nothing more, although there is input") {
    Notes notes;
    MemoryTransport connection(serving(close_and_read, std::ref(notes)));
    connection.feed("ab");
    CHECK(notes == Notes{"(" + std::make_error_code(std::errc::operation_canceled).message() + ")", "refused"});
    CHECK(connection.take().empty());
}

TEST_CASE("destroying a connection destroys its coroutine where it waits") {
    for (const char* const input : {"", "one\n", "one\ntw"}) {
        Notes notes;
        const std::size_t frames = coroutine_frames().alive();
        {
            MemoryTransport connection(serving(note_lines, std::ref(notes)));
            if (*input != 0) connection.feed(input);
        }
        CHECK(notes.back() == "destroyed");
        CHECK(coroutine_frames().alive() == frames);
    }
}
