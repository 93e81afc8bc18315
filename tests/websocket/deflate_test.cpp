// Compression of messages (RFC 7692): the negotiation in every build, messages where zlib is.
#include "../http/answers.hpp"

#include <protocols/http/server_connection.hpp>
#include <protocols/websocket/deflate_impl.hpp>
#include <protocols/websocket/websocket.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::websocket;
using testing::MemoryTransport;

namespace {

const std::string ours = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The server's decision about one value of the field: "" for none, "!" for malformed.
std::string decided(std::string_view value) {
    const http::Field field{"sec-websocket-extensions", value};
    const deflate::Agreement agreement = deflate::agree(http::Fields({&field, 1}));
    return agreement.malformed ? "!" : agreement.response.value_or("");
}

/// "yes", "no" for none, "!" for one that the client cannot keep to.
std::string understood(std::string_view value) {
    const http::Field field{"Sec-WebSocket-Extensions", value};
    bool agreed = false;
    if (!deflate::is_answer(http::Fields({&field, 1}), agreed)) return "!";
    return agreed ? "yes" : "no";
}

std::string decompressed(const std::string& payload, std::size_t most = 1000) {
    std::vector<std::byte> message;
    const Bytes bytes = bytes_of(payload);
    switch (deflate::decompress({bytes.begin(), bytes.end()}, most, message)) {
        case deflate::Outcome::too_long: return "!long";
        case deflate::Outcome::malformed: return "!malformed";
        default: return std::string(text_of(Bytes(message)));
    }
}

class CompressedNoting final : public WebSocket {
public:
    CompressedNoting(std::vector<std::string>& calls, const Options& options) : WebSocket(options), calls_(calls) {}

private:
    void message(Kind kind, Bytes content) override {
        calls_.push_back((kind == Kind::text ? "text " : "binary ") + std::string(text_of(content)));
        if (kind == Kind::text) send(text_of(content));
    }
    void closed(std::uint16_t code, std::string_view reason) override {
        calls_.push_back("closed " + std::to_string(code) + " " + std::string(reason));
    }
    std::vector<std::string>& calls_;
};

/// A server after a handshake with this offer.
struct Served {
    explicit Served(const std::string& offer = ours, Options options = {.longest_message = 2000, .compress = true}) {
        service->get("/", accept([=, this](const http::Request&) {
                         return std::make_unique<CompressedNoting>(calls, options);
                     }));
        transport = std::make_unique<MemoryTransport>(std::make_unique<http::ServerConnection>(service));
        transport->feed(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
            "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: " +
            offer + "\r\n\r\n");
        answer = transport->take();
    }
    std::vector<std::string> calls;
    std::shared_ptr<http::Service> service = std::make_shared<http::Service>();
    std::unique_ptr<MemoryTransport> transport;
    std::string answer;
};

std::string frame(Frame::Opcode opcode, std::string_view payload, bool compressed, bool final = true) {
    std::vector<std::byte> bytes = Frame::masked(opcode, bytes_of(payload), 0x01020304, final);
    if (compressed) bytes[0] |= std::byte{0x40};
    return std::string(text_of(Bytes(bytes)));
}

// RFC 7692, 7.2.3.1: "Hello" in one block.
const std::string hello("\xf2\x48\xcd\xc9\xc9\x07\x00", 7);

}  // namespace

