// Unix sockets alone have these: files that outlive them, and peers that the kernel vouches for.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"

#include <protocols/echo.hpp>
#include <reactor/datagram/packet_acceptor.hpp>
#include <reactor/net/socket_file.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <future>
#include <optional>
#include <thread>

using namespace reactor;

namespace {

bool exists(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
}

// A socket file without a listener.
void leave_a_dead_one(const std::string& path, SocketKind kind = SocketKind::stream) {
    Socket socket = Socket::open(Address::Family::unix_domain, kind);
    socket.bind(Address::unix_path(path));
    REQUIRE(exists(path));
}

// Does an acceptor of this reactor's answer there?
bool serves(Reactor& reactor, const std::string& path) {
    Socket client = Socket::open(Address::Family::unix_domain);
    if (client.connect(Address::unix_path(path))) return false;
    write_some(client, "hello");
    std::string got;
    run_until(reactor, [&] { return (got += read_all(client)).size() >= 5; });
    return got == "hello";
}

}  // namespace

TEST_CASE("S82: the file of a server that died is replaced, whatever kind it was of, and removed at the end") {
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    for (const SocketKind kind : {SocketKind::stream, SocketKind::datagram, SocketKind::sequenced_packets}) {
        leave_a_dead_one(path, kind);
        Reactor reactor;
        {
            Acceptor acceptor(reactor, "unix:" + path, 0, factory<Echo>());
            CHECK(serves(reactor, path));
        }
        CHECK_FALSE(exists(path));

        leave_a_dead_one(path, kind);
        {
            const std::vector<Socket> sockets = bind_datagrams("unix:" + path, 0);
            const SocketFile file(sockets[0].local());
            CHECK(exists(path));
        }
        CHECK_FALSE(exists(path));
    }
}

TEST_CASE(
    "S82: the file of a server that lives is left alone, also if it does not listen yet, and he does not notice") {
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    for (const SocketKind kind : {SocketKind::stream, SocketKind::datagram, SocketKind::sequenced_packets}) {
        Socket alive = Socket::open(Address::Family::unix_domain, kind);
        alive.bind(Address::unix_path(path));
        Reactor reactor;
        const auto intrude = [&] {
            CHECK_THROWS_WITH_AS((void)Acceptor(reactor, "unix:" + path, 0, factory<Echo>()),
                                 doctest::Contains(path.c_str()), std::system_error);
            CHECK_THROWS_AS(bind_datagrams("unix:" + path, 0), std::system_error);
            CHECK_THROWS_AS((void)PacketAcceptor(reactor, Address::unix_path(path), [] { return nullptr; }),
                            std::system_error);
        };
        intrude();
        if (kind != SocketKind::datagram) {
            alive.listen(1);
            intrude();
            Socket accepted;
            Address peer;
            CHECK(alive.accept(accepted, peer) == std::errc::operation_would_block);
        }
        CHECK(exists(path));
        alive.close();
        ::unlink(path.c_str());
    }
}

TEST_CASE("S82: a file that is no socket is not touched") {
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    std::ofstream(path) << "precious";
    Reactor reactor;
    CHECK_THROWS_AS((void)Acceptor(reactor, "unix:" + path, 0, factory<Echo>()), std::system_error);
    std::string text;
    std::ifstream(path) >> text;
    CHECK(text == "precious");
    REQUIRE(::symlink("/nowhere/at/all", (folder / "other").c_str()) == 0);
    CHECK_THROWS_AS((void)Acceptor(reactor, "unix:" + (folder / "other"), 0, factory<Echo>()), std::system_error);
    CHECK(exists(folder / "other"));
}

TEST_CASE("S82: an acceptor does not remove a file that has taken the place of its own") {
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    Reactor reactor;
    std::optional<Acceptor> first(std::in_place, reactor, "unix:" + path, std::uint16_t(0), factory<Echo>());
    REQUIRE(::rename(path.c_str(), (folder / "aside").c_str()) == 0);
    Acceptor second(reactor, "unix:" + path, 0, factory<Echo>());
    first.reset();
    CHECK(exists(path));
    CHECK(serves(reactor, path));
    second.close();
    CHECK_FALSE(exists(path));
    CHECK(exists(folder / "aside"));
}

