// DressedProtocol: a protocol that carries another one, as that of TLS does. Code that looks for the program's own
// protocols looks inside. Not installed.
#pragma once

#include <reactor/stream/protocol.hpp>

namespace reactor {

class DressedProtocol {
public:
    virtual Protocol& inside() noexcept = 0;

protected:
    ~DressedProtocol() = default;
};

/// The program's own protocol: `protocol`, or the one that it carries.
inline Protocol& undressed(Protocol& protocol) noexcept {
    auto* const dressed = dynamic_cast<DressedProtocol*>(&protocol);
    return dressed == nullptr ? protocol : dressed->inside();
}

}  // namespace reactor
