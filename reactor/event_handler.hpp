// EventHandler: implemented by the owner of a raw descriptor. Protocols over sockets do not need this: they
// implement Protocol (reactor/stream/protocol.hpp) and never see a descriptor.
#pragma once

#include <reactor/export.hpp>

#include <cstdint>
#include <system_error>

namespace reactor {

/// The interest of a registration: select(2)'s three sets. The bits are those of poll(2)'s events.
enum class Interest : std::uint8_t { none = 0, readable = 1, error = 2, writable = 4 };

constexpr Interest operator|(Interest a, Interest b) noexcept {
    return Interest(std::uint8_t(std::uint8_t(a) | std::uint8_t(b)));
}
constexpr Interest operator&(Interest a, Interest b) noexcept {
    return Interest(std::uint8_t(std::uint8_t(a) & std::uint8_t(b)));
}
constexpr Interest operator~(Interest a) noexcept {
    return Interest(std::uint8_t(~std::uint8_t(a) & 7));
}
constexpr Interest& operator|=(Interest& a, Interest b) noexcept {
    return a = a | b;
}
/// Is there anything in common?
constexpr bool any(Interest a, Interest b) noexcept {
    return (a & b) != Interest::none;
}

/// Called when its descriptor is ready, always on the loop's thread and never from inside a call to the
/// reactor. Readiness is level-triggered: the call comes again in the next iteration while it lasts. It is a
/// hint: by the time of the call another reader may have taken the data, so descriptors are non-blocking.
///
/// In one iteration the order is readable, writable, error. A handler may do anything in its calls: change any
/// interest, destroy any registration and itself. A destroyed handler, or one without the
/// interest, is not called.
class REACTOR_EXPORT EventHandler {
public:
    /// Wanted `readable`, and a read will not block: there is data, an end, a connection to accept, or a
    /// hang-up or an error, which the read then reports.
    virtual void readable() {}

    /// Wanted `writable`, and a write will not block: there is room, a connect has ended either way, or there
    /// is a hang-up or an error, which the write then reports.
    virtual void writable() {}

    /// Wanted `error`: urgent (out-of-band) data has come, or an error is pending, which
    /// getsockopt(SO_ERROR) reads and clears. With an interest in `error` alone a hang-up is reported here, too.
    /// Without an interest in `error`, errors and hang-ups are reported as readiness of the other interests.
    virtual void error() {}

    /// The loop can no longer watch the descriptor. Called once, for any interest: it was closed behind the
    /// loop's back (EBADF; epoll forgets such a descriptor silently, so there the call comes only if an interest is
    /// changed), or the kernel has no room for it (ENOSPC, ENOMEM), or it cannot be watched at all (one that only names
    /// a file, O_PATH). The registration stays but is inert until it is destroyed. A library that closes its descriptor
    /// before it says so does no harm: the number may be watched again for the next file at once, while the earlier
    /// registration lives and afterwards. Unless overridden this is an `error()`.
    virtual void lost(std::error_code /*reason*/) { error(); }

protected:
    ~EventHandler() = default;
};

}  // namespace reactor
