// How a living connection goes to another loop: it leaves in a turn of its own, travels as a posted task, and is
// adopted there.
#include <reactor/stream/connection_impl.hpp>
#include <reactor/stream/dressed_impl.hpp>

#include <memory>
#include <new>
#include <utility>

namespace reactor {

void SocketConnection::move_to(Reactor& target, MoveOnlyFunction<void()> arrived) {
    if (is(over)) return;
    auto move = std::make_unique<Move>(Move{target, std::move(arrived)});
    // A turn of its own, in which no stack frame lies in this object: the other loop may have it at once.
    if (!is(leaves)) registration().trigger(Interest::writable);
    make_extra().move = std::move(move);
    set(leaves);
    stop_passing_on();
    update_interest();
}

// The input that the engine of completions has, before the connection leaves it. False if that is its end.
bool SocketConnection::take_held() noexcept {
    Completions& completions = *workspace().completions;
    completions.stop(socket_.get());
    const std::size_t held = completions.held(socket_.get());
    try {
        if (held > 0) {
            completions.receive(socket_.get(), make_extra().input.prepare(held).data(), held);
            extra()->input.commit(held);
            workspace().bytes_received += held;
        }
    } catch (const std::bad_alloc&) {
        out_of_memory();
        return false;
    }
    const int error = completions.error(socket_.get());
    leave_engine();
    if (error == 0) return true;
    finish({error, std::system_category()});
    return false;
}

// From the loop. Once it is posted nothing of this object may be touched here.
void SocketConnection::depart() {
    struct Traveller {
        std::unique_ptr<OwnedHandler> connection;
        MoveOnlyFunction<void()> arrived;
        std::unique_ptr<Workspace>
            workspace;  // for a loop that has had no connection yet: without it none could end there
    };
    send_gathered();
    leave_gathering();
    send_collected();
    if (is(over)) return;
    if (is(completes) && !take_held()) return;
    Reactor& here = loop();
    Reactor& target = extra()->move->target;
    try {
        const auto traveller = std::make_shared<Traveller>();
        traveller->workspace = std::make_unique<Workspace>(target);
        PreparedPost task([traveller, &target] {
            auto& connection = static_cast<SocketConnection&>(*traveller->connection);
            if (Internals(target).streams() == nullptr) Internals(target).streams() = std::move(traveller->workspace);
            connection.arrive(target, std::move(traveller->connection), std::move(traveller->arrived));
        });
        ConnectionOptions options;  // it travels with options of its own
        options.limits = limits();
        options.rates = extra()->meter != nullptr ? extra()->meter->rates : group_->rates;
        options.descriptors = group_->descriptors;
        join(ConnectionGroup::make(here, options));
        DressedProtocol* const dressed = as_dressed(protocol_.get());
        if (dressed != nullptr) dressed->leaves();
        // From here on nothing needs memory. A drain of the target that sees this on its way waits for it to arrive.
        parts_->timers->cancel(*parts_);
        traveller->arrived = std::move(extra()->move->arrived);
        traveller->connection = Internals(here).release(registration());
        Workspace& space = workspace();
        ++Internals(target).arriving();  // before it is counted here no more: a drain of both loops waits for it
        group_->leave_loop();
        group_->workspace = nullptr;
        // Not through `parts_`: once it is posted it is the other loop's.
        const std::shared_ptr<HandleState> handles = parts_->handles;
        const auto send = [&] { return target.post(std::move(task)); };
        if (handles == nullptr ? send() : handles->move_to(target, send)) return;
        --Internals(target).arriving();
        group_->enter_loop(space);
        // Its place in the table is still there, so this cannot fail.
        registration_id_ = here.adopt(socket_.get(), Interest::none, std::move(traveller->connection)).leave().id();
        if (dressed != nullptr) dressed->arrives();
        finish(std::make_error_code(std::errc::operation_canceled));
    } catch (const std::bad_alloc&) {
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
}

// From the other loop, as a task.
void SocketConnection::arrive(Reactor& reactor, std::unique_ptr<OwnedHandler> self, MoveOnlyFunction<void()> arrived) {
    extra()->move.reset();
    state_.unset(leaves);
    parts_->timers = &Internals(reactor).timers();
    group_->enter_loop(*Internals(reactor).streams());
    --Internals(reactor).arriving();
    try {
        enter_engine();
        registration_id_ = reactor.adopt(socket_.get(), Interest::none, std::move(self)).leave().id();
    } catch (const std::bad_alloc&) {
        state_.set(over);
        parts_->reason = std::make_error_code(std::errc::not_enough_memory);
        group_->note_end(reason());
        return last_calls();
    }
    try {
        if (DressedProtocol* const dressed = as_dressed(protocol_.get())) dressed->arrives();
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    if (!parts_->input.empty() && !is(closing)) set(input_due);
    if (is(fresh) && !is(closing)) {
        make_next();
    } else {
        plan_deadline();
    }
    if (arrived && !is(over)) call(arrived);
    if (workspace().drain != nullptr && workspace().drain->has_told()) tell_draining();
    settle();
    if (!is(over) && state_.owes_closing()) trigger(Interest::writable);
}

}  // namespace reactor
