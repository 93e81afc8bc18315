// The reason phrases of RFC 9110, 15. They are for people; a program looks at the number alone.
#pragma once

#include <reactor/export.hpp>

#include <string_view>

namespace reactor::http {

/// "Not Found" for 404. Empty for a status without a registered phrase. Lifetime: static.
REACTOR_EXPORT std::string_view reason_phrase(int status) noexcept;

}  // namespace reactor::http
