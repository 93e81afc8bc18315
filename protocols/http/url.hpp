// Url: the parts of an http or https URL that a client needs to ask for it (RFC 9110, 4.2).
#pragma once

#include <reactor/export.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace reactor::http {

/// Where a resource is.
struct REACTOR_EXPORT Url {
    bool secure = false;      ///< https
    std::string host = {};    ///< in lower case; an IPv6 address without its brackets
    std::uint16_t port = 0;   ///< 80 or 443 if the URL names none
    std::string target = {};  ///< the path and the query, encoded; at least "/"

    /// The host with the port, unless that is the usual one: the value of Host.
    std::string authority() const;
    /// The whole URL.
    std::string to_string() const;
    /// Scheme, host and port are the same.
    bool same_origin(const Url& other) const noexcept;
};

/// Reads an absolute URL. Bytes that are not ASCII are percent-encoded; a fragment is left out. nullopt for another
/// scheme, a malformed host or port, user information (RFC 9110, 4.2.4), and a character that must be encoded. Throws
/// std::bad_alloc.
REACTOR_EXPORT std::optional<Url> parse_url(std::string_view text);

/// Reads an absolute or relative reference in a document at `base` (RFC 3986, 5.2). nullopt as for parse_url. Throws
/// std::bad_alloc.
REACTOR_EXPORT std::optional<Url> parse_url(std::string_view reference, const Url& base);

}  // namespace reactor::http
