// The table of registrations, by descriptor. One registration of a descriptor, the usual case, has all it needs in its
// slot; several share one interest in the backend, which is the union of theirs. Changes are noted and handed over
// once, before the wait: an interest that is set and taken back costs no system call.
#include <reactor/registration_table_impl.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <string>
#include <utility>

namespace reactor {

namespace {

// Up to here the table grows for any number, which is a megabyte; beyond, only for a descriptor that is open, since
// the table is as large as the highest one, and one that is not a descriptor may be any number.
constexpr std::size_t believed_descriptors = 64 * 1024;

}  // namespace

std::uint32_t Reactor::Table::next_id() noexcept {
    if (++last_id_ == 0) ++last_id_;  // 0 stands for none
    return last_id_;
}

std::uint32_t Reactor::Table::add(int descriptor, Interest interest, EventHandler& handler, bool owned) {
    const auto index = std::size_t(descriptor);
    const bool grows = index >= slots_.size();
    if (descriptor < 0 || (grows && index >= believed_descriptors && ::fcntl(descriptor, F_GETFD) < 0))
        throw std::system_error(EBADF, std::system_category(),
                                "Reactor::watch: descriptor " + std::to_string(descriptor));
    if (index >= changes_.capacity()) {
        const std::size_t size = std::max(index + 1, changes_.capacity() * 2);
        changes_.reserve(size);  // every descriptor stands in it at most once: noting a change cannot fail
        slots_.reserve(size);
    }
    if (grows) slots_.resize(index + 1);  // the part beyond is not touched, and so is no memory yet
    Slot& slot = slots_[index];
    const std::uint32_t id = next_id();
    // The number is watched already: by another part of the program, or by one that has closed it and does not know.
    if (slot.generation != 0) {
        note_change(descriptor);
        share(descriptor);
        // Behind the earlier ones: handlers of one descriptor are called in the order in which they came.
        shared_[descriptor].push_back({&handler, id, interest, owned, false});
        slot.set_wanted(slot.wanted | interest);
        // The number may have been closed and used again. The kernel may have forgotten the earlier file, or go on
        // reporting it because of a duplicate: the new generation distinguishes them.
        slot.resubmit = true;
        slot.generation = next_id();
        ++removals_;
    } else {
        if (interest != Interest::none) note_change(descriptor);
        slot.handler = &handler;
        slot.generation = id;
        slot.set_wanted(interest);
        slot.owned = owned;
    }
    return id;
}

// Moves a single registration out of its slot, to make room for more.
void Reactor::Table::share(int descriptor) {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.shared()) return;
    shared_[descriptor].push_back({slot.handler, slot.generation, slot.wanted, slot.owned, slot.lost()});
    if (slot.lost())
        slot.set_wanted(Interest::none);  // the number lives again, but not for the registration that lost it
    slot.handler = nullptr;
    slot.owned = false;
    slot.set_kind(Slot::Kind::shared);
}

Reactor::Table::Watch Reactor::Table::find(int descriptor, std::uint32_t id) noexcept {
    const Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.shared()) {
        const Watch* watch = find_shared(descriptor, id);
        return watch == nullptr ? Watch{} : *watch;
    }
    // The registration has gone, and perhaps another has its number. An id comes again only after four billion others.
    if (slot.generation != id) return {};
    return {slot.handler, id, slot.wanted, slot.owned, slot.lost()};
}

Reactor::Table::Watch* Reactor::Table::find_shared(int descriptor, std::uint32_t id) noexcept {
    for (Watch& watch : shared_.find(descriptor)->second)
        if (watch.id == id) return &watch;
    return nullptr;
}

// A handler's destructor may remove others, so each is taken out of the table before it is destroyed.
void Reactor::Table::clear() noexcept {
    for (std::size_t descriptor = 0; descriptor < slots_.size(); ++descriptor) {
        while (slots_[descriptor].generation != 0) {
            const Slot& slot = slots_[descriptor];
            const std::uint32_t id = slot.shared() ? shared_[int(descriptor)].front().id : slot.generation;
            const std::unique_ptr<OwnedHandler> owned(remove(int(descriptor), id));
        }
    }
}

void Reactor::Table::visit_owned(void (*visit)(void*, OwnedHandler&), void* with) {
    for (std::size_t descriptor = 0; descriptor < slots_.size(); ++descriptor) {
        // Copies, of the watches too: the visit may retire any handler, and let the table grow.
        const Slot slot = slots_[descriptor];
        if (!slot.shared() && slot.owned) visit(with, static_cast<OwnedHandler&>(*slot.handler));
        if (!slot.shared()) continue;
        const std::vector<Watch> watches = shared_.find(int(descriptor))->second;
        for (const Watch& watch : watches)
            if (watch.owned && find(int(descriptor), watch.id).handler != nullptr)
                visit(with, static_cast<OwnedHandler&>(*watch.handler));
    }
}

