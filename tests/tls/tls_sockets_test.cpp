// TLS over sockets and pipes.
#include "raw_peer.hpp"

#include <protocols/echo.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/pipe.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

using namespace reactor;
using Calls = std::vector<std::string>;

namespace {

FileDescriptor file_with(const std::string& text) {
    FileDescriptor file(::memfd_create("written", MFD_CLOEXEC));
    REQUIRE(::write(file.get(), text.data(), text.size()) == ssize_t(text.size()));
    return file;
}

}  // namespace

TEST_CASE("The same protocol is served by an acceptor and asked by a connector over sockets") {
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, tls(TlsContext(server_options()), factory<Echo>()));
    Journal journal;
    const std::string sent = random_bytes(3'000'000, 7);
    journal.on_connected = [&] { journal.transport->write(sent); };
    Connector connector(reactor, "127.0.0.1", acceptor.port(), tls(TlsContext(client_options()), "localhost", [&] {
                            return std::make_unique<Recorder>(journal);
                        }));
    run_until(reactor, [&] { return journal.input.size() >= sent.size(); });
    CHECK(journal.input == sent);
    journal.transport->close();
    run_until(reactor, [&] { return journal.over; });
    CHECK_FALSE(journal.reason);
    run_until(reactor, [&] { return acceptor.connections() == 0; });
}

TEST_CASE("A factory that takes the peer's address gets it over TLS as well, and one that makes nothing refuses") {
    Reactor reactor;
    std::string seen;
    Acceptor acceptor(reactor, "127.0.0.1", 0, tls(TlsContext(server_options()), [&](const Address& peer) {
                          seen = peer.to_string();
                          return std::unique_ptr<Protocol>();
                      }));
    Journal journal;
    Connector connector(reactor, "127.0.0.1", acceptor.port(), tls(TlsContext(client_options()), "localhost", [&] {
                            return std::make_unique<Recorder>(journal);
                        }));
    run_until(reactor, [&] { return journal.over; });
    CHECK(seen.starts_with("127.0.0.1:"));
    CHECK(journal.calls == Calls{"disconnected"});
}

TEST_CASE("An acceptor visits the protocols inside TLS as it visits others") {
    Reactor reactor;
    Journal of_server, of_client;
    Acceptor acceptor(reactor, "127.0.0.1", 0,
                      tls(TlsContext(server_options()), [&] { return std::make_unique<Recorder>(of_server); }));
    Connector connector(reactor, "127.0.0.1", acceptor.port(), tls(TlsContext(client_options()), "localhost", [&] {
                            return std::make_unique<Recorder>(of_client);
                        }));
    run_until(reactor, [&] { return of_server.transport != nullptr && of_client.transport != nullptr; });
    int visited = 0;
    acceptor.for_each<Recorder>([&](Recorder&) { ++visited; });
    acceptor.for_each([&](Protocol& protocol) { visited += dynamic_cast<Recorder*>(&protocol) != nullptr ? 1 : 0; });
    CHECK(visited == 2);
}

TEST_CASE("A connector that reaches nobody reports so to the protocol inside") {
    Reactor reactor;
    const Socket taken = [] {
        Socket socket = Socket::open(Address::Family::ipv4);
        socket.bind(*Address::ip("127.0.0.1", 0));  // and it does not listen
        return socket;
    }();
    struct Failing final : Protocol {
        explicit Failing(std::vector<std::string>& all) : calls(all) {}
        std::size_t received(Bytes input) override { return input.size(); }
        void connect_failed(const std::vector<ConnectFailure>& failures) override {
            CHECK_FALSE(transport().open());
            calls.push_back("failed " + std::to_string(failures.size()));
        }
        void disconnected(std::error_code error) override { calls.push_back(error ? "disconnected" : ""); }
        std::vector<std::string>& calls;
    };
    std::vector<std::string> calls;
    Connector connector(reactor, "127.0.0.1", taken.local().port(), tls(TlsContext(client_options()), "localhost", [&] {
                            return std::make_unique<Failing>(calls);
                        }));
    run_until(reactor, [&] { return calls.size() == 2; });
    CHECK(calls == std::vector<std::string>{"failed 1", "disconnected"});
}

