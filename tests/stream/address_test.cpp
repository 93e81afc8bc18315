#include "../support/messages.hpp"

#include <reactor/net/address.hpp>
#include <reactor/system_impl.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <doctest/doctest.h>

#include <cstring>
#include <ostream>
#include <set>
#include <string>
#include <system_error>
#include <vector>

using namespace reactor;

namespace {

std::vector<std::string> words(const std::vector<Address>& addresses) {
    std::vector<std::string> result;
    for (const Address& address : addresses) result.push_back(address.to_string());
    return result;
}

// The code of the exception out of a call; no error if there is none.
template <class Call>
std::error_code error_of(Call call) {
    try {
        call();
    } catch (const std::system_error& error) {
        return error.code();
    }
    return {};
}

}  // namespace

TEST_CASE("What an address prints, it parses") {
    for (const char* text :
         {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80", "[::]:0", "[2001:db8::ff00:42:8329]:443",
          "[::ffff:1.2.3.4]:1", "[fe80::1%lo]:7", "unix:/run/socket", "unix:relative"}) {
        CAPTURE(text);
        const Address address = Address::parse(text);
        CHECK(address.to_string() == text);
        CHECK(Address::parse(address.to_string()) == address);
    }
}

TEST_CASE("What is not an address is refused with the text and the forms that would do") {
    for (const char* text : {"",
                             "80",
                             "127.0.0.1",
                             "127.0.0.1:",
                             "127.0.0.1:65536",
                             "127.0.0.1:-1",
                             "127.0.0.1:+1",
                             "127.0.0.1: 1",
                             "127.0.0.1:1 ",
                             "127.1:80",
                             "::1:80",
                             "[127.0.0.1]:80",
                             "[::1]",
                             "[::1:80",
                             "[::1%]:80",
                             "[::1%no-such-interface]:80",
                             "1.2.3.4%lo:80",
                             "localhost:80",
                             "unix:",
                             "none"}) {
        CAPTURE(text);
        const auto parse = [&] { return Address::parse(text); };
        CHECK(error_of(parse) == std::errc::invalid_argument);
        CHECK(contains(message_of(parse), "'" + std::string(text) + "'"));
        CHECK(contains(message_of(parse), "[::1]:80"));
    }
}

TEST_CASE("Only a numeric address is an ip, and nothing is looked up") {
    CHECK(Address::ip("127.0.0.1", 80)->family() == Address::Family::ipv4);
    CHECK(Address::ip("127.0.0.1", 80)->port() == 80);
    CHECK(Address::ip("::1", 65535)->family() == Address::Family::ipv6);
    CHECK(Address::ip("::1", 65535)->port() == 65535);
    CHECK_FALSE(Address::ip("localhost", 80));
    CHECK_FALSE(Address::ip("", 80));
    CHECK_FALSE(Address::ip("1.2.3", 80));
    CHECK_FALSE(Address::ip(std::string_view("1.2.3.4\0.5", 10), 80));
    CHECK_FALSE(Address::ip(std::string(1000, '1'), 80));
}

TEST_CASE("An interface stands in an address by name and by number, and prints by name while there is one") {
    CHECK(Address::ip("fe80::1%lo", 1) == Address::ip("fe80::1%1", 1));
    CHECK(Address::ip("fe80::1%lo", 1)->host() == "fe80::1%lo");
    CHECK(Address::ip("fe80::1%4000000000", 1)->host() == "fe80::1%4000000000");
    CHECK(Address::ip("fe80::1%lo", 1) != Address::ip("fe80::1", 1));
    CHECK_FALSE(Address::ip("fe80::1%0", 1));
    CHECK_FALSE(Address::ip("fe80::1%99999999999", 1));
}

