// FrameDecoder, Frame: the framing of WebSocket (RFC 6455, 5), both sides. It does no I/O.
#pragma once

#include <protocols/websocket/utf8.hpp>
#include <reactor/bytes.hpp>
#include <reactor/export.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace reactor::websocket {

/// The two kinds of messages.
enum class Kind : std::uint8_t { text, binary };

/// The side of the connection that this program is. A client masks its frames, a server does not.
enum class Role : std::uint8_t { server, client };

/// The codes that a connection closes with (RFC 6455, 7.4.1).
namespace close_code {
inline constexpr std::uint16_t normal = 1000;
inline constexpr std::uint16_t going_away = 1001;
inline constexpr std::uint16_t protocol_error = 1002;
inline constexpr std::uint16_t unsupported_data = 1003;
inline constexpr std::uint16_t none_received = 1005;  ///< never sent: the close frame had no code
inline constexpr std::uint16_t abnormal = 1006;       ///< never sent: the connection ended without a close frame
inline constexpr std::uint16_t invalid_data = 1007;   ///< text that is not UTF-8
inline constexpr std::uint16_t policy_violation = 1008;
inline constexpr std::uint16_t message_too_big = 1009;
inline constexpr std::uint16_t internal_error = 1011;
}  // namespace close_code

/// May this code stand in a close frame? Those of the protocol, registered ones, and from 3000 to 4999 those of
/// libraries and applications (RFC 6455, 7.4.2).
REACTOR_EXPORT bool may_be_sent(std::uint16_t code) noexcept;

/// Decodes the frames of one connection, strictly: input that RFC 6455 does not allow is refused with the code to close
/// with. Fragments are put together as parts of one message; control frames may stand between them.
class REACTOR_EXPORT FrameDecoder {
public:
    /// `longest`: bytes of a message, all of its fragments together.
    explicit FrameDecoder(Role role, std::uint64_t longest) noexcept : longest_(longest), role_(role) {}

    /// The meaning of the next bytes.
    enum class Event : std::uint8_t {
        need_more,  ///< nothing, until more input is there
        part,       ///< of a message: `payload`, `last`
        ping,       ///< `payload`
        pong,       ///< `payload`
        close,      ///< `code`, and the reason as `payload`
        refused,    ///< `code` and `why`
    };
    /// One event, and the input that it took.
    struct Step {
        Event event = Event::need_more;
        bool last = false;
        std::uint16_t code = 0;
        std::size_t consumed = 0;
        Bytes payload{};
        std::string_view why{};
    };

    /// The next step, from the front of the unconsumed input. `room` grows to take the payload without its mask, where
    /// it has one; `Step::payload` is a view of it or of the input. After a refusal the decoder is of no use. Throws
    /// std::bad_alloc.
    Step next(Bytes input, std::vector<std::byte>& room);

    /// The room for a short message: without its mask, if it has one.
    using ShortRoom = std::array<std::byte, 125>;
    /// The same step as `next`, if it is a whole masked message of at most 125 bytes, as nearly all are. False, and
    /// nothing has changed, for all else: ask `next`.
    bool next_short(Bytes input, ShortRoom& room, Step& step) noexcept;

    Role role() const noexcept { return role_; }
    std::uint64_t longest() const noexcept { return longest_; }
    /// Of the message that the last part belongs to.
    Kind kind() const noexcept { return kind_; }
    /// Messages may be compressed from now on (RFC 7692): their text is not checked here.
    void allow_compression() noexcept { may_be_compressed_ = true; }
    /// Is the message that the last part belongs to compressed?
    bool compressed() const noexcept { return compressed_; }
    /// Is a message under way, of which a part has come?
    bool inside_message() const noexcept { return in_message_; }

private:
    bool begin_frame(Bytes input, std::vector<std::byte>& room, Step& step, std::size_t& head);
    Step control(Bytes payload, std::size_t consumed, unsigned opcode);
    Step data(Bytes input, std::size_t consumed, std::vector<std::byte>& room);
    static Step refuse(std::uint16_t code, std::string_view why) noexcept {
        Step step;
        step.event = Event::refused;
        step.code = code;
        step.why = why;
        return step;
    }

