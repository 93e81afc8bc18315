// The inner parts of a client: the state of a call, the connections to each server, and the protocol of one connection.
#pragma once

#include <protocols/http/body.hpp>
#include <protocols/http/client.hpp>
#include <protocols/http/head.hpp>
#include <protocols/http/response.hpp>
#include <protocols/http/url.hpp>
#include <reactor/detail/callback.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/timer.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor::http {

class ClientConnection;
struct ClientOrigin;
struct ClientLink;

/// One call: from Client::send to its last callback. The pool and the connection that have it are null when it is over.
class CallState {
public:
    CallState(ClientPool& the_pool, Url the_url, ClientRequest the_request);
    /// One with its deadline. Throws std::invalid_argument if the request cannot be sent.
    static std::shared_ptr<CallState> make(ClientPool& pool, ClientRequest request);

    /// It is over: nothing is called any more.
    void drop() noexcept;
    void fail(std::error_code error);
    /// Calls `writable` from the loop, if the content may be written then.
    static void call_writable_soon(const std::shared_ptr<CallState>& state);

    ClientPool* pool;
    ClientOrigin* origin = nullptr;
    ClientConnection* connection = nullptr;  // that carries it
    Url url;
    const Url first_url;
    ClientRequest request;
    std::size_t redirects_left;
    bool repeated = false;
    bool paused = false;
    bool may_write = false;                                              // its content in parts
    std::error_code error = std::make_error_code(std::errc::timed_out);  // at the deadline
    Callback<void(std::error_code, Response)> answered{nullptr};         // or the next two
    Callback<void(Response)> head{nullptr};
    Callback<void(std::error_code, Bytes, bool)> part{nullptr};
    std::unique_ptr<Callback<void()>> writable;
    Timer deadline;
};

/// One connection of a server's, from the moment it is begun.
struct ClientLink {
    explicit ClientLink(ClientOrigin& server) noexcept : origin(server) {}
    ClientOrigin& origin;
    std::unique_ptr<Connector> connector;    // until it is connected
    ClientConnection* connection = nullptr;  // once there is one, which may still shake hands
    bool connected = false;
    bool idle = false;
    TimePoint idle_since{};
};

/// A scheme, a host and a port.
struct ClientOrigin {
    Url url;
    std::vector<std::unique_ptr<ClientLink>> links;
    std::deque<std::shared_ptr<CallState>> waiting;
};

/// All that a client has.
class ClientPool {
public:
    ClientPool(Reactor& the_reactor, ClientOptions the_options);
    ~ClientPool();

    /// Begins a call, or goes on with it: over a redirect, or over another connection.
    void start(const std::shared_ptr<CallState>& state);
    /// It is cancelled, or out of time: forgets it. A connection that carries it is reset.
    void forget(const std::shared_ptr<CallState>& state) noexcept;
    void out_of_time(const std::shared_ptr<CallState>& state);

    // ── for connections ──

    void connected(ClientLink& link);
    /// It has brought its answer, and can be used again.
    void released(ClientLink& link);
    /// Gives calls their connections. Calls nothing of the program's.
    void pump(ClientOrigin& origin);
    /// It is no connection any more.
    void remove(ClientLink& link) noexcept;
    /// It could not be made: the first call that waits has lost its chance.
    void failed(ClientLink& link, std::error_code error);
    /// The same where nothing may be called now.
    void failed_silently(ClientLink& link) noexcept;
    /// The server may have closed all the connections that it kept.
    void repeat(const std::shared_ptr<CallState>& state);
    /// Follows a redirect, if that can be done.
    void follow(const std::shared_ptr<CallState>& state, const Url& url, int status);

    Reactor& reactor;
    ClientOptions options;
    std::optional<Url> proxy;
    std::map<std::string, std::unique_ptr<ClientOrigin>> origins;

private:
    ClientOrigin& origin_of(const Url& url);
    void connect(ClientOrigin& origin);
    std::unique_ptr<Protocol> make_protocol(ClientLink& link);
    void close_idle() noexcept;

    std::vector<std::shared_ptr<CallState>> refused_;  // about to be told
};

/// The protocol of one connection.
class ClientConnection final : public Protocol {
public:
    ClientConnection(ClientPool& pool, ClientLink& link) noexcept : pool_(&pool), link_(&link) {
        link.connection = this;
    }
    ~ClientConnection() override;

    /// Sends the request of a call. There is no other.
    void put(std::shared_ptr<CallState> call);
    /// The pool has forgotten it.
    void close_in_order() noexcept;
    void abort() noexcept;

    // For Call.
    void resume();
    bool write_part(Bytes part);
    void end_parts();
    std::size_t queued() const noexcept { return transport().queued(); }

private:
    void connected() override;
    std::size_t received(Bytes input) override;
    void end_of_stream() override;
    void draining() override;
    void closing() override;
    void disconnected(std::error_code reason) override;
    void resume_writing() override;

    std::size_t take_head(Bytes input);
    void take_final_head(const ResponseHead& head, std::string_view text, bool more);
    std::size_t take_content(Bytes input);
    std::optional<Url> redirect(const ResponseHead& head);
    void send_content();
    void finish(Bytes last_part, bool more);
    void fail(std::error_code error);
    void end_in_the_place_of_an_answer(std::error_code error);
    std::shared_ptr<CallState> let_go_of_call() noexcept;
    void let_go() noexcept;
    void watch(Duration time);

    ClientPool* pool_;  // null once it has forgotten this
    ClientLink* link_;
    std::shared_ptr<CallState> call_;
    HeadParser parser_;
    BodyDecoder content_;
    Response response_;              // its head, while content is gathered
    std::optional<Url> redirect_;    // that is followed when the content is over
    int status_ = 0;                 // of that redirect
    std::uint64_t left_ = 0;         // bytes of content that are still to be written, if they have a length
    std::optional<Timer> to_go_on_;  // while 100 is waited for
    bool reading_content_ = false;
    bool sent_ = false;   // the whole request
    bool keep_ = true;    // the connection, after this answer
    bool used_ = false;   // it has brought an answer before
    bool heard_ = false;  // of this answer
};

/// The head of a request as it is sent.
std::string head_of(const CallState& call, const ClientOptions& options, bool to_proxy);
/// Throws std::invalid_argument for a request that cannot be sent.
void check_request(const ClientRequest& request);
/// Asks a proxy for a tunnel to `authority`, and lets `inside` speak in it.
std::unique_ptr<Protocol> through_tunnel(std::string authority, Duration timeout, std::unique_ptr<Protocol> inside);

}  // namespace reactor::http
