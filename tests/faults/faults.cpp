#include "faults.hpp"

#include "../support/c_library.hpp"

#include <reactor/system_impl.hpp>

#include <dlfcn.h>
#include <fcntl.h>
#if REACTOR_HAS(IO_URING)
#include <linux/io_uring.h>
#include <linux/time_types.h>
#endif
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

using reactor::Duration;

namespace faults {

namespace {

constexpr const char* names[kinds] = {
    // In the order of Call.
    "accept4",
    "bind",
    "close",
    "connect",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "fcntl",
    "getentropy",
    "getpeername",
    "getsockname",
    "getsockopt",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "listen",
    "open",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe2",
    "poll",
    "ppoll",
    "pread",
    "pselect",
    "read",
    "recv",
    "recvmmsg",
    "recvmsg",
    "send",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "setsockopt",
    "shutdown",
    "socket",
    "socketpair",
    "splice",
    "waitid",
    "write",
    "allocation",
};

struct State {
    bool armed = false;
    Plan plan;
    std::array<unsigned, kinds> calls{};
    bool struck = false;
    bool waited_for_ever = false;
    bool over_network = false;
    reactor::testing::ManualClock* clock = nullptr;
    std::bitset<4096> open;
    unsigned bad_closes = 0;
};
State state;
long allocations = 0;

// The call that this program's definition stands in front of.
template <class Function>
Function* next(const char* name) noexcept {
    return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

// Does this call fail? Then errno says with what.
bool fails(Call call) noexcept {
    if (!state.armed) return false;
    const unsigned number = ++state.calls[std::size_t(call)];
    const Plan& plan = state.plan;
    if (call == plan.call && number >= plan.from && number - plan.from < plan.times) {
        state.struck = true;
        errno = plan.error;
        return true;
    }
    const std::span<const int> errors = errors_of(call);
    if (plan.interrupted && number % 2 == 1 && std::find(errors.begin(), errors.end(), EINTR) != errors.end()) {
        state.struck = true;
        errno = EINTR;
        return true;
    }
    return false;
}

int opened(int descriptor) noexcept {
    if (state.armed && descriptor >= 0) state.open.set(std::size_t(descriptor));
    return descriptor;
}

std::size_t shortened(std::size_t size) noexcept {
    return state.armed && state.plan.piece > 0 ? std::min(size, state.plan.piece) : size;
}

// A send that fails like this has found the connection broken; then it must be.
void break_if_broken(int descriptor) noexcept {
    if (errno != EPIPE && errno != ECONNRESET) return;
    const int saved = errno;
    static const auto real = next<int(int, int)>("shutdown");
    real(descriptor, SHUT_RDWR);
    errno = saved;
}

// The same for a pipe that was written to: it is exchanged for one without a reader, and the old one's reader comes to
// its end.
void break_pipe_if_broken(int descriptor) noexcept {
    struct stat kind {};
    int ends[2];
    const int saved = errno;
    static const auto real = next<int(int)>("close");
    static const auto real_pipe = next<int(int*)>("pipe");
    if (saved == EPIPE && ::fstat(descriptor, &kind) == 0 && S_ISFIFO(kind.st_mode) && real_pipe(ends) == 0) {
        real(ends[0]);
        ::dup3(ends[1], descriptor, O_CLOEXEC);
        real(ends[1]);
    }
    errno = saved;
}

// Waits as `real` does, which takes a time: ready descriptors are reported at once, otherwise the clock moves.
template <class Real>
int wait(std::optional<Duration> limit, Real&& real) noexcept {
    constexpr Duration longest = std::chrono::hours(24 * 365);
    const int ready = real(Duration::zero());
    if (ready != 0 || limit == Duration::zero()) return ready;
    if (state.over_network) {  // bytes sent over loopback have arrived, as a rule; give them time
        const int late = real(std::chrono::milliseconds(1));
        if (late != 0) return late;
    }
    if (!limit || *limit > longest) {
        state.waited_for_ever = true;
    } else {
        state.clock->advance(*limit);
    }
    return 0;
}

std::optional<Duration> limit_of(const timespec* time) noexcept {
    if (time == nullptr) return std::nullopt;
    if (time->tv_sec > 24L * 365 * 3600) return Duration::max();
    return std::chrono::seconds(time->tv_sec) + std::chrono::nanoseconds(time->tv_nsec);
}

timespec timespec_of(Duration time) noexcept {
    return {time_t(time / std::chrono::seconds(1)), long((time % std::chrono::seconds(1)).count())};
}

void* allocate(std::size_t size, std::size_t alignment) {
    if (state.armed && fails(Call::allocation)) {
        const Suspended suspended;
        if (state.plan.meanwhile != nullptr) state.plan.meanwhile(state.plan.with);
        throw std::bad_alloc();
    }
    void* memory = alignment <= alignof(std::max_align_t)
                       ? std::malloc(std::max<std::size_t>(size, 1))
                       : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (memory == nullptr) throw std::bad_alloc();
    __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return memory;
}

void give_back(void* memory) noexcept {
    if (memory == nullptr) return;
    __atomic_fetch_sub(&allocations, 1, __ATOMIC_RELAXED);
    std::free(memory);
}

}  // namespace

const char* name_of(Call call) noexcept {
    return call == Call::none ? "nothing" : names[std::size_t(call)];
}

// Left out: EPERM of epoll_ctl, which says that a file is always ready and is believed; EFAULT, ENOTSOCK and the like;
// and EBADF, except of waits: of anything else it says that our descriptor was closed by other code, and then it is
// gone.
std::span<const int> errors_of(Call call) noexcept {
    static constexpr int for_accept[] = {EAGAIN,      ECONNABORTED, EHOSTDOWN,  EHOSTUNREACH, EINTR,  EMFILE,
                                         ENETDOWN,    ENETUNREACH,  ENFILE,     ENOBUFS,      ENOMEM, ENONET,
                                         ENOPROTOOPT, ENOSYS,       EOPNOTSUPP, EPERM,        EPROTO, ETIMEDOUT};
    static constexpr int for_bind[] = {EACCES, EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOMEM};
    static constexpr int for_close[] = {EDQUOT, EINTR, EIO, ENOSPC};
    static constexpr int for_connect[] = {EACCES,      EADDRINUSE,   EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN,
                                          EALREADY,    ECONNREFUSED, EHOSTUNREACH,  EINPROGRESS,  EINTR,
                                          ENETUNREACH, ENOBUFS,      EPERM,         ETIMEDOUT};
    static constexpr int for_epoll_create1[] = {EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM};
    static constexpr int for_epoll_ctl[] = {EEXIST, ENOENT, ENOMEM, ENOSPC};
    static constexpr int for_epoll_pwait2[] = {EBADF, EINTR, EINVAL, ENOSYS, EPERM};
    static constexpr int for_epoll_wait[] = {EBADF, EINTR, EINVAL};
    static constexpr int for_eventfd[] = {EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS, EPERM};
    static constexpr int for_fcntl[] = {EAGAIN, EINVAL};
    static constexpr int for_getentropy[] = {EIO, ENOSYS, EPERM};
    static constexpr int for_names[] = {EINVAL, ENOBUFS, ENOTCONN};
    static constexpr int for_getsockopt[] = {EINVAL, ENOBUFS, ENOPROTOOPT};
    static constexpr int for_io_uring_enter[] = {EAGAIN, EBUSY, EINTR, ENOMEM};
    static constexpr int for_io_uring_register[] = {EINVAL, ENOMEM};
    static constexpr int for_io_uring_setup[] = {EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM};
    static constexpr int for_listen[] = {EADDRINUSE, EOPNOTSUPP};
    static constexpr int for_open[] = {EACCES, EINTR, EMFILE, ENFILE, ENOENT, ENOMEM};
    static constexpr int for_pidfd_open[] = {EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS, EPERM, ESRCH};
    static constexpr int for_pidfd_send_signal[] = {ENOSYS, EPERM};
    static constexpr int for_waitid[] = {EINTR, EINVAL, EPERM};
    static constexpr int for_pipe2[] = {EMFILE, ENFILE, ENOSYS, EPERM};
    static constexpr int for_poll[] = {EINTR, EINVAL, ENOMEM};
    static constexpr int for_pread[] = {EINTR, EIO};
    static constexpr int for_pselect[] = {EBADF, EINTR, EINVAL, ENOMEM};
    static constexpr int for_read[] = {EAGAIN, EINTR, EIO};
    static constexpr int for_recv[] = {EAGAIN,  ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EINTR,
                                       ENOBUFS, ENOMEM,       ENOTCONN,   ETIMEDOUT};
    static constexpr int for_recvmsg[] = {EAGAIN, ECONNREFUSED, EHOSTUNREACH, EINTR, ENOBUFS, ENOMEM};
    static constexpr int for_recvmmsg[] = {EAGAIN, ECONNREFUSED, EHOSTUNREACH, EINTR, ENOBUFS, ENOMEM, ENOSYS, EPERM};
    static constexpr int for_sendfile[] = {EAGAIN, EINVAL, EIO, ENOMEM, ENOSYS, EPERM, EPIPE};
    static constexpr int for_sendmmsg[] = {EACCES,      EAGAIN,  ECONNREFUSED, EINTR,  EMSGSIZE,
                                           ENETUNREACH, ENOBUFS, ENOMEM,       ENOSYS, EPERM};
    static constexpr int for_send[] = {EACCES,  EAGAIN, ECONNRESET, EINTR, ENETUNREACH,
                                       ENOBUFS, ENOMEM, ENOTCONN,   EPIPE, ETIMEDOUT};
    static constexpr int for_setsockopt[] = {EINVAL, ENOBUFS, ENOMEM, ENOPROTOOPT};
    static constexpr int for_shutdown[] = {EINVAL, ENOBUFS, ENOTCONN};
    static constexpr int for_socket[] = {EACCES, EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT};
    static constexpr int for_socketpair[] = {EMFILE, ENFILE, ENOMEM};
    static constexpr int for_splice[] = {EAGAIN, EINVAL, ENOMEM, EPIPE};
    static constexpr int for_write[] = {EAGAIN, EINTR, EIO, EPIPE};
    static constexpr int for_allocation[] = {ENOMEM};
    switch (call) {
        case Call::accept4: return for_accept;
        case Call::bind: return for_bind;
        case Call::close: return for_close;
        case Call::connect: return for_connect;
        case Call::epoll_create1: return for_epoll_create1;
        case Call::epoll_ctl: return for_epoll_ctl;
        case Call::epoll_pwait2: return for_epoll_pwait2;
        case Call::epoll_wait: return for_epoll_wait;
        case Call::eventfd: return for_eventfd;
        case Call::fcntl: return for_fcntl;
        case Call::getentropy: return for_getentropy;
        case Call::getpeername:
        case Call::getsockname: return for_names;
        case Call::getsockopt: return for_getsockopt;
        case Call::io_uring_enter: return for_io_uring_enter;
        case Call::io_uring_register: return for_io_uring_register;
        case Call::io_uring_setup: return for_io_uring_setup;
        case Call::listen: return for_listen;
        case Call::open: return for_open;
        case Call::pidfd_open: return for_pidfd_open;
        case Call::pidfd_send_signal: return for_pidfd_send_signal;
        case Call::pipe2: return for_pipe2;
        case Call::poll:
        case Call::ppoll: return for_poll;
        case Call::pread: return for_pread;
        case Call::pselect: return for_pselect;
        case Call::read: return for_read;
        case Call::recv: return for_recv;
        case Call::recvmmsg: return for_recvmmsg;
        case Call::recvmsg: return for_recvmsg;
        case Call::sendfile: return for_sendfile;
        case Call::sendmmsg: return for_sendmmsg;
        case Call::send:
        case Call::sendmsg: return for_send;
        case Call::setsockopt: return for_setsockopt;
        case Call::shutdown: return for_shutdown;
        case Call::socket: return for_socket;
        case Call::socketpair: return for_socketpair;
        case Call::splice: return for_splice;
        case Call::waitid: return for_waitid;
        case Call::write: return for_write;
        case Call::allocation: return for_allocation;
        case Call::none: break;
    }
    return {};
}

Armed::Armed(const Plan& plan, reactor::testing::ManualClock& clock, bool over_network) noexcept {
    state = State{};
    state.plan = plan;
    state.clock = &clock;
    state.over_network = over_network;
    state.armed = true;
}

Armed::~Armed() {
    state.armed = false;
}

Suspended::Suspended() noexcept : before_(state.armed) {
    state.armed = false;
}
Suspended::~Suspended() {
    state.armed = before_;
}

unsigned calls(Call call) noexcept {
    return state.calls[std::size_t(call)];
}
bool struck() noexcept {
    return state.struck;
}
bool waited_for_ever() noexcept {
    return std::exchange(state.waited_for_ever, false);
}
std::size_t open_descriptors() noexcept {
    return state.open.count();
}
unsigned bad_closes() noexcept {
    return state.bad_closes;
}
long live_allocations() noexcept {
    return __atomic_load_n(&allocations, __ATOMIC_RELAXED);
}

}  // namespace faults

using namespace faults;

// ── the C library's calls ──

// The write that wakes a reactor is never cut.
constexpr std::size_t wakeup = sizeof(std::uint64_t);

extern "C" {

int accept(int descriptor, sockaddr* address, socklen_t* length) {
    static const auto real = next<int(int, sockaddr*, socklen_t*)>("accept");
    // Where the library has no accept4(2) to call this is its only call.
    if ((state.plan.neighbour || !REACTOR_HAS(SOCK_NONBLOCK)) && fails(Call::accept4)) return -1;
    return opened(real(descriptor, address, length));
}

int accept4(int descriptor, sockaddr* address, socklen_t* length, int flags) {
    static const auto real = next<int(int, sockaddr*, socklen_t*, int)>("accept4");
    return fails(Call::accept4) ? -1 : opened(real(descriptor, address, length, flags));
}

int bind(int descriptor, const sockaddr* address, socklen_t length) noexcept(in_glibc) {
    static const auto real = next<int(int, const sockaddr*, socklen_t)>("bind");
    return fails(Call::bind) ? -1 : real(descriptor, address, length);
}

// Whatever it says, Linux has closed the descriptor (close(2), "Dealing with error returns").
int close(int descriptor) {
    static const auto real = next<int(int)>("close");
    const bool failing = fails(Call::close);
    const int error = errno;
    const int result = real(descriptor);
    if (result != 0 && errno == EBADF && state.armed) ++state.bad_closes;
    if (descriptor >= 0) state.open.reset(std::size_t(descriptor));
    if (!failing) return result;
    errno = error;
    return -1;
}

// Interrupted, it goes on all the same (POSIX).
int connect(int descriptor, const sockaddr* address, socklen_t length) {
    static const auto real = next<int(int, const sockaddr*, socklen_t)>("connect");
    if (!fails(Call::connect)) return real(descriptor, address, length);
    const int error = errno;
    if (error == EINTR || error == EINPROGRESS || error == EALREADY) {
        if (real(descriptor, address, length) != 0 && errno != EINPROGRESS) return -1;
    }
    errno = error;
    return -1;
}

int epoll_create(int size) noexcept(in_glibc) {
    static const auto real = next<int(int)>("epoll_create");
    return opened(real(size));
}

int epoll_create1(int flags) noexcept(in_glibc) {
    static const auto real = next<int(int)>("epoll_create1");
    return fails(Call::epoll_create1) ? -1 : opened(real(flags));
}

int epoll_ctl(int set, int operation, int descriptor, epoll_event* event) noexcept(in_glibc) {
    static const auto real = next<int(int, int, int, epoll_event*)>("epoll_ctl");
    return fails(Call::epoll_ctl) ? -1 : real(set, operation, descriptor, event);
}

int epoll_wait(int set, epoll_event* events, int most, int timeout) {
    static const auto real = next<int(int, epoll_event*, int, int)>("epoll_wait");
    if (fails(Call::epoll_wait)) return -1;
    if (!state.armed) return real(set, events, most, timeout);
    const auto limit = timeout < 0 ? std::nullopt : std::optional<Duration>(std::chrono::milliseconds(timeout));
    return wait(limit, [&](Duration time) {
        return real(set, events, most, int(std::chrono::ceil<std::chrono::milliseconds>(time).count()));
    });
}

int epoll_pwait2(int set, epoll_event* events, int most, const timespec* timeout, const sigset_t* signals) {
    static const auto real = next<int(int, epoll_event*, int, const timespec*, const sigset_t*)>("epoll_pwait2");
    if (fails(Call::epoll_pwait2)) return -1;
    if (!state.armed) return real(set, events, most, timeout, signals);
    return wait(limit_of(timeout), [&](Duration time) {
        const timespec converted = timespec_of(time);
        return real(set, events, most, &converted, signals);
    });
}

int eventfd(unsigned count, int flags) noexcept(in_glibc) {
    static const auto real = next<int(unsigned, int)>("eventfd");
    return fails(Call::eventfd) ? -1 : opened(real(count, flags));
}

int fcntl(int descriptor, int command, ...) {
    static const auto real = next<int(int, int, ...)>("fcntl");
    va_list arguments;
    va_start(arguments, command);
    const long argument = va_arg(arguments, long);
    va_end(arguments);
    return fails(Call::fcntl) ? -1 : real(descriptor, command, argument);
}

int getentropy(void* buffer, size_t size) {
    static const auto real = next<int(void*, size_t)>("getentropy");
    return fails(Call::getentropy) ? -1 : real(buffer, size);
}

int getpeername(int descriptor, sockaddr* address, socklen_t* length) noexcept(in_glibc) {
    static const auto real = next<int(int, sockaddr*, socklen_t*)>("getpeername");
    return fails(Call::getpeername) ? -1 : real(descriptor, address, length);
}

int getsockname(int descriptor, sockaddr* address, socklen_t* length) noexcept(in_glibc) {
    static const auto real = next<int(int, sockaddr*, socklen_t*)>("getsockname");
    return fails(Call::getsockname) ? -1 : real(descriptor, address, length);
}

int getsockopt(int descriptor, int level, int name, void* value, socklen_t* length) noexcept(in_glibc) {
    static const auto real = next<int(int, int, int, void*, socklen_t*)>("getsockopt");
    return fails(Call::getsockopt) ? -1 : real(descriptor, level, name, value, length);
}

int listen(int descriptor, int backlog) noexcept(in_glibc) {
    static const auto real = next<int(int, int)>("listen");
    return fails(Call::listen) ? -1 : real(descriptor, backlog);
}

int open(const char* path, int flags, ...) {
    static const auto real = next<int(const char*, int, ...)>("open");
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return fails(Call::open) ? -1 : opened(real(path, flags, mode));
}

int pipe(int ends[2]) noexcept(in_glibc) {
    static const auto real = next<int(int*)>("pipe");
    if (real(ends) != 0) return -1;
    opened(ends[0]);
    opened(ends[1]);
    return 0;
}

int pipe2(int ends[2], int flags) noexcept(in_glibc) {
    static const auto real = next<int(int*, int)>("pipe2");
    if (fails(Call::pipe2) || real(ends, flags) != 0) return -1;
    opened(ends[0]);
    opened(ends[1]);
    return 0;
}

int poll(pollfd* entries, nfds_t count, int timeout) {
    static const auto real = next<int(pollfd*, nfds_t, int)>("poll");
    // Where the library has no ppoll(2) to call the loop waits by this.
    if (fails(REACTOR_HAS(PPOLL) || timeout == 0 ? Call::poll : Call::ppoll)) return -1;
    if (!state.armed || timeout == 0) return real(entries, count, timeout);
    const auto limit = timeout < 0 ? std::nullopt : std::optional<Duration>(std::chrono::milliseconds(timeout));
    return wait(limit, [&](Duration time) {
        return real(entries, count, int(std::chrono::ceil<std::chrono::milliseconds>(time).count()));
    });
}

int ppoll(pollfd* entries, nfds_t count, const timespec* timeout, const sigset_t* signals) {
    static const auto real = next<int(pollfd*, nfds_t, const timespec*, const sigset_t*)>("ppoll");
    if (fails(Call::ppoll)) return -1;
    if (!state.armed) return real(entries, count, timeout, signals);
    return wait(limit_of(timeout), [&](Duration time) {
        const timespec converted = timespec_of(time);
        return real(entries, count, &converted, signals);
    });
}

int pselect(int count, fd_set* readable, fd_set* writable, fd_set* exceptional, const timespec* timeout,
            const sigset_t* signals) {
    static const auto real = next<int(int, fd_set*, fd_set*, fd_set*, const timespec*, const sigset_t*)>("pselect");
    if (fails(Call::pselect)) return -1;
    if (!state.armed) return real(count, readable, writable, exceptional, timeout, signals);
    // The sets are asked about twice, and each answer overwrites them. There are none if nothing is watched.
    char* const sets[3] = {reinterpret_cast<char*>(readable), reinterpret_cast<char*>(writable),
                           reinterpret_cast<char*>(exceptional)};
    const std::size_t bytes = (std::size_t(count) + 63) / 64 * 8;
    std::array<std::array<char, 4096 / CHAR_BIT>, 3> asked{};
    for (std::size_t i = 0; i < 3; ++i)
        if (sets[i] != nullptr) std::copy_n(sets[i], bytes, asked[i].data());
    return wait(limit_of(timeout), [&](Duration time) {
        for (std::size_t i = 0; i < 3; ++i)
            if (sets[i] != nullptr) std::copy_n(asked[i].data(), bytes, sets[i]);
        const timespec converted = timespec_of(time);
        return real(count, readable, writable, exceptional, &converted, signals);
    });
}

ssize_t pread(int descriptor, void* buffer, size_t size, off_t offset) {
    static const auto real = next<ssize_t(int, void*, size_t, off_t)>("pread");
    return fails(Call::pread) ? -1 : real(descriptor, buffer, shortened(size), offset);
}

ssize_t read(int descriptor, void* buffer, size_t size) {
    static const auto real = next<ssize_t(int, void*, size_t)>("read");
    return fails(Call::read) ? -1 : real(descriptor, buffer, size);
}

ssize_t recv(int descriptor, void* buffer, size_t size, int flags) {
    static const auto real = next<ssize_t(int, void*, size_t, int)>("recv");
    return fails(Call::recv) ? -1 : real(descriptor, buffer, shortened(size), flags);
}

int recvmmsg(int descriptor, mmsghdr* messages, unsigned count, MessageFlags flags, timespec* timeout) {
    static const auto real = next<int(int, mmsghdr*, unsigned, MessageFlags, timespec*)>("recvmmsg");
    return fails(Call::recvmmsg) ? -1 : real(descriptor, messages, count, flags, timeout);
}

// Descriptors that come along are opened by it.
ssize_t recvmsg(int descriptor, msghdr* message, int flags) {
    static const auto real = next<ssize_t(int, msghdr*, int)>("recvmsg");
    if (fails(Call::recvmsg)) return -1;
    const ssize_t result = real(descriptor, message, flags);
    if (result < 0 || message->msg_controllen == 0) return result;
    for (cmsghdr* entry = CMSG_FIRSTHDR(message); entry != nullptr; entry = CMSG_NXTHDR(message, entry)) {
        if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= entry->cmsg_len; at += sizeof(int)) {
            int came = -1;
            std::memcpy(&came, reinterpret_cast<const char*>(entry) + at, sizeof came);
            opened(came);
        }
    }
    return result;
}

ssize_t sendfile(int to, int from, off_t* offset, size_t size) noexcept(in_glibc) {
    static const auto real = next<ssize_t(int, int, off_t*, size_t)>("sendfile");
    if (state.armed && state.plan.call == Call::pread) {  // a file is read only where this is not to be had
        errno = ENOSYS;
        return -1;
    }
    if (!fails(Call::sendfile)) return real(to, from, offset, shortened(size));
    break_if_broken(to);
    return -1;
}

int sendmmsg(int descriptor, mmsghdr* messages, unsigned count, MessageFlags flags) {
    static const auto real = next<int(int, mmsghdr*, unsigned, MessageFlags)>("sendmmsg");
    return fails(Call::sendmmsg) ? -1 : real(descriptor, messages, count, flags);
}

ssize_t send(int descriptor, const void* buffer, size_t size, int flags) {
    static const auto real = next<ssize_t(int, const void*, size_t, int)>("send");
    if (!fails(Call::send)) return real(descriptor, buffer, shortened(size), flags);
    break_if_broken(descriptor);
    return -1;
}

ssize_t sendmsg(int descriptor, const msghdr* message, int flags) {
    static const auto real = next<ssize_t(int, const msghdr*, int)>("sendmsg");
    if (fails(Call::sendmsg)) {
        break_if_broken(descriptor);
        return -1;
    }
    if (!state.armed || state.plan.piece == 0) return real(descriptor, message, flags);
    msghdr part = *message;
    iovec pieces[16];
    std::size_t left = state.plan.piece;
    part.msg_iov = pieces;
    const std::size_t count = std::min(std::size_t(message->msg_iovlen), std::size(pieces));
    part.msg_iovlen = decltype(part.msg_iovlen)(count);
    for (std::size_t i = 0; i < count; ++i) {
        pieces[i] = message->msg_iov[i];
        pieces[i].iov_len = std::min(pieces[i].iov_len, left);
        left -= pieces[i].iov_len;
    }
    return real(descriptor, &part, flags);
}

int setsockopt(int descriptor, int level, int name, const void* value, socklen_t length) noexcept(in_glibc) {
    static const auto real = next<int(int, int, int, const void*, socklen_t)>("setsockopt");
    return fails(Call::setsockopt) ? -1 : real(descriptor, level, name, value, length);
}

int shutdown(int descriptor, int how) noexcept(in_glibc) {
    static const auto real = next<int(int, int)>("shutdown");
    return fails(Call::shutdown) ? -1 : real(descriptor, how);
}

int socket(int domain, int type, int protocol) noexcept(in_glibc) {
    static const auto real = next<int(int, int, int)>("socket");
    return fails(Call::socket) ? -1 : opened(real(domain, type, protocol));
}

int socketpair(int domain, int type, int protocol, int ends[2]) noexcept(in_glibc) {
    static const auto real = next<int(int, int, int, int*)>("socketpair");
    if (fails(Call::socketpair)) return -1;
    const int result = real(domain, type, protocol, ends);
    if (result == 0) {
        opened(ends[0]);
        opened(ends[1]);
    }
    return result;
}

ssize_t splice(int from, off_t* from_offset, int to, off_t* to_offset, size_t size, unsigned flags) {
    static const auto real = next<ssize_t(int, off_t*, int, off_t*, size_t, unsigned)>("splice");
    if (!fails(Call::splice)) return real(from, from_offset, to, to_offset, shortened(size), flags);
    break_if_broken(to);
    return -1;
}

#if REACTOR_HAS(IO_URING)
// The rings are all made alike.
static io_uring_params made;

// Where accept4(2) may fail the ring accepts nothing: its requests to do so fail (EBADF), however often they are made.
static void spoil_accepts(int ring, unsigned requests) noexcept {
    const std::size_t size = made.sq_off.array + made.sq_entries * sizeof(unsigned);
    const std::size_t entries_size = made.sq_entries * sizeof(io_uring_sqe);
    const auto map = [ring](std::size_t length, std::uint64_t offset) {
        return ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring, off_t(offset));
    };
    void* const shared = map(size, IORING_OFF_SQ_RING);
    void* const entries = map(entries_size, IORING_OFF_SQES);
    if (shared != MAP_FAILED && entries != MAP_FAILED) {
        const unsigned tail = *reinterpret_cast<unsigned*>(static_cast<char*>(shared) + made.sq_off.tail);
        for (unsigned at = tail - requests; at != tail; ++at) {
            io_uring_sqe& entry = static_cast<io_uring_sqe*>(entries)[at & (made.sq_entries - 1)];
            if (entry.opcode == IORING_OP_ACCEPT) entry.fd = -1;
        }
    }
    if (shared != MAP_FAILED) ::munmap(shared, size);
    if (entries != MAP_FAILED) ::munmap(entries, entries_size);
}

