// Several loops, each on its thread: started and stopped as one, and the ways in which they share connections.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/acceptor_sharing.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/timer.hpp>

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <future>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

using namespace reactor;

namespace {

// Runs a task on a loop of a running group and waits for its result.
template <class F>
auto on(Reactor& reactor, F function) {
    using Result = decltype(function());
    auto promise = std::make_shared<std::promise<Result>>();
    auto future = promise->get_future();
    REQUIRE(reactor.post([promise, function = std::move(function)]() mutable {
        if constexpr (std::is_void_v<Result>) {
            function();
            promise->set_value();
        } else {
            promise->set_value(function());
        }
    }));
    REQUIRE_MESSAGE(future.wait_for(std::chrono::seconds(60)) == std::future_status::ready, "a loop does not answer");
    return future.get();
}

// A blocking client.
class Client {
public:
    explicit Client(const Address& address) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        REQUIRE(socket_);
        const timeval limit{60, 0};
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        REQUIRE(::connect(socket_.get(), address.data(), socklen_t(address.size())) == 0);
    }
    void send(std::string_view text) {
        while (!text.empty()) {
            const ssize_t count = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            REQUIRE(count > 0);
            text.remove_prefix(std::size_t(count));
        }
    }
    std::string receive(std::size_t size) {
        std::string result(size, '\0');
        std::size_t got = 0;
        while (got < size) {
            const ssize_t count = ::recv(socket_.get(), result.data() + got, size - got, 0);
            if (count < 0 && errno == EINTR) continue;  // the kernel cleans up behind a ring of this thread's
            if (count <= 0) break;
            got += std::size_t(count);
        }
        result.resize(got);
        return result;
    }
    // Echo answers, so the connection stands and its acceptor has counted it.
    bool talks() {
        send("hello");
        return receive(5) == "hello";
    }
    void shutdown() { ::shutdown(socket_.get(), SHUT_WR); }

private:
    FileDescriptor socket_;
};

std::vector<Address> loopback() {
    return {*Address::ip("127.0.0.1", 0)};
}

// Acceptors on every loop of a group, made and destroyed while it does not run.
struct Served {
    Served(std::size_t threads, AcceptorSharing* sharing, std::size_t most = SIZE_MAX, bool reuse_port = false)
        : group(threads) {
        AcceptorOptions options;
        options.sharing = sharing;
        options.max_connections = most;
        options.reuse_port = reuse_port;
        for (std::size_t i = 0; i < threads; ++i) {
            const bool listens = i == 0 || reuse_port;
            const auto addresses = i == 0 ? loopback() : listens ? acceptors[0]->addresses() : std::vector<Address>();
            acceptors.push_back(std::make_unique<Acceptor>(group[i], addresses, factory<Echo>(), options));
        }
        address = acceptors[0]->addresses().at(0);
        group.start();
    }
    ~Served() {
        group.stop();
        group.join();
    }
    std::size_t connections(std::size_t i) {
        return on(group[i], [this, i] { return acceptors[i]->connections(); });
    }
    std::vector<std::size_t> connections() {
        std::vector<std::size_t> result;
        for (std::size_t i = 0; i < acceptors.size(); ++i) result.push_back(connections(i));
        return result;
    }

    ReactorGroup group;
    std::vector<std::unique_ptr<Acceptor>> acceptors;
    Address address;
};

}  // namespace

TEST_CASE("Each loop of a group runs on a thread of its own, with its number and name") {
    ReactorGroup group(3);
    group.set_name("a name that is far too long");
    REQUIRE(group.size() == 3);
    std::mutex mutex;
    std::set<std::thread::id> threads;
    std::set<std::string> names;
    std::set<std::size_t> numbers;
    group.start([&](Reactor& reactor, std::size_t index) {
        char name[64] = {};
#if REACTOR_HAS(THREAD_NAMES)
        ::pthread_getname_np(::pthread_self(), name, sizeof name);
#endif
        const std::lock_guard lock(mutex);
        CHECK(&reactor == &group[index]);
        threads.insert(std::this_thread::get_id());
        names.insert(name);
        numbers.insert(index);
    });
    group.join();
    CHECK(threads.size() == 3);
    CHECK(threads.count(std::this_thread::get_id()) == 0);
    CHECK(numbers == std::set<std::size_t>{0, 1, 2});
#if REACTOR_HAS(THREAD_NAMES)
    CHECK(names == std::set<std::string>{"a name that i-0", "a name that i-1", "a name that i-2"});
#endif
}

