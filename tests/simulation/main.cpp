// Simulated worlds, one a seed: a few hundred in the ordinary tests, or SIMULATION_SEEDS. To repeat a failure, or to
// look for more:
//
//     simulation --seed 4711            that world alone, on the backend that it had
//     simulation --seed 4711 --trace    with every call that the library made
//     simulation --seeds 100000 --from 1000
#include "world.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>

namespace {

std::uint64_t first_seed = 1;
std::uint64_t seeds = 300;
bool traced = false;

std::optional<std::uint64_t> number_after(int count, char** words, std::string_view name) {
    for (int i = 1; i + 1 < count; ++i)
        if (words[i] == name) return std::strtoull(words[i + 1], nullptr, 10);
    return std::nullopt;
}

}  // namespace

TEST_CASE("simulated worlds: every byte once and in order, every end told once and last, nothing left behind") {
    simulation::Outcome all;
    int failures = 0;
    for (std::uint64_t seed = first_seed; seed < first_seed + seeds && failures < 5; ++seed) {
        const simulation::Outcome outcome = simulation::simulate(seed, {}, traced);
        all.turns += outcome.turns;
        all.conversations += outcome.conversations;
        all.received += outcome.received;
        if (outcome.failure.empty()) continue;
        ++failures;
        FAIL_CHECK("seed " << seed << ": " << outcome.failure << "\n  again: simulation --seed " << seed);
    }
    CHECK(all.conversations > 0);
    std::printf("%llu seeds from %llu: %llu turns, %llu ends of conversations, %llu bytes and messages received\n",
                static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(first_seed),
                static_cast<unsigned long long>(all.turns), static_cast<unsigned long long>(all.conversations),
                static_cast<unsigned long long>(all.received));
}

TEST_CASE("a seed replays exactly") {
    for (std::uint64_t seed = first_seed; seed < first_seed + std::min<std::uint64_t>(seeds, 20); ++seed) {
        const simulation::Outcome once = simulation::simulate(seed), again = simulation::simulate(seed);
        CHECK(once.digest == again.digest);
        CHECK(once.turns == again.turns);
        CHECK(once.failure == again.failure);
    }
}

int main(int count, char** words) {
    if (const char* wanted = std::getenv("SIMULATION_SEEDS")) seeds = std::strtoull(wanted, nullptr, 10);
    seeds = number_after(count, words, "--seeds").value_or(seeds);
    first_seed = number_after(count, words, "--from").value_or(first_seed);
    if (const auto seed = number_after(count, words, "--seed")) {
        first_seed = *seed;
        seeds = 1;
    }
    traced = std::any_of(words, words + count, [](std::string_view word) { return word == "--trace"; });
    doctest::Context context(count, words);
    return context.run();
}
