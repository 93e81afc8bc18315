#include <protocols/http/service.hpp>

#include <protocols/http/scan_impl.hpp>
#include <protocols/http/server_connection.hpp>
#include <protocols/http/service_impl.hpp>
#include <protocols/http/uri.hpp>
#include <reactor/detail/callback.hpp>

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
    if (method.empty() || !scan::all_in_token(method)) wrong(method, "a method must be a token");
    if (!path.starts_with('/') && !(method == "CONNECT" && path.empty())) wrong(path, "a path must begin with \"/\"");
    auto kept = std::make_unique<Handler>(required(std::move(handler), "http::Service: an empty handler"));

    Resource* resource = nullptr;
    if (path.find('{') == std::string_view::npos) {
        resource = &tables_->add(path);
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
    resource->methods.emplace_back(method, std::move(kept));
}

void Service::otherwise(Handler handler) {
    tables_->otherwise = std::make_shared<Handler>(required(std::move(handler), "http::Service: an empty handler"));
}

void Service::on_access(MoveOnlyFunction<void(const Access&)> hook) {
    on_access_ = std::move(hook);
}

// A handler that is being called is forgotten when it returns.
void Service::close() noexcept {
    closed_ = true;
    if (tables_->calls == 0) forget();
}

// Moved to here first: a handler's captures may own a connection, which asks for the tables while it goes.
void Service::forget() noexcept {
    const auto literals = std::exchange(tables_->literals, {});
    const auto patterns = std::exchange(tables_->patterns, {});
    const auto otherwise = std::exchange(tables_->otherwise, nullptr);
    const auto hook = std::exchange(on_access_, nullptr);
}

/// Finds the handler and calls it.
void Service::dispatch(const RequestHead& head, ServerConnection& connection, const Transport& transport) {
    if (closed_) {
        Exchange exchange = connection.exchange();
        exchange.close_after();
        return exchange.answer(503, "the server is shutting down\n");
    }
    struct Counted {
        explicit Counted(Service& service) noexcept : service_(service) { ++service.tables_->calls; }
        ~Counted() {
            if (--service_.tables_->calls == 0 && service_.closed_) service_.forget();
        }
        Service& service_;
    } const counted(*this);
    if (const Resource* const resource = tables_->find(head.path)) {
        if (Handler* const handler = resource->find(head.method)) {
            if (head.path.empty() && !options_.allow_connect) return connection.exchange().answer(501);
            return (*handler)(Request(head, {}, transport), connection.exchange());
        }
        return dispatch_to(*resource, Request(head, {}, transport), connection.exchange());
    }
    dispatch_by_pattern(head, connection.exchange(), transport);
}

/// For a path that is no route without parameters.
void Service::dispatch_by_pattern(const RequestHead& head, Exchange&& exchange, const Transport& transport) {
    std::vector<Request::Parameter> parameters;
    const auto& patterns = tables_->patterns;
    const auto route = std::find_if(patterns.begin(), patterns.end(),
                                    [&](const auto& each) { return fits(each->segments, head.path, parameters); });
    const Request request(head, parameters, transport);
    if (route != patterns.end()) return dispatch_to((*route)->resource, request, std::move(exchange));
    if (head.method == "CONNECT" && !options_.allow_connect) return exchange.answer(501);
    if (const auto otherwise = tables_->otherwise) {  // shared with one that is replaced in its own call
        return (*otherwise)(request, std::move(exchange));
    }
    if (head.method == "OPTIONS" && head.path == "*") return exchange.answer(204);
    exchange.answer(404, "not found\n");
}

void Service::dispatch_to(const Resource& resource, const Request& request, Exchange&& exchange) {
    const std::string_view method = request.method();
    if (method == "CONNECT" && !options_.allow_connect) return exchange.answer(501);
    Handler* handler = resource.find(method);
    if (handler == nullptr && method == "HEAD") handler = resource.find("GET");
    if (handler != nullptr) return (*handler)(request, std::move(exchange));
    exchange.set("Allow", methods_of(resource));
    if (method == "OPTIONS") return exchange.answer(204);
    exchange.answer(405, "method not allowed\n");
}

}  // namespace reactor::http
