// Echo: what comes goes back (RFC 862). It is bounded without a line for it: while the peer does not read, the
// transport stops reading from it.
#pragma once

#include <reactor/protocol.hpp>

namespace reactor {

class Echo final : public Protocol {
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
};

}  // namespace reactor
