// Calls from the wrong thread are noticed where NDEBUG is not defined. Where it is, the checks cost nothing: calls that
// may throw use require_loop_thread(), and all others assert(on_loop_thread()).
#pragma once

#include <reactor/reactor.hpp>

#include <stdexcept>
#include <string>

namespace reactor {

#ifdef NDEBUG
constexpr bool threads_are_checked = false;
#else
constexpr bool threads_are_checked = true;
#endif

inline void Reactor::require_loop_thread(const char* call) const {
    if constexpr (threads_are_checked) {
        if (!on_loop_thread())
            throw std::logic_error(std::string(call) + ": called from another thread than the one that runs the loop");
    }
}

}  // namespace reactor
