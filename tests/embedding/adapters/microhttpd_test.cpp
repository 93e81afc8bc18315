// libmicrohttpd as a server in the loop, and a client in the same loop.
#include "driven.hpp"

#include <reactor/adapters/microhttpd.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/protocol.hpp>

#include <doctest/doctest.h>
#include <netinet/in.h>

#include <optional>
#include <string>
#include <thread>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Server {
    explicit Server(Reactor& reactor)
        : daemon(MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, nullptr, nullptr, &Server::answer, this,
                                  MHD_OPTION_SOCK_ADDR, address(), MHD_OPTION_CONNECTION_TIMEOUT, 1U, MHD_OPTION_END)) {
        REQUIRE(daemon != nullptr);
        driver.emplace(reactor, daemon);
    }
    ~Server() {
        driver.reset();
        MHD_stop_daemon(daemon);
    }
    static sockaddr* address() {
        static sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return reinterpret_cast<sockaddr*>(&any);
    }
    std::uint16_t port() const { return MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port; }

    static MHD_Result answer(void* self, MHD_Connection* connection, const char* path, const char*, const char*,
                             const char*, std::size_t*, void** state) {
        Server& server = *static_cast<Server*>(self);
        if (path == std::string("/later") && *state == nullptr) {
            *state = &server;
            MHD_suspend_connection(connection);
            server.suspended = connection;
            return MHD_YES;
        }
        const std::string body(path == std::string("/large") ? 5'000'000 : 5, 'x');
        MHD_Response* const response =
            MHD_create_response_from_buffer(body.size(), const_cast<char*>(body.data()), MHD_RESPMEM_MUST_COPY);
        const MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
        MHD_destroy_response(response);
        return result;
    }

    MHD_Daemon* daemon;
    std::optional<MicrohttpdDriver> driver;
    MHD_Connection* suspended = nullptr;
};

// Asks for a path and keeps the whole answer, whose end is that of the connection unless `length` bytes are enough.
struct Asking final : Protocol {
    Asking(std::string the_path, std::size_t& the_size, bool& is_over)
        : path(std::move(the_path)), size(the_size), over(is_over) {}
    void connected() override { transport().write("GET " + path + " HTTP/1.0\r\n\r\n"); }
    std::size_t received(Bytes input) override {
        size += input.size();
        return input.size();
    }
    void disconnected(std::error_code) override { over = true; }
    std::string path;
    std::size_t& size;
    bool& over;
};

std::size_t ask(Reactor& reactor, const Server& server, const std::string& path,
                const std::function<void()>& meanwhile = {}) {
    std::size_t size = 0;
    bool over = false;
    const Connector connector(reactor, "127.0.0.1", server.port(),
                              [&] { return std::make_unique<Asking>(path, size, over); });
    if (meanwhile) meanwhile();
    run_until(reactor, [&] { return over; });
    return size;
}

}  // namespace

TEST_CASE("libmicrohttpd: a short and a long answer arrive whole") {
    Reactor reactor;
    const Server server(reactor);
    CHECK(ask(reactor, server, "/") > 5);
    CHECK(ask(reactor, server, "/large") > 5'000'000);
}

TEST_CASE("libmicrohttpd: a request that is resumed by a task from another thread is answered") {
    Reactor reactor;
    Server server(reactor);
    std::thread thread;
    const std::size_t size = ask(reactor, server, "/later", [&] {
        run_until(reactor, [&] { return server.suspended != nullptr; });
        thread = std::thread([&] {
            reactor.post([&] {
                (void)server.driver->daemon();
                MHD_resume_connection(server.suspended);
            });
        });
    });
    CHECK(size > 5);
    thread.join();
}

TEST_CASE("libmicrohttpd: a client that says nothing is closed by its time limit, without spinning") {
    Reactor reactor;
    const Server server(reactor);
    struct Silent final : Protocol {
        explicit Silent(bool& is_over) : over(is_over) {}
        std::size_t received(Bytes input) override { return input.size(); }
        void disconnected(std::error_code) override { over = true; }
        bool& over;
    };
    bool over = false;
    const Connector connector(reactor, "127.0.0.1", server.port(), [&] { return std::make_unique<Silent>(over); });
    const std::uint64_t before = reactor.counters().turns;
    run_until(reactor, [&] { return over; });
    std::printf("libmicrohttpd: %d iterations until a silent client is closed\n",
                int(reactor.counters().turns - before));
    CHECK(reactor.counters().turns - before <= 40);
}

TEST_CASE("libmicrohttpd: the cost of a short request and of a long answer") {
    Reactor reactor;
    const Server server(reactor);
    const Cost small = cost_of(reactor, "libmicrohttpd: a connection with one request, both ends in the loop", 50, [&] {
        for (int i = 0; i < 50; ++i) ask(reactor, server, "/");
    });
    CHECK(small.iterations <= 20);
    const Cost large =
        cost_of(reactor, "libmicrohttpd: the same, an answer of 5 MB", 1, [&] { ask(reactor, server, "/large"); });
    CHECK(large.iterations <= 5000);
}
