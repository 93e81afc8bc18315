#include <protocols/http/response.hpp>

#include <algorithm>

namespace reactor::http {

Response::Response(const ResponseHead& head, std::string_view text, std::string url)
    : status_(head.status), text_(std::make_unique<char[]>(text.size())), url_(std::move(url)) {
    std::copy(text.begin(), text.end(), text_.get());
    const auto here = [&](std::string_view view) {
        return view.empty() ? std::string_view()
                            : std::string_view(text_.get() + (view.data() - text.data()), view.size());
    };
    reason_ = here(head.reason);
    fields_.reserve(head.fields().size());
    for (const Field& field : head.fields()) fields_.push_back({here(field.name), here(field.value)});
}

}  // namespace reactor::http
