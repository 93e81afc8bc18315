// The coroutine form of the client, over a network in memory.
#include "client_world.hpp"

#include <protocols/http/client_coroutine.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>

#include <stdexcept>

using namespace reactor;
using namespace reactor::http;
using namespace std::chrono_literals;

namespace {

Task<> show(Client& client, std::string url, std::string& text) {
    const Result<Response> response = co_await client.get(url);
    text +=
        response ? std::to_string(response->status()) + " " + response->content() : "! " + response.error().message();
}

Task<> two_in_turn(Client& client, std::string& text) {
    co_await show(client, "http://a/1", text);
    text += ", ";
    co_await show(client, "http://a/2", text);
}

Task<> show_parts(Client& client, std::string& text, bool slowly) {
    ClientRequest request{.url = "http://a/"};
    Result<ResponseParts> parts = co_await client.open(std::move(request));
    if (!parts) {
        text += "! " + parts.error().message();
        co_return;
    }
    text += std::to_string(parts->response().status());
    for (;;) {
        if (slowly) co_await sleep(1s);
        const Result<Bytes> part = co_await parts->read();
        text += part ? " " + std::string(text_of(*part)) : " ! " + part.error().message();
        if (!part) co_return;
    }
}

Task<> impatient(Client& client, std::string& text) {
    ClientRequest request{.url = "http://a/"};
    Result<ResponseParts> parts = co_await client.open(std::move(request));
    for (;;) {
        const auto first = co_await first_of(parts->read(), sleep(1s));
        const auto* part = std::get_if<0>(&first);
        if (part == nullptr) {
            text += ".";
        } else if (*part) {
            text += text_of(**part);
        } else {
            co_return;
        }
    }
}

}  // namespace

TEST_CASE("a coroutine awaits a response, or the reason why there is none") {
    ClientWorld world;
    std::string text;
    Scope scope(world.network.reactor());
    scope.start(two_in_turn(*world.client, text));
    world.network.settle();
    world.answer(ok("x"));
    CHECK(text == "200 x, ");
    world.side().transport().close();
    world.network.settle();
    world.side().transport().close();
    world.network.settle();
    CHECK(text == "200 x, ! Connection reset by peer");
    CHECK(scope.size() == 0);
}

TEST_CASE("a coroutine that is destroyed cancels the request that it awaits") {
    ClientWorld world;
    std::string text;
    {
        Scope scope(world.network.reactor());
        scope.start(show(*world.client, "http://a/", text));
        world.network.settle();
        CHECK(world.client->connections() == 1);
    }
    CHECK(world.client->connections() == 0);
    Scope scope(world.network.reactor());
    scope.start(show_parts(*world.client, text, false));
    world.network.settle();
    world.answer("HTTP/1.1 200 OK\r\n\r\na");
    CHECK(text == "200 a");
    scope.cancel();
    CHECK(world.client->connections() == 0);
    world.network.settle();
}

TEST_CASE("a coroutine reads a response in parts, at its own pace") {
    for (const bool slowly : {false, true}) {
        CAPTURE(slowly);
        ClientWorld world;
        std::string text;
        Scope scope(world.network.reactor());
        scope.start(show_parts(*world.client, text, slowly));
        world.network.settle();
        world.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n");
        CHECK(text == (slowly ? "200" : "200 a bc"));
        world.network.advance(1s);
        CHECK(text == (slowly ? "200 a" : "200 a bc"));
        world.answer("0\r\n\r\n");
        world.network.advance(5s);
        CHECK(text == "200 a bc ! " + make_error_code(Error::end_of_stream).message());
        CHECK(world.client->idle() == 1);
    }
}

TEST_CASE("a coroutine is told how a response ended before its head, and inside its content") {
    ClientWorld world;
    std::string text;
    Scope scope(world.network.reactor());
    scope.start(show_parts(*world.client, text, false));
    world.network.settle();
    world.side().transport().close();
    world.network.settle();
    CHECK(text == "! Connection reset by peer");
    text.clear();
    scope.start(show_parts(*world.client, text, true));
    world.network.settle();
    world.answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab");
    world.side().transport().close();
    world.network.advance(5s);
    CHECK(text == "200 ab ! the stream ended inside a message");
}

TEST_CASE("a read of a part that is given up loses nothing") {
    ClientWorld world;
    std::string text;
    Scope scope(world.network.reactor());
    scope.start(impatient(*world.client, text));
    world.network.settle();
    world.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    world.network.advance(2s);
    world.answer("1\r\na\r\n");
    world.network.advance(1s);
    world.answer("1\r\nb\r\n0\r\n\r\n");
    CHECK(text == "..a.b");
    CHECK(scope.size() == 0);
}

TEST_CASE("a request that cannot be sent throws where it is awaited") {
    ClientWorld world;
    std::string text;
    Scope scope(world.network.reactor());
    scope.start([](Client& client, std::string& note) -> Task<> {
        try {
            (void)co_await client.get("ftp://a/");
        } catch (const std::invalid_argument&) {
            note = "refused";
        }
    }(*world.client, text));
    world.network.settle();
    CHECK(text == "refused");
}
