// libmicrohttpd driven by a reactor: an HTTP server of its own in the program, on the loop's thread. The daemon has an
// epoll set, which the loop watches, and a time.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/timer.hpp>

#include <microhttpd.h>

#include <chrono>
#include <stdexcept>

namespace reactor::adapters {

/// Drives a daemon, which belongs to the caller and was started with MHD_USE_EPOLL and without a thread. Its handlers
/// come from the loop, from inside libmicrohttpd: they must not throw. Thread: the loop's. Errors: the constructor
/// throws std::invalid_argument if the daemon has no epoll set. Lifetime: must go before the reactor and before
/// MHD_stop_daemon; a handler must not destroy it. Source: MHD_get_timeout, MHD_run in microhttpd.h.
class [[nodiscard]] MicrohttpdDriver {
public:
    [[nodiscard]] MicrohttpdDriver(Reactor& reactor, MHD_Daemon* daemon)
        : reactor_(reactor),
          daemon_(daemon),
          descriptor_(reactor, [this](Interest) { run(); }),
          timer_(reactor, [this] { run(); }) {
        const MHD_DaemonInfo* const information = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
        if (information == nullptr || information->epoll_fd < 0)
            throw std::invalid_argument("MicrohttpdDriver: the daemon was not started with MHD_USE_EPOLL");
        descriptor_.watch(information->epoll_fd, Interest::readable);
        plan();
    }

    /// To be called for each call of libmicrohttpd. MHD_resume_connection makes the descriptor ready for no loop: from
    /// another thread post a task that calls it.
    MHD_Daemon* daemon() {
        if (!soon_.waiting()) soon_ = reactor_.defer([this] { run(); });
        return daemon_;
    }

private:
    void run() {
        MHD_run(daemon_);
        plan();
    }

    // Zero where an answer is longer than the socket's buffer: libmicrohttpd writes a piece in each run, and the epoll
    // set, which is edge-triggered inside, is quiet.
    void plan() {
        MHD_UNSIGNED_LONG_LONG milliseconds = 0;
        timer_.cancel();
        if (MHD_get_timeout(daemon_, &milliseconds) != MHD_YES) return;
        if (milliseconds == 0) return void(daemon());
        timer_.start(std::chrono::milliseconds(milliseconds));
    }

    Reactor& reactor_;
    MHD_Daemon* daemon_;
    DescriptorWatch descriptor_;
    Timer timer_;
    Deferred soon_;
};

}  // namespace reactor::adapters