TEST_CASE("A group stops and is joined as one, and may be started again") {
    ReactorGroup group(2);
    for (int round = 0; round < 3; ++round) {
        std::atomic<int> ran{0};
        group.start([&](Reactor& reactor, std::size_t) {
            reactor.run();
            ++ran;
        });
        CHECK_THROWS_AS(group.start(), std::logic_error);
        std::vector<std::thread::id> where;
        for (std::size_t i = 0; i < 2; ++i) where.push_back(on(group[i], [] { return std::this_thread::get_id(); }));
        CHECK(where[0] != where[1]);
        group.stop();
        group.join();
        CHECK(ran == 2);
    }
    group.join();  // nothing runs: nothing happens
}

TEST_CASE("What one loop throws stops the group and comes out of join, once") {
    ReactorGroup group(3);
    group.start();
    group[1].post([] { throw std::runtime_error("the second loop"); });
    CHECK_THROWS_WITH_AS(group.join(), "the second loop", std::runtime_error);
    group.join();
    SUBCASE("and is dropped by a group that is destroyed") {
        group.start();
        group[0].post([] { throw std::runtime_error("nobody asks"); });
    }
}

TEST_CASE("If several loops throw, join throws the first exception: it stopped the others") {
    ReactorGroup group(3);
    group.start([](Reactor& reactor, std::size_t index) {
        if (index == 1) throw std::runtime_error("the first");
        reactor.run();
        throw std::runtime_error("a later one");
    });
    CHECK_THROWS_WITH_AS(group.join(), "the first", std::runtime_error);
    group.join();
}

TEST_CASE("A group that is destroyed while it runs is stopped and joined") {
    std::atomic<int> ended{0};
    {
        ReactorGroup group(2);
        group.start([&](Reactor& reactor, std::size_t) {
            reactor.run();
            ++ended;
        });
    }
    CHECK(ended == 2);
}

TEST_CASE("A backend that does not exist is an error before there is any thread") {
    CHECK_THROWS_AS(ReactorGroup(2, "none such"), std::system_error);
}

TEST_CASE("S97: signals come to the program's own threads and not to a group's, but for faults and a profiler's") {
    sigset_t before;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
    ReactorGroup group(1);
    bool told = false;
    Signals signals(group[0], {SIGUSR1}, [&](int) {
        told = true;
        group.stop();
    });
    std::atomic<bool> blocked{false}, fault_blocked{true};
    group.start([&](Reactor& reactor, std::size_t) {
        sigset_t mask;
        ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
        blocked = ::sigismember(&mask, SIGUSR1) && ::sigismember(&mask, SIGTERM) && ::sigismember(&mask, SIGCHLD);
        fault_blocked = false;
        for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF, SIGVTALRM})
            if (::sigismember(&mask, own) == 1) fault_blocked = true;
        reactor.run();
    });
    sigset_t after;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
    CHECK(::sigismember(&after, SIGUSR1) == ::sigismember(&before, SIGUSR1));
    ::kill(::getpid(), SIGUSR1);  // handled on this thread, called back in the loop
    group.join();
    CHECK(blocked);
    CHECK_FALSE(fault_blocked);
    CHECK(told);
}

TEST_CASE("Each loop may listen on the same port by itself") {
    Served served(3, nullptr, SIZE_MAX, true);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 30; ++i) {
        clients.push_back(std::make_unique<Client>(served.address));
        CHECK(clients.back()->talks());
    }
    const auto counts = served.connections();
    CHECK(counts[0] + counts[1] + counts[2] == 30);  // how even they are is the kernel's choice
}

