// Storms, one a seed: a thousand on each backend in the ordinary tests, or STORM_SEEDS. To repeat a failure, or to
// look for more:
//
//     storm --seed 4711 --backend poll            that storm alone
//     storm --seed 4711 --backend poll --trace    with every operation and every callback
//     storm --seeds 100000 --from 1000
#include "storm.hpp"

#include <reactor/demultiplexer.hpp>

#include <doctest/doctest.h>

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <string>

// A size that is not to be had is refused at once, with and without AddressSanitizer, which otherwise ends the program.
void* operator new(std::size_t size) {
    constexpr std::size_t most = 64 * 1024 * 1024;
    void* const memory = size > most ? nullptr : std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void* operator new[](std::size_t size) {
    return operator new(size);
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}

extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());  // there with a sanitizer

namespace {

std::uint64_t first_seed = 1;
std::uint64_t seeds = 1000;
bool traced = false;
std::string backend = "auto";

// The message when the program dies: a finding of a sanitizer, an abort, a crash, or no end.
char last_words[200];

void say_last_words() {
    (void)!::write(STDERR_FILENO, last_words, std::strlen(last_words));
}

extern "C" void die(int signal) {
    say_last_words();
    ::signal(signal, SIG_DFL);
    ::raise(signal);
}

std::optional<std::string> word_after(int count, char** words, std::string_view name) {
    for (int i = 1; i + 1 < count; ++i)
        if (words[i] == name) return words[i + 1];
    return std::nullopt;
}

std::optional<std::uint64_t> number_after(int count, char** words, std::string_view name) {
    const auto word = word_after(count, words, name);
    if (!word) return std::nullopt;
    return std::strtoull(word->c_str(), nullptr, 10);
}

}  // namespace

TEST_CASE("S91, S92: a storm of all operations breaks no promise, leaves nothing behind and lets no loop spin") {
    // Here, where doctest has installed its own.
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) ::signal(signal, die);
    storm::Outcome all;
    int failures = 0;
    for (std::uint64_t seed = first_seed; seed < first_seed + seeds && failures < 5; ++seed) {
        const auto seed_printed = static_cast<unsigned long long>(seed);
        std::snprintf(last_words, sizeof last_words, "died in seed %llu; again: storm --seed %llu --backend %s\n",
                      seed_printed, seed_printed, backend.c_str());
        ::alarm(120);
        const storm::Outcome outcome = storm::run(seed, backend, traced);
        ::alarm(0);
        all.operations += outcome.operations;
        all.callbacks += outcome.callbacks;
        all.protocols += outcome.protocols;
        all.turns += outcome.turns;
        if (outcome.failure.empty()) continue;
        ++failures;
        FAIL_CHECK("seed " << seed << ": " << outcome.failure << "\n  again: storm --seed " << seed << " --backend "
                           << backend);
    }
    CHECK((all.callbacks > 0 || seeds < 100));  // one storm may be a calm
    std::printf("%llu seeds from %llu on %s: %llu operations, %llu callbacks, %llu protocols, %llu turns\n",
                static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(first_seed), backend.c_str(),
                static_cast<unsigned long long>(all.operations), static_cast<unsigned long long>(all.callbacks),
                static_cast<unsigned long long>(all.protocols), static_cast<unsigned long long>(all.turns));
}

int main(int count, char** words) {
    if (const char* wanted = std::getenv("STORM_SEEDS")) seeds = std::strtoull(wanted, nullptr, 10);
    if (const char* wanted = std::getenv("REACTOR_BACKEND")) backend = wanted;
    backend = word_after(count, words, "--backend").value_or(backend);
    seeds = number_after(count, words, "--seeds").value_or(seeds);
    first_seed = number_after(count, words, "--from").value_or(first_seed);
    if (const auto seed = number_after(count, words, "--seed")) {
        first_seed = *seed;
        seeds = 1;
    }
    traced = std::any_of(words, words + count, [](std::string_view word) { return word == "--trace"; });
    ::signal(SIGPIPE, SIG_IGN);  // of the raw ends
    if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(say_last_words);
    doctest::Context context(count, words);
    return context.run();
}
