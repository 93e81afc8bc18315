// One listening socket of an acceptor. On io_uring the kernel accepts its connections ahead where none of them may have
// to stay in the kernel's queue, and otherwise, as on every backend, accept(2) is called when it is readable.
#pragma once

#include <reactor/detail/internals.hpp>
#include <reactor/net/address.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/listening_socket_impl.hpp>
#include <reactor/uring/completions_impl.hpp>

#include <sys/socket.h>

#include <system_error>
#include <utility>

namespace reactor {

struct Acceptor::Listener final : EventHandler {
    // Throws std::bad_alloc, and as Reactor::watch.
    Listener(Acceptor& owner, ListeningSocket listening, bool ahead)
        : acceptor(owner), socket(std::move(listening)), address(socket.local()) {
        if (ahead) enter_engine();
        try {
            registration = owner.reactor_.watch(socket->get(), Interest::readable, *this);
        } catch (...) {
            close();
            throw;
        }
    }
    ~Listener() { close(); }

    void readable() override { acceptor.accept_from(*this); }
    // Closed behind our back: nothing arrives any more, and the connections continue. Otherwise the kernel had no room
    // to watch it (ENOMEM, ENOSPC), and may have some later.
    void lost(std::error_code reason) override {
        registration.reset();
        // The number must not be closed here: it may be another file's by now.
        if (reason == std::errc::bad_file_descriptor) {
            leave_engine();
            socket.forget();
            return acceptor.lose(*this);
        }
        // A registration that is lost stays inert for good. A new one without an interest asks nothing of the kernel
        // yet.
        registration = acceptor.reactor_.watch(socket->get(), Interest::none, *this);
        acceptor.back_off(reason);
        acceptor.update_interest();
    }

    // As Socket::accept. The kernel says no address where it accepts ahead.
    std::error_code accept(Socket& accepted, Address& peer) {
        if (engine == nullptr) return socket->accept(accepted, peer);
        accepted = Socket(engine->accept(socket->get()));
        if (accepted) return {};
        if (!engine->reads_directly(socket->get())) return std::make_error_code(std::errc::operation_would_block);
        const std::error_code error = socket->accept(accepted, peer);
        if (!error && !shared) engine->receive_ahead(socket->get(), true);
        return error;
    }

    // From now on nothing is accepted ahead of the acceptor.
    void leave_to_kernel() noexcept {
        shared = true;
        if (engine != nullptr) engine->receive_ahead(socket->get(), false);
    }

    void close() noexcept {
        registration.reset();
        leave_engine();
        socket.close();
    }

private:
    void enter_engine() {
        Completions* const completions = Internals(acceptor.reactor_).completions();
        // A Unix socket that was shut down by another process says EAGAIN for ever: only its readiness tells.
        if (completions == nullptr || socket->local().family() == Address::Family::unix_domain) return;
        completions->join_listener(socket->get());
        engine = completions;
    }
    // The connections that wait there are closed, as the kernel closes those in its queue with the socket.
    void leave_engine() noexcept {
        if (engine == nullptr) return;
        engine->stop(socket->get());
        // It was not to be stopped, from another thread than the loop's, and must not listen on.
        if (!engine->reads_directly(socket->get()) && !shared) ::shutdown(socket->get(), SHUT_RDWR);
        std::exchange(engine, nullptr)->leave(socket->get());
    }

public:
    Acceptor& acceptor;
    ListeningSocket socket;
    const Address address;          // a TCP socket that was shut down may have given back its port
    Completions* engine = nullptr;  // null where the kernel does not accept ahead
    bool shared = false;            // with another process
    Registration registration;
};

}  // namespace reactor