TEST_CASE("S82: of many processes that find a dead file at once one listens, and it can be reached") {
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    for (int round = 0; round < 20; ++round) {
        ::unlink(path.c_str());
        leave_a_dead_one(path);
        constexpr int many = 6;
        int go[2], bound[2], done[2];
        REQUIRE((::pipe(go) == 0 && ::pipe(bound) == 0 && ::pipe(done) == 0));
        for (int i = 0; i < many; ++i) {
            if (::fork() != 0) continue;
            char byte = 0;
            ::close(done[1]);
            ::close(go[1]);
            (void)!::read(go[0], &byte, 1);  // all of them at the end of it
            Socket socket = Socket::open(Address::Family::unix_domain);
            char result = '-';
            try {
                bind_replacing(socket, Address::unix_path(path));
                socket.listen(1);
                result = '+';
            } catch (const std::system_error&) {
            }
            (void)!::write(bound[1], &result, 1);
            (void)!::read(done[0], &byte, 1);
            ::_exit(0);
        }
        ::close(go[1]);
        std::string results;
        char byte = 0;
        while (results.size() < many && ::read(bound[0], &byte, 1) == 1) results += byte;
        CHECK(std::count(results.begin(), results.end(), '+') == 1);
        Socket client = Socket::open(Address::Family::unix_domain);
        CHECK_FALSE(client.connect(Address::unix_path(path)));
        for (const int end : {go[0], bound[0], bound[1], done[0], done[1]}) ::close(end);
        for (int i = 0; i < many; ++i) ::wait(nullptr);
    }
}

TEST_CASE("Over a Unix socket both sides know who the other is; over TCP nobody does") {
    Reactor reactor;
    const std::string name = new_unix_name().to_string();
    for (const std::string& host : {name, std::string("127.0.0.1")}) {
        Journal server, client;
        std::optional<PeerCredentials> of_client, of_server;
        Acceptor acceptor(reactor, host, 0, factory<Recorder>(std::ref(server)));
        server.on_connected = [&] { of_client = server.transport->peer_credentials(); };
        client.on_connected = [&] { of_server = client.transport->peer_credentials(); };
        Connector connector(reactor, {acceptor.addresses()[0]}, factory<Recorder>(std::ref(client)));
        run_until(reactor, [&] { return server.transport != nullptr && client.transport != nullptr; });
        if (host != name || !REACTOR_HAS(SO_PEERCRED)) {
            CHECK_FALSE(of_client);
            CHECK_FALSE(of_server);
        } else {
            REQUIRE((of_client && of_server));
            for (const PeerCredentials& who : {*of_client, *of_server}) {
                CHECK(who.process == ::getpid());
                CHECK(who.user == ::geteuid());
                CHECK(who.group == ::getegid());
            }
        }
        client.transport->abort();
        run_until(reactor, [&] { return server.over && client.over; });
    }
    CHECK_FALSE(Socket::open(Address::Family::unix_domain).peer_credentials());
    CHECK_FALSE(Socket::open(Address::Family::ipv4, SocketKind::datagram).peer_credentials());
}

