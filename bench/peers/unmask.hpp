// The payload of a WebSocket frame for the loop by hand: its mask is taken off and its UTF-8 checked in one pass.
#pragma once

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace bench {

// UTF-8 as it comes (RFC 3629): how many bytes are to follow, and between which the next must be.
struct Utf8 {
    unsigned char missing = 0, low = 0x80, high = 0xBF;

    bool take(unsigned char byte) {
        if (missing > 0) {
            if (byte < low || byte > high) return false;
            low = 0x80, high = 0xBF, --missing;
            return true;
        }
        if (byte < 0x80) return true;
        if (byte < 0xC2 || byte > 0xF4) return false;
        missing = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
        if (byte == 0xE0 || byte == 0xF0) low = byte == 0xE0 ? 0xA0 : 0x90;
        if (byte == 0xED || byte == 0xF4) high = byte == 0xED ? 0x9F : 0x8F;
        return true;
    }
};

// Moves the payload to where it is sent from, without its mask. False if it should be text and is none.
inline bool unmask(const unsigned char* from, std::size_t size, const unsigned char* mask, unsigned char* into,
                   Utf8* text) {
    const unsigned char key[4] = {mask[0], mask[1], mask[2], mask[3]};  // it is written over
    std::size_t at = 0;
#ifdef __SSE2__
    int word;
    std::memcpy(&word, key, sizeof word);
    const __m128i words = _mm_set1_epi32(word);
    const int others = text == nullptr ? 0 : 0xFFFF;  // bytes that are no ASCII
    const auto load = [&](std::size_t place) {
        return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + place)), words);
    };
    const auto store = [&](std::size_t place, __m128i bytes) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(into + place), bytes);
    };
#endif
    while (at < size) {
#ifdef __SSE2__
        if (text == nullptr || text->missing == 0) {
            for (; size - at >= 64; at += 64) {
                const __m128i one = load(at), two = load(at + 16), three = load(at + 32), four = load(at + 48);
                if (_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(one, two), _mm_or_si128(three, four))) & others) break;
                store(at, one), store(at + 16, two), store(at + 32, three), store(at + 48, four);
            }
            for (; size - at >= 16; at += 16) {
                const __m128i bytes = load(at);
                if (_mm_movemask_epi8(bytes) & others) break;
                store(at, bytes);
            }
            if (const std::size_t left = size - at; left < 16) {  // what lies behind it may be read, but not written
                const __m128i bytes = load(at);
                if ((_mm_movemask_epi8(bytes) & others & ((1 << left) - 1)) == 0) {
                    std::memcpy(into + at, &bytes, left);
                    return true;
                }
            }
        }
#endif
        for (const std::size_t end = std::min(at + 16, size); at < end; ++at) {
            into[at] = from[at] ^ key[at % 4];
            if (text != nullptr && !text->take(into[at])) return false;
        }
    }
    return true;
}

}  // namespace bench
