// TransportHandle: the way to a connection from any thread, for as long as there is one.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>

#include <memory>
#include <string>
#include <utility>

namespace reactor {

class HandleState;
class Protocol;

/// The result of Transport::handle. It may be copied, kept and used on any thread, also when the connection and its
/// loop are gone: then nothing happens. It follows a connection that moves to another loop.
class REACTOR_EXPORT TransportHandle {
public:
    /// Of no connection.
    TransportHandle() noexcept = default;

    /// Calls `callable` with the connection's protocol, on the loop that it is on then, as a call of the protocol's:
    /// after `connected`, never from inside another one, and an exception ends the connection. Not called once the end
    /// has begun. The calls of one thread come in their order, unless the connection moves meanwhile. False if it is
    /// known that it will not be called; true is no promise. Thread: any. Errors: std::invalid_argument for an empty
    /// callable, and std::bad_alloc. Lifetime: the callable is destroyed on either thread.
    bool post(MoveOnlyFunction<void(Protocol&)> callable) const;

    /// Writes a copy of `data`, in the same way.
    template <ByteSource Data>
    bool write(const Data& data) const {
        return write_text(std::string(text_of(bytes_of(data))));
    }

private:
    friend class HandleState;
    explicit TransportHandle(std::shared_ptr<HandleState> state) noexcept : state_(std::move(state)) {}
    bool write_text(std::string text) const;

    std::shared_ptr<HandleState> state_;
};

}  // namespace reactor
