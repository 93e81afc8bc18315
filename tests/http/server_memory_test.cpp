// The server of HTTP over the memory transport: no socket, and every cut of the input.
#include "answers.hpp"
#include "http_cases.hpp"

#include <protocols/http/problem.hpp>
#include <protocols/http/server_connection.hpp>
#include <protocols/http/uri.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::http;
using namespace std::chrono_literals;
using testing::MemoryTransport;

namespace {

const std::string end_of_head = "Host: a\r\n\r\n";

std::string get(std::string_view target, std::string_view fields = "") {
    return "GET " + std::string(target) + " HTTP/1.1\r\n" + std::string(fields) + end_of_head;
}

/// One client in memory, and the service that it talks to.
struct ServedClient {
    explicit ServedClient(ServiceOptions options = {}) : service(std::make_shared<Service>(options)) {}

    MemoryTransport& connect() {
        transport = std::make_unique<MemoryTransport>(std::make_unique<ServerConnection>(service));
        return *transport;
    }
    std::string ask(std::string_view input) {
        if (transport == nullptr) connect();
        transport->feed(input);
        return take();
    }
    std::string take() { return without_date(transport->take()); }

    std::shared_ptr<Service> service;
    std::unique_ptr<MemoryTransport> transport;
};

/// Keeps its exchange for the test.
Handler keep(Exchange& kept) {
    return [&kept](const Request&, Exchange exchange) { kept = std::move(exchange); };
}

Handler say(std::string text) {
    return [text](const Request&, Exchange exchange) { exchange.answer(200, text); };
}

std::string answer(int status, std::string_view content, std::string_view more = "") {
    std::string text = "HTTP/1.1 " + std::to_string(status);
    text += status == 200   ? " OK\r\n"
            : status == 404 ? " Not Found\r\n"
            : status == 500 ? " Internal Server Error\r\n"
                            : " ?";
    text += "Content-Type: text/plain; charset=utf-8\r\nContent-Length: " + std::to_string(content.size()) + "\r\n";
    return text + std::string(more) + "\r\n" + std::string(content);
}

}  // namespace

TEST_CASE("a server answers with status, date, type and length") {
    ServedClient client;
    client.service->get("/", say("hello"));
    client.connect().feed(get("/"));
    const std::string output = client.transport->take();
    CHECK(without_date(output) == answer(200, "hello"));
    const std::size_t date = output.find("Date: ");
    REQUIRE(date != std::string::npos);
    CHECK(output.substr(date + 31, 5) == " GMT\r");
}

TEST_CASE("a route gives the decoded parts of the path that its parameters stand for") {
    ServedClient client;
    std::string seen;
    client.service->get("/users/{name}/files/{path...}", [&](const Request& request, Exchange exchange) {
        seen = std::string(request.parameter("name")) + "|" + std::string(request.parameter("path")) + "|" +
               std::string(request.parameter("other"));
        exchange.answer(204);
    });
    client.ask(get("/users/J%C3%BCrgen%2F/files/a/b%20c/"));
    CHECK(seen == "J\xc3\xbcrgen/|a/b c/|");
    for (const char* path : {"/users//files/x", "/users/a/files", "/users/a", "/users/a/file/x", "/users/%zz/files/x",
                             "/users/%00/files/x"}) {
        CAPTURE(path);
        CHECK(client.ask(get(path)) == answer(404, "not found\n"));
    }
}

TEST_CASE("a route without parameters goes before one with them, whatever their order") {
    ServedClient client;
    client.service->get("/{any}", say("pattern"));
    client.service->get("/exact", say("exact"));
    CHECK(client.ask(get("/exact")) == answer(200, "exact"));
    CHECK(client.ask(get("/else")) == answer(200, "pattern"));
    CHECK(client.ask(get("/exact?query")) == answer(200, "exact"));
    CHECK(client.ask(get("http://b/exact")) == answer(200, "exact"));
}

