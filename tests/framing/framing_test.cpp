#include <protocols/framing/any_framing.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using Problem = FramingError::Problem;

namespace {

/// The outcome of a stream: its messages, and how it ended.
struct Outcome {
    std::vector<std::string> messages;
    FramingError error;

    friend bool operator==(const Outcome&, const Outcome&) = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
    for (const std::string& message : outcome.messages) out << '[' << message << ']';
    return out << ' ' << outcome.error.to_string();
}

/// Feeds a framing as a connection does. Unconsumed bytes lie in memory of exactly their size, so that a
/// sanitizer sees a read beyond them.
class Feeder {
public:
    Feeder(AnyFraming framing, bool in_parts) : framing_(std::move(framing)), in_parts_(in_parts) {}

    void feed(std::string_view piece) {
        if (outcome_.error) return;
        std::string all = rest_ + std::string(piece);
        std::size_t consumed = 0;
        while (consumed < all.size() && !outcome_.error) {
            const std::size_t size = all.size() - consumed;
            const auto exact = std::make_unique<std::byte[]>(size);
            std::memcpy(exact.get(), all.data() + consumed, size);
            const Bytes input(exact.get(), size);
            const Decoded decoded = in_parts_ ? framing_.next_part(input) : framing_.next(input);
            const bool message = decoded.status == Decoded::Status::message;
            // Not checked one by one: there are millions.
            if (decoded.consumed > size || (message && decoded.consumed == 0)) FAIL("consumed ", decoded.consumed);
            if (!message && !in_parts_ && decoded.consumed != 0) FAIL("consumed without a message");
            if (!in_parts_ && !decoded.last) FAIL("a part that nobody asked for");
            if (!decoded.last && decoded.message.empty()) FAIL("an empty part");
            take(decoded);
            consumed += decoded.consumed;
            if (!message) break;
        }
        rest_ = all.substr(consumed);
    }

    Outcome end() {
        if (!outcome_.error) take(framing_.end(bytes_of(rest_)));
        return outcome_;
    }

    const Outcome& outcome() const { return outcome_; }

private:
    void take(const Decoded& decoded) {
        if (decoded.status == Decoded::Status::malformed) outcome_.error = decoded.error;
        if (decoded.status != Decoded::Status::message) return;
        part_ += text_of(decoded.message);
        if (decoded.last) outcome_.messages.push_back(std::exchange(part_, {}));
    }

