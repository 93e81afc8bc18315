// Every await, on every backend: the owner is destroyed at each place where a coroutine can wait, and nothing remains.
#include "../support/loop.hpp"
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>
#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/channel.hpp>
#include <reactor/coroutine/child_process.hpp>
#include <reactor/coroutine/connect.hpp>
#include <reactor/coroutine/datagram_socket.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/manual_reset_event.hpp>
#include <reactor/coroutine/offload.hpp>
#include <reactor/coroutine/open_stream.hpp>
#include <reactor/coroutine/readiness.hpp>
#include <reactor/coroutine/resolve.hpp>
#include <reactor/coroutine/run_on.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/semaphore.hpp>
#include <reactor/coroutine/signal_set.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/stream/acceptor.hpp>

#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

Socket datagrams(SocketKind kind, Socket& peer) {
    auto [mine, other] = Socket::pair(kind);
    peer = std::move(other);
    return std::move(mine);
}

// All that the awaits need.
struct World {
    Semaphore none{0};
    Reactor other;
    Reactor reactor;
    WorkerPool pool{reactor, 1};
    Socket listener = Socket::open(Address::Family::ipv4);
    std::pair<Socket, Socket> pair = tcp_pair();
    Socket letters_peer, packets_peer;
    DatagramSocket letters{reactor, datagrams(SocketKind::datagram, letters_peer)};
    DatagramSocket packets{reactor, datagrams(SocketKind::sequenced_packets, packets_peer)};
    FileDescriptor pipe_reading, pipe_writing;
    SignalSet signals{reactor, {SIGUSR1}};
    ManualResetEvent event;
    Semaphore semaphore{1};
    std::optional<Semaphore::Permit> permit;
    Channel<int> empty{1}, full{1};
    int resumed = 0;
    World() {
        listener.bind(*Address::ip("127.0.0.1", 0));
        listener.listen(10);
        full.try_send(1);
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        pipe_reading = FileDescriptor(ends[0]);
        pipe_writing = FileDescriptor(ends[1]);
        auto acquired = semaphore.acquire();
        REQUIRE(acquired.ready());
        permit.emplace(acquired.result());
    }
};

Task<> child(World& world) {
    co_await world.event.wait();
    ++world.resumed;
}

Task<> waits_elsewhere(Semaphore& there) {
    (void)co_await there.acquire();
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
        case 17: co_await sleep_until(world.reactor.now() + 1h); break;
        case 18: (void)co_await world.signals.wait(); break;
        case 19: (void)co_await world.letters.receive(); break;
        case 20: (void)co_await world.packets.receive(); break;
        case 21: {
            const std::string letter(1000, 'x');
            while (co_await world.packets.send(letter)) {
            }
            break;
        }
        case 22: {
            Stream stream = open_stream(world.reactor, std::move(world.pipe_reading), FileDescriptor());
            (void)co_await stream.read_until_end();
            break;
        }
        case 23: {
            Stream stream = open_stream(world.reactor, FileDescriptor(), std::move(world.pipe_writing));
            const std::string much(1'000'000, 'x');
            while (co_await stream.write(much)) {
            }
            break;
        }
        case 24: {
            Stream stream = open_stream(world.reactor, std::move(world.pair.first));
            (void)co_await stream.read<Lines>();
            break;
        }
        case 25: {
            Stream stream = open_stream(world.reactor, std::move(world.pair.first));
            for (bool written = true; written;) {
                FileDescriptor file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
                written = co_await stream.write_file(std::move(file));
            }
            break;
        }
        case 26: {
            const Command command{"cat"};
            ProcessOptions options;
            options.input = options.output = ProcessOptions::Stream::pipe;
            ChildProcess cat(world.reactor, command, std::move(options));
            (void)co_await all_of(cat.wait(), child(world));
            break;
        }
        case 27: {
            const Command command{"cat"};
            ProcessOptions options;
            options.input = options.output = ProcessOptions::Stream::pipe;
            ChildProcess cat(world.reactor, command, std::move(options));
            (void)co_await cat.stream().read_some();
            break;
        }
        case 28: {
            (void)co_await run_on(world.other, waits_elsewhere, std::ref(world.none));
            break;
        }
    }
    ++world.resumed;
}
constexpr std::size_t kinds = 29;
constexpr bool plans_to_close(std::size_t number) {
    return (number >= 13 && number <= 16) || (number >= 22 && number <= 27);
}

