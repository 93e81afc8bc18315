// stopping(): a task that wants to tidy up with awaits waits for the request to end.
#pragma once

#include <reactor/coroutine/detail/ready_list.hpp>

namespace reactor {

namespace coroutine_detail {

/// Of a root: the request to end, and those that wait for it.
class StopState {
public:
    bool used = false;  // the task has asked for it: it ends by itself
    bool asked = false;
    LinkList waiting;

    void ask(ReadyList& ready) noexcept {
        asked = true;
        while (!waiting.empty()) ready.push(waiting.front());
    }
};

class StoppingOperation : public Operation<StoppingOperation> {
public:
    StoppingOperation() noexcept = default;
    StoppingOperation(StoppingOperation&&) noexcept {}

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation) {
        StopState& state = root.stop_state();
        link_.continuation = continuation;
        state.used = true;
        if (state.asked) return ReadyList::of(root.reactor()).push(link_);
        (void)ReadyList::of(root.reactor());  // whose memory is needed when it is asked
        state.waiting.push_back(link_);
    }
    void result() const noexcept {}

private:
    Link link_;
};

}  // namespace coroutine_detail

/// Waits until the task is asked to end: a drain of its connection, or Scope::stop. From the first await of this on, a
/// drain does not end the task: it has the drain's grace period to finish.
///
///     auto next = co_await first_of(stream.read<Lines>(), stopping());
///     if (next.index() == 1) co_await stream.write("bye\n");
///
/// Thread: the loop's.
inline coroutine_detail::StoppingOperation stopping() noexcept {
    return {};
}

}  // namespace reactor
