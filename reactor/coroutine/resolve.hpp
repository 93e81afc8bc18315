// resolve: a task waits for the addresses of a name.
#pragma once

#include <reactor/coroutine/detail/promise.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/net/resolver.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

namespace coroutine_detail {

class ResolveOperation : public Operation<ResolveOperation> {
public:
    ResolveOperation(std::string_view host, std::uint16_t port) : look_up_(std::make_unique<LookUp>(host, port)) {}

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation) {
        LookUp& look_up = *look_up_;
        look_up.continuation = continuation;
        look_up.resolver.emplace(root.reactor(), look_up.host, look_up.port,
                                 [&look_up](std::error_code error, std::vector<Address> addresses) {
                                     look_up.error = error;
                                     look_up.addresses = std::move(addresses);
                                     resume(look_up.continuation);
                                 });
    }
    Result<std::vector<Address>> result() {
        if (look_up_->error) return look_up_->error;
        return std::move(look_up_->addresses);
    }

private:
    // Beside the frame, which would be as large as this for as long as its coroutine lives.
    struct LookUp {
        LookUp(std::string_view the_host, std::uint16_t the_port) : host(the_host), port(the_port) {}
        const std::string host;
        const std::uint16_t port;
        std::error_code error;
        std::vector<Address> addresses;
        Continuation continuation;
        std::optional<Resolver> resolver;
    };
    std::unique_ptr<LookUp> look_up_;
};

}  // namespace coroutine_detail

/// The addresses of a name, looked up as a Resolver does. Errors: those of Resolver, as values. Destroying the await
/// gives the look-up up.
inline coroutine_detail::ResolveOperation resolve(std::string_view host, std::uint16_t port) {
    return {host, port};
}

}  // namespace reactor