// One that waits: first it hands over, as the real one does.
static long enter_ring(long (*real)(long, ...), const long (&arguments)[6]) noexcept {
    const long ring = arguments[0], requests = arguments[1];
    std::optional<Duration> limit;
    if ((arguments[3] & IORING_ENTER_EXT_ARG) != 0) {
        const auto* const given = reinterpret_cast<const io_uring_getevents_arg*>(arguments[4]);
        const auto* const time = reinterpret_cast<const __kernel_timespec*>(given->ts);
        const timespec converted{time_t(time->tv_sec), long(time->tv_nsec)};
        limit = limit_of(&converted);
    }
    const long taken =
        requests == 0 ? 0 : real(SYS_io_uring_enter, ring, requests, 0L, long(IORING_ENTER_GETEVENTS), 0L, 0L);
    if (taken < requests) return taken;
    const int ready = wait(limit, [&](Duration duration) {
        const timespec most = timespec_of(duration);
        const __kernel_timespec time{most.tv_sec, most.tv_nsec};
        io_uring_getevents_arg argument{};
        argument.ts = reinterpret_cast<std::uintptr_t>(&time);
        const long flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
        const long result =
            real(SYS_io_uring_enter, ring, 0L, 1L, flags, long(std::uintptr_t(&argument)), long(sizeof argument));
        return result == 0 ? 1 : errno == ETIME ? 0 : -1;
    });
    if (taken > 0 || ready > 0) return taken;
    if (ready == 0) errno = ETIME;
    return -1;
}
#endif

