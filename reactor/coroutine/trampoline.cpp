// The rest of a chain of coroutines.
#include <reactor/coroutine/detail/promise.hpp>

namespace reactor::coroutine_detail {

void resume_next(Root& root) {
    while (const Continuation next = std::exchange(root.next, Continuation())) {
        if (next.is_end()) return root.finished();
        if (next.is_coroutine()) {
            root.running = true;
            next.coroutine().resume();
            root.running = false;
        } else {
            next.branch().completed();
        }
    }
    if (root.given_up) root.finished();
}

}  // namespace reactor::coroutine_detail
