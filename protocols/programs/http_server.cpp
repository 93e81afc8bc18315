// http_server: the files of a folder by HTTP/1.1.
#include <protocols/http/server_connection.hpp>
#include <protocols/http/static_files.hpp>
#include <protocols/programs/program.hpp>
#include <protocols/programs/tls_options.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#ifdef WITH_WEBSOCKET
#include <protocols/websocket/websocket.hpp>
#endif

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

using namespace reactor;

namespace {

struct Settings {
    std::string root;
    std::string host = "localhost";
    std::uint16_t port = 8080;
    std::string backend = "auto";
    double timeout = 60;
    double drain = 30;
    std::size_t connections = 10'000;
    bool log = false;
    std::string websocket_echo;
    program::TlsSettings tls;
};

#ifdef WITH_WEBSOCKET
class EchoSocket final : public websocket::WebSocket {
public:
    using WebSocket::WebSocket;

private:
    void message(websocket::Kind kind, Bytes content) override {
        kind == websocket::Kind::text ? send(text_of(content)) : send_binary(content);
    }
};
#endif

int serve(const Settings& settings) {
    program::raise_descriptor_limit();
    Reactor reactor(settings.backend);
    AcceptorOptions options;
    options.connection.limits.idle_timeout = program::seconds(settings.timeout);
    options.connection.limits.write_timeout = program::seconds(settings.timeout);
    options.max_connections = settings.connections;
    const auto service = std::make_shared<http::Service>();
    service->get("/{path...}", http::static_files(settings.root));
#ifdef WITH_WEBSOCKET
    if (!settings.websocket_echo.empty()) {
        service->get(settings.websocket_echo,
                     websocket::accept([](const http::Request&) { return std::make_unique<EchoSocket>(); }));
    }
#endif
    if (settings.log) {
        service->on_access([](const http::Access& access) {
            program::say("{} {} {} {} {} {:.6f}", access.peer.to_string(), access.method.empty() ? "-" : access.method,
                         access.target.empty() ? "-" : access.target, access.status, access.content,
                         std::chrono::duration<double>(access.time).count());
        });
    }
    Acceptor acceptor(reactor, settings.host, settings.port,
                      program::dressed(program::tls_of_server(settings.tls), factory<http::ServerConnection>(service)),
                      options);
    return program::serve_until_signal(reactor, acceptor.addresses(), settings.drain, Draining::told);
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    CLI::App arguments("Serves the files of a folder by HTTP/1.1.", "http_server");
    arguments.option_defaults()->always_capture_default();
    arguments.add_option("root", settings.root, "the folder")->required();
    arguments.add_option("--host", settings.host, "address or name to listen at; empty: all; unix:/path, unix:@name");
    program::add_port(arguments, settings.port, "port to listen at; 0: a free one");
    program::add_backend(arguments, settings.backend);
    arguments
        .add_option("--timeout", settings.timeout,
                    "seconds after which a connection without a byte ends, or one whose client takes nothing")
        ->check(program::seconds_from(0.001));
    program::add_drain(arguments, settings.drain);
    arguments.add_option("--max-connections", settings.connections, "more than these wait")
        ->check(program::from_to(std::size_t(1), std::size_t(1) << 20));
    arguments.add_flag("--log", settings.log, "a line for each answer: client, method, target, status, bytes, seconds");
#ifdef WITH_WEBSOCKET
    arguments.add_option("--websocket-echo", settings.websocket_echo, "path of a WebSocket that sends messages back");
#endif
    program::add_tls_server(arguments, settings.tls);
    int status = 0;
    if (!program::parsed(arguments, argc, argv, status)) return status;
    return program::run("http_server", [&] { return serve(settings); });
}
