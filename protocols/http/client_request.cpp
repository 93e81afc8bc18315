// The head of a client's request: its parts are checked, and written.
#include <protocols/http/client_impl.hpp>

#include <protocols/http/scan_impl.hpp>

#include <algorithm>
#include <stdexcept>

namespace reactor::http {

namespace {

bool is_token(std::string_view text) noexcept {
    return !text.empty() && scan::all_in_token(text);
}

bool is_value(std::string_view text) noexcept {
    return scan::all_in_value(text);
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) noexcept {
    return std::any_of(names.begin(), names.end(), [&](std::string_view each) { return same_token(name, each); });
}

[[noreturn]] void wrong(const std::string& what) {
    throw std::invalid_argument("http::Client: " + what);
}

/// Does a request of this method say that it has no content (RFC 9110, 8.6)?
bool expects_length(std::string_view method) noexcept {
    return method == "POST" || method == "PUT" || method == "PATCH";
}

}  // namespace

void check_request(const ClientRequest& request) {
    if (!is_token(request.method) || request.method == "CONNECT") wrong("not a method: " + request.method);
    for (const auto& [name, value] : request.fields) {
        const bool ours = is_one_of(
            name, {"host", "connection", "content-length", "transfer-encoding", "expect", "upgrade", "te", "trailer"});
        if (!is_token(name) || ours) wrong("not a field that can be set: " + name);
        if (!is_value(value)) wrong("a control character in the value of " + name);
    }
    if (!is_value(request.type)) wrong("a control character in a content type");
    if (request.in_parts && !request.content.empty()) wrong("content both at once and in parts");
    if (!request.in_parts && request.length) wrong("a length of content that is not in parts");
}

std::string head_of(const CallState& call, const ClientOptions& options, bool to_proxy) {
    const ClientRequest& request = call.request;
    const bool at_first_origin = call.url.same_origin(call.first_url);
    std::string head = request.method;
    const auto field = [&head](std::string_view name, std::string_view value) {
        head.append("\r\n").append(name).append(": ").append(value);
    };
    head.append(" ").append(to_proxy ? call.url.to_string() : call.url.target).append(" HTTP/1.1");
    field("Host", call.url.authority());
    for (const auto& [name, value] : request.fields)
        if (at_first_origin || !is_one_of(name, {"authorization", "cookie", "proxy-authorization"})) field(name, value);
    if (!request.type.empty()) field("Content-Type", request.type);
    const bool has_content = request.in_parts || !request.content.empty();
    if (request.in_parts && !request.length) {
        field("Transfer-Encoding", "chunked");
    } else if (has_content || expects_length(request.method)) {
        field("Content-Length", std::to_string(request.length.value_or(request.content.size())));
    }
    if (request.expects_continue && has_content) field("Expect", "100-continue");
    if (options.idle == 0) field("Connection", "close");
    return head.append("\r\n\r\n");
}

}  // namespace reactor::http
