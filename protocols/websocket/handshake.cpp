// The handshake of RFC 6455, 4: a server's handler, and a client's first protocol. SHA-1 and base64 are libcrypto's.
#include <protocols/http/head.hpp>
#include <protocols/websocket/deflate_impl.hpp>
#include <protocols/websocket/random_impl.hpp>
#include <protocols/websocket/websocket.hpp>
#include <reactor/detail/callback.hpp>

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <utility>

namespace reactor::websocket {

/// Has a socket agree on compression with the client of a request. False if the offers are malformed.
struct ServerHandshake {
    static bool agree(WebSocket& socket, const http::Fields& fields, http::Exchange& exchange) {
        if (!deflate::available || !socket.may_compress_) return true;
        const deflate::Agreement agreement = deflate::agree(fields);
        if (agreement.response) {
            exchange.set("Sec-WebSocket-Extensions", *agreement.response);
            socket.deflates_ = true;
            socket.decoder_.allow_compression();
        }
        return !agreement.malformed;
    }
};

namespace {

std::string base64(const unsigned char* bytes, std::size_t size) {
    std::string text((size + 2) / 3 * 4 + 1, '\0');  // and the NUL that is written behind it
    const int length = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes, static_cast<int>(size));
    text.resize(static_cast<std::size_t>(length));
    return text;
}

/// Is this 16 bytes in base64?
bool is_key(std::string_view key) noexcept {
    if (key.size() != 24 || !key.ends_with("==")) return false;
    return std::all_of(key.begin(), key.end() - 2, [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
    });
}

bool names(const std::vector<std::string>& list, std::string_view value) noexcept {
    return std::find(list.begin(), list.end(), value) != list.end();
}

using FactoryCallback = Callback<std::unique_ptr<WebSocket>(const http::Request&)>;

/// Answers one request: with the handshake, or with a reason against it.
void shake_hands(const http::Request& request, http::Exchange exchange, FactoryCallback& factory,
                 const AcceptOptions& options) {
    const http::Fields fields = request.fields();
    // Content would come before the frames, and a GET has none that means anything (RFC 9110, 9.3.1).
    if (request.head().chunked || request.head().content_length.value_or(0) > 0) {
        return exchange.answer(400, "a handshake has no content\n");
    }
    if (!http::list_has(request.head().upgrade, "websocket")) {
        exchange.set("Upgrade", "websocket");
        return exchange.answer(426, "this is a WebSocket\n");
    }
    if (fields.count("Sec-WebSocket-Version") != 1 || fields["Sec-WebSocket-Version"] != "13") {
        exchange.set("Sec-WebSocket-Version", "13");
        return exchange.answer(426, "version 13 of WebSocket is needed\n");
    }
    if (fields.count("Sec-WebSocket-Key") != 1 || !is_key(*fields["Sec-WebSocket-Key"])) {
        return exchange.answer(400, "Sec-WebSocket-Key is malformed\n");
    }
    if (const auto origin = fields["Origin"]; origin && !options.origins.empty() && !names(options.origins, *origin)) {
        return exchange.answer(403, "this origin is not accepted\n");
    }
    std::unique_ptr<WebSocket> socket = factory(request);
    if (socket == nullptr) return exchange.answer(404, "not found\n");
    if (!ServerHandshake::agree(*socket, fields, exchange)) {
        return exchange.answer(400, "Sec-WebSocket-Extensions is malformed\n");
    }
    for (const std::string& protocol : options.protocols) {
        if (!fields.has("Sec-WebSocket-Protocol", protocol)) continue;
        exchange.set("Sec-WebSocket-Protocol", protocol);
        break;
    }
    exchange.set("Sec-WebSocket-Accept", accept_value(*fields["Sec-WebSocket-Key"]));
    exchange.upgrade("websocket", std::move(socket));
}

}  // namespace

std::string accept_value(std::string_view key) {
    const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned size = 0;
    if (::EVP_Digest(text.data(), text.size(), digest.data(), &size, ::EVP_sha1(), nullptr) != 1)
        throw std::runtime_error("websocket: libcrypto has no SHA-1");
    return base64(digest.data(), size);
}

