// run_until_idle: the loop returns by itself when nothing is left that could happen.
#include <reactor/hook.hpp>
#include <reactor/net/resolver.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/worker_pool.hpp>

#include <sys/socket.h>

#include <doctest/doctest.h>

#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

struct Reader final : EventHandler {
    void readable() override {
        ++calls;
        registration.reset();
    }
    void lost(std::error_code) override {}
    Registration registration;
    int calls = 0;
};

std::pair<FileDescriptor, FileDescriptor> descriptors() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

}  // namespace

TEST_CASE("run_until_idle returns at once if there is nothing to do, and when its timers and its work are over") {
    Reactor reactor;
    reactor.run_until_idle();
    std::string calls;
    Timer again;
    const Timer first = reactor.after(1ms, [&] {
        calls += "timer ";
        reactor.post([&] {
            calls += "posted ";
            again = reactor.after(1ms, [&] { calls += "timer "; });
        });
    });
    int deferred = 0;
    const Deferred late = reactor.defer([&] { ++deferred; });
    reactor.run_until_idle();
    CHECK(calls == "timer posted timer ");
    CHECK(deferred == 1);
}

TEST_CASE("run_until_idle waits for a descriptor that is watched, and for none that is watched for nothing") {
    Reactor reactor;
    const auto [one, other] = descriptors();
    Reader reader, idle;
    idle.registration = reactor.watch(other.get(), Interest::none, idle);
    reader.registration = reactor.watch(one.get(), Interest::readable, reader);
    const Timer write = reactor.after(1ms, [&other = other] { REQUIRE(::send(other.get(), "x", 1, 0) == 1); });
    reactor.run_until_idle();
    CHECK(reader.calls == 1);
    CHECK(idle.registration);
}

TEST_CASE("run_until_idle does not wait for a timer whose deadline never comes, however often it was moved") {
    Reactor reactor;
    std::vector<Timer> timers;
    int calls = 0;
    for (int i = 0; i < 100; ++i) timers.push_back(reactor.after(1h, [&] { ++calls; }));
    const Timer all_later = reactor.after(1ms, [&] {
        for (Timer& timer : timers) timer.start(Duration::max());
    });
    reactor.run_until_idle();
    CHECK(calls == 0);
    for (const Timer& timer : timers) CHECK(timer.active());
}

TEST_CASE("run_until_idle waits for the work that a pool has, and not for a pool without work") {
    Reactor reactor;
    WorkerPool pool(reactor);
    reactor.run_until_idle();
    for (int round = 0; round < 3; ++round) {
        std::promise<void> go;
        int result = 0;
        const Offloaded job = offload(
            pool,
            [&] {
                go.get_future().wait();
                return 42;
            },
            [&](int value) { result = value; });
        const Timer soon = reactor.after(1ms, [&] { go.set_value(); });
        reactor.run_until_idle();
        CHECK(result == 42);
    }
}

TEST_CASE("run_until_idle waits for a look-up, and not for one that is cancelled") {
    Reactor reactor;
    int answers = 0;
    const Resolver resolver(reactor, "localhost.", 80, [&](std::error_code, std::vector<Address>) { ++answers; });
    std::optional<Resolver> cancelled(std::in_place, reactor, "ip6-localhost", 80,
                                      [&](std::error_code, std::vector<Address>) { answers += 100; });
    cancelled.reset();
    reactor.run_until_idle();
    CHECK(answers == 1);
}

TEST_CASE("run_until_idle returns when a hook before the wait ends what was left") {
    Reactor reactor;
    const auto [one, other] = descriptors();
    Reader reader;
    reader.registration = reactor.watch(one.get(), Interest::readable, reader);
    int hooks = 0;
    const Hook hook(reactor, Hook::When::before_wait, [&] {
        ++hooks;
        reader.registration.reset();
    });
    reactor.run_until_idle();
    CHECK(hooks > 0);
    CHECK(reader.calls == 0);
}

TEST_CASE("stop ends run_until_idle, and what it was waiting for stays") {
    Reactor reactor;
    const Timer never_reached = reactor.after(1h, [] {});
    const Timer soon = reactor.after(1ms, [&] { reactor.stop(); });
    reactor.run_until_idle();
    CHECK(never_reached.active());
}
