#include <reactor/hook.hpp>
#include <reactor/reactor.hpp>

#include <algorithm>
#include <utility>

namespace reactor {

Hook::Hook(Reactor& reactor, When when, MoveOnlyFunction<void()> callable)
    : list_(when == When::before_wait ? reactor.before_wait_ : reactor.after_wait_),
      callable_(required(std::move(callable), "Hook: the callable is empty")) {
    list_.push_back(this);
    ++reactor.other_calls_;  // its work may be there already
}

// The list may be in use: run_hooks sweeps up.
Hook::~Hook() {
    std::replace(list_.begin(), list_.end(), this, static_cast<Hook*>(nullptr));
}

}  // namespace reactor
