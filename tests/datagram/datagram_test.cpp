// Sockets of datagrams: UDP over IPv4 and IPv6, Unix datagrams and packets; in batches and one by one.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"

#include <protocols/echo.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <net/if.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>

using namespace reactor;

namespace {

// The calls of one socket, in order, and the actions that the test wants in them.
struct Letters {
    std::vector<std::string> data;
    std::vector<Datagram> heads;  // without data and descriptors
    std::vector<std::pair<Address, std::error_code>> refusals;
    int opened = 0, resumed = 0, closed = 0, after_the_end = 0;
    std::shared_ptr<int> destroyed = std::make_shared<int>(0);  // a reactor may outlive what the test wrote down
    bool inside = false;  // a call of the test to the transport: the protocol must not be called meanwhile
    int told_inside = 0;
    std::error_code reason;
    DatagramTransport* transport = nullptr;
    std::function<void(const Datagram&)> on_received;
    std::function<void()> on_opened, on_resumed;
};

class Reader final : public DatagramProtocol {
public:
    explicit Reader(Letters& letters) : letters_(letters), destroyed_(letters.destroyed) {}
    ~Reader() override { ++*destroyed_; }

    void opened() override {
        told();
        ++letters_.opened;
        letters_.transport = &transport();
        if (letters_.on_opened) letters_.on_opened();
    }
    void received(const Datagram& datagram) override {
        told();
        letters_.data.emplace_back(text_of(datagram.data));
        letters_.heads.push_back(datagram);
        letters_.heads.back().data = {};
        letters_.heads.back().descriptors = {};
        if (letters_.on_received) letters_.on_received(datagram);
    }
    void refused(const Address& to, std::error_code error) override {
        told();
        letters_.refusals.emplace_back(to, error);
    }
    void resume_sending() override {
        told();
        ++letters_.resumed;
        if (letters_.on_resumed) letters_.on_resumed();
    }
    void closed(std::error_code reason) override {
        told();
        ++letters_.closed;
        letters_.reason = reason;
        letters_.transport = nullptr;
    }

private:
    void told() {
        letters_.after_the_end += letters_.closed;
        letters_.told_inside += int(letters_.inside);
    }
    Letters& letters_;
    std::shared_ptr<int> destroyed_;
};

DatagramEndpoint& read_from(Reactor& reactor, Socket socket, Letters& letters, const DatagramOptions& options = {}) {
    return DatagramEndpoint::open(reactor, std::move(socket), std::make_unique<Reader>(letters), options);
}

DatagramEndpoint& echo(Reactor& reactor, Socket socket, const DatagramOptions& options = {}) {
    return DatagramEndpoint::open(reactor, std::move(socket), std::make_unique<DatagramEcho>(), options);
}

Socket bound(const Address& address) {
    Socket socket = Socket::open(address.family(), SocketKind::datagram);
    socket.bind(address);
    return socket;
}

Socket udp(std::string_view host = "127.0.0.1") {
    return bound(*Address::ip(host, 0));
}

Socket connected_to(const Address& address, Socket socket) {
    REQUIRE_FALSE(socket.connect(address));
    return socket;
}

// An address without a listener.
Address nobody() {
    return udp().local();
}

bool send_raw(const Socket& socket, const Address& to, std::string_view text) {
    return ::sendto(socket.get(), text.data(), text.size(), 0, to.data(), socklen_t(to.size())) == ssize_t(text.size());
}

// An interface over which datagrams to this IPv6 group come back; 0 if there is none. The loopback interface, where it
// has a route for them; groups of interface-local scope (ff01::, RFC 4291 2.7) leave the machine by none.
unsigned interface_for(const Address& group) {
    struct Names {
        ~Names() { ::if_freenameindex(all); }
        struct if_nameindex* all = ::if_nameindex();
    };
    const Names names;
    for (const auto* one = names.all; one != nullptr && one->if_index != 0; ++one) {
        const auto to = Address::ip(group.host() + "%" + one->if_name, 9);
        const Socket socket = Socket::open(Address::Family::ipv6, SocketKind::datagram);
        if (to && send_raw(socket, *to, "")) return one->if_index;
    }
    return 0;
}

// The next datagram on a raw socket, which may be on its way through the loop.
std::string receive_raw(Reactor& reactor, const Socket& socket) {
    std::string buffer(70'000, '\0');
    ssize_t count = -1;
    run_until(reactor, [&] { return (count = ::recv(socket.get(), buffer.data(), buffer.size(), 0)) >= 0; });
    buffer.resize(std::size_t(count));
    return buffer;
}

// One by one, and in batches.
const std::vector<DatagramOptions> ways_to_move = [] {
    std::vector<DatagramOptions> ways(2);
    ways[0].batch = 1;
    return ways;
}();

}  // namespace

TEST_CASE("Datagrams of every kind come with their sender's address, and go back to it") {
    for (const DatagramOptions& options : ways_to_move) {
        const TemporaryFolder folder;
        struct Ends {
            Address server, client;
        };
        for (const Ends& ends : {Ends{*Address::ip("127.0.0.1", 0), *Address::ip("127.0.0.1", 0)},
                                 Ends{*Address::ip("::1", 0), *Address::ip("::1", 0)},
                                 Ends{Address::unix_path(folder / "server"), Address::unix_path(folder / "client")},
                                 Ends{new_unix_name(), new_unix_name()}}) {
            CAPTURE(ends.server.to_string());
            Reactor reactor;
            Letters server, client;
            DatagramEndpoint& serving = read_from(reactor, bound(ends.server), server, options);
            DatagramEndpoint& asking = read_from(reactor, bound(ends.client), client, options);
            server.on_received = [&](const Datagram& question) { CHECK(serving.answer(question, question.data)); };
            for (int i = 0; i < 5; ++i) CHECK(asking.send(serving.local(), "number " + std::to_string(i)));
            run_until(reactor, [&] { return client.data.size() == 5; });
            for (std::size_t i = 0; i < 5; ++i) {
                CHECK(server.data[i] == "number " + std::to_string(i));
                CHECK(client.data[i] == server.data[i]);
                CHECK(server.heads[i].sender == asking.local());
                CHECK(client.heads[i].sender == serving.local());
                const bool ipv4 = ends.server.family() == Address::Family::ipv4;
                if (ends.server.family() == Address::Family::unix_domain || (ipv4 && !REACTOR_HAS(IP_PKTINFO)))
                    continue;
                CHECK(server.heads[i].destination == serving.local());
                CHECK(server.heads[i].local == serving.local());
                CHECK(server.heads[i].interface == ::if_nametoindex("lo"));
            }
            CHECK(server.opened == 1);
            CHECK(serving.counters().received == 5);
            CHECK(serving.counters().sent == 5);
            CHECK(serving.counters().dropped + serving.counters().refused == 0);
        }
    }
}

TEST_CASE("Connected sockets, pairs too, send to their peer and hear of nobody else") {
    for (const DatagramOptions& options : ways_to_move) {
        Reactor reactor;
        Letters letters;
        Socket server = udp(), stranger = udp();
        DatagramEndpoint& client = read_from(reactor, connected_to(server.local(), udp()), letters, options);
        CHECK(client.peer() == server.local());
        CHECK(client.send("hello"));
        CHECK(receive_raw(reactor, server) == "hello");
        CHECK(send_raw(stranger, client.local(), "psst"));
        CHECK(send_raw(server, client.local(), "hello yourself"));
        run_until(reactor, [&] { return !letters.data.empty(); });
        CHECK(letters.data == std::vector<std::string>{"hello yourself"});

        for (const SocketKind kind : {SocketKind::datagram, SocketKind::sequenced_packets}) {
            auto [left, right] = Socket::pair(kind);
            Letters heard;
            DatagramEndpoint& one = read_from(reactor, std::move(left), heard, options);
            echo(reactor, std::move(right), options);
            CHECK(one.send("a"));
            CHECK(one.send(""));
            CHECK(one.send("bc"));
            run_until(reactor, [&] { return heard.data.size() == 3; });
            CHECK(heard.data == std::vector<std::string>{"a", "", "bc"});
            CHECK(heard.heads[0].sender == Address());
        }
    }
}

TEST_CASE("S78: an empty datagram is delivered, and sent back") {
    Reactor reactor;
    DatagramEndpoint& server = echo(reactor, udp());
    Socket client = connected_to(server.local(), udp());
    CHECK(send_raw(client, server.local(), ""));
    CHECK(send_raw(client, server.local(), "x"));
    CHECK(receive_raw(reactor, client) == "");
    CHECK(receive_raw(reactor, client) == "x");
    CHECK(server.counters().received == 2);
}

TEST_CASE("S79: of a datagram that is too long the first bytes come, flagged, and the next is whole") {
    for (DatagramOptions options : ways_to_move) {
        options.largest = 10;
        for (const bool over_unix : {false, true}) {
            Reactor reactor;
            Letters letters;
            const Address where = over_unix ? new_unix_name() : *Address::ip("127.0.0.1", 0);
            DatagramEndpoint& server = read_from(reactor, bound(where), letters, options);
            Socket client = Socket::open(server.local().family(), SocketKind::datagram);
            for (const char* text : {"0123456789", "0123456789A", "short"})
                CHECK(send_raw(client, server.local(), text));
            run_until(reactor, [&] { return letters.data.size() == 3; });
            CHECK(letters.data == std::vector<std::string>{"0123456789", "0123456789", "short"});
            CHECK_FALSE(letters.heads[0].truncated);
            CHECK(letters.heads[1].truncated);
            CHECK_FALSE(letters.heads[2].truncated);
            CHECK(server.counters().truncated == 1);
        }
    }
}

TEST_CASE("A datagram as long as UDP has them goes there and back whole") {
    Reactor reactor;
    DatagramEndpoint& server = echo(reactor, udp());
    Socket client = connected_to(server.local(), udp());
    const std::string most = random_bytes(65'507, 1);
    CHECK(send_raw(client, server.local(), most));
    CHECK(receive_raw(reactor, client) == most);
}

TEST_CASE("The loop counts the bytes of datagrams beside those of connections, whichever way they went") {
    for (const DatagramOptions& options : ways_to_move) {
        Reactor reactor;
        Letters letters;
        DatagramEndpoint& server = echo(reactor, udp(), options);
        DatagramEndpoint& client = read_from(reactor, udp(), letters, options);
        Conversation talk(reactor);
        std::uint64_t bytes = 0;
        for (const unsigned size : {0U, 100U, 100U, 100U, 7U, 3'000U}) {
            CHECK(client.send(server.local(), std::string(size, 'x')));
            bytes += size;
        }
        run_until(reactor, [&] { return letters.data.size() == 6; });
        CHECK(reactor.counters().bytes_sent == 2 * bytes);
        CHECK(reactor.counters().bytes_received == 2 * bytes);
        CHECK(client.send(nobody(), "sent all the same"));
        CHECK(client.send(server.local(), std::string(65'508, 'x')));  // the kernel does not take it
        write_some(talk.peer, "a stream");
        const std::size_t refused = REACTOR_HAS(ERROR_QUEUE) ? 2 : 1;
        run_until(reactor, [&] { return talk.journal.input == "a stream" && letters.refusals.size() == refused; });
        CHECK(reactor.counters().bytes_sent == 2 * bytes + 17);
        CHECK(reactor.counters().bytes_received == 2 * bytes + 8);

        auto [mine, theirs] = Socket::pair(SocketKind::sequenced_packets);
        DatagramEndpoint& giver = read_from(reactor, std::move(mine), letters, options);
        const int one[] = {theirs.get()};
        CHECK(giver.send_descriptors({}, bytes_of("with one"), one));
        CHECK(reactor.counters().bytes_sent == 2 * bytes + 25);
    }
}

TEST_CASE("Whatever sizes follow each other in a batch, each datagram arrives as it was sent, and apart") {
    for (const DatagramOptions& options : ways_to_move) {
        for (const char* host : {"127.0.0.1", "::1"}) {
            CAPTURE(host);
            Reactor reactor;
            Letters sending, letters;
            Socket raw = udp(host);
            DatagramEndpoint& receiver = read_from(reactor, udp(host), letters, options);
            DatagramEndpoint& sender = read_from(reactor, udp(host), sending, options);
            std::vector<std::string> sent;
            unsigned byte = 0;
            constexpr std::size_t sizes[] = {5,    5,    5,    3,    3, 0, 3,  3,  9, 1452, 1452, 1452, 1,
                                             1453, 1453, 9000, 9000, 7, 7, 20, 20, 8, 8,    6,    20};
            for (const std::size_t size : sizes) sent.push_back(random_bytes(size, ++byte));
            for (int i = 0; i < 60; ++i) sent.push_back(random_bytes(1'200, ++byte));
            sending.on_opened = [&] {
                for (const std::string& one : sent) {
                    CHECK(sender.send(receiver.local(), one));
                    if (one.size() == 3) CHECK(sender.send(raw.local(), one));
                }
            };
            letters.on_received = [&](const Datagram& datagram) {
                CHECK(datagram.sender == sender.local());
                if (letters.data.size() % 10 == 0) receiver.pause_receiving();
            };
            run_until(reactor, [&] {
                receiver.resume_receiving();
                return letters.data.size() == sent.size();
            });
            CHECK(letters.data == sent);
            CHECK(receiver.counters().received == sent.size());
            for (const std::string& one : sent)
                if (one.size() == 3) CHECK(receive_raw(reactor, raw) == one);
        }
    }
}

TEST_CASE("S16, S17: refused datagrams are told once each, with where they went, and everything else arrives") {
    for (const DatagramOptions& options : ways_to_move) {
        for (const std::string host : {"127.0.0.1", "::1"}) {
            CAPTURE(host);
            Reactor reactor;
            Letters connected, loose;
            const Address dead = udp(host).local();
            DatagramEndpoint& client = read_from(reactor, connected_to(dead, udp(host)), connected, options);
            CHECK(client.send("is anybody there?"));
            run_until(reactor, [&] { return !connected.refusals.empty(); });
            settle(reactor);
            REQUIRE(connected.refusals.size() == 1);
            CHECK(connected.refusals[0].second == std::errc::connection_refused);

            Socket alive = udp(host);
            DatagramEndpoint& sender = read_from(reactor, udp(host), loose, options);
            loose.inside = true;
            for (int i = 0; i < 3; ++i) {
                CHECK(sender.send(dead, "lost"));
                CHECK(sender.send(alive.local(), "found " + std::to_string(i)));
            }
            loose.inside = false;
            for (int i = 0; i < 3; ++i) CHECK(receive_raw(reactor, alive) == "found " + std::to_string(i));
            settle(reactor);
            CHECK(loose.told_inside == 0);
            CHECK(loose.closed == 0);
#if REACTOR_HAS(ERROR_QUEUE)
            REQUIRE(loose.refusals.size() == 3);
            for (const auto& refusal : loose.refusals) {
                CHECK(refusal.first == dead);
                CHECK(refusal.second == std::errc::connection_refused);
            }
            CHECK(sender.counters().refused == 3);
#endif
            // While it is paused too, and it does not spin.
            loose.refusals.clear();
            sender.pause_receiving();
            CHECK(sender.send(dead, "lost"));
            CHECK(settle(reactor, 50) <= 5);
            sender.resume_receiving();
            settle(reactor);
#if REACTOR_HAS(ERROR_QUEUE)
            CHECK(loose.refusals.size() == 1);
#endif
        }
    }
}

#if REACTOR_HAS(ERROR_QUEUE)
TEST_CASE("S16: a socket of both families learns of refusals by IPv4 hosts as by IPv6 ones, with where they went") {
    for (const DatagramOptions& options : ways_to_move) {
        Reactor reactor;
        Letters letters;
        Socket both = Socket::open(Address::Family::ipv6, SocketKind::datagram);
        both.set_v6_only(false);
        both.bind(*Address::ip("::", 0));
        DatagramEndpoint& sender = read_from(reactor, std::move(both), letters, options);
        const std::vector<Address> dead{*Address::ip("::ffff:127.0.0.1", udp("127.0.0.1").local().port()),
                                        udp("::1").local()};
        for (std::size_t i = 0; i < dead.size(); ++i) {
            CHECK(sender.send(dead[i], "lost"));
            settle(reactor);
            REQUIRE(letters.refusals.size() == i + 1);
            CHECK(letters.refusals[i].first == dead[i]);
            CHECK(letters.refusals[i].second == std::errc::connection_refused);
        }
        CHECK(letters.closed == 0);
    }
}
#endif

TEST_CASE("What this machine itself will not send is told later, and costs no other datagram anything") {
    for (const DatagramOptions& options : ways_to_move) {
        Reactor reactor;
        Letters letters;
        Socket receiver = udp();
        DatagramEndpoint& sender = read_from(reactor, udp(), letters, options);
        SUBCASE("outside a callback") {}
        SUBCASE("inside one") {
            run_until(reactor, [&] { return letters.opened == 1; });
        }
        const auto send_them = [&] {
            letters.inside = true;
            CHECK(sender.send(receiver.local(), "first"));
            CHECK(sender.send(receiver.local(), std::string(65'508, 'x')));
            CHECK(sender.send(*Address::ip("255.255.255.255", 9), "not allowed"));
            CHECK(sender.send(Address::unix_path("another family"), "no such thing"));
            CHECK(sender.send("to nobody"));
            CHECK(sender.send(receiver.local(), "last"));
            letters.inside = false;
        };
        if (letters.opened == 0) {
            letters.on_opened = send_them;
        } else {
            send_them();
        }
        CHECK(receive_raw(reactor, receiver) == "first");
        CHECK(receive_raw(reactor, receiver) == "last");
        run_until(reactor, [&] { return letters.refusals.size() >= 4; });
        settle(reactor);
        CHECK(letters.told_inside == 0);
        REQUIRE(letters.refusals.size() == 4);
        CHECK(letters.refusals[0].first == receiver.local());
        CHECK(letters.refusals[0].second == std::errc::message_size);
        CHECK(letters.refusals[1].second == std::errc::permission_denied);
        CHECK(letters.refusals[2].first == Address::unix_path("another family"));
        CHECK(letters.refusals[3].second == std::errc::destination_address_required);
        CHECK(sender.counters().sent == 2);
        CHECK(sender.counters().refused == 4);
    }
}

TEST_CASE("A flood is received in portions, so that others get their turn in between") {
    for (const DatagramOptions& options : ways_to_move) {
        Reactor reactor;
        Letters letters;
        DatagramEndpoint& server = read_from(reactor, udp(), letters, options);
        run_until(reactor, [&] { return letters.opened == 1; });
        Socket client = udp();
        for (int i = 0; i < 200; ++i) CHECK(send_raw(client, server.local(), std::to_string(i)));
        std::size_t before = 0;
        while (letters.data.size() < 200) {
            reactor.run_once();
            CHECK(letters.data.size() - before <= 128);
            before = letters.data.size();
        }
        for (std::size_t i = 0; i < 200; ++i) CHECK(letters.data[i] == std::to_string(i));
    }
}

TEST_CASE("S10: paused in the middle of a batch nothing more is received until it is resumed, and nothing is lost") {
    for (const DatagramOptions& options : ways_to_move) {
        Reactor reactor;
        Letters letters;
        DatagramEndpoint& server = read_from(reactor, udp(), letters, options);
        Socket client = udp();
        letters.on_received = [&](const Datagram&) {
            if (letters.data.size() % 4 == 0) server.pause_receiving();
        };
        for (int i = 0; i < 18; ++i) CHECK(send_raw(client, server.local(), std::to_string(i)));
        for (std::size_t expected : {4U, 8U, 12U, 16U, 18U}) {
            run_until(reactor, [&] { return letters.data.size() >= expected; });
            CHECK(settle(reactor, 50) <= 4);
            CHECK(letters.data.size() == expected);
            server.resume_receiving();
        }
        for (std::size_t i = 0; i < 18; ++i) {
            CHECK(letters.data[i] == std::to_string(i));
            CHECK(letters.heads[i].sender == client.local());
        }
        letters.on_received = nullptr;
        CHECK(send_raw(client, server.local(), "after"));
        run_until(reactor, [&] { return letters.data.back() == "after"; });
    }
}

TEST_CASE("S80: of what was sent in one callback the kernel takes some, and the rest follows in order") {
    for (DatagramOptions options : ways_to_move) {
        options.queue_limit = 10'000'000;
        Reactor reactor;
        Letters letters;
        auto [mine, theirs] = Socket::pair(SocketKind::datagram);  // whose queue is short: net.unix.max_dgram_qlen
        DatagramEndpoint& sender = read_from(reactor, std::move(mine), letters, options);
        std::vector<std::string> sent;
        for (int i = 0; i < 800; ++i) sent.push_back(i % 7 == 0 ? "" : std::string(std::size_t(i), 'a' + char(i % 26)));
        letters.on_opened = [&] {
            for (std::size_t i = 0; i < 400; ++i) CHECK(sender.send(sent[i]));
        };
        run_until(reactor, [&] { return letters.opened == 1; });
        CHECK(sender.queued() > 0);
        CHECK(sender.counters().sent > 0);
        CHECK(sender.counters().sent < 400);
        std::size_t next = 400;
        std::vector<std::string> got;
        while (got.size() < sent.size()) {
            if (next < sent.size()) CHECK(sender.send(sent[next++]));
            got.push_back(receive_raw(reactor, theirs));
        }
        CHECK(got == sent);
        settle(reactor);
        CHECK(sender.queued() == 0);
        CHECK(sender.counters().sent == sent.size());
        CHECK(sender.dropped() == 0);
        CHECK(settle(reactor, 20) <= 2);
    }
}

TEST_CASE("S80: what is sent in a callback does not overtake what waits, even if there is room by then") {
    Reactor reactor;
    Letters letters;
    auto [mine, theirs] = Socket::pair(SocketKind::datagram);
    DatagramEndpoint& sender = read_from(reactor, std::move(mine), letters);
    run_until(reactor, [&] { return letters.opened == 1; });
    std::vector<std::string> sent;
    while (sender.queued() < 500) {
        sent.push_back("number " + std::to_string(sent.size()));
        CHECK(sender.send(sent.back()));
    }
    std::vector<std::string> got;
    for (int i = 0; i < 5; ++i) got.push_back(receive_raw(reactor, theirs));
    letters.on_received = [&](const Datagram&) {
        for (int i = 0; i < 5; ++i) {
            sent.push_back("late " + std::to_string(i));
            CHECK(sender.send(sent.back()));
        }
    };
    CHECK(write_some(theirs, "go on") == 5);
    char buffer[100];
    for (int i = 0; i < 3; ++i) {  // room, in the iteration in which it gets the datagram
        const ssize_t count = ::recv(theirs.get(), buffer, sizeof buffer, 0);
        if (count >= 0) got.emplace_back(buffer, std::size_t(count));
    }
    run_until(reactor, [&] { return letters.data.size() == 1; });
    while (got.size() < sent.size()) got.push_back(receive_raw(reactor, theirs));
    CHECK(got == sent);
}

TEST_CASE("With its queue full it drops what is sent, says so, and tells when there is room again") {
    DatagramOptions options;
    options.queue_limit = 10'000;
    Reactor reactor;
    Letters letters;
    std::pair<Socket, Socket> ends = Socket::pair(SocketKind::datagram);
    ends.first.set_send_buffer(10'000);
    const Socket& theirs = ends.second;
    DatagramEndpoint& sender = read_from(reactor, std::move(ends.first), letters, options);
    std::size_t taken = 0, refused = 0;
    for (int i = 0; i < 2'000; ++i) (sender.send("something") ? taken : refused) += 1;
    CHECK(taken < 200);
    CHECK(taken + refused == 2'000);
    CHECK(sender.dropped() == refused);
    CHECK(settle(reactor, 20) <= 3);
    CHECK(letters.resumed == 0);
    std::size_t got = 0;
    char byte[100];
    run_until(reactor, [&] {
        while (::recv(theirs.get(), byte, sizeof byte, 0) > 0) ++got;
        return got == taken;
    });
    CHECK(letters.resumed == 1);
    CHECK(sender.send("and on"));
    CHECK(receive_raw(reactor, theirs) == "and on");
    CHECK(letters.resumed == 1);
}

TEST_CASE("A full queue of datagrams calls resume_sending when half of it has left, not only when all has") {
    DatagramOptions options;
    options.queue_limit = 1'000'000;  // more than the kernel makes room for at once
    Reactor reactor;
    Letters letters;
    auto [mine, theirs] = Socket::pair(SocketKind::datagram);
    DatagramEndpoint& sender = read_from(reactor, std::move(mine), letters, options);
    run_until(reactor, [&] { return letters.opened == 1; });
    while (sender.send("something")) {
    }
    const std::size_t full = sender.queued();
    std::size_t left = full;
    letters.on_resumed = [&] { left = sender.queued(); };
    while (letters.resumed == 0) REQUIRE(receive_raw(reactor, theirs) == "something");
    CHECK(left > 0);
    CHECK(left <= full / 2);
}

TEST_CASE("A Unix receiver that never reads costs what is sent to it, and neither others nor the loop") {
    Reactor reactor;
    Letters letters;
    Socket deaf = bound(new_unix_name()), hearing = bound(new_unix_name());
    DatagramEndpoint& sender = read_from(reactor, bound(new_unix_name()), letters);
    int taken = 0;
    while (sender.send(deaf.local(), "are you there?") && taken < 10'000) ++taken;
    CHECK(taken < 10'000);
    CHECK(sender.send(hearing.local(), "hello"));
    CHECK(receive_raw(reactor, hearing) == "hello");
    CHECK(settle(reactor, 20) <= 3);
    CHECK(sender.queued() == 0);
    CHECK(sender.dropped() == 1);
}

TEST_CASE("S4, S7: closed in a callback it sends what was gathered, hears nothing more, and is told so once") {
    for (const DatagramOptions& options : ways_to_move) {
        const std::size_t before = open_descriptors();
        Reactor reactor;
        const std::size_t with_reactor = open_descriptors();
        Letters letters;
        {
            DatagramEndpoint& server = read_from(reactor, udp(), letters, options);
            Socket client = connected_to(server.local(), udp());
            letters.on_received = [&](const Datagram& datagram) {
                CHECK(letters.transport->answer(datagram, datagram.data));
                if (letters.data.size() < 3) return;
                letters.inside = true;
                letters.transport->close();
                CHECK_FALSE(letters.transport->send(datagram.sender, "too late"));
                letters.transport->close();
                letters.inside = false;
            };
            for (int i = 0; i < 6; ++i) CHECK(send_raw(client, server.local(), std::to_string(i)));
            run_until(reactor, [&] { return *letters.destroyed == 1; });
            CHECK(letters.data.size() == 3);
            CHECK(letters.closed == 1);
            CHECK_FALSE(letters.reason);
            CHECK(letters.told_inside + letters.after_the_end == 0);
            for (int i = 0; i < 3; ++i) CHECK(receive_raw(reactor, client) == std::to_string(i));
        }
        CHECK(open_descriptors() == with_reactor);
        CHECK(with_reactor > before);
    }
}

TEST_CASE("S8: a reactor destroyed with its sockets open calls nobody and closes everything") {
    const std::size_t before = open_descriptors();
    Letters letters;
    {
        Reactor reactor;
        read_from(reactor, udp(), letters);
        read_from(reactor, Socket::pair(SocketKind::datagram).first, letters).send("x");
    }
    CHECK(*letters.destroyed == 2);
    CHECK(letters.opened + letters.closed == 0);
    CHECK(open_descriptors() == before);
}

TEST_CASE("S69: an exception closes the socket of the protocol that threw it, and no other") {
    Reactor reactor;
    int hooked = 0;
    reactor.on_exception([&](std::exception_ptr) { ++hooked; });
    Letters letters;
    DatagramEndpoint& thrower = read_from(reactor, udp(), letters);
    DatagramEndpoint& sound = echo(reactor, udp());
    letters.on_received = [](const Datagram&) { throw std::runtime_error("as planned"); };
    Socket client = udp();
    for (int i = 0; i < 3; ++i) {
        CHECK(send_raw(client, thrower.local(), "x"));
        CHECK(send_raw(client, sound.local(), "y"));
    }
    for (int i = 0; i < 3; ++i) CHECK(receive_raw(reactor, client) == "y");
    run_until(reactor, [&] { return letters.closed == 1; });
    CHECK(letters.reason == Error::exception);
    CHECK(letters.data.size() == 1);
    CHECK(hooked == 1);
}

TEST_CASE("One endpoint sends by another, in the middle of its own batch") {
    Reactor reactor;
    Letters letters;
    Socket far = udp();
    DatagramEndpoint& out = echo(reactor, udp());
    DatagramEndpoint& in = read_from(reactor, udp(), letters);
    letters.on_received = [&](const Datagram& datagram) {
        out.send(far.local(), datagram.data);
        in.answer(datagram, datagram.data);
    };
    Socket client = connected_to(in.local(), udp());
    for (int i = 0; i < 40; ++i) CHECK(send_raw(client, in.local(), std::to_string(i)));
    for (int i = 0; i < 40; ++i) {
        CHECK(receive_raw(reactor, far) == std::to_string(i));
        CHECK(receive_raw(reactor, client) == std::to_string(i));
    }
}

TEST_CASE("A socket for longer datagrams, opened in the middle of a batch, leaves the batch whole") {
    Reactor reactor;
    Letters letters, of_longer;
    DatagramOptions options;
    options.largest = 5'000;
    DatagramEndpoint& server = read_from(reactor, udp(), letters, options);
    DatagramEndpoint* longer = nullptr;
    letters.on_received = [&](const Datagram& datagram) {
        if (longer == nullptr) longer = &read_from(reactor, udp(), of_longer);
        CHECK(text_of(datagram.data) == letters.data.back());
        server.answer(datagram, datagram.data);
    };
    Socket client = connected_to(server.local(), udp());
    for (int i = 0; i < 5; ++i) CHECK(send_raw(client, server.local(), std::string(5'000, char('a' + i))));
    for (int i = 0; i < 5; ++i) CHECK(receive_raw(reactor, client) == std::string(5'000, char('a' + i)));
    const std::string most = random_bytes(65'507, 1);
    CHECK(send_raw(client, longer->local(), most));
    run_until(reactor, [&] { return of_longer.data.size() == 1; });
    CHECK(of_longer.data[0] == most);
    CHECK(server.counters().truncated + longer->counters().truncated == 0);
}

#if REACTOR_HAS(IP_PKTINFO)
TEST_CASE("Who asked one of a machine's addresses is answered from that one") {
    Reactor reactor;
    DatagramEndpoint& server = echo(reactor, udp("0.0.0.0"));
    for (const char* host : {"127.0.0.1", "127.0.0.2", "127.3.4.5"}) {
        // A connected socket hears of its peer alone.
        Socket client = connected_to(*Address::ip(host, server.local().port()), udp());
        CHECK(write_some(client, host) > 0);
        CHECK(receive_raw(reactor, client) == host);
    }
}
#endif

TEST_CASE("What is sent to a multicast group comes to those who joined, who know that, and answer as themselves") {
    Reactor reactor;
    Letters joined, left;
    const unsigned loopback = interface_number("lo");
    const Address group = *Address::ip("239.255.7.9", 0);
    DatagramEndpoint& member = read_from(reactor, udp("0.0.0.0"), joined);
    member.socket().join_group(group, loopback);
    joined.on_received = [&](const Datagram& datagram) { member.answer(datagram, datagram.data); };
    Socket sender = udp("0.0.0.0");
    sender.set_multicast_interface(loopback);
    sender.set_multicast_hops(1);
    sender.set_multicast_loop(true);
    const Address to = group.with_port(member.local().port());
    REQUIRE(send_raw(sender, to, "all of you"));
    CHECK(receive_raw(reactor, sender) == "all of you");
    REQUIRE(joined.heads.size() == 1);
    CHECK(joined.heads[0].local != to);
    if (REACTOR_HAS(IP_PKTINFO)) {
        CHECK(joined.heads[0].destination == to);
        CHECK(joined.heads[0].interface == loopback);
    }
    member.socket().leave_group(group, loopback);
    CHECK(send_raw(sender, to, "nobody any more"));
    settle(reactor);
    CHECK(joined.data.size() == 1);
    CHECK_THROWS_WITH_AS(member.socket().join_group(*Address::ip("127.0.0.1", 0)),
                         doctest::Contains("MCAST_JOIN_GROUP, 127.0.0.1"), std::system_error);
    CHECK_THROWS_AS(interface_number("no-such-interface"), std::system_error);
}

TEST_CASE("An IPv6 group is joined on an interface, and its members know by which one a datagram came") {
    const Address scopeless = *Address::ip("ff01::7:9", 0);
    const unsigned interface = interface_for(scopeless);
    if (interface == 0) {
        MESSAGE("skipped: this machine has no interface with a route to IPv6 groups");
        return;
    }
    for (const DatagramOptions& options : ways_to_move) {
        Reactor reactor;
        Letters joined, others, answers;
        DatagramEndpoint& member = read_from(reactor, udp("::"), joined, options);
        DatagramEndpoint& stranger = read_from(reactor, udp("::"), others, options);
        CHECK_THROWS_WITH_AS(stranger.socket().join_group(*Address::ip("::1", 0), interface),
                             doctest::Contains("MCAST_JOIN_GROUP, ::1"), std::system_error);
        member.socket().join_group(scopeless, interface);
        joined.on_received = [&](const Datagram& datagram) { CHECK(member.answer(datagram, datagram.data)); };
        DatagramEndpoint& sender = read_from(reactor, udp("::"), answers, options);
        sender.socket().set_multicast_loop(true);
        sender.socket().set_multicast_hops(1);
        Address to = scopeless.with_port(member.local().port());
        // By the interface of the route, by the socket's own, and by the scope of the address.
        CHECK(sender.send(Route{to, {}, interface}, bytes_of("by a route")));
        sender.socket().set_multicast_interface(interface);
        CHECK(sender.send(to, "by the socket"));
        char name[IF_NAMESIZE];
        REQUIRE(::if_indextoname(interface, name) != nullptr);
        to = *Address::ip(std::string("ff01::7:9%") + name, member.local().port());
        CHECK(sender.send(to, "by the address"));
        run_until(reactor, [&] { return answers.data.size() == 3; });
        CHECK(answers.data == std::vector<std::string>{"by a route", "by the socket", "by the address"});
        CHECK(joined.data == answers.data);
        for (const Datagram& head : joined.heads) {
            CHECK(head.destination == to);
            CHECK(head.local == Address());
            CHECK(head.interface == interface);
        }
        CHECK(answers.heads[0].sender.port() == member.local().port());
        // The received address can be sent to.
        CHECK(sender.send(joined.heads[0].destination, "once more"));
        run_until(reactor, [&] { return answers.data.size() == 4; });
        member.socket().leave_group(scopeless, interface);
        CHECK(sender.send(to, "nobody any more"));
        settle(reactor);
        CHECK(joined.data.size() == 4);
        CHECK(others.data.empty());
    }
}

#if REACTOR_HAS(IP_MULTICAST_ALL)
TEST_CASE("What is sent to a group does not come to a socket that has not joined it, though another one has") {
    for (const bool over_ipv6 : {false, true}) {
        CAPTURE(over_ipv6);
        Address group = *Address::ip("239.255.7.10", 0);
        unsigned interface = interface_number("lo");
        if (over_ipv6) {
            group = *Address::ip("ff01::7:10", 0);
            interface = interface_for(group);
            if (interface == 0) {
                MESSAGE("skipped: this machine has no interface with a route to IPv6 groups");
                continue;
            }
        }
        const char* const any = over_ipv6 ? "::" : "0.0.0.0";
        Reactor reactor;
        Letters joined, other;
        // The machine receives for the group as long as one of its sockets is a member, whatever that one's port is.
        DatagramEndpoint& member = read_from(reactor, udp(any), joined);
        member.socket().join_group(group, interface);
        DatagramEndpoint& stranger = read_from(reactor, udp(any), other);
        Letters sending;
        DatagramEndpoint& sender = read_from(reactor, udp(any), sending);
        sender.socket().set_multicast_interface(interface);
        CHECK(sender.send(group.with_port(stranger.local().port()), "to members"));
        CHECK(sender.send(group.with_port(member.local().port()), "to members"));
        run_until(reactor, [&] { return !joined.data.empty(); });
        settle(reactor);
        CHECK(joined.data.size() == 1);
        CHECK(other.data.empty());
    }
}

TEST_CASE("What an IPv4 group is sent on a socket of both families is answered by an address of the machine's") {
    Reactor reactor;
    Letters joined;
    const Address group = *Address::ip("239.255.7.11", 0);
    Socket both = Socket::open(Address::Family::ipv6, SocketKind::datagram);
    both.set_v6_only(false);
    both.bind(*Address::ip("::", 0));
    const Address to = group.with_port(both.local().port());
    both.join_group(group, interface_number("lo"));
    DatagramEndpoint& member = read_from(reactor, std::move(both), joined);
    joined.on_received = [&](const Datagram& datagram) { CHECK(member.answer(datagram, "here")); };
    Socket sender = udp("0.0.0.0");
    sender.set_multicast_interface(interface_number("lo"));
    REQUIRE(send_raw(sender, to, "anybody?"));
    CHECK(receive_raw(reactor, sender) == "here");
    REQUIRE(joined.heads.size() == 1);
    CHECK(joined.heads[0].local == Address());
    CHECK(joined.refusals.empty());
}
#endif

TEST_CASE("Broadcasts are sent by those who may, and known as such by those who get them") {
    Reactor reactor;
    Letters received, letters;
    DatagramEndpoint& server = read_from(reactor, udp("0.0.0.0"), received);
    received.on_received = [&](const Datagram& datagram) { server.answer(datagram, "here"); };
    DatagramEndpoint& client = read_from(reactor, udp("0.0.0.0"), letters);
    client.socket().set_broadcast(true);
    const Address everybody = *Address::ip("127.255.255.255", server.local().port());
    CHECK(client.send(everybody, "anybody?"));
    run_until(reactor, [&] { return !letters.data.empty(); });
    REQUIRE(received.heads.size() == 1);
    if (REACTOR_HAS(IP_PKTINFO)) CHECK(received.heads[0].destination == everybody);
    CHECK(letters.heads[0].sender == *Address::ip("127.0.0.1", server.local().port()));
}

TEST_CASE("S91: whatever sizes the options of datagrams have, an exchange is whole, or its loss is told") {
    constexpr std::size_t extremes[] = {0, 1, 64, 65, PTRDIFF_MAX, SIZE_MAX - 63, SIZE_MAX - 1, SIZE_MAX};
    constexpr std::size_t DatagramOptions::*sizes[] = {&DatagramOptions::largest, &DatagramOptions::queue_limit,
                                                       &DatagramOptions::batch, &DatagramOptions::descriptors};
    for (const bool over_unix : {false, true}) {
        for (const auto size : sizes) {
            for (const std::size_t value : extremes) {
                CAPTURE(over_unix);
                CAPTURE(std::size_t(std::find(std::begin(sizes), std::end(sizes), size) - std::begin(sizes)));
                CAPTURE(value);
                DatagramOptions options;
                options.*size = value;
                Reactor reactor;
                Letters asking, answering;
                const auto where = [&] { return over_unix ? new_unix_name() : *Address::ip("127.0.0.1", 0); };
                DatagramEndpoint& server = read_from(reactor, bound(where()), answering, options);
                DatagramEndpoint& client = read_from(reactor, bound(where()), asking, options);
                answering.on_received = [&](const Datagram& datagram) { server.answer(datagram, datagram.data); };
                CHECK(client.send(server.local(), "short"));
                run_until(reactor, [&] { return !asking.data.empty(); });
                CHECK(asking.data[0] == (options.largest < 2 ? "s" : "short"));
                const std::string most = random_bytes(60'000, 7);
                client.send(server.local(), most);  // more than the least of buffers have room for
                settle(reactor);
                const std::size_t kept = std::clamp<std::size_t>(options.largest, 1, most.size());
                if (asking.data.size() == 2) CHECK(asking.data[1] == most.substr(0, kept));
                CHECK(asking.data.size() == 2);
            }
        }
    }
}

TEST_CASE("S91: of a Unix datagram longer than UDP has them all comes, if it is asked for") {
    for (const std::size_t largest : {std::size_t(100'000), SIZE_MAX}) {
        Reactor reactor;
        Letters letters;
        DatagramOptions options;
        options.largest = largest;
        DatagramEndpoint& server = read_from(reactor, bound(new_unix_name()), letters, options);
        const Socket client = bound(new_unix_name());
        const std::string text = random_bytes(100'000, 8);
        REQUIRE(send_raw(client, server.local(), text));
        run_until(reactor, [&] { return !letters.data.empty(); });
        CHECK(letters.data[0] == text);
        CHECK(server.counters().truncated == 0);
    }
}

TEST_CASE(
    "S108: an option that a kind of datagram socket does not have is ignored; a group that it cannot join throws") {
    Reactor reactor;
    Letters letters;
    DatagramOptions every;
    every.descriptors = 3;
    std::vector<Socket> sockets;
    sockets.push_back(udp("127.0.0.1"));
    sockets.push_back(udp("::1"));
    sockets.push_back(bound(new_unix_name()));
    sockets.push_back(Socket::pair(SocketKind::sequenced_packets).first);
    for (const Socket& bound_by_name : bind_datagrams("unix:" + new_unix_name().host(), 0))
        CHECK(bound_by_name.local().family() == Address::Family::unix_domain);
    for (Socket& socket : sockets) {
        const Address::Family family = socket.local().family();
        socket.set_broadcast(true);
        DatagramEndpoint& endpoint = read_from(reactor, std::move(socket), letters, every);
        if (family == Address::Family::unix_domain)
            CHECK_THROWS_AS(endpoint.socket().join_group(*Address::ip("239.255.7.12", 0)), std::system_error);
        endpoint.close();
    }
    settle(reactor);
    CHECK(letters.closed == 4);
}

TEST_CASE("bind_datagrams takes all addresses of a name on one port, as an acceptor does") {
    Reactor reactor;
    std::vector<Socket> sockets = bind_datagrams("localhost", 0);
    REQUIRE(sockets.size() == 2);
    CHECK(sockets[0].local().host() == "127.0.0.1");
    CHECK(sockets[1].local().host() == "::1");
    CHECK(sockets[0].local().port() == sockets[1].local().port());
    CHECK_THROWS_WITH_AS(bind_datagrams("127.0.0.1", sockets[0].local().port()), doctest::Contains("bind(127.0.0.1:"),
                         std::system_error);
    const auto share = [](Socket& socket) { socket.set_reuse_port(true); };
    const std::uint16_t port = bind_datagrams("127.0.0.1", 0)[0].local().port();
    const auto first = bind_datagrams("127.0.0.1", port, share), second = bind_datagrams("127.0.0.1", port, share);
    CHECK(first[0].local() == second[0].local());
}

TEST_CASE("A stream socket is no endpoint of datagrams, and is closed") {
    const std::size_t before = open_descriptors();
    {
        Reactor reactor;
        Letters letters;
        CHECK_THROWS_AS(read_from(reactor, Socket::pair().first, letters), std::system_error);
        CHECK(*letters.destroyed == 1);
    }
    CHECK(open_descriptors() == before);
}

// ── packets ──

TEST_CASE("S13: a packet socket ends when its peer has closed, behind the last packet; an empty one is no end") {
    Reactor reactor;
    Letters letters;
    auto [mine, theirs] = Socket::pair(SocketKind::sequenced_packets);
    read_from(reactor, std::move(mine), letters);
    // Where poll(2) does not say that the peer has closed, two empty packets in a row are taken for the end.
    std::vector<std::string> sent{"a", "", "b"};
    if (REACTOR_HAS(POLLRDHUP)) sent.insert(sent.begin() + 1, "");
    for (const std::string& text : sent) CHECK(::send(theirs.get(), text.data(), text.size(), 0) >= 0);
    run_until(reactor, [&] { return letters.data == sent; });
    CHECK(::send(theirs.get(), "", 0, 0) == 0);
    run_until(reactor, [&] { return letters.data.size() == sent.size() + 1; });
    CHECK(letters.closed == 0);
    CHECK(::send(theirs.get(), "last", 4, 0) == 4);
    theirs.close();
    run_until(reactor, [&] { return letters.closed == 1; });
    sent.insert(sent.end(), {"", "last"});
    CHECK(letters.data == sent);
    CHECK_FALSE(letters.reason);
}

TEST_CASE("S14: a packet socket whose peer closed with packets unread tells of a reset, and does not raise SIGPIPE") {
    Reactor reactor;
    Letters letters;
    auto [mine, theirs] = Socket::pair(SocketKind::sequenced_packets);
    DatagramEndpoint& one = read_from(reactor, std::move(mine), letters);
    CHECK(one.send("never read"));
    theirs.close();
    one.send("written to nobody");
    run_until(reactor, [&] { return letters.closed == 1; });
    CHECK(letters.reason == std::errc::connection_reset);
}

TEST_CASE("S14: packets that a peer sent before it closed are received, although it left others unread") {
    for (const bool send_more : {false, true}) {
        CAPTURE(send_more);
        Reactor reactor;
        Letters letters;
        auto [mine, theirs] = Socket::pair(SocketKind::sequenced_packets);
        DatagramEndpoint& one = read_from(reactor, std::move(mine), letters);
        CHECK(one.send("never read"));
        std::vector<std::string> answers;
        for (int i = 0; i < 8; ++i) {
            answers.push_back("answer " + std::to_string(i));
            CHECK(::send(theirs.get(), answers.back().data(), answers.back().size(), 0) > 0);
        }
        theirs.close();
        if (send_more) one.send("to a peer that is gone");
        run_until(reactor, [&] { return letters.closed == 1; });
        CHECK(letters.data == answers);
        CHECK(letters.reason == std::errc::connection_reset);
    }
}

TEST_CASE("S10, S14: a pause among the last packets of a peer that reset keeps them until receiving goes on") {
    Reactor reactor;
    Letters letters;
    auto [mine, theirs] = Socket::pair(SocketKind::sequenced_packets);
    DatagramEndpoint& one = read_from(reactor, std::move(mine), letters);
    CHECK(one.send("never read"));
    for (const char* text : {"a", "b", "c"}) CHECK(::send(theirs.get(), text, 1, 0) == 1);
    letters.on_received = [&](const Datagram& datagram) {
        if (text_of(datagram.data) == "b") letters.transport->pause_receiving();
    };
    theirs.close();
    run_until(reactor, [&] { return letters.data.size() == 2; });
    settle(reactor);
    CHECK(letters.closed == 0);
    letters.transport->resume_receiving();
    run_until(reactor, [&] { return letters.closed == 1; });
    CHECK(letters.data == std::vector<std::string>{"a", "b", "c"});
    CHECK(letters.reason == std::errc::connection_reset);
}

// ── descriptors ──

namespace {

std::pair<FileDescriptor, FileDescriptor> pipe_ends() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

}  // namespace

TEST_CASE("S83: descriptors come with packets and datagrams; who takes one has it, and all others are closed") {
    for (const SocketKind kind : {SocketKind::sequenced_packets, SocketKind::datagram}) {
        const std::size_t before = open_descriptors();
        {
            Reactor reactor;
            Letters letters;
            DatagramOptions options;
            options.descriptors = 3;
            auto [mine, theirs] = Socket::pair(kind);
            read_from(reactor, std::move(mine), letters, options);
            DatagramEndpoint& sender = echo(reactor, std::move(theirs));
            FileDescriptor taken;
            std::size_t came = 0;
            letters.on_received = [&](const Datagram& datagram) {
                came = datagram.descriptors.size();
                if (came > 0) taken = std::move(datagram.descriptors.back());
            };
            auto [reading, writing] = pipe_ends();
            const int both[] = {reading.get(), writing.get()};
            CHECK(sender.send_descriptors({}, bytes_of("a pipe"), both));
            run_until(reactor, [&] { return letters.data.size() == 1; });
            CHECK(came == 2);
            CHECK(letters.data[0] == "a pipe");
            CHECK_FALSE(letters.heads[0].descriptors_truncated);
            REQUIRE(bool(taken));
            CHECK((::fcntl(taken.get(), F_GETFD) & FD_CLOEXEC) != 0);
            CHECK(::write(taken.get(), "x", 1) == 1);
            char byte = 0;
            CHECK(::read(reading.get(), &byte, 1) == 1);

            // More than it takes: the first ones come, and the kernel closes the others.
            const std::size_t open = open_descriptors();
            const int five[] = {both[0], both[0], both[0], both[0], both[0]};
            letters.on_received = [&](const Datagram& datagram) { came = datagram.descriptors.size(); };
            CHECK(sender.send_descriptors({}, bytes_of("too many"), five));
            run_until(reactor, [&] { return letters.data.size() == 2; });
            CHECK(came == 3);
            CHECK(letters.heads[1].descriptors_truncated);
            CHECK(open_descriptors() == open);

            // Also where the protocol throws, or closes.
            letters.on_received = [&](const Datagram&) { throw std::runtime_error("as planned"); };
            CHECK(sender.send_descriptors({}, bytes_of("thrown"), both));
            CHECK(sender.send_descriptors({}, bytes_of("never read"), both));
            try {
                run_until(reactor, [&] { return letters.closed == 1; });
            } catch (const std::runtime_error&) {
                run_until(reactor, [&] { return letters.closed == 1; });
            }
            run_until(reactor, [&] { return *letters.destroyed == 1; });
            CHECK(letters.data.size() == 3);
        }
        CHECK(open_descriptors() == before);
    }
}

TEST_CASE("S83, S102: descriptors of a batch that nobody reads to its end are closed, wanted or not") {
    Reactor reactor;
    auto [near, far] = Socket::pair(SocketKind::datagram);
    Letters letters, others;
    bool throws = false;
    SUBCASE("The protocol closes in the middle of it") {}
    SUBCASE("The protocol throws in the middle of it") {
        throws = true;
    }
    letters.on_received = [&](const Datagram&) {
        if (throws) throw std::runtime_error("enough");
        letters.transport->close();
    };
    reactor.on_exception([](std::exception_ptr) {});
    DatagramEndpoint& reader = read_from(reactor, std::move(near), letters);
    DatagramEndpoint& sender = read_from(reactor, std::move(far), others);
    reader.socket().set_accepts_descriptors(true);  // as on every kernel before Linux 6.16
    settle(reactor);
    const std::size_t before = open_descriptors();
    const FileDescriptor sent(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    for (const char* text : {"one", "two", "three"})
        REQUIRE(sender.send_descriptors({}, bytes_of(text), std::vector<int>{sent.get()}));
    run_until(reactor, [&] { return letters.closed == 1; });
    CHECK(letters.data == std::vector<std::string>{"one"});
    CHECK(open_descriptors() == before);  // one more is open here, and the socket that ended is one less
}

TEST_CASE("S83, S102: descriptors that nobody asked for are refused or closed, and those that cannot go are refused") {
    const std::size_t before = open_descriptors();
    {
        Reactor reactor;
        Letters letters;
        auto [mine, theirs] = Socket::pair(SocketKind::sequenced_packets);
        read_from(reactor, std::move(mine), letters);
        DatagramEndpoint& sender = echo(reactor, std::move(theirs));
        auto [reading, writing] = pipe_ends();
        const std::size_t open = open_descriptors();
        CHECK(sender.send_descriptors({}, bytes_of("unasked"), std::vector<int>{reading.get(), writing.get()}));
        const bool refused = kernel_refuses_descriptors();
        run_until(reactor, [&] { return refused ? sender.counters().refused == 1 : letters.data.size() == 1; });
        CHECK(letters.data.size() == std::size_t(refused ? 0 : 1));
        CHECK(open_descriptors() == open);

        Letters udp_letters;
        DatagramEndpoint& over_udp = read_from(reactor, udp(), udp_letters);
        CHECK(over_udp.send_descriptors({nobody(), {}, 0}, bytes_of("x"), std::vector<int>{reading.get()}));
        CHECK(sender.send_descriptors({}, bytes_of("x"), std::vector<int>(254, reading.get())));
        run_until(reactor, [&] { return udp_letters.refusals.size() == 1; });
        CHECK(udp_letters.refusals[0].second == std::errc::invalid_argument);
        // Its own sends may not queue behind a kernel without room: at once or not at all.
        auto [near, far] = Socket::pair(SocketKind::sequenced_packets);
        DatagramEndpoint& eager = echo(reactor, std::move(near));
        int taken = 0;
        while (taken < 10'000 && eager.send_descriptors({}, bytes_of("y"), std::vector<int>{reading.get()})) ++taken;
        CHECK(taken < 10'000);
        CHECK(eager.dropped() == 1);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("S102: a socket that came with a datagram and was not taken is closed without waiting for its peer") {
    Reactor reactor;
    Letters letters;
    auto ends = tcp_pair();
    auto [mine, theirs] = Socket::pair(SocketKind::datagram);
    DatagramOptions options;
    options.descriptors = 1;
    read_from(reactor, std::move(mine), letters, options);
    for (const std::size_t count : {1u, 2u}) {  // not taken; and one more than may come
        ends.first.set_linger(std::chrono::seconds(100));
        letters.on_received = [&, count](const Datagram& datagram) {
            if (count == 2) datagram.descriptors[0].reset();
            CHECK(bool(ends.first.linger()) == (count == 1));
        };
        REQUIRE(send_descriptor_raw(theirs, "x", ends.first.get(), count) == 0);
        run_until(reactor, [&] { return letters.data.size() == count; });
        CHECK_FALSE(ends.first.linger());
        CHECK(letters.heads.back().descriptors_truncated == (count == 2));
    }
}

TEST_CASE("S109: a paused connection of packets ends at once when its peer resets, and an end in good order waits") {
    for (const bool reset : {false, true}) {
        CAPTURE(reset);
        Reactor reactor;
        Letters letters;
        auto [mine, theirs] = Socket::pair(SocketKind::sequenced_packets);
        DatagramEndpoint& endpoint = read_from(reactor, std::move(mine), letters);
        settle(reactor);
        endpoint.pause_receiving();
        if (reset) endpoint.send(bytes_of("unread"));
        REQUIRE(write_some(theirs, "data") == 4);
        theirs.close();
        CHECK(settle(reactor, 10) <= 4);
        CHECK(letters.closed == (reset ? 1 : 0));
        if (reset) continue;
        endpoint.resume_receiving();
        run_until(reactor, [&] { return letters.closed == 1; });
        CHECK(letters.data == std::vector<std::string>{"data"});
    }
}

TEST_CASE("S91: options of datagrams may have any size: what fits is received whole, and nothing else is touched") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    const std::string text = random_bytes(60'000, 91);
    for (const SocketKind kind : {SocketKind::datagram, SocketKind::sequenced_packets}) {
        for (const bool over_unix : {false, true}) {
            if (!over_unix && kind == SocketKind::sequenced_packets) continue;
            for (std::size_t DatagramOptions::*field : {&DatagramOptions::largest, &DatagramOptions::queue_limit,
                                                        &DatagramOptions::batch, &DatagramOptions::descriptors}) {
                for (const std::size_t value :
                     {std::size_t(0), std::size_t(1), most / 2, most / 2 + 1, most - 1, most}) {
                    CAPTURE(value);
                    DatagramOptions options;
                    options.*field = value;
                    Reactor reactor;
                    Letters letters;
                    auto [sender, mine] = over_unix ? Socket::pair(kind) : std::pair{udp(), udp()};
                    const Address to = mine.local();
                    read_from(reactor, std::move(mine), letters, options);
                    const ssize_t sent = over_unix ? ::send(sender.get(), text.data(), text.size(), 0)
                                                   : ::sendto(sender.get(), text.data(), text.size(), 0, to.data(),
                                                              socklen_t(to.size()));
                    REQUIRE(sent == ssize_t(text.size()));
                    settle(reactor);
                    REQUIRE(letters.data.size() == 1);
                    const bool cut = field == &DatagramOptions::largest && value <= 1;
                    CHECK(letters.heads[0].truncated == cut);
                    CHECK(letters.data[0].size() == (cut ? 1 : text.size()));
                    CHECK(text.starts_with(letters.data[0]));
                }
            }
        }
    }
}
