// Binding a socket to each address of a name, on one port: shared by acceptors and datagrams.
#pragma once

#include <reactor/net/address.hpp>

#include <cstdint>
#include <exception>
#include <system_error>
#include <type_traits>
#include <vector>

namespace reactor {

/// Calls `bind_one(address)` for each address, which returns what is bound, and knows its `local()` address, or throws
/// std::system_error. Port 0
/// takes a free one, the same on all addresses: the kernel picks one for the first, which may be taken on the others;
/// then another try. Addresses that this machine does not have are left out, unless it has none of them: a machine
/// without IPv6 has no ::1.
template <class BindOne>
auto bind_everywhere(const std::vector<Address>& addresses, BindOne&& bind_one) {
    constexpr int attempts = 16;
    for (int attempt = 1;; ++attempt) {
        std::vector<std::invoke_result_t<BindOne&, const Address&>> sockets;
        std::uint16_t port = 0;
        bool again = false;
        std::exception_ptr missing;
        for (const Address& address : addresses) {
            const bool any_port = address.port() == 0;
            try {
                sockets.push_back(bind_one(any_port ? address.with_port(port) : address));
                if (any_port) port = sockets.back().local().port();
            } catch (const std::system_error& error) {
                const bool picked = any_port && port != 0;
                again = picked && error.code() == std::errc::address_in_use && attempt < attempts;
                if (again) break;
                const bool not_on_this_machine = error.code() == std::errc::address_not_available ||
                                                 error.code() == std::errc::address_family_not_supported;
                if (!not_on_this_machine) throw;
                missing = std::current_exception();
            }
        }
        if (again) continue;
        if (sockets.empty() && missing) std::rethrow_exception(missing);
        return sockets;
    }
}

}  // namespace reactor
