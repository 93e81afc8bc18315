// The scans that a parser of HTTP spends its time in: the end of a token, of a request target, of a field value. Each
// returns the first character in [begin, end) that is not of its kind, or `end`. Values are scanned 16 bytes at a time
// where the processor has SSE2; the portable twin gives the same answers, which a test compares for every byte and
// place.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace reactor::http::scan {

enum Kind : std::uint8_t {
    token = 1,        // tchar (RFC 9110, 5.6.2)
    target = 2,       // a character of a request target
    host = 4,         // reg-name without percent-encoding (RFC 3986, 3.2.2)
    hexadecimal = 8,  // HEXDIG
};

// Request targets: all visible ASCII but the characters that delimit a URI in text or begin a fragment. The grammar of
// RFC 3986 has also no \ ^ ` { | }, which browsers send as they are in a query (URL Standard, query percent-encode
// set).
constexpr std::array<std::uint8_t, 256> make_kinds() {
    std::array<std::uint8_t, 256> kinds{};
    const auto add = [&kinds](std::string_view characters, std::uint8_t kind) {
        for (const char character : characters) kinds[static_cast<unsigned char>(character)] |= kind;
    };
    add("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", token | host);
    add("!#$%&'*+-.^_`|~", token);
    add("-._~!$&'()*+,;=", host);
    add("0123456789ABCDEFabcdef", hexadecimal);
    for (unsigned character = 0x21; character < 0x7f; ++character) kinds[character] |= target;
    for (const char character : std::string_view("\"#<>")) {
        kinds[static_cast<unsigned char>(character)] &= static_cast<std::uint8_t>(~target);
    }
    return kinds;
}
inline constexpr std::array<std::uint8_t, 256> kinds = make_kinds();

inline bool is(char character, Kind kind) noexcept {
    return (kinds[static_cast<unsigned char>(character)] & kind) != 0;
}

/// Passes letters, digits, and so many of "-", "." and "/", of which nearly all names and targets consist. It may stop
/// before the end of them; `past` goes on from there.
template <int marks_passed>
inline const char* past_word(const char* begin, [[maybe_unused]] const char* end) noexcept {
#ifdef __SSE2__
    const auto in_range = [](__m128i bytes, char first, char count) noexcept {
        const __m128i places = _mm_sub_epi8(bytes, _mm_set1_epi8(first));
        return _mm_cmpeq_epi8(_mm_min_epu8(places, _mm_set1_epi8(static_cast<char>(count - 1))), places);
    };
    for (; end - begin >= 16; begin += 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(begin));
        const __m128i letters = in_range(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 26);
        const __m128i digits = in_range(bytes, '0', 10);
        const __m128i marks = in_range(bytes, '-', marks_passed);
        const auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letters, digits), marks)));
        if (mask != 0xffff) return begin + std::countr_one(mask);
    }
#endif
    return begin;
}

inline const char* past(const char* begin, const char* end, Kind kind) noexcept {
    while (begin != end && is(*begin, kind)) ++begin;
    return begin;
}

/// May this stand in a field value? HTAB, SP, visible ASCII, and bytes from 0x80 on (obs-text).
inline bool in_value(char character) noexcept {
    const auto byte = static_cast<unsigned char>(character);
    return (byte >= 0x20 && byte != 0x7f) || byte == '\t';
}

/// Are these eight characters visible ASCII or SP? False also for some others that may be in a value.
inline bool all_plain(const char* eight) noexcept {
    std::uint64_t word;
    std::memcpy(&word, eight, sizeof word);
    constexpr std::uint64_t ones = 0x0101010101010101, high = 0x80 * ones;
    const std::uint64_t below_space = (word | high) - 0x20 * ones;   // the high bit goes where a byte is below 0x20
    const std::uint64_t del = ((word ^ 0x7f * ones) | high) - ones;  // and where it is 0x7f
    return ((word | ~below_space | ~del) & high) == 0;
}

inline const char* past_value_portable(const char* begin, const char* end) noexcept {
    while (end - begin >= 8 && all_plain(begin)) begin += 8;
    while (begin != end && in_value(*begin)) ++begin;
    return begin;
}

inline const char* past_value(const char* begin, const char* end) noexcept {
#ifdef __SSE2__
    const __m128i last_control = _mm_set1_epi8(0x1f), del = _mm_set1_epi8(0x7f);
    while (end - begin >= 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(begin));
        const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes);
        const auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(control, _mm_cmpeq_epi8(bytes, del))));
        if (mask == 0) {
            begin += 16;
            continue;
        }
        begin += std::countr_zero(mask);
        if (*begin != '\t') return begin;  // rare in values, so it is looked at by itself
        ++begin;
    }
#endif
    return past_value_portable(begin, end);
}

}  // namespace reactor::http::scan
