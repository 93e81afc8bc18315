// Listening sockets that outlive a process: inherited from the process that started this one, as systemd starts
// services, and handed on to a successor, so that a server restarts without refusing a connection. A connection that is
// made in between waits in the socket's queue, which belongs to the kernel.
//
//     predecessor                         successor
//     Successor: fork, exec        ──▶    inherited_sockets(), Acceptor, Signals
//     goes on accepting                   Predecessor::ready()
//     `decided` without an error   ◀──
//     stops accepting, drains             accepts
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <sys/types.h>

#include <string>
#include <system_error>
#include <vector>

namespace reactor {

/// The sockets that this process was started with: if LISTEN_PID names it, the LISTEN_FDS descriptors from 3 on
/// (sd_listen_fds(3)). They are made non-blocking and close-on-exec, and the variables are taken out of the
/// environment, so that a second call and this process's own children find none. Empty if there are none. Throws
/// std::system_error for a descriptor that is not open, and for a variable that is not a number. Changes the
/// environment: to be called before there are other threads.
REACTOR_EXPORT std::vector<Socket> inherited_sockets();

/// The absolute path of the running program's file, for Successor. `name` is main's argv[0]. To be called at the start:
/// the path then still leads to the running file, and a file that is installed there later is started instead of it.
/// Symbolic links are kept, so that one may be pointed at a newer version. "/proc/self/exe" will not do: Linux resolves
/// it to the file that runs, also when another file has its name. Throws std::system_error if the current folder is
/// gone.
REACTOR_EXPORT std::string program_path(const std::string& name);

/// The process that started this one as its Successor, as long as it waits.
class REACTOR_EXPORT Predecessor {
public:
    /// Finds the predecessor's pipe, and takes its variable (REACTOR_PREDECESSOR) out of the environment. Throws
    /// std::system_error for a variable that names no open descriptor. Changes the environment: to be called before
    /// there are other threads.
    Predecessor();

    /// Is there one that waits?
    explicit operator bool() const noexcept { return bool(pipe_); }

    /// Says that this process accepts connections, and handles its signals, from now on; the predecessor then stops
    /// accepting. Without a predecessor, and after the first call, this does nothing. If this process ends without the
    /// call, or takes too long, the restart has failed. From any thread.
    void ready() noexcept;

private:
    FileDescriptor pipe_;
};

/// A child that is to take over listening sockets. Until it has said that it accepts (Predecessor::ready), the caller
/// goes on accepting.
///
/// Thread: the reactor's. Lifetime: must be destroyed before its reactor; its callback may destroy it.
class [[nodiscard]] REACTOR_EXPORT Successor final : EventHandler {
public:
    /// Starts `program`, which is a path (program_path), as a child that finds `sockets` with inherited_sockets();
    /// they stay open here as well. `arguments` begin with the name that it is to have. Other descriptors stay open in
    /// it unless they are close-on-exec, as all of the library's descriptors are. No signal is blocked in it but
    /// SIGHUP, which waits until the child watches it (Signals): it asks for another restart, and would end a child
    /// that has no handler yet. SIGPIPE has its default disposition in it.
    ///
    /// `decided` is called once, from the loop. Without an error the child accepts; it is then left alone, and the
    /// caller ends before it or collects it (waitpid(2)). Otherwise there is no child any more, and the error is that
    /// of exec(2), Error::successor_ended if the child ended before it accepted, or Error::successor_timeout if it did
    /// not accept for `longest`.
    ///
    /// Process 1 of a PID namespace (a container) must not end after that: the kernel then ends all others in it
    /// (pid_namespaces(7)).
    ///
    /// Throws std::invalid_argument for a NUL in `program` or in an argument and for an empty callback,
    /// std::system_error if there is no descriptor or process to be had; then nothing has been started.
    [[nodiscard]] Successor(Reactor& reactor, const std::vector<int>& sockets, const std::string& program,
                            const std::vector<std::string>& arguments, Duration longest,
                            MoveOnlyFunction<void(std::error_code)> decided);

    /// Ends the child if it has not said yet that it accepts, and waits for it; `decided` is not called.
    ~Successor();
    Successor(const Successor&) = delete;
    Successor& operator=(const Successor&) = delete;

    /// The child's process id.
    pid_t id() const noexcept { return id_; }

private:
    void readable() override;
    void lost(std::error_code reason) override { decide(reason); }
    bool has_ended() const noexcept;
    void decide(std::error_code error);
    void end() noexcept;

    Callback<void(std::error_code)> decided_;
    FileDescriptor pipe_;    // readable when the child has said something, or has closed it
    FileDescriptor handle_;  // of the child: readable when it has ended, also if another process keeps the pipe open
    pid_t id_ = -1;
    bool waits_ = false;
    Timer timer_;
    Registration pipe_registration_, handle_registration_;
};

}  // namespace reactor
