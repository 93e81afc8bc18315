// The acceptor: addresses, floods, running out of descriptors, and ending.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"

#include <protocols/echo.hpp>
#include <reactor/hook.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <deque>
#include <optional>

using namespace reactor;

namespace {

Socket connect_to(const Address& address) {
    Socket socket = Socket::open(address.family());
    const auto error = socket.connect(address);
    if (error && error != std::errc::operation_in_progress) throw std::system_error(error, address.to_string());
    return socket;
}

// Does the server at the other end echo?
bool echoes(Reactor& reactor, Socket& client, std::string_view text = "hello") {
    run_until(reactor, [&] { return write_some(client, text) == text.size(); });
    std::string got;
    bool ended = false;
    run_until(reactor, [&] {
        got += read_all(client, &ended);
        return got.size() >= text.size() || ended;
    });
    return got == text;
}

}  // namespace

TEST_CASE("\"localhost\" with port 0 listens on 127.0.0.1 and ::1 on the same port, and serves both") {
    Reactor reactor;
    Acceptor acceptor(reactor, "localhost", 0, factory<Echo>());
    const auto addresses = acceptor.addresses();
    REQUIRE(addresses.size() == 2);
    CHECK(addresses[0].host() == "127.0.0.1");
    CHECK(addresses[1].host() == "::1");
    CHECK(addresses[0].port() == addresses[1].port());
    CHECK(addresses[0].port() != 0);
    for (const Address& address : addresses) {
        Socket client = connect_to(address);
        CHECK(echoes(reactor, client));
    }
}

TEST_CASE("S84: \"\" listens on every IPv4 and every IPv6 address, each with a socket of its own") {
    Reactor reactor;
    Acceptor acceptor(reactor, "", 0, factory<Echo>());
    const auto addresses = acceptor.addresses();
    REQUIRE(addresses.size() == 2);
    CHECK(addresses[0].host() == "0.0.0.0");
    CHECK(addresses[1].host() == "::");
    Socket client = connect_to(*Address::ip("127.0.0.1", addresses[0].port()));
    CHECK(echoes(reactor, client));
    Socket other = connect_to(*Address::ip("::1", addresses[1].port()));
    CHECK(echoes(reactor, other));
}

