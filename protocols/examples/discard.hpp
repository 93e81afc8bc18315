// Discard: all input is thrown away, until the peer closes (RFC 863).
#pragma once

#include <reactor/stream/protocol.hpp>

namespace reactor {

/// Consumes all input and answers nothing.
class Discard final : public Protocol {
    std::size_t received(Bytes input) override { return input.size(); }
};

}  // namespace reactor
