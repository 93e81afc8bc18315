// Result<T>: a value, or the std::error_code of why there is none. Coroutines return failures that are to be expected
// as values: a peer that hangs up is no exception.
#pragma once

#include <memory>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>

namespace reactor {

/// True if it holds a value. A view inside (Bytes) is as valid as the call that returned it says.
template <class T>
class [[nodiscard]] Result {
public:
    using value_type = T;

    Result(T value) noexcept(std::is_nothrow_move_constructible_v<T>) : has_value_(true) {
        ::new (static_cast<void*>(std::addressof(value_))) T(std::move(value));
    }
    Result(std::error_code error) noexcept : error_(error), has_value_(false) {}
    template <class Enum>
    requires std::is_error_code_enum_v<Enum> Result(Enum error)
    noexcept : Result(make_error_code(error)) {}
    Result(std::errc error) noexcept : Result(std::make_error_code(error)) {}

    Result(const Result& other) requires std::is_copy_constructible_v<T> : has_value_(other.has_value_) {
        if (has_value_) {
            ::new (static_cast<void*>(std::addressof(value_))) T(other.value_);
        } else {
            error_ = other.error_;
        }
    }
    Result(Result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) : has_value_(other.has_value_) {
        if (has_value_) {
            ::new (static_cast<void*>(std::addressof(value_))) T(std::move(other.value_));
        } else {
            error_ = other.error_;
        }
    }
    Result& operator=(Result other) noexcept(std::is_nothrow_move_constructible_v<T>) {
        std::destroy_at(this);
        ::new (static_cast<void*>(this)) Result(std::move(other));
        return *this;
    }
    ~Result() {
        if (has_value_) value_.~T();
    }

    bool has_value() const noexcept { return has_value_; }
    explicit operator bool() const noexcept { return has_value_; }

    /// Defined if there is a value.
    T& operator*() & noexcept { return value_; }
    const T& operator*() const& noexcept { return value_; }
    T&& operator*() && noexcept { return std::move(value_); }
    T* operator->() noexcept { return std::addressof(value_); }
    const T* operator->() const noexcept { return std::addressof(value_); }

    /// The value. Throws std::system_error with the error if there is none.
    T& value() & {
        require();
        return value_;
    }
    const T& value() const& {
        require();
        return value_;
    }
    T&& value() && {
        require();
        return std::move(value_);
    }

    /// No error if there is a value.
    std::error_code error() const noexcept { return has_value_ ? std::error_code() : error_; }

private:
    void require() const {
        if (!has_value_) throw std::system_error(error_);
    }

    union {
        T value_;
        std::error_code error_;
    };
    bool has_value_;
};

/// Success, or the reason of a failure.
template <>
class Result<void> {
public:
    using value_type = void;

    Result() noexcept = default;
    Result(std::error_code error) noexcept : error_(error) {}
    template <class Enum>
    requires std::is_error_code_enum_v<Enum> Result(Enum error)
    noexcept : Result(make_error_code(error)) {}
    Result(std::errc error) noexcept : Result(std::make_error_code(error)) {}

    bool has_value() const noexcept { return !error_; }
    explicit operator bool() const noexcept { return has_value(); }
    void operator*() const noexcept {}
    void value() const {
        if (error_) throw std::system_error(error_);
    }
    std::error_code error() const noexcept { return error_; }

private:
    std::error_code error_;
};

}  // namespace reactor