TEST_CASE("A port in use is an error that names the address, and leaves nothing open") {
    Reactor reactor;
    Acceptor first(reactor, "127.0.0.1", 0, factory<Echo>());
    const std::uint16_t port = first.addresses()[0].port();
    const std::size_t before = open_descriptors();
    try {
        Acceptor second(reactor, "localhost", port, factory<Echo>());
        FAIL("a port in use was taken");
    } catch (const std::system_error& error) {
        CHECK(error.code() == std::errc::address_in_use);
        CHECK(std::string(error.what()).find("127.0.0.1:" + std::to_string(port)) != std::string::npos);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("S27: out of descriptors it sheds and backs off without spinning, serves those it has, and recovers") {
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
    const Address address = acceptor.addresses()[0];
    std::uint64_t told_shed = 0, told_back_offs = 0;
    reactor.on_notice([&](Notice what, std::string_view text) {
        if (what == Notice::connection_shed) told_shed += text.starts_with(address.to_string()) ? 1 : 0;
        if (what == Notice::accept_backed_off) ++told_back_offs;
    });
    std::vector<Socket> clients;
    for (int i = 0; i < 60; ++i) clients.push_back(connect_to(address));
    Socket refused = Socket::open(Address::Family::ipv4);

    std::optional<FewDescriptors> few(std::in_place, 20);
    run_until(reactor, [&] { return acceptor.counters().accepted + acceptor.counters().shed == 60; });
    CHECK(acceptor.counters().accepted >= 15);
    CHECK(acceptor.counters().shed >= 30);

    std::size_t served = 0;
    for (Socket& client : clients) {
        bool ended = false;
        read_all(client, &ended);
        if (!ended) served += echoes(reactor, client) ? 1 : 0;
    }
    CHECK(served == acceptor.counters().accepted);
    const auto turns = reactor.counters().turns;
    settle(reactor);
    CHECK(reactor.counters().turns - turns <= 3);

    // One more waits: it is shed, not left, and the listener rests in between.
    (void)refused.connect(address);
    bool ended = false;
    run_until(reactor, [&] { return read_all(refused, &ended), ended; });

    CHECK(told_shed == acceptor.counters().shed);
    CHECK(told_back_offs == acceptor.counters().back_offs);

    few.reset();
    clients.clear();
    Socket late = connect_to(address);
    CHECK(echoes(reactor, late));
}

TEST_CASE("S27: with no descriptor even in reserve the listener rests and comes back by itself") {
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
    const Address address = acceptor.addresses()[0];
    Socket client = connect_to(address);
    {
        const FewDescriptors few(0);
        rlimit none{};
        ::getrlimit(RLIMIT_NOFILE, &none);
        none.rlim_cur = 3;  // even what is closed now cannot be opened again
        ::setrlimit(RLIMIT_NOFILE, &none);
        run_until(reactor, [&] { return acceptor.counters().back_offs >= 1; });
        const auto turns = reactor.counters().turns;
        settle(reactor);
        CHECK(reactor.counters().turns - turns <= 3);
    }
    Socket late = connect_to(address);
    CHECK(echoes(reactor, late));
}

TEST_CASE("S29: peers that reset before they are accepted cost nothing but themselves") {
    const std::size_t before = open_descriptors();
    {
        Reactor reactor;
        Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
        for (int i = 0; i < 50; ++i) {
            Socket client = connect_to(acceptor.addresses()[0]);
            client.set_linger(std::chrono::seconds(0));
        }
        Socket sound = connect_to(acceptor.addresses()[0]);
        CHECK(echoes(reactor, sound));
        run_until(reactor, [&] { return acceptor.connections() == 1; });
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("S30: a flood of connections is accepted in portions, so that others get their turn in between") {
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
    std::vector<Socket> clients;
    for (int i = 0; i < 150; ++i) clients.push_back(connect_to(acceptor.addresses()[0]));
    std::uint64_t before = 0;
    while (acceptor.counters().accepted < 150) {
        reactor.run_once();
        CHECK(acceptor.counters().accepted - before <= 64);
        before = acceptor.counters().accepted;
    }
}

TEST_CASE("S31: an acceptor closed, paused or destroyed by its own factory does just that") {
    for (const std::string what : {"close", "pause", "destroy"}) {
        CAPTURE(what);
        Reactor reactor;
        std::optional<Acceptor> acceptor;
        int made = 0;
        acceptor.emplace(reactor, "127.0.0.1", 0, ProtocolFactory([&]() -> std::unique_ptr<Protocol> {
                             ++made;
                             if (what == "close") acceptor->close();
                             if (what == "pause") acceptor->pause();
                             if (what == "destroy") acceptor.reset();
                             return std::make_unique<Echo>();
                         }));
        const Address address = acceptor->addresses()[0];
        Socket one = connect_to(address), two = connect_to(address);
        run_until(reactor, [&] { return made == 1; });
        CHECK(settle(reactor, 20) <= 5);
        CHECK(made == 1);
        if (what == "pause") {
            acceptor->resume();
            run_until(reactor, [&] { return made == 2; });
        }
    }
}

TEST_CASE(
    "S32: of two acceptors that share a port one closes: what waited in its queue is reset, the other serves on") {
    Reactor reactor;
    AcceptorOptions options;
    options.reuse_port = true;
    std::optional<Acceptor> first(std::in_place, reactor, "127.0.0.1", std::uint16_t(0), factory<Echo>(), options);
    const Address address = first->addresses()[0];
    Acceptor second(reactor, {address}, factory<Echo>(), options);
    std::vector<Socket> clients;  // the kernel deals them out to the two by a hash of their ports
    for (int i = 0; i < 64; ++i) clients.push_back(connect_to(address));
    SUBCASE("drained first: those who had connected are served") {
        while (reactor.run_once(Duration::zero()) > 0) {
        }
        first->close();
    }
    SUBCASE("not drained: those in its queue are reset") {
        first.reset();
    }
    int served = 0, reset = 0;
    for (Socket& client : clients) {
        bool ended = false;
        read_all(client, &ended);
        if (ended) {
            ++reset;
        } else {
            served += int(echoes(reactor, client));
        }
    }
    CHECK(served + reset == 64);
    CHECK(served > 0);
    CHECK((reset == 0) == bool(first));
    Socket late = connect_to(address);
    CHECK(echoes(reactor, late));
}

TEST_CASE("A factory that returns nothing refuses, one that throws costs one connection") {
    Reactor reactor;
    int calls = 0, hooked = 0;
    reactor.on_exception([&](std::exception_ptr) { ++hooked; });
    Acceptor acceptor(reactor, "127.0.0.1", 0, ProtocolFactory([&]() -> std::unique_ptr<Protocol> {
                          if (++calls == 1) return nullptr;
                          if (calls == 2) throw std::runtime_error("as planned");
                          return std::make_unique<Echo>();
                      }));
    for (int i = 0; i < 2; ++i) {
        Socket refused = connect_to(acceptor.addresses()[0]);
        bool ended = false;
        run_until(reactor, [&] { return read_all(refused, &ended), ended; });
    }
    CHECK(hooked == 1);
    Socket served = connect_to(acceptor.addresses()[0]);
    CHECK(echoes(reactor, served));
}

TEST_CASE("At its maximum of connections it accepts no more until one ends") {
    Reactor reactor;
    AcceptorOptions options;
    options.max_connections = 2;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>(), options);
    std::vector<Socket> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to(acceptor.addresses()[0]));
    run_until(reactor, [&] { return acceptor.connections() == 2; });
    CHECK(settle(reactor, 20) <= 3);
    CHECK(acceptor.counters().accepted == 2);
    clients.erase(clients.begin());
    run_until(reactor, [&] { return acceptor.counters().accepted == 3; });
    CHECK(acceptor.connections() == 2);
    CHECK(echoes(reactor, clients.back()));
}

TEST_CASE("Draining sends what is owed, ends every connection and then tells, also if there is none") {
    Reactor reactor;
    AcceptorOptions options;
    options.connection.prepare = send_buffer(4096);
    options.connection.limits.high_mark = 1'000'000;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>(), options);
    Socket client = connect_to(acceptor.addresses()[0]);
    CHECK(echoes(reactor, client));
    const std::string sent = random_bytes(500'000, 3);
    std::size_t written = 0;
    run_until(reactor,
              [&] { return (written += write_some(client, std::string_view(sent).substr(written))) == sent.size(); });
    settle(reactor);

    bool done = false;
    acceptor.drain([&] { done = true; });
    CHECK_FALSE(done);
    CHECK(acceptor.addresses().empty());
    std::string got;
    bool ended = false;
    run_until(reactor, [&] {
        got += read_all(client, &ended);
        return ended;
    });
    CHECK(got == sent);
    client.close();
    run_until(reactor, [&] { return done; });

    done = false;
    acceptor.drain([&] { done = true; });
    CHECK_FALSE(done);
    run_until(reactor, [&] { return done; });
}

TEST_CASE("At most so many connections of one peer live at a time; others are turned away, and its places come free") {
    Reactor reactor;
    AcceptorOptions options;
    options.max_connections_per_peer = 2;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>(), options);
    const Address address = acceptor.addresses()[0];
    const auto connect_from = [&](const char* host) {
        Socket client = Socket::open(Address::Family::ipv4);
        client.bind(*Address::ip(host, 0));
        (void)client.connect(address);
        return client;
    };
    std::vector<Socket> clients;
    for (int i = 0; i < 2; ++i) {
        clients.push_back(connect_from("127.0.0.1"));
        CHECK(echoes(reactor, clients.back()));
    }
    const Socket third = connect_from("127.0.0.1");
    bool ended = false;
    run_until(reactor, [&] { return read_all(third, &ended), ended; });
    CHECK(acceptor.counters().refused == 1);
    Socket other = connect_from("127.0.0.2");
    CHECK(echoes(reactor, other));
    CHECK(acceptor.connections() == 3);

    clients.pop_back();
    run_until(reactor, [&] { return acceptor.connections() == 2; });
    Socket again = connect_from("127.0.0.1");
    CHECK(echoes(reactor, again));
}

TEST_CASE("A drain tells each protocol once, lets it finish, cuts what is left at its deadline, and reports both") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::deque<Journal> journals;
    Acceptor acceptor(reactor, "127.0.0.1", 0, [&]() -> std::unique_ptr<Protocol> {
        journals.emplace_back();
        return std::make_unique<Recorder>(journals.back());
    });
    std::vector<Socket> clients;
    for (std::size_t i = 0; i < 4; ++i) {
        clients.push_back(connect_to(acceptor.addresses()[0]));
        run_until(reactor, [&] { return journals.size() == i + 1 && journals.back().transport != nullptr; });
    }
    // One closes as all do, one has a word to say first, one ignores it, one has more to send than the peer reads.
    journals[1].on_draining = [&] { journals[1].transport->write("wait"); };
    journals[2].on_draining = [] {};
    journals[3].on_draining = [] {};
    journals[3].transport->write(std::string(8'000'000, 'x'));
    const std::size_t unsent = journals[3].transport->queued();
    CHECK(unsent > 0);

    std::optional<Acceptor::Drained> report;
    acceptor.drain(std::chrono::seconds(30), [&](const Acceptor::Drained& drained) { report = drained; });
    CHECK(journals[0].count("draining") == 0);  // later, from the loop
    run_until(reactor, [&] { return journals[0].count("draining") == 1; });
    clients[0].shutdown_write();
    std::string word;
    run_until(reactor, [&] {
        word += read_all(clients[1]);
        return journals[0].over && word == "wait";
    });
    journals[1].transport->close();
    clients[1].shutdown_write();
    run_until(reactor, [&] { return journals[1].over; });
    CHECK(acceptor.connections() == 2);
    CHECK_FALSE(report);

    clock.advance(std::chrono::seconds(30));
    run_until(reactor, [&] { return report.has_value(); });
    for (const Journal& journal : journals) CHECK(journal.count("draining") == 1);
    CHECK(report->finished == 2);
    CHECK(report->cut == 2);
    CHECK(report->bytes_cut == unsent);
    CHECK(journals[2].reason == std::errc::timed_out);
}

