// System calls and allocations that fail on demand. The program that links faults.cpp defines the C library's calls
// itself, as the linker lets it, and forwards them: so the library under test is the one that users get. A plan says
// which call fails; a conversation then runs on a clock that moves instead of waiting.
#pragma once

#include <reactor/testing/manual_clock.hpp>

#include <cstddef>
#include <span>

namespace faults {

enum class Call {
    accept4,
    bind,
    close,
    connect,
    epoll_create1,
    epoll_ctl,
    epoll_pwait2,
    epoll_wait,
    eventfd,
    fcntl,
    getentropy,
    getpeername,
    getsockname,
    getsockopt,
    io_uring_enter,
    io_uring_register,
    io_uring_setup,
    listen,
    open,
    pidfd_open,
    pidfd_send_signal,
    pipe2,
    poll,
    ppoll,
    pread,
    pselect,
    read,
    recv,
    recvmmsg,
    recvmsg,
    send,
    sendfile,
    sendmmsg,
    sendmsg,
    setsockopt,
    shutdown,
    socket,
    socketpair,
    splice,
    waitid,
    write,
    allocation,
    none
};
constexpr std::size_t kinds = std::size_t(Call::none);

const char* name_of(Call call) noexcept;
/// The errors in the call's man page, without those that only a wrong program can meet.
std::span<const int> errors_of(Call call) noexcept;

struct Plan {
    Call call = Call::none;
    unsigned from = 1;         ///< the first call of this kind that fails
    unsigned times = 1;        ///< how many fail in a row
    int error = 0;             ///< with what; an allocation throws
    bool neighbour = false;    ///< accept(2) fails, and counts, as accept4 does
    std::size_t piece = 0;     ///< recv, send and sendmsg move no more than this at once; 0: as much as there is
    bool interrupted = false;  ///< every other call that a signal may interrupt says EINTR
    void (*meanwhile)(void*) = nullptr;  ///< called with `with` as an allocation fails, as other threads would act
    void* with = nullptr;
};

/// While it lives the plan holds and waits move `clock`. One at a time.
class Armed {
public:
    Armed(const Plan& plan, reactor::testing::ManualClock& clock, bool over_network) noexcept;
    ~Armed();
    Armed(const Armed&) = delete;
    Armed& operator=(const Armed&) = delete;
};

/// The test's own work in between: its calls are neither counted nor failed.
class Suspended {
public:
    Suspended() noexcept;
    ~Suspended();
    Suspended(const Suspended&) = delete;
    Suspended& operator=(const Suspended&) = delete;

private:
    bool before_;
};

/// Calls since the plan was armed.
unsigned calls(Call call) noexcept;
/// Has anything been made to fail?
bool struck() noexcept;
/// Has a wait come that nothing would have ended, since this was asked last?
bool waited_for_ever() noexcept;
/// Descriptors opened since then that are open still.
std::size_t open_descriptors() noexcept;
/// Calls of close(2) on a number that was not open.
unsigned bad_closes() noexcept;
/// Allocations that live, of the whole program.
long live_allocations() noexcept;

}  // namespace faults
