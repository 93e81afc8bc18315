// The framing of WebSocket, and a WebSocket of each side in memory: any split of a stream gives the same events; all
// that is decoded can be encoded and is decoded again; both sides come to an end with a close frame that is allowed.
// The first byte chooses the side and compression, the second one
// seeds the splits.
#include "fuzz.hpp"

#include <protocols/http/server_connection.hpp>
#include <protocols/websocket/websocket.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace reactor;
using namespace reactor::websocket;

constexpr std::uint64_t longest = 500;

struct Result {
    std::string events;
    bool refused = false;
};

/// All events as text, the parts of a message together.
Result decode(Role role, bool compression, std::string_view stream, const std::vector<std::size_t>& pieces,
              bool short_first = true) {
    using Event = FrameDecoder::Event;
    FrameDecoder decoder(role, longest);
    if (compression) decoder.allow_compression();
    Result result;
    std::string message;
    std::vector<std::byte> room;
    std::size_t consumed = 0, come = 0;
    for (const std::size_t piece : pieces) {
        come += piece;
        while (consumed < come) {
            const std::vector<char> exact(stream.begin() + std::ptrdiff_t(consumed),
                                          stream.begin() + std::ptrdiff_t(come));
            const Bytes input = bytes_of({exact.data(), exact.size()});
            FrameDecoder::ShortRoom few;
            FrameDecoder::Step step;
            if (!short_first || !decoder.next_short(input, few, step)) step = decoder.next(input, room);
            fuzz::require(step.consumed <= exact.size(), "no more is consumed than there is");
            consumed += step.consumed;
            const std::string payload(text_of(step.payload));
            if (step.event == Event::need_more && step.consumed == 0) break;
            if (step.event == Event::part) {
                message += payload;
                fuzz::require(message.size() <= longest, "the limit of a message holds");
                if (step.last)
                    result.events += (decoder.kind() == Kind::text ? "t" : "b") + std::exchange(message, {}) + "\n";
            }
            if (step.event == Event::ping) result.events += "p" + payload + "\n";
            if (step.event == Event::pong) result.events += "q" + payload + "\n";
            if (step.event == Event::close) {
                fuzz::require(step.code == close_code::none_received || may_be_sent(step.code), "a code is allowed");
                result.events += "c" + std::to_string(step.code) + payload + "\n";
                return result;
            }
            if (step.event == Event::refused) {
                fuzz::require(may_be_sent(step.code) && !step.why.empty(), "a refusal says why");
                result.events += "!" + std::to_string(step.code);
                result.refused = true;
                return result;
            }
        }
    }
    return result;
}

/// Sends back each message, and watches over the order of its calls.
class Echo final : public WebSocket {
public:
    explicit Echo(int& ends) : WebSocket({.longest_message = longest, .compress = true}), ends_(ends) {}

private:
    void opened() override {
        fuzz::require(!open_, "opened is called once");
        open_ = true;
    }
    void message(Kind kind, Bytes content) override {
        fuzz::require(open_ && !over_, "a message comes between opened and closed");
        kind == Kind::text ? send(text_of(content)) : send_binary(content);
    }
    void closed(std::uint16_t, std::string_view) override {
        fuzz::require(open_ && !over_, "closed is called once");
        over_ = true;
        ++ends_;
    }
    int& ends_;
    bool open_ = false, over_ = false;
};

std::string serve(bool compression, std::string_view stream, const std::vector<std::size_t>& pieces) {
    int ends = 0;
    auto service = std::make_shared<http::Service>();
    service->get("/", accept([&](const http::Request&) { return std::make_unique<Echo>(ends); }));
    testing::MemoryTransport connection(std::make_unique<http::ServerConnection>(service));
    connection.feed(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n");
    if (compression) connection.feed("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    connection.feed("\r\n");
    connection.take();
    std::size_t at = 0;
    for (const std::size_t piece : pieces) {
        connection.feed(stream.substr(at, piece));
        at += piece;
    }
    connection.end();
    fuzz::require(ends == 1 && (connection.ended() || connection.was_reset()), "the server ends behind the client");
    return connection.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t kind = input.byte();
    const Role role = (kind & 1) != 0 ? Role::client : Role::server;
    const bool compression = (kind & 2) != 0;
    std::minstd_rand random(input.byte() + 1u);
    const std::string_view stream = input.rest().substr(0, 1500);
    const Result whole = decode(role, compression, stream, {stream.size()}, false);
    fuzz::require(decode(role, compression, stream, {stream.size()}).events == whole.events,
                  "a short message is what it is otherwise");
    const std::string echoed = role == Role::server ? serve(compression, stream, {stream.size()}) : "";
    for (std::size_t way = 0; way < 3; ++way) {
        std::vector<std::size_t> pieces;
        for (std::size_t left = stream.size(); left > 0; left -= pieces.back())
            pieces.push_back(way == 0 ? 1 : std::min<std::size_t>(left, 1 + random() % (way * 20)));
        const Result cut = decode(role, compression, stream, pieces);
        fuzz::require(cut.events == whole.events, "any split gives the same events");
        if (role == Role::server)
            fuzz::require(serve(compression, stream, pieces) == echoed, "any split gives the same answers");
    }
    if (role == Role::server) {
        const Result answers = decode(Role::client, compression, echoed, {echoed.size()});
        fuzz::require(!answers.refused, "a client understands the answers");
    }
    return 0;
}
