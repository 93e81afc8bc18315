// Request and Exchange: the arguments of a server's handler. The request is a view, valid during the call. The exchange
// is the way to answer, now or later.
#pragma once

#include <protocols/http/head.hpp>
#include <reactor/bytes.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/function.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/stream/transport.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace reactor::http {

class ServerConnection;

/// A request as its handler sees it. Lifetime: valid until the handler returns, as are all the views that it gives.
class Request {
public:
    using Parameter = std::pair<std::string_view, std::string>;

    Request(const RequestHead& head, std::span<const Parameter> parameters, const Transport& transport) noexcept
        : head_(head), parameters_(parameters), transport_(transport) {}

    std::string_view method() const noexcept { return head_.method; }
    /// The path, encoded as it was sent.
    std::string_view path() const noexcept { return head_.path; }
    /// The part of the target behind "?"; see query_value().
    std::string_view query() const noexcept { return head_.query; }
    std::string_view host() const noexcept { return head_.host; }
    /// The first field of that name.
    std::optional<std::string_view> operator[](std::string_view name) const noexcept { return head_.fields()[name]; }
    Fields fields() const noexcept { return head_.fields(); }
    const RequestHead& head() const noexcept { return head_; }

    /// The decoded part of the path that stood in the place of `{name}` in the route; empty if there is none.
    std::string_view parameter(std::string_view name) const noexcept {
        for (const Parameter& each : parameters_)
            if (each.first == name) return each.second;
        return {};
    }

    /// The client's address.
    Address peer() const { return transport_.peer(); }

private:
    const RequestHead& head_;
    std::span<const Parameter> parameters_;
    const Transport& transport_;
};

/// The way to answer one request. A handler answers at once, or moves it to where it will: a timer, the callback of
/// another client, a `then` of offload(). It does nothing once the client is gone. Destroyed without an answer, it
/// answers 500.
///
/// Answers leave in the order of the requests. A connection reads its next request when this one is answered.
///
/// Thread: the loop's of its connection, for all calls and for moving it. Errors: no call throws because the client is
/// gone; std::bad_alloc, and std::logic_error where the order of calls is wrong. Lifetime: may outlive its connection.
class [[nodiscard]] REACTOR_EXPORT Exchange {
public:
    Exchange() noexcept = default;  ///< of nothing: not open
    Exchange(Exchange&& other) noexcept { take(other); }
    Exchange& operator=(Exchange&& other) noexcept {
        if (this == &other) return *this;
        if (connection_ != nullptr) abandon();
        take(other);
        return *this;
    }
    ~Exchange() {
        if (connection_ != nullptr) abandon();
    }

    /// Is there a client that waits for the answer, or for the rest of it?
    bool open() const noexcept { return connection_ != nullptr; }

    /// Adds a field to the answer that is still to come. Throws std::invalid_argument for a name that is no token, a
    /// value with a control character, and for the fields that are set here anyway: Date, Connection, Content-Length,
    /// Transfer-Encoding.
    void set(std::string_view name, std::string_view value);

    /// The connection closes behind the answer (Connection: close). To be called before the answer begins.
    void close_after() noexcept;

    /// Answers with all of the content, and is not open any more. An empty `type` sends no Content-Type. Throws
    /// std::invalid_argument for a status below 200 or above 599.
    void answer(int status, std::string_view content = {}, std::string_view type = "text/plain; charset=utf-8");

    /// Answers with bytes of a regular file, moved by the kernel where that can be (Transport::write_file). Throws what
    /// Transport::length_of throws; nothing is sent then.
    void answer_with_file(int status, FileDescriptor file, std::string_view type, std::uint64_t offset = 0,
                          std::uint64_t length = Transport::rest_of_file);

    /// Begins an answer whose content follows by write(). Without a length it goes in chunks, or up to the connection's
    /// end for a client of HTTP/1.0.
    void begin(int status, std::string_view type, std::optional<std::uint64_t> length = std::nullopt);
    /// The next part of the content. False if the client is gone. Throws std::logic_error before begin(), and for more
    /// than the length.
    bool write(Bytes part);
    bool write(std::string_view part) { return write(bytes_of(part)); }
    /// The answer is complete. One that is shorter than its length ends with a reset.
    void end();
    /// Bytes that wait for the client. Above Limits::high_mark a producer should stop until on_writable() is called.
    std::size_t queued() const noexcept;
    /// Calls `callback` each time that the output has fallen to the low watermark after it was above the high one. So
    /// it never comes for a producer that stops earlier by itself, at some number of its own.
    void on_writable(MoveOnlyFunction<void()> callback);

    /// Gives the content of the request part by part, as it arrives; `last` with the last part, which may be empty.
    /// `error` ends it: Problem::ended_inside_message, body_too_long or another one. An error that can be answered is
    /// answered by the server itself. Without a call of this or of receive_all() the content is thrown away. A client
    /// that waits for 100 (Continue) gets it now.
    void receive(MoveOnlyFunction<void(std::error_code error, Bytes part, bool last)> callback);
    /// Gives all of it at once, and itself back, if it is at most `most` bytes. Otherwise the server answers 413, and
    /// the callback is destroyed without a call, as when the client goes.
    void receive_all(std::size_t most, MoveOnlyFunction<void(Exchange, Bytes content)> callback);
    /// No further content is received until resume(): the client has to wait.
    void pause();
    void resume();

    /// Answers 101 with the fields that were set, and gives the connection to `protocol`, which speaks from now on;
    /// `connected` is its first call, from the loop. Input behind the request is received by it.
    void upgrade(std::string_view name, std::unique_ptr<Protocol> protocol);

private:
    friend class ServerConnection;
    explicit Exchange(ServerConnection& connection) noexcept;
    void take(Exchange& other) noexcept;
    void abandon() noexcept;
    bool may_begin(int status, std::string_view type) const;
    void require_not_begun() const;

    ServerConnection* connection_ = nullptr;
};

}  // namespace reactor::http
