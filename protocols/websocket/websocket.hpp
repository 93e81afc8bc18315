// WebSocket: the protocol whose author thinks in messages of RFC 6455. The same class is either side of a connection: a
// server's is made by a handler (websocket::accept), a client's by websocket::client.
//
//     class Shout final : public websocket::WebSocket {
//         void message(websocket::Kind, Bytes content) override { send(upper_case(text_of(content))); }
//     };
//     server.get("/shout", websocket::accept([](const http::Request&) { return std::make_unique<Shout>(); }));
#pragma once

#include <protocols/http/service.hpp>
#include <protocols/websocket/frame.hpp>
#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/stream/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor::websocket {

/// The fate of a broadcast's message for a connection that has more output waiting than Limits::high_mark.
enum class Slow : std::uint8_t {
    queue,   ///< the message waits with the others, up to Limits::output_limit
    drop,    ///< the message is left out for this connection
    latest,  ///< only the newest message waits, until the output has fallen to the low watermark
    close,   ///< the connection closes, with 1008
};

/// The settings of one WebSocket.
struct Options {
    /// Bytes of a message, all of its fragments together; a longer one closes the connection with 1009.
    std::size_t longest_message = 1024 * 1024;
    /// A ping is sent when nothing has come for so long, and the connection is aborted when nothing comes for as long
    /// again. Zero: no pings.
    Duration ping_after = Duration::zero();
    /// How long the other side may take to answer a close frame.
    Duration close_timeout = std::chrono::seconds(5);
    Slow slow = Slow::queue;
    /// Compression is agreed on if the other side can (permessage-deflate, RFC 7692, without context takeover). Whole
    /// messages of 64 bytes or more are sent compressed if that makes them smaller; parts and `Encoded` ones are not.
    /// A compressed message is held until it is whole, and `longest_message` bounds both of its forms. Without zlib
    /// (-Ddeflate=enabled) it has no effect. Do not compress a secret together with bytes that a stranger may choose.
    bool compress = false;
};

/// A message that is encoded once, to be sent to many connections. Copies share it.
class REACTOR_EXPORT Encoded {
public:
    static Encoded text(std::string_view text) { return Encoded(Kind::text, bytes_of(text)); }
    static Encoded binary(Bytes bytes) { return Encoded(Kind::binary, bytes); }

private:
    friend class WebSocket;
    Encoded(Kind kind, Bytes payload);
    Kind kind_;
    std::size_t head_;
    std::shared_ptr<const std::vector<std::byte>> frame_;
};

/// One side of one connection. All calls on the loop's thread; see Protocol for the exceptions out of a call.
class REACTOR_EXPORT WebSocket : public Protocol {
public:
    ~WebSocket() override;

    /// Sends a message, in one frame. False, and nothing is sent, before `opened` and from the beginning of the end on.
    /// The text must be UTF-8: the other side closes with 1007 otherwise.
    bool send(std::string_view text) { return send_message(Frame::Opcode::text, bytes_of(text)); }
    bool send_binary(Bytes bytes) { return send_message(Frame::Opcode::binary, bytes); }
    /// Sends a message that many get. Options::slow says what happens if this connection is slow; false if it does not
    /// get the message.
    bool send(const Encoded& message);
    /// The next part of a message that is sent in parts; `last` with the last one. Other messages must wait until then.
    bool send_part(Kind kind, Bytes part, bool last);
    /// Asks for a sign of life. `payload` has at most 125 bytes: std::invalid_argument otherwise.
    bool ping(Bytes payload = {});

    /// Begins the end: sends a close frame, waits for the other side's for at most Options::close_timeout, and closes.
    /// Messages that come until then are still given. Throws std::invalid_argument for a code that is not sent, and a
    /// reason of more than 123 bytes. Again: nothing.
    void close(std::uint16_t code = close_code::normal, std::string_view reason = {});

    /// May messages be sent? False before `opened` and from the beginning of the end on.
    bool open() const noexcept { return is_open_; }

protected:
    /// Throws std::bad_alloc, for options of time that are not the default ones.
    explicit WebSocket(const Options& options = {});

