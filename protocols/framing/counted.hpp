// The common part of framings whose messages announce their length: fixed length, length prefixes,
// netstrings. A framing supplies how its prefix is read; this is not a framing by itself.
#pragma once

#include <protocols/framing/framing.hpp>

#include <algorithm>

namespace reactor {

/// The result of reading a prefix at the front of the input.
struct Prefix {
    Decoded::Status status = Decoded::Status::need_more;  ///< `message`: size and length are known
    std::size_t size = 0;                                 ///< bytes of the prefix
    std::size_t length = 0;                               ///< bytes of the message; within the maximum
    FramingError error;
};

/// `Derived` has `name()`, `prefix(input)`, which looks at a bounded number of bytes and so needs no
/// memory of its own, `trailer_size` and, where that is not 0, `check_trailer(Bytes)`.
template <class Derived>
class CountedFraming {
public:
    Decoded next(Bytes input) noexcept {
        const Prefix prefix = self().prefix(input);
        if (prefix.status != Decoded::Status::message) [[unlikely]]
            return refusal(prefix);
        const std::size_t available = input.size() - prefix.size;
        if (available < prefix.length || available - prefix.length < Derived::trailer_size) return {};
        if constexpr (Derived::trailer_size != 0) {
            const FramingError error = self().check_trailer(input.subspan(prefix.size + prefix.length));
            if (error) [[unlikely]]
                return Decoded::broken(error);
        }
        return Decoded::of(input.subspan(prefix.size, prefix.length),
                           prefix.size + prefix.length + Derived::trailer_size);
    }

    Decoded next_part(Bytes input) noexcept {
        std::size_t consumed = 0;
        if (!inside_) {
            if (input.empty()) return {};  // a message whose length needs no prefix has not begun either
            const Prefix prefix = self().prefix(input);
            if (prefix.status != Decoded::Status::message) return refusal(prefix);
            inside_ = true;
            length_ = left_ = prefix.length;
            consumed = prefix.size;
            input = input.subspan(consumed);
        }
        const Bytes part = input.first(std::min(left_, input.size()));
        left_ -= part.size();
        consumed += part.size();
        const Bytes behind = input.subspan(part.size());
        if (left_ != 0 || behind.size() < Derived::trailer_size) {
            return part.empty() ? Decoded::more(consumed) : Decoded::of(part, consumed, false);
        }
        if constexpr (Derived::trailer_size != 0) {
            const FramingError error = self().check_trailer(behind);
            if (error) return Decoded::broken(error);
        }
        inside_ = false;
        return Decoded::of(part, consumed + Derived::trailer_size);
    }

    Decoded end(Bytes rest) noexcept {
        if (rest.empty() && !inside_) return {};
        FramingError error{FramingError::Problem::ended, self().name(), length_, 0, length_ - left_};
        if (!inside_) {
            const Prefix prefix = self().prefix(rest);
            error.announced = prefix.length;
            error.came = std::min(rest.size() - prefix.size, prefix.size == 0 ? rest.size() : prefix.length);
        }
        return Decoded::broken(error);
    }

protected:
    CountedFraming() = default;
    ~CountedFraming() = default;
    CountedFraming(const CountedFraming&) = default;
    CountedFraming& operator=(const CountedFraming&) = default;

    /// The prefix is whole: the announced length is compared with the maximum before anything else is done with
    /// it.
    Prefix announced(std::size_t size, std::uint64_t length, std::size_t maximum) const noexcept {
        Prefix prefix;
        if (length > maximum) [[unlikely]] {
            return broken({FramingError::Problem::too_long, self().name(), length, maximum, 0});
        }
        prefix.status = Decoded::Status::message;
        prefix.size = size;
        prefix.length = std::size_t(length);
        return prefix;
    }
    static Prefix broken(const FramingError& error) noexcept {
        Prefix prefix;
        prefix.status = Decoded::Status::malformed;
        prefix.error = error;
        return prefix;
    }

private:
    static Decoded refusal(const Prefix& prefix) noexcept {
        return prefix.status == Decoded::Status::need_more ? Decoded() : Decoded::broken(prefix.error);
    }
    const Derived& self() const noexcept { return static_cast<const Derived&>(*this); }

    // Only while a message is given in parts.
    std::size_t length_ = 0;
    std::size_t left_ = 0;
    bool inside_ = false;
};

}  // namespace reactor
