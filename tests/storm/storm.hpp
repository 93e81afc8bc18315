// One storm: two loops on one thread, and in every callback a random operation of the public interface.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace storm {

struct Outcome {
    std::string failure;  ///< empty if every promise was kept
    std::uint64_t operations = 0, callbacks = 0, protocols = 0, turns = 0;
};

/// The same operations for the same seed and backend; "" as backend: whatever "auto" means, or REACTOR_BACKEND.
Outcome run(std::uint64_t seed, std::string_view backend, bool traced);

}  // namespace storm
