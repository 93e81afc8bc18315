#include "http_cases.hpp"

#include <protocols/http/body.hpp>
#include <protocols/http/head.hpp>
#include <protocols/http/scan_impl.hpp>
#include <reactor/testing/cuts.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>

using namespace reactor;
using namespace reactor::http;

namespace {

std::string refusal(Problem problem) {
    return "!" + std::string(describe(problem));
}

std::string named(const RequestHead& head) {
    return std::string(head.method) + ":" + std::string(head.target) + "@" + std::string(head.host);
}

std::string named(const ResponseHead& head) {
    return std::to_string(head.status) + ":" + std::string(head.reason);
}

std::string extras(const Head& head, std::size_t usual_fields) {
    std::string text;
    if (head.minor_version == 0) text += "-old";
    if (!head.keep_alive) text += "-close";
    if (!head.upgrade.empty()) text += "-upgrade=" + std::string(head.upgrade);
    if (usual_fields != 0 && head.fields().size() != usual_fields)
        text += "-fields=" + std::to_string(head.fields().size());
    return text;
}

/// Reads a stream of messages as a connection brings it: unconsumed bytes come again, in memory of exactly their size.
template <class AnyHead>
class Reader {
public:
    std::string read(std::span<const Bytes> pieces, bool with_fields, const HeadLimits& limits = {}) {
        limits_ = limits;
        for (const Bytes piece : pieces) {
            rest_ += text_of(piece);
            const auto exact = std::make_unique<std::byte[]>(rest_.size());
            std::memcpy(exact.get(), rest_.data(), rest_.size());
            Bytes input(exact.get(), rest_.size());
            while (!refused_ && step(input, with_fields)) {
            }
            rest_ = std::string(text_of(input));
        }
        if (!refused_) end();
        return text_;
    }

private:
    static constexpr bool request = std::is_same_v<AnyHead, RequestHead>;

    void item(const std::string& text) { text_ += (text_.empty() ? "" : " ") + text; }

    void refuse(Problem problem) {
        item(refusal(problem));
        refused_ = true;
    }

    bool step(Bytes& input, bool with_fields) {
        if (decoder_) {
            const BodyDecoder::Part part = decoder_->next(input);
            content_ += text_of(part.content);
            input = input.subspan(part.parsed.consumed);
            if (part.parsed.state == Parsed::State::refused) refuse(part.parsed.problem);
            if (part.parsed.state == Parsed::State::complete) finish();
            return part.parsed.state == Parsed::State::complete || part.parsed.consumed > 0;
        }
        AnyHead head;
        Parsed parsed;
        if constexpr (request) {
            parsed = parser_.request(input, head, limits_);
        } else {
            parsed = parser_.response(input, head, limits_);
        }
        if (parsed.state == Parsed::State::refused) refuse(parsed.problem);
        if (parsed.state != Parsed::State::complete) return false;
        item(named(head));
        extras_ = extras(head, with_fields ? 1 : 0);
        if constexpr (request) {
            decoder_.emplace(head);
            if (head.expects_continue) extras_ += "-expects";
        } else {
            decoder_.emplace(head, "GET");
        }
        input = input.subspan(parsed.consumed);
        return true;
    }

    void finish() {
        if (!content_.empty()) text_ += "+" + content_;
        text_ += extras_;
        content_.clear();
        decoder_.reset();
    }

    void end() {
        if constexpr (request) {
            if (decoder_ || !rest_.empty()) text_ += "…";
        } else if (decoder_) {
            const Parsed parsed = decoder_->end();
            parsed.state == Parsed::State::complete ? finish() : refuse(parsed.problem);
        } else if (!rest_.empty()) {
            refuse(Problem::ended_inside_message);
        }
    }

    HeadLimits limits_;
    HeadParser parser_;
    std::optional<BodyDecoder> decoder_;
    std::string rest_, content_, extras_, text_;
    bool refused_ = false;
};

template <class AnyHead>
void check_cases(std::span<const http_cases::Case> cases) {
    for (const http_cases::Case& each : cases) {
        CAPTURE(each.clause);
        CAPTURE(each.input);
        const bool with_fields = each.outcome.find("-fields=") != std::string_view::npos;
        const auto read = [&](std::span<const Bytes> pieces) { return Reader<AnyHead>().read(pieces, with_fields); };
        const Bytes whole = bytes_of(each.input);
        CHECK(read({&whole, 1}) == each.outcome);
        CHECK_NOTHROW(testing::check_every_cut(each.input, read, 300, 1));
    }
}

std::string outcome(std::string_view input, const HeadLimits& limits = {}) {
    const Bytes whole = bytes_of(input);
    const auto read = [&](std::span<const Bytes> pieces) { return Reader<RequestHead>().read(pieces, false, limits); };
    testing::check_every_cut(input, read, 500, 1);
    return read({&whole, 1});
}

}  // namespace

