// http_server: the files of a folder by HTTP/1.1. SIGINT and SIGTERM end it in good order, SIGHUP starts a successor on
// the same sockets.
#include <protocols/http/server_connection.hpp>
#include <protocols/http/static_files.hpp>
#include <protocols/programs/program.hpp>
#include <protocols/programs/restart.hpp>
#include <protocols/programs/tls_options.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/stream/inherited.hpp>
#ifdef WITH_WEBSOCKET
#include <protocols/websocket/websocket.hpp>
#endif

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
    program::Command command;
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

std::shared_ptr<http::Service> service_of(const Settings& settings) {
    auto service = std::make_shared<http::Service>();
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
    return service;
}

int serve(const Settings& settings) {
    program::raise_descriptor_limit();
    std::vector<Socket> inherited = inherited_sockets();
    Predecessor predecessor;
    Reactor reactor(settings.backend);
    AcceptorOptions options;
    options.connection.limits.idle_timeout = program::seconds(settings.timeout);
    options.connection.limits.write_timeout = program::seconds(settings.timeout);
    options.max_connections = settings.connections;
    ProtocolFactory connections =
        program::dressed(program::tls_of_server(settings.tls), factory<http::ServerConnection>(service_of(settings)));
    std::optional<Acceptor> acceptor;
    if (inherited.empty()) {
        acceptor.emplace(reactor, settings.host, settings.port, std::move(connections), options);
    } else {
        acceptor.emplace(reactor, std::move(inherited), std::move(connections), options);
    }

    bool ending = false;
    const auto end = [&] {
        ending = true;
        drain(reactor, program::seconds(settings.drain), [&reactor](const Drained& all) {
            program::say_cut(all);
            reactor.stop();
        });
    };
    program::Restart restart(reactor, settings.command, [&] {
        acceptor->leave_files();
        end();
    });
    const Signals signals = program::watch_signals(reactor, [&](int signal) {
        if (signal == SIGHUP) return ending ? void() : restart.begin(acceptor->listening_sockets());
        if (ending) return cut_drain(reactor);  // asked twice: at once
        restart.cancel();
        end();
    });
    reactor.post([&] {
        program::say_listening(acceptor->addresses(), reactor);
        predecessor.ready();
    });
    reactor.run();
    return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    settings.command.arguments.assign(argv, argv + argc);
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
    return program::run("http_server", [&] {
        settings.command.program = program_path(argv[0]);
        return serve(settings);
    });
}
