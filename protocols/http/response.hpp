// Response: the answer to a client's request. It owns its text, so that it can be kept.
#pragma once

#include <protocols/http/field.hpp>
#include <protocols/http/head.hpp>
#include <reactor/bytes.hpp>
#include <reactor/export.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reactor::http {

/// One final response, without its content if that is given in parts. Lifetime: views of it are valid as long as it is,
/// also when it is moved.
class REACTOR_EXPORT Response {
public:
    /// Of nothing: the status is 0.
    Response() noexcept = default;
    /// A copy of the head. `text` is the input that its views are into. Throws std::bad_alloc.
    Response(const ResponseHead& head, std::string_view text, std::string url);

    /// 200 to 599.
    int status() const noexcept { return status_; }
    /// 200 to 299.
    bool successful() const noexcept { return status_ >= 200 && status_ < 300; }
    /// For people; may be empty.
    std::string_view reason() const noexcept { return reason_; }
    /// The header fields in the order of their arrival.
    Fields fields() const noexcept { return Fields(fields_); }
    /// The first field of that name.
    std::optional<std::string_view> operator[](std::string_view name) const noexcept { return fields()[name]; }
    /// The URL of the last request: another one than the first after a redirect.
    const std::string& url() const noexcept { return url_; }
    /// Empty if it is given in parts.
    const std::string& content() const& noexcept { return content_; }
    std::string content() && noexcept { return std::move(content_); }

private:
    friend class ClientConnection;
    int status_ = 0;
    std::unique_ptr<char[]> text_;
    std::string_view reason_;
    std::vector<Field> fields_;
    std::string url_;
    std::string content_;
};

}  // namespace reactor::http
