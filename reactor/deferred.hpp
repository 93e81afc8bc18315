// Deferred: a call at the end of the iteration that is under way, for work that is worth doing once for all that
// happened in it: adapters of libraries that must be asked after each of their callbacks, caches that are written back.
#pragma once

#include <reactor/export.hpp>

#include <cstdint>
#include <utility>

namespace reactor {

class Reactor;

/// The handle of a call deferred by Reactor::defer: destroying it cancels the call. In its own call it may be destroyed
/// and assigned to. Thread: the loop's. Lifetime: must go before its reactor; the callable is destroyed when it has run
/// or is cancelled.
class [[nodiscard]] REACTOR_EXPORT Deferred {
public:
    Deferred() noexcept = default;
    Deferred(Deferred&& other) noexcept
        : reactor_(std::exchange(other.reactor_, nullptr)), id_(std::exchange(other.id_, 0)) {}
    Deferred& operator=(Deferred&& other) noexcept {
        if (this != &other) {
            cancel();
            reactor_ = std::exchange(other.reactor_, nullptr);
            id_ = std::exchange(other.id_, 0);
        }
        return *this;
    }
    ~Deferred() { cancel(); }

    /// It will not be called. False if it was not going to anyway.
    bool cancel() noexcept;

    /// Does it wait to be called? Not any more when the call has begun.
    bool waiting() const noexcept;

private:
    friend class Reactor;
    Deferred(Reactor& reactor, std::uint64_t id) noexcept : reactor_(&reactor), id_(id) {}

    Reactor* reactor_ = nullptr;
    std::uint64_t id_ = 0;
};

}  // namespace reactor
