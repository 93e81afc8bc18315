// Framed: a protocol whose author thinks in messages. It implements message(Bytes) and calls send(Bytes); the
// framing, the pieces of the stream and their unconsumed rest are handled here.
//
//     class Shout final : public Framed<Lines> {
//         void message(Bytes line) override { send(upper_case(line)); }
//     };
//
// FramedParts gives a message in parts as they come, for messages that are larger than memory should be.
#pragma once

#include <protocols/framing/framing.hpp>
#include <reactor/stream/protocol.hpp>

#include <array>
#include <cstring>
#include <string_view>
#include <utility>

namespace reactor {

namespace framing_detail {

/// The common part of Framed and FramedParts. `Derived` has `decode` and `deliver`.
template <Framing F, class Derived>
class FramedProtocol : public Protocol {
public:
    const F& framing() const noexcept { return framing_; }

protected:
    explicit FramedProtocol(F framing) : framing_(std::move(framing)) {}

    /// Sends a message, or queues it, as Transport::write does. False if nothing more can be written, and if
    /// the message cannot be sent in this framing: then `unsendable` is called, and nothing of it is written.
    bool send(Bytes message) {
        const Envelope envelope = framing_.envelope(message);
        if (envelope.error) {
            unsendable(envelope.error);
            return false;
        }
        const bool sent = write(envelope, message);
        if (envelope.ends_stream) transport().shutdown_write();
        return sent;
    }
    bool send(std::string_view message) { return send(bytes_of(message)); }

    /// From here on another framing holds, in both directions. Inside `message` it begins with the byte after
    /// that message; elsewhere with the unconsumed input, which is decoded again soon.
    void set_framing(F framing) {
        framing_ = std::move(framing);
        if (!receiving_ && transport().reading() && !transport().unconsumed().empty()) {
            transport().pause_reading();
            transport().resume_reading();
        }
    }

    /// The input cannot be a message, or the stream ended inside one (Error::ended_inside_message). Nothing
    /// more is received, and when this returns the connection is closed. An override may send a complaint to
    /// the peer first. Unless overridden, aborts: `disconnected(error.code())` follows, and answers that have
    /// not left yet are lost.
    virtual void malformed(const FramingError& error) { transport().abort(error.code()); }

    /// A message given to `send` has no form in this framing. Unless overridden, aborts with error.code(),
    /// because a conversation that silently lacks a message is worse than none.
    virtual void unsendable(const FramingError& error) { transport().abort(error.code()); }

    /// The peer has shut its side, after a whole message. Everything may still be sent. Unless overridden,
    /// closes.
    virtual void ended() { transport().close(); }

    /// Inside `message` or `part`, where that was much work: the input behind it waits while the loop serves others,
    /// and comes then by itself.
    void let_others_go_first() {
        lets_others_ = receiving_;
        if (lets_others_) transport().pause_reading();
    }

private:
    // Up to this many bytes, header and message leave in one write, for the price of a small copy: outside a
    // callback each write is a system call and a packet, and a small packet may wait for the one before it
    // (RFC 896).
    static constexpr std::size_t together = 1024;

    std::size_t received(Bytes input) final {
        if (broken_) return input.size();
        struct Receiving {
            bool& flag;
            explicit Receiving(bool& which) noexcept : flag(which) { flag = true; }
            ~Receiving() { flag = false; }
        } receiving(receiving_);

        std::size_t consumed = 0;
        while (consumed < input.size()) {
            const Decoded decoded = derived().decode(framing_, input.subspan(consumed));
            consumed += decoded.consumed;
            if (decoded.status == Decoded::Status::need_more) {
                if (consumed < input.size()) make_room();
                break;
            }
            if (decoded.status == Decoded::Status::malformed) {
                refuse(decoded.error);
                return input.size();
            }
            derived().deliver(decoded);
            // Paused, closed, aborted, or more waits to be sent than the peer takes: the rest can wait.
            if (!transport().reading()) {
                if (std::exchange(lets_others_, false)) transport().resume_reading();
                break;
            }
        }
        return consumed;
    }

    void end_of_stream() final {
        if (broken_) return;
        const Decoded decoded = framing_.end(transport().unconsumed());
        if (decoded.status == Decoded::Status::malformed) return refuse(decoded.error);
        if (decoded.status == Decoded::Status::message) derived().deliver(decoded);
        ended();
    }

    void refuse(const FramingError& error) {
        broken_ = true;
        malformed(error);
        transport().close();
    }

    /// A message of the framing's maximum must fit into what may be left unconsumed, with one read behind it.
    void make_room() {
        Limits limits = transport().limits();
        const std::size_t needed = saturated_sum(framing_.longest(), limits.read_size);
        if (limits.input_limit >= needed) return;
        limits.input_limit = needed;
        transport().set_limits(limits);
    }

    bool write(const Envelope& envelope, Bytes message) {
        const Bytes header = envelope.header();
        const Bytes trailer = envelope.trailer;
        if (header.empty() && trailer.empty()) return transport().write(message);
        if (message.size() <= together && header.size() + message.size() + trailer.size() <= together) {
            std::array<std::byte, together> joined;
            std::byte* end = joined.data();
            for (const Bytes piece : {header, message, trailer}) {
                if (!piece.empty()) std::memcpy(end, piece.data(), piece.size());
                end += piece.size();
            }
            return transport().write(Bytes(joined.data(), end));
        }
        return (header.empty() || transport().write(header)) && transport().write(message) &&
               (trailer.empty() || transport().write(trailer));
    }

    Derived& derived() noexcept { return static_cast<Derived&>(*this); }

    F framing_;
    bool receiving_ = false;
    bool lets_others_ = false;
    bool broken_ = false;
};

}  // namespace framing_detail

/// Whole messages. A message is a view into what was received, valid until `message` returns. Inside
/// `message` everything may be done: after pause_reading() the messages behind it come when reading goes on,
/// after close() and abort() none comes, after set_framing() they are understood in the new one. If the
/// transport's input_limit has no room for the framing's maximum it is raised.
template <Framing F>
class Framed : public framing_detail::FramedProtocol<F, Framed<F>> {
public:
    explicit Framed(F framing = F()) : framing_detail::FramedProtocol<F, Framed<F>>(std::move(framing)) {}

protected:
    /// The next message, in order; it may be empty.
    virtual void message(Bytes message) = 0;

private:
    friend class framing_detail::FramedProtocol<F, Framed<F>>;
    static Decoded decode(F& framing, Bytes input) { return framing.next(input); }
    void deliver(const Decoded& decoded) {
        this->transport().message_received();
        message(decoded.message);
    }
};

/// Messages in parts, as they come: no more is kept than a header or a piece of a delimiter, so the framing's
/// maximum may be as large as the disk. Everything else is as in Framed; a framing is switched after a last
/// part.
template <FramingInParts F>
class FramedParts : public framing_detail::FramedProtocol<F, FramedParts<F>> {
public:
    explicit FramedParts(F framing = F()) : framing_detail::FramedProtocol<F, FramedParts<F>>(std::move(framing)) {}

protected:
    /// The next part of the message under way, which ends with it if it is the last. Only the last may be
    /// empty.
    virtual void part(Bytes part, bool last) = 0;

private:
    friend class framing_detail::FramedProtocol<F, FramedParts<F>>;
    static Decoded decode(F& framing, Bytes input) { return framing.next_part(input); }
    void deliver(const Decoded& decoded) {
        if (decoded.last) this->transport().message_received();
        part(decoded.message, decoded.last);
    }
};

}  // namespace reactor
