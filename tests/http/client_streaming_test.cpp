// The client of HTTP with content in parts, cancelled calls, redirects and proxies, over a network in memory.
#include "client_world.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>

using namespace reactor;
using namespace reactor::http;
using namespace std::chrono_literals;

namespace {

/// The parts of a response as text: "200 <part> <part> ." with "." for the last, or "! message".
struct PartsOutcome {
    Client::Parts note() {
        return {.head = [this](const Response& response) { text += std::to_string(response.status()); },
                .part =
                    [this](std::error_code error, Bytes part, bool last) {
                        if (error) text += " ! " + error.message();
                        if (!part.empty()) text += " " + std::string(text_of(part));
                        if (last) text += " .";
                        ++calls;
                    }};
    }
    std::string text;
    int calls = 0;
};

const std::string in_chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

}  // namespace

TEST_CASE("a response is given in parts as it comes, and has no limit then") {
    ClientOptions options;
    options.content = 1;
    ClientWorld world(std::move(options));
    PartsOutcome outcome;
    Call call = world.client->send({.url = "http://a/"}, outcome.note());
    world.network.settle();
    world.answer("HTTP/1.1 100 Continue\r\n\r\n" + in_chunks);
    CHECK(outcome.text == "200");
    world.answer("3\r\nabc\r\n");
    world.answer("2\r\nde\r\n0\r\n");
    CHECK(outcome.text == "200 abc de");
    CHECK(call.open());
    world.answer("\r\n");
    CHECK(outcome.text == "200 abc de .");
    CHECK_FALSE(call.open());
    CHECK(world.client->idle() == 1);

    PartsOutcome none, until_close, broken;
    call = world.client->send({.url = "http://a/"}, none.note());
    world.network.settle();
    world.answer("HTTP/1.1 204 No Content\r\n\r\n");
    CHECK(none.text == "204 .");
    call = world.client->send({.url = "http://a/"}, until_close.note());
    world.network.settle();
    world.answer("HTTP/1.1 200 OK\r\n\r\nabc");
    CHECK(until_close.text == "200 abc");
    world.side().transport().close();
    world.network.settle();
    CHECK(until_close.text == "200 abc .");
    call = world.client->send({.url = "http://a/"}, broken.note());
    world.network.settle();
    world.answer(in_chunks + "3\r\nab");
    world.side().transport().close();
    world.network.settle();
    CHECK(broken.text == "200 ab ! the stream ended inside a message .");
}

