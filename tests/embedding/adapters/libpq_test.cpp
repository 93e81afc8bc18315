// Against a PostgreSQL of with_server.py's, on the Unix socket in the folder that EMBEDDING_SOCKET names.
#include "driven.hpp"

#include <reactor/adapters/libpq.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Client final : PostgresConnection::Listener {
    Client(Reactor& the_reactor, const std::string& user = "reactor") : reactor(the_reactor) {
        const char* folder = std::getenv("EMBEDDING_SOCKET");
        REQUIRE(folder != nullptr);
        connection.emplace(reactor, ("host=" + std::string(folder) + " dbname=postgres user=" + user).c_str(), *this);
        run_until([this] { return answered; });
    }
    void connected(bool is_good) override {
        answered = true;
        good = is_good;
    }
    void result(PostgresConnection::Result result) override {
        if (result == nullptr) {
            ++queries_done;
            return;
        }
        states.push_back(PQresultStatus(result.get()));
        for (int row = 0; row < PQntuples(result.get()); ++row) values.emplace_back(PQgetvalue(result.get(), row, 0));
    }
    void notified(const PGnotify& notice) override { notices.emplace_back(notice.extra); }
    void lost() override { gone = true; }

    void query(const char* text) {
        const int before = queries_done;
        REQUIRE(connection->send(text));
        run_until([&] { return queries_done > before || gone; });
    }
    void run_until(const std::function<bool()>& condition) { ::run_until(reactor, condition); }

    Reactor& reactor;
    bool answered = false, good = false, gone = false;
    int queries_done = 0;
    std::vector<ExecStatusType> states;
    std::vector<std::string> values, notices;
    std::optional<PostgresConnection> connection;
};

}  // namespace

TEST_CASE("libpq: a query's rows come, and an error is a result") {
    Reactor reactor;
    Client client(reactor);
    REQUIRE(client.good);
    client.query("SELECT generate_series(1, 1000)");
    CHECK(client.values.size() == 1000);
    CHECK(client.values.back() == "1000");
    client.query("SELECT nonsense");
    CHECK(client.states.back() == PGRES_FATAL_ERROR);
    client.query("SELECT 'again'");
    CHECK(client.values.back() == "again");
}

TEST_CASE("libpq: a connection that the server refuses says why") {
    Reactor reactor;
    Client client(reactor, "nobody_of_this_name");
    CHECK(!client.good);
    CHECK(std::string(PQerrorMessage(client.connection->get())).find("nobody_of_this_name") != std::string::npos);
}

TEST_CASE("libpq: a query larger than the socket's buffers goes out as there is room") {
    Reactor reactor;
    Client client(reactor);
    const std::string query = "SELECT length('" + std::string(5'000'000, 'x') + "')";
    client.query(query.c_str());
    CHECK(client.values == std::vector<std::string>{"5000000"});
}

TEST_CASE("libpq: what one notifies the other hears, while two wait side by side") {
    Reactor reactor;
    Client listener(reactor), speaker(reactor);
    listener.query("LISTEN news");
    speaker.query("NOTIFY news, 'something happened'");
    listener.run_until([&] { return !listener.notices.empty(); });
    CHECK(listener.notices == std::vector<std::string>{"something happened"});
}

TEST_CASE("libpq: a server process that ends is told") {
    Reactor reactor;
    Client victim(reactor), other(reactor);
    victim.query("SELECT pg_backend_pid()");
    other.query(("SELECT pg_terminate_backend(" + victim.values.back() + ")").c_str());
    victim.run_until([&] { return victim.gone; });
    CHECK(victim.gone);
}

TEST_CASE("libpq: a query costs one iteration, and an interest that is taken back within it no system call") {
    Reactor reactor;
    Client client(reactor);
    client.query("SELECT 1");
    constexpr int queries = 100;
    const Cost cost = cost_of(reactor, "libpq: SELECT 1", queries, [&] {
        for (int i = 0; i < queries; ++i) client.query("SELECT 1");
    });
    CHECK(cost.iterations <= (nested() ? 2.5 : 1.5));
    CHECK(cost.changes == 0);
}
