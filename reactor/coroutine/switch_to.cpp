// The owner moves, and its task with it.
#include <reactor/coroutine/detail/stream_protocol.hpp>
#include <reactor/coroutine/switch_to.hpp>
#include <reactor/stream/connection.hpp>

#include <stdexcept>
#include <utility>

namespace reactor::coroutine_detail {

void Root::move_to(Reactor&, MoveOnlyFunction<void()>) {
    throw std::logic_error("switch_to: only the coroutine of an accepted connection moves to another loop");
}

void StreamProtocol::move_to(Reactor& target, MoveOnlyFunction<void()> arrived) {
    auto* const connection = dynamic_cast<Connection*>(&transport());
    if (connection == nullptr) throw std::logic_error("switch_to: this transport is no Connection");
    connection->move_to(target, std::move(arrived));
}

void SwitchOperation::start(Root& root, Continuation continuation) {
    auto waiting = std::make_shared<Continuation>(continuation);
    root.move_to(target_, [waiting] {
        if (*waiting) resume(std::exchange(*waiting, Continuation()));
    });
    waiting_ = std::move(waiting);
}

}  // namespace reactor::coroutine_detail
