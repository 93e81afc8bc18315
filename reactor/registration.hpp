// What a watched descriptor is to whoever has it watched: a Registration, which ends the watching when it is destroyed, or a
// view of one; and for those who leave their handler to the reactor, what such a handler is. The reactor makes
// registrations (Reactor::watch, Reactor::adopt) and keeps them in a table of its own.
#pragma once

#include <reactor/event_handler.hpp>
#include <reactor/export.hpp>

#include <cstdint>
#include <utility>

namespace reactor {

class Reactor;
class Registration;

/// Names a registration and does not own it: nothing ends when a view does, and a view is to be used only while the
/// registration lasts. Handlers that know their reactor and their descriptor anyway may keep its number alone, and make a
/// view when they need one.
class REACTOR_EXPORT RegistrationView {
public:
    RegistrationView() noexcept = default;
    RegistrationView(Reactor& reactor, int descriptor, std::uint32_t id) noexcept
        : reactor_(&reactor), descriptor_(descriptor), id_(id) {}
    RegistrationView(Registration&&) = delete;  // which would end at once

    /// Does it name one?
    explicit operator bool() const noexcept { return reactor_ != nullptr; }
    int descriptor() const noexcept { return descriptor_; }
    std::uint32_t id() const noexcept { return id_; }
    Reactor& reactor() const noexcept { return *reactor_; }

    /// What the handler wants to hear of from now on; `none` is allowed and costs nothing. Takes effect at
    /// once for events already waiting; the kernel is told just before the next wait, and only if the
    /// interest is then another one than it knows.
    void set_interest(Interest interest) const noexcept;
    Interest interest() const noexcept;

    /// Has the handler called this turn or, from within step 4's second half and later, the next turn, as if the
    /// kernel had found the descriptor ready; told only if it is wanted then. For data that waits where the
    /// kernel cannot see it: in a buffer, inside a TLS engine.
    void trigger(Interest ready) const;

private:
    friend class Reactor;
    Reactor* reactor_ = nullptr;
    int descriptor_ = -1;
    std::uint32_t id_ = 0;
};

/// One descriptor watched for one handler. Once it is destroyed, or reset, the handler is never called
/// again, even if its event was already waiting. Destroy it before closing the descriptor, and before the reactor.
class [[nodiscard]] REACTOR_EXPORT Registration : public RegistrationView {
public:
    Registration() noexcept = default;
    Registration(Registration&& other) noexcept : RegistrationView(other.leave()) {}
    Registration& operator=(Registration&& other) noexcept {
        if (this != &other) {
            reset();
            RegistrationView::operator=(other.leave());
        }
        return *this;
    }
    ~Registration() { reset(); }

    /// Stops watching, at once. An adopted handler is retired by it.
    void reset() noexcept;

    /// Leaves it to whoever has the view that is returned to end it (Reactor::retire). This one is empty then.
    RegistrationView leave() noexcept { return std::exchange(static_cast<RegistrationView&>(*this), {}); }

private:
    friend class Reactor;
    Registration(Reactor& reactor, int descriptor, std::uint32_t id) noexcept : RegistrationView(reactor, descriptor, id) {}
};

/// A handler that the reactor owns (Reactor::adopt): connections are such.
class REACTOR_EXPORT OwnedHandler : public EventHandler {
public:
    virtual ~OwnedHandler() = default;
    /// The last call, at the end of the turn in which it was retired; it is destroyed next.
    virtual void retired() {}
    /// The address of what it shares with its like, null if there is no such thing: by this those are found among
    /// all the handlers of a loop that are of one kind. Not by dynamic_cast, for programs without run-time types.
    virtual const void* belongs_to() const noexcept { return nullptr; }
};

}  // namespace reactor
