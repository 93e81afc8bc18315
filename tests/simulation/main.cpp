// Simulated worlds, one a seed: a few hundred in the ordinary tests, or SIMULATION_SEEDS. To repeat a failure, or to
// look for more:
//
//     simulation --seed 4711            that world alone, on the backend that it had
//     simulation --seed 4711 --trace    with every call that the library made
//     simulation --seeds 100000 --from 1000 --backend io_uring
#include "world.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace {

std::uint64_t first_seed = 1;
std::uint64_t seeds = 300;
std::string backend;  // empty: as each seed has it
bool traced = false;

const char* word_after(int count, char** words, std::string_view name) {
    for (int i = 1; i + 1 < count; ++i)
        if (words[i] == name) return words[i + 1];
    return nullptr;
}

std::optional<std::uint64_t> number_after(int count, char** words, std::string_view name) {
    const char* const word = word_after(count, words, name);
    if (word == nullptr) return std::nullopt;
    return std::strtoull(word, nullptr, 10);
}

}  // namespace

TEST_CASE("simulated worlds: every byte once and in order, every end told once and last, nothing left behind") {
    simulation::Outcome all;
    int failures = 0;
    for (std::uint64_t seed = first_seed; seed < first_seed + seeds && failures < 5; ++seed) {
        const simulation::Outcome outcome = simulation::simulate(seed, backend, traced);
        all.turns += outcome.turns;
        all.conversations += outcome.conversations;
        all.received += outcome.received;
        if (outcome.failure.empty()) continue;
        ++failures;
        const std::string named = backend.empty() ? "" : " --backend " + backend;
        FAIL_CHECK("seed " << seed << ": " << outcome.failure << "\n  again: simulation --seed " << seed << named);
    }
    CHECK(all.conversations > 0);
    std::printf("%llu seeds from %llu: %llu turns, %llu ends of conversations, %llu bytes and messages received\n",
                static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(first_seed),
                static_cast<unsigned long long>(all.turns), static_cast<unsigned long long>(all.conversations),
                static_cast<unsigned long long>(all.received));
}

TEST_CASE("a seed replays exactly") {
    for (std::uint64_t seed = first_seed; seed < first_seed + std::min<std::uint64_t>(seeds, 20); ++seed) {
        for (const std::string_view name : simulation::simulated_backends()) {
            const simulation::Outcome once = simulation::simulate(seed, name);
            const simulation::Outcome again = simulation::simulate(seed, name);
            CHECK(once.digest == again.digest);
            CHECK(once.turns == again.turns);
            CHECK(once.failure == again.failure);
        }
    }
}

int main(int count, char** words) {
    if (const char* wanted = std::getenv("SIMULATION_SEEDS")) seeds = std::strtoull(wanted, nullptr, 10);
    seeds = number_after(count, words, "--seeds").value_or(seeds);
    if (const char* const wanted = word_after(count, words, "--backend")) backend = wanted;
    first_seed = number_after(count, words, "--from").value_or(first_seed);
    if (const auto seed = number_after(count, words, "--seed")) {
        first_seed = *seed;
        seeds = 1;
    }
    traced = std::any_of(words, words + count, [](std::string_view word) { return word == "--trace"; });
    doctest::Context context(count, words);
    return context.run();
}
