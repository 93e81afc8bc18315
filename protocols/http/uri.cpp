#include <protocols/http/uri.hpp>

#include <protocols/http/scan_impl.hpp>

#include <algorithm>

namespace reactor::http {

namespace {

int digit_value(char digit) noexcept {
    return digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
}

std::optional<std::string> decoded(std::string_view text, bool plus_is_space) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t at = 0; at < text.size(); ++at) {
        char character = text[at];
        if (character == '%') {
            if (text.size() - at < 3 || !scan::is(text[at + 1], scan::hexadecimal) ||
                !scan::is(text[at + 2], scan::hexadecimal)) {
                return std::nullopt;
            }
            character = static_cast<char>(digit_value(text[at + 1]) * 16 + digit_value(text[at + 2]));
            at += 2;
            if (character == '\0') return std::nullopt;
        } else if (plus_is_space && character == '+') {
            character = ' ';
        }
        result.push_back(character);
    }
    return result;
}

}  // namespace

std::optional<std::string> percent_decoded(std::string_view text) {
    return decoded(text, false);
}

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
    while (!query.empty()) {
        const std::string_view pair = query.substr(0, query.find('&'));
        query.remove_prefix(std::min(pair.size() + 1, query.size()));
        const std::size_t equals = std::min(pair.find('='), pair.size());
        if (decoded(pair.substr(0, equals), true) != name) continue;
        return decoded(pair.substr(std::min(equals + 1, pair.size())), true);
    }
    return std::nullopt;
}

}  // namespace reactor::http