TEST_CASE("A drain that leaves connections alone ends with the last of them, and reports none cut") {
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
    Socket client = connect_to(acceptor.addresses()[0]);
    CHECK(echoes(reactor, client));
    std::optional<Acceptor::Drained> report;
    acceptor.drain(
        std::chrono::hours(1), [&](const Acceptor::Drained& drained) { report = drained; }, Acceptor::Draining::left);
    CHECK(echoes(reactor, client));
    CHECK_FALSE(report);
    client.close();
    run_until(reactor, [&] { return report.has_value(); });
    CHECK(report->finished == 1);
    CHECK(report->cut == 0);
}

TEST_CASE("3,000 connections at once, on select as on the others") {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit before = limit;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 6200) {
        MESSAGE("skipped: this machine allows no 6,200 descriptors");
        return;
    }
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
    const Address address = acceptor.addresses()[0];
    std::vector<Socket> clients;
    for (std::size_t i = 0; i < 3000; ++i) {
        clients.push_back(connect_to(address));
        if (i % 500 == 499) run_until(reactor, [&] { return acceptor.connections() == i + 1; });
    }
    for (std::size_t i = 0; i < clients.size(); ++i) write_some(clients[i], "I am " + std::to_string(i));
    for (std::size_t i = 0; i < clients.size(); ++i) {
        std::string got;
        const std::string expected = "I am " + std::to_string(i);
        run_until(reactor, [&] { return (got += read_all(clients[i])).size() >= expected.size(); });
        if (got != expected) CHECK(got == expected);
    }
    clients.clear();
    run_until(reactor, [&] { return acceptor.connections() == 0; });
    ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("S82: a Unix socket's file is unlinked by the acceptor that made it, and by nobody else") {
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    struct stat status {};
    {
        Reactor reactor;
        Acceptor acceptor(reactor, "unix:" + path, 0, factory<Echo>());
        CHECK_THROWS_AS((void)Acceptor(reactor, "unix:" + path, 0, factory<Echo>()), std::system_error);
        CHECK(::stat(path.c_str(), &status) == 0);
        Socket client = connect_to(Address::unix_path(path));
        CHECK(echoes(reactor, client));
    }
    CHECK(::stat(path.c_str(), &status) != 0);

    Reactor reactor;
    const Acceptor taken(reactor, "127.0.0.1", 0, factory<Echo>());
    const std::vector<Address> addresses{Address::unix_path(path), taken.addresses()[0]};
    CHECK_THROWS_AS((void)Acceptor(reactor, addresses, factory<Echo>()), std::system_error);
    CHECK(::stat(path.c_str(), &status) != 0);  // its own file, though it never came to be
}

