// echo_server: the tutorial's server, for any number of clients at once. SIGINT and SIGTERM end it in good order,
// SIGHUP starts a successor on the same sockets.
#include <protocols/echo.hpp>
#include <protocols/framing/any_framing.hpp>
#include <protocols/framing/framed.hpp>
#include <protocols/programs/program.hpp>
#include <protocols/programs/restart.hpp>
#include <protocols/programs/tls_options.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/net/socket_file.hpp>
#include <reactor/reactor.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/acceptor_sharing.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/stream/inherited.hpp>
#include <reactor/timer.hpp>

#include <chrono>
#include <list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

struct Settings {
    std::string host = "localhost";
    std::uint16_t port = 10000;
    std::string backend = "auto";
    std::string framing = "none";
    std::size_t max_message = default_maximum_message;
    double idle_timeout = 0;
    std::size_t max_connections = 0;
    std::uint64_t rate = 0;
    std::size_t chunk = 64 * 1024;
    std::size_t threads = 1;
    std::string sharing = "reuse-port";
    double stats = 0;
    double drain = 30;
    unsigned busy_wait = 0;  // microseconds
    bool udp = false;
    bool coroutines = false;
    bool verbose = false;
    program::TlsSettings tls;
    program::Dress dress;  // made of them once, for all loops
    program::Command command;
};

// The echo of whole messages.
class FramedEcho final : public Framed<AnyFraming> {
public:
    using Framed::Framed;

private:
    void message(Bytes message) override { send(message); }
};

// The echo that prints its actions, in the words of the tutorial's server.
class ToldEcho final : public Framed<AnyFraming> {
public:
    using Framed::Framed;

private:
    void connected() override {
        peer_ = transport().peer().to_string();
        program::say("connection from {}", peer_);
    }
    void message(Bytes message) override {
        program::say("received {}", program::quoted(message));
        program::say("sending data back to the client");
        send(message);
    }
    void malformed(const FramingError& error) override {
        program::say("not a message from {}: {}", peer_, error.to_string());
        transport().abort(error.code());
    }
    void ended() override {
        program::say("no more data from {}", peer_);
        transport().close();
    }
    void disconnected(std::error_code error) override {
        if (error) program::say("connection from {} ended: {}", peer_, error.message());
    }

    std::string peer_;
};

// The same echoes as coroutines.
Task<> echo(Stream stream) {
    while (const auto input = co_await stream.read_some()) co_await stream.write(*input);
}

Task<> echo_framed(Stream stream, AnyFraming framing) {
    while (const auto message = co_await stream.read(framing)) {
        const Envelope envelope = framing.envelope(*message);
        if (envelope.error) co_return stream.abort(envelope.error.code());
        co_await stream.write(envelope.header(), *message, envelope.trailer);
        if (envelope.ends_stream) stream.shutdown_write();
    }
}

// One loop of the server: everything but its reactor. Made before the loop's thread starts, on it from then on.
class Loop {
public:
    /// `listens` is the addresses, or sockets that listen already.
    template <class Listens>
    Loop(const Settings& settings, ReactorGroup& group, std::size_t index, Listens listens,
         const AcceptorOptions& options)
        : group_(group),
          index_(index),
          reactor_(group[index]),
          acceptor_(reactor_, std::move(listens), program::dressed(settings.dress, protocols(settings)), options),
          stats_(reactor_, [this] { say_counters(); }) {
        reactor_.set_busy_wait(std::chrono::microseconds(settings.busy_wait));
        if (settings.stats <= 0) return;
        stats_.start_periodic(program::seconds(settings.stats));
        reactor_.on_notice([](Notice, std::string_view text) { program::say("notice: {}", text); });
        reactor_.on_slow_call(std::chrono::milliseconds(100), [](const SlowCall& call) {
            program::say("notice: a callback took {} ms", call.duration / std::chrono::milliseconds(1));
        });
    }

    std::vector<Address> addresses() const { return acceptor_.addresses(); }

    std::vector<int> listening_sockets() const { return acceptor_.listening_sockets(); }

    /// From any thread: a successor listens on the same sockets now.
    void leave_files() {
        reactor_.post([this] { acceptor_.leave_files(); });
    }

    // One line of everything that is counted, since the beginning.
    void say_counters() const {
        const Counters loop = reactor_.counters();
        const Acceptor::Counters& listening = acceptor_.counters();
        program::say(
            "stats: {}connections={} accepted={} shed={} back_offs={} turns={} events={} changes={} wakeups={} "
            "timers={} tasks={} bytes_received={} bytes_sent={}",
            group_.size() > 1 ? fmt::format("loop={} ", index_) : "", acceptor_.connections(), listening.accepted,
            listening.shed, listening.back_offs, loop.turns, loop.events, loop.changes, loop.wakeups, loop.timers,
            loop.tasks, loop.bytes_received, loop.bytes_sent);
    }

private:
    static ProtocolFactory protocols(const Settings& settings) {
        const AnyFraming framing = program::parse_framing(settings.framing, settings.max_message);
        if (settings.coroutines && framing.get<Unframed>() == nullptr) return coroutine(echo_framed, framing);
        if (settings.coroutines) return coroutine(echo);
        if (settings.verbose) return factory<ToldEcho>(framing);
        if (framing.get<Unframed>() == nullptr) return factory<FramedEcho>(framing);
        return factory<Echo>();
    }

