// Children by handle (pidfd_open(2), Linux 5.3), or by number where there is none. Each call falls back by itself,
// since a kernel or a filter of system calls may know some of them and not others.
#include <reactor/stream/child_impl.hpp>

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/system_impl.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#if REACTOR_HAS(PIDFD)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cerrno>

namespace reactor::children {

namespace {

// As waitid(2), and not interrupted.
int wait_id(idtype_t kind, id_t id, siginfo_t& ended, int flags) noexcept {
    int result = 0;
    do {
        ended = {};
        result = ::waitid(kind, id, &ended, WEXITED | flags);
    } while (result < 0 && errno == EINTR);
    return result;
}

}  // namespace

FileDescriptor handle_of([[maybe_unused]] pid_t id) noexcept {
#if REACTOR_HAS(PIDFD)
    return beyond_standard(int(::syscall(SYS_pidfd_open, id, 0)));
#else
    errno = ENOSYS;  // ESRCH, left from another call, would say that the child has been waited for
    return {};
#endif
}

std::optional<ExitStatus> wait_for(pid_t id, [[maybe_unused]] const FileDescriptor& handle, int flags) noexcept {
    siginfo_t ended;
    int result = -1;
    bool by_number = true;
#if REACTOR_HAS(PIDFD)
    constexpr auto by_handle = idtype_t(3);  // P_PIDFD, for which glibc 2.28 has no name
    if (handle) {
        result = wait_id(by_handle, id_t(handle.get()), ended, flags);
        by_number = result < 0 && errno != ECHILD;  // EINVAL before Linux 5.4
    }
#endif
    if (by_number) result = wait_id(P_PID, id_t(id), ended, flags);
    if (result == 0 && ended.si_pid == 0) return std::nullopt;
    ExitStatus status;
    if (result == 0) (ended.si_code == CLD_EXITED ? status.code : status.signal) = ended.si_status;
    return status;
}

bool send_signal(pid_t id, [[maybe_unused]] const FileDescriptor& handle, int signal) noexcept {
#if REACTOR_HAS(PIDFD)
    if (handle) {
        if (::syscall(SYS_pidfd_send_signal, handle.get(), signal, nullptr, 0) == 0) return true;
        // EPERM: the child is another user's by now, or a filter forbids the call (seccomp(2)) and kill(2) may not be.
        if (errno != EPERM && errno != ENOSYS) return false;
        pollfd ended{handle.get(), POLLIN, 0};
        if (::poll(&ended, 1, 0) != 0) return false;
    }
#endif
    return ::kill(id, signal) == 0;
}

}  // namespace reactor::children