// Reading more of them than there are is undefined.
static int arguments_of(long number) noexcept {
    if (number == SYS_pidfd_open) return 2;
    if (number == SYS_pidfd_send_signal) return 4;
#if REACTOR_HAS(IO_URING)
    if (number == SYS_io_uring_setup) return 2;
    if (number == SYS_io_uring_register) return 4;
#endif
    return 6;
}

// Those that the C library has no name for everywhere.
long syscall(long number, ...) noexcept(in_glibc) {
    // A static that is set when it is first needed has a guard, and libc++'s guards make this call.
    static long (*real)(long, ...) = nullptr;
    if (real == nullptr) real = next<long(long, ...)>("syscall");
    va_list list;
    va_start(list, number);
    long arguments[6] = {};
    for (long* argument = arguments; argument < arguments + arguments_of(number); ++argument)
        *argument = va_arg(list, long);
    va_end(list);
    if (number == SYS_pidfd_open) {
        return fails(Call::pidfd_open) ? -1 : opened(int(real(number, arguments[0], arguments[1])));
    }
    if (number == SYS_pidfd_send_signal && fails(Call::pidfd_send_signal)) return -1;
#if REACTOR_HAS(IO_URING)
    if (number == SYS_io_uring_setup) {
        if (fails(Call::io_uring_setup)) return -1;
        const int ring = opened(int(real(number, arguments[0], arguments[1])));
        if (ring >= 0) made = *reinterpret_cast<const io_uring_params*>(arguments[1]);
        return ring;
    }
    if (number == SYS_io_uring_register && fails(Call::io_uring_register)) return -1;
    if (number == SYS_io_uring_enter) {
        if (fails(Call::io_uring_enter)) return -1;
        if (state.armed && state.plan.call == Call::accept4) spoil_accepts(int(arguments[0]), unsigned(arguments[1]));
        if (state.armed && arguments[2] > 0) return enter_ring(real, arguments);
    }
#endif
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

int waitid(idtype_t kind, id_t id, siginfo_t* information, int options) {
    static const auto real = next<int(idtype_t, id_t, siginfo_t*, int)>("waitid");
    return fails(Call::waitid) ? -1 : real(kind, id, information, options);
}

ssize_t write(int descriptor, const void* buffer, size_t size) {
    static const auto real = next<ssize_t(int, const void*, size_t)>("write");
    if (!fails(Call::write)) return real(descriptor, buffer, size > wakeup ? shortened(size) : size);
    break_if_broken(descriptor);
    if (size != wakeup) break_pipe_if_broken(descriptor);  // its reader is the loop itself, which is not gone
    return -1;
}

}  // extern "C"

// ── memory ──
// On malloc and free, so that AddressSanitizer and valgrind see every block. The other forms call these.

void* operator new(std::size_t size) {
    return allocate(size, 0);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    return allocate(size, std::size_t(alignment));
}
void* operator new[](std::size_t size) {
    return allocate(size, 0);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    try {
        return allocate(size, 0);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void operator delete(void* memory) noexcept {
    give_back(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
    give_back(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    give_back(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
    give_back(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    give_back(memory);
}
void operator delete[](void* memory) noexcept {
    give_back(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    give_back(memory);
}
