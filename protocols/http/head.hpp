// RequestHead, ResponseHead, HeadParser: the start line and the header fields of a message of HTTP/1.1 (RFC 9112). The
// parser does no I/O and copies nothing. It is strict: input that two readers could understand differently is refused,
// and never repaired.
#pragma once

#include <protocols/http/field.hpp>
#include <protocols/http/problem.hpp>
#include <reactor/bytes.hpp>
#include <reactor/export.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace reactor::http {

/// Bounds of a message's start line and header fields, in bytes with the line ends.
struct HeadLimits {
    std::uint32_t start_line = 8 * 1024;
    std::uint32_t head = 16 * 1024;  ///< start line and fields together
    std::uint32_t fields = 100;      ///< how many; at most Head::most_fields
};

/// The common part of the heads of requests and responses. All views are into the input of the parser.
class REACTOR_EXPORT Head {
public:
    static constexpr std::size_t most_fields = 128;

    Head() noexcept {}
    Head(const Head&) = delete;
    Head& operator=(const Head&) = delete;

    /// The header fields in the order of their arrival.
    Fields fields() const noexcept { return Fields({reinterpret_cast<const Field*>(room_), size_}); }

    /// The minor version: 0 or 1. A higher one counts as 1 (RFC 9110, 2.5).
    int minor_version = 1;
    /// Content-Length, if there is one.
    std::optional<std::uint64_t> content_length;
    /// The content is in chunks (Transfer-Encoding: chunked).
    bool chunked = false;
    /// The sender is willing to use the connection again (RFC 9112, 9.3).
    bool keep_alive = true;
    /// The value of Upgrade, if Connection names it (RFC 9110, 7.8). Empty otherwise.
    std::string_view upgrade;

protected:
    friend class HeadParser;
    void reset() noexcept {
        content_length.reset();
        chunked = false;
    }

private:
    // Bytes, because an array of fields would be filled with null pointers for each head.
    alignas(Field) std::byte room_[most_fields * sizeof(Field)];
    std::size_t size_ = 0;
};

/// The head of a request.
class REACTOR_EXPORT RequestHead : public Head {
public:
    std::string_view method;
    /// As it was sent, in one of the four forms of RFC 9112, 3.2.
    std::string_view target;
    /// The path of the target, encoded as it was sent. "/" if an absolute target has none, "*" for the whole server,
    /// and empty for CONNECT.
    std::string_view path;
    /// The part of the target behind "?". Empty if there is none.
    std::string_view query;
    /// The host and port that are asked: from an absolute target or CONNECT's, otherwise from Host. Empty if neither is
    /// there, in HTTP/1.0.
    std::string_view host;
    /// The sender waits for 100 (Continue) before it sends the content.
    bool expects_continue = false;

private:
    friend class HeadParser;
    void reset() noexcept {
        Head::reset();
        expects_continue = false;
    }
};

/// The head of a response.
class REACTOR_EXPORT ResponseHead : public Head {
public:
    int status = 0;           ///< 100 to 599
    std::string_view reason;  ///< for people; may be empty
};

/// The fields behind the last chunk of a message (RFC 9112, 7.1.2), without a start line. A field that frames, routes
/// or authorizes a message is refused there (RFC 9110, 6.5.1).
class REACTOR_EXPORT Trailer : public Head {};

/// The outcome of a step of a parser.
struct Parsed {
    /// Whether the message is whole, and whether there is anything more to do.
    enum class State : std::uint8_t { need_more, complete, refused };
    State state = State::need_more;
    Problem problem = Problem::none;
    std::size_t consumed = 0;  ///< bytes of the input that the message took; only if it is complete
};

/// Parses one head after another. Each call is given the unconsumed input from the beginning of the head on, and so the
/// same bytes again, with more behind them. Lines that were complete are not looked at a third time, so the work is
/// linear, however small the pieces are. One empty line before a request is skipped (RFC 9112, 2.2).
class REACTOR_EXPORT HeadParser {
public:
    /// Fills in `head` if the head is complete; otherwise its content means nothing. After a refusal the parser is of
    /// no use. Lifetime: the views in `head` are valid as long as `input`.
    Parsed request(Bytes input, RequestHead& head, const HeadLimits& limits = {}) noexcept;
    Parsed response(Bytes input, ResponseHead& head, const HeadLimits& limits = {}) noexcept;
    /// Up to the empty line. Only `limits.head` and `limits.fields` count.
    Parsed trailer(Bytes input, Trailer& trailer, const HeadLimits& limits = {}) noexcept;

    /// Has a part of a head been looked at, and kept for later?
    bool begun() const noexcept { return searched_ != 0; }

private:
    template <class AnyHead>
    Parsed parse(Bytes input, AnyHead& head, const HeadLimits& limits) noexcept;
    template <bool whole_lines, class AnyHead>
    Parsed parse_lines(std::string_view text, std::size_t skipped, AnyHead& head, const HeadLimits& limits) noexcept;
    template <class AnyHead>
    Parsed parse_otherwise(std::string_view text, std::size_t skipped, AnyHead& head,
                           const HeadLimits& limits) noexcept;
    template <class AnyHead>
    Problem go_on(std::string_view text, AnyHead& head, const HeadLimits& limits) noexcept;
    static std::span<Field> room_of(Head& head, const HeadLimits& limits) noexcept {
        return {reinterpret_cast<Field*>(head.room_), std::min<std::size_t>(limits.fields, Head::most_fields)};
    }

    std::uint32_t line_ = 0;      // where the line begins that was not complete
    std::uint32_t searched_ = 0;  // that line does not end before this; 0 if there is no such line
    std::uint16_t lines_ = 0;     // complete ones before it
    std::uint8_t seen_ = 0;       // fields of the complete lines that may not come twice
};

}  // namespace reactor::http