    ReactorGroup& group_;
    const std::size_t index_;
    Reactor& reactor_;
    Acceptor acceptor_;
    Timer stats_;
};

// The echo of datagrams, which knows when it was the last of its kind.
class ServedDatagrams final : public DatagramProtocol {
public:
    ServedDatagrams(std::size_t& open, Reactor& reactor, bool verbose)
        : open_(open), reactor_(reactor), verbose_(verbose) {}

private:
    void received(const Datagram& datagram) override {
        if (verbose_)
            program::say("received {} from {}{}", program::quoted(datagram.data), datagram.sender.to_string(),
                         datagram.truncated ? ", truncated" : "");
        transport().answer(datagram, datagram.data);
    }
    void refused(const Address& to, std::error_code error) override {
        if (verbose_) program::say("not delivered to {}: {}", to.to_string(), error.message());
    }
    void closed(std::error_code error) override {
        if (error) program::say("a socket ended: {}", error.message());
        if (--open_ == 0) reactor_.stop();
    }

    std::size_t& open_;
    Reactor& reactor_;
    const bool verbose_;
};

// One line of everything that is counted, since the beginning; of the sockets that are open.
void say_counters(const Reactor& reactor, const std::vector<DatagramEndpoint*>& endpoints) {
    DatagramEndpoint::Counters all;
    for (const DatagramEndpoint* endpoint : endpoints) {
        all.received += endpoint->counters().received;
        all.sent += endpoint->counters().sent;
        all.dropped += endpoint->counters().dropped;
        all.refused += endpoint->counters().refused;
        all.truncated += endpoint->counters().truncated;
    }
    program::say("stats: received={} sent={} dropped={} refused={} truncated={} turns={} events={}", all.received,
                 all.sent, all.dropped, all.refused, all.truncated, reactor.counters().turns,
                 reactor.counters().events);
}

int serve_datagrams(const Settings& settings) {
    Reactor reactor(settings.backend);
    reactor.set_busy_wait(std::chrono::microseconds(settings.busy_wait));
    DatagramOptions options;
    if (settings.host.starts_with("unix:")) options.largest = program::longest_unix_datagram;
    std::vector<DatagramEndpoint*> endpoints;
    std::vector<SocketFile> files;
    std::size_t open = 0;
    for (Socket& socket : bind_datagrams(settings.host, settings.port)) {
        // Of which the system allows what it likes. A burst that does not fit is lost.
        socket.set_receive_buffer(4 * 1024 * 1024);
        files.emplace_back(socket.local());
        endpoints.push_back(&DatagramEndpoint::open(
            reactor, std::move(socket), std::make_unique<ServedDatagrams>(open, reactor, settings.verbose), options));
        ++open;
    }

    Timer stats(reactor, [&] { say_counters(reactor, endpoints); });
    if (settings.stats > 0) stats.start_periodic(program::seconds(settings.stats));

    const Signals signals = program::watch_signals(reactor, [&](int signal) {
        if (signal == SIGHUP) return program::say("cannot restart: not with --udp");
        if (settings.stats > 0 && !endpoints.empty()) say_counters(reactor, endpoints);
        for (DatagramEndpoint* endpoint : std::exchange(endpoints, {})) endpoint->close();
    });

    for (const DatagramEndpoint* endpoint : endpoints)
        program::say("listening on {} ({})", endpoint->local().to_string(), reactor.backend());
    reactor.run();
    return EXIT_SUCCESS;
}

