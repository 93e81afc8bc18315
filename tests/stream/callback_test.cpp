// The callables that the library keeps for its user: one that destroys the object that keeps it, and empty ones.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"

#include <protocols/echo.hpp>
#include <reactor/datagram/packet_acceptor.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/hook.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/stream/process.hpp>
#include <reactor/timer.hpp>

#include <unistd.h>

#include <csignal>
#include <optional>
#include <stdexcept>

using namespace reactor;

namespace {

const Address anywhere = *Address::ip("127.0.0.1", 0);

// Something that a callable captures. It knows whether it has been destroyed.
class Capture {
public:
    Capture() : watch_(value_) {}
    std::shared_ptr<int> take() { return std::move(value_); }
    bool lives() const { return !watch_.expired(); }

private:
    std::shared_ptr<int> value_ = std::make_shared<int>(1);
    std::weak_ptr<int> watch_;
};

// Destroys the object that keeps the callable, and looks at what that callable has captured. All that is needed
// afterwards is in the arguments: the captures may be gone.
template <class Owner>
void destroy_and_look(std::optional<Owner>& owner, const Capture& capture, std::optional<bool>& captures_lived) {
    owner.reset();
    captures_lived = capture.lives();
}

}  // namespace

TEST_CASE("S92: a factory that destroys its acceptor keeps its captures until it returns") {
    for (const bool refuses : {true, false}) {
        CAPTURE(refuses);
        Reactor reactor;
        Capture capture;
        std::optional<bool> lived;
        std::optional<Acceptor> acceptor;
        acceptor.emplace(reactor, std::vector<Address>{anywhere},
                         [&, held = capture.take()]() -> std::unique_ptr<Protocol> {
                             const bool none = refuses;
                             destroy_and_look(acceptor, capture, lived);
                             if (none) return nullptr;
                             return std::make_unique<Echo>();
                         });
        Socket client = Socket::open(Address::Family::ipv4);
        (void)client.connect(acceptor->addresses()[0]);
        run_until(reactor, [&] { return lived.has_value(); });
        CHECK(*lived);
        CHECK_FALSE(capture.lives());
        bool ended = false;
        run_until(reactor, [&] { return read_all(client, &ended), ended; });
    }
}

TEST_CASE("S92: a factory that destroys its acceptor of packets keeps its captures until it returns") {
    for (const bool refuses : {true, false}) {
        CAPTURE(refuses);
        Reactor reactor;
        Capture capture;
        std::optional<bool> lived;
        std::optional<PacketAcceptor> acceptor;
        const Address address = new_unix_name();
        acceptor.emplace(reactor, address, [&, held = capture.take()]() -> std::unique_ptr<DatagramProtocol> {
            const bool none = refuses;
            destroy_and_look(acceptor, capture, lived);
            if (none) return nullptr;
            return std::make_unique<DatagramEcho>();
        });
        Socket client = Socket::open(Address::Family::unix_domain, SocketKind::sequenced_packets);
        REQUIRE_FALSE(client.connect(address));
        run_until(reactor, [&] { return lived.has_value(); });
        CHECK(*lived);
        CHECK_FALSE(capture.lives());
    }
}

TEST_CASE("S92: a factory that destroys its acceptor and throws keeps its captures until it has thrown") {
    Reactor reactor;
    int thrown = 0;
    reactor.on_exception([&](std::exception_ptr) { ++thrown; });
    Capture capture;
    std::optional<bool> lived;
    std::optional<Acceptor> acceptor;
    acceptor.emplace(reactor, std::vector<Address>{anywhere},
                     [&, held = capture.take()]() -> std::unique_ptr<Protocol> {
                         destroy_and_look(acceptor, capture, lived);
                         throw std::runtime_error("as planned");
                     });
    Socket client = Socket::open(Address::Family::ipv4);
    (void)client.connect(acceptor->addresses()[0]);
    run_until(reactor, [&] { return thrown == 1; });
    CHECK(lived == true);
    CHECK_FALSE(capture.lives());
}

TEST_CASE("S92: the callback of a drain that destroys its acceptor keeps its captures until it returns") {
    Reactor reactor;
    Capture capture;
    std::optional<bool> lived;
    std::optional<Acceptor> acceptor(std::in_place, reactor, std::vector<Address>{anywhere}, factory<Echo>());
    acceptor->drain(Duration::max(),
                    [&, held = capture.take()](const Drained&) { destroy_and_look(acceptor, capture, lived); });
    run_until(reactor, [&] { return lived.has_value(); });
    CHECK(*lived);
    CHECK_FALSE(capture.lives());
}

TEST_CASE("S92: a timer, hook, signal watcher or process may be destroyed by its callback, which goes on") {
    Reactor reactor;
    Capture capture;
    std::optional<bool> lived;
    SUBCASE("a timer") {
        std::optional<Timer> timer;
        timer.emplace(reactor, [&, held = capture.take()] { destroy_and_look(timer, capture, lived); });
        timer->start(Duration::zero());
        run_until(reactor, [&] { return lived.has_value(); });
    }
    SUBCASE("a hook") {
        std::optional<Hook> hook;
        hook.emplace(reactor, Hook::When::after_wait,
                     [&, held = capture.take()] { destroy_and_look(hook, capture, lived); });
        run_until(reactor, [&] { return lived.has_value(); });
    }
    SUBCASE("a watcher of signals") {
        std::optional<Signals> signals;
        signals.emplace(reactor, std::initializer_list<int>{SIGUSR1},
                        [&, held = capture.take()](int) { destroy_and_look(signals, capture, lived); });
        ::raise(SIGUSR1);
        run_until(reactor, [&] { return lived.has_value(); });
    }
    SUBCASE("a process") {
        std::optional<Process> process;
        process.emplace(reactor, std::vector<std::string>{"true"}, ProcessOptions(),
                        [&, held = capture.take()](ExitStatus) { destroy_and_look(process, capture, lived); });
        run_until(reactor, [&] { return lived.has_value(); });
    }
    CHECK(*lived);
    CHECK_FALSE(capture.lives());
}