TEST_CASE("One acceptor hands what it accepts to the loops in turn") {
    AcceptorSharing sharing(AcceptorSharing::Choice::round_robin);
    Served served(3, &sharing);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 9; ++i) {
        clients.push_back(std::make_unique<Client>(served.address));
        CHECK(clients.back()->talks());
    }
    CHECK(served.connections() == std::vector<std::size_t>{3, 3, 3});
    CHECK(sharing.connections() == 9);
}

TEST_CASE("One acceptor hands what it accepts to the loop with the fewest connections") {
    AcceptorSharing sharing(AcceptorSharing::Choice::least_connections);
    Served served(2, &sharing);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(std::make_unique<Client>(served.address));
        CHECK(clients.back()->talks());
    }
    CHECK(served.connections() == std::vector<std::size_t>{4, 4});
    // All connections on the first loop end; it gets all new ones until the two are even again.
    for (std::size_t i = 0; i < 8; i += 2) clients[i].reset();
    std::size_t emptied = 2;
    for (int tries = 0; tries < 100'000 && emptied == 2; ++tries)
        for (std::size_t i = 0; i < 2; ++i)
            if (served.connections(i) == 0) emptied = i;
    REQUIRE(emptied < 2);
    for (std::size_t i = 1; i <= 4; ++i) {
        clients.push_back(std::make_unique<Client>(served.address));
        CHECK(clients.back()->talks());
        CHECK(served.connections(emptied) == i);
    }
}

TEST_CASE("Whoever shares accepts only as many as there is room for, and goes on when one ends on another loop") {
    AcceptorSharing sharing(AcceptorSharing::Choice::round_robin);
    Served served(2, &sharing, 2);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 4; ++i) {
        clients.push_back(std::make_unique<Client>(served.address));
        CHECK(clients.back()->talks());
    }
    CHECK(served.connections() == std::vector<std::size_t>{2, 2});
    for (int i = 0; i < 20; ++i) {
        Client waiting(served.address);  // in the kernel
        waiting.send("hello");
        CHECK(sharing.connections() <= 4);
        clients.erase(clients.begin() + (i % 2));  // on one loop, then on the other
        CHECK(waiting.receive(5) == "hello");
        clients.push_back(std::make_unique<Client>(std::move(waiting)));
    }
    CHECK(served.connections() == std::vector<std::size_t>{2, 2});
}

TEST_CASE("What an acceptor has left goes to those that remain, also if it was on the way") {
    AcceptorSharing sharing(AcceptorSharing::Choice::round_robin);
    Served served(3, &sharing);
    // The second loop is held up while sockets are handed to it, and then leaves before it looks at them.
    std::promise<void> held, go_on;
    served.group[1].post([&] {
        held.set_value();
        go_on.get_future().wait();
        served.acceptors[1]->close();
    });
    held.get_future().wait();
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 9; ++i) {
        clients.push_back(std::make_unique<Client>(served.address));
        clients.back()->send("hello");
    }
    for (int tries = 0; tries < 100'000 && sharing.connections() < 9; ++tries) on(served.group[0], [] {});
    CHECK(sharing.connections() == 9);
    go_on.set_value();
    for (const auto& client : clients) CHECK(client->receive(5) == "hello");
    const auto counts = served.connections();
    CHECK(counts[1] == 0);
    CHECK(counts[0] + counts[2] == 9);
}

