// Echo, RFC 862: whatever comes goes back. A peer that does not read what comes back is not read from, so
// that it costs no more memory than the high mark.
#pragma once

#include <reactor/protocol.hpp>

#include <cstddef>

namespace reactor {

class Echo final : public Protocol {
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
};

}  // namespace reactor
