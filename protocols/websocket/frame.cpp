#include <protocols/websocket/frame.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace reactor::websocket {

namespace {

unsigned byte_at(Bytes bytes, std::size_t at) noexcept {
    return std::to_integer<unsigned>(bytes[at]);
}

std::uint64_t number_at(Bytes bytes, std::size_t at, std::size_t size) noexcept {
    std::uint64_t number = 0;
    for (std::size_t place = 0; place < size; ++place) number = number << 8 | byte_at(bytes, at + place);
    return number;
}

constexpr std::uint64_t longest_control = 125;

}  // namespace

bool may_be_sent(std::uint16_t code) noexcept {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

namespace {

// The same mask for bytes that begin so much later.
std::uint32_t turned(std::uint32_t mask, std::size_t by) noexcept {
    const int bits = 8 * static_cast<int>(by % 4);
    return std::endian::native == std::endian::little ? std::rotr(mask, bits) : std::rotl(mask, bits);
}

struct EightBytes {
    explicit EightBytes(std::uint32_t mask) noexcept : value(std::uint64_t(mask) << 32 | mask) {}
    explicit EightBytes(const std::byte* from) noexcept { std::memcpy(&value, from, sizeof value); }
    void store(std::byte* to) const noexcept { std::memcpy(to, &value, sizeof value); }
    EightBytes& operator^=(EightBytes other) noexcept { return value ^= other.value, *this; }
    EightBytes& operator|=(EightBytes other) noexcept { return value |= other.value, *this; }
    bool is_ascii() const noexcept { return (value & 0x8080808080808080) == 0; }
    std::uint64_t value;
};

#ifdef __SSE2__
struct SixteenBytes {
    explicit SixteenBytes(std::uint32_t mask) noexcept : value(_mm_set1_epi32(static_cast<int>(mask))) {}
    explicit SixteenBytes(const std::byte* from) noexcept
        : value(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))) {}
    void store(std::byte* to) const noexcept { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value); }
    SixteenBytes& operator^=(SixteenBytes other) noexcept { return value = _mm_xor_si128(value, other.value), *this; }
    SixteenBytes& operator|=(SixteenBytes other) noexcept { return value = _mm_or_si128(value, other.value), *this; }
    bool is_ascii() const noexcept { return _mm_movemask_epi8(value) == 0; }
    __m128i value;
};
using Block = SixteenBytes;
#else
using Block = EightBytes;
#endif

// In blocks from the front; the last one ends with the bytes, and mostly lies over the one before it.
template <class Block>
[[gnu::always_inline]] inline bool apply_in_blocks(const std::byte* from, std::byte* to, std::size_t size,
                                                   std::uint32_t mask) noexcept {
    constexpr std::size_t width = sizeof(Block);
    const Block masks(mask);
    Block last(from + size - width);  // read first: the two may be the same memory
    last ^= Block(turned(mask, size));
    Block seen = last;
    std::size_t at = 0;
    const auto next = [&]() noexcept {
        Block block(from + at);
        block ^= masks;
        seen |= block;
        block.store(to + at);
        at += width;
    };
    while (size - at >= 4 * width)
        for (int each = 0; each < 4; ++each) next();
    if ((size & 2 * width) != 0)
        for (int each = 0; each < 2; ++each) next();
    if ((size & width) != 0) next();
    last.store(to + size - width);
    return seen.is_ascii();
}

}  // namespace

bool apply_mask(const std::byte* from, std::byte* to, std::size_t size, std::uint32_t mask) noexcept {
    if (size >= sizeof(Block)) return apply_in_blocks<Block>(from, to, size, mask);
    if (size >= sizeof(EightBytes)) return apply_in_blocks<EightBytes>(from, to, size, mask);
    std::array<unsigned char, 4> bytes;
    std::memcpy(bytes.data(), &mask, sizeof mask);
    unsigned seen = 0;
    for (std::size_t at = 0; at < size; ++at) {
        to[at] = from[at] ^ std::byte(bytes[at % 4]);
        seen |= std::to_integer<unsigned>(to[at]);
    }
    return (seen & 0x80) == 0;
}

bool apply_mask(const std::byte* from, std::byte* to, std::size_t size, const std::array<unsigned char, 4>& mask,
                std::size_t place) noexcept {
    std::uint32_t from_first;
    std::memcpy(&from_first, mask.data(), sizeof from_first);
    return apply_mask(from, to, size, turned(from_first, place));
}

