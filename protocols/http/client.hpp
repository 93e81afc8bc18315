// Client: asks servers of HTTP/1.1, over connections that it keeps for the next request.
//
//     http::Client client{reactor};
//     http::Call call = client.get("http://localhost:8080/", [](std::error_code error, http::Response response) {
//         if (!error) use(response.status(), response.content());
//     });
#pragma once

#include <protocols/http/head.hpp>
#include <protocols/http/response.hpp>
#include <reactor/bytes.hpp>
#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/protocol.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

class Reactor;

}  // namespace reactor

namespace reactor::http {

class CallState;
class ClientPool;
class PartsOperation;
class ResponseOperation;

/// Puts a protocol into TLS, as a client of this host: `http::over_tls(context)` of protocols/http/over_tls.hpp.
using Secure = std::function<std::unique_ptr<Protocol>(const std::string& host, std::unique_ptr<Protocol> inside)>;

/// The settings of a Client. Durations of zero or less are no limits.
struct ClientOptions {
    /// Connections to one server at a time, at least 1. One carries one request at a time; further requests wait.
    std::size_t connections = 6;
    /// Connections that are kept without a request, to all servers together. With 0, servers are asked to close.
    std::size_t idle = 32;
    /// How long a connection is kept without a request; and how long the content of a response may pause
    /// (Error::receive_timeout), which is not counted while Call::pause holds it.
    Duration idle_timeout = std::chrono::seconds(60);
    /// From the call to the head of the final response, with redirects and a repeated request (errc::timed_out).
    Duration timeout = std::chrono::seconds(30);
    /// Redirects of one call that are followed; at one more it ends (Problem::too_many_redirects). With 0 none is
    /// followed, and such a response is given like any other.
    std::size_t redirects = 10;
    /// Bytes of content that `get` and `send` gather; at more the call ends (Problem::body_too_long).
    std::size_t content = 16 * 1024 * 1024;
    HeadLimits head = {};
    /// For https. Empty: such URLs are refused.
    Secure secure = {};
    /// "http://host:port" of a proxy. https is tunnelled through it by CONNECT (RFC 9110, 9.3.6), http is asked of it.
    /// Empty: none.
    std::string proxy = {};
    /// Every connection is made to this host, whatever the URLs say: "unix:/run/service". Empty: none.
    std::string address = {};
    /// Of each connection. `reconnect` is ignored.
    ConnectorOptions connector = {};
};

/// A request as a client sends it.
struct ClientRequest {
    /// A token, in the case that the server knows. Not CONNECT.
    std::string method = "GET";
    /// http or https, absolute.
    std::string url = {};
    /// Names and values. Host, Connection, Content-Length, Transfer-Encoding, Expect, Upgrade, TE and Trailer are the
    /// client's own.
    std::vector<std::pair<std::string, std::string>> fields = {};
    std::string content = {};
    /// Content-Type; empty: none.
    std::string type = {};
    /// The content is not `content`: it follows by Call::write.
    bool in_parts = false;
    /// How long content in parts will be. Without it, it goes in chunks.
    std::optional<std::uint64_t> length = {};
    /// The content is sent when the server has agreed (100), or after a second (RFC 9110, 10.1.1).
    bool expects_continue = false;
    /// The request may reach the server twice although its method is not idempotent (RFC 9110, 9.2.2).
    bool repeatable = false;
};

class Call;
REACTOR_EXPORT Call get(Reactor& reactor, std::string_view url,
                        MoveOnlyFunction<void(std::error_code, Response)> answered, ClientOptions options);

/// The handle of one request. Destroying it cancels the request: no callback is called any more, and a connection that
/// waits for the answer is reset. Thread: the loop's. Lifetime: may outlive its client.
class [[nodiscard]] REACTOR_EXPORT Call {
public:
    Call() noexcept = default;  ///< of nothing: not open
    Call(Call&& other) noexcept = default;
    Call& operator=(Call&& other) noexcept;
    ~Call() { cancel(); }

    /// True until the last callback is called, or the request is cancelled.
    bool open() const noexcept;
    void cancel() noexcept;

    /// No more of the response's content is received until resume(): the server has to wait.
    void pause();
    void resume();

    // ── content in parts (ClientRequest::in_parts) ──

