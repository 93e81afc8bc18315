// connect_datagram: a client's endpoint by name.
#include "../support/loop.hpp"

#include <reactor/datagram/connect_datagram.hpp>
#include <reactor/net/address.hpp>
#include <reactor/system_impl.hpp>

#include <optional>
#include <stdexcept>
#include <string>

using namespace reactor;

namespace {

struct Answers {
    std::vector<std::string> received;
    int opened = 0, closed = 0, destroyed = 0;
    std::error_code reason;
    std::function<void()> on_closed;
};

class Asker final : public DatagramProtocol {
public:
    explicit Asker(Answers& calls) : calls_(calls) {}
    ~Asker() override { ++calls_.destroyed; }

private:
    void opened() override {
        ++calls_.opened;
        transport().send("question");
    }
    void received(const Datagram& datagram) override {
        calls_.received.emplace_back(text_of(datagram.data));
        transport().close();
    }
    void closed(std::error_code reason) override {
        ++calls_.closed;
        calls_.reason = reason;
        if (calls_.on_closed) calls_.on_closed();
    }
    Answers& calls_;
};

class Answerer final : public DatagramProtocol {
    void received(const Datagram& datagram) override {
        transport().answer(datagram, "answer to " + std::string(text_of(datagram.data)));
    }
};

std::unique_ptr<Asker> asker(Answers& calls) {
    return std::make_unique<Asker>(calls);
}

}  // namespace

TEST_CASE("A client of datagrams asks a server by its name, and goes on when its handle is gone") {
    Reactor reactor;
    std::vector<Socket> sockets = bind_datagrams("localhost", 0);
    const std::uint16_t port = sockets[0].local().port();
    for (Socket& socket : sockets) DatagramEndpoint::open(reactor, std::move(socket), std::make_unique<Answerer>());
    Answers calls;
    std::optional<DatagramConnecting> client = connect_datagram(reactor, "localhost", port, asker(calls));
    CHECK(calls.opened == 0);  // later, from the loop
    CHECK(bool(*client));
    run_until(reactor, [&] { return calls.opened == 1; });
    CHECK_FALSE(bool(*client));
    client.reset();
    run_until(reactor, [&] { return calls.closed == 1; });
    CHECK(calls.received == std::vector<std::string>{"answer to question"});
    CHECK_FALSE(calls.reason);
    settle(reactor);
    CHECK(calls.destroyed == 1);
}

#if REACTOR_HAS(ABSTRACT_NAMES)
TEST_CASE("A client of datagrams on a Unix socket can be answered") {
    Reactor reactor;
    const TemporaryFolder folder;
    const std::string host = "unix:" + (folder / "server");
    std::vector<Socket> sockets = bind_datagrams(host, 0);
    DatagramEndpoint::open(reactor, std::move(sockets[0]), std::make_unique<Answerer>());
    Answers calls;
    const DatagramConnecting client = connect_datagram(reactor, host, 0, asker(calls));
    run_until(reactor, [&] { return calls.closed == 1; });
    CHECK(calls.received.size() == 1);
}
#endif

TEST_CASE("A client of datagrams that finds no address, or cannot reach it, is closed once with the error") {
    Reactor reactor;
    Answers unknown, unreachable;
    const DatagramConnecting one = connect_datagram(reactor, "no host has a blank", 9, asker(unknown));
    std::optional<DatagramConnecting> other = connect_datagram(reactor, "unix:/no/such/socket", 0, asker(unreachable));
    unreachable.on_closed = [&] { other.reset(); };
    CHECK(unknown.closed + unreachable.closed == 0);  // later, from the loop
    reactor.run_until_idle();
    for (const Answers* calls : {&unknown, &unreachable}) {
        CHECK(calls->opened == 0);
        CHECK(calls->closed == 1);
        CHECK(calls->destroyed == 1);
    }
    CHECK(bool(unknown.reason));
    CHECK(unreachable.reason ==
          (REACTOR_HAS(ABSTRACT_NAMES) ? std::errc::no_such_file_or_directory : std::errc::operation_not_supported));
    CHECK_FALSE(bool(one));
}

TEST_CASE("A client of datagrams that is destroyed while its name is looked up is never called") {
    Reactor reactor;
    Answers calls;
    {
        DatagramConnecting first = connect_datagram(reactor, "127.0.0.1", 9, asker(calls));
        const DatagramConnecting moved = std::move(first);
        CHECK(bool(moved));
        CHECK_FALSE(bool(first));
    }
    CHECK(calls.destroyed == 1);
    reactor.run_until_idle();
    CHECK(calls.opened + calls.closed == 0);
    CHECK_THROWS_AS((void)connect_datagram(reactor, "127.0.0.1", 9, nullptr), std::invalid_argument);
}
