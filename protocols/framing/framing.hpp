// A framing is the rule by which two sides know where a message ends in a stream of bytes. Framings are
// pure functions of bytes: they read no socket, copy no message and allocate nothing. Their caller (Framed,
// or your own loop) keeps the bytes that they have not consumed. The framings themselves are the other files
// of this folder.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/error.hpp>
#include <reactor/export.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>

namespace reactor {

/// The longest message that a framing takes or sends by default, in bytes: 1 MiB. Header and
/// delimiter do not count.
inline constexpr std::size_t default_maximum_message = 1024 * 1024;

/// The fault of a message, precise enough for one line of a log. Small, and nothing is allocated until
/// it is printed. True where there is an error, as std::error_code is.
struct REACTOR_EXPORT FramingError {
    /// The kind of error; the numbers beside it say more.
    enum class Problem : std::uint8_t {
        none,
        too_long,            ///< `announced` bytes, or 0 if that is not known; `allowed` is the maximum
        wrong_size,          ///< to be sent: `announced` bytes, where each message has `allowed`
        contains_delimiter,  ///< to be sent: the receiver would see the end after `came` bytes
        lacks_delimiter,     ///< to be sent: a message that should bring its delimiter does not end in it
        overlong_prefix,     ///< a varint longer than its value needs
        prefix_overflow,     ///< a varint of more than 64 bits
        not_a_digit,         ///< a netstring's length holds the byte `announced`
        leading_zero,        ///< a netstring's length starts with 0 and goes on
        too_many_digits,     ///< a netstring's length has more than `allowed` digits
        lacks_comma,         ///< a netstring ends in the byte `announced`
        ended,               ///< the stream ended after `came` bytes of a message of `announced` (0: unknown)
    };

    Problem problem = Problem::none;
    std::string_view framing;  ///< as the programs spell it: "length:4"; never dangles
    std::uint64_t announced = 0;
    std::uint64_t allowed = 0;
    std::uint64_t came = 0;

    explicit operator bool() const noexcept { return problem != Problem::none; }

    /// Error::message_too_long, Error::ended_inside_message, or Error::malformed for everything else.
    std::error_code code() const noexcept;

    /// "length:4: a message of 4294967295 bytes, where 1048576 are allowed".
    std::string to_string() const;

    friend bool operator==(const FramingError&, const FramingError&) = default;
};

/// The result of decoding the front of the input.
struct Decoded {
    /// The kind of result.
    enum class Status : std::uint8_t {
        need_more,  ///< no message yet; call again with the same bytes and more behind them
        message,    ///< `message` is one, or with next_part() a part of one
        malformed,  ///< `error` says why; nothing that follows can be understood
    };

    Status status = Status::need_more;
    bool last = true;          ///< of a part: the message ends with it
    std::size_t consumed = 0;  ///< bytes of the input that are dealt with; need_more consumes only in parts
    Bytes message;             ///< a view into the input
    FramingError error;

    static Decoded more(std::size_t consumed = 0) noexcept {
        Decoded decoded;
        decoded.consumed = consumed;
        return decoded;
    }
    static Decoded of(Bytes message, std::size_t consumed, bool last = true) noexcept {
        Decoded decoded;
        decoded.status = Status::message;
        decoded.last = last;
        decoded.consumed = consumed;
        decoded.message = message;
        return decoded;
    }
    static Decoded broken(const FramingError& error) noexcept {
        Decoded decoded;
        decoded.status = Status::malformed;
        decoded.error = error;
        return decoded;
    }
};

/// The bytes around a message on the wire: it is sent as header, message, trailer. If `error` is set it
/// cannot be sent at all. The trailer is a view into the framing.
struct Envelope {
    FramingError error;
    std::array<std::byte, 24> header_bytes{};
    std::uint8_t header_size = 0;
    bool ends_stream = false;  ///< the end of the stream is what ends this message
    Bytes trailer;

    Bytes header() const noexcept { return Bytes(header_bytes).first(header_size); }
};

/// A framing's one direction is `next`, for as long as there are messages, and `end` when the stream ends;
/// the other is `envelope`.
///
/// `next(input)`: input starts with the first byte that is not consumed yet. After need_more it must start
/// with the same bytes as before: the framing remembers how far it looked. After malformed nothing more may
/// be asked. A message consumes at least one byte. `end(rest)`: the meaning of the end of the stream if these
/// bytes are left: a last message (until_close), an error, or with need_more a clean end between two
/// messages. `envelope(message)`: how to send this message. `longest()`: the most bytes that must lie in one
/// piece before `next` can decide.
template <class F>
concept Framing = std::movable<F> && requires(F framing, const F& constant, Bytes bytes) {
    { framing.next(bytes) } -> std::same_as<Decoded>;
    { framing.end(bytes) } -> std::same_as<Decoded>;
    { constant.envelope(bytes) } -> std::same_as<Envelope>;
    { constant.longest() } -> std::same_as<std::size_t>;
};

/// A framing that can also give a message in parts, as they come: `next_part` instead of `next`, from
/// the first byte on. Every part but the last is not empty; the maximum counts the whole message.
template <class F>
concept FramingInParts = Framing<F> && requires(F framing, Bytes bytes) {
    { framing.next_part(bytes) } -> std::same_as<Decoded>;
};

/// Writes the message and its envelope to `sink.write(Bytes)`, in up to three calls and without a copy: to a
/// Transport, or to anything that collects bytes. The sink's `shutdown_write()`, if it has one, is called where
/// the stream must end. If the message cannot be sent in this framing, nothing is written and the error says why.
template <Framing F, class Sink>
FramingError encode(const F& framing, Bytes message, Sink& sink) {
    const Envelope envelope = framing.envelope(message);
    if (envelope.error) return envelope.error;
    if (envelope.header_size != 0) sink.write(envelope.header());
    if (!message.empty()) sink.write(message);
    if (!envelope.trailer.empty()) sink.write(envelope.trailer);
    if constexpr (requires { sink.shutdown_write(); }) {
        if (envelope.ends_stream) sink.shutdown_write();
    }
    return {};
}

namespace framing_detail {

/// a + b, or the largest number where that would wrap.
constexpr std::size_t saturated_sum(std::size_t a, std::size_t b) noexcept {
    return b > std::numeric_limits<std::size_t>::max() - a ? std::numeric_limits<std::size_t>::max() : a + b;
}

}  // namespace framing_detail

}  // namespace reactor