TEST_CASE("every request is understood as the clause says, in whatever pieces it arrives") {
    check_cases<RequestHead>(http_cases::requests());
}

TEST_CASE("every response is understood as the clause says, in whatever pieces it arrives") {
    check_cases<ResponseHead>(http_cases::responses());
}

TEST_CASE("there are at least 215 cases of HTTP") {
    CHECK(http_cases::requests().size() + http_cases::responses().size() >= 215);
}

TEST_CASE("a field is given with its name as it was sent and its value without white space around it") {
    RequestHead head;
    const std::string input = "GET / HTTP/1.1\r\nHost: a\r\nX-Two:  first\t \r\nx-two: second\r\nEmpty:\r\n\r\n";
    const Parsed parsed = HeadParser().request(bytes_of(input), head);
    REQUIRE(parsed.state == Parsed::State::complete);
    CHECK(parsed.consumed == input.size());
    CHECK(head.fields()["x-TWO"] == "first");
    CHECK(head.fields().count("X-Two") == 2);
    CHECK(head.fields()["empty"] == "");
    CHECK_FALSE(head.fields()["absent"].has_value());
    CHECK(head.fields().begin()[1].name == "X-Two");
}

TEST_CASE("an element of a list is found whatever its place, its case and the white space around it") {
    CHECK(list_has("a, b\t,C", "c"));
    CHECK(list_has("a", "A"));
    CHECK(list_has(", ,a", "a"));
    CHECK_FALSE(list_has("ab, ba", "a"));
    CHECK_FALSE(list_has("", "a"));
    CHECK_FALSE(list_has(",,", ""));
}

TEST_CASE("a start line of exactly the limit is accepted, and one byte more is refused") {
    const HeadLimits limits{.start_line = 32, .head = 200, .fields = 5};
    const std::string end = " HTTP/1.1\r\n", host = "Host: a\r\n\r\n";
    const std::string path = "/" + std::string(32 - 4 - end.size() - 1, 'p');
    CHECK(outcome("GET " + path + end + host, limits) == "GET:" + path + "@a");
    CHECK(outcome("GET " + path + "p" + end + host, limits) == refusal(Problem::start_line_too_long));
    CHECK(outcome("GET /" + std::string(100, 'p'), limits) == refusal(Problem::start_line_too_long));
    CHECK(outcome(std::string(33, 'M'), limits) == refusal(Problem::start_line_too_long));
    CHECK(outcome(std::string(32, 'M'), limits) == "…");
}

TEST_CASE("a head of exactly the limit is accepted, and one byte more is refused") {
    const HeadLimits limits{.start_line = 32, .head = 60, .fields = 5};
    const std::string begin = "GET / HTTP/1.1\r\nHost: a\r\nF: ";
    const std::string value(60 - begin.size() - 4, 'v');
    CHECK(outcome(begin + value + "\r\n\r\n", limits) == "GET:/@a");
    CHECK(outcome(begin + value + "v\r\n\r\n", limits) == refusal(Problem::head_too_long));
    CHECK(outcome(begin + std::string(300, 'v'), limits) == refusal(Problem::head_too_long));
}

TEST_CASE("a head with more fields than the limit is refused, before it is complete") {
    const HeadLimits limits{.start_line = 32, .head = 200, .fields = 3};
    const std::string begin = "GET / HTTP/1.1\r\nHost: a\r\nB: 1\r\nC: 2\r\n";
    CHECK(outcome(begin + "\r\n", limits) == "GET:/@a");
    CHECK(outcome(begin + "D: 3\r\n", limits) == refusal(Problem::too_many_fields));
    CHECK(outcome(begin + "Host: a\r\n", limits) == refusal(Problem::too_many_fields));
    CHECK(outcome("GET / HTTP/1.1\r\nHost: a\r\n\r\n", {.start_line = 32, .head = 200, .fields = 0}) ==
          refusal(Problem::too_many_fields));
}

TEST_CASE("of two faults the first one in the stream is reported, in whatever pieces it arrives") {
    const HeadLimits limits{.start_line = 20, .head = 60, .fields = 5};
    CHECK(outcome("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nB d: 1\r\n\r\n", limits) == refusal(Problem::repeated_host));
    CHECK(outcome("GET /\x01" + std::string(100, 'p'), limits) == refusal(Problem::bad_target));
    CHECK(outcome("GET /" + std::string(30, 'p') + "\x01", limits) == refusal(Problem::start_line_too_long));
    CHECK(outcome("GET / HTTP/1.1\r\nA: \x01" + std::string(100, 'p'), limits) == refusal(Problem::bad_field_value));
    CHECK(outcome("GET / HTTP/1.1\r\nA: " + std::string(100, 'p') + "\x01", limits) == refusal(Problem::head_too_long));
}

