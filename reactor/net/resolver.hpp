// Resolver: looks a name up without blocking the loop. getaddrinfo(3) can only block, so it does that on a thread
// of its own, one for each look-up in flight; addresses and the names that need no look-up take none.
#pragma once

#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/net/address.hpp>

#include <cstdint>
#include <memory>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor {

class Reactor;

/// One look-up. Destroying it cancels: `done` is then never called, although a thread may go on waiting for an
/// answer that nobody wants any more. On the loop's thread only; must go before its reactor.
class REACTOR_EXPORT Resolver {
public:
    using Done = MoveOnlyFunction<void(std::error_code, std::vector<Address>)>;

    /// Finds what resolve_blocking would, and calls `done` with it from the loop, never from inside this call. The
    /// callback may destroy the resolver.
    Resolver(Reactor& reactor, std::string_view host, std::uint16_t port, Done done);
    ~Resolver();
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;

private:
    struct Request;
    std::shared_ptr<Request> request_;  // shared with the thread, which may outlive this
};

}  // namespace reactor
