// The programs on the simulated kernel: acceptors and connectors on one loop, conversations in every framing,
// raw handlers whose numbers are reused within a batch, datagrams, timers, and other threads that post. Each notes its
// actions and checks its calls.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace simulation {

struct Outcome {
    std::string failure;       ///< the first broken promise; empty if all were kept
    std::uint64_t digest = 0;  ///< of every call made and every answer given
    std::uint64_t turns = 0;
    std::uint64_t conversations = 0;  ///< ends of them
    std::uint64_t received = 0;       ///< bytes, and messages where there is a framing
};

/// Those that the simulated kernel can carry, io_uring's engine of completions among them.
std::vector<std::string_view> simulated_backends();

/// One world, from its beginning to its end. The backend follows from the seed, unless one is named. `traced`
/// prints every call.
Outcome simulate(std::uint64_t seed, std::string_view backend = {}, bool traced = false);

}  // namespace simulation
