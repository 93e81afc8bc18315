// Field, Fields: the header or trailer fields of a message, as views into what was received. No copy is made, so they
// are valid as long as the input that they were found in.
#pragma once

#include <reactor/export.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace reactor::http {

/// One field: a name, in the spelling of its sender, and a value without the white space around it.
struct Field {
    std::string_view name;
    std::string_view value;
};

/// Are these the same, apart from the case of ASCII letters? Names of fields and of codings are compared so.
REACTOR_EXPORT bool same_token(std::string_view one, std::string_view other) noexcept;

/// Is `token` an element of the comma-separated list, apart from the case of letters (RFC 9110, 5.6.1)?
REACTOR_EXPORT bool list_has(std::string_view list, std::string_view token) noexcept;

/// The fields of one message in the order of their arrival.
class REACTOR_EXPORT Fields {
public:
    Fields() = default;
    explicit Fields(std::span<const Field> fields) noexcept : fields_(fields) {}

    /// The value of the first field of that name; nullopt if there is none.
    std::optional<std::string_view> operator[](std::string_view name) const noexcept;
    /// How many fields have that name.
    std::size_t count(std::string_view name) const noexcept;
    /// Does a field of that name, read as a comma-separated list, have this element?
    bool has(std::string_view name, std::string_view token) const noexcept;

    std::size_t size() const noexcept { return fields_.size(); }
    bool empty() const noexcept { return fields_.empty(); }
    auto begin() const noexcept { return fields_.begin(); }
    auto end() const noexcept { return fields_.end(); }

private:
    std::span<const Field> fields_;
};

}  // namespace reactor::http
