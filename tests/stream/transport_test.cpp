// The transport as a protocol sees it: over a connection, a pipe and the memory of a test alike.
#include "../support/loop.hpp"

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

using namespace reactor;

namespace {

// A text, as the elements of another type.
template <class Element>
std::vector<Element> elements_of(std::string_view text) {
    std::vector<Element> result;
    for (const char character : text) result.push_back(Element(character));
    return result;
}

// A number converts to no bytes, and neither does a range of wider elements.
static_assert(ByteSource<std::string> && ByteSource<const char*> && ByteSource<Bytes> && ByteSource<std::u8string>);
static_assert(!ByteSource<int> && !ByteSource<std::vector<int>> && !ByteSource<std::wstring> && !ByteSource<std::vector<bool>>);

}  // namespace

TEST_CASE("A write takes any contiguous range of bytes, and a literal without its NUL") {
    Reactor reactor;
    Conversation talk(reactor);
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    Transport& transport = *talk.journal.transport;
    std::string sent;
    const auto write = [&](const auto& data, std::string_view text) {
        CHECK(transport.write(data));
        sent += text;
    };
    write(elements_of<char>("a"), "a");
    write(elements_of<unsigned char>("b"), "b");
    write(elements_of<std::byte>("c"), "c");
    write(elements_of<char8_t>("d"), "d");
    write(std::string("e\0e", 3), std::string_view("e\0e", 3));
    write(std::array<std::byte, 2>{std::byte{'f'}, std::byte{'f'}}, "ff");
    std::vector<unsigned char> changing = elements_of<unsigned char>("g");
    write(std::span(changing), "g");
    write("literal", "literal");
    write(u8"ä", "\xc3\xa4");
    const char buffer[8] = "text";
    write(buffer, "text");
    const unsigned char octets[] = {0, 1, 2};
    write(octets, std::string_view("\0\1\2", 3));
    std::string got;
    run_until(reactor, [&] {
        got += read_all(talk.peer);
        return got.size() >= sent.size();
    });
    CHECK(got == sent);
}

TEST_CASE("Several pieces in one write leave as one send, also between iterations") {
    Reactor reactor;
    // Packets show what one send was.
    Conversation talk(reactor, Socket::pair(SocketKind::sequenced_packets), {});
    run_until(reactor, [&] { return talk.journal.transport != nullptr; });
    const std::string body(10'000, 'b');
    CHECK(talk.journal.transport->write("head ", elements_of<std::byte>("and "), body, u8"."));
    std::string packet(64 * 1024, '\0');
    const ssize_t count = ::recv(talk.peer.get(), packet.data(), packet.size(), 0);
    REQUIRE(count > 0);
    packet.resize(std::size_t(count));
    CHECK(packet == "head and " + body + ".");
    CHECK(talk.journal.transport->write("", std::string()));  // nothing at all: no packet
    CHECK(::recv(talk.peer.get(), packet.data(), packet.size(), 0) < 0);
    talk.journal.transport->close();
    CHECK_FALSE(talk.journal.transport->write("too", "late"));
}
