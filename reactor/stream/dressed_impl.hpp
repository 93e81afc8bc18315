// DressedProtocol: a protocol that carries another one, as that of TLS does. Code that looks for the program's own
// protocols looks inside, and calls that are posted to the program's protocol go there. Not installed.
#pragma once

#include <reactor/function.hpp>
#include <reactor/prepared_post.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/detail/stream_state.hpp>
#include <reactor/stream/protocol.hpp>

#include <memory>

namespace reactor {

class DressedProtocol : public Protocol {
public:
    virtual Protocol& inside() noexcept = 0;
    /// Takes over the protocol that was running on its carrier, whose state this is.
    virtual void carry(std::unique_ptr<Protocol> protocol, const StreamState& carrier) noexcept = 0;
    /// Makes a call that a handle of the carrier's has posted, inside one of the carrier's calls.
    virtual void run_posted(MoveOnlyFunction<void(Transport&, Protocol&)>& posted) = 0;
    /// As Protocol::hand_over_to, for the one that it carries.
    virtual bool hand_over(std::unique_ptr<Protocol>&& next) = 0;
    /// The carrier is about to leave its loop.
    virtual void leaves() noexcept = 0;
    /// It is on another one now, or still on this one. Throws std::bad_alloc.
    virtual void arrives() = 0;
};

/// Destroys a protocol from the loop, since the present call may be one of its own. Throws std::bad_alloc at once.
class DestroyedLater {
public:
    explicit DestroyedLater(Reactor& reactor) : reactor_(reactor), post_([kept = kept_]() mutable { kept.reset(); }) {}
    void takes(std::unique_ptr<Protocol> protocol) noexcept {
        *kept_ = std::move(protocol);
        reactor_.post(std::move(post_));
    }

private:
    Reactor& reactor_;
    std::shared_ptr<std::unique_ptr<Protocol>> kept_ = std::make_shared<std::unique_ptr<Protocol>>();
    PreparedPost post_;
};

inline DressedProtocol* as_dressed(Protocol* protocol) noexcept {
    return dynamic_cast<DressedProtocol*>(protocol);
}

/// The program's own protocol: `protocol`, or the one that it carries.
inline Protocol& undressed(Protocol& protocol) noexcept {
    DressedProtocol* const dressed = as_dressed(&protocol);
    return dressed == nullptr ? protocol : dressed->inside();
}

}  // namespace reactor
