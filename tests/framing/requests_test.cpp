#include "../support/loop.hpp"

#include <protocols/framing/delimited.hpp>
#include <protocols/requests.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <stdexcept>
#include <string>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

/// A server of lines: it answers "echo …" with the rest, hangs up at "leave", answers
/// "twice" with two lines, and says nothing to "wait".
class Server {
public:
    explicit Server(Reactor& reactor)
        : acceptor_(reactor, "127.0.0.1", 0, [this] { return std::make_unique<Session>(*this); }) {}

    std::uint16_t port() const { return acceptor_.addresses().front().port(); }
    std::size_t connections() const { return acceptor_.connections(); }
    std::uint64_t accepted() const { return acceptor_.counters().accepted; }

    std::vector<std::string> asked;
    int leaves = 0;  // so many questions are met by hanging up

private:
    class Session final : public Framed<Lines> {
    public:
        explicit Session(Server& server) : server_(server) {}

    private:
        void message(Bytes line) override {
            const std::string text(text_of(line));
            server_.asked.push_back(text);
            if (server_.leaves > 0) {
                --server_.leaves;
                return transport().abort();
            }
            if (text.starts_with("echo ")) send(text.substr(5));
            if (text == "leave") transport().abort();
            if (text == "twice") send("one") && send("two");
        }
        Server& server_;
    };

    Acceptor acceptor_;
};

struct Answers {
    std::vector<std::string> all;
    Request::Answered note() {
        return [this](std::error_code error, Bytes answer) {
            all.push_back(error ? error.message() : std::string(text_of(answer)));
        };
    }
};

}  // namespace

TEST_CASE("Requests are answered over connections that are kept for the next ones") {
    Reactor reactor;
    Server server(reactor);
    Requests<Lines> requests(reactor, "127.0.0.1", server.port(), Lines(), {.connections = 2});
    Answers answers;
    std::vector<Request> pending;
    for (int i = 0; i < 6; ++i) pending.push_back(requests.ask("echo " + std::to_string(i), answers.note()));
    CHECK(answers.all.empty());
    run_until(reactor, [&] { return answers.all.size() == 6; });
    std::sort(answers.all.begin(), answers.all.end());
    CHECK(answers.all == std::vector<std::string>{"0", "1", "2", "3", "4", "5"});
    CHECK(server.accepted() == 2);
    for (const Request& request : pending) CHECK_FALSE(request);

    Request again = requests.ask("echo again", answers.note());
    run_until(reactor, [&] { return answers.all.size() == 7; });
    CHECK(server.accepted() == 2);
}

TEST_CASE("A request is asked again when its connection ends before the answer, as often as allowed") {
    Reactor reactor;
    Server server(reactor);
    RequestsOptions options;
    options.retries = 2;
    options.connector.reconnect = 1ms;
    Requests<Lines> requests(reactor, "127.0.0.1", server.port(), Lines(), options);
    Answers answers;
    server.leaves = 2;
    Request lucky = requests.ask("echo third time", answers.note());
    run_until(reactor, [&] { return !answers.all.empty(); });
    CHECK(answers.all == std::vector<std::string>{"third time"});
    CHECK(server.asked.size() == 3);

    Request unlucky = requests.ask("leave", answers.note());
    run_until(reactor, [&] { return answers.all.size() == 2; });
    CHECK(answers.all.back() == std::make_error_code(std::errc::connection_reset).message());
    CHECK(server.asked.size() == 6);
}

TEST_CASE("A request without an answer in time is over, and its late answer is not taken for the next one's") {
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};
    Server server(reactor);
    Requests<Lines> requests(reactor, "127.0.0.1", server.port(), Lines(), {.connections = 1, .timeout = 10s});
    Answers answers;
    Request slow = requests.ask("wait", answers.note());
    for (int i = 0; i < 10000 && server.asked.empty(); ++i) reactor.run_once(1ms);
    REQUIRE(server.asked.size() == 1);
    clock.advance(9s);
    Request behind = requests.ask("echo next", answers.note());
    settle(reactor);
    CHECK(answers.all.empty());
    clock.advance(1s);
    for (int i = 0; i < 10000 && answers.all.size() < 2; ++i) reactor.run_once(1ms);
    CHECK(answers.all == std::vector<std::string>{std::make_error_code(std::errc::timed_out).message(), "next"});
    CHECK(server.accepted() == 2);
}

TEST_CASE("Each try of a request has its own time, and one that is out of time is a failure like any other") {
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};
    Server server(reactor);
    RequestsOptions options;
    options.connections = 1;
    options.retries = 2;
    options.timeout = 10s;
    Requests<Lines> requests(reactor, "127.0.0.1", server.port(), Lines(), options);
    Answers answers;
    const auto turn_until = [&](auto&& condition) {
        for (int i = 0; i < 10000 && !condition(); ++i) reactor.run_once(1ms);
        REQUIRE(condition());
    };
    Request silent = requests.ask("wait", answers.note());
    for (std::size_t tries = 1; tries <= 3; ++tries) {
        turn_until([&] { return server.asked.size() == tries; });
        CHECK(answers.all.empty());
        clock.advance(9s);
        settle(reactor);
        CHECK(answers.all.empty());
        CHECK(server.asked.size() == tries);
        clock.advance(1s);
    }
    turn_until([&] { return answers.all.size() == 1; });
    Request next = requests.ask("echo next", answers.note());
    turn_until([&] { return answers.all.size() == 2; });
    CHECK(answers.all == std::vector<std::string>{std::make_error_code(std::errc::timed_out).message(), "next"});
    CHECK(server.asked == std::vector<std::string>{"wait", "wait", "wait", "echo next"});
}

