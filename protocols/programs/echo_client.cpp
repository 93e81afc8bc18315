// echo_client: the tutorial's client. Sends a message, receives all of it back, compares, and says what broke if
// something did.
#include <protocols/framing/any_framing.hpp>
#include <protocols/framing/framed.hpp>
#include <protocols/programs/program.hpp>
#include <protocols/programs/tls_options.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/timer.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

using namespace reactor;

namespace {

struct Settings {
    std::string host = "localhost";
    std::uint16_t port = 10000;
    std::string backend = "auto";
    std::string framing = "none";
    std::size_t max_message = default_maximum_message;
    std::string message = "This is the message.  It will be repeated.";
    std::uint64_t count = 1;
    double timeout = 10;
    bool udp = false;
    program::TlsSettings tls;
};

// A Unix socket has no port.
std::string words_for(const Settings& settings) {
    if (settings.host.starts_with("unix:")) return settings.host;
    return fmt::format("{} port {}", settings.host, settings.port);
}

// Where two texts differ, `came` being shorter than or as long as `sent`, or longer.
std::string difference(std::string_view sent, std::string_view came, std::size_t already, std::uint64_t message) {
    std::size_t at = 0;
    while (at < sent.size() && at < came.size() && sent[at] == came[at]) ++at;
    if (at == sent.size())
        return fmt::format("different bytes: more came back than the {} of message {}", already + sent.size(), message);
    if (at == came.size())
        return fmt::format("different bytes: message {} came back with {} of {} bytes", message, already + at,
                           already + sent.size());
    return fmt::format("different bytes: byte {} of message {} came back as {} and was {}", already + at, message,
                       program::quoted(bytes_of(came.substr(at, 1))), program::quoted(bytes_of(sent.substr(at, 1))));
}

// Sends the message, waits until it is back, and sends it again, as often as it should.
class Client final : public FramedParts<AnyFraming> {
public:
    Client(const Settings& settings, const AnyFraming& framing, Reactor& reactor, std::string& failure)
        : FramedParts(framing), settings_(settings), reactor_(reactor), failure_(failure) {}

private:
    void connected() override { send_next(); }

    void part(Bytes part, bool last) override {
        if (!part.empty()) program::say("received {}", program::quoted(part));
        const std::string_view expected = std::string_view(settings_.message).substr(back_);
        const std::string_view came = text_of(part);
        if (!expected.starts_with(came)) return fail(difference(expected, came, back_, sent_));
        back_ += came.size();
        if (unframed()) last = back_ == settings_.message.size();
        if (!last) return;
        if (back_ < settings_.message.size())
            return fail(fmt::format("different bytes: message {} came back with {} of {} bytes", sent_, back_,
                                    settings_.message.size()));
        if (sent_ < settings_.count) return send_next();
        done_ = true;
        program::say("closing socket");
        transport().close();
    }

    void malformed(const FramingError& error) override { fail("what came back is no message: " + error.to_string()); }
    void unsendable(const FramingError& error) override { fail("cannot send this message: " + error.to_string()); }

    void disconnected(std::error_code error) override {
        reactor_.stop();
        if (done_ || !failure_.empty()) return;
        if (error == std::errc::timed_out) {
            failure_ = fmt::format("timed out: {} was silent for {} seconds", settings_.host, settings_.timeout);
        } else if (sent_ == 0) {
            failure_ = fmt::format("cannot connect to {}: {}", words_for(settings_), error.message());
        } else {
            failure_ = fmt::format("ended early: {} of {} bytes of message {} came back{}{}", back_,
                                   settings_.message.size(), sent_, error ? ": " : "", error ? error.message() : "");
        }
    }

    void send_next() {
        ++sent_;
        back_ = 0;
        program::say("sending {}", program::quoted(bytes_of(settings_.message)));
        send(settings_.message);
        if (unframed() && settings_.message.empty()) part({}, true);  // nothing will come back
    }

    bool unframed() const noexcept { return framing().get<Unframed>() != nullptr; }

    void fail(std::string why) {
        failure_ = std::move(why);
        transport().abort();
    }

    const Settings& settings_;
    Reactor& reactor_;
    std::string& failure_;
    std::uint64_t sent_ = 0;
    std::size_t back_ = 0;  // bytes of the message under way
    bool done_ = false;
};

// The same with datagrams: lost ones are missing when the time is over.
class DatagramClient final : public DatagramProtocol {
public:
    DatagramClient(const Settings& settings, Reactor& reactor, std::string& failure)
        : settings_(settings), reactor_(reactor), failure_(failure), silence_(reactor, [this] {
              fail(fmt::format("timed out: {} was silent for {} seconds", settings_.host, settings_.timeout));
          }) {}

private:
    void opened() override { send_next(); }