    std::uint64_t longest_;
    std::uint64_t left_ = 0;   // bytes of the frame under way
    std::uint64_t taken_ = 0;  // bytes of the message under way, those of the present frame included
    std::array<unsigned char, 4> mask_{};
    std::uint8_t mask_place_ = 0;
    Role role_;
    Kind kind_ = Kind::text;
    bool in_frame_ = false;
    bool in_message_ = false;
    bool final_ = false;
    bool may_be_compressed_ = false;
    bool compressed_ = false;
    Utf8Check text_;
};

/// A whole frame as it is sent: the head, and for a client the mask.
class REACTOR_EXPORT Frame {
public:
    /// The kinds of frames (RFC 6455, 11.8).
    enum class Opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

    /// A frame without a mask, as servers send them. It is the same for every client, so it can be made once and sent
    /// to many.
    static std::vector<std::byte> unmasked(Opcode opcode, Bytes payload, bool final = true);
    /// A frame with this mask, as clients send them.
    static std::vector<std::byte> masked(Opcode opcode, Bytes payload, std::uint32_t mask, bool final = true);

    /// The head alone: at most 14 bytes, of which the result says how many.
    static std::size_t write_head(std::span<std::byte, 14> head, Opcode opcode, std::uint64_t length, bool final,
                                  const std::uint32_t* mask) noexcept;

private:
    static std::size_t write_long_head(std::span<std::byte, 14> head, Opcode opcode, std::uint64_t length, bool final,
                                       const std::uint32_t* mask) noexcept;
};

/// to[i] = from[i] XOR the mask, which begins at `place` of its four bytes. True if all of the result is ASCII. The two
/// may be the same memory.
REACTOR_EXPORT bool apply_mask(const std::byte* from, std::byte* to, std::size_t size,
                               const std::array<unsigned char, 4>& mask, std::size_t place) noexcept;
/// The same from the beginning of the mask, whose four bytes are those of this number in memory.
REACTOR_EXPORT bool apply_mask(const std::byte* from, std::byte* to, std::size_t size, std::uint32_t mask) noexcept;

inline bool FrameDecoder::next_short(Bytes input, ShortRoom& room, Step& step) noexcept {
    constexpr std::size_t head = 6;
    constexpr unsigned whole_text = 0x81, masked = 0x80;
    // Inside a frame is inside a message.
    if (input.size() < head || in_message_ || role_ != Role::server) return false;
    const unsigned kind = std::to_integer<unsigned>(input[0]) - whole_text;
    const std::size_t size = std::to_integer<unsigned>(input[1]) - masked;
    if (kind > 1 || size > room.size() || size > input.size() - head || size > longest_) return false;
    std::uint32_t mask;
    std::memcpy(&mask, input.data() + 2, sizeof mask);
    const Bytes payload(room.data(), size);
    if (!apply_mask(input.data() + head, room.data(), size, mask) && kind == 0) {
        Utf8Check text;
        if (!text.accept(payload) || !text.complete()) return false;
    }
    kind_ = Kind(kind);
    compressed_ = false;
    step.event = Event::part;
    step.last = true;
    step.consumed = head + size;
    step.payload = payload;
    return true;
}

inline std::size_t Frame::write_head(std::span<std::byte, 14> head, Opcode opcode, std::uint64_t length, bool final,
                                     const std::uint32_t* mask) noexcept {
    if (length > 125 || mask != nullptr) return write_long_head(head, opcode, length, final, mask);
    head[0] = std::byte((final ? 0x80u : 0u) | static_cast<unsigned>(opcode));
    head[1] = std::byte(length);
    return 2;
}

}  // namespace reactor::websocket
