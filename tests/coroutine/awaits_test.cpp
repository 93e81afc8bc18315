// Every await, on every backend: the owner is destroyed at each place where a coroutine can wait, and nothing remains.
#include "../support/loop.hpp"
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <unistd.h>
#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/channel.hpp>
#include <reactor/coroutine/connect.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/manual_reset_event.hpp>
#include <reactor/coroutine/offload.hpp>
#include <reactor/coroutine/readiness.hpp>
#include <reactor/coroutine/resolve.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/semaphore.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/stream/acceptor.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

// All that the awaits need.
struct World {
    Reactor reactor;
    WorkerPool pool{reactor, 1};
    Socket listener = Socket::open(Address::Family::ipv4);
    std::pair<Socket, Socket> pair = tcp_pair();
    ManualResetEvent event;
    Semaphore semaphore{0};
    Channel<int> empty{1}, full{1};
    int resumed = 0;
    World() {
        listener.bind(*Address::ip("127.0.0.1", 0));
        listener.listen(10);
        full.try_send(1);
    }
};

Task<> child(World& world) {
    co_await world.event.wait();
    ++world.resumed;
}

Task<> waits_in(World& world, std::size_t number) {
    switch (number) {
        case 0: co_await sleep(1h); break;
        case 1: co_await yield(); break;
        case 2: co_await child(world); break;
        case 3: (void)co_await world.semaphore.acquire(); break;
        case 4: (void)co_await world.empty.receive(); break;
        case 5: co_await world.full.send(2); break;
        case 6: co_await stopping(); break;
        case 7: co_await readable(world.pair.first.get()); break;
        case 8: (void)co_await resolve("127.0.0.1", 80); break;
        case 9: (void)co_await first_of(sleep(1h), child(world), world.event.wait()); break;
        case 10: (void)co_await all_of(sleep(1h), child(world)); break;
        case 11: (void)co_await timeout(1h, child(world)); break;
        case 12: {
            Scope scope(world.reactor);
            scope.start(child(world));
            scope.start(waits_in(world, 0));
            co_await scope.join();
            break;
        }
        case 13: {
            const std::vector<Address> addresses(1, world.listener.local());
            auto stream = co_await connect(world.reactor, addresses);
            if (stream) (void)co_await stream->read<Lines>();
            break;
        }
        case 14: {
            const std::vector<Address> addresses(1, world.listener.local());
            auto stream = co_await connect(world.reactor, addresses);
            const std::string much(1'000'000, 'x');
            while (stream && co_await stream->write(much)) {
            }
            break;
        }
        case 15: {
            const auto work = [] { return 1; };
            (void)co_await offload(world.pool, work);
            break;
        }
        case 16: {
            const std::vector<Address> addresses(1, world.listener.local());
            auto stream = co_await connect(world.reactor, addresses);
            if (stream) (void)co_await first_of(stream->read_exactly(1000), sleep(1h), child(world));
            break;
        }
    }
    ++world.resumed;
}
constexpr std::size_t first_of_connections = 13, kinds = 17;

}  // namespace

TEST_CASE("destroying the owner at each place where a coroutine waits leaves no frame and no descriptor") {
    { World warm_up; }
    const std::size_t descriptors = open_descriptors();
    const std::size_t frames = coroutine_frames().alive();
    for (std::size_t number = 0; number < kinds; ++number) {
        for (int turns = 0; turns < 5; ++turns) {
            CAPTURE(number);
            CAPTURE(turns);
            World world;
            {
                Scope scope(world.reactor);
                scope.start(waits_in(world, number));
                for (int turn = 0; turn < turns; ++turn) world.reactor.run_once(1ms);
            }
            const int resumed = world.resumed;
            world.event.set();
            settle(world.reactor);
            CHECK(world.resumed == resumed);
            if (number < first_of_connections)
                CHECK(Internals(world.reactor).timers().empty());  // of a close, otherwise
            CHECK(coroutine_frames().alive() == frames);
        }
    }
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a completion and a cancellation in the same iteration, in both orders: the coroutine is not resumed") {
    for (std::size_t number : {2u, 9u, 10u, 11u, 12u}) {
        CAPTURE(number);
        World world;
        auto scope = std::make_unique<Scope>(world.reactor);
        scope->start(waits_in(world, number));
        settle(world.reactor);
        SUBCASE("completed, then cancelled") {
            world.reactor.post([&] { world.event.set(); });
            world.reactor.post([&] { scope.reset(); });
        }
        SUBCASE("cancelled, then completed") {
            world.reactor.post([&] { scope.reset(); });
            world.reactor.post([&] { world.event.set(); });
        }
        settle(world.reactor);
        CHECK(world.resumed == 0);
    }
}

static Task<std::string> read_when_ready(int descriptor) {
    std::string text(100, '\0');
    if (!co_await readable(descriptor)) co_return "lost";
    text.resize(std::size_t(std::max<ssize_t>(0, ::read(descriptor, text.data(), text.size()))));
    co_return text;
}

static Task<> write_later(int descriptor) {
    co_await sleep(1ms);
    CHECK(co_await writable(descriptor));
    CHECK(::write(descriptor, "hello", 5) == 5);
}

static Task<std::string> both_ends(int from, int to) {
    auto [text, none] = co_await all_of(read_when_ready(from), write_later(to));
    (void)none;
    co_return text;
}

TEST_CASE("a coroutine waits until its descriptor is ready") {
    Reactor reactor;
    const auto ends = tcp_pair();
    CHECK(run(reactor, both_ends(ends.first.get(), ends.second.get())) == "hello");
    CHECK_THROWS_AS((void)run(reactor, read_when_ready(-1)), std::system_error);
}

static Task<std::size_t> count_addresses(std::string host) {
    const auto addresses = co_await resolve(host, 80);
    co_return addresses ? addresses->size() : 0;
}

TEST_CASE("a coroutine looks up a name") {
    Reactor reactor;
    CHECK(run(reactor, count_addresses("127.0.0.1")) == 1);
}

static Task<std::thread::id> thread_of_work(WorkerPool& pool) {
    const auto work = [] { return std::this_thread::get_id(); };
    co_return (co_await offload(pool, work)).value();
}

static Task<> throwing_work(WorkerPool& pool) {
    const auto work = [] { throw std::runtime_error("no such file"); };
    co_await offload(pool, work);
}

TEST_CASE("a coroutine's work runs on a thread of a pool, and its result and exceptions come back") {
    Reactor reactor;
    WorkerPool pool(reactor, 1);
    CHECK(run(reactor, thread_of_work(pool)) != std::this_thread::get_id());
    CHECK_THROWS_WITH_AS(run(reactor, throwing_work(pool)), "no such file", std::runtime_error);
}
