// Messages that say first how long they are: as a number of 1, 2, 4 or 8 bytes, as a varint (Protocol
// Buffers) or in decimal digits (netstrings). The announced length is compared with the maximum before anything
// else happens: nothing is allocated for a length, however large it claims to be.
#pragma once

#include <protocols/framing/counted.hpp>

#include <bit>
#include <stdexcept>

namespace reactor {

/// A length of 1, 2, 4 or 8 bytes, unsigned, which does not count itself, and then the message. DNS over TCP
/// (RFC 1035 4.2.2) is width 2, big-endian.
class LengthPrefixed final : public CountedFraming<LengthPrefixed> {
public:
    /// `order` is the length's byte order; network order is big. Throws std::invalid_argument for another
    /// width. If the width cannot express `maximum`, what it can express is the maximum.
    explicit LengthPrefixed(unsigned width = 4, std::endian order = std::endian::big,
                            std::size_t maximum = default_maximum_message)
        : width_(width), big_(order == std::endian::big), maximum_(maximum) {
        if (width != 1 && width != 2 && width != 4 && width != 8) {
            throw std::invalid_argument("a length prefix has 1, 2, 4 or 8 bytes, not " + std::to_string(width));
        }
        if (width < sizeof(std::size_t)) {
            const std::size_t most = (std::size_t(1) << (8 * width)) - 1;
            if (maximum_ > most) maximum_ = most;
        }
    }

    unsigned width() const noexcept { return width_; }
    std::size_t maximum() const noexcept { return maximum_; }
    std::size_t longest() const noexcept { return framing_detail::saturated_sum(maximum_, width_); }
    std::string_view name() const noexcept {
        switch (width_) {
            case 1: return "length:1";
            case 2: return big_ ? "length:2" : "length:2le";
            case 4: return big_ ? "length:4" : "length:4le";
            default: return big_ ? "length:8" : "length:8le";
        }
    }

    Envelope envelope(Bytes message) const noexcept {
        Envelope envelope;
        if (message.size() > maximum_) {
            envelope.error = {FramingError::Problem::too_long, name(), message.size(), maximum_, 0};
            return envelope;
        }
        envelope.header_size = std::uint8_t(width_);
        for (unsigned i = 0; i < width_; ++i) {
            const unsigned shift = 8 * (big_ ? width_ - 1 - i : i);
            envelope.header_bytes[i] = std::byte(std::uint64_t(message.size()) >> shift);
        }
        return envelope;
    }

private:
    friend CountedFraming;
    static constexpr std::size_t trailer_size = 0;

    Prefix prefix(Bytes input) const noexcept {
        if (input.size() < width_) return {};
        return announced(width_, read(input.data()), maximum_);
    }

    // Constant counts in each branch, so that the compiler makes one load of it, and a byte swap.
    std::uint64_t read(const std::byte* from) const noexcept {
        switch (width_) {
            case 1: return std::uint64_t(*from);
            case 2: return big_ ? big<2>(from) : little<2>(from);
            case 4: return big_ ? big<4>(from) : little<4>(from);
            default: return big_ ? big<8>(from) : little<8>(from);
        }
    }
    template <unsigned width>
    static std::uint64_t big(const std::byte* from) noexcept {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < width; ++i) value = value << 8 | std::uint64_t(from[i]);
        return value;
    }
    template <unsigned width>
    static std::uint64_t little(const std::byte* from) noexcept {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < width; ++i) value |= std::uint64_t(from[i]) << (8 * i);
        return value;
    }

    unsigned width_;
    bool big_;
    std::size_t maximum_;
};

/// A varint and then the message, as Protocol Buffers write delimited messages: seven bits a byte, the lowest
/// first, the high bit set on all but the last byte (protobuf.dev/programming-guides/encoding). At most ten
/// bytes and 64 bits; a number in more bytes than it needs is refused, so that each message has one encoding.
class VarintPrefixed final : public CountedFraming<VarintPrefixed> {
public:
    explicit VarintPrefixed(std::size_t maximum = default_maximum_message) noexcept : maximum_(maximum) {}