    /// Calls `callback` when the content may begin, and each time that the output has fallen to the low watermark after
    /// it was above the high one. Throws std::invalid_argument for an empty one.
    void on_writable(MoveOnlyFunction<void()> callback);
    /// Sends the next part. False, and nothing is sent, before `on_writable` has called, and once nothing more is
    /// wanted: a response of 300 or above has begun, another one is complete, or the connection has ended. Throws
    /// std::logic_error for a request that is not in parts, and for more than its length.
    bool write(Bytes part);
    bool write(std::string_view part) { return write(bytes_of(part)); }
    /// The content is complete. Throws std::logic_error if it is shorter than its length.
    void end();
    /// Bytes that wait for the server. Above Limits::high_mark a producer should stop until `on_writable` calls.
    std::size_t queued() const noexcept;

private:
    friend class Client;
    friend Call get(Reactor& reactor, std::string_view url, MoveOnlyFunction<void(std::error_code, Response)> answered,
                    ClientOptions options);

    explicit Call(std::shared_ptr<CallState> state) noexcept : state_(std::move(state)) {}

    std::shared_ptr<CallState> state_;
    std::shared_ptr<void> client_;  // of http::get
};

/// A pool of connections to any number of servers. There is no pipelining.
///
/// A request is sent once more, over a new connection, if a kept connection ended before it brought any of the
/// answer, and the request is idempotent (RFC 9110, 9.2.2: GET, HEAD, OPTIONS, TRACE, PUT, DELETE) or `repeatable`.
/// Content in parts is never sent again.
///
/// 301, 302, 303, 307 and 308 with a Location are followed. 303 becomes GET, as 301 and 302 of a POST do (RFC 9110,
/// 15.4). Authorization and Cookie are sent to the origin of the first URL alone. From https to http none is followed
/// (Problem::bad_redirect). One that would take content in parts again is given like any other response.
///
/// Errors: those of Connector, of the connection and of TLS; Problem for an answer that is malformed or too long, or
/// ended early; connection_reset if the server ended the connection in the place of an answer;
/// Problem::refused_by_proxy; timed_out; resource_unavailable_try_again if too many requests wait. A status is no
/// error.
///
/// Thread: the loop's. Lifetime: must go before its reactor. Destroyed, it resets its connections and cancels all
/// calls.
class REACTOR_EXPORT Client {
public:
    /// Called once: with a response and its content, or with an error and an empty response.
    using Answered = MoveOnlyFunction<void(std::error_code error, Response response)>;
    /// A response whose content is not gathered.
    struct Parts {
        /// Called first, once, without the content. Not called before an error.
        MoveOnlyFunction<void(Response response)> head = {};
        /// Called with each part, which is valid until the call returns; `last` with the last one, which may be empty.
        /// An error ends the call, before or after `head`.
        MoveOnlyFunction<void(std::error_code error, Bytes part, bool last)> part = {};
    };

    /// Connects when something is asked. Throws std::invalid_argument for an option out of its range, and a proxy that
    /// is no http URL.
    [[nodiscard]] explicit Client(Reactor& reactor, ClientOptions options = {});
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    /// Sends the request now, or when a connection is free. No callback is called from inside this call. Throws
    /// std::invalid_argument for a URL that parse_url refuses, https without ClientOptions::secure, a method or field
    /// that cannot be sent, and an empty callback.
    Call send(ClientRequest request, Answered answered);
    Call send(ClientRequest request, Parts parts);
    Call get(std::string_view url, Answered answered);

    /// In a coroutine, with protocols/http/client_coroutine.hpp: `co_await client.get(url)` is a Result<Response>, and
    /// `co_await client.open(request)` a Result<ResponseParts>. Errors are the same, as values; a request that cannot
    /// be sent throws where it is awaited. Content in parts cannot be sent so. A request that is built in an expression
    /// with an await is destroyed twice by g++ 12: give it a name first.
    ResponseOperation get(std::string_view url);
    ResponseOperation send(ClientRequest request);
    PartsOperation open(ClientRequest request);

    /// Connections that there are, and how many of them wait for a request; and requests that wait for a connection.
    std::size_t connections() const noexcept;
    std::size_t idle() const noexcept;
    std::size_t waiting() const noexcept;

    /// At so many requests to one server that wait for a connection, one more is refused.
    static constexpr std::size_t most_waiting = 1024;

private:
    Call begin(std::shared_ptr<CallState> state);

    std::unique_ptr<ClientPool> pool_;
};

/// Asks once, with a client of its own that the call owns, and that keeps no connection.
REACTOR_EXPORT Call get(Reactor& reactor, std::string_view url, Client::Answered answered, ClientOptions options);
inline Call get(Reactor& reactor, std::string_view url, Client::Answered answered) {
    return get(reactor, url, std::move(answered), ClientOptions());
}

}  // namespace reactor::http
