// run_until_signal: a server's main function ends in good order.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/run_until_signal.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <signal.h>

#include <stdexcept>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

// Answers draining by nothing, so that only the end of the grace period ends it.
class Stubborn final : public Protocol {
public:
    explicit Stubborn(int& drained) : drained_(drained) {}

private:
    std::size_t received(Bytes input) override { return input.size(); }
    void draining() override {
        ++drained_;
        ::raise(SIGUSR2);  // asked twice
    }
    int& drained_;
};

Socket connect_to(const Acceptor& acceptor) {
    Socket socket = Socket::open(Address::Family::ipv4);
    (void)socket.connect(acceptor.addresses()[0]);
    return socket;
}

const Address any_port = *Address::ip("127.0.0.1", 0);

}  // namespace

TEST_CASE("A signal ends the loop when its connections have ended, and the report says which and how") {
    Reactor reactor;
    Acceptor acceptor(reactor, {any_port}, factory<Echo>());
    Socket client = connect_to(acceptor);
    REQUIRE(::send(client.get(), "hello", 5, MSG_NOSIGNAL) == 5);
    Timer look;
    std::string answer;
    look = reactor.every(1ms, [&] {
        answer += read_all(client);
        if (answer.size() < 5) return;
        look = {};
        ::shutdown(client.get(), SHUT_WR);
        ::raise(SIGUSR1);
    });
    const EndedBySignal end = run_until_signal(reactor, {SIGUSR1, SIGUSR2}, 30s);
    CHECK(answer == "hello");
    CHECK(end.signal == SIGUSR1);
    CHECK(end.drained);
    CHECK(end.connections.finished == 1);
    CHECK(end.connections.cut == 0);
    CHECK(acceptor.addresses().empty());
}

TEST_CASE("A second signal ends the grace period: connections that are left are aborted and counted") {
    testing::ManualClock clock;  // the grace period itself never ends
    Reactor reactor("auto", clock);
    int drained = 0;
    Acceptor acceptor(reactor, {any_port}, [&] {
        ::raise(SIGUSR1);
        return std::make_unique<Stubborn>(drained);
    });
    const Socket client = connect_to(acceptor);
    const EndedBySignal end = run_until_signal(reactor, {SIGUSR1, SIGUSR2}, 30s);
    CHECK(drained == 1);
    CHECK(end.signal == SIGUSR1);
    CHECK(end.drained);
    CHECK(end.connections.finished == 0);
    CHECK(end.connections.cut == 1);
}

TEST_CASE("stop ends run_until_signal without a drain") {
    Reactor reactor;
    Acceptor acceptor(reactor, {any_port}, factory<Echo>());
    const Timer soon = reactor.after(1ms, [&] { reactor.stop(); });
    const EndedBySignal end = run_until_signal(reactor, {SIGUSR1}, 30s);
    CHECK(end.signal == 0);
    CHECK_FALSE(end.drained);
    CHECK(acceptor.addresses().size() == 1);
}

TEST_CASE("An exception leaves run_until_signal, and the drain that goes on does not stop the next run") {
    Reactor reactor;
    Acceptor acceptor(reactor, {any_port}, factory<Echo>());
    reactor.post([] { ::raise(SIGUSR1); });
    Timer fail = reactor.every(1ms, [&] {
        if (!acceptor.addresses().empty()) return;  // the drain has not begun
        throw std::runtime_error("from a callback");
    });
    Socket client = connect_to(acceptor);
    CHECK_THROWS_WITH_AS((void)run_until_signal(reactor, {SIGUSR1}, 30s), "from a callback", std::runtime_error);
    fail.cancel();
    client.close();  // which ends the drain
    bool went_on = false;
    const Timer later = reactor.after(50ms, [&] { went_on = true; });
    reactor.run_until_idle();
    CHECK(went_on);
}

TEST_CASE("cut_drain without a drain does nothing") {
    Reactor reactor;
    cut_drain(reactor);
    Conversation conversation(reactor);
    cut_drain(reactor);
    settle(reactor);
    CHECK_FALSE(conversation.journal.over);
}
