#include <protocols/http/static_files.hpp>

#include <protocols/http/date_impl.hpp>
#include <protocols/http/field.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>

namespace reactor::http {

namespace {

struct Range {
    std::uint64_t begin = 0;
    std::uint64_t length = 0;
};

bool to_number(std::string_view text, std::uint64_t& number) noexcept {
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    return !text.empty() && result.ec == std::errc() && result.ptr == text.data() + text.size();
}

enum class RangeKind { none, part, unsatisfiable };

/// One range of bytes (RFC 9110, 14.1.2). Several ranges, other units and malformed ones count as none: the whole file
/// is a right answer to them (14.2).
RangeKind parse_range(std::string_view value, std::uint64_t size, Range& range) noexcept {
    constexpr std::string_view unit = "bytes=";
    if (value.size() < unit.size() || !same_token(value.substr(0, unit.size()), unit)) return RangeKind::none;
    value.remove_prefix(unit.size());
    const std::size_t dash = value.find('-');
    if (dash == std::string_view::npos) return RangeKind::none;
    const std::string_view first = value.substr(0, dash), last = value.substr(dash + 1);
    std::uint64_t from = 0, to = 0;
    if (first.empty()) {  // the last so many bytes
        if (!to_number(last, to)) return RangeKind::none;
        if (to == 0 || size == 0) return RangeKind::unsatisfiable;
        range.length = std::min(to, size);
        range.begin = size - range.length;
        return RangeKind::part;
    }
    if (!to_number(first, from) || (!last.empty() && (!to_number(last, to) || to < from))) return RangeKind::none;
    if (from >= size) return RangeKind::unsatisfiable;
    range.begin = from;
    range.length = (last.empty() || to >= size ? size : to + 1) - from;
    return RangeKind::part;
}

/// Does a list of entity tags have this one, by the weak comparison (RFC 9110, 13.1.2)?
bool matches(std::string_view list, std::string_view tag) noexcept {
    if (list == "*") return true;
    for (std::size_t at = list.find(tag); at != std::string_view::npos; at = list.find(tag, at + 1)) {
        const std::size_t behind = at + tag.size();
        const bool begins = at == 0 || list[at - 1] == ',' || list[at - 1] == ' ' || list[at - 1] == '/';
        if (begins && (behind == list.size() || list[behind] == ',' || list[behind] == ' ')) return true;
    }
    return false;
}

/// Opens the file of that path below `root`, and says its state. Empty if there is none that may be served. Each part
/// is opened by itself: open(2) with O_NOFOLLOW refuses only a link that is the last part.
FileDescriptor open_below(int root, std::string_view path, struct stat& state) {
    FileDescriptor folder;
    for (;;) {
        const std::string part(path.substr(0, path.find('/')));
        if (part.empty() || (part[0] == '.' && part != ".well-known")) return {};
        const bool last = part.size() == path.size();
        const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (last ? 0 : O_DIRECTORY);
        FileDescriptor next(::openat(folder ? folder.get() : root, part.c_str(), flags));
        if (!next) return {};
        folder = std::move(next);
        if (last) break;
        path.remove_prefix(part.size() + 1);
    }
    if (::fstat(folder.get(), &state) != 0) return {};
    if (!S_ISDIR(state.st_mode) && !S_ISREG(state.st_mode)) return {};
    return folder;
}

/// Two numbers in hexadecimal, in quotation marks.
class EntityTag {
public:
    EntityTag(std::uint64_t changed, std::uint64_t size) noexcept {
        put('"');
        put(changed);
        put('-');
        put(size);
        put('"');
    }
    std::string_view text() const noexcept { return {text_.data(), std::size_t(end_ - text_.data())}; }

private:
    void put(char character) noexcept { *end_++ = character; }
    void put(std::uint64_t number) noexcept { end_ = std::to_chars(end_, text_.data() + text_.size(), number, 16).ptr; }

