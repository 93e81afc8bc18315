#include <reactor/net/resolver.hpp>
#include <reactor/reactor.hpp>

#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>

namespace reactor {

struct Resolver::Request {
    std::mutex mutex;
    Reactor* reactor = nullptr;  // under the mutex; null once nobody wants the answer
    Done done;                   // the loop's thread only
    std::error_code error;
    std::vector<Address> addresses;

    void look_up(const std::string& host, std::uint16_t port) {
        try {
            addresses = resolve_blocking(host, port);
        } catch (const std::system_error& failure) {
            error = failure.code();
        } catch (const std::bad_alloc&) {
            error = std::make_error_code(std::errc::not_enough_memory);
        }
    }

    // Hands the answer to the loop, unless the loop's side has gone: the mutex keeps the reactor alive meanwhile,
    // because ~Resolver must take it before the reactor can go.
    static void deliver(const std::shared_ptr<Request>& request) {
        const std::lock_guard lock(request->mutex);
        if (request->reactor == nullptr) return;
        request->reactor->post([request] { request->answer(); });
    }

    void answer() {
        {
            const std::lock_guard lock(mutex);
            if (std::exchange(reactor, nullptr) == nullptr) return;  // cancelled since
        }
        Done call = std::move(done);  // it may destroy the resolver
        call(error, std::move(addresses));
    }
};

namespace {

// Numbers, and the names whose addresses are known (RFC 6761): the look-up is none.
bool needs_no_look_up(std::string_view host) {
    return host.empty() || host == "localhost" || host.starts_with("unix:") || Address::ip(host, 0).has_value();
}

}  // namespace

Resolver::Resolver(Reactor& reactor, std::string_view host, std::uint16_t port, Done done)
    : request_(std::make_shared<Request>()) {
    request_->reactor = &reactor;
    request_->done = std::move(done);
    const std::string name(host);
    if (needs_no_look_up(name)) {
        request_->look_up(name, port);
        Request::deliver(request_);
        return;
    }
    try {
        std::thread([request = request_, name, port] {
            request->look_up(name, port);
            try {
                Request::deliver(request);
            } catch (const std::bad_alloc&) {
                // No memory even to say so: to those who wait it is a name server that does not answer.
            }
        }).detach();
    } catch (const std::system_error& failure) {  // no thread to be had
        request_->error = failure.code();
        Request::deliver(request_);
    }
}

Resolver::~Resolver() {
    const std::lock_guard lock(request_->mutex);
    request_->reactor = nullptr;
}

}  // namespace reactor
