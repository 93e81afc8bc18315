// factory<P>: makes protocols of one class, for acceptors, connectors and sockets of datagrams.
#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

namespace reactor {

class DatagramProtocol;
class Protocol;

/// The factory of a protocol P whose constructor takes these arguments, each time anew:
/// `Acceptor{reactor, "localhost", 10000, factory<Echo>()}`, `factory<Chat>(std::ref(room))`. It converts to
/// ProtocolFactory, or to DatagramProtocolFactory if P is a DatagramProtocol. Lifetime: the factory keeps copies of the
/// arguments, and gives each protocol a copy. Objects that they point or refer to must live as long as the protocols.
template <class P, class... Arguments>
auto factory(Arguments... arguments) {
    static_assert(std::is_convertible_v<P*, Protocol*> || std::is_convertible_v<P*, DatagramProtocol*>,
                  "factory<P>: P must be derived publicly from reactor::Protocol or reactor::DatagramProtocol");
    static_assert(
        !std::is_abstract_v<P>,
        "factory<P>: P is abstract, so it still has to implement a pure virtual function (received, as a rule)");
    static_assert(std::is_abstract_v<P> || std::is_constructible_v<P, const Arguments&...>,
                  "factory<P>(arguments...): P has no public constructor that takes copies of these arguments; pass an "
                  "object that it takes by reference with std::ref");
    static_assert(
        (std::copy_constructible<Arguments> && ...),
        "factory<P>(arguments...): a factory makes many protocols, so it cannot give away an argument that can "
        "only be moved");
    return [... arguments = std::move(arguments)] { return std::make_unique<P>(arguments...); };
}

}  // namespace reactor
