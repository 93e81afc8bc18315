#include <protocols/framing/any_framing.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace reactor::testing;

namespace {

using Log = std::vector<std::string>;

/// Writes its messages down and does what the test says.
template <class F>
struct Listener : Framed<F> {
    explicit Listener(F framing) : Framed<F>(std::move(framing)) {}

    Log log;
    std::error_code reason;
    std::function<void(std::string_view)> on_message = [](std::string_view) {};

    using Framed<F>::transport;
    using Framed<F>::send;
    using Framed<F>::set_framing;
    void message(Bytes message) override {
        log.emplace_back(text_of(message));
        on_message(text_of(message));
    }
    void disconnected(std::error_code why) override { reason = why; }
};

struct FormedInput {
    std::string_view form;
    std::string_view input;
};

/// Sends each message back, in the same framing.
struct FramedEcho final : Framed<AnyFraming> {
    using Framed::Framed;
    void message(Bytes message) override { send(message); }
};

/// The tutorial's FixedLengthSocket without a wait: messages of exactly so many bytes, however the stream is
/// cut.
struct FixedLengthConversation final : Framed<FixedLength> {
    explicit FixedLengthConversation(std::size_t length) : Framed(FixedLength(length)) {}
    Log messages;
    std::error_code reason;
    using Framed::send;
    void message(Bytes message) override { messages.emplace_back(text_of(message)); }
    void disconnected(std::error_code why) override { reason = why; }
};

std::unique_ptr<Protocol> framed_echo(std::string_view form, std::size_t maximum = 1000) {
    return std::make_unique<FramedEcho>(parse_framing(form, maximum));
}

}  // namespace

TEST_CASE("Messages of a fixed length come whole, however the stream is cut, and are sent whole") {
    FixedLengthConversation protocol(3);
    MemoryTransport connection(protocol);
    for (const std::string_view piece : {"A", "BC", "DEFG", "HI"}) connection.feed(piece);
    CHECK(protocol.messages == Log{"ABC", "DEF", "GHI"});

    connection.fill();
    CHECK(protocol.send("abc"));
    CHECK(protocol.send("def"));
    connection.drain(4);
    CHECK(connection.take() == "abcd");
    connection.drain();
    CHECK(connection.take() == "ef");
}

TEST_CASE("S89: a stream that ends inside a message says so, and one that ends between two does not") {
    FixedLengthConversation inside(3);
    MemoryTransport one(inside);
    one.feed("ABCD");
    one.end();
    CHECK(inside.messages == Log{"ABC"});
    CHECK(inside.reason == Error::ended_inside_message);
    CHECK(one.was_reset());

    FixedLengthConversation between(3);
    MemoryTransport other(between);
    other.feed("ABC");
    other.end();
    CHECK(between.reason == std::error_code());
    CHECK(other.disconnected() == std::error_code());
    CHECK(other.ended());
}

TEST_CASE("S88: a framed echo answers the same in every cut, in every framing") {
    using namespace std::string_view_literals;
    const FormedInput inputs[] = {
        {"none", "anything"sv},
        {"fixed:3", "ABCDEFGHI"sv},
        {"delimited:\\r\\n", "a\r\n\r\nb\rc\r\n"sv},
        {"lines", "a\nb\r\n\n\rc\r\n"sv},
        {"length:1", "\1a\0\3abc"sv},
        {"length:2", "\0\1a\0\0\0\3abc"sv},
        {"length:4le", "\1\0\0\0a\0\0\0\0"sv},
        {"varint", "\1a\0\3abc"sv},
        {"netstring", "1:a,0:,3:abc,"sv},
        {"until-close", "everything"sv},
    };
    for (const FormedInput& sample : inputs) {
        CAPTURE(sample.form);
        CHECK_NOTHROW(check_every_cut_of_protocol(sample.input, [&] { return framed_echo(sample.form); }));
    }
    CHECK_NOTHROW(check_every_cut_of_protocol(
        "5:hello," + std::string("300:") + std::string(300, 'x') + ",1:y,", [] { return framed_echo("netstring"); },
        1000));
}

TEST_CASE("Messages that are answered until the peer ends come back, and the message that the end completes too") {
    MemoryTransport counted(framed_echo("length:2"));
    counted.feed(std::string_view("\0\3abc\0\0", 7));
    CHECK(counted.take() == std::string("\0\3abc\0\0", 7));

    MemoryTransport closing(framed_echo("until-close"));
    closing.feed("all ");
    closing.feed("of it");
    CHECK(closing.take().empty());
    closing.end();
    CHECK(closing.take() == "all of it");
    CHECK(closing.ended());
    CHECK(closing.disconnected() == std::error_code());
}

TEST_CASE("S86: garbage ends its own connection, with an error that says what is wrong") {
    struct Strict final : Framed<LengthPrefixed> {
        explicit Strict(std::string& where) : Framed(LengthPrefixed(4)), text(where) {}
        std::string& text;
        void message(Bytes) override {}
        void malformed(const FramingError& error) override {
            text = error.to_string();
            Framed::malformed(error);
        }
    };
    std::string text;
    MemoryTransport connection(std::make_unique<Strict>(text));
    connection.feed("\xff\xff\xff\xff");
    CHECK(text == "length:4: a message of 4294967295 bytes, where 1048576 are allowed");
    CHECK(connection.disconnected() == Error::message_too_long);
    CHECK(connection.was_reset());
}