    AnyFraming framing_;
    bool in_parts_;
    std::string rest_;
    std::string part_;
    Outcome outcome_;
};

Outcome decode(const AnyFraming& framing, const std::vector<std::string_view>& pieces, bool in_parts = false) {
    Feeder feeder(framing, in_parts);
    for (const std::string_view piece : pieces) feeder.feed(piece);
    return feeder.end();
}
Outcome decode(const AnyFraming& framing, std::string_view input, bool in_parts = false) {
    return decode(framing, std::vector{input}, in_parts);
}

/// A sink that keeps what it is given.
struct Collected {
    std::string bytes;
    bool shut = false;
    void write(Bytes more) { bytes += text_of(more); }
    void shutdown_write() { shut = true; }
};

std::string encoded(const AnyFraming& framing, std::string_view message) {
    Collected sink;
    REQUIRE_FALSE(encode(framing, bytes_of(message), sink));
    return sink.bytes;
}

/// All the ways to cut so many bytes, as one bit for each place, or some thousand of them if there are more.
std::vector<std::uint32_t> cuts_of(std::size_t size) {
    std::vector<std::uint32_t> cuts;
    const std::uint32_t all = std::uint32_t(1) << (size == 0 ? 0 : size - 1);
    std::mt19937 random(1);
    for (std::uint32_t i = 0; i < std::min(all, 4096U); ++i) {
        cuts.push_back(all <= 4096 ? i : std::uint32_t(random()) % all);
    }
    cuts.push_back(all - 1);  // byte by byte
    return cuts;
}

std::vector<std::string_view> cut(std::string_view input, std::uint32_t where) {
    std::vector<std::string_view> pieces;
    std::size_t start = 0;
    for (std::size_t i = 1; i < input.size(); ++i) {
        if ((where >> (i - 1) & 1) == 0) continue;
        pieces.push_back(input.substr(start, i - start));
        start = i;
    }
    pieces.push_back(input.substr(start));
    return pieces;
}

using namespace std::string_view_literals;

struct Sample {
    std::string_view framing;
    std::string_view input;
};

// Short, so that all their cuts can be tried: whole messages, empty ones, what is malformed, what ends too
// soon.
constexpr Sample samples[] = {
    {"none", "abc"sv},
    {"fixed:3", "ABCDEFGHI"sv},
    {"fixed:3", "ABCDEFGH"sv},
    {"fixed:1", "ABC"sv},
    {"delimited:\\n", "one\n\nthree\nx"sv},
    {"delimited:\\r\\n", "a\r\nb\rc\n\r\n\r\n"sv},
    {"delimited:\\r\\n\\r\\n", "a\r\nb\r\n\r\n\r\n\r\n\r"sv},
    {"delimited:aab", "aaabxaabaab"sv},
    {"delimited:abab", "abaababababab"sv},
    {"delimited:\\0", "\0ab\0\0"sv},
    {"delimited:;", "12345678;123456789;"sv},
    {"delimited:--", "12345678--1234567-8--"sv},
    {"lines", "a\nb\r\n\r\n\nc\rd\r\r\n"sv},
    {"lines", "12345678\r\n12345678\n1"sv},
    {"lines", "12345678\r\r\n"sv},
    {"lines", "123456789\r\n"sv},
    {"length:1", "\0\1a\3abc\2x"sv},
    {"length:1", "\1a\11overlong"sv},
    {"length:2", "\0\1a\0\0\0\3abc\0"sv},
    {"length:2le", "\1\0a\0\0\3\0abc"sv},
    {"length:4", "\0\0\0\2ab\0\0\0\0\0"sv},
    {"length:4le",
     "\2\0\0\0ab\xff\xff\xff\xff"
     "ab"sv},
    {"length:8", "\0\0\0\0\0\0\0\1a\0\0"sv},
    {"length:8le", "\1\0\0\0\0\0\0\0a\1"sv},
    {"varint", "\0\1a\3abc\2x"sv},
    {"varint", "\1a\x81\0a"sv},
    {"varint", "\1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\2a"sv},
    {"varint", "\1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\1a"sv},
    {"netstring", "0:,1:a,3:abc,2:"sv},
    {"netstring", "1:a,03:abc,"sv},
    {"netstring", "1:a,1:aX"sv},
    {"netstring", "1:a,:,"sv},
    {"netstring", "1:a,9:abcd"sv},
    {"netstring", "2:ab,4x:,"sv},
    {"until-close", "all of"sv},
    {"until-close", ""sv},
    {"until-close", "more than 8"sv},
};

}  // namespace

TEST_CASE("S88: any split of the input gives the same messages and the same error, in every framing") {
    for (const Sample& sample : samples) {
        CAPTURE(sample.framing);
        CAPTURE(sample.input);
        const AnyFraming framing = parse_framing(sample.framing, 8);
        Outcome expected = decode(framing, sample.input);
        for (const std::uint32_t where : cuts_of(sample.input.size())) {
            Outcome outcome = decode(framing, cut(sample.input, where));
            if (framing.name() == "none") {  // the stream is the same; its pieces are not messages
                std::string all;
                for (const std::string& message : outcome.messages) all += message;
                outcome.messages = {all};
            }
            if (outcome != expected) FAIL("cut ", where, ": ", outcome, " instead of ", expected);
        }
    }
}

