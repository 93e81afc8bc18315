// c-ares driven by a reactor: names looked up without a thread. It says which sockets it waits for; how long it waits
// is asked after everything that may have changed it.
#pragma once

#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <ares.h>
#include <sys/time.h>

#include <memory>
#include <stdexcept>
#include <unordered_map>

class CaresChannel {
public:
    /// `servers` as ares_set_servers_ports_csv takes them: "127.0.0.1:53,[::1]:53".
    CaresChannel(reactor::Reactor& reactor, const char* servers, int timeout_milliseconds, int tries)
        : reactor_(reactor), timer_(reactor, [this] { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }) {
        ares_options options{};
        options.sock_state_cb = &CaresChannel::socket_changed;
        options.sock_state_cb_data = this;
        options.timeout = timeout_milliseconds;
        options.tries = tries;
        options.lookups = const_cast<char*>("b");  // servers alone, not /etc/hosts
        check(ares_init_options(&channel_, &options,
                                ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS));
        check(ares_set_servers_ports_csv(channel_, servers));
    }
    ~CaresChannel() {
        if (channel_ != nullptr)
            ares_destroy(channel_);  // ends every look-up with ARES_EDESTRUCTION, and closes the sockets
    }
    CaresChannel(const CaresChannel&) = delete;
    CaresChannel& operator=(const CaresChannel&) = delete;

    /// As ares_getaddrinfo.
    void look_up(const char* name, int family, ares_addrinfo_callback done, void* data) {
        ares_addrinfo_hints hints{};
        hints.ai_family = family;
        ares_getaddrinfo(channel_, name, nullptr, &hints, done, data);
        plan();
    }

private:
    struct Watched final : reactor::EventHandler {
        Watched(CaresChannel& the_owner, ares_socket_t the_socket)
            : owner(the_owner),
              socket(the_socket),
              registration(owner.reactor_.watch(socket, reactor::Interest::none, *this)) {}
        // c-ares may close the socket, and so end this object, in the call.
        void readable() override { owner.process(socket, ARES_SOCKET_BAD); }
        void writable() override { owner.process(ARES_SOCKET_BAD, socket); }

        CaresChannel& owner;
        ares_socket_t socket;
        reactor::Registration registration;
    };

    static void check(int status) {
        if (status != ARES_SUCCESS) throw std::runtime_error(ares_strerror(status));
    }

    // With neither, the socket is about to be closed.
    static void socket_changed(void* self, ares_socket_t socket, int wants_to_read, int wants_to_write) {
        auto& watched = static_cast<CaresChannel*>(self)->watched_;
        if (wants_to_read == 0 && wants_to_write == 0) {
            watched.erase(socket);
            return;
        }
        auto& entry = watched[socket];
        if (entry == nullptr) entry = std::make_unique<Watched>(*static_cast<CaresChannel*>(self), socket);
        reactor::Interest interest = reactor::Interest::none;
        if (wants_to_read != 0) interest |= reactor::Interest::readable;
        if (wants_to_write != 0) interest |= reactor::Interest::writable;
        entry->registration.set_interest(interest);
    }

    void process(ares_socket_t readable, ares_socket_t writable) {
        ares_process_fd(channel_, readable, writable);
        plan();
    }

    void plan() {
        timeval time{};
        if (ares_timeout(channel_, nullptr, &time) == nullptr) {
            timer_.cancel();
        } else {
            // c-ares 1.18.1 gives whole milliseconds, rounded down. In the last one it says 0, and has nothing to do
            // yet: the loop would go round a thousand times.
            constexpr auto rounded_away = std::chrono::milliseconds(1);
            timer_.start(std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec) + rounded_away);
        }
    }

    reactor::Reactor& reactor_;
    reactor::Timer timer_;
    std::unordered_map<ares_socket_t, std::unique_ptr<Watched>> watched_;
    ares_channel channel_ = nullptr;
};