TEST_CASE("an offer of compression is accepted if the server can keep to it, as RFC 7692 says") {
    struct Case {
        const char* clause;
        std::string offer, response;
    };
    for (const Case& each : std::initializer_list<Case>{
             {"7.1", "permessage-deflate", ours},
             {"7.1", "permessage-deflate; client_max_window_bits", ours},
             {"7.1.2.2", "permessage-deflate; client_max_window_bits=10", ours},
             {"7.1.1.1", "permessage-deflate; server_no_context_takeover", ours},
             {"7.1.1.2", "permessage-deflate ;\tclient_no_context_takeover", ours},
             {"7.1.2.1", "permessage-deflate; server_max_window_bits=15", ours + "; server_max_window_bits=15"},
             {"7.1.2.1", "permessage-deflate; server_max_window_bits=\"15\"", ours + "; server_max_window_bits=15"},
             {"7.1.2.1", "permessage-deflate; server_max_window_bits=10", ""},
             {"5.1", "permessage-deflate; server_max_window_bits=10, permessage-deflate", ours},
             {"5.1", "x-other; a=b, permessage-deflate", ours},
             {"7.1", "permessage-deflate; unknown", ""},
             {"7.1", "permessage-deflate; server_no_context_takeover=1", ""},
             {"7.1", "permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
             {"7.1.2.1", "permessage-deflate; server_max_window_bits", ""},
             {"7.1.2.1", "permessage-deflate; server_max_window_bits=7", ""},
             {"7.1.2.1", "permessage-deflate; server_max_window_bits=16", ""},
             {"7.1.2.1", "permessage-deflate; server_max_window_bits=015", ""},
             {"7.1.2.2", "permessage-deflate; client_max_window_bits=x", ""},
             {"7", "permessage-bzip2", ""},
             {"6455 9.1", "", "!"},
             {"6455 9.1", "permessage-deflate;", "!"},
             {"6455 9.1", "permessage-deflate; a=", "!"},
             {"6455 9.1", "permessage-deflate,", "!"},
             {"6455 9.1", "permessage-deflate; a=\"b", "!"},
             {"6455 9.1", "permessage deflate", "!"}}) {
        CAPTURE(each.clause);
        CAPTURE(each.offer);
        CHECK(decided(each.offer) == each.response);
    }
}

TEST_CASE("a client accepts no other compression than it has offered") {
    bool agreed = true;
    CHECK(deflate::is_answer(http::Fields(), agreed));
    CHECK_FALSE(agreed);
    CHECK(understood(ours) == "yes");
    CHECK(understood("permessage-deflate; server_no_context_takeover") == "yes");
    CHECK(understood("permessage-deflate; server_no_context_takeover; server_max_window_bits=9") == "yes");
    for (const char* answer :
         {"permessage-deflate", "permessage-deflate; client_no_context_takeover",
          "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
          "permessage-deflate; server_no_context_takeover; server_max_window_bits", "x-other",
          "permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover", "", ";"}) {
        CAPTURE(answer);
        CHECK(understood(answer) == "!");
    }
}

TEST_CASE("without the option, and without zlib, compression is not agreed on") {
    CHECK(Served(ours, {}).answer.find("Extensions") == std::string::npos);
    CHECK((Served().answer.find("\r\nSec-WebSocket-Extensions: " + ours + "\r\n") != std::string::npos) ==
          deflate::available);
    CHECK(Served("permessage-deflate;").answer.starts_with("HTTP/1.1 400 ") == deflate::available);
    Served plain(ours, {});
    plain.transport->feed(frame(Frame::Opcode::text, hello, true));
    CHECK(plain.calls == std::vector<std::string>{"closed 1002 a reserved bit is set"});
}

TEST_CASE("payloads are decompressed as RFC 7692 says") {
    if (!deflate::available) return;
    const auto bytes = [](std::initializer_list<int> numbers) {
        std::string text;
        for (const int number : numbers) text.push_back(static_cast<char>(number));
        return text;
    };
    CHECK(decompressed(hello) == "Hello");
    // 7.2.3.3: a block without compression; 7.2.3.4: a last block; 7.2.3.5: two blocks; 7.2.3.6: nothing.
    CHECK(decompressed(bytes({0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00})) == "Hello");
    CHECK(decompressed(bytes({0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00})) == "Hello");
    CHECK(decompressed(bytes({0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00})) ==
          "Hello");
    CHECK(decompressed(bytes({0x00})) == "");
    CHECK(decompressed(bytes({0x07, 0xff})) == "!malformed");
    CHECK(decompressed(hello.substr(0, 4)) == "!malformed");
    CHECK(decompressed(hello, 5) == "Hello");
    CHECK(decompressed(hello, 4) == "!long");
    const std::string zeros(1'000'000, '\0');
    const std::string bomb(text_of(deflate::compressed(bytes_of(zeros))));
    CHECK(bomb.size() < 2000);
    CHECK(decompressed(bomb) == "!long");
    CHECK(decompressed(bomb, zeros.size()) == zeros);
    for (std::size_t size = 64; size <= 1 << 18; size *= 2) {  // rooms are filled exactly
        std::string text;
        while (text.size() < size) text += "\xc3\xa4";
        CHECK(decompressed(std::string(text_of(deflate::compressed(bytes_of(text)))), size) == text);
    }
    CHECK(deflate::compressed(bytes_of("abc")).empty());  // it would become longer
}

TEST_CASE("a compressed message is given like any other, in whatever pieces and fragments it arrives") {
    if (!deflate::available) return;
    const std::string stream = frame(Frame::Opcode::text, hello.substr(0, 3), true, false) +
                               frame(Frame::Opcode::ping, "x", false) +
                               frame(Frame::Opcode::continuation, hello.substr(3), false) +
                               frame(Frame::Opcode::text, "plain", false) + frame(Frame::Opcode::binary, hello, true);
    const auto run = [&](std::span<const Bytes> pieces) {
        Served served;
        for (const Bytes piece : pieces) served.transport->feed(piece);
        std::string calls;
        for (const std::string& call : served.calls) calls += call + "|";
        return calls;
    };
    const Bytes whole = bytes_of(stream);
    CHECK(run({&whole, 1}) == "text Hello|text plain|binary Hello|");
    CHECK_NOTHROW(testing::check_every_cut(stream, run, 300, 1));
}

TEST_CASE("what is not allowed with compression closes with its code") {
    if (!deflate::available) return;
    const auto closed = [](const std::string& stream) {
        Served served;
        served.transport->feed(stream);
        return served.calls.empty() ? "" : served.calls.back();
    };
    CHECK(closed(frame(Frame::Opcode::ping, "", true)) == "closed 1002 a reserved bit is set");
    CHECK(closed(frame(Frame::Opcode::text, hello.substr(0, 2), true, false) +
                 frame(Frame::Opcode::continuation, hello.substr(2), true)) == "closed 1002 a reserved bit is set");
    CHECK(closed(frame(Frame::Opcode::text, "\x07\xff", true)) == "closed 1007 a message cannot be decompressed");
    const std::string not_text(100, '\xff');
    CHECK(closed(frame(Frame::Opcode::text, text_of(deflate::compressed(bytes_of(not_text))), true)) ==
          "closed 1007 a text is not UTF-8");
    const std::string large(2001, 'x');
    CHECK(closed(frame(Frame::Opcode::text, text_of(deflate::compressed(bytes_of(large))), true)) ==
          "closed 1009 a message is too long");
}

TEST_CASE("both sides compress what becomes smaller, and understand each other") {
    if (!deflate::available) return;
    auto service = std::make_shared<http::Service>();
    std::vector<std::string> of_server, of_client;
    service->get("/", accept([&](const http::Request&) {
                     return std::make_unique<CompressedNoting>(of_server, Options{.compress = true});
                 }));
    struct Asking final : WebSocket {
        explicit Asking(std::vector<std::string>& calls) : WebSocket({.compress = true}), calls_(calls) {}
        void opened() override {
            send(std::string(5000, 'x'));
            send("short");
        }
        void message(Kind, Bytes content) override { calls_.emplace_back(text_of(content)); }
        std::vector<std::string>& calls_;
    };
    MemoryTransport server(std::make_unique<http::ServerConnection>(service));
    MemoryTransport client(websocket::client("a", "/", std::make_unique<Asking>(of_client)));
    server.feed(client.take());
    client.feed(server.take());
    const std::string sent = client.take();
    CHECK(sent.size() < 100);
    server.feed(sent);
    const std::string answered = server.take();
    CHECK(answered.size() < 100);
    client.feed(answered);
    CHECK(of_client == std::vector<std::string>{std::string(5000, 'x'), "short"});
}
