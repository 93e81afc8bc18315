// c-ares driven by a reactor: names looked up without a thread. c-ares says which sockets it waits for. How long it
// waits is asked once at the end of each iteration that may have changed it.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/timer.hpp>

#include <ares.h>
#include <sys/time.h>

#include <chrono>
#include <stdexcept>
#include <unordered_map>

namespace reactor::adapters {

/// A channel on a loop. Its callbacks come on the loop's thread, from inside c-ares: they must not throw. Some come
/// inside look_up itself, for example for a literal address. Errors: the constructor throws std::runtime_error with
/// c-ares's text; a look-up's error is the status of its callback. Lifetime: must go before the reactor, and not in a
/// callback; destroying it ends each look-up with ARES_EDESTRUCTION. Source: ares_init_options(3), ares_timeout(3).
class [[nodiscard]] CaresChannel {
public:
    /// `servers` as ares_set_servers_ports_csv takes them: "127.0.0.1:53,[::1]:53"; null for those of the system.
    [[nodiscard]] CaresChannel(Reactor& reactor, const char* servers, std::chrono::milliseconds timeout, int tries)
        : reactor_(reactor), timer_(reactor, [this] { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }) {
        ares_options options{};
        options.sock_state_cb = &CaresChannel::socket_changed;
        options.sock_state_cb_data = this;
        options.timeout = int(timeout.count());
        options.tries = tries;
        check(ares_init_options(&channel_, &options, ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES));
        const int status = servers == nullptr ? int(ARES_SUCCESS) : ares_set_servers_ports_csv(channel_, servers);
        if (status != ARES_SUCCESS) ares_destroy(channel_);
        check(status);
    }
    ~CaresChannel() { ares_destroy(channel_); }
    CaresChannel(const CaresChannel&) = delete;
    CaresChannel& operator=(const CaresChannel&) = delete;

    /// As ares_getaddrinfo.
    void look_up(const char* name, const char* service, const ares_addrinfo_hints& hints, ares_addrinfo_callback done,
                 void* data) {
        ares_getaddrinfo(channel(), name, service, &hints, done, data);
    }

    /// For other calls of c-ares, at once: how long the channel waits is looked at when the iteration ends.
    ares_channel channel() {
        if (!plan_.waiting()) plan_ = reactor_.defer([this] { plan(); });
        return channel_;
    }

private:
    static void check(int status) {
        if (status != ARES_SUCCESS) throw std::runtime_error(ares_strerror(status));
    }

    // With neither, the socket is about to be closed. c-ares takes no error from here.
    static void socket_changed(void* self, ares_socket_t socket, int wants_to_read, int wants_to_write) noexcept {
        CaresChannel& channel = *static_cast<CaresChannel*>(self);
        if (wants_to_read == 0 && wants_to_write == 0) return void(channel.watched_.erase(socket));
        const auto ready = [&channel, socket](Interest is) {
            channel.process(is == Interest::writable ? ARES_SOCKET_BAD : socket,
                            is == Interest::writable ? socket : ARES_SOCKET_BAD);
        };
        const Interest interest = interest_in(wants_to_read != 0, wants_to_write != 0);
        channel.watched_.try_emplace(socket, channel.reactor_, ready).first->second.want(socket, interest);
    }

    void process(ares_socket_t readable, ares_socket_t writable) { ares_process_fd(channel(), readable, writable); }

    void plan() {
        timeval time{};
        if (ares_timeout(channel_, nullptr, &time) == nullptr) return void(timer_.cancel());
        // c-ares 1.18.1 gives whole milliseconds, rounded down. In the last one it says 0, and has nothing to do yet:
        // the loop would iterate a thousand times.
        constexpr auto rounded_away = std::chrono::milliseconds(1);
        timer_.start(std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec) + rounded_away);
    }

    Reactor& reactor_;
    Timer timer_;
    Deferred plan_;
    std::unordered_map<ares_socket_t, DescriptorWatch> watched_;
    ares_channel channel_ = nullptr;
};

}  // namespace reactor::adapters
