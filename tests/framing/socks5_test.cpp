// The SOCKS5 proxy (RFC 1928): a client names its target, byte by byte as the protocol has it.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <protocols/examples/socks5.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <array>
#include <string>
#include <string_view>

using namespace reactor;
using namespace std::string_literals;

namespace {

const std::string greeting = "\x05\x01\x00"s;
const std::string welcome = "\x05\x00"s;

std::string port_of(std::uint16_t port) {
    return {char(port >> 8), char(port & 0xff)};
}

// The proxy's answer: a code, and the address of zeros.
std::string reply(char code) {
    return "\x05"s + code + "\x00\x01\x00\x00\x00\x00\x00\x00"s;
}

struct Proxied {
    Proxied() : proxy(reactor, "127.0.0.1", 0, factory<Socks5>()) {
        client = Socket::open(Address::Family::ipv4);
        (void)client.connect(proxy.addresses()[0]);
    }
    // Until it has so many bytes, or the end.
    std::string receive(std::size_t count) {
        std::string got;
        bool ended = false;
        run_until(reactor, [&] { return (got += read_all(client, &ended)).size() >= count || ended; });
        return got;
    }
    Reactor reactor;
    Acceptor proxy;
    Socket client;
};

}  // namespace

TEST_CASE("A SOCKS5 client reaches its target by an IPv4 or IPv6 address and by a name, and bytes sent ahead arrive") {
    struct Way {
        const char* host;
        std::string address;
    };
    for (const Way& way :
         {Way{"127.0.0.1", "\x01\x7f\x00\x00\x01"s}, Way{"::1", "\x04"s + std::string(15, '\0') + "\x01"},
          Way{"localhost", "\x03\x09localhost"s}}) {
        CAPTURE(way.host);
        Proxied proxied;
        Acceptor target(proxied.reactor, way.host, 0, factory<Echo>());
        write_some(proxied.client, greeting + "\x05\x01\x00"s + way.address + port_of(target.port()) + "sent ahead");
        const std::string expected = welcome + reply(0) + "sent ahead";
        CHECK(proxied.receive(expected.size()) == expected);
        write_some(proxied.client, ", and later");
        CHECK(proxied.receive(11) == ", and later");
    }
}

TEST_CASE("A SOCKS5 client hears why its target cannot be connected to, and the connection ends in good order") {
    Proxied proxied;
    Acceptor gone(proxied.reactor, "127.0.0.1", 0, factory<Echo>());
    const std::uint16_t port = gone.port();
    gone.close();
    write_some(proxied.client, greeting + "\x05\x01\x00\x01\x7f\x00\x00\x01"s + port_of(port));
    CHECK(proxied.receive(1000) == welcome + reply(5));  // connection refused, and the end
}

TEST_CASE("A SOCKS5 client that cannot be served is told why, in every cut of its input") {
    struct Case {
        std::string input, output;
    };
    for (const Case& each : {Case{greeting + "\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"s, welcome + reply(7)},  // BIND
                             Case{greeting + "\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50"s,
                                  welcome + reply(8)},                   // an unknown kind of address
                             Case{"\x05\x02\x01\x02"s, "\x05\xff"s}}) {  // no method without a password
        testing::MemoryTransport client(std::make_unique<Socks5>());
        client.feed(each.input);
        CHECK(client.take() == each.output);
        CHECK(client.ended());
        CHECK_FALSE(client.was_reset());
        CHECK_NOTHROW(testing::check_every_cut_of_protocol(each.input, factory<Socks5>()));
    }
}

TEST_CASE("A client of another protocol is reset by a SOCKS5 proxy") {
    for (const std::string& input : {"GET / HTTP/1.1\r\n"s, greeting + "\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50"s}) {
        testing::MemoryTransport client(std::make_unique<Socks5>());
        client.feed(input);
        CHECK(client.was_reset());
        CHECK(client.disconnected() == std::errc::protocol_error);
    }
}
