// Strings on their way to the kernel, where a NUL ends them. Not installed.
#pragma once

#include <string>
#include <string_view>
#include <system_error>

namespace reactor {

/// Throws std::system_error (invalid_argument) with `what` if there is a NUL in `text`: the kernel would see the part
/// before it and nothing else, another file or argument than was asked for.
inline void refuse_nul(std::string_view text, const std::string& what) {
    if (text.find('\0') == std::string_view::npos) return;
    throw std::system_error(std::make_error_code(std::errc::invalid_argument), what + ": a NUL inside it");
}

}  // namespace reactor