TEST_CASE("S88: taken in parts, a message is the same, however it is split") {
    for (const Sample& sample : samples) {
        CAPTURE(sample.framing);
        CAPTURE(sample.input);
        if (sample.framing == "none") continue;
        const AnyFraming framing = parse_framing(sample.framing, 8);
        const Outcome expected = decode(framing, sample.input);
        for (const std::uint32_t where : cuts_of(sample.input.size())) {
            const Outcome outcome = decode(framing, cut(sample.input, where), true);
            if (outcome != expected) FAIL("cut ", where, ": ", outcome, " instead of ", expected);
        }
    }
}

TEST_CASE("S89: in a framing that is asked for a part where there is nothing yet, no message has begun") {
    for (const Sample& sample : samples) {
        CAPTURE(sample.framing);
        AnyFraming framing = parse_framing(sample.framing, 8), asked = framing;
        const Decoded part = asked.next_part({});
        CHECK(part.status == Decoded::Status::need_more);
        CHECK(part.consumed == 0);
        const Decoded end = framing.end({}), end_of_asked = asked.end({});
        CHECK(end_of_asked.status == end.status);
        CHECK(end_of_asked.error == end.error);
    }
}

TEST_CASE("Messages are what the framing says they are") {
    const auto messages = [](std::string_view framing, std::string_view input) {
        const Outcome outcome = decode(parse_framing(framing), input);
        CHECK_FALSE(outcome.error);
        return outcome.messages;
    };
    using Messages = std::vector<std::string>;
    CHECK(messages("fixed:3", "ABCDEFGHI") == Messages{"ABC", "DEF", "GHI"});
    CHECK(messages("delimited:\\r\\n", "a\r\n\r\nb\nc\r\n") == Messages{"a", "", "b\nc"});
    CHECK(messages("lines", "a\nb\r\n\n\r\nc\rd\r\r\n") == Messages{"a", "b", "", "", "c\rd\r"});
    CHECK(messages("length:2", "\0\2ab\0\0\0\1c"sv) == Messages{"ab", "", "c"});
    CHECK(messages("length:2le", "\2\0ab\0\0\1\0c"sv) == Messages{"ab", "", "c"});
    CHECK(messages("varint", "\2ab\0\1c"sv) == Messages{"ab", "", "c"});
    CHECK(messages("varint", "\x80\1" + std::string(128, 'x')) == Messages{std::string(128, 'x')});
    CHECK(messages("netstring", "2:ab,0:,10:0123456789,") == Messages{"ab", "", "0123456789"});
    CHECK(messages("until-close", "a\nb") == Messages{"a\nb"});
    CHECK(messages("until-close", "") == Messages{""});
    CHECK(decode(Delimited("--", 10, Delimited::Delimiter::keep), "a----").messages == Messages{"a--", "--"});
}

TEST_CASE("Encoded and decoded, random messages come back") {
    const std::uint64_t seed = std::random_device()();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    for (const std::string_view form :
         {"fixed:7", "delimited:\\n", "delimited:ab", "delimited:abab", "delimited:\\r\\n\\r\\n", "lines", "length:1",
          "length:2", "length:2le", "length:4", "length:4le", "length:8", "length:8le", "varint", "netstring"}) {
        CAPTURE(form);
        const AnyFraming framing = parse_framing(form, 300);
        for (int round = 0; round < 50; ++round) {
            std::vector<std::string> messages;
            Collected sink;
            for (int i = 0; i < 10; ++i) {
                std::string message(framing.get<FixedLength>() ? 7 : random() % 301, ' ');
                // Few different bytes, so that delimiters begin everywhere.
                for (char& byte : message) byte = "ab\r\n01"[random() % 6];
                // A message that cannot be sent is an error; one that is sent comes back.
                const FramingError error = encode(framing, bytes_of(message), sink);
                if (!error) messages.push_back(message);
                if (error && error.problem != Problem::contains_delimiter) CHECK(form == "length:1");
            }
            std::vector<std::string_view> pieces;
            for (std::string_view left = sink.bytes; !left.empty();) {
                const std::size_t size = std::min(left.size(), std::size_t(random() % 40 + 1));
                pieces.push_back(left.substr(0, size));
                left.remove_prefix(size);
            }
            CHECK(decode(framing, pieces) == Outcome{messages, {}});
            CHECK(decode(framing, pieces, true) == Outcome{messages, {}});
        }
    }
}

