// forwarder: a TCP port forwarder in a page. Accepts here, connects there, and carries bytes both ways.
#include <protocols/forward.hpp>
#include <protocols/programs/program.hpp>
#include <protocols/programs/tls_options.hpp>
#include <reactor/net/address.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

struct Settings {
    std::string listen, to;
    std::string backend = "auto";
    double connect_timeout = 10;
    double idle_timeout = 0;
    double drain = 30;
    program::TlsSettings tls, to_tls;
};

// Says on standard error when the target stops answering, and when it does again: a line a change, not one a client.
class Watched {
public:
    explicit Watched(std::string target) : target_(std::move(target)) {}

    void tried(std::error_code error) {
        if (bool(error) == failing_) return;
        failing_ = bool(error);
        if (failing_) {
            program::warn("forwarder: cannot connect to {}: {}", target_, error.message());
        } else {
            program::warn("forwarder: {} answers again", target_);
        }
    }

private:
    const std::string target_;
    bool failing_ = false;
};

bool is_any(const Address& address) {
    return address.host() == "0.0.0.0" || address.host() == "::";
}

// An address that can be bound to belongs to this machine.
bool is_local(const Address& address) {
    try {
        Socket::open(address.family()).bind(address.with_port(0));
        return true;
    } catch (const std::system_error&) {
        return false;
    }
}

// Would it forward to itself, round and round, until there are no descriptors left? A target that cannot be looked up
// now may have an address later, but hardly ours.
void refuse_itself(const std::vector<Address>& listening, const program::Endpoint& to) {
    std::vector<Address> targets;
    try {
        for (const Address& address : listening)
            if (address.port() == to.port && targets.empty()) targets = resolve_blocking(to.host, to.port);
    } catch (const std::system_error&) {
        return;
    }
    for (const Address& address : listening) {
        for (const Address& target : targets) {
            const bool either_is_any = address.family() == target.family() && address.port() == target.port() &&
                                       (is_any(address) || is_any(target));
            if (address == target || (either_is_any && is_local(target)))
                throw std::invalid_argument("--to: " + target.to_string() + " is where it listens itself");
        }
    }
}

int serve(const Settings& settings) {
    program::raise_descriptor_limit();
    const program::Endpoint listen = program::parse_endpoint(settings.listen),
                            to = program::parse_endpoint(settings.to);

    if (to.port == 0 && !to.host.starts_with("unix:"))
        throw std::invalid_argument("--to: port 0 cannot be connected to");

    AcceptorOptions accepting;
    ConnectorOptions connecting;
    connecting.timeout = program::seconds(settings.connect_timeout);
    accepting.connection.limits.idle_timeout = program::seconds(settings.idle_timeout);
    connecting.connection.limits.idle_timeout = accepting.connection.limits.idle_timeout;
    Watched target(settings.to);
    Reactor reactor(settings.backend);  // its connections use what stands before it
    const auto tried = [&target](std::error_code error) { target.tried(error); };
    Acceptor acceptor(reactor, listen.host, listen.port,
                      program::dressed(program::tls_of_server(settings.tls),
                                       factory<Forward>(to.host, to.port, connecting, tried,
                                                        program::tls_of_client(settings.to_tls, to.host))),
                      accepting);
    refuse_itself(acceptor.addresses(), to);

    // Whether a conversation has come to its end is for its two ends to know.
    return program::serve_until_signal(reactor, acceptor.addresses(), settings.drain, Draining::left);
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
        ->check(program::seconds_from(0.001));
    arguments
        .add_option("--idle-timeout", settings.idle_timeout, "seconds without traffic that end a connection; 0: none")
        ->check(program::seconds_from(0));
    program::add_drain(arguments, settings.drain);
    program::add_tls_server(arguments, settings.tls);
    program::add_tls_client(arguments, settings.to_tls, "--to-tls");
    int status = 0;
    if (!program::parsed(arguments, argc, argv, status)) return status;
    return program::run("forwarder", [&] { return serve(settings); });
}
