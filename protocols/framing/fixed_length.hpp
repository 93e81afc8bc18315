// Messages of one fixed length: the simplest way to know where one ends, and the fastest. There is no header
// to get wrong, and nothing to find a lost boundary by.
//
//     A|BC|DEFG|HI  →  ABC|DEF|GHI      (length 3)
#pragma once

#include <protocols/framing/counted.hpp>

#include <stdexcept>

namespace reactor {

/// Messages of one length, without a header and without a delimiter.
class FixedLength final : public CountedFraming<FixedLength> {
public:
    /// Messages of `length` bytes, which is their maximum too. Throws std::invalid_argument for 0.
    explicit FixedLength(std::size_t length) : length_(length) {
        if (length == 0) throw std::invalid_argument("a fixed length must be at least 1");
    }

    std::size_t length() const noexcept { return length_; }
    std::size_t longest() const noexcept { return length_; }
    std::string_view name() const noexcept { return "fixed"; }

    /// Only messages of exactly this length can be sent.
    Envelope envelope(Bytes message) const noexcept {
        Envelope envelope;
        if (message.size() != length_) {
            envelope.error = {FramingError::Problem::wrong_size, name(), message.size(), length_, 0};
        }
        return envelope;
    }

private:
    friend CountedFraming;
    static constexpr std::size_t trailer_size = 0;
    Prefix prefix(Bytes /*input*/) const noexcept { return announced(0, length_, length_); }

    std::size_t length_;
};

}  // namespace reactor
