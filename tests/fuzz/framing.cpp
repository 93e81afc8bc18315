// Every framing: any split of the stream gives the same messages and the same end, whole or in parts; a decoded
// message encodes again; and the work is linear, or libFuzzer's timeout ends it. The first bytes choose the framing,
// the longest message, and the cuts of the rest.
#include "fuzz.hpp"

#include <protocols/framing/any_framing.hpp>

#include <random>
#include <string>
#include <vector>

namespace {

using namespace reactor;

struct Result {
    std::vector<std::string> messages;
    FramingError::Problem problem = FramingError::Problem::none;
    friend bool operator==(const Result&, const Result&) = default;
};

AnyFraming framing_for(std::size_t kind, std::size_t maximum, std::string_view delimiter) {
    switch (kind) {
        case 0: return FixedLength(maximum + 1);
        case 1: return Delimited(delimiter, maximum);
        case 2: return Delimited(delimiter, maximum, Delimited::Delimiter::keep);
        case 3: return Lines(maximum);
        case 4: return LengthPrefixed(1, std::endian::big, maximum);
        case 5: return LengthPrefixed(2, std::endian::little, maximum);
        case 6: return LengthPrefixed(4, std::endian::big, maximum);
        case 7: return LengthPrefixed(8, std::endian::little, maximum);
        case 8: return VarintPrefixed(maximum);
        case 9: return Netstring(maximum);
        default: return UntilClose(maximum);
    }
}
constexpr std::size_t kinds = 11;

/// Feeds the stream in pieces, of which the unconsumed rest stays in front; a copy each time, of exactly the size.
Result feed(AnyFraming framing, std::string_view stream, const std::vector<std::size_t>& pieces, bool in_parts) {
    Result result;
    std::string message;
    std::size_t consumed = 0, come = 0;
    for (const std::size_t piece : pieces) {
        come += piece;
        while (consumed < come) {  // as Framed does: a framing is never asked about nothing
            const std::vector<char> input(stream.begin() + std::ptrdiff_t(consumed),
                                          stream.begin() + std::ptrdiff_t(come));
            const Bytes bytes = bytes_of({input.data(), input.size()});
            const Decoded decoded = in_parts ? framing.next_part(bytes) : framing.next(bytes);
            fuzz::require(decoded.consumed <= input.size(), "no more is consumed than there is");
            consumed += decoded.consumed;
            if (decoded.status == Decoded::Status::malformed) {
                result.problem = decoded.error.problem;
                fuzz::require(bool(decoded.error) && bool(decoded.error.code()) && !decoded.error.to_string().empty(),
                              "an error says what it is");
                return result;
            }
            if (decoded.status == Decoded::Status::need_more) {
                fuzz::require(in_parts || decoded.consumed == 0, "only parts are consumed before a message is whole");
                break;
            }
            fuzz::require(decoded.consumed > 0, "a message consumes something");
            fuzz::require(!decoded.message.empty() || decoded.last, "only the last part may be empty");
            message += text_of(decoded.message);
            if (!in_parts || decoded.last) result.messages.push_back(std::exchange(message, {}));
        }
    }
    const std::string rest(stream.substr(consumed));
    const Decoded end = framing.end(bytes_of(rest));
    if (end.status == Decoded::Status::malformed) result.problem = end.error.problem;
    if (end.status == Decoded::Status::message) result.messages.push_back(message + std::string(text_of(end.message)));
    return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::size_t kind = input.below(kinds), maximum = input.byte();
    const std::string_view delimiter = input.text(1 + input.below(4));
    std::minstd_rand random(input.byte() + 1u);
    const bool amplified = input.byte() == 'L';
    const std::string_view stream = input.rest().substr(0, 2000);
    const AnyFraming framing = framing_for(kind, maximum, delimiter.empty() ? "\n" : delimiter);

    const Result whole = feed(framing, stream, {stream.size()}, false);
    const Result parts = feed(framing, stream, {stream.size()}, true);
    for (std::size_t way = 0; way < 4; ++way) {
        std::vector<std::size_t> pieces;
        for (std::size_t left = stream.size(); left > 0;) {
            pieces.push_back(way == 0 ? 1 : std::min<std::size_t>(left, 1 + random() % (way * 7)));
            left -= pieces.back();
        }
        fuzz::require(feed(framing, stream, pieces, false) == whole, "any split gives the same messages");
        fuzz::require(feed(framing, stream, pieces, true) == parts, "any split gives the same messages in parts");
    }
    if (whole.problem == FramingError::Problem::none)
        fuzz::require(whole == parts, "the parts of a message make the message");

    std::string again;
    bool sendable = true;
    for (const std::string& message : whole.messages) {
        const Envelope envelope = framing.envelope(bytes_of(message));
        sendable = sendable && !envelope.error;
        again.append(text_of(envelope.header())).append(message).append(text_of(envelope.trailer));
    }
    // A line may hold a carriage return that sending would turn into an ending; the framing says so.
    if (sendable && whole.problem == FramingError::Problem::none)
        fuzz::require(feed(framing, again, {again.size()}, false).messages == whole.messages,
                      "what came can be sent, and comes again");

    if (amplified && !stream.empty()) {
        // Never copied, byte by byte: quadratic work would take minutes here.
        std::string large;
        while (large.size() < 256 * 1024) large += stream;
        AnyFraming patient = framing_for(kind, large.size(), delimiter.empty() ? "\n" : delimiter);
        std::size_t consumed = 0;
        for (std::size_t come = 1; come <= large.size(); ++come) {
            const Decoded decoded = patient.next(bytes_of(std::string_view(large).substr(consumed, come - consumed)));
            if (decoded.status == Decoded::Status::malformed) break;
            consumed += decoded.consumed;
        }
    }
    return 0;
}
