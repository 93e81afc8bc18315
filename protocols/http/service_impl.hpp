// The tables of a Service: its resources by path, and the state that all of its connections share.
#pragma once

#include <protocols/http/date_impl.hpp>
#include <protocols/http/service.hpp>
#include <reactor/detail/callback.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace reactor::http {

using HandlerCallback = Callback<void(const Request&, Exchange)>;

/// The handlers of one path, by method.
struct Service::Resource {
    std::vector<std::pair<std::string, std::unique_ptr<HandlerCallback>>> methods;

    HandlerCallback* find(std::string_view method) const noexcept {
        for (const auto& [name, handler] : methods)
            if (name == method) return handler.get();
        return nullptr;
    }
};

/// A path with parameters.
struct Service::Route {
    struct Segment {
        std::string text;  // of the segment, or the name of the parameter
        bool parameter = false;
        bool rest = false;  // it stands for all segments from here on
    };
    std::string path;
    std::vector<Segment> segments;
    Resource resource;
};

struct Service::Tables {
    std::map<std::string, Resource, std::less<>> literal;
    std::vector<std::unique_ptr<Route>> patterns;
    std::unique_ptr<HandlerCallback> otherwise;
    DateText date;
};

}  // namespace reactor::http