namespace {

std::vector<Socket> list_of(Socket socket) {
    std::vector<Socket> sockets;
    sockets.push_back(std::move(socket));
    return sockets;
}

}  // namespace

TEST_CASE("S95: a socket that does not listen is refused by an acceptor, with an error that names it") {
    Reactor reactor;
    const auto refused = [&](Socket socket) {
        const std::string name = socket.local().to_string();
        std::string words;
        try {
            (void)Acceptor(reactor, list_of(std::move(socket)), factory<Echo>());
        } catch (const std::system_error& error) {
            CHECK(error.code() == std::errc::invalid_argument);
            words = error.what();
        }
        CHECK(words.find(name + ", does not listen") != std::string::npos);
    };
    SUBCASE("one that is only bound") {
        Socket socket = Socket::open(Address::Family::ipv4);
        socket.bind(*Address::ip("127.0.0.1", 0));
        refused(std::move(socket));
    }
    SUBCASE("one that is connected, as systemd's Accept=yes gives it") {
        auto ends = tcp_pair();
        refused(std::move(ends.second));
    }
    SUBCASE("one of a pair") {
        auto ends = Socket::pair();
        refused(std::move(ends.second));
    }
    SUBCASE("one that listened and was shut down") {
        for (const Address& address : {*Address::ip("127.0.0.1", 0), new_unix_name()}) {
            Socket socket = Socket::open(address.family());
            socket.bind(address);
            socket.listen(1);
            ::shutdown(socket.get(), SHUT_RDWR);
            refused(std::move(socket));
        }
    }
    CHECK(settle(reactor) <= 2);
}

