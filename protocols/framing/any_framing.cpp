// A framing as the programs spell it.
#include <protocols/framing/any_framing.hpp>

#include <charconv>
#include <optional>
#include <stdexcept>

namespace reactor {

namespace {

template <class Number>
std::optional<Number> number(std::string_view text, int base = 10) {
    Number value{};
    const char* const end = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(text.data(), end, value, base);
    if (error != std::errc() || stopped != end) return std::nullopt;
    return value;
}

std::optional<std::string> delimiter_in(std::string_view text) {
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\') {
            bytes += text[i];
            continue;
        }
        if (++i == text.size()) return std::nullopt;
        switch (text[i]) {
            case 'n': bytes += '\n'; break;
            case 'r': bytes += '\r'; break;
            case 't': bytes += '\t'; break;
            case '0': bytes += '\0'; break;
            case '\\': bytes += '\\'; break;
            case 'x': {
                const auto value = text.size() - i > 2 ? number<unsigned>(text.substr(i + 1, 2), 16) : std::nullopt;
                if (!value) return std::nullopt;
                bytes += char(*value);
                i += 2;
                break;
            }
            default: return std::nullopt;
        }
    }
    return bytes;
}

/// The text behind `prefix`, if it begins with that.
std::optional<std::string_view> after(std::string_view text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return std::nullopt;
    return text.substr(prefix.size());
}

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
    throw std::invalid_argument("'" + std::string(text) + "' is no framing: " + why);
}

}  // namespace

AnyFraming parse_framing(std::string_view text, std::size_t maximum) {
    if (text == "none") return Unframed();
    if (text == "lines") return Lines(maximum);
    if (text == "varint") return VarintPrefixed(maximum);
    if (text == "netstring") return Netstring(maximum);
    if (text == "until-close") return UntilClose(maximum);
    if (const auto digits = after(text, "fixed:")) {
        const auto length = number<std::size_t>(*digits);
        if (length && *length > 0 && *length <= maximum) return FixedLength(*length);
        refuse(text, "N is a whole number from 1 to " + std::to_string(maximum) + ", the longest message");
    }
    if (const auto escaped = after(text, "delimited:")) {
        const auto delimiter = delimiter_in(*escaped);
        if (!delimiter) refuse(text, "a backslash begins one of \\n, \\r, \\t, \\0, \\\\ and \\xHH");
        if (delimiter->empty()) refuse(text, "STRING is at least one byte");
        return Delimited(*delimiter, maximum);
    }
    if (auto width = after(text, "length:")) {
        const bool little = width->ends_with("le");
        if (little) width->remove_suffix(2);
        if (*width != "1" && *width != "2" && *width != "4" && *width != "8")
            refuse(text, "the length has 1, 2, 4 or 8 bytes, and le behind that if it is little-endian");
        return LengthPrefixed(unsigned((*width)[0] - '0'), little ? std::endian::little : std::endian::big, maximum);
    }
    refuse(text, "there are " + std::string(framing_forms));
}

}  // namespace reactor