TEST_CASE("content beyond its limit is refused as soon as it is announced") {
    const BodyLimits limits{.content = 4};
    RequestHead head;
    head.content_length = 5;
    CHECK(BodyDecoder(head).next({}, limits).parsed.problem == Problem::body_too_long);
    head.content_length = 4;
    CHECK(BodyDecoder(head).next(bytes_of("abcd"), limits).parsed.state == Parsed::State::complete);
    head.content_length.reset();
    head.chunked = true;
    BodyDecoder chunks(head);
    Bytes input = bytes_of("3\r\nabc\r\n2\r\n");
    Parsed parsed;
    do {
        parsed = chunks.next(input, limits).parsed;
        input = input.subspan(parsed.consumed);
    } while (parsed.state == Parsed::State::need_more && parsed.consumed > 0);
    CHECK(parsed.problem == Problem::body_too_long);
    ResponseHead response;
    response.status = 200;
    BodyDecoder until_end(response, "GET");
    CHECK(until_end.next(bytes_of("abcd"), limits).parsed.problem == Problem::none);
    CHECK(until_end.next(bytes_of("e"), limits).parsed.problem == Problem::body_too_long);
}

TEST_CASE("chunks that are mostly extensions are refused once these outweigh the content by the limit") {
    RequestHead head;
    head.chunked = true;
    BodyDecoder chunks(head);
    const std::string chunk = "1;" + std::string(1000, 'x') + "\r\na\r\n";
    Problem problem = Problem::none;
    std::size_t count = 0;
    for (; problem == Problem::none && count < 100; ++count) {
        Bytes input = bytes_of(chunk);
        while (problem == Problem::none && !input.empty()) {
            const BodyDecoder::Part part = chunks.next(input, {.overhead = 10'000});
            problem = part.parsed.problem;
            input = input.subspan(part.parsed.consumed);
        }
    }
    CHECK(problem == Problem::chunk_overhead_too_large);
    CHECK(count == 10);
}

TEST_CASE("a response has no content after HEAD, and none after CONNECT that succeeds") {
    ResponseHead head;
    head.status = 200;
    head.content_length = 5;
    CHECK(BodyDecoder(head, "HEAD").complete());
    CHECK(BodyDecoder(head, "CONNECT").complete());
    CHECK_FALSE(BodyDecoder(head, "GET").complete());
    head.status = 407;
    CHECK_FALSE(BodyDecoder(head, "CONNECT").complete());
    CHECK(BodyDecoder(head, "GET").announced() == 5);
}

TEST_CASE("each problem has a sentence, an error code and a status") {
    for (int each = 1; each <= static_cast<int>(Problem::timed_out); ++each) {
        const auto problem = static_cast<Problem>(each);
        CAPTURE(each);
        CHECK(describe(problem) != "an unknown problem");
        CHECK(make_error_code(problem).message() == describe(problem));
        CHECK(status_for(problem) >= 400);
    }
    CHECK(status_for(Problem::head_too_long) == 431);
    CHECK(status_for(Problem::start_line_too_long) == 414);
    CHECK(status_for(Problem::body_too_long) == 413);
    CHECK(status_for(Problem::unsupported_version) == 505);
    CHECK(status_for(Problem::unknown_coding) == 501);
    CHECK(status_for(Problem::bad_expectation) == 417);
    CHECK(status_for(Problem::timed_out) == 408);
}

TEST_CASE("the scans of 16 bytes at a time stop where the portable ones do, for every byte at every place") {
    for (std::size_t place = 0; place < 40; ++place) {
        for (int byte = 0; byte < 256; ++byte) {
            std::string text(40, 'v');
            text[place] = static_cast<char>(byte);
            const char* const begin = text.data();
            const char* const end = begin + text.size();
            const scan::End bounds(begin, end);
            const bool same =
                scan::past_value(begin, bounds) == scan::past_value_portable(begin, end) &&
                scan::past(scan::past_word<false>(begin, bounds), end, scan::token) ==
                    scan::past(begin, end, scan::token) &&
                scan::past(scan::past_word<false>(begin, bounds), end, scan::host) ==
                    scan::past(begin, end, scan::host) &&
                scan::past(scan::past_word<true>(begin, bounds), end, scan::path) == scan::past(begin, end, scan::path);
            if (!same) FAIL("byte ", byte, " at ", place);
        }
    }
}
