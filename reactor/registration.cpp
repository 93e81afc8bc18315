// Registrations, and the handlers that the reactor owns: how they begin and end. registration_table.cpp has their rows.
#include <reactor/loop_thread_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/registration.hpp>
#include <reactor/registration_table_impl.hpp>

#include <algorithm>
#include <cassert>
#include <memory>
#include <utility>

namespace reactor {

void RegistrationView::set_interest(Interest interest) const noexcept {
    assert(reactor_->on_loop_thread() && "set_interest: called from another thread than the one that runs the loop");
    reactor_->table_->set_interest(descriptor_, id_, interest);
}

Interest RegistrationView::interest() const noexcept {
    return reactor_->table_->find(descriptor_, id_).wanted;
}

void RegistrationView::trigger(Interest ready) const {
    reactor_->require_loop_thread("Registration::trigger");
    // One each: a call that throws must not take the next one with it. Urgent is a condition that is
    // reported only to an interest in errors.
    for (const auto& [one, condition] :
         {std::pair{Interest::readable, Condition::readable}, std::pair{Interest::writable, Condition::writable},
          std::pair{Interest::error, Condition::urgent}})
        if (any(ready, one)) reactor_->triggers_.push_back({{descriptor_, id_}, condition, {}});
}

void Registration::reset() noexcept {
    if (*this) reactor().retire(leave());
}

Registration Reactor::watch(int descriptor, Interest interest, EventHandler& handler) {
    require_loop_thread("Reactor::watch");
    return {*this, descriptor, table_->add(descriptor, interest, handler, false)};
}

Registration Reactor::adopt(int descriptor, Interest interest, std::unique_ptr<OwnedHandler>&& handler) {
    require_loop_thread("Reactor::adopt");
    // Retiring must not fail, so each handler has its place among the retired before it is adopted.
    const std::size_t places = retired_.size() + owned_ + 1;
    if (retired_.capacity() < places) retired_.reserve(std::max(places, retired_.capacity() * 2));
    const std::uint32_t id = table_->add(descriptor, interest, *handler, true);
    handler.release();
    ++owned_;
    return {*this, descriptor, id};
}

void Reactor::retire(RegistrationView registration) noexcept {
    if (std::unique_ptr<OwnedHandler> handler = release(registration)) retired_.push_back(handler.release());
}

std::unique_ptr<OwnedHandler> Reactor::release(RegistrationView registration) noexcept {
    if (!registration) return nullptr;
    assert(on_loop_thread() && "a registration was ended from another thread than the one that runs the loop");
    std::unique_ptr<OwnedHandler> handler(table_->remove(registration.descriptor(), registration.id()));
    if (handler != nullptr) --owned_;
    return handler;
}

void Reactor::visit_owned(void (*visit)(void*, OwnedHandler&), void* with) {
    table_->visit_owned(visit, with);
}

}  // namespace reactor
