// The client of HTTP over TLS, with the server of HTTP behind TLS, over sockets and through a tunnel.
#include "pair.hpp"

#include <protocols/http/client_coroutine.hpp>
#include <protocols/http/over_tls.hpp>
#include <protocols/http/server_connection.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/testing/memory_network.hpp>

#include <memory>
#include <string>
#include <vector>

using namespace reactor;

namespace {

std::shared_ptr<http::Service> hello() {
    auto service = std::make_shared<http::Service>();
    service->get("/", [](const http::Request& request, http::Exchange exchange) {
        exchange.answer(200, "hello from " + std::string(request.host()));
    });
    service->get("/large", [](const http::Request&, http::Exchange exchange) {
        exchange.answer(200, std::string(1'000'000, 'x'));
    });
    return service;
}

http::ClientOptions with_tls(const TlsClientOptions& options = client_options()) {
    http::ClientOptions result;
    result.secure = http::over_tls(TlsContext(options));
    return result;
}

/// A proxy whose tunnels lead to a server of its own.
class Proxy final : public Protocol {
public:
    Proxy(std::vector<std::string>& asked, std::unique_ptr<Protocol> behind)
        : asked_(asked), behind_(std::move(behind)) {}

private:
    std::size_t received(Bytes input) override {
        const std::size_t end = text_of(input).find("\r\n\r\n");
        if (end == std::string_view::npos) return 0;
        asked_.emplace_back(text_of(input).substr(0, end));
        transport().write("HTTP/1.1 200 Connection established\r\n\r\n");
        hand_over_to(std::move(behind_));
        return end + 4;
    }

    std::vector<std::string>& asked_;
    std::unique_ptr<Protocol> behind_;
};

/// A client whose requests go through the tunnel of a proxy.
struct Tunnel {
    static http::ClientOptions through_proxy() {
        http::ClientOptions options = with_tls();
        options.proxy = "http://proxy:3128";
        return options;
    }

    testing::MemoryNetwork network;
    std::vector<std::string> asked;
    const std::shared_ptr<http::Service> service = hello();
    const TlsContext context{server_options()};
    Acceptor proxy{network.reactor(), "proxy", 3128, [this]() -> std::unique_ptr<Protocol> {
                       return std::make_unique<Proxy>(asked,
                                                      tls(context, std::make_unique<http::ServerConnection>(service)));
                   }};
    http::Client client{network.reactor(), through_proxy()};
};

Task<> ask_twice(http::Client& client, std::string url, std::vector<std::string>& contents) {
    for (int i = 0; i < 2; ++i) {
        Result<http::Response> response = co_await client.get(url);
        contents.push_back(response ? response->content() : response.error().message());
    }
}

}  // namespace

TEST_CASE("https is asked over TLS, one request after another on a connection") {
    Reactor reactor;
    const auto service = hello();
    Acceptor acceptor(reactor, "127.0.0.1", 0,
                      tls(TlsContext(server_options()), factory<http::ServerConnection>(service)));
    http::Client client(reactor, with_tls());
    const std::string url = "https://localhost:" + std::to_string(acceptor.port()) + "/";
    std::vector<std::string> contents;
    Scope scope(reactor);
    scope.start(ask_twice(client, url, contents));
    run_until(reactor, [&] { return contents.size() == 2; });
    CHECK(contents[1] == "hello from localhost:" + std::to_string(acceptor.port()));
    CHECK(contents[0] == contents[1]);
    CHECK(client.connections() == 1);
    scope.start(ask_twice(client, url + "large", contents));
    run_until(reactor, [&] { return contents.size() == 4; });
    CHECK(contents[3] == std::string(1'000'000, 'x'));
}

TEST_CASE("a server whose certificate is not trusted, or for another name, is not asked") {
    Reactor reactor;
    const auto service = hello();
    Acceptor acceptor(reactor, "127.0.0.1", 0,
                      tls(TlsContext(server_options()), factory<http::ServerConnection>(service)));
    const std::string port = std::to_string(acceptor.port());
    const auto reason = [&](const std::string& url, const TlsClientOptions& options) {
        http::Client client(reactor, with_tls(options));
        std::error_code result;
        const http::Call call = client.get(url, [&](std::error_code error, const http::Response&) { result = error; });
        run_until(reactor, [&] { return !call.open(); });
        return result;
    };
    static const Authority other;
    TlsClientOptions untrusting;
    untrusting.roots = {Pem::text(other.certificate())};
    CHECK(reason("https://localhost:" + port + "/", untrusting).category() == certificate_category());
    CHECK(reason("https://127.0.0.1:" + port + "/", client_options()).category() == certificate_category());
}

TEST_CASE("https goes through a proxy's tunnel, end to end") {
    Tunnel tunnel;
    std::vector<std::string> contents;
    Scope scope(tunnel.network.reactor());
    scope.start(ask_twice(tunnel.client, "https://localhost/", contents));
    tunnel.network.settle();
    CHECK(contents == std::vector<std::string>{"hello from localhost", "hello from localhost"});
    CHECK(tunnel.asked == std::vector<std::string>{"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443"});
}

TEST_CASE("a download through a tunnel that pauses again and again arrives whole") {
    Tunnel tunnel;
    std::size_t got = 0, pauses = 0;
    http::Call call;
    call = tunnel.client.send({.url = "https://localhost/large"},
                              http::Client::Parts{.part = [&](std::error_code, Bytes part, bool) {
                                  got += part.size();
                                  ++pauses;
                                  call.pause();
                              }});
    for (int turn = 0; turn < 10'000 && call.open(); ++turn) {
        tunnel.network.settle();
        call.resume();
    }
    CHECK(got == 1'000'000);
    CHECK(pauses > 10);
}
