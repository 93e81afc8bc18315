// CompletionQueue: the little that the engine of completions asks of io_uring(7). The kernel's ring is one
// (reactor/uring/ring.cpp); a test's script is another (reactor/testing/scripted_completions.hpp). Requests are
// collected, and handed over together by the wait that follows.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/clock.hpp>
#include <reactor/event_handler.hpp>
#include <reactor/export.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace reactor {

/// The end of a request, or one of several results of it. Laid out as the kernel's io_uring_cqe is.
struct Completion {
    std::uint64_t data = 0;   ///< given with the request
    std::int32_t result = 0;  ///< as the system call of that name returns it; an error is negative
    std::uint32_t flags = 0;  ///< more and with_buffer, and the number of the buffer in the upper half

    static constexpr std::uint32_t with_buffer = 1, more = 2;  ///< more: the request goes on
    std::uint16_t buffer() const noexcept { return std::uint16_t(flags >> 16); }
};

/// Requests to the kernel, and their completions. Thread: the loop's. Errors: a request reports its own as its
/// completion; the calls here throw std::system_error where the kernel refuses to work at all.
class REACTOR_EXPORT CompletionQueue {
public:
    virtual ~CompletionQueue() = default;

    /// The place of a request, by which it can be withdrawn before it is handed over.
    using Place = std::uint32_t;

    /// Receives into buffers of the pool until it is cancelled or ends: a completion for each piece. Without a free
    /// buffer it ends with ENOBUFS.
    virtual Place receive(int descriptor, std::uint64_t data) = 0;
    /// Accepts connections from a listening socket until it is cancelled or ends: a completion for each, with its
    /// descriptor, which is non-blocking and closed on exec.
    virtual Place accept(int descriptor, std::uint64_t data) = 0;
    /// Sends at once as much as the socket takes, and never waits. Completes only if that is not all of it: with the
    /// number of bytes, or an error. The bytes must stay until the request is handed over.
    virtual Place send(int descriptor, Bytes bytes, std::uint64_t data) = 0;
    /// Completes once, when the descriptor is ready, and in any case when its peer has shut its side, or all is over.
    virtual Place poll(int descriptor, Interest interest, std::uint64_t data) = 0;
    /// Ends the request that was made with that `data`. It completes with ECANCELED, or with a result that came first.
    /// If the cancellation fails it completes itself, with `of_no_request` in the place of the data's kind (the upper
    /// four bits): ENOENT, or EALREADY of a request that is just being worked on, and that may go on.
    virtual void cancel(std::uint64_t data) = 0;

    /// In the completions of cancellations and of withdrawn requests, which may come or not.
    static constexpr std::uint64_t of_no_request = std::uint64_t(4) << 60;
    /// What a cancellation that fails completes with.
    static constexpr std::uint64_t of_cancellation(std::uint64_t data) noexcept {
        return of_no_request | (data & ~(std::uint64_t(0xf) << 60));
    }

    /// Has it been handed over? If not, `withdraw` makes it nothing.
    virtual bool handed_over(Place place) const noexcept = 0;
    virtual void withdraw(Place place) noexcept = 0;
    /// Requests that the kernel does not know yet.
    virtual std::size_t waiting() const noexcept = 0;

    /// Hands over what was requested, then waits for a completion, at most for `limit` (none: no limit). The span is
    /// valid until the next call. Interrupted by a signal, it returns what there is.
    virtual std::span<const Completion> wait(std::optional<Duration> limit) = 0;

    /// Adds a buffer to the pool, or gives one back.
    virtual void give(std::uint16_t buffer, std::span<std::byte> memory) noexcept = 0;

    /// Turns readable when a completion waits, for a loop around this one; -1 where there is none.
    virtual int descriptor() const noexcept { return -1; }
};

}  // namespace reactor
