// Shared by the tests of the server: the answers of a conversation without their dates.
#pragma once

#include <string>
#include <string_view>

/// The text without its Date fields, which are different in each second.
inline std::string without_date(std::string text) {
    for (std::size_t at; (at = text.find("Date: ")) != std::string::npos;) {
        text.erase(at, text.find("\r\n", at) + 2 - at);
    }
    return text;
}