    std::size_t maximum() const noexcept { return maximum_; }
    std::size_t longest() const noexcept { return framing_detail::saturated_sum(maximum_, longest_prefix); }
    std::string_view name() const noexcept { return "varint"; }

    Envelope envelope(Bytes message) const noexcept {
        Envelope envelope;
        if (message.size() > maximum_) {
            envelope.error = {FramingError::Problem::too_long, name(), message.size(), maximum_, 0};
            return envelope;
        }
        std::uint64_t left = message.size();
        while (left >= 0x80) {
            envelope.header_bytes[envelope.header_size++] = std::byte(left | 0x80);
            left >>= 7;
        }
        envelope.header_bytes[envelope.header_size++] = std::byte(left);
        return envelope;
    }

private:
    friend CountedFraming;
    static constexpr std::size_t trailer_size = 0;
    static constexpr std::size_t longest_prefix = 10;

    Prefix prefix(Bytes input) const noexcept {
        using Problem = FramingError::Problem;
        std::uint64_t value = 0;
        const std::size_t count = std::min(input.size(), longest_prefix);
        for (std::size_t i = 0; i < count; ++i) {
            const auto byte = std::uint64_t(input[i]);
            // The tenth byte holds the 64th bit, and nothing else.
            if (i == longest_prefix - 1 && byte > 1) return broken({Problem::prefix_overflow, name(), 0, 0, 0});
            value |= (byte & 0x7f) << (7 * i);
            if (byte < 0x80) {
                if (byte == 0 && i != 0) return broken({Problem::overlong_prefix, name(), 0, 0, 0});
                return announced(i + 1, value, maximum_);
            }
        }
        return {};
    }

    std::size_t maximum_;
};

/// A netstring: decimal digits, ':', the message, ',' (cr.yp.to/proto/netstrings.txt): "5:hello,".
class Netstring final : public CountedFraming<Netstring> {
public:
    explicit Netstring(std::size_t maximum = default_maximum_message) noexcept : maximum_(maximum) {}

    std::size_t maximum() const noexcept { return maximum_; }
    std::size_t longest() const noexcept { return framing_detail::saturated_sum(maximum_, most_digits + 2); }
    std::string_view name() const noexcept { return "netstring"; }

    Envelope envelope(Bytes message) const noexcept {
        Envelope envelope;
        if (message.size() > maximum_) {
            envelope.error = {FramingError::Problem::too_long, name(), message.size(), maximum_, 0};
            return envelope;
        }
        std::size_t digits = 1;
        for (std::size_t left = message.size(); left >= 10; left /= 10) ++digits;
        std::size_t left = message.size();
        for (std::size_t i = digits; i-- > 0; left /= 10) envelope.header_bytes[i] = std::byte('0' + left % 10);
        envelope.header_bytes[digits] = std::byte(':');
        envelope.header_size = std::uint8_t(digits + 1);
        envelope.trailer = bytes_of(",");
        return envelope;
    }

private:
    friend CountedFraming;
    static constexpr std::size_t trailer_size = 1;
    static constexpr std::size_t most_digits = 20;  // of a number of 64 bits

    Prefix prefix(Bytes input) const noexcept {
        using Problem = FramingError::Problem;
        constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < input.size(); ++i) {
            const auto byte = std::uint64_t(input[i]);
            if (byte == ':' && i != 0) return announced(i + 1, value, maximum_);
            if (byte < '0' || byte > '9') return broken({Problem::not_a_digit, name(), byte, 0, 0});
            if (i != 0 && input[0] == std::byte('0')) return broken({Problem::leading_zero, name(), 0, 0, 0});
            if (i == most_digits) return broken({Problem::too_many_digits, name(), 0, most_digits, 0});
            const std::uint64_t digit = byte - '0';
            value = value > (most - digit) / 10 ? most : value * 10 + digit;  // past the maximum either way
        }
        return {};
    }
    FramingError check_trailer(Bytes trailer) const noexcept {
        if (trailer[0] == std::byte(',')) return {};
        return {FramingError::Problem::lacks_comma, name(), std::uint64_t(trailer[0]), 0, 0};
    }

    std::size_t maximum_;
};

}  // namespace reactor
