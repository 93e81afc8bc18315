// Bytes: a view of octets that other code owns. Everything that is read, written or decoded passes as this. Copy it
// to keep it beyond the call that brought it.
#pragma once

#include <reactor/export.hpp>

#include <concepts>
#include <cstddef>
#include <ranges>
#include <span>
#include <string_view>
#include <type_traits>

namespace reactor {

using Bytes = std::span<const std::byte>;

/// The characters of `text` as bytes. No copy: valid as long as the text is.
inline Bytes bytes_of(std::string_view text) noexcept {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// The same for UTF-8 text, a u8"literal" for example.
inline Bytes bytes_of(std::u8string_view text) noexcept {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// An element of one byte that is a byte of data: char, unsigned char, std::byte or char8_t.
template <class T>
concept OneByte =
    std::same_as<T, char> || std::same_as<T, unsigned char> || std::same_as<T, std::byte> || std::same_as<T, char8_t>;

/// A contiguous range of such elements: a string, a vector, an array, a span. An array of characters is no such range:
/// it is text up to its first NUL, as a literal is, and passes as std::string_view.
template <class Range>
concept ByteRange = std::ranges::contiguous_range<const Range> && std::ranges::sized_range<const Range> &&
                    OneByte<std::remove_cv_t<std::ranges::range_value_t<const Range>>> &&
                    !std::is_convertible_v<const Range&, const char*> &&
                    !std::is_convertible_v<const Range&, const char8_t*>;

/// The elements of `range` as bytes. No copy: valid as long as the range's own memory is.
template <ByteRange Range>
Bytes bytes_of(const Range& range) noexcept {
    return std::as_bytes(std::span(std::ranges::data(range), std::size_t(std::ranges::size(range))));
}

/// What `bytes_of` takes: text, or a contiguous range of bytes.
template <class T>
concept ByteSource = requires(const T& data) {
    bytes_of(data);
};

/// The bytes as characters, whatever they are. No copy: valid as long as the bytes are.
inline std::string_view text_of(Bytes bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace reactor