TEST_CASE("Addresses are equal by family, host, scope and port; paddings and flow labels do not count") {
    sockaddr_in ipv4{};
    ipv4.sin_family = AF_INET;
    ipv4.sin_port = htons(80);
    ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::memset(ipv4.sin_zero, 0x55, sizeof ipv4.sin_zero);
    CHECK(Address(reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4) == *Address::ip("127.0.0.1", 80));

    sockaddr_in6 ipv6{};
    ipv6.sin6_family = AF_INET6;
    ipv6.sin6_port = htons(80);
    ipv6.sin6_addr = in6addr_loopback;
    ipv6.sin6_flowinfo = 12345;
    CHECK(Address(reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6) == *Address::ip("::1", 80));

    CHECK(*Address::ip("127.0.0.1", 80) != *Address::ip("127.0.0.1", 81));
    CHECK(*Address::ip("127.0.0.1", 80) != *Address::ip("127.0.0.2", 80));
    CHECK(*Address::ip("::1", 80) != *Address::ip("::2", 80));
    CHECK(*Address::ip("0.0.0.0", 80) != *Address::ip("::", 80));
    CHECK(Address::unix_path("a") != Address::unix_path("aa"));
    CHECK(Address() == Address());
    CHECK(Address() != *Address::ip("::", 0));
}

TEST_CASE("Addresses are ordered, so a set holds each once") {
    std::set<Address> set{*Address::ip("127.0.0.1", 1), *Address::ip("127.0.0.1", 2), *Address::ip("::1", 1),
                          Address::unix_path("a"),      Address::unix_path("b"),      Address(),
                          *Address::ip("127.0.0.1", 1), Address::unix_path("a")};
    CHECK(set.size() == 6);
}

TEST_CASE("An address with another port is the same host; a Unix address has none to change") {
    CHECK(Address::ip("127.0.0.1", 1)->with_port(65535) == *Address::ip("127.0.0.1", 65535));
    CHECK(Address::ip("::1", 1)->with_port(2) == *Address::ip("::1", 2));
    CHECK(Address::unix_path("a").with_port(2) == Address::unix_path("a"));
    CHECK(Address::unix_path("a").port() == 0);
    CHECK(Address().with_port(2) == Address());
}

TEST_CASE("S81: a Unix path of 107 bytes fits, of 108 and 109 it is refused and never cut") {
    CHECK(Address::unix_path(std::string(107, 'x')).host() == std::string(107, 'x'));
    for (const std::size_t length : {108u, 109u}) {
        CHECK(error_of([&] { Address::unix_path(std::string(length, 'x')); }) == std::errc::filename_too_long);
    }
    CHECK(error_of([] { Address::unix_path(""); }) == std::errc::invalid_argument);
    CHECK(error_of([] { Address::unix_path(std::string_view("a\0b", 3)); }) == std::errc::invalid_argument);
}

#if REACTOR_HAS(ABSTRACT_NAMES)
TEST_CASE("An abstract name has any 1 to 107 bytes, is printed and parsed, and costs no look-up") {
    for (const char* text : {"unix:@name", "unix:@with space", "unix:@\\x00\\xff\\x5c"}) {
        CAPTURE(text);
        const Address address = Address::parse(text);
        CHECK(address.to_string() == text);
        CHECK(Address::parse(address.to_string()) == address);
        CHECK(words(resolve_blocking(text, 80)) == std::vector<std::string>{text});
    }
    CHECK(Address::unix_path("a") != Address::unix_abstract("a"));
    CHECK(Address::unix_abstract(std::string(107, 'x')).host() == "@" + std::string(107, 'x'));
    for (const std::size_t length : {108u, 109u})
        CHECK(error_of([&] { Address::unix_abstract(std::string(length, 'x')); }) == std::errc::filename_too_long);
    CHECK(error_of([] { Address::unix_abstract(""); }) == std::errc::invalid_argument);
}
#else
TEST_CASE("Where the system has no abstract names they are refused, and not bound as a path") {
    for (const char* name : {"name", ""})
        CHECK(error_of([&] { Address::unix_abstract(name); }) == std::errc::operation_not_supported);
    CHECK(error_of([] { Address::parse("unix:@name"); }) == std::errc::operation_not_supported);
    CHECK(error_of([] { resolve_blocking("unix:@name", 80); }) == std::errc::operation_not_supported);
}
#endif