TEST_CASE("Whoever wants to complain to the peer sends and returns: what was sent leaves, then it is closed") {
    struct Polite final : Framed<Lines> {
        Polite() : Framed(Lines(5)) {}
        int messages = 0;
        int complaints = 0;
        void message(Bytes) override { ++messages; }
        void malformed(const FramingError&) override {
            ++complaints;
            send("no!");
        }
    } protocol;
    MemoryTransport connection(protocol);
    connection.feed("good\nmuch too long\ngood\n");
    CHECK(connection.take() == "no!\r\n");
    CHECK(connection.ended());
    connection.feed("good\n");
    CHECK(protocol.messages == 1);
    connection.end();
    CHECK(connection.disconnected() == std::error_code());
    CHECK(protocol.complaints == 1);
}

TEST_CASE("S89: paused inside message, the messages behind it wait until the reading goes on") {
    Listener<Lines> protocol{Lines()};
    MemoryTransport connection(protocol);
    protocol.on_message = [&](std::string_view message) {
        if (message == "stop") protocol.transport().pause_reading();
    };
    connection.feed("one\nstop\ntwo\nstop\nthree\nfo");
    CHECK(protocol.log == Log{"one", "stop"});
    connection.feed("ur\n");
    connection.end();
    CHECK(protocol.log == Log{"one", "stop"});

    protocol.transport().resume_reading();
    connection.settle();
    CHECK(protocol.log == Log{"one", "stop", "two", "stop"});
    protocol.transport().resume_reading();
    connection.settle();
    CHECK(protocol.log == Log{"one", "stop", "two", "stop", "three", "four"});
    CHECK(connection.disconnected() == std::error_code());
}

TEST_CASE("S89: paused inside the last message that there is, nothing is lost or told twice") {
    Listener<Lines> protocol{Lines()};
    MemoryTransport connection(protocol);
    protocol.on_message = [&](std::string_view) {
        protocol.transport().pause_reading();
        protocol.transport().resume_reading();
    };
    connection.feed("one\ntwo\nthr");
    connection.feed("ee\n");
    CHECK(protocol.log == Log{"one", "two", "three"});
}

TEST_CASE("S89: after close and after abort no message is delivered, even if it had already come") {
    for (const bool abort : {false, true}) {
        Listener<Lines> protocol{Lines()};
        MemoryTransport connection(protocol);
        protocol.on_message = [&](std::string_view) {
            protocol.send("bye");
            abort ? protocol.transport().abort() : protocol.transport().close();
        };
        connection.feed("one\ntwo\n" + std::string(2'000'000, 'x'));
        connection.feed("three\n");
        CHECK(protocol.log == Log{"one"});
        CHECK(connection.take() == (abort ? "" : "bye\r\n"));
        connection.end();
        CHECK(protocol.reason == (abort ? std::make_error_code(std::errc::operation_canceled) : std::error_code()));
    }
}

TEST_CASE("S89: a framing that is switched inside message holds for everything behind it, in every cut") {
    const auto make = [] {
        auto protocol = std::make_unique<Listener<AnyFraming>>(Lines());
        Listener<AnyFraming>& self = *protocol;
        protocol->on_message = [&self](std::string_view message) {
            self.send(message);
            if (message == "counted") self.set_framing(LengthPrefixed(1));
            if (message == "lines") self.set_framing(Lines());
            if (message == "rest") self.set_framing(UntilClose());
        };
        return std::unique_ptr<Protocol>(std::move(protocol));
    };
    const std::string input =
        "counted\n\3a\nb\5lines"
        "c\r\nrest\nx\ny";
    MemoryTransport connection(make());
    connection.feed(input);
    connection.end();
    CHECK(connection.take() ==
          "counted\r\n\3a\nb\5lines"
          "c\r\nrest\r\nx\ny");
    CHECK_NOTHROW(check_every_cut_of_protocol(input, make));
}

TEST_CASE("S89: a framing that is switched outside message looks again at what was left") {
    Listener<AnyFraming> protocol{LengthPrefixed(4)};
    MemoryTransport connection(protocol);
    connection.feed("a\nb\n");  // a length that needs much more
    CHECK(protocol.reason == Error::message_too_long);

    Listener<AnyFraming> other{FixedLength(100)};
    MemoryTransport second(other);
    second.feed("a\nb\nc");
    CHECK(other.log.empty());
    other.set_framing(Lines());
    CHECK(other.log.empty());  // not from inside
    second.settle();
    CHECK(other.log == Log{"a", "b"});
    second.feed("\n");
    CHECK(other.log == Log{"a", "b", "c"});
}

