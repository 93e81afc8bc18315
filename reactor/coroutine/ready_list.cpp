// Resuming what became ready.
#include <reactor/coroutine/detail/ready_list.hpp>

namespace reactor::coroutine_detail {

ReadyList& ReadyList::of(Reactor& reactor) {
    std::unique_ptr<Workspace>& place = Internals(reactor).coroutines();
    if (place == nullptr) place = std::make_unique<ReadyList>(reactor);
    return static_cast<ReadyList&>(*place);
}

// Coroutines that these wake are resumed as well, but not for ever: two that wake each other must not keep the loop
// from its descriptors. An exception out of one leaves the others for the next iteration.
void ReadyList::iteration_ends() {
    ready_.append(behind_);
    struct Rest {
        ReadyList& list;
        ~Rest() {
            if (!list.ready_.empty() || !list.behind_.empty()) Internals(list.reactor_).call_coroutines_at_end();
        }
    } const rest{*this};
    for (std::size_t left = most; left > 0 && !ready_.empty(); --left) {
        Link& link = ready_.front();
        link.unlink();
        resume(link.continuation);
    }
}

}  // namespace reactor::coroutine_detail
