// Shared by the fuzzers: bytes taken from the front of an input, and a promise that ends the program if it is
// broken, which is how libFuzzer, and doctest in the replay, learn of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace fuzz {

inline void require(bool kept, const char* promise) {
    if (kept) return;
    std::fprintf(stderr, "broken: %s\n", promise);
    std::abort();
}

class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) : left_(reinterpret_cast<const char*>(data), size) {}

    bool empty() const noexcept { return left_.empty(); }
    /// Zero where nothing is left.
    std::uint8_t byte() noexcept { return empty() ? std::uint8_t(0) : std::uint8_t(text(1)[0]); }
    std::size_t below(std::size_t limit) noexcept { return limit == 0 ? 0 : byte() % limit; }
    std::string_view text(std::size_t most) noexcept {
        const std::string_view front = left_.substr(0, most);
        left_.remove_prefix(front.size());
        return front;
    }
    std::string_view rest() noexcept { return text(left_.size()); }

private:
    std::string_view left_;
};

}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
