// A framing that is chosen while the program runs: from its command line, or in the middle of a stream by a
// protocol that begins in lines and goes on in counted messages.
#pragma once

#include <protocols/framing/delimited.hpp>
#include <protocols/framing/fixed_length.hpp>
#include <protocols/framing/framing.hpp>
#include <protocols/framing/length_prefixed.hpp>
#include <protocols/framing/until_close.hpp>
#include <reactor/export.hpp>

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace reactor {

/// No framing: each piece of input is a message. It is the only framing whose messages depend on how the
/// stream was cut; put together they do not.
class Unframed final {
public:
    std::size_t longest() const noexcept { return 0; }
    std::string_view name() const noexcept { return "none"; }
    Decoded next(Bytes input) noexcept { return input.empty() ? Decoded() : Decoded::of(input, input.size()); }
    Decoded next_part(Bytes input) noexcept { return next(input); }
    Decoded end(Bytes /*rest*/) noexcept { return {}; }
    Envelope envelope(Bytes /*message*/) const noexcept { return {}; }
};

/// One of these framings at a time. Converts from each of them; assigning another one switches.
template <FramingInParts... Framings>
class OneOf final {
public:
    template <class F>
    requires(std::same_as<std::remove_cvref_t<F>, Framings> || ...) OneOf(F&& framing)
        : framing_(std::forward<F>(framing)) {}

    Decoded next(Bytes input) noexcept {
        return std::visit([input](auto& framing) { return framing.next(input); }, framing_);
    }
    Decoded next_part(Bytes input) noexcept {
        return std::visit([input](auto& framing) { return framing.next_part(input); }, framing_);
    }
    Decoded end(Bytes rest) noexcept {
        return std::visit([rest](auto& framing) { return framing.end(rest); }, framing_);
    }
    Envelope envelope(Bytes message) const noexcept {
        return std::visit([message](const auto& framing) { return framing.envelope(message); }, framing_);
    }
    std::size_t longest() const noexcept {
        return std::visit([](const auto& framing) { return framing.longest(); }, framing_);
    }
    std::string_view name() const noexcept {
        return std::visit([](const auto& framing) { return framing.name(); }, framing_);
    }

    /// The framing, if it is an F now; null otherwise.
    template <class F>
    const F* get() const noexcept {
        return std::get_if<F>(&framing_);
    }

private:
    std::variant<Framings...> framing_;
};

using AnyFraming =
    OneOf<Unframed, FixedLength, Delimited, Lines, LengthPrefixed, VarintPrefixed, Netstring, UntilClose>;

/// The forms that `parse_framing` understands, for a program's help and for its own errors.
inline constexpr std::string_view framing_forms =
    "none | fixed:N | delimited:STRING | lines | length:1|2|4|8[le] | varint | netstring | until-close";

/// Reads a framing as the programs spell it. In STRING, `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH` stand for bytes.
/// `maximum` is the longest message in bytes, and a fixed length may not be larger. Throws std::invalid_argument that
/// quotes the text and says what is wrong with it.
REACTOR_EXPORT AnyFraming parse_framing(std::string_view text, std::size_t maximum = default_maximum_message);

}  // namespace reactor