TEST_CASE("S95: a listener that somebody who shares it shuts down is given up with a word, and the others go on") {
    for (const bool over_tcp : {true, false}) {
        CAPTURE(over_tcp);
        Reactor reactor;
        const Address address = over_tcp ? *Address::ip("127.0.0.1", 0) : new_unix_name();
        Acceptor acceptor(reactor, {address, *Address::ip("127.0.0.2", 0)}, factory<Echo>());
        const std::vector<Address> before = acceptor.addresses();
        REQUIRE(before.size() == 2);
        std::vector<std::string> lost;
        reactor.on_notice([&](Notice what, std::string_view text) {
            if (what == Notice::listener_lost) lost.emplace_back(text);
        });
        Socket served = connect_to(before[0]);
        CHECK(echoes(reactor, served));
        ::shutdown(acceptor.listening_sockets()[0], SHUT_RDWR);
        run_until(reactor, [&] { return acceptor.counters().listeners_lost == 1; });
        CHECK(settle(reactor, 20) <= 3);
        REQUIRE(lost.size() == 1);
        CHECK(lost[0] == before[0].to_string() + ": the socket does not listen any more, so nothing is accepted on it");
        CHECK(acceptor.addresses() == std::vector<Address>{before[1]});
        CHECK(acceptor.listening_sockets().size() == 1);
        CHECK(echoes(reactor, served));
        Socket other = connect_to(before[1]);
        CHECK(echoes(reactor, other));
        CHECK(acceptor.counters().back_offs == 0);
    }
}