// The event for which one of them waits.
void complete(World& world, std::size_t number) {
    switch (number) {
        case 3: return world.permit.reset();
        case 4: return (void)world.empty.try_send(1);
        case 5: return world.full.close();
        case 7:
        case 24: CHECK(write_some(world.pair.second, "line\n") == 5); return;
        case 18: CHECK(::raise(SIGUSR1) == 0); return;
        case 19: CHECK(write_some(world.letters_peer, "a") == 1); return;
        case 20: CHECK(write_some(world.packets_peer, "a") == 1); return;
        case 22: return (void)(world.pipe_writing = FileDescriptor());
        case 23: return (void)(world.pipe_reading = FileDescriptor());
        default: return world.event.set();
    }
}

}  // namespace

namespace {

// Where the owner is destroyed: between two iterations, or in one, before its handlers are called or behind them.
enum class Where { between, before_dispatch, behind_dispatch };

void destroy(World& world, std::unique_ptr<Scope>& scope, Where where) {
    if (where == Where::between) return scope.reset();
    std::optional<Hook> before;
    int resumed_before = 0;
    if (where == Where::before_dispatch)
        before.emplace(world.reactor, Hook::When::after_wait, [&] {
            scope.reset();
            resumed_before = world.resumed;
        });
    if (where == Where::behind_dispatch) world.reactor.post([&] { scope.reset(); });
    world.reactor.run_once(1ms);
    if (before) CHECK(world.resumed == resumed_before);
}

}  // namespace

TEST_CASE("destroying the owner at each place where a coroutine waits leaves no frame and no descriptor") {
    { World warm_up; }
    const std::size_t descriptors = open_descriptors();
    const std::size_t frames = coroutine_frames().alive();
    for (const Where where : {Where::between, Where::before_dispatch, Where::behind_dispatch}) {
        for (std::size_t number = 0; number < kinds; ++number) {
            for (int turns = where == Where::between ? 0 : 1; turns < 5; turns += where == Where::between ? 1 : 2) {
                CAPTURE(number);
                CAPTURE(turns);
                CAPTURE(int(where));
                World world;
                auto scope = std::make_unique<Scope>(world.reactor);
                scope->start(waits_in(world, number));
                for (int turn = 0; turn < turns; ++turn) {
                    world.reactor.run_once(1ms);
                    world.other.run_once(Duration::zero());
                }
                if (where != Where::between) complete(world, number);  // in the same iteration, if it can be
                destroy(world, scope, where);
                const int resumed = world.resumed;
                world.event.set();
                settle(world.other);
                settle(world.reactor);
                CHECK(world.resumed == resumed);
                if (!plans_to_close(number)) CHECK(Internals(world.reactor).timers().empty());
                CHECK(coroutine_frames().alive() == frames);
            }
        }
    }
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a completion and a cancellation in the same iteration, in both orders: the coroutine is not resumed") {
    for (const bool completed_first : {true, false}) {
        for (std::size_t number : {2u, 3u, 4u, 5u, 9u, 10u, 11u, 12u}) {
            CAPTURE(number);
            CAPTURE(completed_first);
            World world;
            auto scope = std::make_unique<Scope>(world.reactor);
            scope->start(waits_in(world, number));
            settle(world.reactor);
            if (completed_first) world.reactor.post([&] { complete(world, number); });
            world.reactor.post([&] { scope.reset(); });
            if (!completed_first) world.reactor.post([&] { complete(world, number); });
            settle(world.reactor);
            CHECK(world.resumed == 0);
        }
    }
}

TEST_CASE("a coroutine is not resumed by what the kernel reports if it is destroyed first in that iteration") {
    const std::size_t frames = coroutine_frames().alive();
    for (const bool completed_first : {true, false}) {
        for (std::size_t number : {7u, 18u, 19u, 20u, 22u, 23u, 24u}) {
            CAPTURE(number);
            CAPTURE(completed_first);
            World world;
            auto scope = std::make_unique<Scope>(world.reactor);
            scope->start(waits_in(world, number));
            settle(world.reactor);
            complete(world, number);
            if (completed_first) {
                world.reactor.post([&] { scope.reset(); });
                world.reactor.run_once(1s);
                // A signal, and the end of a connection that is written to, resume behind posted work.
                CHECK(world.resumed == (number == 18 || number == 23 ? 0 : 1));
            } else {
                const Hook cancels(world.reactor, Hook::When::after_wait, [&] { scope.reset(); });
                world.reactor.run_once(1s);
                CHECK(world.resumed == 0);
            }
            const int resumed = world.resumed;
            settle(world.reactor);
            CHECK(world.resumed == resumed);
            CHECK(coroutine_frames().alive() == frames);
        }
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