TEST_CASE("S92: a hook of a loop that takes itself away keeps its captures until it returns") {
    Reactor reactor;
    Capture capture;
    std::optional<bool> lived;
    const auto take_away_and_look = [&](auto take_away) {
        return [&, take_away, held = capture.take()](auto&&...) {
            const Capture& looked_at = capture;
            std::optional<bool>& result = lived;
            take_away();
            result = looked_at.lives();
        };
    };
    SUBCASE("for exceptions") {
        reactor.on_exception(take_away_and_look([&reactor] { reactor.on_exception(nullptr); }));
        reactor.post([] { throw std::runtime_error("as planned"); });
    }
    SUBCASE("for slow calls") {
        reactor.on_slow_call(Duration::zero(), take_away_and_look([&reactor] { reactor.on_slow_call({}, nullptr); }));
        reactor.post([] {});
    }
    SUBCASE("for notices") {
        reactor.on_notice(take_away_and_look([&reactor] { reactor.on_notice(nullptr); }));
        Internals(reactor).notice(Notice::idle_timeout, [] { return std::string("something"); });
    }
    run_until(reactor, [&] { return lived.has_value(); });
    CHECK(*lived);
    CHECK_FALSE(capture.lives());
}

TEST_CASE("An empty callable is refused where it is given, with a sentence, and nothing is begun") {
    Reactor reactor;
    using Refused = std::invalid_argument;
    CHECK_THROWS_WITH_AS(reactor.post(nullptr), "Reactor::post: the task is empty", Refused);
    CHECK_THROWS_WITH_AS((void)Timer(reactor, nullptr), "Timer: the callback is empty", Refused);
    CHECK_THROWS_WITH_AS((void)Hook(reactor, Hook::When::before_wait, nullptr), "Hook: the callable is empty", Refused);
    CHECK_THROWS_WITH_AS((void)Signals(reactor, {SIGUSR1}, nullptr), "Signals: the callback is empty", Refused);
    CHECK_THROWS_WITH_AS((void)Process(reactor, {"true"}, {}, nullptr), "Process: there is no callback for the exit",
                         Refused);
    const std::vector<Address> addresses{anywhere};
    CHECK_THROWS_WITH_AS((void)Acceptor(reactor, addresses, nullptr), "Acceptor: the factory is empty", Refused);
    CHECK_THROWS_WITH_AS((void)Acceptor(reactor, "127.0.0.1", 0, nullptr), "Acceptor: the factory is empty", Refused);
    CHECK_THROWS_WITH_AS((void)Acceptor(reactor, std::vector<Socket>(), nullptr), "Acceptor: the factory is empty",
                         Refused);
    CHECK_THROWS_WITH_AS((void)PacketAcceptor(reactor, new_unix_name(), nullptr),
                         "PacketAcceptor: the factory is empty", Refused);
    auto ends = Socket::pair();
    auto packet_ends = Socket::pair(SocketKind::datagram);
    auto pipe_ends = Socket::pair();
    CHECK_THROWS_WITH_AS(Connection::open(reactor, std::move(ends.first), nullptr, ConnectionOptions()),
                         "Connection::open: there is no protocol", Refused);
    CHECK_THROWS_WITH_AS(DatagramEndpoint::open(reactor, std::move(packet_ends.first), nullptr),
                         "DatagramEndpoint::open: there is no protocol", Refused);
    CHECK_THROWS_WITH_AS(PipeTransport::open(reactor, pipe_ends.first.release(), {}, nullptr),
                         "PipeTransport::open: there is no protocol", Refused);
    Acceptor acceptor(reactor, addresses, factory<Echo>());
    ReactorGroup group(1);
    const char* const no_end = "drain: there is no callback for its end";
    CHECK_THROWS_WITH_AS(drain(reactor, Duration::max(), nullptr), no_end, Refused);
    CHECK_THROWS_WITH_AS(drain(group, Duration::max(), nullptr), no_end, Refused);
    CHECK_THROWS_WITH_AS(acceptor.drain(Duration::max(), nullptr), no_end, Refused);
    CHECK_THROWS_WITH_AS(group.start(nullptr), "ReactorGroup::start: the body is empty", Refused);
    CHECK(acceptor.addresses().size() == 1);
    CHECK(settle(reactor) <= 2);
    const Signals signals(reactor, {SIGUSR1}, [](int) {});  // nothing else watches it
}

TEST_CASE("A callable that is empty in another type is an empty task: a null pointer, an empty std::function") {
    Reactor reactor;
    void (*const nowhere)() = nullptr;
    CHECK_THROWS_AS(reactor.post(nowhere), std::invalid_argument);
    CHECK_THROWS_AS(reactor.post(std::function<void()>()), std::invalid_argument);
    CHECK_THROWS_AS(reactor.post(MoveOnlyFunction<int()>()), std::invalid_argument);
    int ran = 0;
    reactor.post(std::function<void()>([&] { ++ran; }));
    settle(reactor);
    CHECK(ran == 1);
}
