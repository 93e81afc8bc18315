#include <protocols/http/url.hpp>

#include <protocols/http/field.hpp>
#include <protocols/http/head_meaning_impl.hpp>
#include <protocols/http/scan_impl.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

namespace reactor::http {

namespace {

constexpr std::uint16_t usual_port(bool secure) noexcept {
    return secure ? 443 : 80;
}

bool has_prefix(std::string_view text, std::string_view lower) noexcept {
    return text.size() >= lower.size() && same_token(text.substr(0, lower.size()), lower);
}

/// Does the reference begin with a scheme (RFC 3986, 3.1)?
bool has_scheme(std::string_view text) noexcept {
    const std::size_t colon = text.find_first_of(":/?#");
    return colon != std::string_view::npos && text[colon] == ':';
}

bool set_authority(Url& url, std::string_view authority) {
    const char* const end = authority.data() + authority.size();
    if (authority.empty() || authority.front() == ':' || authority.find('%') != std::string_view::npos ||
        !head_detail::is_host(authority, scan::End(authority.data(), end))) {
        return false;
    }
    const std::size_t behind_host = authority.front() == '[' ? authority.find(']') + 1 : 0;
    const std::size_t colon = authority.find(':', behind_host);
    const std::string_view port = colon == std::string_view::npos ? std::string_view() : authority.substr(colon + 1);
    url.port = usual_port(url.secure);
    if (!port.empty() && std::from_chars(port.data(), end, url.port).ec != std::errc()) return false;
    std::string_view host = authority.substr(0, colon);
    if (host.front() == '[') host = host.substr(1, host.size() - 2);
    url.host = host;
    for (char& letter : url.host)
        if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter | 0x20);
    return url.port != 0;
}

/// A path and a query, which may both be empty.
bool set_target(Url& url, std::string_view text) {
    static constexpr std::string_view digits = "0123456789ABCDEF";
    url.target.clear();
    if (!text.starts_with('/')) url.target = "/";
    for (const char character : text) {
        const auto byte = static_cast<unsigned char>(character);
        if (byte >= 0x80) {
            url.target.append({'%', digits[byte >> 4], digits[byte & 15]});
        } else if (scan::is(character, scan::target)) {
            url.target.push_back(character);
        } else {
            return false;
        }
    }
    return true;
}

std::string_view without_fragment(std::string_view text) noexcept {
    return text.substr(0, text.find('#'));
}

/// "scheme:" has been read; "//" and the rest follow.
std::optional<Url> parse_rest(bool secure, std::string_view text) {
    if (!text.starts_with("//")) return std::nullopt;
    text.remove_prefix(2);
    Url url;
    url.secure = secure;
    const std::size_t length = std::min(text.find_first_of("/?"), text.size());
    if (!set_authority(url, text.substr(0, length)) || !set_target(url, text.substr(length))) return std::nullopt;
    return url;
}

/// A path without "." and ".." (RFC 3986, 5.2.4). It begins with "/".
std::string without_dots(std::string_view path) {
    std::string result;
    while (!path.empty()) {
        const std::size_t length = std::min(path.find('/', 1), path.size());
        const std::string_view segment = path.substr(0, length);
        path.remove_prefix(length);
        const bool up = segment == "/..";
        if (up) result.erase(std::min(result.rfind('/'), result.size()));
        if (!up && segment != "/.") {
            result += segment;
        } else if (path.empty()) {
            result += '/';
        }
    }
    return result;
}

}  // namespace

std::string Url::authority() const {
    std::string text = host.find(':') == std::string::npos ? host : "[" + host + "]";
    if (port != usual_port(secure)) text += ":" + std::to_string(port);
    return text;
}

std::string Url::to_string() const {
    return (secure ? "https://" : "http://") + authority() + target;
}

bool Url::same_origin(const Url& other) const noexcept {
    return secure == other.secure && port == other.port && host == other.host;
}

std::optional<Url> parse_url(std::string_view text) {
    text = without_fragment(text);
    if (has_prefix(text, "http:")) return parse_rest(false, text.substr(5));
    if (has_prefix(text, "https:")) return parse_rest(true, text.substr(6));
    return std::nullopt;
}

std::optional<Url> parse_url(std::string_view reference, const Url& base) {
    reference = without_fragment(reference);
    if (has_scheme(reference)) return parse_url(reference);
    if (reference.starts_with("//")) return parse_rest(base.secure, reference);
    const std::string_view base_path = std::string_view(base.target).substr(0, base.target.find('?'));
    const std::string_view path = reference.substr(0, reference.find('?'));
    const std::string_view query = reference.substr(path.size());
    std::string target;
    if (reference.empty()) {
        target = base.target;
    } else if (path.empty()) {
        target = base_path;
    } else if (path.starts_with('/')) {
        target = without_dots(path);
    } else {
        target = without_dots(std::string(base_path.substr(0, base_path.rfind('/') + 1)).append(path));
    }
    Url url = base;
    if (!set_target(url, target.append(query))) return std::nullopt;
    return url;
}

}  // namespace reactor::http
