#include <protocols/websocket/websocket.hpp>

#include <protocols/websocket/deflate_impl.hpp>
#include <protocols/websocket/random_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <utility>

namespace reactor::websocket {

namespace {

/// A mask that a page cannot predict (RFC 6455, 5.3; 10.3 says why). One system call brings 64 of them.
std::uint32_t next_mask() {
    thread_local std::array<std::uint32_t, 64> masks;
    thread_local std::size_t used = masks.size();
    if (used == masks.size()) {
        masks = random_value<std::array<std::uint32_t, 64>>();
        used = 0;
    }
    return masks[used++];
}

constexpr Frame::Opcode opcode_of(Kind kind) noexcept {
    return kind == Kind::text ? Frame::Opcode::text : Frame::Opcode::binary;
}

/// Where payloads lie without their masks, for the time of one call.
std::vector<std::byte>& room() {
    thread_local std::vector<std::byte> bytes;
    if (bytes.capacity() > 1024 * 1024) bytes = {};
    return bytes;
}

}  // namespace

struct WebSocket::More {
    std::vector<std::byte> message;     // the parts of one that is not whole yet
    std::vector<std::byte> compressed;  // the same of a compressed one
    std::optional<Timer> idle_timer;
    std::optional<Timer> close_timer;
    std::optional<Encoded> latest;  // that waits for the low watermark
    bool pinged = false;
    Duration ping_after = Options().ping_after, close_timeout = Options().close_timeout;
};

Encoded::Encoded(Kind kind, Bytes payload) : kind_(kind) {
    auto frame = Frame::unmasked(opcode_of(kind), payload);
    head_ = frame.size() - payload.size();
    frame_ = std::make_shared<const std::vector<std::byte>>(std::move(frame));
}

WebSocket::WebSocket(const Options& options)
    : decoder_(Role::server, options.longest_message), slow_(options.slow), may_compress_(options.compress) {
    const Options usual;
    if (options.ping_after <= Duration::zero() && options.close_timeout == usual.close_timeout) return;
    more().ping_after = options.ping_after;
    more().close_timeout = options.close_timeout;
}

WebSocket::~WebSocket() = default;

// ── output ──

[[gnu::always_inline]] inline bool WebSocket::write_frame(Frame::Opcode opcode, Bytes payload, bool final,
                                                          bool compressed) {
    constexpr std::byte reserved{0x40};  // RSV1
    if (role() == Role::client) {
        std::vector<std::byte> frame = Frame::masked(opcode, payload, next_mask(), final);
        if (compressed) frame[0] |= reserved;
        return transport().write(frame);
    }
    constexpr std::size_t together = 2048;  // with a copy, and one send also outside of a call
    std::array<std::byte, 14 + together> frame;
    const std::span<std::byte, 14> head = std::span(frame).first<14>();
    const std::size_t size = Frame::write_head(head, opcode, payload.size(), final, nullptr);
    if (compressed) head[0] |= reserved;
    if (payload.size() > together) return transport().write(Bytes(head.first(size))) && transport().write(payload);
    std::copy(payload.begin(), payload.end(), frame.begin() + size);
    return transport().write(Bytes(frame.data(), size + payload.size()));
}

/// False if the end has begun. Throws std::logic_error inside a message that is sent in parts.
inline bool WebSocket::may_send() const {
    if (is_open_ && sending_parts_)
        throw std::logic_error("WebSocket::send: a message that is sent in parts has not ended");
    return is_open_;
}

bool WebSocket::send_message(Frame::Opcode opcode, Bytes payload) {
    if (!may_send()) return false;
    constexpr std::size_t worth_it = 64;
    if (deflates_ && payload.size() >= worth_it) {
        const Bytes smaller = deflate::compressed(payload);
        if (!smaller.empty()) return write_frame(opcode, smaller, true, true);
    }
    return write_frame(opcode, payload, true);
}

WebSocket::More& WebSocket::more() {
    if (more_ == nullptr) more_ = std::make_unique<More>();
    return *more_;
}

bool WebSocket::send_part(Kind kind, Bytes part, bool last) {
    if (!is_open_) return false;
    const bool sent = write_frame(sending_parts_ ? Frame::Opcode::continuation : opcode_of(kind), part, last);
    sending_parts_ = !last;
    return sent;
}

bool WebSocket::send(const Encoded& message) {
    if (!may_send()) return false;
    if (slow_ != Slow::queue && transport().queued() > transport().limits().high_mark) {
        if (slow_ == Slow::close) {
            close(close_code::policy_violation, "too slow");
        } else if (slow_ == Slow::latest) {
            more().latest = message;
            return true;
        }
        return false;
    }
    if (role() == Role::server) return transport().write(Bytes(*message.frame_));
    return write_frame(opcode_of(message.kind_), Bytes(*message.frame_).subspan(message.head_), true);
}

void WebSocket::resume_writing() {
    if (more_ == nullptr || !more_->latest) return;
    const Encoded latest = *std::exchange(more_->latest, std::nullopt);
    send(latest);
}

bool WebSocket::ping(Bytes payload) {
    if (payload.size() > 125) throw std::invalid_argument("WebSocket::ping: more than 125 bytes");
    return is_open_ && write_frame(Frame::Opcode::ping, payload, true);
}

bool WebSocket::write_close(std::uint16_t code, std::string_view reason) {
    is_open_ = false;
    if (std::exchange(close_sent_, true)) return false;
    std::array<std::byte, 125> payload;
    if (code == close_code::none_received) return write_frame(Frame::Opcode::close, {}, true);
    payload[0] = std::byte(static_cast<unsigned char>(code >> 8));
    payload[1] = std::byte(static_cast<unsigned char>(code & 0xff));
    std::copy_n(bytes_of(reason).begin(), reason.size(), payload.begin() + 2);
    return write_frame(Frame::Opcode::close, Bytes(payload.data(), reason.size() + 2), true);
}

// ── the end ──

void WebSocket::close(std::uint16_t code, std::string_view reason) {
    if (!may_be_sent(code)) throw std::invalid_argument("WebSocket::close: not a code that is sent");
    if (reason.size() > 123) throw std::invalid_argument("WebSocket::close: a reason of more than 123 bytes");
    if (close_sent_ || over_) return;
    write_close(code, reason);
    more().close_timer.emplace(transport().reactor(), [this] { transport().close(); });
    more_->close_timer->start(more_->close_timeout);
}

/// The other side has closed: it gets the same code back, unless it answers ours. The server ends the connection first
/// (RFC 6455, 7.1.1); a client's Limits::close_timeout bounds how long it waits for that.
void WebSocket::take_close(std::uint16_t code, Bytes reason) {
    write_close(code, {});
    const std::string text(text_of(reason));
    transport().close();
    end(code, text);
}

/// The other side breaks the protocol.
void WebSocket::fail(std::uint16_t code, std::string_view why) {
    write_close(code, why);
    transport().close();
    end(code, why);
}

void WebSocket::end(std::uint16_t code, std::string_view reason) {
    is_open_ = false;
    if (more_ != nullptr) {
        more_->idle_timer.reset();
        more_->close_timer.reset();
    }
    if (!std::exchange(over_, true)) closed(code, reason);
}

void WebSocket::check_idle() {
    if (std::exchange(heard_, false)) {
        more_->pinged = false;
        return;
    }
    if (more_->pinged) return transport().abort(std::make_error_code(std::errc::timed_out));
    more_->pinged = true;
    ping();
}

// ── the calls of the transport ──

void WebSocket::connected() {
    is_open_ = true;
    over_ = false;
    if (more_ != nullptr && more_->ping_after > Duration::zero()) {
        more_->idle_timer.emplace(transport().reactor(), [this] { check_idle(); });
        more_->idle_timer->start_periodic(more_->ping_after);
    }
    opened();
}

[[gnu::always_inline]] inline void WebSocket::take_part(Bytes payload, bool last) {
    decoder_.compressed() ? take_compressed(payload, last) : part(decoder_.kind(), payload, last);
}

void WebSocket::take_compressed(Bytes payload, bool last) {
    std::vector<std::byte>& gathering = more().compressed;
    gathering.insert(gathering.end(), payload.begin(), payload.end());
    if (!last) return;
    std::vector<std::byte> message;
    switch (deflate::decompress(std::exchange(gathering, {}), std::size_t(decoder_.longest()), message)) {
        case deflate::Outcome::too_long: return fail(close_code::message_too_big, "a message is too long");
        case deflate::Outcome::malformed: return fail(close_code::invalid_data, "a message cannot be decompressed");
        case deflate::Outcome::whole: break;
    }
    Utf8Check text;
    if (decoder_.kind() == Kind::text && (!text.accept(message) || !text.complete()))
        return fail(close_code::invalid_data, "a text is not UTF-8");
    part(decoder_.kind(), message, true);
}

std::size_t WebSocket::received(Bytes input) {
    heard_ = true;
    std::size_t consumed = 0;
    FrameDecoder::ShortRoom few;
    while (consumed < input.size() && !over_) {
        FrameDecoder::Step step;
        const Bytes rest = input.subspan(consumed);
        if (!decoder_.next_short(rest, few, step)) step = decoder_.next(rest, room());
        consumed += step.consumed;
        using Event = FrameDecoder::Event;
        if (step.event == Event::need_more) {
            if (step.consumed == 0) break;
            continue;
        }
        switch (step.event) {
            case Event::part: take_part(step.payload, step.last); break;
            case Event::ping:
                if (!close_sent_) write_frame(Frame::Opcode::pong, step.payload, true);
                break;
            case Event::pong: pong(step.payload); break;
            case Event::close: take_close(step.code, step.payload); break;
            default: fail(step.code, step.why); break;
        }
        if (step.last) transport().message_received();
        if (!transport().reading()) break;
    }
    return over_ ? input.size() : consumed;
}

// A message of one part, as most are, is given from where it lies.
void WebSocket::part(Kind kind, Bytes part, bool last) {
    const bool gathered = more_ != nullptr && !more_->message.empty();
    last && !gathered ? message(kind, part) : gather(kind, part, last);
}

void WebSocket::gather(Kind kind, Bytes part, bool last) {
    std::vector<std::byte>& gathering = more().message;
    gathering.insert(gathering.end(), part.begin(), part.end());
    if (!last) return;
    const std::vector<std::byte> whole = std::exchange(gathering, {});
    message(kind, whole);
}

void WebSocket::end_of_stream() {
    transport().close();
}

void WebSocket::disconnected(std::error_code) {
    end(close_code::abnormal, {});
}

}  // namespace reactor::websocket
