// Bytes: a view of octets that other code owns. Everything that is read, written or decoded passes as this. Copy it
// to keep it beyond the call that brought it.
#pragma once

#include <reactor/export.hpp>

#include <cstddef>
#include <span>
#include <string_view>

namespace reactor {

using Bytes = std::span<const std::byte>;

/// The characters of `text` as bytes. No copy: valid as long as the text is.
inline Bytes bytes_of(std::string_view text) noexcept {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// The bytes as characters, whatever they are. No copy: valid as long as the bytes are.
inline std::string_view text_of(Bytes bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace reactor
