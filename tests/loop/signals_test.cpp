#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/timer.hpp>

#include <signal.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

using namespace reactor;

namespace {

std::atomic<int> handled_by_previous{0};
void previous_handler(int) {
    ++handled_by_previous;
}

// A disposition of the test's own, for as long as this lives.
class Disposition {
public:
    explicit Disposition(int signal) : signal_(signal) {
        struct sigaction action {};
        action.sa_handler = previous_handler;
        ::sigaction(signal, &action, &before_);
        handled_by_previous = 0;
    }
    ~Disposition() { ::sigaction(signal_, &before_, nullptr); }

private:
    int signal_;
    struct sigaction before_ {};
};

// Turns until nothing more is ready: a signal that was raised is pending in the loop when raise returns.
void turn_until_idle(Reactor& reactor) {
    while (reactor.run_once(Duration::zero()) > 0) {
    }
}

template <class Call>
std::string message_of(Call call) {
    try {
        call();
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_CASE(
    "S97: a signal's handler runs on the alternate stack of a thread that has one, and its own stack may be small") {
    Reactor reactor;
    int told = 0;
    const Signals signals(reactor, {SIGUSR1}, [&](int) { ++told; });
    bool used = false;
    std::thread thread([&] {
        std::vector<unsigned char> stack(std::size_t(64 * 1024), 0xa5);
        stack_t alternate{}, before{};
        alternate.ss_sp = stack.data();
        alternate.ss_size = stack.size();
        if (::sigaltstack(&alternate, &before) != 0) return;
        ::raise(SIGUSR1);
        ::sigaltstack(&before, nullptr);
        used = stack != std::vector<unsigned char>(stack.size(), 0xa5);
    });
    thread.join();
    turn_until_idle(reactor);
    CHECK(told == 1);
    CHECK(used);
}

TEST_CASE("A signal is told in the loop, not in the handler") {
    Reactor reactor;
    std::vector<int> told;
    const Signals signals(reactor, {SIGUSR1, SIGUSR2}, [&](int signal) { told.push_back(signal); });
    ::raise(SIGUSR2);
    CHECK(told.empty());
    turn_until_idle(reactor);
    CHECK(told == std::vector<int>{SIGUSR2});
    ::raise(SIGUSR1);
    turn_until_idle(reactor);
    CHECK(told == std::vector<int>{SIGUSR2, SIGUSR1});
}

TEST_CASE("Signals that came together are all told, each of them once") {
    Reactor reactor;
    int first = 0, second = 0;
    const Signals signals(reactor, {SIGUSR1, SIGUSR2}, [&](int signal) { ++(signal == SIGUSR1 ? first : second); });
    for (int i = 0; i < 10; ++i) {
        ::raise(SIGUSR1);
        ::raise(SIGUSR2);
    }
    turn_until_idle(reactor);
    CHECK(first == 1);
    CHECK(second == 1);
}

TEST_CASE("A signal ends a wait without a limit") {
    Reactor reactor;
    const Signals signals(reactor, {SIGUSR1}, [&](int) { reactor.stop(); });
    const pid_t process = ::getpid();
    std::thread sender([process] { ::kill(process, SIGUSR1); });
    reactor.run();
    sender.join();
}

TEST_CASE("S70: a hundred thousand SIGUSR1 and one SIGTERM: the SIGTERM is seen") {
    Reactor reactor;
    int users = 0, terms = 0;
    const Signals signals(reactor, {SIGUSR1, SIGTERM}, [&](int signal) {
        if (signal == SIGUSR1) ++users;
        if (signal == SIGTERM) {
            ++terms;
            reactor.stop();
        }
    });
    const pid_t process = ::getpid();
    std::thread sender([process] {
        for (int i = 0; i < 100'000; ++i) {
            ::kill(process, SIGUSR1);
            if (i == 50'000) ::kill(process, SIGTERM);
        }
    });
    reactor.run();
    sender.join();
    turn_until_idle(reactor);
    CHECK(terms == 1);
    CHECK(users >= 1);
    CHECK(users <= 100'000);
}

TEST_CASE("S70: a flood of one signal does not hold back another") {
    Reactor reactor;
    int terms = 0, floods = 0;
    const Signals signals(reactor, {SIGUSR1, SIGTERM}, [&](int signal) {
        if (signal == SIGTERM) ++terms;
        if (signal == SIGUSR1) {
            ++floods;
            ::raise(SIGUSR1);  // there is always one waiting
        }
    });
    ::raise(SIGTERM);
    ::raise(SIGUSR1);
    for (int turn = 0; turn < 4; ++turn) reactor.run_once(Duration::zero());
    CHECK(terms == 1);
    CHECK(floods >= 2);
}

TEST_CASE("A signal has one watcher in the process, and the error names the signal") {
    Reactor reactor;
    const auto ignore = [](int) {};
    const Signals first(reactor, {SIGUSR1}, ignore);
    const auto second = [&] { const Signals signals(reactor, {SIGUSR2, SIGUSR1}, ignore); };
    try {
        second();
        FAIL("a second watcher was allowed");
    } catch (const std::system_error& error) {
        CHECK((error.code() == std::errc::device_or_resource_busy));
        CHECK(std::string(error.what()).find("signal " + std::to_string(SIGUSR1)) != std::string::npos);
    }
    // The one that could be had was given back.
    CHECK_NOTHROW(const Signals signals(reactor, {SIGUSR2}, ignore));
    CHECK_THROWS_AS(const Signals signals(reactor, (std::initializer_list<int>{SIGUSR2, SIGUSR2}), ignore),
                    std::system_error);
}

TEST_CASE("What cannot be watched is refused by name") {
    Reactor reactor;
    for (const int signal : {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, 0, -1, 32, 65, 10'000}) {
        CAPTURE(signal);
        const auto watch = [&] { const Signals signals(reactor, {SIGUSR1, signal}, [](int) {}); };
        CHECK_THROWS_AS(watch(), std::invalid_argument);
        CHECK(message_of(watch).find("signal " + std::to_string(signal)) != std::string::npos);
    }
    CHECK_NOTHROW(const Signals signals(reactor, {SIGUSR1}, [](int) {}));
}

TEST_CASE("Destroying a watcher restores what the signal did before") {
    const Disposition disposition(SIGUSR1);
    Reactor reactor;
    {
        const Signals signals(reactor, {SIGUSR1}, [](int) {});
        ::raise(SIGUSR1);
        CHECK(handled_by_previous == 0);
    }
    ::raise(SIGUSR1);
    CHECK(handled_by_previous == 1);
    turn_until_idle(reactor);
}

TEST_CASE("S4: a watcher that its own callback destroys is called no more, and another may follow it") {
    const Disposition first_disposition(SIGUSR1), second_disposition(SIGUSR2);
    Reactor reactor;
    int calls = 0;
    std::unique_ptr<Signals> signals;
    signals = std::make_unique<Signals>(reactor, std::initializer_list<int>{SIGUSR1, SIGUSR2}, [&](int) {
        ++calls;
        signals.reset();
    });
    ::raise(SIGUSR1);
    ::raise(SIGUSR2);
    turn_until_idle(reactor);
    CHECK(calls == 1);

    std::vector<int> told;
    const Signals next(reactor, {SIGUSR1, SIGUSR2}, [&](int signal) { told.push_back(signal); });
    turn_until_idle(reactor);
    CHECK(told.empty());  // signals in the life of the first one went with it
    ::raise(SIGUSR1);
    turn_until_idle(reactor);
    CHECK(told == std::vector<int>{SIGUSR1});
}

TEST_CASE("S69: after a callback that throws the other signals are still told") {
    Reactor reactor;
    std::vector<int> told;
    const Signals signals(reactor, {SIGUSR1, SIGUSR2}, [&](int signal) {
        told.push_back(signal);
        if (signal == SIGUSR1) throw std::runtime_error("as planned");
    });
    ::raise(SIGUSR1);
    ::raise(SIGUSR2);
    CHECK_THROWS_AS(turn_until_idle(reactor), std::runtime_error);
    reactor.run_once(Duration::zero());  // ends the turn that broke off
    turn_until_idle(reactor);
    CHECK(told == std::vector<int>{SIGUSR1, SIGUSR2});
}

TEST_CASE("A signal handler leaves errno as it was") {
    Reactor reactor;
    const Signals signals(reactor, {SIGUSR1}, [](int) {});
    errno = 4711;
    ::raise(SIGUSR1);
    CHECK(errno == 4711);
}

TEST_CASE("A watcher may be destroyed while its signal is being handled on another thread") {
    const Disposition disposition(SIGUSR1);
    Reactor reactor;
    std::atomic<bool> over{false};
    std::thread raising([&] {
        while (!over) ::raise(SIGUSR1);  // handled on this thread
    });
    for (int i = 0; i < 2'000; ++i) {
        const Signals signals(reactor, {SIGUSR1}, [](int) {});
        reactor.run_once(Duration::zero());
    }
    over = true;
    raising.join();
}

TEST_CASE("S72: signals interrupt every wait, and a timer still comes, not early") {
    Reactor reactor;
    const Signals signals(reactor, {SIGUSR1}, [](int) {});
    std::atomic<bool> over{false};
    const pid_t process = ::getpid();
    std::thread sender([&] {
        while (!over) ::kill(process, SIGUSR1);
    });
    const TimePoint deadline = reactor.now() + std::chrono::milliseconds(20);
    TimePoint came{};
    Timer timer(reactor, [&] {
        came = reactor.now();
        reactor.stop();
    });
    timer.start_at(deadline);
    reactor.run();
    over = true;
    sender.join();
    CHECK((came >= deadline));
}

TEST_CASE("S97: a signal that is blocked from the start is told all the same, and is blocked again afterwards") {
    sigset_t one, before, now;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    ::pthread_sigmask(SIG_BLOCK, &one, &before);
    Reactor reactor;
    std::vector<int> told;
    {
        const Signals signals(reactor, {SIGUSR1, SIGUSR2}, [&](int signal) { told.push_back(signal); });
        ::raise(SIGUSR1);
        turn_until_idle(reactor);
    }
    CHECK(told == std::vector<int>{SIGUSR1});
    ::pthread_sigmask(SIG_SETMASK, &before, &now);
    CHECK(sigismember(&now, SIGUSR1) == 1);
    CHECK(sigismember(&now, SIGUSR2) == 0);
}

TEST_CASE("S97: a signal that was waiting, blocked, when Signals began is told") {
    sigset_t one, before;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    ::pthread_sigmask(SIG_BLOCK, &one, &before);
    Reactor reactor;
    ::raise(SIGUSR1);
    std::vector<int> told;
    {
        const Signals signals(reactor, {SIGUSR1}, [&](int signal) { told.push_back(signal); });
        turn_until_idle(reactor);
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    CHECK(told == std::vector<int>{SIGUSR1});
}
