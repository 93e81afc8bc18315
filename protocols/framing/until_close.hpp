// One message, which ends with the stream: each side sends it and shuts its side (RFC 1288 "finger",
// HTTP/1.0). Only the way the connection ends distinguishes a whole message from one that a crash cut off.
#pragma once

#include <protocols/framing/framing.hpp>

namespace reactor {

/// The message is everything until the end of the stream, an empty one if there is nothing. Sending one ends
/// the output.
class UntilClose final {
public:
    explicit UntilClose(std::size_t maximum = default_maximum_message) noexcept : maximum_(maximum) {}

    std::size_t maximum() const noexcept { return maximum_; }
    std::size_t longest() const noexcept { return maximum_; }
    std::string_view name() const noexcept { return "until-close"; }

    Decoded next(Bytes input) noexcept { return input.size() > maximum_ ? too_long() : Decoded(); }

    /// The last part, an empty one, comes from `end`.
    Decoded next_part(Bytes input) noexcept {
        if (input.size() > maximum_ - taken_) return too_long();
        taken_ += input.size();
        return input.empty() ? Decoded() : Decoded::of(input, input.size(), false);
    }

    Decoded end(Bytes rest) noexcept { return Decoded::of(rest, rest.size()); }

    Envelope envelope(Bytes message) const noexcept {
        Envelope envelope;
        envelope.ends_stream = true;
        if (message.size() > maximum_) {
            envelope.error = {FramingError::Problem::too_long, name(), message.size(), maximum_, 0};
        }
        return envelope;
    }

private:
    Decoded too_long() const noexcept {
        return Decoded::broken({FramingError::Problem::too_long, name(), 0, maximum_, 0});
    }

    std::size_t maximum_;
    std::size_t taken_ = 0;
};

}  // namespace reactor
