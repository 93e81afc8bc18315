// The tables of a Service: its resources by path, and the state that all of its connections share.
#pragma once

#include <protocols/http/answer_start_impl.hpp>
#include <protocols/http/service.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace reactor::http {

/// The handlers of one path, by method.
struct Service::Resource {
    std::vector<std::pair<std::string, std::unique_ptr<Handler>>> methods;

    Handler* find(std::string_view method) const noexcept {
        for (const auto& [name, handler] : methods)
            if (std::string_view(name) == method) return handler.get();
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
    struct Literal {
        std::string path;
        std::unique_ptr<Resource> resource;

        /// Below, at or above 0 as the given path is. Most paths differ in their length, so that is compared first.
        int compare(std::string_view other) const noexcept {
            if (other.size() != path.size()) return other.size() < path.size() ? -1 : 1;
            return std::string_view::traits_type::compare(other.data(), path.data(), other.size());
        }
    };

    /// The resource of a path without parameters; a null pointer if there is none.
    Resource* find(std::string_view path) const noexcept {
        std::size_t low = 0, high = literals.size();
        while (low < high) {
            const std::size_t middle = (low + high) / 2;
            const int order = literals[middle].compare(path);
            if (order == 0) return literals[middle].resource.get();
            (order < 0 ? high : low) = order < 0 ? middle : middle + 1;
        }
        return nullptr;
    }
    /// The same, made if there is none.
    Resource& add(std::string_view path) {
        if (Resource* const known = find(path)) return *known;
        const auto place = std::find_if(literals.begin(), literals.end(),
                                        [path](const Literal& each) { return each.compare(path) < 0; });
        return *literals.insert(place, Literal{std::string(path), std::make_unique<Resource>()})->resource;
    }

    std::vector<Literal> literals;  // in their order
    std::vector<std::unique_ptr<Route>> patterns;
    std::shared_ptr<Handler> otherwise;
    AnswerStart start;
    unsigned calls = 0;  // of handlers, that are under way
};

}  // namespace reactor::http
