// MoveOnlyFunction: C++23's std::move_only_function, for the compilers of C++20. Closures that own
// things (a unique_ptr, a socket) can be posted; small ones cost no allocation.
#pragma once

#include <reactor/export.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace reactor {

template <class Signature>
class MoveOnlyFunction;

/// Owns one callable, empty by default. Callables of up to three pointers that move without throwing lie
/// inside; others are allocated. One made of a null pointer or of an empty std::function is empty. Calling an empty one
/// is undefined, as it is for std::move_only_function.
template <class Result, class... Arguments>
class MoveOnlyFunction<Result(Arguments...)> {
public:
    MoveOnlyFunction() noexcept = default;
    MoveOnlyFunction(std::nullptr_t) noexcept {}

    template <class F>
    requires(!std::same_as<std::decay_t<F>, MoveOnlyFunction> &&
             std::is_invocable_r_v<Result, std::decay_t<F>&, Arguments...>) MoveOnlyFunction(F&& callable) {
        using Callable = std::decay_t<F>;
        if constexpr (can_be_null<F>) {
            if (callable == nullptr) return;
        }
        if constexpr (fits_inside<Callable>) {
            ::new (static_cast<void*>(storage_)) Callable(std::forward<F>(callable));
            operations_ = &inside<Callable>;
        } else {
            ::new (static_cast<void*>(storage_)) Callable*(new Callable(std::forward<F>(callable)));
            operations_ = &outside<Callable>;
        }
    }

    MoveOnlyFunction(MoveOnlyFunction&& other) noexcept { take(other); }
    MoveOnlyFunction& operator=(MoveOnlyFunction&& other) noexcept {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    ~MoveOnlyFunction() { reset(); }

    explicit operator bool() const noexcept { return operations_ != nullptr; }
    friend bool operator==(const MoveOnlyFunction& one, std::nullptr_t) noexcept { return !one; }

    Result operator()(Arguments... arguments) {
        return operations_->call(storage_, std::forward<Arguments>(arguments)...);
    }

private:
    struct Operations {
        Result (*call)(void*, Arguments&&...);
        void (*move)(void* to, void* from) noexcept;  // leaves nothing alive at `from`
        void (*destroy)(void*) noexcept;
    };

    // Pointers, std::function and other signatures of this class. A lambda without captures can be compared, too, as it
    // converts to a pointer, which is never null; so does a function.
    template <class F>
    static constexpr bool can_be_null =
        !std::is_function_v<std::remove_reference_t<F>> && !std::is_empty_v<std::remove_reference_t<F>> &&
        requires(std::remove_reference_t<F> & callable) {
        bool(callable == nullptr);
    };

    template <class Callable>
    static constexpr bool fits_inside =
        sizeof(Callable) <= 3 * sizeof(void*) &&
        alignof(Callable) <= alignof(void*) && std::is_nothrow_move_constructible_v<Callable>;

    template <class Callable>
    static Result invoke(Callable& callable, Arguments&&... arguments) {
        if constexpr (std::is_void_v<Result>) {
            callable(std::forward<Arguments>(arguments)...);
        } else {
            return callable(std::forward<Arguments>(arguments)...);
        }
    }

    template <class Callable>
    static constexpr Operations inside{[](void* at, Arguments&&... arguments) -> Result {
                                           return invoke(*static_cast<Callable*>(at),
                                                         std::forward<Arguments>(arguments)...);
                                       },
                                       [](void* to, void* from) noexcept {
                                           ::new (to) Callable(std::move(*static_cast<Callable*>(from)));
                                           static_cast<Callable*>(from)->~Callable();
                                       },
                                       [](void* at) noexcept { static_cast<Callable*>(at)->~Callable(); }};

    template <class Callable>
    static constexpr Operations outside{
        [](void* at, Arguments&&... arguments) -> Result {
            return invoke(**static_cast<Callable**>(at), std::forward<Arguments>(arguments)...);
        },
        [](void* to, void* from) noexcept { ::new (to) Callable*(*static_cast<Callable**>(from)); },
        [](void* at) noexcept { delete *static_cast<Callable**>(at); }};

    void take(MoveOnlyFunction& other) noexcept {
        if (other.operations_ == nullptr) return;
        other.operations_->move(storage_, other.storage_);
        operations_ = std::exchange(other.operations_, nullptr);
    }

    void reset() noexcept {
        if (const Operations* operations = std::exchange(operations_, nullptr)) operations->destroy(storage_);
    }

    alignas(void*) std::byte storage_[3 * sizeof(void*)];
    const Operations* operations_ = nullptr;
};

}  // namespace reactor