bool Reactor::Table::watches_besides(int descriptor) const noexcept {
    // A walk over all numbers, for run_until_idle() alone, and there only when nothing else is left.
    for (std::size_t other = 0; other < slots_.size(); ++other)
        if (slots_[other].wanted != Interest::none && !slots_[other].lost() && int(other) != descriptor) return true;
    return false;
}

void Reactor::Table::set_interest(int descriptor, std::uint32_t id, Interest interest) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (!slot.shared()) {
        slot.set_wanted(interest);
        return note_change(descriptor);
    }
    // With several, the backend's interest is their union; it is dispatched to those that have the interest.
    find_shared(descriptor, id)->wanted = interest;
    update_union(descriptor);
}

// The interest of a shared descriptor: the union over the registrations that have not lost it.
void Reactor::Table::update_union(int descriptor) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    Interest wanted = Interest::none;
    for (const Watch& watch : shared_.find(descriptor)->second)
        if (!watch.lost) wanted |= watch.wanted;
    slot.set_wanted(wanted);
    note_change(descriptor);
}

void Reactor::Table::note_change(int descriptor) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.changed) return;
    changes_.push_back(descriptor);
    slot.changed = true;
}

OwnedHandler* Reactor::Table::remove(int descriptor, std::uint32_t id) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    const Watch gone = find(descriptor, id);
    if (gone.handler == nullptr) return nullptr;
    bool last = true;
    if (slot.shared()) {
        auto watches = shared_.find(descriptor);
        std::erase_if(watches->second, [&](const Watch& watch) { return watch.id == id; });
        last = watches->second.empty();
        if (last) {
            shared_.erase(watches);
        } else {
            update_union(descriptor);
        }
    }
    if (last) {
        // At once, and not with the next changes: the caller may close the descriptor as soon as this returns.
        if (slot.submitted != Interest::none) {
            ++changes_handed_over_;
            demultiplexer_->update({descriptor, slot.generation}, slot.submitted, Interest::none);
        }
        const bool changed = slot.changed;  // it still stands in changes_
        slot = Slot{};
        slot.changed = changed;
    }
    ++removals_;
    return gone.owned ? static_cast<OwnedHandler*>(gone.handler) : nullptr;
}

void Reactor::Table::lose(int descriptor, std::uint32_t id) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.submitted != Interest::none) {
        demultiplexer_->update({descriptor, slot.generation}, slot.submitted, Interest::none);
        slot.submitted = Interest::none;
    }
    if (!slot.shared()) {
        slot.set_kind(Slot::Kind::lost);
        return;
    }
    // The others are called next. If one of them throws, the backend is asked again for those behind it.
    find_shared(descriptor, id)->lost = true;
    update_union(descriptor);
}

// In the order in which they were asked for, which poll's array then keeps.
void Reactor::Table::hand_over_changes(std::vector<Trigger>& refused) {
    std::size_t handed_over = 0;
    try {
        for (; handed_over < changes_.size(); ++handed_over) hand_over(changes_[handed_over], refused);
    } catch (...) {  // no memory to note that one was refused: it and those behind it stay
        changes_.erase(changes_.begin(), changes_.begin() + std::ptrdiff_t(handed_over));
        throw;
    }
    changes_.clear();
}

void Reactor::Table::hand_over(int descriptor, std::vector<Trigger>& refused) {
    Slot& slot = slots_[std::size_t(descriptor)];
    const bool differs = slot.wanted != slot.submitted || slot.resubmit;
    if (differs && !slot.lost() && slot.generation != 0) {
        ++changes_handed_over_;
        std::error_code reason;
        try {
            demultiplexer_->update({descriptor, slot.generation}, slot.submitted, slot.wanted);
            slot.submitted = slot.wanted;
        } catch (const std::system_error& error) {
            reason = error.code();
        } catch (const std::bad_alloc&) {
            reason = std::make_error_code(std::errc::not_enough_memory);
        }
        // An objection of the kernel comes as a call of `lost`, since the caller of set_interest() has long returned.
        if (reason) {
            slot.submitted = Interest::none;
            refuse(descriptor, reason, refused);
        }
    }
    slot.resubmit = false;
    slot.changed = false;
}

void Reactor::Table::refuse(int descriptor, std::error_code reason, std::vector<Trigger>& refused) {
    const Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.shared()) {
        for (const Watch& watch : shared_.find(descriptor)->second)
            refused.push_back({{descriptor, watch.id}, Condition::invalid, reason});
    } else {
        refused.push_back({{descriptor, slot.generation}, Condition::invalid, reason});
    }
}

void Reactor::Table::replace_demultiplexer(bool forked) {
    // No removals in the old one: in a child of fork(2) it is the parent's epoll set, which they would empty.
    if (!demultiplexer_->renew(forked)) demultiplexer_ = make_demultiplexer(demultiplexer_->name());
    for (std::size_t descriptor = 0; descriptor < slots_.size(); ++descriptor) {
        Slot& slot = slots_[descriptor];
        slot.submitted = Interest::none;
        if (slot.wanted != Interest::none) note_change(int(descriptor));
    }
}

}  // namespace reactor
