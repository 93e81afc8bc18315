// Registration: the interest of a handler in a descriptor. Destroying it ends the interest. A RegistrationView is a
// copyable reference to one. An OwnedHandler is a handler that the reactor owns. The reactor makes registrations
// (Reactor::watch, Reactor::adopt) and keeps them in a table of its own.
#pragma once

#include <reactor/event_handler.hpp>
#include <reactor/export.hpp>

#include <cstdint>
#include <utility>

namespace reactor {

class Reactor;
class Registration;
class Workspace;

/// Names a registration and does not own it: nothing ends when a view does, and a view is to be used only while the
/// registration lasts. Handlers that know their reactor and their descriptor anyway may keep its number alone, and make
/// a view when they need one.
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

    /// Changes the interest; `none` is allowed and costs nothing. Takes effect at once for events already waiting.
    /// The kernel gets it just before the next wait, and only if it differs from the interest that it knows.
    void set_interest(Interest interest) const noexcept;
    Interest interest() const noexcept;

    /// Calls the handler in this iteration (from step 4's second half on: in the next one) as if the kernel had found
    /// the descriptor ready, if it has that interest then. For data that the kernel cannot see: in a buffer, inside a
    /// TLS engine.
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

    /// Gives it up: from now on the returned view names it, which the library can end (Internals::retire). This
    /// one is empty then.
    RegistrationView leave() noexcept { return std::exchange(static_cast<RegistrationView&>(*this), {}); }

private:
    friend class Reactor;
    Registration(Reactor& reactor, int descriptor, std::uint32_t id) noexcept
        : RegistrationView(reactor, descriptor, id) {}
};

/// A handler that the reactor owns (Reactor::adopt): connections are such.
class REACTOR_EXPORT OwnedHandler : public EventHandler {
public:
    virtual ~OwnedHandler() = default;
    /// The last call, at the end of the turn in which it was retired; it is destroyed next.
    virtual void retired() {}
    /// The memory that all handlers of its kind share in its loop; null for handlers of a program's own. The handlers
    /// of one kind are found by it. It is no dynamic_cast, for programs without run-time types.
    virtual const Workspace* shares() const noexcept { return nullptr; }
};

}  // namespace reactor
