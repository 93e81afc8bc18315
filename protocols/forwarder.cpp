// forwarder: a TCP port forwarder in a page. Accepts here, connects there, and carries bytes both ways.
#include <protocols/forward.hpp>
#include <protocols/program.hpp>
#include <reactor/net/acceptor.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>

#include <chrono>
#include <stdexcept>
#include <string>

using namespace reactor;

namespace {

struct Settings {
    std::string listen, to;
    std::string backend = "auto";
    double connect_timeout = 10;
    double idle_timeout = 0;
};

Duration duration(double seconds) { return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)); }

int serve(const Settings& settings) {
    program::raise_descriptor_limit();
    Reactor reactor(settings.backend);
    const program::Endpoint listen = program::parse_endpoint(settings.listen), to = program::parse_endpoint(settings.to);

    if (to.port == 0 && !to.host.starts_with("unix:")) throw std::invalid_argument("--to: nobody can connect to port 0");

    AcceptorOptions accepting;
    ConnectorOptions connecting;
    connecting.timeout = duration(settings.connect_timeout);
    accepting.connection.limits.idle_timeout = connecting.connection.limits.idle_timeout = duration(settings.idle_timeout);
    Acceptor acceptor(reactor, listen.host, listen.port,
                      protocol_factory<Forward>(std::ref(reactor), to.host, to.port, connecting), accepting);

    const Signals signals(reactor, {SIGINT, SIGTERM}, [&](int) { reactor.stop(); });
    for (const Address& address : acceptor.addresses())
        program::say("listening on {} ({})", address.to_string(), reactor.backend());
    reactor.run();
    return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    CLI::App arguments("Accepts connections and carries their bytes to another address and back.", "forwarder");
    arguments.option_defaults()->always_capture_default();
    arguments.add_option("--listen", settings.listen, "HOST:PORT, :PORT for all addresses, or unix:/path")->required();
    arguments.add_option("--to", settings.to, "HOST:PORT or unix:/path")->required();
    program::add_backend(arguments, settings.backend);
    arguments.add_option("--connect-timeout", settings.connect_timeout, "seconds that connecting may take")
        ->check(program::seconds(0.001, 1e9));
    arguments.add_option("--idle-timeout", settings.idle_timeout, "seconds without traffic that end a connection; 0: none")
        ->check(program::seconds(0, 1e9));
    int status = 0;
    if (!program::parsed(arguments, argc, argv, status)) return status;
    return program::run("forwarder", [&] { return serve(settings); });
}