TEST_CASE("What a framing sends is what the standards write") {
    CHECK(encoded(LengthPrefixed(1), "abc") == "\3abc"sv);
    CHECK(encoded(LengthPrefixed(2), "abc") == "\0\3abc"sv);
    CHECK(encoded(LengthPrefixed(4), "abc") == "\0\0\0\3abc"sv);
    CHECK(encoded(LengthPrefixed(4, std::endian::little), "abc") == "\3\0\0\0abc"sv);
    CHECK(encoded(LengthPrefixed(8), "abc") == "\0\0\0\0\0\0\0\3abc"sv);
    CHECK(encoded(VarintPrefixed(), "abc") == "\3abc");
    CHECK(encoded(VarintPrefixed(), std::string(300, 'x')).starts_with("\xac\x02x"));
    CHECK(encoded(Netstring(), "hello world!") == "12:hello world!,");
    CHECK(encoded(Netstring(), "") == "0:,");
    CHECK(encoded(Netstring(), std::string(100, 'x')).starts_with("100:x"));
    CHECK(encoded(Lines(), "abc") == "abc\r\n");
    CHECK(encoded(Lines(10, Lines::Ending::lf), "abc") == "abc\n");
    CHECK(encoded(Delimited("--", 10, Delimited::Delimiter::keep), "abc--") == "abc--");

    Collected sink;
    CHECK_FALSE(encode(UntilClose(), bytes_of("all"), sink));
    CHECK(sink.bytes == "all");
    CHECK(sink.shut);
}

TEST_CASE("What cannot be sent is refused, and nothing of it is written") {
    Collected sink;
    const auto refused = [&sink](const AnyFraming& framing, std::string_view message) {
        const FramingError error = encode(framing, bytes_of(message), sink);
        CHECK(sink.bytes.empty());
        return error.problem;
    };
    CHECK(refused(FixedLength(3), "ab") == Problem::wrong_size);
    CHECK(refused(FixedLength(3), "abcd") == Problem::wrong_size);
    CHECK(refused(LengthPrefixed(4, std::endian::big, 3), "abcd") == Problem::too_long);
    CHECK(refused(LengthPrefixed(1), std::string(256, 'x')) == Problem::too_long);
    CHECK(refused(VarintPrefixed(3), "abcd") == Problem::too_long);
    CHECK(refused(Netstring(3), "abcd") == Problem::too_long);
    CHECK(refused(UntilClose(3), "abcd") == Problem::too_long);
    CHECK(refused(Lines(3), "abcd") == Problem::too_long);
    CHECK(refused(Lines(), "a\nb") == Problem::contains_delimiter);
    CHECK(refused(Lines(9, Lines::Ending::lf), "a\r") == Problem::contains_delimiter);
    CHECK(refused(Delimited("--", 3), "abcd") == Problem::too_long);
    CHECK(refused(Delimited("--"), "a--b") == Problem::contains_delimiter);
    CHECK(refused(Delimited("--"), "a-") == Problem::contains_delimiter);
    CHECK(refused(Delimited("\r\n\r\n"), "a\r\n") == Problem::contains_delimiter);
    CHECK(refused(Delimited("--", 9, Delimited::Delimiter::keep), "abc") == Problem::lacks_delimiter);
    CHECK(refused(Delimited("--", 9, Delimited::Delimiter::keep), "a--b--") == Problem::contains_delimiter);
    CHECK(refused(Delimited("--", 9, Delimited::Delimiter::keep), "ab---") == Problem::contains_delimiter);
    CHECK_FALSE(encode(Delimited("\r\n\r\n"), bytes_of("a\r\n\r"),
                       sink));  // ends in CR: the end is still where it should be
}

