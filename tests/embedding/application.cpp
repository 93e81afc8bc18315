// The application that embeds the library: built by packaging_test.py in every way in which it can be found. It uses
// something of each kind, so that what is not exported, or not installed, is missed here: a server and a client, a
// timer, work from another thread, a handler of its own, an exception of its own, the testing kit.
#include <protocols/echo.hpp>
#include <protocols/framing/any_framing.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/testing/memory_transport.hpp>
#include <reactor/testing/scripted_demultiplexer.hpp>
#include <reactor/timer.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>

using namespace reactor;

namespace {

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::exit(EXIT_FAILURE);
}

struct Complaint : std::exception {
    const char* what() const noexcept override { return "a complaint"; }
};

// Sends one line. The answer makes it throw, if it should, or stop the loop.
class Asker final : public Framed<Lines> {
public:
    Asker(Reactor& reactor, bool throws) : reactor_(reactor), throws_(throws) {}

private:
    void connected() override { send("a line"); }
    void message(Bytes line) override {
        check(text_of(line) == "a line", "the line comes back");
        if (throws_) throw Complaint();
        transport().close();
    }
    void disconnected(std::error_code error) override {
        check(throws_ ? error == Error::exception : !error, "the connection ends as it should");
        reactor_.stop();
    }

    Reactor& reactor_;
    bool throws_;
};

// A handler of the application's own that the reactor owns. Compiled without run-time types it has none.
class Bystander final : public OwnedHandler {
public:
    explicit Bystander(bool& gone) : gone_(gone) {}
    ~Bystander() override { gone_ = true; }

private:
    bool& gone_;
};

void converse(bool throws) {
    bool bystander_gone = false;
    {
        Reactor reactor;
        Acceptor acceptor(reactor, "localhost", 0, factory<Echo>());
        const std::uint16_t port = acceptor.addresses().front().port();
        Connector connector(reactor, "localhost", port, factory<Asker>(std::ref(reactor), throws));
        Wakeup idle;
        Registration registration =
            reactor.adopt(idle.descriptor(), Interest::readable, std::make_unique<Bystander>(bystander_gone));
        Timer too_long(reactor, [] { check(false, "it takes less than a minute"); });
        too_long.start(std::chrono::minutes(1));
        bool caught = false;
        try {
            reactor.run();
        } catch (const Complaint&) {
            caught = true;
            reactor.run();
        }
        check(caught == throws, "an exception of the application's own comes out of run()");
        acceptor.drain([&] { reactor.stop(); });
        reactor.run();
        check(acceptor.connections() == 0, "the server is drained");
        registration.reset();
        reactor.run_once(Duration::zero());
    }
    check(bystander_gone, "a retired handler is destroyed");
}

void signals_posts_and_timers() {
    Reactor reactor;
    int heard = 0;
    const Signals signals(reactor, {SIGUSR1}, [&](int signal) { heard = signal; });
    std::raise(SIGUSR1);
    reactor.run_for(std::chrono::milliseconds(1));
    check(heard == SIGUSR1, "a signal is told");
    std::thread other([&] { reactor.post([&] { reactor.stop(); }); });
    reactor.run();
    other.join();
}

void testing_kit() {
    testing::MemoryTransport connection(std::make_unique<Echo>());
    connection.feed("hello");
    check(connection.take() == "hello", "the memory transport echoes");
    check(testing::check_every_cut_of_protocol("abc\ndef\n", factory<Echo>()) > 0, "the cuts are tried");
    testing::ManualClock clock;
    Reactor reactor(std::make_unique<testing::ScriptedDemultiplexer>(clock), clock);
    bool due = false;
    Timer timer(reactor, [&] { due = true; });
    timer.start(std::chrono::hours(1));
    reactor.run_once();
    check(due, "an hour passes at once");
}

void errors() {
    try {
        Reactor reactor("no such backend");
        check(false, "an unknown backend is an error");
    } catch (const std::system_error& error) {
        check(error.code() == std::errc::invalid_argument, "and says which");
    }
    try {
        (void)parse_framing("no such framing");
        check(false, "an unknown framing is an error");
    } catch (const std::invalid_argument&) {
    }
    check(make_error_code(Error::malformed).category() == error_category(), "there is one category");
}

}  // namespace

int main() {
    converse(false);
    converse(true);
    signals_posts_and_timers();
    testing_kit();
    errors();
    std::puts("embedded");
}
