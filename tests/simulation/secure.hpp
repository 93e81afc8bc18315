// TLS in simulated worlds: contexts whose random numbers follow from the seed, so that a world replays exactly, with
// signatures of the same length.
#pragma once

#include <reactor/stream/protocol.hpp>

#include <cstdint>
#include <memory>

namespace simulation {

class Secure {
public:
    /// `patient`: a handshake may take for ever.
    Secure(std::uint64_t seed, bool patient);
    ~Secure();

    /// The protocol, inside TLS.
    std::unique_ptr<reactor::Protocol> dress(std::unique_ptr<reactor::Protocol> protocol, bool client) const;

    /// Was the simulation built with TLS?
    static bool available() noexcept;

private:
    struct Contexts;
    std::unique_ptr<Contexts> contexts_;
};

}  // namespace simulation
