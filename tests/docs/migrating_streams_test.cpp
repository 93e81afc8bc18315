// Our rows of the tables of streams and of their ends in reactor/MIGRATING.md: what a server does that its author has
// not chosen. findings/loops-and-streams.sh and findings/loops-and-ends.sh measure the others' rows.
#include "../support/loop.hpp"

#include <reactor/stream/acceptor.hpp>

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <fstream>
#include <optional>
#include <string>

using namespace reactor;

namespace {

struct Seen {
    int ends = 0;
    bool over = false;
    std::error_code reason;
};

// Answers each question with so many bytes. As it is, the end of the input closes the connection behind the answer.
class Answers : public Protocol {
public:
    Answers(Seen& seen, std::size_t size) : seen_(seen), answer_(size, 'x') {}

protected:
    std::size_t received(Bytes input) override {
        if (!answer_.empty()) transport().write(answer_);
        return input.size();
    }
    void disconnected(std::error_code reason) override {
        seen_.over = true;
        seen_.reason = reason;
    }
    Seen& seen_;

private:
    std::string answer_;
};

// Keeps the connection when the input has ended.
class Stays final : public Answers {
public:
    using Answers::Answers;

private:
    void end_of_stream() override { ++seen_.ends; }
};

// Has asked, and has shut its writing.
Socket asked(const Acceptor& acceptor) {
    Socket peer = Socket::open(Address::Family::ipv4);
    peer.set_receive_buffer(4096);
    (void)peer.connect(acceptor.addresses().front());
    pollfd entry{peer.get(), POLLOUT, 0};
    REQUIRE(::poll(&entry, 1, 10'000) == 1);
    REQUIRE(::send(peer.get(), "ask", 3, 0) == 3);
    REQUIRE_FALSE(peer.shutdown_write());
    return peer;
}

}  // namespace

TEST_CASE("Habits: a listener has a backlog of 4096, or the system's limit") {
    Reactor reactor;
    const Acceptor acceptor(reactor, "127.0.0.1", 0, [](const Address&) { return nullptr; });
    int limit = 0;
    std::ifstream("/proc/sys/net/core/somaxconn") >> limit;
    REQUIRE(limit > 0);
    std::optional<unsigned> backlog;
    for (int descriptor = 3; descriptor < 100; ++descriptor) {
        int listens = 0;
        socklen_t size = sizeof listens;
        if (::getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) continue;
        tcp_info information{};
        size = sizeof information;
        REQUIRE(::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &information, &size) == 0);
        backlog = information.tcpi_sacked;  // of a listener: its limit
    }
    CHECK(backlog == unsigned(std::min(limit, 4096)));
}

TEST_CASE("Habits: the whole answer arrives at a client that has shut its writing, and then the end") {
    Reactor reactor;
    Seen seen;
    constexpr std::size_t size = 4'000'000;
    const Acceptor acceptor(reactor, "127.0.0.1", 0,
                            [&](const Address&) { return std::make_unique<Answers>(seen, size); });
    Socket peer = asked(acceptor);
    std::size_t arrived = 0;
    bool end = false;
    run_until(reactor, [&] {
        char bytes[100'000];
        ssize_t count = 0;
        while ((count = ::recv(peer.get(), bytes, sizeof bytes, MSG_DONTWAIT)) > 0) arrived += std::size_t(count);
        end = count == 0;
        return end;
    });
    CHECK(arrived == size);
    run_until(reactor, [&] { return seen.over; });
    CHECK_FALSE(seen.reason);
}

TEST_CASE("Habits: a reset behind the end of the input is reported, as a broken pipe") {
    Reactor reactor;
    Seen seen;
    const Acceptor acceptor(reactor, "127.0.0.1", 0, [&](const Address&) { return std::make_unique<Stays>(seen, 0); });
    Socket peer = asked(acceptor);
    run_until(reactor, [&] { return seen.ends == 1; });
    CHECK(settle(reactor) < 5);  // the end is reported once
    CHECK(seen.ends == 1);
    peer.set_linger(std::chrono::seconds(0));
    peer.close();
    run_until(reactor, [&] { return seen.over; });
    CHECK(seen.reason == std::errc::broken_pipe);
}

TEST_CASE("Habits: a watch for errors is silent at the end of the input, and is called for a reset until it goes") {
    struct Broken final : EventHandler {
        void error() override { ++calls; }
        int calls = 0;
    };
    Reactor reactor;
    Broken broken;
    auto [here, peer] = tcp_pair();
    Registration watch = reactor.watch(here.get(), Interest::readable, broken);
    REQUIRE_FALSE(peer.shutdown_write());
    reactor.run_once();
    watch.set_interest(Interest::error);  // the end is read
    CHECK(settle(reactor) < 5);
    CHECK(broken.calls == 0);
    peer.set_linger(std::chrono::seconds(0));
    peer.close();
    run_until(reactor, [&] { return broken.calls == 5; });
    watch.set_interest(Interest::none);
    CHECK(settle(reactor) < 5);
    CHECK(broken.calls == 5);
}
