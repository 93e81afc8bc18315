#include <protocols/http/service.hpp>

#include <protocols/http/scan_impl.hpp>
#include <protocols/http/service_impl.hpp>
#include <protocols/http/uri.hpp>

#include <algorithm>
#include <stdexcept>

namespace reactor::http {

namespace {

[[noreturn]] void wrong(std::string_view path, const char* what) {
    throw std::invalid_argument("http::Service: " + std::string(what) + ": " + std::string(path));
}

/// The part of `path` up to the next "/", which is then gone from it.
std::string_view next_segment(std::string_view& path) noexcept {
    path.remove_prefix(1);  // "/"
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    return segment;
}

std::string methods_of(const auto& resource) {
    std::string list = "OPTIONS";
    for (const auto& [method, handler] : resource.methods) {
        list += ", " + method;
        if (method == "GET" && resource.find("HEAD") == nullptr) list += ", HEAD";
    }
    return list;
}

/// Does the path fit the segments of a route? Fills in the parameters. False also for a segment that cannot be decoded.
bool fits(const auto& segments, std::string_view path, std::vector<Request::Parameter>& parameters) {
    parameters.clear();
    for (const auto& segment : segments) {
        if (path.empty()) return false;
        if (segment.rest) {
            auto value = percent_decoded(path.substr(1));
            if (!value) return false;
            parameters.emplace_back(segment.text, std::move(*value));
            return true;
        }
        auto value = percent_decoded(next_segment(path));
        if (!value || (segment.parameter ? value->empty() : *value != segment.text)) return false;
        if (segment.parameter) parameters.emplace_back(segment.text, std::move(*value));
    }
    return path.empty();
}

}  // namespace

Service::Service(ServiceOptions options) : options_(options), tables_(std::make_unique<Tables>()) {}

Service::~Service() = default;

void Service::route(std::string_view method, std::string_view path, Handler handler) {
    if (method.empty() ||
        scan::past(method.data(), method.data() + method.size(), scan::token) != method.data() + method.size()) {
        wrong(method, "a method must be a token");
    }
    if (!path.starts_with('/') && !(method == "CONNECT" && path.empty())) wrong(path, "a path must begin with \"/\"");
    auto callback = std::make_unique<HandlerCallback>(required(std::move(handler), "http::Service: an empty handler"));

    Resource* resource = nullptr;
    if (path.find('{') == std::string_view::npos) {
        resource = &tables_->literal[std::string(path)];
    } else {
        auto& patterns = tables_->patterns;
        const auto known =
            std::find_if(patterns.begin(), patterns.end(), [&](const auto& p) { return p->path == path; });
        if (known != patterns.end()) {
            resource = &(*known)->resource;
        } else {
            auto route = std::make_unique<Route>();
            route->path = path;
            for (std::string_view rest = path; !rest.empty();) {
                if (!route->segments.empty() && route->segments.back().rest) wrong(path, "{name...} must be the last");
                std::string_view text = next_segment(rest);
                Route::Segment segment;
                if (text.starts_with('{') && text.ends_with('}')) {
                    text = text.substr(1, text.size() - 2);
                    segment.parameter = true;
                    segment.rest = text.ends_with("...");
                    if (segment.rest) text.remove_suffix(3);
                    if (text.empty()) wrong(path, "a parameter needs a name");
                }
                if (text.find_first_of("{}") != std::string_view::npos) wrong(path, "a parameter is a whole segment");
                segment.text = text;
                route->segments.push_back(std::move(segment));
            }
            resource = &route->resource;
            patterns.push_back(std::move(route));
        }
    }
    if (resource->find(method) != nullptr) wrong(path, "this route is there already");
    resource->methods.emplace_back(method, std::move(callback));
}

void Service::otherwise(Handler handler) {
    tables_->otherwise =
        std::make_unique<HandlerCallback>(required(std::move(handler), "http::Service: an empty handler"));
}

void Service::on_access(MoveOnlyFunction<void(const Access&)> hook) {
    on_access_ = std::move(hook);
}

// Moved to here first: a handler's captures may own a connection, which asks for the tables while it goes.
void Service::close() noexcept {
    closed_ = true;
    const auto literal = std::exchange(tables_->literal, {});
    const auto patterns = std::exchange(tables_->patterns, {});
    const auto otherwise = std::exchange(tables_->otherwise, nullptr);
    const auto hook = std::exchange(on_access_, nullptr);
}

/// Finds the handler and calls it.
void Service::dispatch(const RequestHead& head, Exchange exchange, const Transport& transport) {
    if (closed_) {
        exchange.close_after();
        return exchange.answer(503, "the server is shutting down\n");
    }
    std::vector<Request::Parameter> parameters;
    const Resource* resource = nullptr;
    if (const auto literal = tables_->literal.find(head.path); literal != tables_->literal.end()) {
        resource = &literal->second;
    } else {
        for (const auto& route : tables_->patterns) {
            if (!fits(route->segments, head.path, parameters)) continue;
            resource = &route->resource;
            break;
        }
    }
    if (head.method == "CONNECT" && !options_.allow_connect) return exchange.answer(501);
    if (resource == nullptr) {
        if (tables_->otherwise != nullptr) {
            return (*tables_->otherwise)(Request(head, parameters, transport), std::move(exchange));
        }
        if (head.method == "OPTIONS" && head.path == "*") return exchange.answer(204);
        return exchange.answer(404, "not found\n");
    }
    HandlerCallback* handler = resource->find(head.method);
    if (handler == nullptr && head.method == "HEAD") handler = resource->find("GET");
    if (handler != nullptr) return (*handler)(Request(head, parameters, transport), std::move(exchange));
    exchange.set("Allow", methods_of(*resource));
    if (head.method == "OPTIONS") return exchange.answer(204);
    exchange.answer(405, "method not allowed\n");
}

}  // namespace reactor::http
