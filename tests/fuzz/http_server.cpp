// A whole server of HTTP in memory: any bytes, in any cut, to handlers that answer in every way. Any cut gives the same
// answers; each answer is one that the parser of responses understands; and the server comes to an end. The first byte
// seeds the cuts.
#include "fuzz.hpp"

#include <protocols/http/body.hpp>
#include <protocols/http/server_connection.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace reactor;
using namespace reactor::http;

/// Speaks after an upgrade, and sends back its input.
class Other final : public Protocol {
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
};

struct World {
    World() : service(std::make_shared<Service>(ServiceOptions{.content = 200})) {
        service->get("/", [](const Request&, Exchange exchange) { exchange.answer(200, "hello"); });
        service->post("/all/{name}", [](const Request& request, Exchange exchange) {
            exchange.receive_all(100, [name = std::string(request.parameter("name"))](Exchange all, Bytes content) {
                all.answer(200, name + std::string(text_of(content)));
            });
        });
        service->otherwise([](const Request& request, Exchange exchange) {
            exchange.set("X-Path", std::to_string(request.path().size()));
            exchange.begin(200, "text/plain");
            exchange.write(request.query());
            exchange.write(request.host());
            exchange.end();
        });
        service->get("/later", [this](const Request&, Exchange exchange) { later.push_back(std::move(exchange)); });
        service->get("/lost", [](const Request&, Exchange) {});
        service->get("/none", [](const Request&, Exchange exchange) { exchange.answer(204); });
        // Not before the content has come, of which a GET may have some.
        service->get("/other", [](const Request&, Exchange exchange) {
            exchange.receive_all(100, [](Exchange all, Bytes) { all.upgrade("other", std::make_unique<Other>()); });
        });
    }

    std::shared_ptr<Service> service;
    std::vector<Exchange> later;
};

std::string without_dates(std::string text) {
    for (std::size_t at; (at = text.find("Date: ")) != std::string::npos;)
        text.erase(at, text.find("\r\n", at) + 2 - at);
    return text;
}

/// Reads the answers, and requires that they are whole. An upgrade ends them.
void check_answers(std::string_view output) {
    while (!output.empty()) {
        ResponseHead head;
        const Parsed parsed = HeadParser().response(bytes_of(output), head);
        fuzz::require(parsed.state == Parsed::State::complete, "each answer has a whole head");
        if (head.status == 101) return;
        output.remove_prefix(parsed.consumed);
        // An answer to HEAD looks like another one; here HEAD is not sent on to this check.
        BodyDecoder decoder(head, "GET");
        while (!decoder.complete()) {
            const BodyDecoder::Part part = decoder.next(bytes_of(output));
            output.remove_prefix(part.parsed.consumed);
            if (part.parsed.state == Parsed::State::need_more && part.parsed.consumed == 0) break;
            fuzz::require(part.parsed.state != Parsed::State::refused, "each answer has content as it says");
        }
        fuzz::require(decoder.complete() || decoder.end().state == Parsed::State::complete, "each answer is whole");
    }
}

std::string run(std::string_view stream, const std::vector<std::size_t>& pieces) {
    World world;
    testing::MemoryTransport connection(std::make_unique<ServerConnection>(world.service));
    const auto answer_later = [&] {
        while (!world.later.empty()) {
            for (Exchange& exchange : std::exchange(world.later, {})) exchange.answer(200, "later");
            connection.settle();
        }
    };
    std::size_t at = 0;
    for (const std::size_t piece : pieces) {
        connection.feed(stream.substr(at, piece));
        at += piece;
        answer_later();
    }
    connection.end();
    answer_later();
    fuzz::require(connection.ended() || connection.was_reset(), "the server ends the connection behind the client");
    return without_dates(connection.take()) + (connection.was_reset() ? "reset" : "");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    std::minstd_rand random(input.byte() + 1u);
    // The end of a line: a line that came in pieces is not looked at before its end.
    const std::string stream = std::string(input.rest().substr(0, 1000)) + "\r\n\r\n";
    const std::string whole = run(stream, {stream.size()});
    if (stream.find("HEAD") == std::string_view::npos && !whole.ends_with("reset")) check_answers(whole);
    for (std::size_t way = 0; way < 2; ++way) {
        std::vector<std::size_t> pieces;
        for (std::size_t left = stream.size(); left > 0; left -= pieces.back())
            pieces.push_back(way == 0 ? 1 : std::min<std::size_t>(left, 1 + random() % 40));
        fuzz::require(run(stream, pieces) == whole, "any cut gives the same answers");
    }
    return 0;
}