TEST_CASE("A server of packets accepts, keeps boundaries, knows its peers, and takes their descriptors") {
    struct Server final : DatagramProtocol {
        void received(const Datagram& packet) override {
            const auto who = transport().peer_credentials();
            REQUIRE(bool(who) == bool(REACTOR_HAS(SO_PEERCRED)));
            if (who) CHECK(who->process == ::getpid());
            for (const FileDescriptor& descriptor : packet.descriptors)
                CHECK(::write(descriptor.get(), packet.data.data(), packet.data.size()) > 0);
            transport().send(packet.data);
        }
    };
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    const std::size_t before = open_descriptors();
    for (const Address& address : {Address::unix_path(path), new_unix_name()}) {
        Reactor reactor;
        DatagramOptions options;
        options.descriptors = 1;
        leave_a_dead_one(path, SocketKind::sequenced_packets);
        if (address.host() != path) ::unlink(path.c_str());
        std::optional<PacketAcceptor> acceptor(
            std::in_place, reactor, address, [] { return std::make_unique<Server>(); }, options);
        CHECK(acceptor->address() == address);
        std::vector<Socket> clients;
        for (int i = 0; i < 100; ++i) {
            clients.push_back(Socket::open(Address::Family::unix_domain, SocketKind::sequenced_packets));
            REQUIRE_FALSE(clients.back().connect(address));
            CHECK(write_some(clients.back(), "client") == 6);
            CHECK(write_some(clients.back(), std::to_string(i)) > 0);
        }
        acceptor.reset();  // those in its queue are reset
        bool none = false;
        char buffer[100];
        for (Socket& client : clients) none = none || ::recv(client.get(), buffer, sizeof buffer, 0) >= 0;
        CHECK_FALSE(none);
        clients.clear();
        CHECK(exists(path) == false);

        acceptor.emplace(
            reactor, address, [] { return std::make_unique<Server>(); }, options);
        for (int i = 0; i < 100; ++i) {
            clients.push_back(Socket::open(Address::Family::unix_domain, SocketKind::sequenced_packets));
            REQUIRE_FALSE(clients.back().connect(address));
            CHECK(write_some(clients.back(), "client") == 6);
            CHECK(write_some(clients.back(), std::to_string(i)) > 0);
        }
        for (int i = 0; i < 100; ++i) {
            for (const std::string& expected : {std::string("client"), std::to_string(i)}) {
                ssize_t count = 0;
                run_until(reactor, [&] {
                    return (count = ::recv(clients[std::size_t(i)].get(), buffer, sizeof buffer, 0)) >= 0;
                });
                CHECK(std::string(buffer, std::size_t(count)) == expected);
            }
        }
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const FileDescriptor reading(ends[0]), writing(ends[1]);
        DatagramEndpoint& sender =
            DatagramEndpoint::open(reactor, std::move(clients[0]), std::make_unique<DatagramEcho>(), {});
        const int one[] = {writing.get()};
        CHECK(sender.send_descriptors({}, bytes_of("into the pipe"), one));
        run_until(reactor, [&] {
            pollfd entry{reading.get(), POLLIN, 0};
            return ::poll(&entry, 1, 0) == 1;
        });
        CHECK(::read(reading.get(), buffer, sizeof buffer) == 13);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("A factory of packets that refuses costs its peer, one that destroys the acceptor does just that") {
    Reactor reactor;
    std::optional<PacketAcceptor> acceptor;
    int calls = 0;
    acceptor.emplace(reactor, new_unix_name(), [&]() -> std::unique_ptr<DatagramProtocol> {
        if (++calls == 2) acceptor.reset();
        return nullptr;
    });
    const Address address = acceptor->address();
    for (int i = 0; i < 2; ++i) {
        Socket client = Socket::open(Address::Family::unix_domain, SocketKind::sequenced_packets);
        REQUIRE_FALSE(client.connect(address));
        bool ended = false;
        run_until(reactor, [&] { return read_all(client, &ended), ended; });
    }
    CHECK(calls == 2);
    CHECK_FALSE(acceptor);
}

TEST_CASE("S103: a server starts on a dead socket's file although a stranger keeps the folder locked") {
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    leave_a_dead_one(path);
    FileDescriptor stranger(::open((folder / ".").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::flock(stranger.get(), LOCK_EX) == 0);
    std::promise<void> started;
    auto future = started.get_future();
    // So that the test fails and does not hang where the lock is waited for without an end.
    std::atomic<bool> gave_way{false};
    std::thread gives_way([&] {
        if (future.wait_for(std::chrono::seconds(30)) == std::future_status::ready) return;
        gave_way = true;
        stranger.reset();
    });
    Reactor reactor;
    const Acceptor acceptor(reactor, {Address::unix_path(path)}, factory<Echo>());
    started.set_value();
    gives_way.join();
    CHECK_FALSE(gave_way);
    CHECK(acceptor.addresses() == std::vector<Address>{Address::unix_path(path)});
}
