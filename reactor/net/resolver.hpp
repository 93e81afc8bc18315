// Resolver: looks a name up without blocking the loop. getaddrinfo(3) can only block, so a few threads call it, for all
// loops of the process. Addresses and the names that need no look-up take no thread.
#pragma once

#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/net/address.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor {

class Reactor;

/// One look-up. Destroying it cancels: `done` is then never called. On the loop's thread only; must go before its
/// reactor.
///
/// The process has at most `most_threads` threads for look-ups: half of them for IPv4 alone, and half for all others.
/// So a name server that is silent for one family holds up no look-up of the other. Equal questions (host and family)
/// of all loops share one look-up and its answer. Further questions wait their turn, in order. A question that is
/// cancelled before its turn is never asked.
///
/// A look-up that has begun keeps its thread until the C library gives up, also if it is cancelled: resolv.conf(5) says
/// when, by default after 10 s for each silent name server. If all threads of a family are stuck, further names wait
/// that long, and then have their turn. A thread ends when no question waits; the end of the process waits for none. A
/// child of fork(2) begins without look-ups: those under way are answered in the parent alone.
class REACTOR_EXPORT Resolver {
public:
    static constexpr std::size_t most_threads = 16;

    using Done = MoveOnlyFunction<void(std::error_code, std::vector<Address>)>;

    /// Finds what resolve_blocking would, and calls `done` with it from the loop, never from inside this call. The
    /// callback may destroy the resolver. Errors: those of resolve_blocking, and resource_unavailable_try_again if the
    /// system has no thread. Throws std::invalid_argument for an empty callback, and std::bad_alloc.
    [[nodiscard]] Resolver(Reactor& reactor, std::string_view host, std::uint16_t port, Done done);

    /// The same for the addresses of one family alone; for `none`, of both. The answer for both comes when both are
    /// known. A program that can begin with one of them asks for each on its own, as Connector does.
    /// address_not_available, or an error of getaddrinfo's, if the host has none.
    [[nodiscard]] Resolver(Reactor& reactor, std::string_view host, std::uint16_t port, Address::Family family,
                           Done done);
    ~Resolver();
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;

private:
    struct Answer;
    struct Request;
    struct LookUp;
    class LookUps;
    std::shared_ptr<Request> request_;  // shared with the look-up that is to answer it
};

}  // namespace reactor
