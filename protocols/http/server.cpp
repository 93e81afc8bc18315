#include <protocols/http/server.hpp>

#include <protocols/http/server_connection.hpp>
#include <reactor/factory.hpp>

namespace reactor::http {

Server::Server(Reactor& reactor, std::string_view host, std::uint16_t port, ServerOptions options)
    : service_(std::make_shared<Service>(options.service)),
      acceptor_(reactor, host, port, factory<ServerConnection>(service_), std::move(options.acceptor)) {}

Server::~Server() {
    service_->close();
}

}  // namespace reactor::http
