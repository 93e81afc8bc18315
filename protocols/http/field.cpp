#include <protocols/http/field.hpp>

#include <algorithm>

namespace reactor::http {

namespace {

constexpr char lower(char letter) noexcept {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter | 0x20) : letter;
}

}  // namespace

bool same_token(std::string_view one, std::string_view other) noexcept {
    if (one.size() != other.size()) return false;
    for (std::size_t at = 0; at < one.size(); ++at)
        if (one[at] != other[at] && lower(one[at]) != lower(other[at])) return false;
    return true;
}

bool list_has(std::string_view list, std::string_view token) noexcept {
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        std::string_view element = list.substr(0, comma);
        const std::size_t begin = element.find_first_not_of(" \t");
        if (begin != std::string_view::npos) {
            element = element.substr(begin, element.find_last_not_of(" \t") - begin + 1);
            if (same_token(element, token)) return true;
        }
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return false;
}

std::optional<std::string_view> Fields::operator[](std::string_view name) const noexcept {
    for (const Field& field : fields_)
        if (same_token(field.name, name)) return field.value;
    return std::nullopt;
}

std::size_t Fields::count(std::string_view name) const noexcept {
    return std::size_t(
        std::count_if(begin(), end(), [name](const Field& field) { return same_token(field.name, name); }));
}

bool Fields::has(std::string_view name, std::string_view token) const noexcept {
    return std::any_of(begin(), end(), [&](const Field& field) {
        return same_token(field.name, name) && list_has(field.value, token);
    });
}

}  // namespace reactor::http