#if REACTOR_HAS(POLLRDHUP)
TEST_CASE("S95: connections that waited at a Unix listener when it was shut down are accepted before it is given up") {
    Reactor reactor;
    Acceptor acceptor(reactor, {new_unix_name()}, factory<Echo>());
    const Address address = acceptor.addresses()[0];
    std::vector<Socket> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to(address));
    ::shutdown(acceptor.listening_sockets()[0], SHUT_RD);
    run_until(reactor, [&] { return acceptor.counters().listeners_lost == 1; });
    CHECK(acceptor.counters().accepted == 3);
    for (Socket& client : clients) CHECK(echoes(reactor, client));
}
#endif

TEST_CASE("A Unix listener that another process empties first is kept: it still listens") {
    Reactor reactor;
    Acceptor acceptor(reactor, {new_unix_name()}, factory<Echo>());
    const Address address = acceptor.addresses()[0];
    const int shared = acceptor.listening_sockets()[0];
    bool once = true;
    // The loop saw that there is a connection, and then it is gone.
    Hook faster(reactor, Hook::When::after_wait, [&] {
        if (std::exchange(once, false)) FileDescriptor(::accept(shared, nullptr, nullptr));
    });
    const Socket gone = connect_to(address);
    settle(reactor);
    CHECK(acceptor.counters().accepted == 0);
    CHECK(acceptor.counters().listeners_lost == 0);
    Socket late = connect_to(address);
    CHECK(echoes(reactor, late));
}

TEST_CASE("S95: a listener closed behind its acceptor's back is given up, and its number left to the next file") {
    // Its event comes in the same batch before the listener's, because its number is lower and it was watched first.
    struct Opener final : EventHandler {
        void readable() override {
            if (!file) file = FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        }
        FileDescriptor file;
    };
    Reactor reactor;
    auto [near, far] = Socket::pair();
    Opener opener;
    const Registration registration = reactor.watch(near.get(), Interest::readable, opener);
    std::optional<Acceptor> acceptor(std::in_place, reactor, "127.0.0.1", std::uint16_t(0), factory<Echo>());
    settle(reactor);
    const int number = acceptor->listening_sockets()[0];
    acceptor->pause();  // so that every backend looks at the number again
    settle(reactor);
    write_some(far, "x");
    ::close(number);
    acceptor->resume();
    run_until(reactor, [&] { return acceptor->counters().listeners_lost == 1; });
    CHECK(acceptor->addresses().empty());
    REQUIRE(opener.file.get() == number);
    acceptor.reset();
    CHECK(::fcntl(number, F_GETFD) >= 0);
}

TEST_CASE("S91: an acceptor that may have nearly as many connections as a number says accepts all") {
    Reactor reactor;
    AcceptorOptions options;
    options.max_connections = options.max_connections_per_peer = SIZE_MAX - 1;
    Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>(), options);
    for (int i = 0; i < 3; ++i) {
        Socket client = connect_to(acceptor.addresses()[0]);
        CHECK(echoes(reactor, client));
    }
}

