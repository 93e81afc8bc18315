// Against an sshd of with_server.py's: its port, a user and the user's key are in the environment.
#include "driven.hpp"

#include <reactor/adapters/libssh2.hpp>
#include <reactor/net/socket.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <optional>
#include <string>

using namespace reactor;
using namespace reactor::adapters;

namespace {

std::string variable(const char* name) {
    const char* const value = std::getenv(name);
    REQUIRE(value != nullptr);
    return value;
}

struct Client {
    explicit Client(Reactor& the_reactor) : reactor(the_reactor), socket(Socket::open(Address::Family::ipv4)) {
        (void)socket.connect(*Address::ip("127.0.0.1", std::uint16_t(std::stoi(variable("EMBEDDING_PORT")))));
        socket.set_no_delay(true);  // or each request, which is two small writes, waits 40 ms
        session.emplace(reactor, socket.get());
        std::optional<ssize_t> result;
        session->handshake([&](ssize_t it) { result = it; });
        run_until(reactor, [&] { return result.has_value(); });
        REQUIRE(*result == 0);
    }
    ssize_t run(Ssh2Session::Step step) {
        std::optional<ssize_t> result;
        session->run(std::move(step), [&](ssize_t it) { result = it; });
        run_until(reactor, [&] { return result.has_value(); });
        return *result;
    }
    ssize_t log_in(const std::string& key) {
        return run([this, key] {
            return libssh2_userauth_publickey_fromfile(session->get(), variable("EMBEDDING_USER").c_str(),
                                                       (key + ".pub").c_str(), key.c_str(), "");
        });
    }
    std::string output_of(const char* command) {
        LIBSSH2_CHANNEL* channel = nullptr;
        CHECK(run([&]() -> ssize_t {
                  channel = libssh2_channel_open_session(session->get());
                  return channel != nullptr ? 0 : libssh2_session_last_errno(session->get());
              }) == 0);
        CHECK(run([&] { return libssh2_channel_exec(channel, command); }) == 0);
        std::string output;
        char buffer[16384];
        while (const ssize_t size = run([&] { return libssh2_channel_read(channel, buffer, sizeof buffer); })) {
            REQUIRE(size > 0);
            output.append(buffer, std::size_t(size));
        }
        CHECK(run([&] { return libssh2_channel_free(channel); }) == 0);
        return output;
    }

    Reactor& reactor;
    Socket socket;
    std::optional<Ssh2Session> session;  // goes before the socket
};

}  // namespace

TEST_CASE("libssh2: a command runs on the other side, and its output arrives") {
    Reactor reactor;
    Client client(reactor);
    REQUIRE(client.log_in(variable("EMBEDDING_KEY")) == 0);
    CHECK(client.output_of("echo over ssh") == "over ssh\n");
    CHECK(client.output_of("head -c 3000000 /dev/zero").size() == 3'000'000);
    const Cost cost = cost_of(reactor, "libssh2: a channel, a command and its output", 3, [&] {
        for (int i = 0; i < 3; ++i) client.output_of("echo x");
    });
    CHECK(cost.iterations <= 40);
}

TEST_CASE("libssh2: a key that is not known is refused, and a session may go while it waits") {
    Reactor reactor;
    Client client(reactor);
    CHECK(client.log_in("/nowhere") != 0);
    client.session->run([] { return ssize_t(LIBSSH2_ERROR_EAGAIN); }, [](ssize_t) { FAIL("it is gone"); });
    CHECK_THROWS_AS(client.session->handshake([](ssize_t) {}), std::logic_error);
    reactor.run_once(Duration::zero());
    client.session.reset();
    CHECK(reactor.run_once(Duration::zero()) == 0);
}
