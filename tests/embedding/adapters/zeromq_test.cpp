// Two ends of ZeroMQ in one loop, over TCP on the loopback interface.
#include "driven.hpp"

#include <reactor/adapters/zeromq.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <optional>
#include <string>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Context {
    ~Context() { zmq_ctx_term(context); }
    void* context = zmq_ctx_new();
};

// A socket that receives one message in each call.
struct End {
    End(Reactor& reactor, Context& context, int kind, const std::string& connect_to = "")
        : socket(zmq_socket(context.context, kind)) {
        const int no = 0, forever = 0;
        zmq_setsockopt(socket, ZMQ_LINGER, &no, sizeof no);
        zmq_setsockopt(socket, ZMQ_SNDHWM, &forever, sizeof forever);
        zmq_setsockopt(socket, ZMQ_RCVHWM, &forever, sizeof forever);
        if (connect_to.empty()) {
            REQUIRE(zmq_bind(socket, "tcp://127.0.0.1:*") == 0);
            char name[100];
            std::size_t size = sizeof name;
            REQUIRE(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, name, &size) == 0);
            address = name;
        } else {
            REQUIRE(zmq_connect(socket, connect_to.c_str()) == 0);
        }
        driver.emplace(reactor, socket, Interest::readable, [this](Interest) { receive(); });
    }
    ~End() {
        driver.reset();
        zmq_close(socket);
    }
    void receive() {
        ++calls;
        char text[100];
        const int size = zmq_recv(driver->socket(), text, sizeof text, ZMQ_DONTWAIT);
        if (size < 0) return void(++spurious);
        ++messages;
        if (received) received(std::string(text, std::size_t(size)));
    }
    void send(const std::string& text) {
        REQUIRE(zmq_send(driver->socket(), text.data(), text.size(), ZMQ_DONTWAIT) == int(text.size()));
    }

    void* socket;
    std::string address;
    std::optional<ZmqDriver> driver;
    std::function<void(const std::string&)> received;
    int calls = 0, messages = 0, spurious = 0;
};

}  // namespace

TEST_CASE("ZeroMQ: a receiver that takes one message at a time gets all, and is not called in vain") {
    Reactor reactor;
    Context context;
    End receiver(reactor, context, ZMQ_PULL), sender(reactor, context, ZMQ_PUSH, receiver.address);
    for (int i = 0; i < 1000; ++i) sender.send(std::to_string(i));
    run_until(reactor, [&] { return receiver.messages == 1000; });
    CHECK(receiver.spurious == 0);
}

TEST_CASE("ZeroMQ: a message whose notice a send has used up is received all the same") {
    Reactor reactor;
    Context context;
    End one(reactor, context, ZMQ_PAIR), other(reactor, context, ZMQ_PAIR, one.address);
    other.send("first");
    run_until(reactor, [&] { return one.messages == 1; });
    for (int i = 0; i < 3; ++i) reactor.run_once(Duration::zero());
    int descriptor = -1;
    std::size_t size = sizeof descriptor;
    REQUIRE(zmq_getsockopt(other.socket, ZMQ_FD, &descriptor, &size) == 0);
    one.send("second");
    pollfd notice{descriptor, POLLIN, 0};
    REQUIRE(::poll(&notice, 1, 10'000) == 1);
    int sent = 0;  // ZeroMQ 4.3.4 looks for news in a send only now and then
    for (; ::poll(&notice, 1, 0) == 1 && sent < 100'000; ++sent) other.send("third");
    REQUIRE(sent < 100'000);
    run_until(reactor, [&] { return other.messages == 1 && one.messages == 1 + sent; });
}

TEST_CASE("ZeroMQ: a message that is left alone is reported in the next iteration again") {
    Reactor reactor;
    Context context;
    End sender(reactor, context, ZMQ_PUSH), receiver(reactor, context, ZMQ_PULL, sender.address);
    int calls = 0;
    receiver.driver.emplace(reactor, receiver.socket, Interest::readable, [&](Interest) { ++calls; });
    sender.driver->set_interest(Interest::none);
    bool connected = false;
    ZmqDriver writer(reactor, sender.socket, Interest::writable, [&](Interest) {
        connected = true;
        writer.set_interest(Interest::none);
    });
    run_until(reactor, [&] { return connected; });
    sender.send("x");
    run_until(reactor, [&] { return calls == 3; });
}

TEST_CASE("ZeroMQ: a socket without an interest is not called, and one that may send says so") {
    Reactor reactor;
    Context context;
    End receiver(reactor, context, ZMQ_PULL), sender(reactor, context, ZMQ_PUSH, receiver.address);
    receiver.driver->set_interest(Interest::none);
    sender.send("x");
    bool may_send = false;
    ZmqDriver writer(reactor, sender.socket, Interest::writable, [&](Interest is) {
        may_send = is == Interest::writable;
        writer.set_interest(Interest::none);
    });
    run_until(reactor, [&] { return may_send; });
    CHECK(receiver.messages == 0);
    receiver.driver->set_interest(Interest::readable);
    run_until(reactor, [&] { return receiver.messages == 1; });
}

TEST_CASE("ZeroMQ: a message there and back costs the loop a few iterations") {
    Reactor reactor;
    Context context;
    End one(reactor, context, ZMQ_PAIR), other(reactor, context, ZMQ_PAIR, one.address);
    one.received = [&](const std::string& text) { one.send(text); };
    int left = 101;
    other.received = [&](const std::string& text) {
        if (--left > 0) other.send(text);
    };
    other.send("x");
    run_until(reactor, [&] { return left <= 100; });
    const int before = one.calls + other.calls;
    const Cost cost = cost_of(reactor, "ZeroMQ: a message there and back, both ends in the loop", 100,
                              [&] { run_until(reactor, [&] { return left == 0; }); });
    CHECK(cost.iterations <= 10);
    CHECK(cost.changes == 0);
    std::printf("ZeroMQ: %d calls for 200 messages, %d of them in vain\n", one.calls + other.calls - before,
                one.spurious + other.spurious);
    CHECK(one.spurious + other.spurious == 0);
}
