// libssh2 driven by a reactor: an SSH session over a socket that is connected. Each call of libssh2 that would wait is
// made again when the socket is ready in the direction that libssh2 names.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>

#include <libssh2.h>

#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

namespace reactor::adapters {

/// One session with one operation at a time. Thread: the loop's. Errors: the constructor throws std::bad_alloc, run
/// std::logic_error while an operation is under way; others arrive in `done`. Lifetime: must go before the reactor and
/// before the socket, which is the caller's. `done` may destroy it. Source: libssh2_session_block_directions(3).
class [[nodiscard]] Ssh2Session {
public:
    using Step = MoveOnlyFunction<ssize_t()>;
    using Done = MoveOnlyFunction<void(ssize_t result)>;

    [[nodiscard]] Ssh2Session(Reactor& reactor, int socket)
        : reactor_(reactor),
          descriptor_(socket),
          session_(libssh2_session_init(), &libssh2_session_free),
          socket_(reactor, [this](Interest) { go_on(); }) {
        if (session_ == nullptr) throw std::bad_alloc();
        libssh2_session_set_blocking(get(), 0);
    }

    LIBSSH2_SESSION* get() const noexcept { return session_.get(); }

    /// Calls `step` until it returns something else than LIBSSH2_ERROR_EAGAIN, and `done` with that, from the loop. A
    /// step that gets a null pointer returns libssh2_session_last_errno. To read several channels at a time, try each
    /// in one step: a read for one channel takes the others' packets from the socket, too.
    void run(Step step, Done done) {
        if (step_) throw std::logic_error("Ssh2Session: an operation is under way");
        step_ = std::move(step);
        done_ = std::move(done);
        start_ = reactor_.defer([this] { go_on(); });
    }

    /// The handshake, to begin with.
    void handshake(Done done) {
        run([this] { return libssh2_session_handshake(get(), descriptor_); }, std::move(done));
    }

private:
    void go_on() {
        const ssize_t result = step_();
        if (result == LIBSSH2_ERROR_EAGAIN) {
            const int directions = libssh2_session_block_directions(get());
            socket_.want(descriptor_, interest_in((directions & LIBSSH2_SESSION_BLOCK_INBOUND) != 0,
                                                  (directions & LIBSSH2_SESSION_BLOCK_OUTBOUND) != 0));
            return;
        }
        socket_.set_interest(Interest::none);
        step_ = nullptr;
        std::exchange(done_, nullptr)(result);
    }

    Reactor& reactor_;
    int descriptor_;
    std::unique_ptr<LIBSSH2_SESSION, decltype(&libssh2_session_free)> session_;
    DescriptorWatch socket_;
    Deferred start_;
    Step step_;
    Done done_;
};

}  // namespace reactor::adapters
