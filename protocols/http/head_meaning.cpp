#include <protocols/http/head_meaning_impl.hpp>

#include <protocols/http/scan_impl.hpp>

#include <algorithm>

namespace reactor::http::head_detail {

using scan::is;

namespace {

/// Up to 19 digits always fit; RFC 9110, 8.6 sets no limit, and no content is longer.
bool parse_length(std::string_view text, std::uint64_t& length) noexcept {
    if (text.empty() || text.size() > 19) return false;
    length = 0;
    for (const char digit : text) {
        if (digit < '0' || digit > '9') return false;
        length = length * 10 + static_cast<std::uint64_t>(digit - '0');
    }
    return true;
}

/// Empty, or at most 65535.
bool is_port(std::string_view text) noexcept {
    for (const char digit : text)
        if (digit < '0' || digit > '9') return false;
    return text.size() < 5 || (text.size() == 5 && text <= "65535");
}

/// The end of a host whose first letters, digits, "-" and "." have been passed: it may be a literal address, or
/// percent-encoded. A null pointer if it is malformed.
const char* past_unusual_host(const char* at, const char* end, bool at_its_begin) noexcept {
    const char* const begin = at;
    at = scan::past(at, end, scan::host);
    if (at_its_begin && at == begin && at != end && *at == '[') {  // IP-literal
        while (at != end && *at != ']') {
            at = scan::past(at + 1, end, scan::host);
            if (at != end && *at != ':' && *at != ']') return nullptr;
        }
        if (at == end || at - begin < 3) return nullptr;
        ++at;
    }
    while (at != end && *at == '%') {
        if (end - at < 3 || !is(at[1], scan::hexadecimal) || !is(at[2], scan::hexadecimal)) return nullptr;
        at = scan::past(at + 3, end, scan::host);
    }
    return at;
}

}  // namespace

bool is_host(std::string_view text, scan::End readable, bool needs_port) noexcept {
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    const char* at = std::min(scan::past_word<false>(begin, readable), end);
    if (at == end) return !needs_port;
    if (*at != ':' || at == begin) {
        at = past_unusual_host(at, end, at == begin);
        if (at == nullptr) return false;
        if (at == end) return !needs_port;
        if (*at != ':') return false;
    }
    const std::string_view port(at + 1, std::size_t(end - at - 1));
    return is_port(port) && !(needs_port && (port.empty() || at == begin));
}

namespace {

/// `text` begins with `lower`, apart from the case of letters.
bool begins_with(std::string_view text, std::string_view lower) noexcept {
    return text.size() >= lower.size() && same_token(text.substr(0, lower.size()), lower);
}

}  // namespace

Problem understand_other_target(RequestHead& head) noexcept {
    const std::string_view target = head.target;
    const scan::End readable(target.data(), target.data() + target.size());
    if (head.method == "CONNECT") {
        head.path = head.query = {};
        if (!is_host(target, readable, true)) return Problem::bad_target;
        head.host = target;
        return Problem::none;
    }
    if (target == "*") return head.method == "OPTIONS" ? Problem::none : Problem::bad_target;
    const std::size_t scheme = begins_with(target, "http://") ? 7 : begins_with(target, "https://") ? 8 : 0;
    if (scheme == 0) return Problem::bad_target;
    const std::string_view rest = head.path.substr(scheme);
    const std::size_t authority = std::min(rest.find('/'), rest.size());
    head.host = rest.substr(0, authority);
    if (head.host.empty() || head.host[0] == ':' || !is_host(head.host, readable)) return Problem::bad_target;
    head.path = authority == rest.size() ? "/" : rest.substr(authority);
    return Problem::none;
}

Problem understand_coding(std::string_view value, Head& head, Meaning& meaning) noexcept {
    if (meaning.has(Meaning::coding_field)) return Problem::bad_coding;
    meaning.note(Meaning::coding_field);
    head.chunked = same_token(value, "chunked");
    if (head.chunked) return Problem::none;
    const std::size_t comma = value.rfind(',');
    if (comma != std::string_view::npos) {
        std::string_view last = value.substr(comma + 1);
        last.remove_prefix(std::min(last.find_first_not_of(" \t"), last.size()));
        if (same_token(last, "chunked") && !list_has(value.substr(0, comma), "chunked")) {
            return Problem::unknown_coding;
        }
        return Problem::bad_coding;
    }
    meaning.note(Meaning::other_coding);
    return value.empty() ? Problem::bad_coding : Problem::none;
}

Problem understand_length(std::string_view value, Head& head, Meaning& meaning) noexcept {
    std::uint64_t length = 0;
    if (meaning.has(Meaning::length_field) || value.find(',') != std::string_view::npos)
        return Problem::repeated_length;
    if (!parse_length(value, length)) return Problem::bad_length;
    meaning.note(Meaning::length_field);
    head.content_length = length;
    return Problem::none;
}

void understand_connection(std::string_view value, Meaning& meaning) noexcept {
    if (value == "keep-alive") return meaning.note(Meaning::keep_alive_option);  // by far the most frequent
    meaning.note(Meaning::close_option, list_has(value, "close"));
    meaning.note(Meaning::keep_alive_option, list_has(value, "keep-alive"));
    meaning.note(Meaning::upgrade_option, list_has(value, "upgrade"));
}

Problem understand_trailer(const Field& field) noexcept {
    static constexpr std::string_view refused[] = {"authorization",
                                                   "cache-control",
                                                   "connection",
                                                   "content-encoding",
                                                   "content-length",
                                                   "content-range",
                                                   "content-type",
                                                   "cookie",
                                                   "expect",
                                                   "host",
                                                   "keep-alive",
                                                   "max-forwards",
                                                   "range",
                                                   "set-cookie",
                                                   "te",
                                                   "proxy-authorization",
                                                   "trailer",
                                                   "transfer-encoding",
                                                   "upgrade"};
    for (const std::string_view name : refused)
        if (same_token(field.name, name)) return Problem::bad_trailer;
    return Problem::none;
}

}  // namespace reactor::http::head_detail
