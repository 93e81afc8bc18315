// Without OpenSSL there are no worlds with TLS.
#include "secure.hpp"

namespace simulation {

struct Secure::Contexts {};

Secure::Secure(std::uint64_t, bool) {}
Secure::~Secure() = default;

std::unique_ptr<reactor::Protocol> Secure::dress(std::unique_ptr<reactor::Protocol> protocol, bool) const {
    return protocol;
}

bool Secure::available() noexcept {
    return false;
}

}  // namespace simulation
