// A reactor inside Asio's io_context, of Boost or without it.
#pragma once

#include <reactor/adapters/inner_loop.hpp>

#if __has_include(<asio/io_context.hpp>)
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#else
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#endif

#include <memory>

namespace reactor::adapters {

#if __has_include(<asio/io_context.hpp>)
namespace asio_used = ::asio;
#else
namespace asio_used = ::boost::asio;
#endif

/// Runs a reactor in an io_context until it is destroyed; io_context::run does not end by itself meanwhile. Thread: the
/// one that runs the io_context, which must be a single one; it is the reactor's thread. Errors: an exception of the
/// reactor's leaves io_context::run, which may be run again. Lifetime: must go before the reactor; a call of the
/// reactor's may destroy it. Source: posix::stream_descriptor::async_wait in Asio's
/// reference.
class [[nodiscard]] AsioDriver {
public:
    [[nodiscard]] AsioDriver(Reactor& inner, asio_used::io_context& context)
        : state_(std::make_shared<State>(context, inner)) {
        state_->plan(state_);
    }
    ~AsioDriver() { state_->end(); }
    AsioDriver(const AsioDriver&) = delete;
    AsioDriver& operator=(const AsioDriver&) = delete;

    /// To be called for each call of the reactor from Asio's handlers. Asio has no step before its wait, so that a
    /// timer which is started there would not be seen.
    Reactor& reactor() {
        asio_used::post(state_->context, [state = state_] { state->run(state); });
        return state_->reactor;
    }

private:
    // Asio calls handlers also after a cancellation: they keep this alive, and do nothing.
    struct State {
        State(asio_used::io_context& the_context, Reactor& the_reactor)
            : context(the_context), reactor(the_reactor), inner(the_reactor), input(context), timer(context) {}

        void run(const std::shared_ptr<State>& self) {
            if (over) return;
            try {
                inner.run();
            } catch (...) {
                if (!over) plan(self);
                throw;
            }
            if (!over) plan(self);
        }
        void plan(const std::shared_ptr<State>& self) {
            timer.cancel();
            if (const auto sleep = inner.longest_sleep()) {
                timer.expires_after(*sleep);
                timer.async_wait([self](const auto& error) { error ? void() : self->run(self); });
            }
            if (input.is_open() && input.native_handle() != inner.descriptor()) input.release(), waiting = false;
            if (waiting || inner.descriptor() < 0) return;
            if (!input.is_open()) input.assign(inner.descriptor());
            waiting = true;
            input.async_wait(input.wait_read, [self](const auto& error) {
                if (error) return;
                self->waiting = false;
                self->run(self);
            });
        }
        void end() {
            over = true;
            timer.cancel();
            if (input.is_open()) input.release();  // or Asio would close it
        }

        asio_used::io_context& context;
        Reactor& reactor;
        InnerLoop inner;
        asio_used::posix::stream_descriptor input;
        asio_used::steady_timer timer;
        bool over = false, waiting = false;
    };

    std::shared_ptr<State> state_;
};

}  // namespace reactor::adapters
