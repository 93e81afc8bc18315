// Service: the answers of a server, found by method and path, and the settings that hold for all of its connections.
#pragma once

#include <protocols/http/exchange.hpp>
#include <protocols/http/head.hpp>
#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace reactor::http {

/// Answers one request.
using Handler = MoveOnlyFunction<void(const Request&, Exchange)>;

/// One request and its answer, for a log.
struct Access {
    Address peer;
    std::string_view method, target;  ///< as they were sent; empty if the request could not be understood
    int status = 0;
    std::uint64_t content = 0;  ///< bytes of content that were written
    Duration time{};            ///< from the end of the request's head to the end of its answer
};

/// The limits of a Service.
struct ServiceOptions {
    HeadLimits head = {};
    /// Bytes of content that a request may have.
    std::uint64_t content = 16 * 1024 * 1024;
    /// From the first byte of a request to the end of its head; 408 after it. Zero: no limit.
    Duration head_timeout = std::chrono::seconds(10);
    /// CONNECT is given to a route, and not refused with 501.
    bool allow_connect = false;
};

/// A table of routes. A route is a path whose segments may be `{name}`, which stands for any one segment, or at the end
/// `{name...}`, which stands for the rest of the path, "/" and all. A route without parameters goes before others,
/// otherwise the first that fits is taken. HEAD is answered by GET's handler, without the content. A path that no route
/// fits is answered with 404, and a method that none of its routes has with 405 and Allow. OPTIONS is answered.
///
/// An exception out of a handler answers 500, closes the connection, and goes to the reactor's exception hook.
///
/// Thread: the loop's of its connections. Lifetime: its connections share it; after close() no handler is called.
class REACTOR_EXPORT Service {
public:
    explicit Service(ServiceOptions options = {});
    ~Service();
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    /// Throws std::invalid_argument for a method that is no token, a path that does not begin with "/", a parameter
    /// that is malformed, an empty handler, and a route that is there already.
    void route(std::string_view method, std::string_view path, Handler handler);
    void get(std::string_view path, Handler handler) { route("GET", path, std::move(handler)); }
    void post(std::string_view path, Handler handler) { route("POST", path, std::move(handler)); }

    /// Answers every request that no route fits, in the place of 404.
    void otherwise(Handler handler);

    /// Calls `hook` after each answer. Costs a copy of each request's method and target.
    void on_access(MoveOnlyFunction<void(const Access&)> hook);

    /// Forgets all handlers: further requests are answered with 503, and their connections close. Called by a handler,
    /// it destroys them when that handler returns.
    void close() noexcept;

    const ServiceOptions& options() const noexcept { return options_; }

    /// Connections that have begun, and have not ended.
    std::size_t connections() const noexcept { return connections_; }

private:
    friend class ServerConnection;
    struct Route;
    struct Resource;
    struct Tables;

    void dispatch(const RequestHead& head, ServerConnection& connection, const Transport& transport);
    void dispatch_by_pattern(const RequestHead& head, Exchange&& exchange, const Transport& transport);
    void dispatch_to(const Resource& resource, const Request& request, Exchange&& exchange);
    void forget() noexcept;

    ServiceOptions options_;
    std::unique_ptr<Tables> tables_;  // its routes are gone after close()
    MoveOnlyFunction<void(const Access&)> on_access_;
    std::size_t connections_ = 0;
    bool closed_ = false;
};

}  // namespace reactor::http
