// Server: an acceptor and a service in one, for programs that serve HTTP on one address.
//
//     http::Server server{reactor, "localhost", 8080};
//     server.get("/hello/{name}", [](const http::Request& request, http::Exchange exchange) {
//         exchange.answer(200, "Hello, " + std::string(request.parameter("name")) + "!\n");
//     });
#pragma once

#include <protocols/http/service.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

namespace reactor::http {

/// The settings of a Server. A connection without a byte for a minute ends, unless `acceptor` says otherwise.
struct ServerOptions {
    ServiceOptions service = {};
    AcceptorOptions acceptor = default_acceptor();

    static AcceptorOptions default_acceptor() {
        AcceptorOptions options;
        options.connection.limits.idle_timeout = std::chrono::seconds(60);
        return options;
    }
};

/// Serves from its construction until it is closed or destroyed. Thread: the loop's. Lifetime: must go before its
/// reactor. Destroyed, it calls no handler any more; connections that are left are answered with 503.
class REACTOR_EXPORT Server {
public:
    /// Listens as Acceptor does, and throws what it throws. Several addresses are served by one Service each, or by
    /// several acceptors of `factory<http::ServerConnection>(service)`.
    [[nodiscard]] Server(Reactor& reactor, std::string_view host, std::uint16_t port, ServerOptions options = {});
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// As Service::route, and so on.
    void route(std::string_view method, std::string_view path, Handler handler) {
        service_->route(method, path, std::move(handler));
    }
    void get(std::string_view path, Handler handler) { service_->get(path, std::move(handler)); }
    void post(std::string_view path, Handler handler) { service_->post(path, std::move(handler)); }
    void otherwise(Handler handler) { service_->otherwise(std::move(handler)); }
    void on_access(MoveOnlyFunction<void(const Access&)> hook) { service_->on_access(std::move(hook)); }

    std::uint16_t port() const { return acceptor_.port(); }
    Acceptor& acceptor() noexcept { return acceptor_; }
    const std::shared_ptr<Service>& service() const noexcept { return service_; }

private:
    std::shared_ptr<Service> service_;
    Acceptor acceptor_;
};

}  // namespace reactor::http
