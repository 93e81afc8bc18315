// Listening sockets that outlive a process: taken over from whoever started this one, as systemd does it, and handed on
// to a successor, so that a server restarts without turning anybody away. Who connects in between waits in the
// socket's queue, which is the kernel's.
#pragma once

#include <reactor/export.hpp>
#include <reactor/net/socket.hpp>

#include <sys/types.h>

#include <string>
#include <vector>

namespace reactor {

/// The sockets that this process was started with: if LISTEN_PID names it, the LISTEN_FDS descriptors from 3 on
/// (sd_listen_fds(3)). They are made non-blocking and close-on-exec, and the variables are taken out of the environment, so
/// that a second call and this process's own children find none. Empty if there are none. Throws std::system_error for a
/// descriptor that is not open, and for a variable that is not a number. Changes the environment: to be called before there are other threads.
REACTOR_EXPORT std::vector<Socket> inherited_sockets();

/// Starts a program as its own child that gets `sockets` in this way, and returns its process id; they stay open
/// here as well. `program` is a path, "/proc/self/exe" for itself; `arguments` begin with the name that it is to have.
/// What else is open stays open in it unless it is close-on-exec, as all of the library's descriptors are. No signal is
/// blocked in it. Throws std::system_error that names the program if it cannot be started. The caller waits for the
/// child (waitpid(2)), or ends before it.
REACTOR_EXPORT pid_t start_successor(const std::vector<int>& sockets, const std::string& program,
                                     const std::vector<std::string>& arguments);

}  // namespace reactor