TEST_CASE("An acceptor says its port: that of its first address, and 0 when it is closed") {
    Reactor reactor;
    Acceptor acceptor(reactor, "localhost", 0, factory<Echo>());
    CHECK(acceptor.port() != 0);
    CHECK(acceptor.port() == acceptor.addresses().front().port());
    acceptor.close();
    CHECK(acceptor.port() == 0);
}

TEST_CASE("A factory may take the address of the peer, and refuse it by that, also behind a sharing") {
    for (const bool shared : {false, true}) {
        CAPTURE(shared);
        Reactor reactor;
        std::vector<Address> peers;
        AcceptorSharing sharing(AcceptorSharing::Choice::round_robin);
        AcceptorOptions options;
        if (shared) options.sharing = &sharing;
        Acceptor acceptor(
            reactor, "127.0.0.1", 0,
            [&](const Address& peer) -> std::unique_ptr<Protocol> {
                peers.push_back(peer);
                if (peers.size() > 1) return nullptr;
                return std::make_unique<Echo>();
            },
            options);
        Socket client = connect_to(acceptor.addresses().front());
        CHECK(echoes(reactor, client));
        Socket refused = connect_to(acceptor.addresses().front());
        run_until(reactor, [&] { return peers.size() == 2; });
        CHECK(peers[0] == client.local());
        CHECK(peers[1] == refused.local());
        CHECK(acceptor.connections() == 1);
    }
}

TEST_CASE("A factory that is empty is refused, whatever it would take") {
    Reactor reactor;
    CHECK_THROWS_AS((void)Acceptor(reactor, "127.0.0.1", 0, nullptr), std::invalid_argument);
    CHECK_THROWS_AS((void)Acceptor(reactor, "127.0.0.1", 0, ProtocolFactory()), std::invalid_argument);
    CHECK_THROWS_AS((void)Acceptor(reactor, "127.0.0.1", 0, AcceptorFactory::Callable()), std::invalid_argument);
}

TEST_CASE("for_each visits the live connections of one acceptor alone, those whose protocol is a P") {
    Reactor reactor;
    Journal journal;
    int made = 0;
    Acceptor acceptor(reactor, "127.0.0.1", 0, [&]() -> std::unique_ptr<Protocol> {
        if (++made == 1) return std::make_unique<Recorder>(journal);
        return std::make_unique<Echo>();
    });
    Acceptor other(reactor, "127.0.0.1", 0, factory<Echo>());
    std::vector<Socket> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to(acceptor.addresses().front()));
    clients.push_back(connect_to(other.addresses().front()));
    run_until(reactor, [&] { return acceptor.connections() == 3 && other.connections() == 1; });
    const auto count = [&]<class P>() {
        int visited = 0;
        acceptor.for_each<P>([&](P&) { ++visited; });
        return visited;
    };
    CHECK(count.operator()<Protocol>() == 3);
    CHECK(count.operator()<Recorder>() == 1);
    CHECK(count.operator()<Echo>() == 2);

    // One that has ended is not visited, also before `disconnected` was called.
    run_until(reactor, [&] { return journal.transport != nullptr; });
    journal.transport->abort();
    CHECK(count.operator()<Recorder>() == 0);
    CHECK_FALSE(journal.over);
    run_until(reactor, [&] { return journal.over; });
}

TEST_CASE("for_each may visit a protocol that destroys the acceptor, and visits no other then") {
    Reactor reactor;
    std::optional<Acceptor> acceptor;
    acceptor.emplace(reactor, "127.0.0.1", 0, factory<Echo>());
    std::vector<Socket> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to(acceptor->addresses().front()));
    run_until(reactor, [&] { return acceptor->connections() == 3; });
    int visited = 0;
    acceptor->for_each([&](Protocol&) {
        ++visited;
        acceptor.reset();
    });
    CHECK(visited == 1);
}