FrameDecoder::Step FrameDecoder::control(Bytes payload, std::size_t consumed, unsigned opcode) {
    Step step;
    step.consumed = consumed;
    step.payload = payload;
    if (opcode != 8) {
        step.event = opcode == 9 ? Event::ping : Event::pong;
        return step;
    }
    // RFC 6455, 5.5.1: nothing, or a code and a reason in UTF-8.
    step.event = Event::close;
    step.code = close_code::none_received;
    if (payload.empty()) return step;
    if (payload.size() == 1) return refuse(close_code::protocol_error, "a close frame with half a code");
    step.code = static_cast<std::uint16_t>(number_at(payload, 0, 2));
    step.payload = payload.subspan(2);
    if (!may_be_sent(step.code))
        return refuse(close_code::protocol_error, "a close frame with a code that is not sent");
    Utf8Check reason;
    if (!reason.accept(step.payload) || !reason.complete()) {
        return refuse(close_code::invalid_data, "the reason of a close frame is not UTF-8");
    }
    return step;
}

/// The payload of a data frame, as far as it is there. `consumed`: the bytes before `input` that belong to this step.
[[gnu::always_inline]] inline FrameDecoder::Step FrameDecoder::data(Bytes input, std::size_t consumed,
                                                                    std::vector<std::byte>& room) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size()));
    Step step;
    step.consumed = consumed + size;
    step.payload = input.first(size);
    left_ -= size;
    bool is_ascii = false;
    if (role_ == Role::server) {
        if (room.size() < size) room.resize(size);
        is_ascii = apply_mask(input.data(), room.data(), size, mask_, mask_place_);
        mask_place_ = static_cast<std::uint8_t>((mask_place_ + size) % 4);
        step.payload = Bytes(room).first(size);
    }
    if (left_ == 0) {
        in_frame_ = false;
        step.last = final_;
        if (final_) in_message_ = false;
    }
    if (kind_ == Kind::text && !compressed_) {
        if (!(is_ascii && text_.complete()) && !text_.accept(step.payload)) {
            return refuse(close_code::invalid_data, "a text is not UTF-8");
        }
        if (step.last && !text_.complete()) return refuse(close_code::invalid_data, "a text ends inside a character");
    }
    if (size == 0 && !step.last) {  // no event yet: the head is consumed
        step.event = Event::need_more;
        return step;
    }
    step.event = Event::part;
    return step;
}

/// The head of a frame (RFC 6455, 5.2), and all of a control frame, which is short. True if data is to follow it at
/// `head`; otherwise `step` is the result.
[[gnu::always_inline]] inline bool FrameDecoder::begin_frame(Bytes input, std::vector<std::byte>& room, Step& step,
                                                             std::size_t& head) {
    const auto refuse_with = [&step](std::uint16_t code, std::string_view why) noexcept {
        step = refuse(code, why);
        return false;
    };
    if (input.empty()) return false;
    const unsigned first = byte_at(input, 0), opcode = first & 0x0f;
    const bool final = (first & 0x80) != 0, is_control = opcode >= 8;
    // RFC 7692, 6: RSV1 of a message's first frame.
    const bool compressed = may_be_compressed_ && (first & 0x70) == 0x40 && (opcode == 1 || opcode == 2);
    if ((first & 0x70) != 0 && !compressed) return refuse_with(close_code::protocol_error, "a reserved bit is set");
    if ((opcode > 2 && opcode < 8) || opcode > 10) return refuse_with(close_code::protocol_error, "an unknown opcode");
    if (is_control && !final) return refuse_with(close_code::protocol_error, "a control frame in fragments");
    if (opcode == 0 && !in_message_) return refuse_with(close_code::protocol_error, "a continuation of nothing");
    if (!is_control && opcode != 0 && in_message_) {
        return refuse_with(close_code::protocol_error, "a message inside another one");
    }
    if (input.size() < 2) return false;

    const unsigned second = byte_at(input, 1);
    const bool masked = (second & 0x80) != 0;
    if (masked != (role_ == Role::server)) {
        return refuse_with(close_code::protocol_error, masked ? "a mask from a server" : "no mask from a client");
    }
    std::uint64_t length = second & 0x7f;
    const std::size_t length_size = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (is_control && length > longest_control)
        return refuse_with(close_code::protocol_error, "a control frame is too long");
    head = 2 + length_size + (masked ? 4 : 0);
    if (input.size() < 2 + length_size) return false;
    if (length_size != 0) {
        length = number_at(input, 2, length_size);
        const std::uint64_t least = length_size == 2 ? 126 : 65536;
        if (length < least) return refuse_with(close_code::protocol_error, "a length in more bytes than it needs");
        if (length >> 63 != 0) return refuse_with(close_code::protocol_error, "a length with its highest bit set");
    }
    // A limit is checked as soon as the length is known, before any of the payload.
    const std::uint64_t taken = opcode == 0 ? taken_ : 0;
    if (!is_control && length > longest_ - std::min(taken, longest_)) {
        return refuse_with(close_code::message_too_big, "a message is too long");
    }
    if (input.size() < head) return false;
    if (masked) std::memcpy(mask_.data(), input.data() + 2 + length_size, 4);
    mask_place_ = 0;

    if (is_control) {
        const auto size = static_cast<std::size_t>(length);
        if (input.size() - head < size) return false;
        Bytes payload = input.subspan(head, size);
        if (masked) {
            if (room.size() < size) room.resize(size);
            apply_mask(payload.data(), room.data(), size, mask_, 0);
            payload = Bytes(room).first(size);
        }
        step = control(payload, head + size, opcode);
        return false;
    }
    if (opcode != 0) {
        kind_ = opcode == 1 ? Kind::text : Kind::binary;
        compressed_ = compressed;
        text_ = {};
    }
    in_message_ = in_frame_ = true;
    final_ = final;
    left_ = length;
    taken_ = taken + length;
    return true;
}

