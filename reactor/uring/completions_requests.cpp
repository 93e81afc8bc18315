// Which requests are made again, when, and how they are ended: at most one receive and one poll of a slot are under
// way. They are handed over by a wait. Behind a fork, and on another thread, all are made anew.
#include <reactor/uring/completions_impl.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace reactor {

// ── what is wanted ──

void Completions::update(Token token, Interest wanted) noexcept {
    Slot& slot = slots_[std::size_t(token.descriptor)];
    slot.generation = token.generation;
    slot.wanted = wanted;
    if (!any(wanted, Interest::readable)) stop_receiving(token.descriptor, slot);
    list(token.descriptor, slot);
    make_due(token.descriptor, slot);
}

void Completions::receive_ahead(int descriptor, bool ahead) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    slot.by_readiness = !ahead;
    if (!ahead) stop_receiving(descriptor, slot);
    make_due(descriptor, slot);
}

void Completions::stop(int descriptor) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    watch(descriptor, slot, Interest::none);
    // As a rule both end in the wait that hands the cancellations over. Much more would be a kernel's fault.
    for (int tries = 0; tries < 20; ++tries) {
        stop_receiving(descriptor, slot);
        stop_awaiting_end(descriptor, slot);
        if (!slot.receiving && !slot.awaits_end) return;
        flush();
    }
}

void Completions::watch(Demultiplexer& readiness) noexcept {
    readiness_ = &readiness;
    watched_ready_ = false;
    if (!std::exchange(watching_, false)) return;
    (void)cancelled(data_of(Kind::watch, 0, watch_));
    ++watch_;
}

void Completions::watch_anew(Demultiplexer& readiness) noexcept {
    watch(readiness);
    for (std::size_t index = 0; index < slots_.size(); ++index) {
        slots_[index].watched = Interest::none;
        if (slots_[index].joined) make_due(int(index), slots_[index]);
    }
}

// ── requests ──

void Completions::make_due(int descriptor, Slot& slot) noexcept {
    if (slot.due) return;
    slot.due = true;
    due_.push_back(descriptor);
}

void Completions::make_requests() {
    if (!watching_ && !watched_ready_) {
        queue_->poll(readiness_->native_handle(), Interest::readable, data_of(Kind::watch, 0, watch_));
        watching_ = true;
    }
    std::size_t done = 0;
    try {
        for (; done < due_.size(); ++done) request(due_[done], slots_[std::size_t(due_[done])]);
    } catch (...) {
        due_.erase(due_.begin(), due_.begin() + std::ptrdiff_t(done));
        throw;
    }
    due_.clear();
}

void Completions::request(int descriptor, Slot& slot) {
    slot.due = false;
    if (!slot.joined) return;
    if (slot.listens) return request_accept(descriptor, slot);
    Interest to_watch = slot.wanted;
    const bool reads = any(slot.wanted, Interest::readable);
    if (reads && !slot.by_readiness && !slot.ended && slot.bulk == 0) {
        to_watch = to_watch & ~Interest::readable;
        if (!slot.receiving && !slot.at_end && slot.error == 0) {
            slot.receive_at = queue_->receive(descriptor, data_of(Kind::receive, std::uint64_t(descriptor), slot.life));
            slot.receiving = true;
        }
        // A receive that finds input and a reset together, or on a Unix socket input and the end, tells of the input
        // and then of nothing (Linux 6.18: it looks again only while the socket says that it has more).
        if (!slot.awaits_end) {
            slot.end_at =
                queue_->poll(descriptor, Interest::none, data_of(Kind::end, std::uint64_t(descriptor), slot.life));
            slot.awaits_end = true;
        }
    }
    // Something to be read is known already, or may come from the receive that is still under way.
    if (slot.receiving || slot.at_end || slot.first != none || slot.error != 0)
        to_watch = to_watch & ~Interest::readable;
    if (!reads || slot.by_readiness || slot.ended || slot.bulk > 0) stop_receiving(descriptor, slot);
    watch(descriptor, slot, to_watch);
}

void Completions::watch(int descriptor, Slot& slot, Interest interest) noexcept {
    if (slot.watched == interest) return;
    try {
        readiness_->update({descriptor, slot.generation}, slot.watched, interest);
        slot.watched = interest;
    } catch (...) {  // no room in the kernel, or no memory
        slot.watched = Interest::none;
        slot.lost = true;
        list(descriptor, slot);
    }
}

// Before it was handed over: then it has never been.
bool Completions::withdrawn(CompletionQueue::Place place) noexcept {
    if (queue_->handed_over(place)) return false;
    queue_->withdraw(place);
    return true;
}

// If there is no memory for that the request goes on, and its completion is taken as any other.
bool Completions::cancelled(std::uint64_t data) noexcept {
    try {
        queue_->cancel(data);
    } catch (...) {
        return false;
    }
    return true;
}

void Completions::stop_receiving(int descriptor, Slot& slot) noexcept {
    if (!slot.receiving || slot.stopping) return;
    if (withdrawn(slot.receive_at)) {
        slot.receiving = false;
    } else {
        slot.stopping =
            cancelled(data_of(slot.listens ? Kind::accept : Kind::receive, std::uint64_t(descriptor), slot.life));
    }
}

void Completions::stop_awaiting_end(int descriptor, Slot& slot) noexcept {
    if (!slot.awaits_end || slot.end_stopping) return;
    if (withdrawn(slot.end_at)) {
        slot.awaits_end = false;
    } else {
        slot.end_stopping = cancelled(data_of(Kind::end, std::uint64_t(descriptor), slot.life));
    }
}

// ── handing over ──

void Completions::wait(std::optional<Duration> limit) {
    list_again();
    make_requests();
    if (ready()) limit = Duration::zero();  // not before: a connection that cannot be watched is to be told so
    collect_completions(queue_->wait(limit));
}

void Completions::hand_over() noexcept {
    try {
        make_requests();
    } catch (...) {  // the next wait of the loop says it
    }
    if (queue_->waiting() > 0) flush();
}

void Completions::flush() noexcept {
    try {
        collect_completions(queue_->wait(Duration::zero()));
    } catch (...) {  // the next wait of the loop says it
    }
}

// In a child of fork(2) all input that has come, all connections, and all sends that were collected, are the parent's,
// which has them as well.
void Completions::renew(std::unique_ptr<CompletionQueue> queue, bool forked) {
    std::vector<bool> held(buffers_);
    if (!forked) flush();  // completions that are there already
    for (std::size_t index = 0; index < collected_size_; ++index) {
        const Collected& collected = collected_[index];
        if (forked || collected.sender == nullptr) continue;
        errno = EAGAIN;
        sent_less_(collected.sender, -1, collected.bytes());
    }
    queue_ = std::move(queue);
    forget_all_collected();
    watching_ = watched_ready_ = false;
    if (taken_ != none) held[taken_] = true;
    for (std::size_t index = 0; index < slots_.size(); ++index) {
        Slot& slot = slots_[index];
        ++slot.life;
        slot.receiving = slot.stopping = slot.awaits_end = slot.end_stopping = false;
        if (forked) {
            if (slot.first != none) --unread_;
            slot.first = slot.last = none;
            slot.taken = slot.error = 0;
        }
        if (forked && slot.listens) slot.at_end = false;
        for (std::uint16_t at = slot.first; at != none; at = next_[at]) held[at] = true;
        if (slot.joined) make_due(int(index), slot);
    }
    if (forked) std::for_each(accepted_.begin(), accepted_.end(), drop);
    for (std::size_t index = 0; index < buffers_; ++index)
        if (!held[index]) release(std::uint16_t(index));
}

}  // namespace reactor
