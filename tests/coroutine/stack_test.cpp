// Chains of awaits use a constant amount of stack, however long or deep they are. Compiled without optimization and
// with: a compiler may make a tail call of a transfer between coroutines only with it.
#include <doctest/doctest.h>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/reactor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

using namespace reactor;

namespace {

// How much of the stack was in use, at the least and at the most, when coroutines ran.
struct Extent {
    std::uintptr_t low = UINTPTR_MAX, high = 0;
    [[gnu::noinline]] void note() {
        const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
        low = std::min(low, here);
        high = std::max(high, here);
    }
    std::size_t size() const { return std::size_t(high - low); }
};

Task<int> one(Extent& extent) {
    extent.note();
    co_return 1;
}

Task<int> many(Extent& extent, int count) {
    int sum = 0;
    for (int i = 0; i < count; ++i) sum += co_await one(extent);
    co_return sum;
}

Task<int> nested(Extent& extent, int depth) {
    extent.note();
    if (depth == 0) co_return 0;
    const int below = co_await nested(extent, depth - 1);
    extent.note();
    co_return below + 1;
}

}  // namespace

TEST_CASE("a million awaits in a row use no more stack than one") {
    Reactor reactor;
    Extent extent;
    CHECK(run(reactor, many(extent, 1'000'000)) == 1'000'000);
    CHECK(extent.size() < 1024);
}

TEST_CASE("a thousand nested tasks use no more stack than one") {
    Reactor reactor;
    Extent extent;
    CHECK(run(reactor, nested(extent, 1'000)) == 1'000);
    CHECK(extent.size() < 1024);
}