    /// The handshake is over: messages may be sent.
    virtual void opened() {}
    /// A whole message. Text is UTF-8. Valid until the call returns.
    virtual void message(Kind /*kind*/, Bytes /*content*/) {}
    /// A part of a message as it comes, of any size; `last` with the last one. Unless overridden, gathers them and
    /// calls `message`.
    virtual void part(Kind kind, Bytes part, bool last);
    /// The answer to a ping.
    virtual void pong(Bytes /*payload*/) {}
    /// The other side has closed with this code, or is gone: close_code::abnormal. Once, after `opened`, and last.
    virtual void closed(std::uint16_t /*code*/, std::string_view /*reason*/) {}
    /// For a client: the server has refused the handshake with this status (0 if its answer made no sense). The
    /// connection ends; `opened` and `closed` are not called.
    virtual void refused(int /*status*/) {}
    /// As Protocol's. Options::slow needs them, so an override calls WebSocket's.
    void pause_writing() override {}
    void resume_writing() override;

private:
    friend class ClientHandshake;
    friend struct ServerHandshake;
    void connected() final;
    std::size_t received(Bytes input) final;
    void end_of_stream() final;
    void draining() final { close(close_code::going_away); }
    void disconnected(std::error_code reason) final;

    bool may_send() const;
    bool send_message(Frame::Opcode opcode, Bytes payload);
    bool write_frame(Frame::Opcode opcode, Bytes payload, bool final, bool compressed = false);
    void take_part(Bytes payload, bool last);
    void take_compressed(Bytes payload, bool last);
    void gather(Kind kind, Bytes part, bool last);
    bool write_close(std::uint16_t code, std::string_view reason);
    void take_close(std::uint16_t code, Bytes reason);
    void fail(std::uint16_t code, std::string_view why);
    void end(std::uint16_t code, std::string_view reason);
    void check_idle();

    Role role() const noexcept { return decoder_.role(); }

    FrameDecoder decoder_;
    struct More;  // the state that few connections need
    More& more();

    std::unique_ptr<More> more_;
    Slow slow_;
    bool may_compress_;
    bool is_open_ = false;
    bool close_sent_ = false;
    bool over_ = true;    // `closed` was called, or will not be, as before `opened`
    bool heard_ = false;  // since the last look for idleness
    bool sending_parts_ = false;
    bool deflates_ = false;  // agreed on
};

/// Makes the WebSocket of one request; null answers 404.
using WebSocketFactory = MoveOnlyFunction<std::unique_ptr<WebSocket>(const http::Request&)>;

/// The settings of a handshake.
struct AcceptOptions {
    /// Subprotocols, the preferred ones first. One that the client offers is chosen; if there is none, none is.
    std::vector<std::string> protocols = {};
    /// The values of Origin that are accepted, for pages of browsers: a page of any site can connect otherwise. Empty:
    /// all. A request without Origin, which is no browser's, is accepted.
    std::vector<std::string> origins = {};
};

/// A handler that does the handshake of RFC 6455, 4.2: `server.get("/chat", websocket::accept(…))`. A request that is
/// no handshake is answered with 400, another version with 426, another origin with 403. Throws std::invalid_argument
/// for an empty factory.
REACTOR_EXPORT http::Handler accept(WebSocketFactory factory, AcceptOptions options = {});

/// The protocol of a client, for a Connector's factory: it asks the server for `target` on `host` (with the port, if it
/// is not the usual one), and then `socket` speaks. Throws std::invalid_argument for a null socket, and for a host or
/// target that cannot stand in a request.
REACTOR_EXPORT std::unique_ptr<Protocol> client(std::string_view host, std::string_view target,
                                                std::unique_ptr<WebSocket> socket);

/// The value of Sec-WebSocket-Accept for a key (RFC 6455, 4.2.2).
REACTOR_EXPORT std::string accept_value(std::string_view key);

}  // namespace reactor::websocket