int serve(const Settings& settings) {
    if (settings.udp) return serve_datagrams(settings);
    program::raise_descriptor_limit();
    const bool reuse_port = settings.sharing == "reuse-port";
    AcceptorSharing sharing(settings.sharing == "round-robin" ? AcceptorSharing::Choice::round_robin
                                                              : AcceptorSharing::Choice::least_connections);
    ReactorGroup group(settings.threads, settings.backend);
    group.set_name("echo");
    const bool alone = group.size() == 1;
    if (!alone && reuse_port && settings.host.starts_with("unix:"))
        throw std::invalid_argument("--threads on a Unix socket needs --sharing round-robin or least-connections");

    AcceptorOptions options;
    options.connection.limits.read_size = settings.chunk;
    options.connection.limits.idle_timeout = program::seconds(settings.idle_timeout);
    if (settings.max_connections > 0)
        options.max_connections = (settings.max_connections + group.size() - 1) / group.size();
    options.connection.rates.bytes_in.per_second = settings.rate;
    options.reuse_port = reuse_port && !alone;
    if (!reuse_port && !alone) options.sharing = &sharing;

    // The first loop takes the port, if any will do; the others get the same, or what the first one accepts.
    std::list<Loop> loops;
    std::vector<Socket> inherited = inherited_sockets();
    Predecessor predecessor;
    if (!inherited.empty() && options.reuse_port)
        throw std::invalid_argument("--threads on inherited sockets needs --sharing round-robin or least-connections");
    if (inherited.empty()) {
        loops.emplace_back(settings, group, 0, resolve_blocking(settings.host, settings.port), options);
    } else {
        loops.emplace_back(settings, group, 0, std::move(inherited), options);
    }
    const std::vector<Address> addresses = loops.front().addresses();
    while (loops.size() < group.size())
        loops.emplace_back(settings, group, loops.size(), options.reuse_port ? addresses : std::vector<Address>(),
                           options);

    bool ending = false;
    const auto drain_longest = program::seconds(settings.drain);
    const auto drain_all = [&](Draining how) {
        ending = true;
        const auto drained = [&group, how](const Drained& all) {
            // A peer that is asked to close and does not is cut as a matter of course; a connection that was to go on
            // is not.
            if (how == Draining::left) program::say_cut(all);
            group.stop();
        };
        drain(group, drain_longest, drained, how);
    };
    program::Restart restart(group[0], settings.command, [&] {
        for (Loop& loop : loops) loop.leave_files();
        drain_all(Draining::left);
    });
    const Signals signals = program::watch_signals(group[0], [&](int signal) {
        if (signal == SIGHUP && ending) return;
        if (signal == SIGHUP && options.reuse_port)
            return program::say("cannot restart: with --threads it needs --sharing round-robin or least-connections");
        if (signal == SIGHUP) return restart.begin(loops.front().listening_sockets());
        if (ending) return group.stop();  // asked twice: at once
        restart.cancel();
        drain_all(Draining::told);
    });

    program::say_listening(addresses, group[0]);
    if (!alone) group.start();
    group[0].post([&predecessor] { predecessor.ready(); });  // when all loops run
    if (alone) {
        group[0].run();  // this thread will do
    } else {
        group.join();
    }
    if (settings.stats > 0)
        for (const Loop& loop : loops) loop.say_counters();
    return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    settings.command.arguments.assign(argv, argv + argc);
    CLI::App arguments("Sends back whatever it receives (RFC 862), to any number of clients at once.", "echo_server");
    arguments.option_defaults()->always_capture_default();
    arguments.add_option("--host", settings.host,
                         "where to listen: a name, an address, unix:/path, unix:@name, '' for all addresses");
    program::add_port(arguments, settings.port, "0 takes a free one");
    program::add_backend(arguments, settings.backend);
    program::add_framing(arguments, settings.framing, settings.max_message);
    arguments
        .add_option("--idle-timeout", settings.idle_timeout, "seconds without traffic that end a connection; 0: none")
        ->check(program::seconds_from(0));
    arguments.add_option("--max-connections", settings.max_connections, "at most so many at a time; 0: any number")
        ->check(program::from_to(std::size_t(0), std::size_t(1) << 30));
    arguments.add_option("--rate", settings.rate, "bytes a second read from each client at most; 0: any number")
        ->check(program::from_to(std::uint64_t(0), std::uint64_t(1) << 40));
    arguments.add_option("--chunk", settings.chunk, "bytes read at a time at most")
        ->check(program::from_to(std::size_t(1), std::size_t(1) << 30));
    arguments
        .add_option("--threads", settings.threads, "loops, each on a thread of its own; 0: as many as run at once")
        ->check(program::from_to(std::size_t(0), std::size_t(1024)));
    arguments
        .add_option("--sharing", settings.sharing,
                    "how several threads share the connections: reuse-port | "
                    "round-robin | least-connections")
        ->check(CLI::IsMember({"reuse-port", "round-robin", "least-connections"}));
    arguments
        .add_option("--drain", settings.drain,
                    "seconds that connections may take to end after SIGINT and SIGTERM, or go on after SIGHUP")
        ->check(program::seconds_from(0));
    arguments
        .add_option("--stats", settings.stats,
                    "print what is counted every so many seconds, and what an operator should know; 0: never")
        ->check(program::seconds_from(0));
    arguments
        .add_option("--busy-wait", settings.busy_wait,
                    "microseconds to look for the next message before sleeping, while few connections are active")
        ->check(program::from_to(0U, 1'000'000U));
    arguments.add_flag("--udp", settings.udp, "datagrams: UDP, or with unix: a Unix socket of datagrams")
        ->excludes("--framing", "--max-message", "--idle-timeout", "--max-connections", "--rate", "--chunk",
                   "--threads", "--sharing", "--drain");
    program::add_tls_server(arguments, settings.tls);
    arguments.add_flag("--coroutines", settings.coroutines, "serve each connection by a coroutine; it does not tell")
        ->excludes("--udp");
    arguments.add_flag("--verbose", settings.verbose, "tell what happens")->excludes("--coroutines");
    int status = 0;
    if (!program::parsed(arguments, argc, argv, status)) return status;
    return program::run("echo_server", [&] {
        settings.command.program = program_path(argv[0]);
        settings.dress = program::tls_of_server(settings.tls);
        return serve(settings);
    });
}
