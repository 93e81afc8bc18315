// The parts of a request target that a program asks for: percent-decoded text, and the values of a query.
#pragma once

#include <reactor/export.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace reactor::http {

/// `text` without its percent-encoding (RFC 3986, 2.1). nullopt if a % is not followed by two hexadecimal digits, or if
/// the result would hold a NUL. Throws std::bad_alloc.
REACTOR_EXPORT std::optional<std::string> percent_decoded(std::string_view text);

/// The value of the first `name=value` in a query, as forms and browsers send it (URL Standard,
/// application/x-www-form-urlencoded): `&` stands between pairs, and + is a space. Empty for a name without "=".
/// nullopt if the name is not there or its value cannot be decoded. Throws std::bad_alloc.
REACTOR_EXPORT std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace reactor::http
