// Echo: all input goes back (RFC 862). It is bounded without a line for it: while the peer does not read, the
// transport stops reading from it; and of datagrams for which there is no room it loses some, as the network does.
#pragma once

#include <reactor/datagram/datagram_protocol.hpp>
#include <reactor/stream/protocol.hpp>

namespace reactor {

/// Writes all input back. A peer that does not read its echo is not read from.
class Echo final : public Protocol {
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
};

/// Answers each datagram with its own bytes.
class DatagramEcho final : public DatagramProtocol {
    void received(const Datagram& datagram) override { transport().answer(datagram, datagram.data); }
};

}  // namespace reactor
