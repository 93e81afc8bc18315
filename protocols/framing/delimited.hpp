// Messages that end in a delimiter, and lines, which end in LF or CRLF. The delimiter is looked for by its
// last byte with memchr, and each byte is looked at once, in whatever pieces it comes; how far the search
// came is remembered, also across a delimiter that is cut in two.
#pragma once

#include <protocols/framing/framing.hpp>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace reactor {

namespace framing_detail {

inline constexpr std::size_t not_found = std::numeric_limits<std::size_t>::max();

/// Where in [from, to) `byte` stands first.
inline std::size_t find_byte(Bytes input, std::size_t from, std::size_t to, std::byte byte) noexcept {
    if (from >= to) return not_found;
    const void* found = std::memchr(input.data() + from, std::to_integer<int>(byte), to - from);
    return found == nullptr ? not_found : std::size_t(static_cast<const std::byte*>(found) - input.data());
}

inline bool equal(Bytes a, Bytes b) noexcept {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

inline Decoded ended_inside(std::string_view framing, std::size_t came) noexcept {
    return Decoded::broken({FramingError::Problem::ended, framing, 0, 0, came});
}

}  // namespace framing_detail

/// Messages that end in any delimiter of one byte or more.
class Delimited final {
public:
    /// Is the delimiter part of the message?
    enum class Delimiter : bool {
        strip,  ///< messages come, and are sent, without it
        keep,   ///< messages bring it along, both ways
    };

    /// `maximum` counts the bytes before the delimiter. Throws std::invalid_argument for an empty delimiter.
    /// A long delimiter whose last byte is frequent in the messages is slower to find than one whose last
    /// byte is rare.
    explicit Delimited(std::string_view delimiter, std::size_t maximum = default_maximum_message,
                       Delimiter treatment = Delimiter::strip)
        : delimiter_(delimiter), maximum_(maximum), keep_(treatment == Delimiter::keep) {
        if (delimiter.empty()) throw std::invalid_argument("a delimiter must have at least one byte");
    }

    std::string_view delimiter() const noexcept { return delimiter_; }
    std::size_t maximum() const noexcept { return maximum_; }
    std::size_t longest() const noexcept { return framing_detail::saturated_sum(maximum_, delimiter_.size()); }
    std::string_view name() const noexcept { return "delimited"; }

    Decoded next(Bytes input) noexcept {
        const std::size_t at = find(input, maximum_);
        if (at != framing_detail::not_found) {
            return Decoded::of(input.first(at + (keep_ ? delimiter_.size() : 0)), at + delimiter_.size());
        }
        if (input.size() > maximum_ && input.size() - begun(input) > maximum_) [[unlikely]]
            return too_long();
        return {};
    }

    Decoded next_part(Bytes input) noexcept {
        const std::size_t allowed = maximum_ - taken_;
        const std::size_t at = find(input, allowed);
        if (at != framing_detail::not_found) {
            taken_ = 0;
            return Decoded::of(input.first(at + (keep_ ? delimiter_.size() : 0)), at + delimiter_.size());
        }
        const std::size_t sure = input.size() - begun(input);  // the rest may be the delimiter's beginning
        if (sure > allowed) return too_long();
        if (sure == 0) return {};
        taken_ += sure;
        searched_ -= std::min(searched_, sure);
        return Decoded::of(input.first(sure), sure, false);
    }

    Decoded end(Bytes rest) noexcept {
        if (rest.empty() && taken_ == 0) return {};
        return framing_detail::ended_inside(name(), taken_ + rest.size());
    }

    /// The message must not hold the delimiter, nor end in such a way that one begins inside it and ends
    /// outside. If messages bring their delimiter, it must stand at the end and nowhere before.
    Envelope envelope(Bytes message) const noexcept {
        using Problem = FramingError::Problem;
        const Bytes delimiter = bytes_of(delimiter_);
        Envelope envelope;
        if (keep_) {
            const std::size_t size = delimiter.size();
            if (message.size() < size || !framing_detail::equal(message.last(size), delimiter)) {
                envelope.error = {Problem::lacks_delimiter, name(), message.size(), 0, 0};
                return envelope;
            }
            message = message.first(message.size() - size);
        } else {
            envelope.trailer = delimiter;
        }
        if (message.size() > maximum_) {
            envelope.error = {Problem::too_long, name(), message.size(), maximum_, 0};
        } else if (const std::size_t at = first_end(message); at != message.size()) {
            envelope.error = {Problem::contains_delimiter, name(), message.size(), 0, at};
        }
        return envelope;
    }

private:
    /// Where the delimiter starts, if a message of at most `allowed` bytes ends in it.
    std::size_t find(Bytes input, std::size_t allowed) noexcept {
        const std::size_t size = delimiter_.size();
        const std::size_t end = std::min(input.size(), framing_detail::saturated_sum(allowed, size));
        const std::size_t at = search(input, std::max(searched_, size - 1), end);
        searched_ = at == framing_detail::not_found ? end : 0;
        return at;
    }

    /// Where the delimiter starts of which the last byte stands in [from, end).
    std::size_t search(Bytes input, std::size_t from, std::size_t end) const noexcept {
        const std::size_t before = delimiter_.size() - 1;
        const auto last = std::byte(delimiter_.back());
        for (;; ++from) {
            from = framing_detail::find_byte(input, from, end, last);
            if (from == framing_detail::not_found) return from;
            if (before == 0 || std::memcmp(input.data() + from - before, delimiter_.data(), before) == 0) {
                return from - before;
            }
        }
    }

