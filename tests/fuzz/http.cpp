// The parsers of HTTP, for requests and for responses: any split of a stream gives the same messages and the same
// refusal; every part of a head lies in the input and is made of the characters that it may have; and a message that
// was understood is understood alike when it is written again. The first bytes choose the side, the limits and the
// splits.
#include "fuzz.hpp"

#include <protocols/http/body.hpp>
#include <protocols/http/head.hpp>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace reactor;
using namespace reactor::http;

void check_inside(std::string_view part, Bytes input) {
    const std::string_view whole = text_of(input);
    fuzz::require(
        part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size()),
        "a view lies in the input");
}

void check_fields(const Head& head, Bytes input, const HeadLimits& limits) {
    fuzz::require(head.fields().size() <= limits.fields, "the limit of fields holds");
    for (const Field& field : head.fields()) {
        check_inside(field.name, input);
        check_inside(field.value, input);
        fuzz::require(!field.name.empty() && field.name.find_first_of(" \t\r\n:") == std::string_view::npos,
                      "a name is a token");
        fuzz::require(field.value.find_first_of("\r\n") == std::string_view::npos &&
                          (field.value.empty() ||
                           (!std::strchr(" \t", field.value.front()) && !std::strchr(" \t", field.value.back()))),
                      "a value is one line, without white space around it");
    }
    fuzz::require(!(head.chunked && head.content_length), "the content has one end");
}

std::string start_line(const RequestHead& head) {
    return std::string(head.method) + " " + std::string(head.target) + " HTTP/1." + std::to_string(head.minor_version);
}
std::string start_line(const ResponseHead& head) {
    return "HTTP/1." + std::to_string(head.minor_version) + " " + std::to_string(head.status) + " " +
           std::string(head.reason);
}

/// The head as it is written: one spelling for all that mean the same.
template <class AnyHead>
std::string written(const AnyHead& head) {
    std::string text = start_line(head) + "\r\n";
    for (const Field& field : head.fields()) text += std::string(field.name) + ": " + std::string(field.value) + "\r\n";
    return text + "\r\n";
}

Parsed parse(HeadParser& parser, Bytes input, RequestHead& head, const HeadLimits& limits) {
    return parser.request(input, head, limits);
}
Parsed parse(HeadParser& parser, Bytes input, ResponseHead& head, const HeadLimits& limits) {
    return parser.response(input, head, limits);
}
BodyDecoder content_of(const RequestHead& head) {
    return BodyDecoder(head);
}
BodyDecoder content_of(const ResponseHead& head) {
    return BodyDecoder(head, "GET");
}

/// Reads the stream as a connection brings it, in memory of exactly its size each time. Returns all that was
/// understood.
template <class AnyHead>
std::string read(std::string_view stream, const std::vector<std::size_t>& pieces, const HeadLimits& limits) {
    std::string text, content;
    HeadParser parser;
    std::optional<BodyDecoder> decoder;
    std::size_t consumed = 0, come = 0;
    for (const std::size_t piece : pieces) {
        come += piece;
        for (bool more = true; more && consumed < come;) {
            const std::vector<char> exact(stream.begin() + std::ptrdiff_t(consumed),
                                          stream.begin() + std::ptrdiff_t(come));
            const Bytes input = bytes_of({exact.data(), exact.size()});
            Parsed parsed;
            if (decoder) {
                const BodyDecoder::Part part =
                    decoder->next(input, {.content = 300, .overhead = 100, .trailer = limits});
                parsed = part.parsed;
                check_inside(text_of(part.content), input);
                content += text_of(part.content);
                if (parsed.state == Parsed::State::complete) {
                    text += std::exchange(content, {}) + "\n";
                    decoder.reset();
                }
                more = parsed.consumed > 0 || parsed.state == Parsed::State::complete;
            } else {
                AnyHead head;
                parsed = parse(parser, input, head, limits);
                more = parsed.state == Parsed::State::complete;
                if (more) {
                    check_fields(head, input, limits);
                    fuzz::require(parsed.consumed > 0, "a head consumes something");
                    const std::string again = written(head);
                    AnyHead other;
                    HeadParser second;
                    fuzz::require(parse(second, bytes_of(again), other, {}).state == Parsed::State::complete,
                                  "what was understood is understood again");
                    fuzz::require(written(other) == again && other.chunked == head.chunked &&
                                      other.keep_alive == head.keep_alive &&
                                      other.content_length == head.content_length && other.upgrade == head.upgrade,
                                  "and means the same");
                    text += again;
                    decoder.emplace(content_of(head));
                }
            }
            fuzz::require(parsed.consumed <= input.size(), "no more is consumed than there is");
            consumed += parsed.consumed;
            if (parsed.state == Parsed::State::refused) {
                fuzz::require(parsed.problem != Problem::none && status_for(parsed.problem) >= 400,
                              "a refusal says why");
                return text + "!" + std::string(describe(parsed.problem));
            }
        }
    }
    if (decoder) text += content + (decoder->end().state == Parsed::State::complete ? "." : "…");
    return text;
}

template <class AnyHead>
void check(std::string_view stream, const HeadLimits& limits, unsigned seed) {
    std::minstd_rand random(seed);
    const std::string whole = read<AnyHead>(stream, {stream.size()}, limits);
    for (std::size_t way = 0; way < 4; ++way) {
        std::vector<std::size_t> pieces;
        for (std::size_t left = stream.size(); left > 0; left -= pieces.back())
            pieces.push_back(way == 0 ? 1 : std::min<std::size_t>(left, 1 + random() % (way * way * 9)));
        fuzz::require(read<AnyHead>(stream, pieces, limits) == whole, "any split gives the same messages");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t kind = input.byte();
    const unsigned seed = input.byte() + 1u;
    HeadLimits limits;
    if ((kind & 2) != 0) limits = {.start_line = 24, .head = 80, .fields = 3};
    // The end of a line: a line that came in pieces is not looked at before its end.
    const std::string stream = std::string(input.rest().substr(0, 1000)) + "\r\n\r\n";
    (kind & 1) != 0 ? check<ResponseHead>(stream, limits, seed) : check<RequestHead>(stream, limits, seed);
    return 0;
}