    void received(const Datagram& datagram) override {
        program::say("received {}", program::quoted(datagram.data));
        if (text_of(datagram.data) != settings_.message)
            return fail(difference(settings_.message, text_of(datagram.data), 0, sent_));
        if (sent_ < settings_.count) return send_next();
        program::say("closing socket");
        transport().close();
    }
    void refused(const Address&, std::error_code error) override {
        fail(fmt::format("cannot reach {}: {}", words_for(settings_), error.message()));
    }
    void closed(std::error_code error) override {
        if (error && failure_.empty()) failure_ = error.message();
        reactor_.stop();
    }

    void send_next() {
        ++sent_;
        program::say("sending {}", program::quoted(bytes_of(settings_.message)));
        silence_.start(program::seconds(settings_.timeout));
        transport().send(settings_.message);
    }
    void fail(std::string why) {
        failure_ = std::move(why);
        transport().close();
    }

    const Settings& settings_;
    Reactor& reactor_;
    std::string& failure_;
    Timer silence_;
    std::uint64_t sent_ = 0;
};

int converse_by_datagrams(const Settings& settings) {
    Reactor reactor(settings.backend);
    std::string failure;
    const Address server = resolve_blocking(settings.host, settings.port).at(0);
    program::say("sending to {}", words_for(settings));
    Socket socket = Socket::open(server.family(), SocketKind::datagram);
    if (server.family() == Address::Family::unix_domain) socket.bind_to_any_name();
    if (const std::error_code error = socket.connect(server))
        throw std::runtime_error(fmt::format("cannot reach {}: {}", words_for(settings), error.message()));
    DatagramOptions options;
    if (server.family() == Address::Family::unix_domain) options.largest = program::longest_unix_datagram;
    DatagramEndpoint::open(reactor, std::move(socket), std::make_unique<DatagramClient>(settings, reactor, failure),
                           options);
    reactor.run();
    if (!failure.empty()) throw std::runtime_error(failure);
    return EXIT_SUCCESS;
}

int converse(const Settings& settings) {
    if (settings.udp) return converse_by_datagrams(settings);
    const AnyFraming framing = program::parse_framing(settings.framing, settings.max_message);
    if (settings.count > 1 && framing.get<UntilClose>() != nullptr)
        throw std::invalid_argument("--count: with until-close a connection carries one message");
    Reactor reactor(settings.backend);

    const Duration timeout = program::seconds(settings.timeout);
    ConnectorOptions options;
    options.timeout = timeout;
    options.connection.limits.idle_timeout = timeout;
    options.connection.limits.close_timeout = timeout;

    std::string failure;
    program::say("connecting to {}", words_for(settings));
    const Connector connector(
        reactor, settings.host, settings.port,
        program::dressed(program::tls_of_client(settings.tls, settings.host),
                         factory<Client>(std::cref(settings), framing, std::ref(reactor), std::ref(failure))),
        options);
    reactor.run();
    if (!failure.empty()) throw std::runtime_error(failure);
    return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    CLI::App arguments("Sends a message to an echo server and checks that all of it comes back.", "echo_client");
    arguments.option_defaults()->always_capture_default();
    arguments.add_option("--host", settings.host, "the server: a name, an address, unix:/path, unix:@name");
    program::add_port(arguments, settings.port, "its port");
    program::add_backend(arguments, settings.backend);
    program::add_framing(arguments, settings.framing, settings.max_message);
    arguments.add_option("--message", settings.message, "what to send");
    arguments.add_option("--count", settings.count, "how often, one after the other")
        ->check(program::from_to(std::uint64_t(1), std::uint64_t(1) << 62));
    arguments.add_option("--timeout", settings.timeout, "seconds that connecting, and then each silence, may take")
        ->check(program::seconds_from(0.001));
    arguments.add_flag("--udp", settings.udp, "datagrams: UDP, or with unix: a Unix socket of datagrams")
        ->excludes("--framing", "--max-message");
    program::add_tls_client(arguments, settings.tls);
    int status = 0;
    if (!program::parsed(arguments, argc, argv, status)) return status;
    return program::run("echo_client", [&] { return converse(settings); });
}
