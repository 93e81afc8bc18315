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
    path = 16,        // a character of a request target before its query
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
    for (unsigned character = 0x21; character < 0x7f; ++character) kinds[character] |= target | path;
    for (const char character : std::string_view("\"#<>")) {
        kinds[static_cast<unsigned char>(character)] &= static_cast<std::uint8_t>(~(target | path));
    }
    kinds['?'] &= static_cast<std::uint8_t>(~path);
    return kinds;
}
inline constexpr std::array<std::uint8_t, 256> kinds = make_kinds();

inline bool is(char character, Kind kind) noexcept {
    return (kinds[static_cast<unsigned char>(character)] & kind) != 0;
}

/// The end of text, and of the places in it from which 16 bytes can be read.
struct End {
    End() noexcept = default;
    End(const char* begin, const char* its_end) noexcept
        : end(its_end), wide(its_end - begin >= 16 ? its_end - 15 : begin) {}

    const char* end = nullptr;
    const char* wide = nullptr;
};

#ifdef __SSE2__
inline __m128i sixteen(const char* begin) noexcept {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(begin));
}

/// 0xff where a byte is in [first, last], and 0 elsewhere. A sum that puts `last` at the largest signed byte makes it
/// one comparison. The bounds are ASCII.
inline __m128i in_range(__m128i bytes, char first, char last) noexcept {
    const __m128i moved = _mm_add_epi8(bytes, _mm_set1_epi8(static_cast<char>(0x7f - last)));
    return _mm_cmpgt_epi8(moved, _mm_set1_epi8(static_cast<char>(0x7e - (last - first))));
}

/// The places of the bytes that are 0, as bits.
inline unsigned none_of(__m128i bytes) noexcept {
    return static_cast<unsigned>(_mm_movemask_epi8(bytes)) ^ 0xffff;
}
#endif

/// Passes letters, digits, "-", "." and, if `slash`, "/", of which nearly all names and targets consist. It may stop
/// before the end of them, after 16 for instance; `past` goes on from there.
template <bool slash>
inline const char* past_word(const char* begin, [[maybe_unused]] const End& end) noexcept {
#ifdef __SSE2__
    if (begin >= end.wide) return begin;
    const __m128i bytes = sixteen(begin);
    const __m128i letters = in_range(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 'z');
    __m128i others = in_range(bytes, '-', '9');  // "-", ".", "/" and the digits
    if (!slash) others = _mm_andnot_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('/')), others);
    begin += unsigned(std::countr_zero(none_of(_mm_or_si128(letters, others)) | 0x10000));
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
    return byte < 0x20 ? byte == '\t' : byte != 0x7f;
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

inline const char* past_value(const char* begin, const End& end) noexcept {
#ifdef __SSE2__
    while (begin < end.wide) {
        const unsigned none = none_of(in_range(sixteen(begin), ' ', '~'));
        if (none == 0) {
            begin += 16;
            continue;
        }
        begin += unsigned(std::countr_zero(none));
        if (*begin == '\r' || !in_value(*begin)) return begin;
        ++begin;  // HTAB and obs-text are rare, so they are looked at one by one
    }
#endif
    return past_value_portable(begin, end.end);
}

/// Can all of the text stand in a field value?
inline bool all_in_value(std::string_view text) noexcept {
    const char* const end = text.data() + text.size();
#ifdef __SSE2__
    // Nearly always it is plain ASCII, and the last 16 bytes may overlap those before them.
    if (text.size() >= 16) {
        unsigned none = none_of(in_range(sixteen(end - 16), ' ', '~'));
        for (const char* at = text.data(); at < end - 16; at += 16) none |= none_of(in_range(sixteen(at), ' ', '~'));
        if (none == 0) return true;
    }
#endif
    return past_value(text.data(), End(text.data(), end)) == end;
}

inline bool all_in_token(std::string_view text) noexcept {
    const char* const end = text.data() + text.size();
    return past(text.data(), end, token) == end;
}

}  // namespace reactor::http::scan
