// The backend interface: Schmidt's Synchronous Event Demultiplexer. A backend answers one question, which
// descriptors are ready, and never dispatches. Each is a page of code in backends/; this is all that it must supply.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/event_handler.hpp>
#include <reactor/export.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace reactor {

class Completions;

/// A descriptor, and which of its lives: numbers are reused at once by the kernel, generations are not.
struct Token {
    int descriptor = -1;
    std::uint32_t generation = 0;

    friend bool operator==(Token, Token) = default;
};

/// The state of a descriptor, in poll(2)'s words and with its bits, which are the same on every system.
/// Interest's bits mean the same here.
enum class Condition : std::uint32_t {
    none = 0,
    readable = 0x01,  ///< POLLIN
    urgent = 0x02,    ///< POLLPRI
    writable = 0x04,  ///< POLLOUT
    failed = 0x08,    ///< POLLERR: an error is pending, or the other end of a pipe is gone
    hangup = 0x10,    ///< POLLHUP: both directions are over
    invalid = 0x20,   ///< POLLNVAL: not an open descriptor, or one that cannot be watched
};

constexpr Condition operator|(Condition a, Condition b) noexcept {
    return Condition(std::uint32_t(a) | std::uint32_t(b));
}
constexpr Condition operator&(Condition a, Condition b) noexcept {
    return Condition(std::uint32_t(a) & std::uint32_t(b));
}
constexpr Condition& operator|=(Condition& a, Condition b) noexcept {
    return a = a | b;
}
constexpr bool any(Condition a, Condition b) noexcept {
    return (a & b) != Condition::none;
}

/// A ready descriptor. Laid out as x86-64's epoll_event is, so that there the kernel writes events where they are read.
struct Event {
    Condition condition = Condition::none;
    Token token;

    constexpr Event() noexcept = default;
    constexpr Event(Token of, Condition what) noexcept : condition(what), token(of) {}
};

/// The calls that these conditions mean for a registration with this interest: the law that makes the backends
/// alike, in one place. `invalid` is not readiness: see EventHandler::lost.
constexpr Interest told(Condition condition, Interest wanted) noexcept {
    const Interest wanted_io = wanted & (Interest::readable | Interest::writable);
    Interest ready = wanted_io & Interest(std::uint8_t(condition));
    if (any(condition, Condition::urgent | Condition::failed | Condition::hangup)) [[unlikely]] {
        const bool asked = any(wanted, Interest::error);
        if (asked && any(condition, Condition::urgent | Condition::failed)) ready |= Interest::error;
        if (!asked && any(condition, Condition::failed)) ready |= wanted_io;
        if (any(condition, Condition::hangup)) ready |= wanted_io == Interest::none ? wanted : wanted_io;
    }
    return ready;
}

/// A backend: watches descriptors, and waits until some are ready. A program implements it to run a Reactor on a
/// mechanism of its own; tests use testing::ScriptedDemultiplexer. Its reactor makes all calls, on the loop's thread.
class REACTOR_EXPORT Demultiplexer {
public:
    virtual ~Demultiplexer() = default;

    /// From now on watch `token` for `after`, where it was watched for `before`; either may be none. If the
    /// two are equal, make sure: the number may have been reused behind our back. With `after` none the
    /// descriptor is forgotten at once, so that a close may follow; this never throws. Otherwise throws
    /// std::system_error if the kernel refuses, or std::bad_alloc; nothing is watched then. A descriptor that
    /// a kernel's interface does not take because it is always ready (a regular file under epoll) is
    /// reported as poll(2) would report it.
    virtual void update(Token token, Interest before, Interest after) = 0;

    /// Waits until something watched is ready, `limit` has passed (none: no limit; never less than
    /// the limit, but for signals) or a signal handler has run, and says what is ready. At most one event a
    /// token. The span is valid until the next call. Throws std::system_error for errors
    /// that cannot be helped; EINTR is an empty batch, a descriptor closed behind our back is an event with
    /// `invalid`.
    virtual std::span<const Event> wait(std::optional<Duration> limit) = 0;

    virtual std::string_view name() const noexcept = 0;

    /// A descriptor that turns readable when something watched is ready, for nesting in another loop;
    /// -1 where the mechanism has none.
    virtual int native_handle() const noexcept { return -1; }

    /// Is something watched that is ready at every wait and of which native_handle() shows nothing?
    virtual bool ready_unseen() const noexcept { return false; }

    /// For the library's own. The engine that moves the bytes of connections; null where readiness does.
    virtual Completions* completions() noexcept { return nullptr; }
    /// The loop returns to its caller, and may not come back soon: nothing is left for the next wait.
    virtual void hand_over() noexcept {}
    /// Begins anew with nothing watched, because what was watched was closed behind the loop's back, or belongs to the
    /// process that this one was forked from. False if another one is to be made instead, as by default. Throws
    /// std::system_error, and then nothing has changed.
    virtual bool renew(bool /*forked*/) { return false; }
};

/// The backends of this build that the kernel lets this process use. The first is the one of "auto".
REACTOR_EXPORT std::span<const std::string_view> available_backends() noexcept;

/// Makes the backend of that name. "auto" is the one that the environment variable REACTOR_BACKEND names, and
/// where that is unset or empty the best one. Throws std::system_error (invalid_argument) that lists the names
/// if there is no such backend here: there is never a silent fallback.
REACTOR_EXPORT std::unique_ptr<Demultiplexer> make_demultiplexer(std::string_view name);

}  // namespace reactor
