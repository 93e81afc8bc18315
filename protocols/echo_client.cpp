// echo_client: the tutorial's client. Sends a message, receives all of it back, compares, and says what broke if
// something did.
#include <protocols/any_framing.hpp>
#include <protocols/framed.hpp>
#include <protocols/program.hpp>
#include <reactor/net/connector.hpp>
#include <reactor/reactor.hpp>

#include <memory>
#include <string>
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
};

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
        if (!expected.starts_with(came)) return fail(difference(expected, came));
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
            failure_ = fmt::format("cannot connect to {} port {}: {}", settings_.host, settings_.port, error.message());
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

    std::string difference(std::string_view expected, std::string_view came) const {
        std::size_t at = 0;
        while (at < expected.size() && at < came.size() && expected[at] == came[at]) ++at;
        if (at == expected.size())
            return fmt::format("different bytes: more came back than the {} of message {}", settings_.message.size(), sent_);
        return fmt::format("different bytes: byte {} of message {} came back as {} and was {}", back_ + at, sent_,
                           program::quoted(bytes_of(came.substr(at, 1))), program::quoted(bytes_of(expected.substr(at, 1))));
    }

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

int converse(const Settings& settings) {
    const AnyFraming framing = parse_framing(settings.framing, settings.max_message);
    if (settings.count > 1 && framing.get<UntilClose>() != nullptr)
        throw std::invalid_argument("--count: with until-close a connection carries one message");
    Reactor reactor(settings.backend);

    const auto timeout = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(settings.timeout));
    ConnectorOptions options;
    options.timeout = timeout;
    options.connection.limits.idle_timeout = timeout;
    options.connection.limits.close_timeout = timeout;

    std::string failure;
    program::say("connecting to {} port {}", settings.host, settings.port);
    const Connector connector(reactor, settings.host, settings.port,
                              protocol_factory<Client>(std::cref(settings), framing, std::ref(reactor), std::ref(failure)),
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
    arguments.add_option("--host", settings.host, "the server: a name or an address");
    arguments.add_option("--port", settings.port, "its port");
    program::add_backend(arguments, settings.backend);
    program::add_framing(arguments, settings.framing, settings.max_message);
    arguments.add_option("--message", settings.message, "what to send");
    arguments.add_option("--count", settings.count, "how often, one after the other")
        ->check(CLI::Range(std::uint64_t(1), std::uint64_t(1) << 62));
    arguments.add_option("--timeout", settings.timeout, "seconds that connecting, and then each silence, may take")
        ->check(program::seconds(0.001, 1e9));
    int status = 0;
    if (!program::parsed(arguments, argc, argv, status)) return status;
    return program::run("echo_client", [&] { return converse(settings); });
}