    /// How many bytes at the input's end may be the beginning of a delimiter.
    std::size_t begun(Bytes input) const noexcept {
        const Bytes delimiter = bytes_of(delimiter_);
        for (std::size_t size = std::min(delimiter.size() - 1, input.size()); size > 0; --size) {
            if (framing_detail::equal(input.last(size), delimiter.first(size))) return size;
        }
        return 0;
    }

    /// The place where a receiver of this message and its delimiter sees the message end. It is before the
    /// message's end if the message ends with a beginning of the delimiter: "\r\n" before "\r\n\r\n".
    std::size_t first_end(Bytes message) const noexcept {
        const std::size_t size = delimiter_.size();
        const std::size_t inside = search(message, size - 1, message.size());
        if (inside != framing_detail::not_found) return inside;
        const Bytes delimiter = bytes_of(delimiter_);
        for (std::size_t head = std::min(size - 1, message.size()); head > 0; --head) {
            if (framing_detail::equal(message.last(head), delimiter.first(head)) &&
                framing_detail::equal(delimiter.subspan(head), delimiter.first(size - head))) {
                return message.size() - head;
            }
        }
        return message.size();
    }

    Decoded too_long() const noexcept {
        return Decoded::broken({FramingError::Problem::too_long, name(), 0, maximum_, 0});
    }

    std::string delimiter_;
    std::size_t maximum_;
    std::size_t searched_ = 0;  // no delimiter's last byte stands before this
    std::size_t taken_ = 0;     // bytes of the message under way that were given as parts
    bool keep_;
};

/// Lines. Received, they may end in LF or in CRLF, neither of which is part of the message; sent, all end
/// alike. A CR that stands anywhere else belongs to the message.
class Lines final {
public:
    /// How lines are sent. The Internet's protocols ask for CRLF (RFC 5321 2.3.8 is one).
    enum class Ending : bool { lf, crlf };

    /// `maximum` counts a line without its ending.
    explicit Lines(std::size_t maximum = default_maximum_message, Ending ending = Ending::crlf) noexcept
        : maximum_(maximum), crlf_(ending == Ending::crlf) {}

    std::size_t maximum() const noexcept { return maximum_; }
    std::size_t longest() const noexcept { return framing_detail::saturated_sum(maximum_, 2); }
    std::string_view name() const noexcept { return "lines"; }

    Decoded next(Bytes input) noexcept {
        const std::size_t end = std::min(input.size(), framing_detail::saturated_sum(maximum_, 2));
        const std::size_t at = framing_detail::find_byte(input, searched_, end, std::byte('\n'));
        const bool found = at != framing_detail::not_found;
        const std::size_t size = without_return(input, found ? at : end);
        if (size > maximum_) [[unlikely]]
            return too_long();
        searched_ = found ? 0 : end;
        return found ? Decoded::of(input.first(size), at + 1) : Decoded();
    }

    Decoded next_part(Bytes input) noexcept {
        const std::size_t allowed = maximum_ - taken_;
        const std::size_t end = std::min(input.size(), framing_detail::saturated_sum(allowed, 2));
        const std::size_t at = framing_detail::find_byte(input, searched_, end, std::byte('\n'));
        const bool found = at != framing_detail::not_found;
        const std::size_t size = without_return(input, found ? at : end);
        if (size > allowed) return too_long();
        searched_ = found ? 0 : end - size;  // a CR that was looked at may stay
        taken_ = found ? 0 : taken_ + size;
        if (found) return Decoded::of(input.first(size), at + 1);
        return size == 0 ? Decoded() : Decoded::of(input.first(size), size, false);
    }

    Decoded end(Bytes rest) noexcept {
        if (rest.empty() && taken_ == 0) return {};
        return framing_detail::ended_inside(name(), taken_ + rest.size());
    }

    /// The message must hold no LF and, if lines are sent with LF alone, not end in CR.
    Envelope envelope(Bytes message) const noexcept {
        using Problem = FramingError::Problem;
        Envelope envelope;
        envelope.trailer = bytes_of(crlf_ ? "\r\n" : "\n");
        const std::size_t inside = framing_detail::find_byte(message, 0, message.size(), std::byte('\n'));
        if (message.size() > maximum_) {
            envelope.error = {Problem::too_long, name(), message.size(), maximum_, 0};
        } else if (inside != framing_detail::not_found) {
            envelope.error = {Problem::contains_delimiter, name(), message.size(), 0, inside};
        } else if (!crlf_ && without_return(message, message.size()) != message.size()) {
            envelope.error = {Problem::contains_delimiter, name(), message.size(), 0, message.size() - 1};
        }
        return envelope;
    }

private:
    static std::size_t without_return(Bytes input, std::size_t size) noexcept {
        return size != 0 && input[size - 1] == std::byte('\r') ? size - 1 : size;
    }
    Decoded too_long() const noexcept {
        return Decoded::broken({FramingError::Problem::too_long, name(), 0, maximum_, 0});
    }

    std::size_t maximum_;
    std::size_t searched_ = 0;
    std::size_t taken_ = 0;
    bool crlf_;
};

}  // namespace reactor
