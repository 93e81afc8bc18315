// Records into a TLS server and a TLS client: any bytes, in any cut, before, inside and behind a handshake. The
// protocol inside sees its calls in order, both sides come to an end, and OpenSSL's error queue is left empty. The
// first byte says how many bytes of a real handshake come first, and how the rest is cut.
#include "fuzz.hpp"

#include "../tls/certificates.hpp"

#include <reactor/testing/memory_transport.hpp>
#include <reactor/tls/tls.hpp>

#include <openssl/err.h>

#include <memory>
#include <string>
#include <string_view>

namespace {

using namespace reactor;

// Sends back its input, and watches over the order of its calls.
class Watched final : public Protocol {
public:
    explicit Watched(int& ends) : ends_(ends) {}

private:
    void connected() override {
        fuzz::require(!connected_, "connected is called once");
        connected_ = true;
        transport().write("hello");
    }
    std::size_t received(Bytes input) override {
        fuzz::require(connected_ && !over_ && !input.empty(), "input comes between connected and disconnected");
        transport().write(input);
        return input.size();
    }
    void disconnected(std::error_code) override {
        fuzz::require(!over_, "disconnected is called once");
        over_ = true;
        ++ends_;
    }
    int& ends_;
    bool connected_ = false, over_ = false;
};

struct Contexts {
    Authority authority;
    TlsContext server{[this] {
        const Issued issued = authority.issue();
        TlsServerOptions options;
        options.certificates = {{Pem::text(issued.certificate), Pem::text(issued.key)}};
        options.protocols = {"h2", "echo"};
        return options;
    }()};
    TlsContext client{[this] {
        TlsClientOptions options;
        options.roots = {Pem::text(authority.certificate())};
        options.protocols = {"echo"};
        return options;
    }()};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Contexts contexts;
    fuzz::Input input(data, size);
    const bool to_server = input.below(2) == 0;
    const std::size_t flights = input.below(4);
    const std::size_t piece = 1 + input.byte();
    int ends = 0;
    {
        testing::MemoryTransport server(tls(contexts.server, std::make_unique<Watched>(ends)));
        testing::MemoryTransport client(tls(contexts.client, "localhost", std::make_unique<Watched>(ends)));
        for (std::size_t i = 0; i < flights; ++i) {
            if (const std::string sent = client.take(); !sent.empty()) server.feed(sent);
            if (const std::string sent = server.take(); !sent.empty()) client.feed(sent);
        }
        testing::MemoryTransport& target = to_server ? server : client;
        while (!input.empty()) target.feed(input.text(piece));
        server.end();
        client.end();
        for (testing::MemoryTransport* const one : {&server, &client}) one->advance(std::chrono::seconds(20));
    }
    fuzz::require(ends == 2, "every connection comes to an end");
    fuzz::require(ERR_peek_error() == 0, "no error is left");
    return 0;
}