TEST_CASE("S87: a message one below the maximum and of the maximum is taken, one above is refused") {
    constexpr std::size_t maximum = 100;
    for (const std::string_view form : {"delimited:;", "delimited:--", "lines", "length:1", "length:2", "length:4le",
                                        "length:8", "varint", "netstring"}) {
        const AnyFraming framing = parse_framing(form, maximum);
        const AnyFraming larger = parse_framing(form, maximum + 1);
        for (const bool in_parts : {false, true}) {
            CAPTURE(form);
            CAPTURE(in_parts);
            for (const std::size_t size : {maximum - 1, maximum, maximum + 1}) {
                const std::string message(size, 'x');
                const std::string input = encoded(larger, message);
                std::vector<std::string_view> bytes;
                for (std::size_t i = 0; i < input.size(); ++i) bytes.push_back(std::string_view(input).substr(i, 1));
                const Outcome outcome = decode(framing, input, in_parts);
                CHECK(outcome == decode(framing, bytes, in_parts));
                if (size <= maximum) {
                    CHECK(outcome == Outcome{{message}, {}});
                } else {
                    CHECK(outcome.messages.empty());
                    CHECK(outcome.error.code() == Error::message_too_long);
                    CHECK(outcome.error.allowed == maximum);
                }
            }
        }
    }
    const std::string text(101, 'x');
    CHECK(decode(UntilClose(100), std::string_view(text).substr(1)).messages.size() == 1);
    CHECK(decode(UntilClose(100), text).error.code() == Error::message_too_long);
    CHECK(decode(UntilClose(100), text, true).error.code() == Error::message_too_long);
}

TEST_CASE("S87: a delimiter that does not come is given up with the first byte past the maximum") {
    struct Case {
        AnyFraming framing;
        std::string_view accepted;
        std::string_view refused;
    };
    const Case cases[] = {
        {Delimited(";", 4), "1234", "12345"},    {Delimited("--", 4), "1234-", "12345"},
        {Delimited("--", 4), "1234-", "1234-5"}, {Delimited("abab", 4), "1234aba", "1234abb"},
        {Lines(4), "1234\r", "12345"},           {Lines(4), "1234\r", "1234\r\r"},
    };
    for (const Case& each : cases) {
        for (const bool in_parts : {false, true}) {
            CAPTURE(each.refused);
            Feeder taken(each.framing, in_parts);
            taken.feed(each.accepted);
            CHECK_FALSE(taken.outcome().error);
            Feeder refused(each.framing, in_parts);
            refused.feed(each.refused);
            CHECK(refused.outcome().error.problem == Problem::too_long);
        }
    }
}

