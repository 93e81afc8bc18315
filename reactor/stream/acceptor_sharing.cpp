// Connections that one acceptor accepts and others serve. One lock guards the members and their counts: it is taken
// once for each connection, which costs nothing beside the post to the other thread.
#include <reactor/stream/acceptor_sharing.hpp>

#include <reactor/stream/acceptor.hpp>

#include <algorithm>
#include <new>
#include <utility>

namespace reactor {

std::size_t AcceptorSharing::connections() const noexcept {
    const std::lock_guard lock(mutex_);
    std::size_t sum = 0;
    for (const MemberPointer& member : members_) sum += member->connections();
    return sum;
}

AcceptorSharing::MemberPointer AcceptorSharing::join(Acceptor& acceptor, Reactor& reactor, std::size_t most) {
    MemberPointer member = std::make_shared<Member>(acceptor, reactor, most);
    const std::lock_guard lock(mutex_);
    members_.push_back(member);
    tell_those_who_wait();
    return member;
}

void AcceptorSharing::leave(const MemberPointer& member) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase(members_, member);
    member->acceptor = nullptr;
}

// Both at once: a connection that has arrived counts as live from then on, and its place is never free in between.
void AcceptorSharing::count(Member& member, std::size_t live, std::size_t arrived) noexcept {
    const std::lock_guard lock(mutex_);
    member.live = live;
    member.on_the_way -= arrived;
    if (member.connections() < member.most) tell_those_who_wait();
}

bool AcceptorSharing::has_room(Member& member) noexcept {
    const std::lock_guard lock(mutex_);
    member.waits = std::none_of(members_.begin(), members_.end(),
                                [](const MemberPointer& one) { return one->connections() < one->most; });
    return !member.waits;
}

// From any loop. The lock is held until the socket is on its way: a member that has not left still has its reactor.
void AcceptorSharing::hand_over(Socket socket) {
    const std::lock_guard lock(mutex_);
    if (members_.empty()) return;
    const std::size_t place = choose();
    const MemberPointer& member = members_[place];
    member->reactor.post([this, member, socket = std::move(socket)]() mutable {
        if (member->acceptor == nullptr) return hand_over(std::move(socket));
        member->acceptor->take(std::move(socket));
    });
    ++member->on_the_way;
    next_ = (place + 1) % members_.size();  // so of equals it is the one whose turn it is
}

// The place of one with room. Two listeners may have seen the last room both: then of one without.
std::size_t AcceptorSharing::choose() const noexcept {
    std::size_t chosen = next_ % members_.size();
    bool found = false;
    for (std::size_t i = 0; i < members_.size(); ++i) {
        const std::size_t place = (next_ + i) % members_.size();
        const Member& member = *members_[place];
        if (member.connections() >= member.most) continue;
        if (!found || member.connections() < members_[chosen]->connections()) chosen = place;
        found = true;
        if (choice_ == Choice::round_robin) break;
    }
    return chosen;
}

// Under the lock, which keeps the reactors alive: an acceptor that has left is not among the members.
void AcceptorSharing::tell_those_who_wait() noexcept {
    for (const MemberPointer& member : members_) {
        if (!member->waits) continue;
        try {
            member->reactor.post([member] {
                if (member->acceptor != nullptr) member->acceptor->update_interest();
            });
            member->waits = false;
        } catch (const std::bad_alloc&) {
            // The next to end tries again.
        }
    }
}

}  // namespace reactor
