// A pool of connections that asks a server, on a network in memory: its time limits, retries and waits to the
// millisecond.
#include "../support/loop.hpp"

#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>
#include <protocols/requests.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/testing/memory_network.hpp>

#include <memory>
#include <string>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;
using testing::MemoryNetwork;

namespace {

// Answers "echo …", and nothing else.
class AnsweringServer final : public Framed<Lines> {
public:
    explicit AnsweringServer(int& asked) : asked_(asked) {}

private:
    void message(Bytes line) override {
        ++asked_;
        if (text_of(line).starts_with("echo ")) send(line.subspan(5));
    }
    int& asked_;
};

struct Pool {
    explicit Pool(RequestsOptions options)
        : requests(network.reactor(), "server.test", 80, Lines(), std::move(options)) {
        network.add("server.test");
    }
    void listen() {
        acceptor =
            std::make_unique<Acceptor>(network.reactor(), "server.test", 80, factory<AnsweringServer>(std::ref(asked)));
    }
    Request ask(std::string_view question) {
        return requests.ask(question, [this](std::error_code error, Bytes answer) {
            answers.push_back(error ? error.message() : std::string(text_of(answer)));
        });
    }

    MemoryNetwork network;
    int asked = 0;
    std::unique_ptr<Acceptor> acceptor;
    Requests<Lines> requests;
    std::vector<std::string> answers;
};

std::string text(std::errc error) {
    return std::make_error_code(error).message();
}

}  // namespace

TEST_CASE("On a network in memory, a request that is refused is asked again after 100, 200 and 400 ms") {
    Pool pool({.retries = 3});
    const Request request = pool.ask("echo hello");
    pool.network.advance(699ms);
    CHECK(pool.answers.empty());
    pool.network.advance(1ms);
    CHECK(pool.answers == std::vector{text(std::errc::connection_refused)});
}

TEST_CASE("On a network in memory, the wait of a pool grows up to its longest, and an answer ends the row") {
    Pool pool({.retries = 5, .connector = {.reconnect = 300ms}});
    const Request request = pool.ask("echo hello");
    pool.network.advance(100ms + 200ms + 300ms + 299ms);
    pool.listen();
    CHECK(pool.answers.empty());
    pool.network.advance(1ms);
    CHECK(pool.answers == std::vector<std::string>{"hello"});

    pool.network.refuse("server.test");
    pool.network.reset("server.test");
    pool.network.settle();
    const Request next = pool.ask("echo again");  // is refused, and waits for 100 ms as at first
    pool.network.settle();
    pool.network.restore("server.test");
    pool.network.advance(99ms);
    CHECK(pool.answers.size() == 1);
    pool.network.advance(1ms);
    CHECK(pool.answers.back() == "again");
}

TEST_CASE("On a network in memory, a request whose connection is reset is asked again over another one") {
    Pool pool({.connections = 1, .retries = 1});
    pool.listen();
    const Request request = pool.ask("wait");
    pool.network.settle();
    CHECK(pool.asked == 1);
    CHECK(pool.network.reset("server.test") == 1);
    pool.network.advance(100ms);
    CHECK(pool.asked == 2);
    CHECK(pool.answers.empty());
    pool.network.reset("server.test");
    pool.network.settle();
    CHECK(pool.answers == std::vector{text(std::errc::connection_reset)});
}

TEST_CASE("On a network in memory, each try of a request has its time, whether connecting is silent or the server") {
    for (const bool connects : {true, false}) {
        CAPTURE(connects);
        Pool pool({.connections = 1, .timeout = 2s, .retries = 1});
        pool.listen();
        if (!connects) pool.network.delay("server.test", Duration::max());
        const Request request = pool.ask("wait");
        pool.network.advance(3999ms);
        CHECK(pool.answers.empty());
        pool.network.advance(1ms);
        CHECK(pool.answers == std::vector{text(std::errc::timed_out)});
        CHECK(pool.asked == (connects ? 2 : 0));
    }
}

TEST_CASE(
    "On a network in memory, requests wait while connecting is slow, and as many connections as allowed are made") {
    Pool pool({.connections = 2});
    pool.listen();
    pool.network.delay("server.test", 1s);
    std::vector<Request> requests;
    for (int i = 0; i < 6; ++i) requests.push_back(pool.ask("echo " + std::to_string(i)));
    pool.network.advance(999ms);
    CHECK(pool.answers.empty());
    CHECK(pool.requests.waiting() == 6);
    pool.network.advance(1ms);
    CHECK(pool.answers.size() == 6);
    CHECK(pool.acceptor->counters().accepted == 2);
}