TEST_CASE("S81: a path of 108 bytes from the kernel, without a terminator, is held whole") {
    struct {
        sockaddr_un address;
        char behind[16];
    } filled{};
    filled.address.sun_family = AF_UNIX;
    std::memset(filled.address.sun_path, 'x', sizeof filled.address.sun_path);
    const Address address(reinterpret_cast<const sockaddr*>(&filled.address), sizeof(sockaddr_un) + 1);
    CHECK(address.host() == std::string(108, 'x'));
    CHECK(address.size() == sizeof(sockaddr_un));
}

TEST_CASE("A path counts up to its terminator, however long the kernel says it is") {
    sockaddr_un filled{};
    filled.sun_family = AF_UNIX;
    std::strcpy(filled.sun_path, "short");
    const auto* generic = reinterpret_cast<const sockaddr*>(&filled);
    CHECK(Address(generic, sizeof filled) == Address::unix_path("short"));
    CHECK(Address(generic, offsetof(sockaddr_un, sun_path) + 5) == Address::unix_path("short"));
    CHECK(Address(generic, offsetof(sockaddr_un, sun_path)).to_string() == "unix:");
}

TEST_CASE("A relative path that begins with @ is not printed as an abstract name") {
    CHECK(Address::unix_path("@name").to_string() == "unix:./@name");
    CHECK(Address::parse("unix:./@name").host() == "./@name");
}

TEST_CASE("Families that are not sockets' of the internet or of this machine are refused; no length is no address") {
    sockaddr other{};
    other.sa_family = AF_APPLETALK;
    CHECK(error_of([&] { Address(&other, sizeof other); }) == std::errc::address_family_not_supported);
    CHECK(Address(&other, 0) == Address());
    other.sa_family = AF_INET6;  // too short for one
    CHECK(error_of([&] { Address(&other, sizeof other); }) == std::errc::address_family_not_supported);
    CHECK(Address().to_string() == "none");
}

TEST_CASE("Some names mean the same on every machine and cost no look-up") {
    using Words = std::vector<std::string>;
    CHECK(words(resolve_blocking("", 80)) == Words{"0.0.0.0:80", "[::]:80"});
    for (const char* name : {"localhost", "LocalHost", "localhost.", "any.localhost"}) {
        CAPTURE(name);
        CHECK(words(resolve_blocking(name, 80)) == Words{"127.0.0.1:80", "[::1]:80"});
    }
    CHECK(words(resolve_blocking("192.0.2.1", 80)) == Words{"192.0.2.1:80"});
    CHECK(words(resolve_blocking("2001:db8::1", 80)) == Words{"[2001:db8::1]:80"});
    CHECK(words(resolve_blocking("unix:/run/socket", 80)) == Words{"unix:/run/socket"});
}

TEST_CASE("What only the C library can read is looked up: each address once, with the port") {
    using Words = std::vector<std::string>;
    // Short forms of inet_aton(3) need no name server, and are no numeric addresses to inet_pton(3).
    CHECK_FALSE(Address::ip("127.1", 80));
    CHECK(words(resolve_blocking("127.1", 80)) == Words{"127.0.0.1:80"});
    CHECK(words(resolve_blocking("0x7f000001", 7)) == Words{"127.0.0.1:7"});
}

TEST_CASE("A name that does not resolve is named in the error") {
    // A label of 64 bytes can be in no zone (RFC 1035, 2.3.4), so no name server is asked.
    const std::string name(64, 'x');
    const auto resolve = [&] { resolve_blocking(name, 80); };
    CHECK(std::string(error_of(resolve).category().name()) == "getaddrinfo");
    CHECK(contains(message_of(resolve), "host '" + name + "'"));
    CHECK(error_of([] { resolve_blocking(std::string_view("localhost\0.example", 18), 80); }) ==
          std::errc::invalid_argument);
}
