// Shared by the tests of the client: a network in memory, and servers whose answers the test writes itself.
#pragma once

#include <protocols/http/client.hpp>
#include <protocols/http/problem.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/testing/memory_network.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

/// Servers of every name and port that the test asks for, and one client.
struct ClientWorld {
    /// The server's side of one connection: it notes what comes, and the test answers.
    struct Side final : reactor::Protocol {
        explicit Side(ClientWorld& the_world) : world(the_world) {}
        void connected() override {
            world.sides.push_back(this);
            ++world.accepted;
        }
        std::size_t received(reactor::Bytes input) override {
            heard += reactor::text_of(input);
            return input.size();
        }
        void end_of_stream() override {
            ended = true;
            transport().close();
        }
        void disconnected(std::error_code) override { std::erase(world.sides, this); }
        /// All that came since the last time.
        std::string take() { return std::exchange(heard, {}); }
        void write(std::string_view text) { transport().write(text); }
        using Protocol::transport;
        ClientWorld& world;
        std::string heard;
        bool ended = false;
    };

    explicit ClientWorld(reactor::http::ClientOptions options = {}) { listen("a"), renew(std::move(options)); }

    void listen(std::string_view name, std::uint16_t port = 80) {
        acceptors.push_back(std::make_unique<reactor::Acceptor>(network.reactor(), name, port,
                                                                [this] { return std::make_unique<Side>(*this); }));
    }
    void renew(reactor::http::ClientOptions options) {
        client.reset();
        client = std::make_unique<reactor::http::Client>(network.reactor(), std::move(options));
    }
    /// The newest connection.
    Side& side() {
        REQUIRE_FALSE(sides.empty());
        return *sides.back();
    }
    /// The server writes this on its newest connection, and everything happens that follows from it.
    void answer(std::string_view text) {
        side().write(text);
        network.settle();
    }

    reactor::testing::MemoryNetwork network;
    std::vector<Side*> sides;
    int accepted = 0;
    std::vector<std::unique_ptr<reactor::Acceptor>> acceptors;
    std::unique_ptr<reactor::http::Client> client;
};

/// The outcome of a call as text: "200 content", or "! message".
struct Outcome {
    auto note() {
        return [this](std::error_code error, const reactor::http::Response& response) {
            ++calls;
            text = error ? "! " + error.message() : std::to_string(response.status()) + " " + response.content();
            reason = error;
        };
    }
    std::string text;
    std::error_code reason;
    int calls = 0;
};

inline std::string ok(std::string_view content, std::string_view fields = "") {
    return "HTTP/1.1 200 OK\r\n" + std::string(fields) + "Content-Length: " + std::to_string(content.size()) +
           "\r\n\r\n" + std::string(content);
}