// Both are compiled into this, which a message of 125 bytes notices.
FrameDecoder::Step FrameDecoder::next(Bytes input, std::vector<std::byte>& room) {
    std::size_t head = 0;
    if (!in_frame_) {
        Step step;
        if (!begin_frame(input, room, step, head)) return step;
    }
    return data(input.subspan(head), head, room);
}

std::size_t Frame::write_long_head(std::span<std::byte, 14> head, Opcode opcode, std::uint64_t length, bool final,
                                   const std::uint32_t* mask) noexcept {
    const unsigned mask_bit = mask != nullptr ? 0x80 : 0;
    head[0] = std::byte((final ? 0x80u : 0u) | static_cast<unsigned>(opcode));
    std::size_t size = 2;
    const auto put = [&](std::size_t bytes) noexcept {
        for (std::size_t place = 0; place < bytes; ++place)
            head[size++] = std::byte(static_cast<unsigned char>(length >> (8 * (bytes - 1 - place))));
    };
    if (length < 126) {
        head[1] = std::byte(mask_bit | static_cast<unsigned>(length));
    } else if (length < 65536) {
        head[1] = std::byte(mask_bit | 126);
        put(2);
    } else {
        head[1] = std::byte(mask_bit | 127);
        put(8);
    }
    if (mask != nullptr) {
        std::memcpy(head.data() + size, mask, 4);
        size += 4;
    }
    return size;
}

namespace {

std::vector<std::byte> make_frame(Frame::Opcode opcode, Bytes payload, bool final, const std::uint32_t* mask) {
    std::array<std::byte, 14> head;
    const std::size_t size = Frame::write_head(head, opcode, payload.size(), final, mask);
    std::vector<std::byte> frame(size + payload.size());
    std::copy_n(head.begin(), size, frame.begin());
    if (mask == nullptr) {
        std::copy(payload.begin(), payload.end(), frame.begin() + std::ptrdiff_t(size));
    } else {
        std::array<unsigned char, 4> bytes;
        std::memcpy(bytes.data(), mask, 4);
        apply_mask(payload.data(), frame.data() + size, payload.size(), bytes, 0);
    }
    return frame;
}

}  // namespace

std::vector<std::byte> Frame::unmasked(Opcode opcode, Bytes payload, bool final) {
    return make_frame(opcode, payload, final, nullptr);
}

std::vector<std::byte> Frame::masked(Opcode opcode, Bytes payload, std::uint32_t mask, bool final) {
    return make_frame(opcode, payload, final, &mask);
}

}  // namespace reactor::websocket