    std::array<char, 40> text_;
    char* end_ = text_.data();
};

void answer_with(FileDescriptor file, const struct stat& state, std::string_view name, const Request& request,
                 Exchange exchange) {
    const auto size = static_cast<std::uint64_t>(state.st_size);
#if REACTOR_HAS(ST_MTIM)
    const timespec changed = state.st_mtim;
#else
    const timespec changed = state.st_mtimespec;
#endif
    const EntityTag tag_of_file(
        static_cast<std::uint64_t>(changed.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(changed.tv_nsec), size);
    const std::string_view tag = tag_of_file.text();
    const auto date = date_text(changed.tv_sec);
    const std::string_view modified(date.data(), date.size() - 1);
    exchange.set("ETag", tag);
    exchange.set("Last-Modified", modified);

    // RFC 9110, 13.2.2. A date is compared as text: it is the one that this server gave, or counts as another.
    const auto none_match = request["If-None-Match"];
    if (none_match ? matches(*none_match, tag) : request["If-Modified-Since"] == modified) return exchange.answer(304);

    Range range{0, size};
    int status = 200;
    exchange.set("Accept-Ranges", "bytes");
    const auto if_range = request["If-Range"];
    if (const auto asked = request["Range"]; asked && (!if_range || *if_range == tag || *if_range == modified)) {
        const RangeKind kind = request.method() == "GET" ? parse_range(*asked, size, range) : RangeKind::none;
        if (kind == RangeKind::unsatisfiable) {
            exchange.set("Content-Range", "bytes */" + std::to_string(size));
            return exchange.answer(416, "range not satisfiable\n");
        }
        if (kind == RangeKind::part) {
            status = 206;
            exchange.set("Content-Range", "bytes " + std::to_string(range.begin) + "-" +
                                              std::to_string(range.begin + range.length - 1) + "/" +
                                              std::to_string(size));
        }
    }
    exchange.answer_with_file(status, std::move(file), media_type(name), range.begin, range.length);
}

}  // namespace

Handler static_files(const std::string& root) {
    FileDescriptor folder(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) throw std::system_error(errno, std::system_category(), "http::static_files: open of " + root);
    return [folder = std::move(folder)](const Request& request, Exchange exchange) {
        std::string path(request.parameter("path"));
        if (path.empty() || path.ends_with('/')) path += "index.html";
        struct stat state {};
        FileDescriptor file = open_below(folder.get(), path, state);
        if (!file) return exchange.answer(404, "not found\n");
        if (S_ISDIR(state.st_mode)) {
            std::string location(request.path());
            // A target of "//name" would be another server's address.
            location = "/" + location.substr(std::min(location.find_first_not_of('/'), location.size())) + "/";
            if (!request.query().empty()) location.append("?").append(request.query());
            exchange.set("Location", location);
            return exchange.answer(301);
        }
        answer_with(std::move(file), state, path, request, std::move(exchange));
    };
}

std::string_view media_type(std::string_view file_name) noexcept {
    static constexpr std::pair<std::string_view, std::string_view> types[] = {
        {"css", "text/css; charset=utf-8"},
        {"csv", "text/csv; charset=utf-8"},
        {"gif", "image/gif"},
        {"gz", "application/gzip"},
        {"htm", "text/html; charset=utf-8"},
        {"html", "text/html; charset=utf-8"},
        {"ico", "image/vnd.microsoft.icon"},
        {"jpeg", "image/jpeg"},
        {"jpg", "image/jpeg"},
        {"js", "text/javascript; charset=utf-8"},
        {"json", "application/json"},
        {"md", "text/markdown; charset=utf-8"},
        {"mjs", "text/javascript; charset=utf-8"},
        {"mp3", "audio/mpeg"},
        {"mp4", "video/mp4"},
        {"pdf", "application/pdf"},
        {"png", "image/png"},
        {"svg", "image/svg+xml"},
        {"txt", "text/plain; charset=utf-8"},
        {"wasm", "application/wasm"},
        {"webm", "video/webm"},
        {"webp", "image/webp"},
        {"woff2", "font/woff2"},
        {"xml", "application/xml"},
        {"zip", "application/zip"},
    };
    const std::size_t dot = file_name.rfind('.');
    const std::string_view extension = dot == std::string_view::npos ? std::string_view() : file_name.substr(dot + 1);
    for (const auto& [known, type] : types)
        if (same_token(extension, known)) return type;
    return "application/octet-stream";
}

}  // namespace reactor::http