TEST_CASE("a paused call takes no content, so that the server has to wait") {
    ClientWorld world;
    PartsOutcome outcome;
    Call call = world.client->send({.url = "http://a/"}, outcome.note());
    world.network.settle();
    call.pause();
    const std::string content(4 * 1024 * 1024, 'x');
    world.side().write(ok(content));
    world.network.settle();
    CHECK(outcome.text == "200");
    CHECK(world.side().transport().queued() > 1024 * 1024);
    world.network.advance(1h);  // a pause is no silence of the server's
    CHECK(outcome.text == "200");
    call.resume();
    world.network.settle();
    CHECK(outcome.text.size() > content.size());
    CHECK(outcome.text.ends_with(" ."));

    // A call may be paused by its own callback.
    std::string got;
    call = world.client->send({.url = "http://a/"}, Client::Parts{.part = [&](std::error_code, Bytes part, bool) {
                                  got += text_of(part);
                                  call.pause();
                              }});
    world.network.settle();
    world.answer(in_chunks + "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
    CHECK(got == "a");
    call.resume();
    world.network.settle();
    CHECK(got == "ab");
    call.resume();
    world.network.settle();
    CHECK_FALSE(call.open());
}

TEST_CASE("content is sent in parts: in chunks, or with a length") {
    ClientWorld world;
    Outcome outcome;
    ClientRequest request{.method = "POST", .url = "http://a/", .in_parts = true};
    Call call = world.client->send(request, outcome.note());
    CHECK_FALSE(call.write("too early"));
    int writable = 0;
    call.on_writable([&] {
        ++writable;
        CHECK(call.write("abc"));
        CHECK(call.write(""));
        CHECK(call.write("de"));
        call.end();
        CHECK_FALSE(call.write("too late"));
        call.end();
    });
    world.network.settle();
    CHECK(writable == 1);
    CHECK(world.side().take() ==
          "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    world.answer(ok("x"));
    CHECK(outcome.text == "200 x");
    CHECK(world.client->idle() == 1);

    request.length = 3;
    call = world.client->send(request, outcome.note());
    world.network.settle();
    CHECK_THROWS_AS((void)call.write("abcd"), std::logic_error);
    CHECK(call.write("ab"));
    CHECK_THROWS_AS(call.end(), std::logic_error);
    CHECK(call.write("c"));
    call.end();
    world.network.settle();
    CHECK(world.side().take() == "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    world.answer(ok(""));
    CHECK(world.client->idle() == 1);
    CHECK(world.accepted == 1);
    call = world.client->get("http://a/", outcome.note());
    CHECK_THROWS_AS((void)call.write("x"), std::logic_error);
}

TEST_CASE("a producer of content goes on when the server has taken it") {
    ClientWorld world;
    Outcome outcome;
    Call call = world.client->send({.method = "POST", .url = "http://a/", .in_parts = true}, outcome.note());
    const std::string part(10'000, 'x');
    int left = 200;
    std::size_t most_queued = 0;
    call.on_writable([&] {
        while (left > 0 && call.queued() <= 128 * 1024) {
            call.write(part);
            --left;
            most_queued = std::max(most_queued, call.queued());
        }
        if (left == 0) call.end();
    });
    world.network.settle();
    CHECK(left == 0);
    CHECK(most_queued < 150'000);
    const std::string heard = world.side().take();
    CHECK(std::count(heard.begin(), heard.end(), 'x') == 2'000'000);
    CHECK(heard.ends_with("\r\n0\r\n\r\n"));
}

TEST_CASE("an answer that comes before the content is over ends the sending, and the connection") {
    ClientWorld world;
    Outcome outcome;
    Call call = world.client->send({.method = "POST", .url = "http://a/", .in_parts = true}, outcome.note());
    world.network.settle();
    CHECK(call.write("a"));
    world.answer("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    CHECK(outcome.text == "413 ");
    CHECK_FALSE(call.write("b"));
    CHECK(world.client->connections() == 0);
}

TEST_CASE("content may still be sent while a response comes that says success") {
    ClientWorld world;
    PartsOutcome outcome;
    Call call = world.client->send({.method = "POST", .url = "http://a/", .in_parts = true}, outcome.note());
    world.network.settle();
    CHECK(call.write("a"));
    world.answer(in_chunks + "1\r\nb\r\n");
    CHECK(call.write("c"));
    call.end();
    world.network.settle();
    CHECK(world.side().take().ends_with("1\r\na\r\n1\r\nc\r\n0\r\n\r\n"));
    world.answer("0\r\n\r\n");
    CHECK(outcome.text == "200 b .");
    CHECK(world.client->idle() == 1);
}

TEST_CASE("a server is asked before content is sent, if the request says so") {
    ClientWorld world;
    Outcome outcome;
    const ClientRequest request{.method = "POST", .url = "http://a/", .content = "abc", .expects_continue = true};
    Call call = world.client->send(request, outcome.note());
    world.network.settle();
    CHECK(world.side().take() == "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    world.answer("HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(world.side().take() == "abc");
    world.answer(ok("x"));
    CHECK(outcome.text == "200 x");

    call = world.client->send(request, outcome.note());
    world.network.settle();
    world.side().take();
    world.network.advance(1s);  // a server that does not know the question
    CHECK(world.side().take() == "abc");
    world.answer(ok("y"));
    CHECK(outcome.text == "200 y");
    CHECK(world.accepted == 1);

    call = world.client->send(request, outcome.note());
    world.network.settle();
    world.side().take();
    world.answer("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
    CHECK(outcome.text == "417 ");
    CHECK(world.client->connections() == 0);

    ClientRequest in_parts{
        .method = "PUT", .url = "http://a/", .in_parts = true, .length = 1, .expects_continue = true};
    call = world.client->send(in_parts, outcome.note());
    bool writable = false;
    call.on_writable([&] { writable = true; });
    world.network.settle();
    CHECK_FALSE(writable);
    CHECK_FALSE(call.write("x"));
    world.answer("HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(writable);
    CHECK(call.write("x"));
}

// ── cancelled ──

TEST_CASE("a cancelled call calls nothing, and resets the connection that waits for its answer") {
    for (const int place : {0, 1, 2, 3, 4, 5}) {
        CAPTURE(place);
        ClientWorld world;
        Outcome outcome;
        Call call = world.client->get("http://a/", outcome.note());
        if (place > 0) world.network.settle();
        if (place > 1) world.answer("HTTP/1.1 1");
        if (place > 2) world.answer("00 Continue\r\n\r\nHTTP/1.1 200 OK\r\n");
        if (place > 3) world.answer("Content-Length: 3\r\n\r\n");
        if (place > 4) world.answer("ab");
        call = Call();
        world.network.settle();
        CHECK(outcome.calls == 0);
        CHECK(world.client->idle() == (place == 0 ? 1 : 0));  // one that was on its way is kept
        CHECK(world.client->connections() == world.client->idle());
        Outcome next;
        call = world.client->get("http://a/", next.note());
        world.network.settle();
        world.answer(ok("x"));
        CHECK(next.text == "200 x");
    }
}

TEST_CASE("a callback may cancel its call, ask again, and destroy the client") {
    for (const bool whole_client : {false, true}) {
        for (const int place : {0, 1, 2}) {
            CAPTURE(whole_client);
            CAPTURE(place);
            ClientWorld world;
            Outcome other;
            std::optional<Call> call, waiting;
            int calls = 0;
            const auto end = [&](int here) {
                ++calls;
                if (here != place) return;
                whole_client ? world.client.reset() : call.reset();
            };
            call = world.client->send(
                {.url = "http://a/"},
                Client::Parts{.head = [&](const Response&) { end(0); },
                              .part = [&](std::error_code, Bytes, bool last) { end(last ? 2 : 1); }});
            world.network.add("b");
            world.network.delay("b", Duration::max());
            waiting = world.client->get("http://b/", other.note());
            world.network.settle();
            world.answer(in_chunks + "1\r\na\r\n0\r\n\r\n");
            CHECK(calls == place + 1);
            CHECK(other.calls == 0);
            CHECK(waiting->open() == !whole_client);
        }
    }
    ClientWorld world;
    std::string order;
    Call first, second;
    first = world.client->get("http://a/", [&](std::error_code, const Response& response) {
        order += response.content();
        second = world.client->get("http://a/", [&](std::error_code, const Response& next) {
            order += next.content();
            world.client.reset();
        });
    });
    world.network.settle();
    world.answer(ok("1"));
    world.answer(ok("2"));
    CHECK(order == "12");
    CHECK(world.accepted == 1);
}

TEST_CASE("a client that goes calls nothing any more, and calls may outlive it") {
    ClientOptions options;
    options.connections = 1;
    ClientWorld world(std::move(options));
    Outcome outcome;
    Call one = world.client->get("http://a/", outcome.note());
    Call two = world.client->get("http://a/", outcome.note());
    world.network.settle();
    Call three = world.client->get("http://b/", outcome.note());
    world.client.reset();
    world.network.settle();
    CHECK(outcome.calls == 0);
    CHECK_FALSE(one.open());
    CHECK_FALSE(one.write("x"));
    one.pause();
    one.resume();
    one.on_writable([] {});
    one.end();
    CHECK(one.queued() == 0);
    CHECK(world.sides.empty());
}

// ── redirects ──

namespace {

std::string redirect(int status, std::string_view location, std::string_view content = "") {
    return "HTTP/1.1 " + std::to_string(status) + " Moved\r\nLocation: " + std::string(location) +
           "\r\nContent-Length: " + std::to_string(content.size()) + "\r\n\r\n" + std::string(content);
}

}  // namespace

TEST_CASE("a redirect is followed over the same connection, and its content thrown away") {
    ClientWorld world;
    std::string url;
    const Call call = world.client->get("http://a/b/c?d", [&](std::error_code error, const Response& response) {
        CHECK_FALSE(error);
        url = response.url();
    });
    world.network.settle();
    world.side().take();
    world.answer(redirect(302, "../e", "gone"));
    CHECK(world.side().take() == "GET /e HTTP/1.1\r\nHost: a\r\n\r\n");
    world.answer(ok("x"));
    CHECK(url == "http://a/e");
    CHECK(world.accepted == 1);
}

TEST_CASE("the method after a redirect is as RFC 9110 says, and content goes with it") {
    struct Case {
        int status;
        const char* method;
        const char* then;
        bool with_content;
    };
    for (const Case& each : std::initializer_list<Case>{{301, "GET", "GET", true},
                                                        {301, "POST", "GET", false},
                                                        {302, "POST", "GET", false},
                                                        {302, "PUT", "PUT", true},
                                                        {303, "PUT", "GET", false},
                                                        {303, "HEAD", "HEAD", true},
                                                        {307, "POST", "POST", true},
                                                        {308, "POST", "POST", true},
                                                        {308, "DELETE", "DELETE", true}}) {
        CAPTURE(each.status);
        CAPTURE(each.method);
        ClientWorld world;
        Outcome outcome;
        const Call call = world.client->send({.method = each.method,
                                              .url = "http://a/",
                                              .fields = {{"Content-Language", "en"}, {"A", "b"}},
                                              .content = "abc",
                                              .type = "text/x"},
                                             outcome.note());
        world.network.settle();
        world.side().take();
        world.answer("HTTP/1.1 " + std::to_string(each.status) + " Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n");
        const std::string content = "Content-Type: text/x\r\nContent-Length: 3\r\n\r\nabc";
        CHECK(world.side().take() ==
              std::string(each.then) + " /x HTTP/1.1\r\nHost: a\r\n" +
                  (each.with_content ? "Content-Language: en\r\nA: b\r\n" + content : "A: b\r\n\r\n"));
    }
}

TEST_CASE("what is no redirect, or is not to be followed, is a response like any other") {
    for (const char* answer : {"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
                               "HTTP/1.1 300 Choices\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
                               "HTTP/1.1 304 Same\r\nLocation: /x\r\n\r\n",
                               "HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"}) {
        ClientWorld world;
        Outcome outcome;
        const Call call = world.client->get("http://a/", outcome.note());
        world.network.settle();
        world.answer(answer);
        CHECK(outcome.text == std::string(answer).substr(9, 3) + " ");
    }
    ClientWorld world({.redirects = 0});
    Outcome outcome;
    Call call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    world.answer(redirect(302, "/x", "see there"));
    CHECK(outcome.text == "302 see there");
    world.renew({});
    call = world.client->send({.method = "POST", .url = "http://a/", .in_parts = true}, outcome.note());
    world.network.settle();
    call.end();
    world.answer(redirect(307, "/x"));
    CHECK(outcome.text == "307 ");  // its content is gone
    call = world.client->send({.method = "POST", .url = "http://a/", .in_parts = true}, outcome.note());
    world.network.settle();
    call.end();
    world.answer(redirect(303, "/x"));
    CHECK(world.side().take().ends_with("GET /x HTTP/1.1\r\nHost: a\r\n\r\n"));
}

TEST_CASE("redirects that lead nowhere end the call") {
    ClientOptions options;
    options.redirects = 3;
    options.secure = [](const std::string&, std::unique_ptr<Protocol> inside) { return inside; };
    ClientWorld world(std::move(options));
    world.listen("a", 443);
    Outcome outcome;
    Call call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    for (int i = 0; i < 4; ++i) world.answer(redirect(302, "/"));
    CHECK(outcome.reason == Problem::too_many_redirects);
    for (const char* location : {"ftp://b/", "http://", "x y", "http://u@b/"}) {
        call = world.client->get("http://a/", outcome.note());
        world.network.settle();
        world.answer(redirect(302, location));
        CHECK(outcome.reason == Problem::bad_redirect);
    }
    call = world.client->get("https://a/", outcome.note());
    world.network.settle();
    world.answer(redirect(302, "http://a/"));
    CHECK(outcome.reason == Problem::bad_redirect);
    CHECK(outcome.calls == 6);
    call = world.client->get("https://a/", outcome.note());
    world.network.settle();
    world.answer(redirect(302, "/x"));
    CHECK(world.side().take().find("GET /x HTTP/1.1\r\nHost: a\r\n\r\n") != std::string::npos);
    world.renew({});
    call = world.client->get("http://a/", outcome.note());
    world.network.settle();
    world.answer(redirect(302, "https://a/"));
    CHECK(outcome.reason == std::errc::protocol_not_supported);
}

TEST_CASE("credentials go to the origin of the first URL alone") {
    ClientWorld world;
    world.listen("b");
    Outcome outcome;
    const Call call = world.client->send(
        {.url = "http://a/", .fields = {{"authorization", "x"}, {"Cookie", "y"}, {"A", "z"}}}, outcome.note());
    world.network.settle();
    CHECK(world.side().take() == "GET / HTTP/1.1\r\nHost: a\r\nauthorization: x\r\nCookie: y\r\nA: z\r\n\r\n");
    world.answer(redirect(302, "http://b/"));
    CHECK(world.side().take() == "GET / HTTP/1.1\r\nHost: b\r\nA: z\r\n\r\n");
}

TEST_CASE("content of a redirect that is long, broken or endless does not keep the client from following it") {
    for (const std::string& answer :
         {redirect(302, "/x", std::string(100'000, 'x')),
          std::string("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n") + std::string(100'000, 'x'),
          std::string("HTTP/1.1 302 Found\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\nbad\n")}) {
        ClientWorld world;
        Outcome outcome;
        const Call call = world.client->get("http://a/", outcome.note());
        world.network.settle();
        world.answer(answer);
        CHECK(world.accepted == 2);
        world.answer(ok("there"));
        CHECK(outcome.text == "200 there");
    }
}

// ── proxies ──

TEST_CASE("http is asked of a proxy by the whole URL, and https through a tunnel") {
    ClientOptions options;
    options.proxy = "http://proxy:3128";
    std::string host;
    options.secure = [&](const std::string& name, std::unique_ptr<Protocol> inside) {
        host = name;
        return inside;
    };
    ClientWorld world(std::move(options));
    world.listen("proxy", 3128);
    Outcome outcome;
    Call call = world.client->get("http://b:81/x", outcome.note());
    world.network.settle();
    CHECK(world.side().take() == "GET http://b:81/x HTTP/1.1\r\nHost: b:81\r\n\r\n");
    world.answer(ok("1"));
    CHECK(outcome.text == "200 1");

    call = world.client->get("https://b/x", outcome.note());
    world.network.settle();
    CHECK(world.side().take() == "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n");
    for (const char* piece : {"HTTP/1.1 103 Hints\r\n\r\n", "HTTP/1.1 200 Esta", "blished\r\n\r", "\n"})
        world.answer(piece);
    CHECK(host == "b");
    CHECK(world.side().take() == "GET /x HTTP/1.1\r\nHost: b\r\n\r\n");
    world.answer(ok("2"));
    CHECK(outcome.text == "200 2");
    call = world.client->get("https://b/y", outcome.note());
    world.network.settle();
    CHECK(world.side().take() == "GET /y HTTP/1.1\r\nHost: b\r\n\r\n");
    CHECK(world.accepted == 2);
}

TEST_CASE("a proxy that refuses, that is silent, or that makes no sense ends the call") {
    ClientOptions options;
    options.proxy = "http://proxy:3128";
    options.secure = [](const std::string&, std::unique_ptr<Protocol> inside) { return inside; };
    options.timeout = Duration::zero();
    ClientWorld world(std::move(options));
    world.listen("proxy", 3128);
    const auto outcome_of = [&](std::string_view answer, Duration time = Duration::zero()) {
        Outcome outcome;
        const Call call = world.client->get("https://b/x", outcome.note());
        world.network.settle();
        if (!answer.empty()) world.answer(answer);
        if (answer == "close") world.side().transport().close();
        world.network.advance(time);
        CHECK(world.client->connections() == 0);
        return outcome.reason;
    };
    CHECK(outcome_of("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") == Problem::refused_by_proxy);
    CHECK(outcome_of("nonsense\r\n") == Problem::bad_version);
    CHECK(outcome_of("", 31s) == std::errc::timed_out);
    for (const char* proxy : {"proxy", "https://proxy/"})
        CHECK_THROWS_AS(world.renew({.proxy = proxy}), std::invalid_argument);
}