TEST_CASE("a method that a path does not have is answered with 405, and OPTIONS with the list") {
    ServedClient client;
    client.service->get("/x", say("x"));
    client.service->route("PUT", "/x", say("put"));
    CHECK(client.ask("DELETE /x HTTP/1.1\r\n" + end_of_head) ==
          "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 19\r\n"
          "Allow: OPTIONS, GET, HEAD, PUT\r\n\r\nmethod not allowed\n");
    CHECK(client.ask("OPTIONS /x HTTP/1.1\r\n" + end_of_head) ==
          "HTTP/1.1 204 No Content\r\nAllow: OPTIONS, GET, HEAD, PUT\r\n\r\n");
    CHECK(client.ask("OPTIONS * HTTP/1.1\r\n" + end_of_head) == "HTTP/1.1 204 No Content\r\n\r\n");
    CHECK(client.ask("CONNECT b:443 HTTP/1.1\r\n" + end_of_head) ==
          "HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n");
}

TEST_CASE("HEAD is answered as GET is, without the content") {
    ServedClient client;
    client.service->get("/", say("hello"));
    client.service->get("/parts", [](const Request&, Exchange exchange) {
        exchange.begin(200, "text/plain");
        exchange.write("hello");
        exchange.end();
    });
    const std::string head = answer(200, "hello");
    CHECK(client.ask("HEAD / HTTP/1.1\r\n" + end_of_head) == head.substr(0, head.size() - 5));
    CHECK(client.ask("HEAD /parts HTTP/1.1\r\n" + end_of_head) ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(client.ask(get("/")) == head);
}

TEST_CASE("requests that arrive together are answered in their order, with one write") {
    ServedClient client;
    client.service->get(
        "/{name}", [](const Request& request, Exchange exchange) { exchange.answer(200, request.parameter("name")); });
    CHECK(client.ask(get("/1") + get("/2") + get("/3")) == answer(200, "1") + answer(200, "2") + answer(200, "3"));
}

TEST_CASE("a request behind one that is not answered yet waits for it, and its client is not read from") {
    ServedClient client;
    Exchange kept;
    client.service->get("/slow", keep(kept));
    client.service->get("/quick", say("quick"));
    CHECK(client.ask(get("/slow") + get("/quick")).empty());
    CHECK(client.ask(get("/quick")).empty());
    CHECK(client.transport->waiting() > 0);
    REQUIRE(kept.open());
    kept.answer(200, "slow");
    CHECK_FALSE(kept.open());
    client.transport->settle();
    CHECK(client.take() == answer(200, "slow") + answer(200, "quick") + answer(200, "quick"));
}

TEST_CASE("an exchange that is destroyed without an answer answers 500") {
    ServedClient client;
    client.service->get("/", [](const Request&, Exchange) {});
    CHECK(client.ask(get("/")) == answer(500, "internal server error\n"));
    CHECK(client.ask(get("/")) == answer(500, "internal server error\n"));
}

TEST_CASE("an exchange does nothing once its client is gone") {
    ServedClient client;
    Exchange kept;
    client.service->get("/", keep(kept));
    client.ask(get("/"));
    REQUIRE(kept.open());
    client.transport->reset();
    CHECK_FALSE(kept.open());
    kept.set("A", "b");
    kept.answer(200, "late");
    CHECK_FALSE(kept.write("late"));
    kept.end();
    client.ask("");
    CHECK(client.service->connections() == 0);
}

TEST_CASE("an exchange outlives its connection and its transport") {
    Exchange kept;
    {
        ServedClient client;
        client.service->get("/", keep(kept));
        client.ask(get("/"));
    }
    CHECK_FALSE(kept.open());
    kept.answer(200);
}

TEST_CASE("a moved exchange answers, and the one that it was moved from is not open") {
    ServedClient client;
    Exchange first, second;
    client.service->get("/", keep(first));
    client.ask(get("/"));
    second = std::move(first);
    CHECK_FALSE(first.open());
    first = Exchange();
    second.answer(200, "x");
    CHECK(client.take() == answer(200, "x"));
}

TEST_CASE("the connection ends behind the answer if the client, its version or the handler wants so") {
    const std::string close = "Connection: close\r\n";
    for (const std::string& request : {get("/", close), std::string("GET / HTTP/1.0\r\n\r\n"), get("/close")}) {
        CAPTURE(request);
        ServedClient client;
        client.service->get("/", say("x"));
        client.service->get("/close", [](const Request&, Exchange exchange) {
            exchange.close_after();
            exchange.answer(200, "x");
        });
        CHECK(client.ask(request + get("/")) == answer(200, "x", close));
        CHECK(client.transport->ended());
    }
    ServedClient client;
    client.service->get("/", say("x"));
    CHECK(client.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") ==
          answer(200, "x", "Connection: keep-alive\r\n"));
    CHECK_FALSE(client.transport->ended());
}

TEST_CASE("a client that has shut its side still gets the answer") {
    ServedClient client;
    Exchange kept;
    client.service->get("/", keep(kept));
    client.ask(get("/"));
    client.transport->end();
    REQUIRE(kept.open());
    kept.answer(200, "x");
    client.transport->settle();
    CHECK(client.take() == answer(200, "x", "Connection: close\r\n"));
    CHECK(client.transport->disconnected() == std::error_code());
}

TEST_CASE("a client whose last request it is, as it says, is not waited for, unless something came behind it") {
    const auto ends_alone = [](std::string_view input) {
        ServedClient client;
        client.service->get("/", say("x"));
        client.service->post("/", say("x"));
        const std::string answers = client.ask(input);
        CHECK(answers == answer(200, "x", "Connection: close\r\n"));
        CHECK(client.transport->ended());
        return client.transport->disconnected().has_value();
    };
    const std::string close = "Connection: close\r\n";
    CHECK(ends_alone(get("/", close)));
    CHECK(ends_alone("GET / HTTP/1.0\r\n\r\n"));
    CHECK_FALSE(ends_alone(get("/", close) + get("/")));
    CHECK_FALSE(ends_alone("POST / HTTP/1.1\r\n" + close + "Content-Length: 1\r\n" + end_of_head + "x"));

    for (const bool more : {false, true}) {
        ServedClient client;
        Exchange kept;
        client.service->get("/", keep(kept));
        client.ask(get("/", close));
        if (more) client.ask("\r\n");
        kept.answer(200, "x");
        client.transport->settle();
        CHECK(client.take() == answer(200, "x", close));
        CHECK(client.transport->disconnected().has_value() != more);
    }
}

TEST_CASE("content is given in parts as they arrive, or all at once") {
    for (const bool chunked : {false, true}) {
        CAPTURE(chunked);
        ServedClient client;
        std::string parts;
        client.service->post("/parts", [&](const Request&, Exchange exchange) {
            auto kept = std::make_shared<Exchange>(std::move(exchange));
            kept->receive([&parts, kept](std::error_code error, Bytes part, bool last) {
                parts += (error ? error.message() : std::string(text_of(part))) + (last ? "." : ",");
                if (last) kept->answer(200, "done");
            });
        });
        client.service->post("/all", [](const Request&, Exchange exchange) {
            exchange.receive_all(100, [](Exchange all, Bytes content) { all.answer(200, text_of(content)); });
        });
        const std::string head = std::string(" HTTP/1.1\r\n") +
                                 (chunked ? "Transfer-Encoding: chunked\r\n" : "Content-Length: 6\r\n") + end_of_head;
        const std::vector<std::string> pieces = chunked
                                                    ? std::vector<std::string>{"3\r\nabc\r\n3\r\nde", "f\r\n0\r\n\r\n"}
                                                    : std::vector<std::string>{"abc", "def"};
        CHECK(client.ask("POST /parts" + head + pieces[0]).empty());
        CHECK(client.ask(pieces[1]) == answer(200, "done"));
        CHECK(parts == (chunked ? "abc,de,f,." : "abc,def."));
        CHECK(client.ask("POST /all" + head + pieces[0]).empty());
        CHECK(client.ask(pieces[1]) == answer(200, "abcdef"));
        CHECK(client.ask("POST /all HTTP/1.1\r\n" + end_of_head) == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

TEST_CASE("content that a handler does not take is thrown away, and the next request is answered") {
    ServedClient client;
    client.service->post("/", say("x"));
    const std::string request = "POST / HTTP/1.1\r\nContent-Length: 5\r\n" + end_of_head;
    CHECK(client.ask(request + "12") == answer(200, "x"));
    CHECK(client.ask("345" + request + "12345") == answer(200, "x"));
    CHECK(client.ask(request + "12345") == answer(200, "x"));
}

TEST_CASE("content waits with its client until a handler that answers later asks for it") {
    ServedClient client;
    Exchange kept;
    std::string content;
    client.service->post("/", keep(kept));
    client.ask("POST / HTTP/1.1\r\nContent-Length: 5\r\n" + end_of_head + "12");
    client.ask("345");
    CHECK(client.transport->waiting() > 0);
    REQUIRE(kept.open());
    kept.receive_all(5, [&](Exchange all, Bytes bytes) {
        content = text_of(bytes);
        all.answer(204);
    });
    client.transport->settle();
    CHECK(content == "12345");
    CHECK(client.take() == "HTTP/1.1 204 No Content\r\n\r\n");
}

TEST_CASE("a handler may pause the content, and its client waits") {
    ServedClient client;
    std::string parts;
    Exchange kept;
    client.service->post("/", [&](const Request&, Exchange exchange) {
        kept = std::move(exchange);
        kept.receive([&](std::error_code, Bytes part, bool) {
            parts += text_of(part);
            kept.pause();
        });
    });
    client.ask("POST / HTTP/1.1\r\nContent-Length: 5\r\n" + end_of_head + "12");
    client.ask("34");
    CHECK(parts == "12");
    kept.resume();
    client.transport->settle();
    CHECK(parts == "1234");
    kept.answer(204);
}

TEST_CASE("content that is too long is answered with 413, announced or not, and its callback is never called") {
    ServedClient client({.content = 4});
    client.service->post("/", [](const Request&, Exchange exchange) {
        exchange.receive_all(3, [](Exchange all, Bytes) { all.answer(200, "x"); });
    });
    const std::string head = "POST / HTTP/1.1\r\n";
    for (const std::string& fields : {"Content-Length: 4\r\n" + end_of_head, "Content-Length: 5\r\n" + end_of_head,
                                      "Transfer-Encoding: chunked\r\n" + end_of_head + "2\r\nab\r\n2\r\ncd\r\n",
                                      "Transfer-Encoding: chunked\r\n" + end_of_head + "5\r\n"}) {
        CAPTURE(fields);
        client.connect();
        CHECK(client.ask(head + fields).starts_with("HTTP/1.1 413 Content Too Large\r\n"));
        CHECK(client.transport->ended());
    }
}

TEST_CASE("a stream that ends inside content is answered with 400, and its handler learns of it") {
    ServedClient client;
    std::string parts;
    client.service->post("/", [&](const Request&, Exchange exchange) {
        auto kept = std::make_shared<Exchange>(std::move(exchange));
        kept->receive([&parts, kept](std::error_code error, Bytes part, bool last) {
            parts += (error ? error.message() : std::string(text_of(part))) + (last ? "." : ",");
        });
    });
    client.ask("POST / HTTP/1.1\r\nContent-Length: 5\r\n" + end_of_head + "12");
    client.transport->end();
    CHECK(parts == "12,the stream ended inside a message.");
    CHECK(client.take().starts_with("HTTP/1.1 400 Bad Request\r\n"));
    parts.clear();
    client.connect();
    client.ask("POST / HTTP/1.1\r\nContent-Length: 5\r\n" + end_of_head + "12");
    client.transport->reset();
    CHECK(parts == "12," + std::make_error_code(std::errc::connection_reset).message() + ".");
}

TEST_CASE("a client that waits for 100 gets it when its content is asked for") {
    ServedClient client;
    Exchange kept;
    client.service->post("/all", [](const Request&, Exchange exchange) {
        exchange.receive_all(10, [](Exchange all, Bytes content) { all.answer(200, text_of(content)); });
    });
    client.service->post("/none", say("no"));
    const std::string rest = " HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + end_of_head;
    CHECK(client.ask("POST /all" + rest) == "HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(client.ask("ab") == answer(200, "ab"));
    // Without 100 only the end of the connection says that no content follows.
    CHECK(client.ask("POST /none" + rest) == answer(200, "no", "Connection: close\r\n"));
    CHECK(client.transport->ended());
    client.connect();
    CHECK(client.ask("POST /all HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n" + end_of_head) ==
          "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

TEST_CASE("an answer in parts goes in chunks, to an old client up to the end, with a length as it is") {
    ServedClient client;
    client.service->get("/", [](const Request&, Exchange exchange) {
        exchange.begin(200, "text/plain");
        exchange.write("abc");
        exchange.write("");
        exchange.write(std::string(3000, 'x'));
        exchange.end();
    });
    client.service->get("/length", [](const Request&, Exchange exchange) {
        exchange.begin(200, "text/plain", 6);
        exchange.write("abc");
        CHECK_THROWS_AS(exchange.write("defg"), std::logic_error);
        exchange.write("def");
        exchange.end();
    });
    const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", x(3000, 'x');
    CHECK(client.ask(get("/")) == head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nbb8\r\n" + x + "\r\n0\r\n\r\n");
    CHECK(client.ask(get("/length")) == head + "Content-Length: 6\r\n\r\nabcdef");
    CHECK(client.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") == head + "Connection: close\r\n\r\nabc" + x);
    CHECK(client.transport->ended());
}

TEST_CASE("an answer that ends before its length ends with a reset") {
    ServedClient client;
    client.service->get("/short", [](const Request&, Exchange exchange) {
        exchange.begin(200, "text/plain", 6);
        exchange.write("abc");
        exchange.end();
    });
    client.service->get("/abandoned", [](const Request&, Exchange exchange) { exchange.begin(200, "text/plain"); });
    for (const char* path : {"/short", "/abandoned"}) {
        client.connect();
        client.ask(get(path));
        CHECK(client.transport->was_reset());
    }
}

TEST_CASE("a producer of content is called when its client has taken enough") {
    ServedClient client;
    Exchange kept;
    int calls = 0;
    client.service->get("/", [&](const Request&, Exchange exchange) {
        kept = std::move(exchange);
        kept.begin(200, "text/plain");
        kept.on_writable([&] {
            if (++calls < 3) {
                kept.write(std::string(200'000, 'x'));
            } else {
                kept.end();
            }
        });
        kept.write(std::string(200'000, 'x'));
    });
    client.connect().fill();
    client.ask(get("/"));
    CHECK(kept.queued() > 200'000);
    CHECK(calls == 0);
    for (int taken = 0; taken < 3; ++taken) client.transport->drain();
    CHECK(calls == 3);
    CHECK(client.take().size() > 600'000);
}

TEST_CASE("calls in a wrong order and fields that would break an answer throw") {
    ServedClient client;
    client.service->get("/", [](const Request&, Exchange exchange) {
        CHECK_THROWS_AS(exchange.write("x"), std::logic_error);
        CHECK_THROWS_AS(exchange.end(), std::logic_error);
        CHECK_THROWS_AS(exchange.answer(100), std::invalid_argument);
        CHECK_THROWS_AS(exchange.answer(600), std::invalid_argument);
        CHECK_THROWS_AS(exchange.answer(200, "x", "text/plain\r\nA: b"), std::invalid_argument);
        for (const char* name : {"", "A b", "A:", "Date", "content-length", "Transfer-Encoding", "connection"})
            CHECK_THROWS_AS(exchange.set(name, "x"), std::invalid_argument);
        CHECK_THROWS_AS(exchange.set("A", "b\r\nC: d"), std::invalid_argument);
        exchange.set("A", "b");
        exchange.begin(200, "text/plain", 0);
        CHECK_THROWS_AS(exchange.answer(200), std::logic_error);
        CHECK_THROWS_AS(exchange.begin(200, ""), std::logic_error);
        exchange.end();
    });
    CHECK(client.ask(get("/")) == "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nA: b\r\n\r\n");
    Service service;
    const auto add = [&](const char* method, const char* path) { service.route(method, path, say("x")); };
    add("GET", "/a/{b}");
    for (const char* path : {"a", "", "/{}", "/{...}", "/x{a}", "/{a}x", "/{a...}/b", "/a/{b}"})
        CHECK_THROWS_AS(add("GET", path), std::invalid_argument);
    CHECK_THROWS_AS(add("G T", "/"), std::invalid_argument);
    CHECK_THROWS_AS(service.get("/", nullptr), std::invalid_argument);
}

TEST_CASE("a head that is not complete in time is answered with 408, also where a byte comes now and then") {
    ServedClient client({.head_timeout = 10s});
    client.service->get("/", say("x"));
    client.ask(get("/"));
    client.transport->advance(1h);
    CHECK_FALSE(client.transport->ended());
    client.ask("GET / HT");
    client.transport->advance(9s);
    client.ask("TP");
    CHECK_FALSE(client.transport->ended());
    client.transport->advance(1s);
    CHECK(client.take().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    CHECK(client.transport->ended());
}

TEST_CASE("a drained connection closes if it is idle, and otherwise behind its answer") {
    ServedClient client;
    Exchange kept;
    client.service->get("/slow", keep(kept));
    client.service->get("/", say("x"));
    client.ask(get("/"));
    client.transport->ask_to_drain();
    CHECK(client.transport->ended());
    client.connect();
    client.ask(get("/slow"));
    client.transport->ask_to_drain();
    CHECK_FALSE(client.transport->ended());
    kept.answer(200, "x");
    client.transport->settle();
    CHECK(client.take() == answer(200, "x", "Connection: close\r\n"));
    CHECK(client.transport->ended());
    client.connect();
    client.ask("GET / HTTP");
    client.transport->ask_to_drain();
    CHECK(client.ask("/1.1\r\n" + end_of_head) == answer(200, "x", "Connection: close\r\n"));
}

TEST_CASE("a connection that is drained before its first request has a second for it, and is answered") {
    ServedClient client;
    client.service->get("/", say("x"));
    client.connect();
    client.transport->ask_to_drain();
    CHECK_FALSE(client.transport->ended());
    CHECK(client.ask(get("/")) == answer(200, "x", "Connection: close\r\n"));
    CHECK(client.transport->ended());

    client.connect();
    client.transport->ask_to_drain();
    client.transport->advance(999ms);
    CHECK_FALSE(client.transport->ended());
    client.transport->advance(1ms);
    CHECK(client.take().empty());
    CHECK(client.transport->ended());

    client.connect();
    client.transport->ask_to_drain();
    client.ask("GET / HTTP");
    client.transport->advance(1s);
    CHECK(client.take().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    CHECK(client.transport->ended());
}

TEST_CASE("after an upgrade another protocol speaks, and gets what came behind the request") {
    struct Shout final : Protocol {
        void connected() override { transport().write("hello\n"); }
        std::size_t received(Bytes input) override {
            transport().write("<" + std::string(text_of(input)) + ">");
            return input.size();
        }
        void end_of_stream() override {
            transport().write("bye");
            transport().close();
        }
        void disconnected(std::error_code) override { ended = true; }
        explicit Shout(bool& flag) : ended(flag) {}
        bool& ended;
    };
    ServedClient client;
    bool ended = false;
    client.service->get("/", [&](const Request& request, Exchange exchange) {
        REQUIRE(request.head().upgrade == "shout");
        exchange.upgrade("shout", std::make_unique<Shout>(ended));
        CHECK_FALSE(exchange.open());
    });
    CHECK(client.ask(get("/", "Connection: upgrade\r\nUpgrade: shout\r\n") + "ab") ==
          "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nhello\n<ab>");
    CHECK(client.ask("c") == "<c>");
    client.transport->end();
    CHECK(client.take() == "bye");
    CHECK(ended);
}

TEST_CASE("each answer is reported for a log, refused requests as well") {
    ServedClient client;
    std::vector<std::string> log;
    client.service->on_access([&](const Access& access) {
        log.push_back(std::string(access.method) + " " + std::string(access.target) + " " +
                      std::to_string(access.status) + " " + std::to_string(access.content));
    });
    client.service->get("/", say("hello"));
    client.ask(get("/") + "HEAD / HTTP/1.1\r\n" + end_of_head + get("/x?y") + "bad\r\n");
    CHECK(log == std::vector<std::string>{"GET / 200 5", "HEAD / 200 0", "GET /x?y 404 10", "  400 28"});
}

TEST_CASE("a closed service calls no handler any more and answers 503") {
    ServedClient client;
    client.service->get("/", say("x"));
    CHECK(client.ask(get("/")) == answer(200, "x"));
    client.service->close();
    CHECK(client.ask(get("/")).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    CHECK(client.transport->ended());
}

TEST_CASE("a handler that closes its service, or replaces itself, lives until it returns") {
    ServedClient client;
    const auto owned = std::make_shared<std::string>("owned");
    client.service->get("/", [&service = *client.service, owned](const Request&, Exchange exchange) {
        service.close();
        exchange.answer(200, *owned);
    });
    client.service->otherwise([&service = *client.service, owned](const Request&, Exchange exchange) {
        service.otherwise(say("other"));
        exchange.answer(200, *owned);
    });
    CHECK(client.ask(get("/x")) == answer(200, "owned"));
    CHECK(client.ask(get("/x")) == answer(200, "other"));
    CHECK(owned.use_count() == 2);
    CHECK(client.ask(get("/")) == answer(200, "owned"));
    CHECK(owned.use_count() == 1);
}

TEST_CASE("a path is found among many of all lengths, and another one is not") {
    ServedClient client;
    for (int number = 0; number < 300; ++number) {
        const std::string path = "/" + std::to_string(number * 7919 % 1000);
        client.service->get(path, say(path));
    }
    for (int number = 0; number < 1000; ++number) {
        const std::string path = "/" + std::to_string(number);
        const bool is_there = number * 679 % 1000 < 300;  // 7919 * 679 is 1 modulo 1000
        const std::string found = client.ask(get(path));
        if (found != (is_there ? answer(200, path) : answer(404, "not found\n"))) FAIL(path, ": ", found);
    }
}

TEST_CASE("every case of HTTP is answered alike in whatever pieces it arrives, and refused with its status") {
    for (const http_cases::Case& each : http_cases::requests()) {
        CAPTURE(each.clause);
        CAPTURE(each.input);
        const auto run = [&](std::span<const Bytes> pieces) {
            ServedClient client;
            client.service->otherwise([](const Request& request, Exchange exchange) {
                exchange.receive_all(1000, [target = std::string(request.head().target)](Exchange all, Bytes content) {
                    all.answer(200, target + "=" + std::string(text_of(content)));
                });
            });
            MemoryTransport& connection = client.connect();
            for (const Bytes piece : pieces) connection.feed(piece);
            connection.end();
            return client.take();
        };
        CHECK_NOTHROW(testing::check_every_cut(each.input, run, 150, 1));
        const Bytes whole = bytes_of(each.input);
        const std::string output = run({&whole, 1});
        const std::size_t refusal = each.outcome.starts_with('!') ? 0 : each.outcome.find(" !") + 1;
        if (refusal == 0 && !each.outcome.starts_with('!')) continue;
        const std::string_view reason = each.outcome.substr(refusal + 1);
        CHECK(output.find(reason) != std::string::npos);
        // The last answer is the refusal, and says that the connection ends.
        const std::string last = output.substr(output.rfind("HTTP/1.1 "));
        CHECK_FALSE(last.starts_with("HTTP/1.1 2"));
        CHECK(last.find("\r\nConnection: close\r\n") != std::string::npos);
    }
}

TEST_CASE("percent-encoding and queries are decoded strictly") {
    CHECK(percent_decoded("a%20b%C3%a4+") == "a b\xc3\xa4+");
    CHECK_FALSE(percent_decoded("%2").has_value());
    CHECK_FALSE(percent_decoded("%2x").has_value());
    CHECK_FALSE(percent_decoded("%00").has_value());
    CHECK(query_value("a=1&b=x+y%26z&b=2&c", "b") == "x y&z");
    CHECK(query_value("a=1&c", "c") == "");
    CHECK(query_value("%61=1", "a") == "1");
    CHECK_FALSE(query_value("aa=1", "a").has_value());
    CHECK_FALSE(query_value("", "").has_value());
    CHECK_FALSE(query_value("a=%", "a").has_value());
}
