// The client of HTTP over a network in memory: one request and its answer, the pool, redirects, repeated requests.
#include "client_world.hpp"
#include "http_cases.hpp"

#include <reactor/testing/cuts.hpp>

#include <stdexcept>

using namespace reactor;
using namespace reactor::http;
using namespace std::chrono_literals;

TEST_CASE("a client asks for a path and gives status, fields, content and URL") {
    ClientWorld world;
    Response kept;
    const Call call = world.client->get("http://A/x?y#z", [&](std::error_code error, Response response) {
        CHECK_FALSE(error);
        kept = std::move(response);
    });
    CHECK(call.open());
    world.network.settle();
    CHECK(world.side().take() == "GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    world.answer(ok("hello", "Server: test\r\nX: 1\r\nX: 2\r\n"));
    CHECK_FALSE(call.open());
    CHECK(kept.status() == 200);
    CHECK(kept.successful());
    CHECK(kept.reason() == "OK");
    CHECK(kept["server"] == "test");
    CHECK(kept.fields().count("x") == 2);
    CHECK(kept.url() == "http://a/x?y");
    CHECK(kept.content() == "hello");
    const Response moved = std::move(kept);
    CHECK(moved["Server"] == "test");
}

namespace {

/// What a client makes of a case: of the first final response of the stream.
std::string expected(std::string_view outcome) {
    const auto error_from = [&](std::size_t at) { return "! " + std::string(outcome.substr(at + 1)); };
    if (outcome.starts_with('!')) return error_from(0);
    if (outcome.starts_with("101:")) return "! " + std::make_error_code(std::errc::protocol_error).message();
    std::size_t at = 0;
    while (outcome[at] == '1') {
        do at = outcome.find(' ', at) + 1;
        while (outcome.substr(at + 3, 1) != ":");
    }
    const std::string_view final = outcome.substr(at);
    if (const std::size_t error = final.find(" !"); error != std::string_view::npos) return error_from(at + error + 1);
    const std::size_t plus = final.find('+');
    if (plus == std::string_view::npos) return std::string(final.substr(0, 3)) + " ";
    return std::string(final.substr(0, 3)) + " " +
           std::string(final.substr(plus + 1, final.find_first_of("- ", plus) - plus - 1));
}

}  // namespace

TEST_CASE("a client understands every response as the clause says, in whatever pieces it arrives") {
    ClientWorld world;
    for (const http_cases::Case& each : http_cases::responses()) {
        CAPTURE(each.clause);
        CAPTURE(each.input);
        const auto run = [&](std::span<const Bytes> pieces) {
            Outcome outcome;
            const Call call = world.client->get("http://a/", outcome.note());
            world.network.settle();
            ClientWorld::Side* const side = world.sides.back();
            for (const Bytes piece : pieces) {
                if (world.sides.empty() || world.sides.back() != side) break;
                side->transport().write(piece);
                world.network.settle();
            }
            if (!world.sides.empty() && world.sides.back() == side) side->transport().close();
            world.network.settle();
            CHECK(outcome.calls == 1);
            return outcome.text;
        };
        const Bytes whole = bytes_of(each.input);
        CHECK(run({&whole, 1}) == expected(each.outcome));
        CHECK_NOTHROW(testing::check_every_cut(each.input, run, 40, 1));
    }
    CHECK(world.client->connections() == 0);
}

TEST_CASE("a connection carries one request after another, and is kept between them") {
    ClientWorld world;
    Outcome first, second;
    const Call one = world.client->get("http://a/1", first.note());
    world.network.settle();
    CHECK(world.client->idle() == 0);
    world.answer(ok("1"));
    CHECK(world.client->idle() == 1);
    const Call two = world.client->get("http://a/2", second.note());
    world.network.settle();
    world.answer(ok("2"));
    CHECK(first.text == "200 1");
    CHECK(second.text == "200 2");
    CHECK(world.accepted == 1);
    world.network.advance(59s);
    CHECK(world.client->connections() == 1);
    world.network.advance(2s);
    CHECK(world.client->connections() == 0);
    CHECK(world.sides.empty());
}

TEST_CASE("requests beyond the connections wait for one, in their order") {
    ClientOptions options;
    options.connections = 2;
    ClientWorld world(std::move(options));
    std::vector<Outcome> outcomes(5);
    std::vector<Call> calls;
    for (Outcome& outcome : outcomes) calls.push_back(world.client->get("http://a/", outcome.note()));
    world.network.settle();
    CHECK(world.accepted == 2);
    CHECK(world.client->waiting() == 3);
    calls[3] = Call();
    CHECK(world.client->waiting() == 2);
    for (int turn = 0; turn < 2; ++turn) {
        const std::vector<ClientWorld::Side*> sides = world.sides;
        for (ClientWorld::Side* side : sides) side->write(ok("x"));
        world.network.settle();
    }
    CHECK(world.accepted == 2);
    for (std::size_t i = 0; i < 5; ++i) CHECK(outcomes[i].text == (i == 3 ? "" : "200 x"));
    CHECK_THROWS_AS(world.renew({.connections = 0}), std::invalid_argument);
}

TEST_CASE("connections without a request are bounded over all servers: the oldest closes") {
    ClientOptions options;
    options.idle = 2;
    ClientWorld world(std::move(options));
    for (const char* name : {"b", "c"}) world.listen(name);
    for (const char* url : {"http://a/", "http://b/", "http://c/"}) {
        Outcome outcome;
        const Call call = world.client->get(url, outcome.note());
        world.network.settle();
        world.answer(ok("x"));
        world.network.advance(1s);
    }
    CHECK(world.client->idle() == 2);
    Outcome again;
    const Call call = world.client->get("http://b/", again.note());
    world.network.settle();
    CHECK(world.accepted == 3);
}

TEST_CASE("more requests than may wait are refused, from the loop") {
    ClientOptions options;
    options.connections = 1;
    ClientWorld world(std::move(options));
    std::vector<Call> calls;
    Outcome last;
    for (std::size_t i = 0; i < Client::most_waiting; ++i)
        calls.push_back(world.client->get("http://a/", [](std::error_code, const Response&) {}));
    calls.push_back(world.client->get("http://a/", last.note()));
    CHECK(last.calls == 0);
    world.network.settle();
    CHECK(last.reason == std::errc::resource_unavailable_try_again);
}

TEST_CASE("a connection that the server closed while nothing was asked is not used again") {
    ClientWorld world;
    Outcome first, second;
    const Call one = world.client->get("http://a/", first.note());
    world.network.settle();
    world.answer(ok("1"));
    world.side().transport().close();
    world.network.settle();
    CHECK(world.client->connections() == 0);
    ClientRequest post{.method = "POST", .url = "http://a/", .content = "x"};
    const Call two = world.client->send(std::move(post), second.note());
    world.network.settle();
    world.answer(ok("2"));
    CHECK(second.text == "200 2");
    CHECK(world.accepted == 2);
}

TEST_CASE(
    "a server that says it closes, or that writes what nothing asked for, is not asked again on that connection") {
    for (const std::string& answer : {ok("1", "Connection: close\r\n"), ok("1") + "HTTP/1.1 200 OK\r\n",
                                      std::string("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1")}) {
        CAPTURE(answer);
        ClientWorld world;
        Outcome outcome;
        const Call call = world.client->get("http://a/", outcome.note());
        world.network.settle();
        world.answer(answer);
        CHECK(outcome.text == "200 1");
        CHECK(world.client->connections() == 0);
    }
    ClientWorld world;
    Outcome outcome;
    const Call call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    world.answer(ok("1"));
    world.answer("HTTP/1.1 408 Request Timeout\r\n\r\n");
    CHECK(world.client->connections() == 0);
}

namespace {

/// The second request on a connection gets no answer: the server reads it and hangs up.
std::string after_hang_up(ClientRequest request, int& accepted) {
    ClientWorld world;
    Outcome first, second;
    const Call one = world.client->get("http://a/", first.note());
    world.network.settle();
    world.answer(ok("1"));
    request.url = "http://a/";
    const Call two = world.client->send(std::move(request), second.note());
    world.network.settle();
    world.side().transport().close();
    world.network.settle();
    if (world.accepted == 2) {
        if (second.calls == 0) world.answer(ok("2"));
        world.network.settle();
    }
    accepted = world.accepted;
    return second.text;
}

}  // namespace

TEST_CASE("a request on a kept connection that ends without an answer is sent once more, if it is idempotent") {
    int accepted = 0;
    for (const char* method : {"GET", "OPTIONS", "PUT", "DELETE"}) {
        CHECK(after_hang_up({.method = method}, accepted) == "200 2");
        CHECK(accepted == 2);
    }
    for (const char* method : {"POST", "PATCH", "get", "OTHER"}) {
        CHECK(after_hang_up({.method = method}, accepted) == "! Connection reset by peer");
        CHECK(accepted == 1);
    }
    CHECK(after_hang_up({.method = "POST", .content = "x", .repeatable = true}, accepted) == "200 2");
}

TEST_CASE("a request is not sent a third time, nor a second time over a fresh connection") {
    ClientWorld world;
    Outcome outcome;
    Call call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    world.side().transport().close();
    world.network.settle();
    CHECK(outcome.text == "! Connection reset by peer");
    CHECK(world.accepted == 1);

    call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    world.answer(ok("1"));
    call = world.client->get("http://a/", outcome.note());
    for (int i = 0; i < 2; ++i) {
        world.network.settle();
        world.side().transport().close();
    }
    world.network.settle();
    CHECK(outcome.text == "! Connection reset by peer");
    CHECK(world.accepted == 3);
}

TEST_CASE("a request is not sent a third time over a connection that another one has just left") {
    ClientWorld world;
    Outcome first, second;
    Call one = world.client->get("http://a/", first.note());
    Call two = world.client->get("http://a/", second.note());
    world.network.settle();
    for (ClientWorld::Side* side : std::vector(world.sides)) side->write(ok("x"));
    world.network.settle();
    CHECK(world.client->idle() == 2);
    for (ClientWorld::Side* side : world.sides) side->take();
    one = world.client->get("http://a/1", first.note());
    two = world.client->get("http://a/2", second.note());
    world.network.settle();
    world.network.delay("a", std::chrono::seconds(1));
    const bool first_has_one = world.sides[0]->heard.starts_with("GET /1 ");
    ClientWorld::Side* const of_one = world.sides[first_has_one ? 0 : 1];
    world.sides[first_has_one ? 1 : 0]->transport().close();
    world.network.settle();
    CHECK(second.calls == 1);  // it waits for another connection
    of_one->write(ok("1"));
    world.network.settle();
    CHECK(of_one->take().ends_with("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"));
    of_one->transport().close();
    world.network.settle();
    CHECK(second.text == "! Connection reset by peer");
}

TEST_CASE("a request is sent again over a new connection, as the kept ones may be just as dead") {
    ClientWorld world;
    Outcome first, second;
    Call one = world.client->get("http://a/", first.note());
    Call two = world.client->get("http://a/", second.note());
    world.network.settle();
    for (ClientWorld::Side* side : std::vector(world.sides)) {
        side->take();
        side->write(ok("x"));
    }
    world.network.settle();
    CHECK(world.client->idle() == 2);
    one = world.client->get("http://a/", first.note());
    world.network.settle();
    world.sides[world.sides[0]->heard.empty() ? 1 : 0]->transport().close();
    world.network.settle();
    CHECK(world.accepted == 3);
    CHECK(world.sides.size() == 1);
    world.answer(ok("again"));
    CHECK(first.text == "200 again");
}

TEST_CASE("a request whose answer has begun is not sent again") {
    ClientWorld world;
    Outcome outcome;
    Call call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    world.answer(ok("1"));
    call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    world.answer("HTTP/1.1 2");
    world.side().transport().close();
    world.network.settle();
    CHECK(outcome.text == "! the stream ended inside a message");
    CHECK(world.accepted == 1);
}

TEST_CASE("a server that cannot be reached fails one request for each try") {
    ClientWorld world;
    world.network.add("nobody");
    Outcome refused, unknown, two;
    const Call one = world.client->get("http://nobody/", refused.note());
    const Call other = world.client->get("http://nobody/", two.note());
    const Call third = world.client->get("http://who.is.this/", unknown.note());
    world.network.settle();
    CHECK(refused.reason == std::errc::connection_refused);
    CHECK(two.reason == std::errc::connection_refused);
    CHECK(unknown.calls == 1);
    CHECK(unknown.reason);
    CHECK(world.client->connections() == 0);
}

TEST_CASE("a server that is silent, before its head or inside its content, ends the call in time") {
    ClientWorld world;
    Outcome outcome;
    Call call = world.client->get("http://a/", outcome.note());
    world.network.advance(29s);
    world.answer("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200");
    CHECK(outcome.calls == 0);
    world.network.advance(2s);
    CHECK(outcome.reason == std::errc::timed_out);
    CHECK(world.client->connections() == 0);

    call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    world.answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na");
    world.network.advance(59s);
    world.answer("b");
    world.network.advance(59s);
    CHECK(outcome.calls == 1);
    world.network.advance(2s);
    CHECK(outcome.reason == Error::receive_timeout);

    world.network.delay("a", Duration::max());
    call = world.client->get("http://a/", outcome.note());
    world.network.advance(31s);
    CHECK(outcome.reason == std::errc::timed_out);
    CHECK(outcome.calls == 3);
}

TEST_CASE("content and heads beyond their limits end the call") {
    ClientOptions options;
    options.content = 3;
    options.head.head = 100;
    ClientWorld world(std::move(options));
    const auto outcome_of = [&](std::string_view answer) {
        Outcome outcome;
        const Call call = world.client->get("http://a/", outcome.note());
        world.network.settle();
        world.answer(answer);
        return outcome.text;
    };
    CHECK(outcome_of(ok("abc")) == "200 abc");
    CHECK(outcome_of(ok("abcd")) == "! the content is too long");
    CHECK(outcome_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\n") ==
          "! the content is too long");
    CHECK(outcome_of("HTTP/1.1 200 OK\r\n\r\nabcd") == "! the content is too long");
    CHECK(outcome_of(ok("", "X: " + std::string(100, 'x') + "\r\n")) == "! the header fields are too long");
}

TEST_CASE("HEAD has no content, whatever its fields say, and the connection is kept") {
    ClientWorld world;
    Outcome outcome;
    Call call = world.client->send({.method = "HEAD", .url = "http://a/"}, outcome.note());
    world.network.settle();
    CHECK(world.side().take() == "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.answer("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    CHECK(outcome.text == "200 ");
    CHECK(world.client->idle() == 1);
}

TEST_CASE("a request has its fields, its type and its length, and nothing that would break the message") {
    ClientWorld world;
    Outcome outcome;
    const auto sent = [&](ClientRequest request) {
        request.url = "http://a:80/";
        const Call call = world.client->send(std::move(request), outcome.note());
        world.network.settle();
        const std::string text = world.side().take();
        world.answer(ok(""));
        return text;
    };
    CHECK(sent({.method = "POST", .fields = {{"A", "b"}}, .content = "xy", .type = "text/plain"}) ==
          "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nxy");
    CHECK(sent({.method = "PUT"}) == "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    CHECK(sent({.method = "DELETE"}) == "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
    const auto refused = [&](ClientRequest request) {
        if (request.url.empty()) request.url = "http://a/";
        CHECK_THROWS_AS((void)world.client->send(std::move(request), outcome.note()), std::invalid_argument);
    };
    refused({.method = "G T"});
    refused({.method = ""});
    refused({.method = "CONNECT"});
    refused({.fields = {{"a b", ""}}});
    refused({.fields = {{"a", "b\r\nc: d"}}});
    for (const char* name : {"host", "Connection", "Content-Length", "transfer-encoding", "Expect", "Upgrade", "TE"})
        refused({.fields = {{name, "x"}}});
    refused({.type = "a\nb"});
    refused({.content = "x", .in_parts = true});
    refused({.length = 3});
    for (const char* url :
         {"", "a", "ftp://a/", "http:/a", "http://", "http://u@a/", "http://a:x/", "http://a b/", "https://a/"})
        CHECK_THROWS_AS((void)world.client->get(url, outcome.note()), std::invalid_argument);
    CHECK_THROWS_AS((void)world.client->get("http://a/", nullptr), std::invalid_argument);
    CHECK(world.client->waiting() == 0);
}

TEST_CASE("http::get asks once, with a client of its own that keeps no connection") {
    ClientWorld world;
    Outcome outcome;
    const Call call = http::get(world.network.reactor(), "http://a/", outcome.note());
    world.network.settle();
    CHECK(world.side().take() == "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    world.answer(ok("x"));
    CHECK(outcome.text == "200 x");
    CHECK(world.sides.empty());
}

TEST_CASE("a client that keeps no connection sends no second request behind its Connection: close") {
    ClientOptions options;
    options.connections = 1;
    options.idle = 0;
    ClientWorld world(std::move(options));
    Outcome first, second;
    const Call one = world.client->get("http://a/", first.note());
    const Call two = world.client->get("http://a/", second.note());
    world.network.settle();
    world.answer(ok("1"));  // which does not say that the server closes
    CHECK(first.text == "200 1");
    CHECK(world.accepted == 2);
    world.answer(ok("2"));
    CHECK(second.text == "200 2");
}

TEST_CASE("a connection to one address serves every URL") {
    ClientOptions options;
    options.address = "a";
    ClientWorld world(std::move(options));
    Outcome outcome;
    const Call call = world.client->get("http://anything.example/x", outcome.note());
    world.network.settle();
    CHECK(world.side().take() == "GET /x HTTP/1.1\r\nHost: anything.example\r\n\r\n");
}
