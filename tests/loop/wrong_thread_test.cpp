// Calls from another thread than the one that runs the loop are noticed, where NDEBUG is not defined.
#include <doctest/doctest.h>

#ifndef NDEBUG

#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <future>
#include <optional>
#include <stdexcept>
#include <thread>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

struct Silent final : EventHandler {
    void lost(std::error_code) override {}
};

// A loop that runs on a thread of its own, and is known to run.
class Elsewhere {
public:
    explicit Elsewhere(Reactor& reactor) : reactor_(reactor), thread_([&reactor] { reactor.run(); }) {
        std::promise<void> runs;
        reactor.post([&] { runs.set_value(); });
        runs.get_future().wait();
    }
    ~Elsewhere() {
        reactor_.stop();
        thread_.join();
    }

private:
    Reactor& reactor_;
    std::thread thread_;
};

// Does the call end a process whose loop runs on another thread?
bool ends_the_process(const std::function<void(Reactor&, Registration&, Timer&)>& call) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::signal(SIGABRT, SIG_DFL);
        const rlimit no_core{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_core);
        ::close(STDERR_FILENO);
        Reactor reactor;
        const Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        Silent silent;
        Registration registration = reactor.watch(socket.get(), Interest::none, silent);
        Timer timer = reactor.after(1h, [] {});
        const Elsewhere elsewhere(reactor);
        call(reactor, registration, timer);
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

}  // namespace

TEST_CASE("A call from another thread throws while the loop runs, and works when it does not") {
    Reactor reactor;
    const Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    Silent silent;
    Timer timer(reactor, [] {});
    {
        const Elsewhere elsewhere(reactor);
        CHECK_THROWS_AS((void)reactor.watch(socket.get(), Interest::readable, silent), std::logic_error);
        CHECK_THROWS_AS((void)reactor.defer([] {}), std::logic_error);
        CHECK_THROWS_AS((void)reactor.after(1h, [] {}), std::logic_error);
        CHECK_THROWS_AS(timer.start(1h), std::logic_error);
        CHECK(reactor.post([] {}));
    }
    const Registration registration = reactor.watch(socket.get(), Interest::readable, silent);
    timer.start(1h);
    CHECK(timer.active());
}

TEST_CASE("A call from another thread that may not throw fails an assertion") {
    CHECK(ends_the_process([](Reactor&, Registration& watched, Timer&) { watched.set_interest(Interest::readable); }));
    CHECK(ends_the_process([](Reactor&, Registration& watched, Timer&) { watched.reset(); }));
    CHECK(ends_the_process([](Reactor&, Registration&, Timer& timer) { timer.cancel(); }));
    CHECK_FALSE(ends_the_process([](Reactor& reactor, Registration&, Timer&) { reactor.stop(); }));
}

#endif
