// Names and their addresses, as address.cpp finds them for its own resolve_blocking and for the resolver.
#pragma once

#include <reactor/net/address.hpp>

#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor {

/// The addresses of names that need no look-up: "", "localhost", a numeric address, "unix:…" (see resolve_blocking).
/// nullopt if the C library must be asked. Throws std::system_error for a text that can be no host.
std::optional<std::vector<Address>> addresses_without_look_up(std::string_view host, std::uint16_t port);

/// Asks getaddrinfo(3), and BLOCKS: for the addresses of one family, or of both, IPv4 first, for `none`. Each once,
/// with port 0. Throws std::system_error that names the host: of the category "getaddrinfo", of the system's, or
/// address_not_available.
std::vector<Address> look_up(std::string_view host, Address::Family family);

/// Does this error of a look-up say only that the host has no address of the family that was asked for?
bool says_no_address(const std::error_code& error) noexcept;

}  // namespace reactor