TEST_CASE("Over TLS a producer that writes until the high watermark is passed is called again, wherever it began") {
    constexpr std::size_t high_marks[] = {10, 1000, 8000, 40'000};
    constexpr std::size_t pieces[] = {100, 5000, 17'000, 70'000};
    for (const std::size_t high_mark : high_marks) {
        for (const std::size_t piece : pieces) {
            for (const bool from_outside : {false, true}) {
                for (const bool as_file : {false, true}) {
                    CAPTURE(high_mark);
                    CAPTURE(piece);
                    CAPTURE(from_outside);
                    CAPTURE(as_file);
                    Reactor reactor;
                    Journal of_server, of_client;
                    auto [client, server] = tcp_pair();
                    ConnectionOptions options;
                    options.limits.high_mark = high_mark;
                    Connection::open(reactor, std::move(server),
                                     tls(TlsContext(server_options()), std::make_unique<Recorder>(of_server)), options);
                    Connection::open(
                        reactor, std::move(client),
                        tls(TlsContext(client_options()), "localhost", std::make_unique<Recorder>(of_client)));
                    const std::size_t all = 4 * piece;
                    std::size_t left = all;
                    const auto produce = [&] {
                        while (left > 0 && of_server.transport->queued() <= high_mark) {
                            left -= piece;
                            const std::string text(piece, 'x');
                            CHECK((as_file ? of_server.transport->write_file(file_with(text), 0, piece)
                                           : of_server.transport->write(text)));
                        }
                    };
                    const auto begin = [&] {
                        if (from_outside) return void(reactor.post(produce));
                        produce();
                    };
                    of_server.on_connected = of_server.on_resume = begin;
                    run_until(reactor, [&] { return of_client.input.size() >= all; });
                    CHECK(of_client.input.size() == all);
                }
            }
        }
    }
}

TEST_CASE("TLS runs over pipes") {
    Reactor reactor;
    int there[2], back[2];
    REQUIRE((::pipe(there) == 0 && ::pipe(back) == 0));
    Journal of_server, of_client;
    of_client.on_connected = [&] { of_client.transport->write("hello"); };
    PipeTransport::open(reactor, FileDescriptor(there[0]), FileDescriptor(back[1]),
                        tls(TlsContext(server_options()), std::make_unique<Recorder>(of_server)));
    PipeTransport::open(reactor, FileDescriptor(back[0]), FileDescriptor(there[1]),
                        tls(TlsContext(client_options()), "localhost", std::make_unique<Recorder>(of_client)));
    run_until(reactor, [&] { return of_server.input == "hello"; });
    of_server.transport->close();
    run_until(reactor, [&] { return of_server.over && of_client.over; });
    CHECK_FALSE(of_server.reason);
    CHECK_FALSE(of_client.reason);
}

namespace {

// Each look at it takes some time, so that every step of a handshake does.
struct SlowClock final : Clock {
    TimePoint now() const noexcept override { return time += std::chrono::milliseconds(2); }
    mutable TimePoint time{std::chrono::hours(1)};
};

}  // namespace

TEST_CASE("A client for whose first step an iteration has no time makes it in a later one") {
    SlowClock clock;
    Reactor reactor("auto", clock);
    constexpr std::size_t many = 8;
    std::vector<Journal> of_servers(many), of_clients(many);
    const TlsContext server_side(server_options()), client_side(client_options());
    for (std::size_t i = 0; i < many; ++i) {
        auto [client, server] = tcp_pair();
        of_clients[i].on_connected = [&journal = of_clients[i]] { journal.transport->write("hello"); };
        Connection::open(reactor, std::move(server), tls(server_side, std::make_unique<Recorder>(of_servers[i])));
        Connection::open(reactor, std::move(client),
                         tls(client_side, "localhost", std::make_unique<Recorder>(of_clients[i])));
    }
    const auto all_heard = [&] {
        return std::all_of(of_servers.begin(), of_servers.end(), [](Journal& each) { return each.input == "hello"; });
    };
    for (int i = 0; i < 500 && !all_heard(); ++i) reactor.run_once(std::chrono::milliseconds(1));
    CHECK(all_heard());
}

TEST_CASE("Of many handshakes at once an iteration makes so many as take 5 ms, and others are served meanwhile") {
    SlowClock clock;
    Reactor reactor("auto", clock);
    constexpr std::size_t many = 30;
    TlsServerOptions options = server_options();
    options.handshake_timeout = Duration::zero();
    const TlsContext context(options);
    std::vector<Socket> sockets;
    std::vector<std::unique_ptr<RawPeer>> peers;
    std::vector<std::unique_ptr<Journal>> journals;
    auto [plain, served] = Socket::pair();
    Connection::open(reactor, std::move(served), std::make_unique<Echo>());
    for (std::size_t i = 0; i < many; ++i) {
        auto [far, near] = Socket::pair();
        journals.push_back(std::make_unique<Journal>());
        Connection::open(reactor, std::move(near), tls(context, std::make_unique<Recorder>(*journals.back())));
        peers.push_back(std::make_unique<RawPeer>(false, TlsVersion::tls_1_3));
        sockets.push_back(std::move(far));
    }
    reactor.run_once(Duration::zero());  // all are connected
    for (std::size_t i = 0; i < many; ++i) {
        peers[i]->step();
        write_some(sockets[i], peers[i]->take());
    }
    const auto hear = [&] {
        std::size_t answered = 0;
        for (std::size_t i = 0; i < many; ++i) {
            const std::string came = read_all(sockets[i]);
            if (came.empty()) continue;
            ++answered;
            peers[i]->feed(came);
            write_some(sockets[i], peers[i]->take());
        }
        return answered;
    };
    std::size_t iterations = 0, echoes = 0;
    const auto connected = [&] {
        std::size_t count = 0;
        for (const auto& journal : journals) count += journal->count("connected");
        return count;
    };
    for (; connected() < many && iterations < 1000; ++iterations) {
        write_some(plain, "x");
        reactor.run_once(Duration::zero());
        echoes += read_all(plain).size();
        CHECK(echoes >= iterations);  // one may come in the next: a ring completes twenty receives at a time
        CHECK(hear() <= 3);
    }
    CHECK(connected() == many);
    CHECK(iterations >= 2 * many / 3);
}
