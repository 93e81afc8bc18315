#include "cases.hpp"

#include <protocols/websocket/frame.hpp>
#include <protocols/websocket/utf8.hpp>
#include <reactor/testing/cuts.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::websocket;

namespace {

std::string shown(std::string_view content) {
    return content.size() <= 64 ? std::string(content) : "(" + std::to_string(content.size()) + ")";
}

/// Decodes a stream as a connection brings it: unconsumed bytes come again, in memory of exactly their size. A
/// WebSocket asks for a short message first.
std::string decode(Role role, std::span<const Bytes> pieces, bool short_first = true) {
    FrameDecoder decoder(role, 100'000);
    std::string rest, message, text;
    std::vector<std::byte> room;
    bool over = false;
    for (const Bytes piece : pieces) {
        rest += text_of(piece);
        const auto exact = std::make_unique<std::byte[]>(rest.size());
        std::memcpy(exact.get(), rest.data(), rest.size());
        Bytes input(exact.get(), rest.size());
        while (!over && !input.empty()) {
            FrameDecoder::ShortRoom few;
            FrameDecoder::Step step;
            if (!short_first || !decoder.next_short(input, few, step)) step = decoder.next(input, room);
            input = input.subspan(step.consumed);
            using Event = FrameDecoder::Event;
            if (step.event == Event::need_more && step.consumed == 0) break;
            const std::string payload = shown(text_of(step.payload)) + " ";
            switch (step.event) {
                case Event::need_more: break;
                case Event::part:
                    message += text_of(step.payload);
                    if (!step.last) break;
                    text += (decoder.kind() == Kind::text ? "text:" : "binary:") + shown(message) + " ";
                    message.clear();
                    break;
                case Event::ping: text += "ping:" + payload; break;
                case Event::pong: text += "pong:" + payload; break;
                case Event::close:
                    text += "close:" + std::to_string(step.code) + ":" + payload;
                    over = true;
                    break;
                case Event::refused:
                    text += "!" + std::to_string(step.code) + ":" + std::string(step.why) + " ";
                    over = true;
                    break;
            }
        }
        rest = std::string(text_of(input));
    }
    if (!over && (!rest.empty() || decoder.inside_message())) text += "…";
    return text;
}

}  // namespace

TEST_CASE("every stream of frames is understood as the clause says, in whatever pieces it arrives, by both sides") {
    for (const Role role : {Role::server, Role::client}) {
        const auto cases = websocket_cases::all(role == Role::server);
        CHECK(cases.size() >= 400);
        std::set<std::string> different;
        for (const websocket_cases::Case& each : cases) {
            CAPTURE(each.clause);
            CAPTURE(each.outcome);
            different.insert(each.input);
            const auto read = [&](std::span<const Bytes> pieces) { return decode(role, pieces); };
            const Bytes whole = bytes_of(each.input);
            CHECK(read({&whole, 1}) == each.outcome);
            CHECK(decode(role, {&whole, 1}, false) == each.outcome);
            if (each.input.size() <= 1000) {
                CHECK_NOTHROW(testing::check_every_cut(each.input, read, 60, 1));
                continue;
            }
            // A long payload is alike in its middle: it is cut in its head, and before its end.
            for (const std::size_t place : {std::size_t(1), std::size_t(2), std::size_t(3), std::size_t(9),
                                            std::size_t(10), std::size_t(13), std::size_t(14), each.input.size() - 1}) {
                const Bytes pieces[] = {whole.first(place), whole.subspan(place)};
                CHECK(read(pieces) == each.outcome);
            }
        }
        CHECK(different.size() >= 400);
    }
}

TEST_CASE("a frame that was made is decoded again, with and without a mask") {
    for (const std::size_t size : {0u, 1u, 125u, 126u, 65535u, 65536u}) {
        const std::string content(size, 'c');
        for (const bool masked : {false, true}) {
            const auto frame = masked ? Frame::masked(Frame::Opcode::text, bytes_of(content), 0x12345678)
                                      : Frame::unmasked(Frame::Opcode::text, bytes_of(content));
            FrameDecoder decoder(masked ? Role::server : Role::client, 100'000);
            std::vector<std::byte> room;
            const FrameDecoder::Step step = decoder.next(frame, room);
            CHECK(step.event == FrameDecoder::Event::part);
            CHECK(step.last);
            CHECK(step.consumed == frame.size());
            CHECK(text_of(step.payload) == content);
        }
    }
}

TEST_CASE("a mask is applied alike at every place and length, and tells if the result is ASCII") {
    const std::array<unsigned char, 4> mask = {0x37, 0xfa, 0x21, 0x3d};
    for (std::size_t size = 0; size < 200; ++size) {
        for (std::size_t place = 0; place < 4; ++place) {
            std::vector<std::byte> plain(size), masked(size), result(size);
            for (std::size_t at = 0; at < size; ++at) {
                plain[at] = std::byte('a' + at % 26);
                masked[at] = plain[at] ^ std::byte(mask[(place + at) % 4]);
            }
            const bool is_ascii = apply_mask(masked.data(), result.data(), size, mask, place);
            CHECK((is_ascii && result == plain));
            std::vector<std::byte> in_place = masked;
            CHECK(apply_mask(in_place.data(), in_place.data(), size, mask, place));
            CHECK(in_place == plain);
            for (std::size_t other = 0; other < size; ++other) {
                masked[other] ^= std::byte(0x80);
                if (apply_mask(masked.data(), result.data(), size, mask, place)) FAIL("byte ", other, " of ", size);
                masked[other] ^= std::byte(0x80);
            }
        }
    }
}

TEST_CASE("exactly the characters of Unicode are UTF-8") {
    // Encoded here by the definition, for every number of up to 21 bits.
    std::size_t accepted = 0;
    for (std::uint32_t number = 0; number < 0x200000; ++number) {
        std::string text;
        const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (number >> shift & 0x3f)); };
        if (number < 0x80) {
            text += static_cast<char>(number);
        } else if (number < 0x800) {
            text += static_cast<char>(0xc0 | number >> 6);
            tail(0);
        } else if (number < 0x10000) {
            text += static_cast<char>(0xe0 | number >> 12);
            tail(6);
            tail(0);
        } else {
            text += static_cast<char>(0xf0 | number >> 18);
            tail(12);
            tail(6);
            tail(0);
        }
        const bool is_character = number < 0x110000 && (number < 0xd800 || number > 0xdfff);
        Utf8Check check;
        const bool valid = check.accept(bytes_of(text)) && check.complete();
        if (valid != is_character) FAIL("U+", number);
        accepted += valid;
    }
    CHECK(accepted == 0x110000 - 0x800);
}
