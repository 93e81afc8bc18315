// Connections that the kernel has accepted ahead of an acceptor, over a script and over the kernel's ring: none is
// lost, served twice or left open, whenever the acceptor pauses, closes or gives its socket to another process.
#include "../support/loop.hpp"

#include <reactor/stream/acceptor.hpp>
#include <reactor/testing/scripted_completions.hpp>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using testing::ScriptedCompletions;

namespace {

struct Echoing final : Protocol {
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
};

using Odds = ScriptedCompletions::Odds;

constexpr Odds nothing_happens{0, 0, 0, 0, 0, 0, 0, 0, 0};

std::unique_ptr<Demultiplexer> script(unsigned seed, Odds odds = nothing_happens) {
    return testing::io_uring(std::make_unique<ScriptedCompletions>(seed, odds));
}

// Calls `test` with a loop over a script, and with one over the kernel's ring where there is one.
template <class Test>
void on_each(Test test) {
    {
        Reactor scripted(script(1));
        test(scripted);
    }
    const auto backends = available_backends();
    if (std::find(backends.begin(), backends.end(), "io_uring") == backends.end()) return;
    Reactor real{"io_uring"};
    test(real);
}

std::deque<Socket> connect(const Address& address, int count) {
    std::deque<Socket> clients;
    for (; count > 0; --count) {
        clients.push_back(Socket::open(Address::Family::ipv4));
        (void)clients.back().connect(address);
    }
    return clients;
}

bool is_over(const Socket& socket) {
    char byte = 0;
    return ::recv(socket.get(), &byte, 1, 0) == 0 || errno == ECONNRESET;
}

// An acceptor that has taken one connection of ten, and pauses; the kernel has accepted the others for it.
struct Holding {
    explicit Holding(Reactor& loop)
        : reactor(loop), acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, [this] {
              acceptor.pause();
              return std::make_unique<Echoing>();
          }) {
        settle(reactor, 5);  // it accepts from now on
        open_before = open_descriptors();
        clients = connect(acceptor.addresses().at(0), 10);
        run_until(reactor, [&] { return acceptor.connections() == 1; });
        settle(reactor, 5);
    }
    // How many wait in the loop: the others are still in the kernel's queue.
    std::size_t held() const { return open_descriptors() - open_before - clients.size() - 1; }

    Reactor& reactor;
    Acceptor acceptor;
    std::deque<Socket> clients;
    std::size_t open_before = 0;
};

}  // namespace

TEST_CASE("However the kernel accepts ahead, every client is served once, also by an acceptor that pauses") {
    Odds met = nothing_happens;
    for (unsigned seed = 0; seed < 60; ++seed) {
        CAPTURE(seed);
        auto made = std::make_unique<ScriptedCompletions>(seed);
        const ScriptedCompletions& queue = *made;
        Reactor reactor(testing::io_uring(std::move(made)));
        const std::size_t open_before = open_descriptors();
        {
            Acceptor acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, factory<Echoing>());
            std::mt19937 random(seed);
            std::deque<Socket> clients;
            std::size_t answered = 0;
            for (int turn = 0; answered < 30; ++turn) {
                REQUIRE(turn < 100'000);
                if (clients.size() < 30 && random() % 4 == 0) {
                    clients.push_back(std::move(connect(acceptor.addresses().at(0), 1).front()));
                    write_some(clients.back(), "x");
                }
                if (random() % 8 == 0) random() % 2 == 0 ? acceptor.pause() : acceptor.resume();
                reactor.run_once(Duration::zero());
                for (const Socket& client : clients) answered += read_all(client).size();
            }
            CHECK(acceptor.counters().accepted == 30);
            CHECK(acceptor.connections() == 30);
            acceptor.close();
            CHECK(queue.under_way() <= 61);  // two of each connection, and the watch on what is watched by readiness
            clients.clear();
            run_until(reactor, [&] { return acceptor.connections() == 0; });
        }
        CHECK(open_descriptors() == open_before);
        for (const auto what : {&Odds::ends, &Odds::too_late, &Odds::refused}) met.*what += queue.happened().*what;
    }
    for (const auto what : {&Odds::ends, &Odds::too_late, &Odds::refused}) CHECK(met.*what > 0);
}

TEST_CASE("Connections that the kernel has accepted for an acceptor that pauses are served when it goes on") {
    on_each([](Reactor& reactor) {
        Holding holding(reactor);
        CHECK(holding.held() > 0);
        CHECK(holding.acceptor.counters().accepted == 1);
        for (std::size_t i = 2; i <= 10; ++i) {
            holding.acceptor.resume();
            run_until(reactor, [&] { return holding.acceptor.connections() == i; });
        }
        for (const Socket& client : holding.clients) write_some(client, "x");
        std::size_t answered = 0;
        run_until(reactor, [&] {
            for (const Socket& client : holding.clients) answered += read_all(client).size();
            return answered == 10;
        });
    });
}

TEST_CASE("Connections that an acceptor has not taken when it closes are closed, as those in the kernel's queue are") {
    on_each([](Reactor& reactor) {
        Holding holding(reactor);
        CHECK(holding.held() > 0);
        holding.acceptor.close();
        CHECK(open_descriptors() == holding.open_before - 1 + 11);  // without the listening socket
        std::size_t over = 0;
        run_until(reactor, [&] {
            over = std::size_t(std::count_if(holding.clients.begin(), holding.clients.end(), is_over));
            return over >= 9;
        });
        CHECK(over == 9);
        CHECK(holding.acceptor.connections() == 1);
    });
}

TEST_CASE("Once an acceptor was asked for its listening sockets, connections stay in the kernel for who shares them") {
    on_each([](Reactor& reactor) {
        Acceptor acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, factory<Echoing>());
        settle(reactor, 5);
        const Address address = acceptor.addresses().at(0);
        Socket other = Socket::adopt(FileDescriptor(::dup(acceptor.listening_sockets().at(0))));
        const std::deque<Socket> clients = connect(address, 200);
        run_until(reactor, [&] { return acceptor.connections() > 0; });
        acceptor.close();
        std::size_t accepted = 0;
        Socket connection;
        Address peer;
        while (!other.accept(connection, peer)) ++accepted;
        CHECK(acceptor.connections() < 200);
        CHECK(acceptor.connections() + accepted == 200);
    });
}

TEST_CASE("A child of fork(2) lets go of the connections that the kernel has accepted for its parent") {
    const auto backends = available_backends();
    if (std::find(backends.begin(), backends.end(), "io_uring") == backends.end()) return;
    Reactor reactor{"io_uring"};
    Holding holding(reactor);
    const std::size_t held = holding.held();
    CHECK(held > 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const std::size_t open_before = open_descriptors();
        reactor.after_fork();
        ::_exit(open_descriptors() == open_before - held ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    holding.acceptor.resume();
    run_until(reactor, [&] { return holding.acceptor.connections() == 2; });
}