TEST_CASE("A factory that refuses or throws on another loop gives its place back") {
    AcceptorSharing sharing(AcceptorSharing::Choice::round_robin);
    ReactorGroup group(2);
    AcceptorOptions options;
    options.sharing = &sharing;
    options.max_connections = 1;
    std::atomic<int> asked{0};
    const auto factory = [&]() -> std::unique_ptr<Protocol> {
        switch (asked++ % 3) {
            case 0: return nullptr;
            case 1: throw std::runtime_error("no protocol today");
        }
        return std::make_unique<Echo>();
    };
    std::atomic<int> thrown{0};
    std::vector<std::unique_ptr<Acceptor>> acceptors;
    for (std::size_t i = 0; i < 2; ++i) {
        group[i].on_exception([&](std::exception_ptr) { ++thrown; });
        acceptors.push_back(
            std::make_unique<Acceptor>(group[i], i == 0 ? loopback() : std::vector<Address>(), factory, options));
    }
    const Address address = acceptors[0]->addresses().at(0);
    group.start();
    for (int i = 0; i < 10; ++i) {
        Client refused(address);
        CHECK(refused.receive(1).empty());
        Client failed(address);
        CHECK(failed.receive(1).empty());
        Client served(address);
        CHECK(served.talks());
    }
    group.stop();
    group.join();
    CHECK(thrown == 10);
}

TEST_CASE("Loops that share drain as one: what is owed is sent, and nobody is left") {
    AcceptorSharing sharing(AcceptorSharing::Choice::round_robin);
    Served served(2, &sharing);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 6; ++i) {
        clients.push_back(std::make_unique<Client>(served.address));
        CHECK(clients.back()->talks());
        clients.back()->send("one more");
        clients.back()->shutdown();
    }
    for (const auto& client : clients) CHECK(client->receive(100) == "one more");
    std::promise<void> drained[2];
    for (std::size_t i = 0; i < 2; ++i)
        served.group[i].post([&, i] { served.acceptors[i]->drain([&, i] { drained[i].set_value(); }); });
    for (auto& one : drained) REQUIRE(one.get_future().wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    CHECK(sharing.connections() == 0);
}

TEST_CASE("S92: a group destroyed by one of its loops joins the others, and goes when the body of that loop returns") {
    auto gone = std::make_shared<std::promise<void>>();
    auto future = gone->get_future();
    std::atomic<int> ended{0}, destroyed_by_it{0};
    auto group = std::make_unique<ReactorGroup>(3);
    // Goes with the body, so after all that the threads do.
    std::shared_ptr<void> capture(nullptr, [gone](void*) { gone->set_value(); });
    group->start([&ended, capture = std::move(capture)](Reactor& reactor, std::size_t) {
        reactor.run();
        ++ended;
    });
    gone.reset();
    (*group)[0].post([&group, &ended, &destroyed_by_it] {
        group.reset();
        destroyed_by_it = ended == 2 ? 1 : -1;  // the two others have been joined
    });
    REQUIRE(future.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    CHECK(destroyed_by_it == 1);
    CHECK(ended == 3);
}

TEST_CASE("Joining a group from one of its own loops is an error, and the group goes on") {
    ReactorGroup group(2);
    group.start();
    const bool refused = on(group[0], [&] {
        try {
            group.join();
        } catch (const std::logic_error&) {
            return true;
        }
        return false;
    });
    CHECK(refused);
    CHECK(on(group[1], [] { return 1; }) == 1);
    group.stop();
    group.join();
}

TEST_CASE("A group that is started again runs all its loops, also one whose body returned or threw before the stop") {
    ReactorGroup group(2);
    SUBCASE("thrown") {
        group[0].post([] { throw std::runtime_error("as planned"); });
        group.start();
        CHECK_THROWS_AS(group.join(), std::runtime_error);
    }
    SUBCASE("returned") {
        std::promise<void> returned;
        group.start([&](Reactor& reactor, std::size_t index) {
            if (index == 0) return returned.set_value();
            reactor.run();
        });
        returned.get_future().wait();
        group.stop();
        group.join();
    }
    group.start();
    for (std::size_t i = 0; i < 2; ++i) CHECK(on(group[i], [i] { return i; }) == i);
    group.stop();
    group.join();
}

TEST_CASE("A group that was stopped before it is started returns at once, as its loops do") {
    ReactorGroup group(2);
    group.stop();
    group.start();
    group.join();
    group.start();
    CHECK(on(group[0], [] { return 1; }) == 1);
    group.stop();
    group.join();
}
