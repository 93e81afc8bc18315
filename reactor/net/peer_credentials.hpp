// The process, user and group at the other end of a Unix socket, as far as the system vouches for them.
#pragma once

#include <sys/types.h>

#include <optional>

namespace reactor {

/// As the kernel knew it when the peer connected or began to listen (unix(7), SO_PEERCRED; getpeereid(3)).
struct PeerCredentials {
    std::optional<pid_t> process;  ///< nullopt if the system does not say, or this pid namespace does not show it
    uid_t user = 0;                ///< the effective one
    gid_t group = 0;
};

}  // namespace reactor
