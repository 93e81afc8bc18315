// readable, writable: a task waits until a descriptor of its own is ready.
#pragma once

#include <reactor/coroutine/detail/promise.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/event_handler.hpp>
#include <reactor/reactor.hpp>

#include <system_error>

namespace reactor {

namespace coroutine_detail {

class ReadinessOperation final : public Operation<ReadinessOperation>, EventHandler {
public:
    ReadinessOperation(int descriptor, Interest interest) noexcept : descriptor_(descriptor), interest_(interest) {}
    ReadinessOperation(ReadinessOperation&& other) noexcept
        : descriptor_(other.descriptor_), interest_(other.interest_) {}

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation) {
        continuation_ = continuation;
        registration_ = root.reactor().watch(descriptor_, interest_, *this);
    }
    Result<void> result() const noexcept {
        if (error_) return error_;
        return {};
    }

private:
    void readable() override { done({}); }
    void writable() override { done({}); }
    void lost(std::error_code reason) override { done(reason); }
    void done(std::error_code error) {
        error_ = error;
        registration_.reset();
        resume(continuation_);
    }

    const int descriptor_;
    const Interest interest_;
    std::error_code error_;
    Continuation continuation_;
    Registration registration_;
};

}  // namespace coroutine_detail

/// Waits until a read will not block: there is data, an end, a hang-up or an error, which the read then reports. A
/// hint, as for EventHandler: the descriptor should be non-blocking, and stays the caller's. The error of a descriptor
/// that cannot be watched is the result, and throws std::system_error for a number that is not one. Each await
/// registers and unregisters: for many reads a protocol, or an EventHandler, costs less.
inline coroutine_detail::ReadinessOperation readable(int descriptor) noexcept {
    return {descriptor, Interest::readable};
}
/// The same for a write.
inline coroutine_detail::ReadinessOperation writable(int descriptor) noexcept {
    return {descriptor, Interest::writable};
}

}  // namespace reactor
