// Utf8Check: whether bytes are UTF-8, in whatever pieces they come.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/export.hpp>

#include <cstdint>

namespace reactor::websocket {

/// Checks one text after another (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
class REACTOR_EXPORT Utf8Check {
public:
    /// The next piece. False as soon as no continuation could make the text valid.
    bool accept(Bytes piece) noexcept;
    /// Is the text whole? False inside a character.
    bool complete() const noexcept { return missing_ == 0; }

private:
    std::uint8_t missing_ = 0;                 // continuation bytes of the character under way
    std::uint8_t least_ = 0x80, most_ = 0xbf;  // bounds of the next one
};

}  // namespace reactor::websocket
