// Echo: all input goes back (RFC 862). It is bounded without a line for it: while the peer does not read, the
// transport stops reading from it; and of datagrams for which there is no room it loses some, as the network does.
#pragma once

#include <reactor/datagram/datagram_protocol.hpp>
#include <reactor/stream/protocol.hpp>

namespace reactor {

class Echo final : public Protocol {
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
};

class DatagramEcho final : public DatagramProtocol {
    void received(const Datagram& datagram) override { transport().answer(datagram, datagram.data); }
};

}  // namespace reactor