http::Handler accept(WebSocketFactory factory, AcceptOptions options) {
    FactoryCallback callback(required(std::move(factory), "websocket::accept: an empty factory"));
    return [factory = std::move(callback), options = std::move(options)](const http::Request& request,
                                                                         http::Exchange exchange) mutable {
        shake_hands(request, std::move(exchange), factory, options);
    };
}

/// Asks for the upgrade, and lets the WebSocket speak when it is granted.
class ClientHandshake final : public Protocol {
public:
    ClientHandshake(std::string_view host, std::string_view target, std::unique_ptr<WebSocket> socket)
        : socket_(*socket), next_(std::move(socket)) {
        const auto random = random_value<std::array<unsigned char, 16>>();
        key_ = base64(random.data(), random.size());
        request_ = "GET " + std::string(target) + " HTTP/1.1\r\nHost: " + std::string(host) +
                   "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + key_ +
                   "\r\nSec-WebSocket-Version: 13\r\n";
        offers_ = deflate::available && socket_.may_compress_;
        if (offers_) request_.append("Sec-WebSocket-Extensions: ").append(deflate::offer).append("\r\n");
        request_ += "\r\n";
        // The server's own parser decides if this can stand in a request.
        http::RequestHead head;
        const http::Parsed parsed = http::HeadParser().request(bytes_of(request_), head);
        if (parsed.state != http::Parsed::State::complete || parsed.consumed != request_.size() ||
            head.target != target || head.host != host || host.empty()) {
            throw std::invalid_argument("websocket::client: not a host and a target: " + std::string(host) + " " +
                                        std::string(target));
        }
        socket_.decoder_ = FrameDecoder(Role::client, socket_.decoder_.longest());
    }

private:
    void connected() override { transport().write(std::exchange(request_, {})); }

    std::size_t received(Bytes input) override {
        http::ResponseHead head;
        const http::Parsed parsed = parser_.response(input, head);
        if (parsed.state == http::Parsed::State::need_more) return 0;
        if (parsed.state == http::Parsed::State::refused) {
            refuse(0, parsed.problem);
            return input.size();
        }
        const http::Fields fields = head.fields();
        if (head.status != 101) {
            refuse(head.status, std::make_error_code(std::errc::connection_refused));
            return input.size();
        }
        // RFC 6455, 4.1: nothing that was not asked for may be granted.
        bool deflates = false;
        const bool extensions_fit =
            offers_ ? deflate::is_answer(fields, deflates) : fields.count("Sec-WebSocket-Extensions") == 0;
        if (!http::same_token(head.upgrade, "websocket") || fields["Sec-WebSocket-Accept"] != accept_value(key_) ||
            !extensions_fit || fields.count("Sec-WebSocket-Protocol") != 0) {
            refuse(0, std::make_error_code(std::errc::protocol_error));
            return input.size();
        }
        socket_.deflates_ = deflates;
        if (deflates) socket_.decoder_.allow_compression();
        // False: the end is on its way, and is this one's to report.
        return hand_over_to(std::move(next_)) ? parsed.consumed : input.size();
    }

    void refuse(int status, std::error_code error) {
        socket_.refused(status);
        refused_ = true;
        transport().abort(error);
    }

    void connect_failed(const std::vector<ConnectFailure>& failures) override { socket_.connect_failed(failures); }
    void disconnected(std::error_code reason) override {
        if (!refused_) socket_.refused(0);
        socket_.disconnected(reason);
    }

    WebSocket& socket_;
    std::unique_ptr<Protocol> next_;  // the same, until it speaks
    std::string key_, request_;
    http::HeadParser parser_;
    bool refused_ = false;
    bool offers_ = false;
};

std::unique_ptr<Protocol> client(std::string_view host, std::string_view target, std::unique_ptr<WebSocket> socket) {
    if (socket == nullptr) throw std::invalid_argument("websocket::client: a null socket");
    return std::make_unique<ClientHandshake>(host, target, std::move(socket));
}

}  // namespace reactor::websocket