TEST_CASE("S87: fed byte by byte, each byte is looked at once") {
    // Bytes that were searched are overwritten with the delimiter afterwards: a second search would find it.
    for (const std::string_view form : {"delimited:\\n", "lines"}) {
        CAPTURE(form);
        AnyFraming framing = parse_framing(form, 100'000);
        std::string input;
        for (int i = 0; i < 100'000; ++i) {
            input += 'x';
            if (framing.next(bytes_of(input)).status != Decoded::Status::need_more) FAIL("looked twice, at ", i);
            input.back() = '\n';
        }
        input += '\n';
        const Decoded decoded = framing.next(bytes_of(input));
        REQUIRE(decoded.status == Decoded::Status::message);
        CHECK(decoded.message.size() == 100'000);
    }
    // A longer delimiter may be compared with the bytes before its last one, but not searched for there.
    Delimited framing("ab", 100'000);
    std::string input = "x";
    for (int i = 0; i < 99'999; ++i) {
        input += 'x';
        if (framing.next(bytes_of(input)).status != Decoded::Status::need_more) FAIL("looked twice, at ", i);
        input[input.size() - 2] = 'a';
        input[input.size() - 1] = 'b';
        if (framing.next(bytes_of(input)).status != Decoded::Status::need_more) FAIL("looked twice, at ", i);
    }
}

TEST_CASE("S86: a huge length is refused at once, names both numbers and wraps nothing") {
    struct Case {
        AnyFraming framing;
        std::string_view input;
        std::uint64_t announced;
    };
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    constexpr std::size_t million = 1'000'000;
    const Case cases[] = {
        {LengthPrefixed(4, std::endian::big, million), "\xff\xff\xff\xff"sv, 0xffffffff},
        {LengthPrefixed(4, std::endian::little, million), "\0\0\0\x80"sv, 0x80000000},
        {LengthPrefixed(8, std::endian::big, million), "\xff\xff\xff\xff\xff\xff\xff\xff"sv, most},
        {LengthPrefixed(8, std::endian::little, million), "\xf8\xff\xff\xff\xff\xff\xff\xff"sv, most - 7},
        {VarintPrefixed(million), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"sv, most},
        {Netstring(million), "18446744073709551615:"sv, most},
        {Netstring(million), "18446744073709551616:"sv, most},
        {Netstring(million), "99999999999999999999:"sv, most},
    };
    for (const Case& each : cases) {
        for (const bool in_parts : {false, true}) {
            CAPTURE(each.framing.name());
            Feeder feeder(each.framing, in_parts);
            feeder.feed(each.input);
            CHECK(feeder.outcome().error.problem == Problem::too_long);
            CHECK(feeder.outcome().error.announced == each.announced);
            CHECK(feeder.outcome().error.allowed == million);
        }
    }
    // Where everything is allowed that this machine can hold, the same lengths only mean that more has to come.
    constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();
    for (const AnyFraming& framing : {AnyFraming(LengthPrefixed(8, std::endian::big, unlimited)),
                                      AnyFraming(LengthPrefixed(8, std::endian::little, unlimited))}) {
        Feeder feeder(framing, false);
        feeder.feed("\xff\xff\xff\xff\xff\xff\xff\xff more");
        if (unlimited == most) CHECK(feeder.outcome() == Outcome{});
        if (unlimited < most) CHECK(feeder.outcome().error.problem == Problem::too_long);  // 32 bits
        CHECK(framing.longest() == unlimited);
    }
}

TEST_CASE("S86: random bytes crash no framing and mean the same in every cut") {
    const std::uint64_t seed = std::random_device()();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    for (const std::string_view form : {"fixed:5", "delimited:\\n", "delimited:ab", "lines", "length:1", "length:2",
                                        "length:4le", "length:8", "varint", "netstring", "until-close"}) {
        CAPTURE(form);
        const AnyFraming framing = parse_framing(form, 20);
        for (int round = 0; round < 300; ++round) {
            std::string input(random() % 60, ' ');
            const bool few = random() % 2 == 0;
            for (char& byte : input) byte = few ? "\0\1\2\n\rab0123:,"[random() % 13] : char(random());
            const Outcome expected = decode(framing, input);
            std::vector<std::string_view> pieces;
            for (std::string_view left = input; !left.empty();) {
                const std::size_t size = std::min(left.size(), std::size_t(random() % 5 + 1));
                pieces.push_back(left.substr(0, size));
                left.remove_prefix(size);
            }
            CHECK(decode(framing, pieces) == expected);
            CHECK(decode(framing, pieces, true) == expected);
        }
    }
}

TEST_CASE("S89: the end inside a message says so, and how much there was") {
    const auto end = [](const AnyFraming& framing, std::string_view input, bool in_parts = false) {
        return decode(framing, input, in_parts).error;
    };
    CHECK_FALSE(end(FixedLength(3), "abcdef"));
    CHECK(end(FixedLength(3), "abcd").code() == Error::ended_inside_message);
    CHECK(end(FixedLength(3), "abcd").came == 1);
    CHECK(end(FixedLength(3), "abcd", true) == end(FixedLength(3), "abcd"));
    CHECK(end(LengthPrefixed(2), "\0\4abc"sv).to_string() ==
          "length:2: the stream ended inside a message, after 3 bytes of 4");
    CHECK(end(LengthPrefixed(2), "\0"sv).to_string() ==
          "length:2: the stream ended inside a message, after 1 bytes of it");
    CHECK(end(Netstring(), "3:abc").code() == Error::ended_inside_message);
    CHECK(end(Lines(), "abc").code() == Error::ended_inside_message);
    CHECK(end(Lines(), "abc\r", true).code() == Error::ended_inside_message);
    CHECK(end(Delimited("--"), "a--b-", true).came == 2);
    CHECK_FALSE(end(UntilClose(), "abc"));
}

TEST_CASE("An error is one line that names the framing, what came and what is allowed") {
    const auto line = [](const AnyFraming& framing, std::string_view input) {
        return decode(framing, input).error.to_string();
    };
    CHECK(line(LengthPrefixed(), "\xff\xff\xff\xff") ==
          "length:4: a message of 4294967295 bytes, where 1048576 are allowed");
    CHECK(line(Lines(3), "abcd") == "lines: a message went on past the 3 bytes that are allowed");
    CHECK(line(Netstring(), "3;abc") == "netstring: 0x3b where a digit or ':' was expected");
    CHECK(line(Netstring(), "1:abc") == "netstring: 0x62 where ',' was expected");
    CHECK(line(Netstring(), "00:") == "netstring: a length that starts with a zero");
    CHECK(line(Netstring(), "123456789012345678901") == "netstring: a length of more than 20 digits");
    CHECK(line(VarintPrefixed(), "\x80\0"sv) == "varint: a length in more bytes than it needs");
    CHECK(line(VarintPrefixed(), std::string(10, '\xff')) == "varint: a length of more than 64 bits");
    CHECK(line(VarintPrefixed(),
               "\x81\x80\x80\x80\x80\x80\x80\x80\x80\2"sv) ==  // 2^64 + 1, which would wrap to 1
          "varint: a length of more than 64 bits");
    CHECK(decode(VarintPrefixed(), std::string(10, '\xff')).error.code() == Error::malformed);
    CHECK(FixedLength(3).envelope(bytes_of("ab")).error.to_string() == "fixed: a message of 2 bytes, where each has 3");
    CHECK_FALSE(FramingError());
    CHECK_FALSE(FramingError().code());
}

TEST_CASE("Framings are read from text, and what is not one is refused with what is wrong") {
    CHECK(parse_framing("none").get<Unframed>());
    CHECK(parse_framing("none").longest() == 0);
    CHECK(parse_framing("fixed:12").get<FixedLength>()->length() == 12);
    CHECK(parse_framing("length:2").get<LengthPrefixed>()->name() == "length:2");
    CHECK(parse_framing("length:2").get<LengthPrefixed>()->maximum() == 65535);
    CHECK(parse_framing("length:8le", 77).get<LengthPrefixed>()->name() == "length:8le");
    CHECK(parse_framing("length:8le", 77).get<LengthPrefixed>()->maximum() == 77);
    CHECK(parse_framing("varint", 77).get<VarintPrefixed>()->maximum() == 77);
    CHECK(parse_framing("netstring", 77).get<Netstring>()->maximum() == 77);
    CHECK(parse_framing("until-close", 77).get<UntilClose>()->maximum() == 77);
    CHECK(parse_framing("lines", 77).get<Lines>()->maximum() == 77);
    CHECK(parse_framing("delimited::").get<Delimited>()->delimiter() == ":");
    CHECK(parse_framing("delimited:a\\r\\n\\0\\t\\\\\\x7Fz").get<Delimited>()->delimiter() == "a\r\n\0\t\\\x7fz"sv);

    for (const std::string_view text : {"",
                                        "fixed",
                                        "fixed:",
                                        "fixed:0",
                                        "fixed:-1",
                                        "fixed:2x",
                                        "fixed:99999999999999999999",
                                        "fixed:101",
                                        "delimited:",
                                        "delimited:\\",
                                        "delimited:\\q",
                                        "delimited:\\x1",
                                        "delimited:\\xg1",
                                        "length:",
                                        "length:3",
                                        "length:16",
                                        "length:4be",
                                        "length:le",
                                        "Varint",
                                        "lines:1",
                                        "nothing"}) {
        CAPTURE(text);
        try {
            parse_framing(text, 100);
            FAIL("was taken");
        } catch (const std::invalid_argument& error) {
            CHECK(std::string(error.what()).find("'" + std::string(text) + "'") != std::string::npos);
            std::string_view reason = framing_forms;
            if (text.starts_with("fixed:")) reason = "from 1 to 100";
            if (text.starts_with("delimited:")) reason = text.ends_with(':') ? "at least one byte" : "a backslash";
            if (text.starts_with("length:")) reason = "1, 2, 4 or 8 bytes";
            CHECK(std::string(error.what()).find(reason) != std::string::npos);
        }
    }
    CHECK_THROWS_AS(FixedLength(0), std::invalid_argument);
    CHECK_THROWS_AS(Delimited(""), std::invalid_argument);
    CHECK_THROWS_AS(LengthPrefixed(3), std::invalid_argument);
}

TEST_CASE("S91: a framing takes any maximum, and any length that a peer announces, without a sum that wraps") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    const auto all_with = [](std::size_t maximum) {
        std::vector<AnyFraming> framings{Delimited("\r\n", maximum), Lines(maximum), VarintPrefixed(maximum),
                                         Netstring(maximum), UntilClose(maximum)};
        for (const unsigned width : {1u, 2u, 4u, 8u})
            framings.push_back(LengthPrefixed(width, std::endian::big, maximum));
        return framings;
    };
    const std::vector<AnyFraming> ordinary = all_with(default_maximum_message);
    for (const std::size_t maximum : {std::size_t(0), std::size_t(1), most / 2, most / 2 + 1, most - 1, most}) {
        const std::vector<AnyFraming> framings = all_with(maximum);
        for (std::size_t i = 0; i < framings.size(); ++i) {
            for (const std::string_view message : {"", "a", "abc"}) {
                for (const bool in_parts : {false, true}) {
                    CAPTURE(maximum);
                    CAPTURE(ordinary[i].name());
                    const Outcome outcome = decode(framings[i], encoded(ordinary[i], message), in_parts);
                    if (message.size() <= maximum) CHECK(outcome == Outcome{{std::string(message)}, {}});
                    if (message.size() > maximum) CHECK(outcome.error.problem == Problem::too_long);
                    CHECK(framings[i].longest() >= std::min(maximum, std::size_t(255)));
                }
            }
        }
    }
    // A machine of 32 bits does not wait for more than it could hold.
    const Error refusal = sizeof most == 8 ? Error::ended_inside_message : Error::message_too_long;
    for (const bool in_parts : {false, true}) {
        for (const std::string_view announced :
             {"\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xfe"}) {
            const Outcome outcome =
                decode(LengthPrefixed(8, std::endian::big, most), std::string(announced) + "rest", in_parts);
            CHECK(outcome.error.code() == refusal);
        }
        CHECK(decode(Netstring(most), "18446744073709551615:rest", in_parts).error.code() == refusal);
        CHECK(decode(FixedLength(most), "rest", in_parts).error.code() == Error::ended_inside_message);
        CHECK(decode(FixedLength(1), "ab", in_parts) == Outcome{{"a", "b"}, {}});
    }
    CHECK_THROWS_AS(FixedLength(0), std::invalid_argument);
}
