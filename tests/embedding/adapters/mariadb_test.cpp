// Against a MariaDB of with_server.py's, on the Unix socket that EMBEDDING_SOCKET names.
#include "driven.hpp"

#include <reactor/adapters/mariadb.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Client {
    explicit Client(Reactor& the_reactor) : reactor(the_reactor) {
        connection.emplace(reactor);
        connect();
    }
    void connect() {
        const char* const path = std::getenv("EMBEDDING_SOCKET");
        REQUIRE(path != nullptr);
        connected.reset();
        connection->connect(nullptr, "root", "", nullptr, 0, path, [this](bool good) { connected = good; });
        run_until(reactor, [this] { return connected.has_value(); });
    }
    /// The first column of the result.
    std::vector<std::string> query(std::string text) {
        std::vector<std::string> values;
        bool done = false;
        connection->query(std::move(text), [&](MariaDbConnection::Result result) {
            done = true;
            if (result == nullptr) return;
            while (const MYSQL_ROW row = mysql_fetch_row(result.get())) values.emplace_back(row[0]);
        });
        run_until(reactor, [&] { return done; });
        return values;
    }
    Reactor& reactor;
    std::optional<bool> connected;
    std::optional<MariaDbConnection> connection;
};

}  // namespace

TEST_CASE("MariaDB: queries are answered, also larger ones than the socket holds") {
    Reactor reactor;
    Client client(reactor);
    REQUIRE(client.connected == true);
    client.query("CREATE DATABASE IF NOT EXISTS test");
    CHECK(client.query("SELECT 1 + 1") == std::vector<std::string>{"2"});
    CHECK(client.query("SELECT REPEAT('x', 3000000)") == std::vector<std::string>{std::string(3'000'000, 'x')});
    CHECK(client.query("SELECT LENGTH('" + std::string(3'000'000, 'x') + "')") == std::vector<std::string>{"3000000"});
    CHECK(client.query("SELECT seq FROM test.seq_1_to_5000").size() == 5000);
}

TEST_CASE("MariaDB: an error is an answer, and the connection goes on") {
    Reactor reactor;
    Client client(reactor);
    CHECK(client.query("SELECT nonsense").empty());
    CHECK(mysql_errno(client.connection->get()) == 1054);
    CHECK(client.query("SELECT 1") == std::vector<std::string>{"1"});
}

TEST_CASE("MariaDB: there is one operation at a time") {
    Reactor reactor;
    Client client(reactor);
    client.connection->query("SELECT 1", [](MariaDbConnection::Result) {});
    CHECK_THROWS_AS(client.connection->query("SELECT 2", [](MariaDbConnection::Result) {}), std::logic_error);
}

TEST_CASE("MariaDB: a server that is not there is an answer, too, and comes from the loop") {
    Reactor reactor;
    MariaDbConnection connection(reactor);
    std::optional<bool> connected;
    connection.connect(nullptr, "root", "", nullptr, 0, "/nowhere", [&](bool good) { connected = good; });
    CHECK_FALSE(connected.has_value());
    run_until(reactor, [&] { return connected.has_value(); });
    CHECK(connected == false);
    CHECK(mysql_errno(connection.get()) != 0);
}

TEST_CASE("MariaDB: a connection that the server has ended may connect again, and its options stay") {
    Reactor reactor;
    Client client(reactor);
    mysql_options(client.connection->get(), MYSQL_INIT_COMMAND, "SET @kept := 7");
    for (int i = 0; i < 2; ++i) {
        client.query("KILL CONNECTION_ID()");
        CHECK(client.query("SELECT 1").empty());
        const unsigned error = mysql_errno(client.connection->get());
        CHECK((error == 2006 || error == 2013));  // CR_SERVER_GONE_ERROR on a Unix socket, CR_SERVER_LOST on TCP
        client.connect();
        REQUIRE(client.connected == true);
        CHECK(client.query("SELECT @kept") == std::vector<std::string>{"7"});
    }
}

TEST_CASE("MariaDB: a connection may go in its answer, and while it waits for one") {
    Reactor reactor;
    Client client(reactor), waiting(reactor);
    bool done = false;
    client.connection->query("SELECT 1", [&](MariaDbConnection::Result) {
        client.connection.reset();
        done = true;
    });
    waiting.connection->query("SELECT SLEEP(60)", [](MariaDbConnection::Result) { FAIL("it is gone"); });
    run_until(reactor, [&] { return done; });
    waiting.connection.reset();
    CHECK(reactor.run_once(Duration::zero()) == 0);
    CHECK_FALSE(reactor.next_timeout().has_value());
}

TEST_CASE("MariaDB: a read timeout ends a query, and costs the loop one timer") {
    Reactor reactor;
    MariaDbConnection connection(reactor);
    const unsigned seconds = 1;
    mysql_options(connection.get(), MYSQL_OPT_READ_TIMEOUT, &seconds);
    std::optional<bool> connected;
    bool done = false;
    connection.connect(nullptr, "root", "", nullptr, 0, std::getenv("EMBEDDING_SOCKET"),
                       [&](bool good) { connected = good; });
    run_until(reactor, [&] { return connected.has_value(); });
    const std::uint64_t before = reactor.counters().timers;
    connection.query("SELECT SLEEP(60)", [&](MariaDbConnection::Result) { done = true; });
    run_until(reactor, [&] { return done; });
    CHECK(mysql_errno(connection.get()) != 0);
    CHECK(reactor.counters().timers - before == 1);
}

TEST_CASE("MariaDB: query after query costs one iteration each, and none for its rows") {
    Reactor reactor;
    Client client(reactor);
    client.query("CREATE DATABASE IF NOT EXISTS test");
    int left = 101;
    const std::function<void(MariaDbConnection::Result)> next = [&](const MariaDbConnection::Result&) {
        if (--left > 0)
            client.connection->query("SELECT seq FROM test.seq_1_to_100",
                                     [&](auto result) { next(std::move(result)); });
    };
    client.connection->query("SELECT 1", [&](auto result) { next(std::move(result)); });
    run_until(reactor, [&] { return left <= 100; });
    const Cost cost =
        cost_of(reactor, "MariaDB: a query of 100 rows", 100, [&] { run_until(reactor, [&] { return left == 0; }); });
    CHECK(cost.iterations <= (nested() ? 3 : 2));
    CHECK(cost.timers == 0);
}
