// Addresses: from text, from bytes that a kernel might fill in, and back. A printed address reads back as the same.
#include "fuzz.hpp"

#include <reactor/net/address.hpp>

#include <sys/socket.h>

#include <cstring>
#include <string>
#include <system_error>
#include <vector>

namespace {

using reactor::Address;

void check(const Address& address) {
    const std::string text = address.to_string(), host = address.host();
    fuzz::require(address == address && (address <=> address) == 0, "an address is equal to itself");
    if (text == "none" || text == "unix:") return;  // no address, and a socket without a name
    const Address again = Address::parse(text);
    fuzz::require(again.to_string() == text, "what was printed and read is printed the same");
    const bool path_like_a_name = text.starts_with("unix:./@");
    fuzz::require(again == address || path_like_a_name, "what was printed is read back");
    fuzz::require(address.with_port(7).host() == host, "a port does not change the host");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t what = input.byte();
    const std::string text(input.rest());
    if (what % 3 == 0) {
        if (const auto address = Address::ip(text, 80)) {
            fuzz::require(address->port() == 80, "the port is the one given");
            check(*address);
        }
        return 0;
    }
    try {
        if (what % 3 == 1) {
            check(Address::parse(text));
        } else {
            const std::vector<char> storage(text.begin(), text.end());
            check(Address(reinterpret_cast<const sockaddr*>(storage.data()), storage.size()));
        }
    } catch (const std::system_error& error) {
        fuzz::require(error.what()[0] != '\0', "an error says what it is");
    }
    return 0;
}