TEST_CASE("A peer that sends small requests for large answers and reads none is answered up to the high mark") {
    Listener<Lines> protocol{Lines()};
    MemoryTransport connection(protocol);
    protocol.on_message = [&](std::string_view) { protocol.send(std::string(50'000, 'x')); };
    connection.fill();
    std::string requests;
    for (int i = 0; i < 1000; ++i) requests += "give\n";
    connection.feed(requests);
    CHECK(protocol.log.size() == 3);
    CHECK(connection.queued() == 3 * 50'002);
    CHECK_FALSE(connection.disconnected());

    connection.drain();
    CHECK(protocol.log.size() == 1000);
    CHECK(connection.take().size() == 1000 * 50'002);
}

TEST_CASE("A message of the framing's maximum has room, whatever the transport's limit was") {
    Limits limits;
    limits.input_limit = 1000;
    limits.read_size = 64;
    Listener<Lines> protocol{Lines(100'000)};
    MemoryTransport connection(protocol, limits);
    connection.feed(std::string(100'000, 'x'));
    CHECK(connection.limits().input_limit == 100'002 + 64);
    connection.feed("\r\n");
    CHECK(protocol.log == Log{std::string(100'000, 'x')});

    Listener<Lines> small{Lines(100)};
    MemoryTransport other(small, limits);
    other.feed("short");
    CHECK(other.limits().input_limit == 1000);
}

TEST_CASE("What cannot be sent ends the connection with the reason, unless the protocol knows better") {
    Listener<AnyFraming> protocol{Lines()};
    MemoryTransport connection(protocol);
    CHECK_FALSE(protocol.send("a\nb"));
    connection.settle();
    CHECK(protocol.reason == Error::malformed);
    CHECK(connection.take().empty());

    struct Lenient final : Framed<Lines> {
        Lenient() : Framed(Lines(3)) {}
        FramingError error;
        void message(Bytes message) override { send(std::string(text_of(message)) + "!"); }
        void unsendable(const FramingError& why) override { error = why; }
    } lenient;
    MemoryTransport other(lenient);
    other.feed("abc\nab\n");
    CHECK(other.take() == "ab!\r\n");
    CHECK(lenient.error.code() == Error::message_too_long);
    CHECK_FALSE(other.disconnected());
}

TEST_CASE("A message goes out whole with its header, whether they are small enough for one write or not") {
    for (const std::size_t size : {0U, 1U, 1020U, 1021U, 5000U}) {
        Listener<AnyFraming> protocol{LengthPrefixed(4)};
        MemoryTransport connection(protocol);
        CHECK(protocol.send(std::string(size, 'x')));
        const std::string header = std::string("\0\0", 2) + char(size >> 8) + char(size & 255);
        CHECK(connection.take() == header + std::string(size, 'x'));
        protocol.transport().close();
        CHECK_FALSE(protocol.send("late"));
    }
}

TEST_CASE("A large message taken in parts leaves nothing behind in memory") {
    struct Sum final : FramedParts<LengthPrefixed> {
        Sum() : FramedParts(LengthPrefixed(8, std::endian::big, std::size_t(1) << 30)) {}
        std::size_t bytes = 0;
        std::size_t largest = 0;
        int messages = 0;
        using FramedParts::transport;
        void part(Bytes part, bool last) override {
            bytes += part.size();
            largest = std::max(largest, part.size());
            messages += last;
        }
    } protocol;
    MemoryTransport connection(protocol);
    const std::string piece(64 * 1024, 'x');
    connection.feed(std::string_view("\0\0\0\0\4\0\0\0", 8));  // 64 MiB
    for (int i = 0; i < 1024; ++i) {
        CHECK(protocol.messages == 0);
        connection.feed(piece);
        CHECK(connection.unconsumed().empty());
    }
    CHECK(protocol.messages == 1);
    CHECK(protocol.bytes == 64 * 1024 * 1024);
    CHECK(protocol.largest == piece.size());
    connection.feed("\1");
    connection.end();
    CHECK(connection.disconnected() == Error::ended_inside_message);
}

TEST_CASE("S88: parts put together are the messages, in every cut") {
    struct Parts final : FramedParts<AnyFraming> {
        using FramedParts::FramedParts;
        std::string message;
        void part(Bytes part, bool last) override {
            message += text_of(part);
            if (last) transport().write(std::exchange(message, {}) + ";");
        }
    };
    using namespace std::string_view_literals;
    const FormedInput inputs[] = {
        {"fixed:3", "ABCDEFGHI"sv},       {"delimited:ab", "aabxabaaab"sv}, {"lines", "one\r\n\r\rx\n"sv},
        {"netstring", "3:abc,0:,1:x,"sv}, {"until-close", "everything"sv},  {"length:2", "\0\3abc\0\0\0\1x"sv},
    };
    for (const FormedInput& sample : inputs) {
        CAPTURE(sample.form);
        const auto make = [&] { return std::make_unique<Parts>(parse_framing(sample.form)); };
        CHECK_NOTHROW(check_every_cut_of_protocol(sample.input, make));
    }
    MemoryTransport connection(std::make_unique<Parts>(parse_framing("delimited:ab")));
    connection.feed("aabxabaaab");
    CHECK(connection.take() == "a;x;aa;");
}
