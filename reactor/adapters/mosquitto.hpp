// libmosquitto driven by a reactor: a client of an MQTT broker on the loop's thread. libmosquitto has one socket, and
// does not say when it wants to write or has another socket: the adapter looks.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/timer.hpp>

#include <mosquitto.h>

#include <chrono>

namespace reactor::adapters {

/// Drives a client, which belongs to the caller. Its callbacks come from the loop, from inside libmosquitto: they must
/// not throw, and must not destroy this object. Thread: the loop's. Errors: the constructor throws std::bad_alloc; a
/// connection that is lost arrives in the disconnect callback, and mosquitto_reconnect_async may be called there or
/// later. Lifetime: must go before the reactor and before the client. mosquitto_connect blocks;
/// mosquitto_connect_async looks names up, and blocks for that. Source: mosquitto.h.
class [[nodiscard]] MosquittoDriver {
public:
    [[nodiscard]] MosquittoDriver(Reactor& reactor, mosquitto* client)
        : reactor_(reactor),
          client_(client),
          socket_(reactor, [this](Interest ready) { act(ready); }),
          every_second_(reactor.every(std::chrono::seconds(1), [this] {  // keepalive; mosquitto.h asks for this pace
              mosquitto_loop_misc(client_);
              look();
          })) {
        look();
    }

    /// To be called for each call of libmosquitto: the adapter looks at the end of the iteration at what it has
    /// changed.
    mosquitto* client() {
        if (!look_.waiting()) look_ = reactor_.defer([this] { look(); });
        return client_;
    }

private:
    // A call of the program's may have closed the socket. A read without one would call the disconnect callback again.
    void act(Interest ready) {
        const bool stale = ready == Interest::error || mosquitto_socket(client_) < 0;
        if (!stale) ready == Interest::writable ? mosquitto_loop_write(client_, 1) : mosquitto_loop_read(client_, 1);
        look();  // it may have closed its socket, and a callback may have opened one with the same number: also on
                 // success
    }

    // There is nearly always room: written now it costs no iteration and no interest change.
    void look() {
        if (mosquitto_want_write(client_)) mosquitto_loop_write(client_, 1);
        socket_.follow(mosquitto_socket(client_), interest_in(true, mosquitto_want_write(client_)));
    }

    Reactor& reactor_;
    mosquitto* client_;
    DescriptorWatch socket_;
    Deferred look_;
    Timer every_second_;
};

}  // namespace reactor::adapters
