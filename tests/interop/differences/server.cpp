// Ours among the servers that are compared: it answers every request with its method and its content.
#include "../serve.hpp"

#include <protocols/http/server_connection.hpp>

#include <memory>
#include <string>

using namespace reactor;

int main() {
    auto service = std::make_shared<http::Service>();
    service->otherwise([](const http::Request& request, http::Exchange exchange) {
        exchange.receive_all(1024 * 1024, [method = std::string(request.method())](http::Exchange all, Bytes content) {
            all.answer(200, method + " " + std::string(text_of(content)));
        });
    });
    return interop::serve(factory<http::ServerConnection>(service));
}