TEST_CASE("A try that fails before its time gives the next one all of its own") {
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};
    Server server(reactor);
    RequestsOptions options;
    options.retries = 1;
    options.timeout = 10s;
    Requests<Lines> requests(reactor, "127.0.0.1", server.port(), Lines(), options);
    Answers answers;
    server.leaves = 1;
    Request request = requests.ask("wait", answers.note());
    clock.advance(5s);
    for (int i = 0; i < 10000 && server.asked.empty(); ++i) reactor.run_once(1ms);
    settle(reactor);  // it hung up
    clock.advance(100ms);
    for (int i = 0; i < 10000 && server.asked.size() < 2; ++i) reactor.run_once(1ms);
    REQUIRE(server.asked.size() == 2);
    clock.advance(9s);
    settle(reactor);
    CHECK(request);
    clock.advance(1s);
    settle(reactor);
    CHECK(answers.all == std::vector<std::string>{std::make_error_code(std::errc::timed_out).message()});
}

TEST_CASE("A request that is cancelled calls nothing, whether it waits or was sent") {
    Reactor reactor;
    Server server(reactor);
    Requests<Lines> requests(reactor, "127.0.0.1", server.port(), Lines(), {.connections = 1});
    Answers answers;
    Request sent = requests.ask("wait", answers.note());
    Request waiting = requests.ask("echo cancelled", answers.note());
    run_until(reactor, [&] { return !server.asked.empty(); });
    sent.cancel();
    waiting = Request();
    Request last = requests.ask("echo last", answers.note());
    run_until(reactor, [&] { return !answers.all.empty(); });
    CHECK(answers.all == std::vector<std::string>{"last"});
    CHECK(server.asked == std::vector<std::string>{"wait", "echo last"});
}

TEST_CASE("A server that cannot be reached is an error for each request, and is called ever more rarely") {
    testing::ManualClock clock;
    Reactor reactor{"auto", clock};
    std::uint16_t port = 0;
    {
        Server gone(reactor);
        port = gone.port();
    }
    settle(reactor);
    RequestsOptions options;
    options.timeout = 1h;
    options.retries = 6;
    Requests<Lines> requests(reactor, "127.0.0.1", port, Lines(), options);
    Answers answers;
    Request request = requests.ask("echo anything", answers.note());
    const TimePoint begun = clock.now();
    for (int i = 0; i < 10000 && answers.all.empty(); ++i) {
        reactor.run_once(1ms);
        if (i % 10 == 9) clock.advance(100ms);
    }
    CHECK(answers.all == std::vector<std::string>{std::make_error_code(std::errc::connection_refused).message()});
    CHECK(clock.now() - begun >= 6300ms);  // 100 + 200 + 400 + … between seven attempts
}

TEST_CASE("More requests than may wait are refused, from the loop, and in vain options at once") {
    Reactor reactor;
    Server server(reactor);
    Requests<Lines> requests(reactor, "127.0.0.1", server.port(), Lines(), {.connections = 1});
    Answers answers;
    std::vector<Request> all;
    for (std::size_t i = 0; i < Requests<Lines>::most_waiting; ++i)
        all.push_back(requests.ask("echo 1", answers.note()));
    Request beyond = requests.ask("echo 2", answers.note());
    CHECK(answers.all.empty());
    run_until(reactor, [&] { return answers.all.size() == 2; });
    CHECK(answers.all ==
          std::vector<std::string>{std::make_error_code(std::errc::resource_unavailable_try_again).message(), "1"});
    CHECK_THROWS_AS((Requests<Lines>(reactor, "127.0.0.1", 1, Lines(), {.connections = 0})), std::invalid_argument);
    CHECK_THROWS_AS((void)requests.ask("echo", nullptr), std::invalid_argument);
}

TEST_CASE("S92: a callback may destroy the pool of its request, and requests that are left call nothing") {
    Reactor reactor;
    Server server(reactor);
    auto requests = std::make_unique<Requests<Lines>>(reactor, "127.0.0.1", server.port());
    bool called = false, other = false;
    Request one = requests->ask("echo 1", [&](std::error_code, Bytes) {
        requests.reset();
        called = true;
    });
    Request two = requests->ask("wait", [&](std::error_code, Bytes) { other = true; });
    run_until(reactor, [&] { return called && server.connections() == 0; });
    CHECK_FALSE(other);
    CHECK_FALSE(two);
}

TEST_CASE("A server that says more than it was asked loses the connection, and the next question has another") {
    Reactor reactor;
    Server server(reactor);
    Requests<Lines> requests(reactor, "127.0.0.1", server.port());
    Answers answers;
    Request request = requests.ask("twice", answers.note());
    run_until(reactor, [&] { return answers.all.size() == 1 && server.connections() == 0; });
    Request next = requests.ask("echo next", answers.note());
    run_until(reactor, [&] { return answers.all.size() == 2; });
    CHECK(answers.all == std::vector<std::string>{"one", "next"});
    CHECK(server.accepted() == 2);
}
