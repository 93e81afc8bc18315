// How input comes, waits, is told and is taken, and how small sends leave together. Each connection's descriptor has a
// slot. The requests are in completions_requests.cpp.
#include <reactor/uring/completions_impl.hpp>

#include <reactor/last_error_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

namespace reactor {

namespace {

// The call is what failed, and not the connection: recv(2) will say what the connection is.
bool is_of_the_call(int error) noexcept {
    switch (error) {
        case ECANCELED:
        case EAGAIN:
        case EINTR:
        case EINVAL:
        case ENOMEM:
        case ENOSYS:
        case EOPNOTSUPP:
        case EPERM:
        case EBADF: return true;
        default: return false;
    }
}

constexpr std::size_t most_collected = 4096;

}  // namespace

Completions::Completions(std::unique_ptr<CompletionQueue> queue)
    : queue_(std::move(queue)),
      pool_(new std::byte[pool_size()]),
      next_(most_buffers, none),
      lengths_(most_buffers),
      collected_(new Collected[most_collected]),
      arena_(new std::byte[arena_size]) {
    unsent_.reserve(most_collected);
    grow();
}

Completions::~Completions() = default;

// Twice as many: the kernel had none left in one wait.
void Completions::grow() noexcept {
    const std::size_t wanted = std::min(most_buffers, std::max(first_buffers, 2 * buffers_));
    for (; buffers_ < wanted; ++buffers_) release(std::uint16_t(buffers_));
}

// ── connections ──

void Completions::join(int descriptor) {
    const auto index = std::size_t(descriptor);
    // Lists in which every slot stands at most once: putting it there cannot fail.
    if (index >= slots_.capacity()) {
        const std::size_t size = std::max(index + 1, 2 * slots_.capacity());
        ready_.reserve(size);
        told_.reserve(size);
        due_.reserve(size);
        slots_.reserve(size);
    }
    if (index >= slots_.size()) slots_.resize(index + 1);
    Slot& slot = slots_[index];
    const std::uint32_t life = slot.life + 1;
    const bool listed = slot.listed, due = slot.due;
    slot = Slot{};
    slot.life = life;
    slot.listed = listed;
    slot.due = due;
    slot.joined = true;
    ++joined_;
}

void Completions::leave_soon(int descriptor) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    slot.wanted = Interest::none;
    stop_receiving(descriptor, slot);
    stop_awaiting_end(descriptor, slot);
}

void Completions::leave(int descriptor) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    slot.wanted = Interest::none;
    // A request holds the file: without this the peer would not see the end before the next wait.
    forget_collected(descriptor, slot);
    stop(descriptor);
    drop_input(slot);
    if (slot.listens) leave_listener(descriptor);
    ++slot.life;
    slot.joined = false;
    --joined_;
    assert((joined_ > 0 || unread_ == 0) && "without connections there is no input");
}

std::size_t Completions::held(int descriptor) const noexcept {
    const Slot& slot = slots_[std::size_t(descriptor)];
    std::size_t bytes = 0;
    for (std::uint16_t at = slot.first; at != none; at = next_[at]) bytes += lengths_[at];
    return bytes - slot.taken;
}

ssize_t Completions::receive(int descriptor, std::byte* into, std::size_t size) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    std::size_t copied = 0;
    while (slot.first != none && copied < size) {
        const std::size_t piece = std::min(size - copied, std::size_t(lengths_[slot.first] - slot.taken));
        std::memcpy(into + copied, buffer(slot.first) + slot.taken, piece);
        copied += piece;
        slot.taken = std::uint16_t(slot.taken + piece);
        if (slot.taken < lengths_[slot.first]) break;
        slot.taken = 0;
        const std::uint16_t read = std::exchange(slot.first, next_[slot.first]);
        release(read);
        if (slot.first == none) emptied(descriptor, slot);
    }
    if (copied > 0) return ssize_t(copied);
    if (slot.error != 0) {
        errno = std::exchange(slot.error, std::uint16_t(0));
        return -1;
    }
    if (slot.at_end) return 0;
    if (slot.receiving) {
        errno = EAGAIN;
        return -1;
    }
    const ssize_t count = ::recv(descriptor, into, size, 0);
    if (slot.bulk > 0 && count < ssize_t(buffer_size)) --slot.bulk;
    make_due(descriptor, slot);
    return count;
}

// ── small sends ──

bool Completions::collect(int descriptor, Bytes bytes, void* sender) noexcept {
    if (bytes.size() > largest_send || arena_size - arena_used_ < bytes.size()) return false;
    if (collected_size_ == most_collected || has_collected(descriptor, sender)) return false;
    std::byte* const copy = arena_.get() + arena_used_;
    std::memcpy(copy, bytes.data(), bytes.size());
    const std::size_t index = collected_size_;
    CompletionQueue::Place place = 0;
    try {
        place = queue_->send(descriptor, {copy, bytes.size()}, data_of(Kind::send, index));
    } catch (...) {
        return false;
    }
    collected_[index] = {sender, copy, std::uint32_t(bytes.size()), descriptor, place};
    ++collected_size_;
    arena_used_ += bytes.size();
    slots_[std::size_t(descriptor)].collected = std::uint16_t(index);
    return true;
}

// Left over only where handing over has failed and the loop is destroyed: its connection is not there to be told.
void Completions::forget_collected(int descriptor, const Slot& slot) noexcept {
    if (slot.collected >= collected_size_) return;
    Collected& collected = collected_[slot.collected];
    if (collected.descriptor != descriptor || collected.sender == nullptr) return;
    collected.sender = nullptr;
    (void)withdrawn(collected.place);
}

void Completions::forget_all_collected() noexcept {
    collected_size_ = 0;
    arena_used_ = 0;
}

ssize_t Completions::send_collected(int descriptor, Bytes& bytes) noexcept {
    Collected& collected = collected_[slots_[std::size_t(descriptor)].collected];
    bytes = collected.bytes();
    if (!withdrawn(collected.place)) {
        flush();  // which says what was not sent
        return ssize_t(bytes.size());
    }
    collected.sender = nullptr;
    return ::send(descriptor, bytes.data(), bytes.size(), send_flags);
}

// ── what is told ──

Condition Completions::condition_of(const Slot& slot) const noexcept {
    if (!slot.joined) return Condition::none;
    Condition condition = slot.lost ? Condition::invalid : Condition::none;
    if (slot.first != none || slot.error != 0 || slot.at_end) condition |= Condition::readable;
    const bool told_of = slot.lost || any(slot.wanted, Interest::readable);
    return told_of ? condition : Condition::none;
}

bool Completions::ready() const noexcept {
    if (unread_ == 0 && !unusual_) return false;
    const auto is_ready = [this](int descriptor) {
        return condition_of(slots_[std::size_t(descriptor)]) != Condition::none;
    };
    return std::any_of(told_.begin(), told_.end(), is_ready) || std::any_of(ready_.begin(), ready_.end(), is_ready);
}

// In the order in which they became ready.
void Completions::tell(std::vector<Event>& events) {
    events.reserve(events.size() + ready_.size());
    unusual_ = false;
    for (const int descriptor : ready_) {
        Slot& slot = slots_[std::size_t(descriptor)];
        slot.listed = false;
        const Condition condition = condition_of(slot);
        if (condition == Condition::none) continue;
        events.push_back({{descriptor, slot.generation}, condition});
        if (slot.first != none) [[likely]]
            continue;
        unusual_ = true;
        slot.lost = false;  // which is told once
    }
    std::swap(told_, ready_);
    ready_.clear();
}

// What was told is told again until it is ready no more. Nearly always every connection has taken its input.
void Completions::list_again() noexcept {
    if (unread_ > 0 || unusual_) {
        for (const int descriptor : told_) {
            Slot& slot = slots_[std::size_t(descriptor)];
            if (condition_of(slot) != Condition::none) list(descriptor, slot);
        }
    }
    told_.clear();
}

void Completions::list(int descriptor, Slot& slot) noexcept {
    if (slot.first == none) unusual_ = true;
    if (slot.listed) return;
    slot.listed = true;
    ready_.push_back(descriptor);
}

void Completions::drop_input(Slot& slot) noexcept {
    if (slot.first != none) --unread_;
    for (; slot.first != none; slot.first = next_[slot.first]) release(slot.first);
    slot.last = none;
    slot.taken = 0;
    slot.error = 0;
}

// ── completions ──

void Completions::collect_completions(std::span<const Completion> completions) noexcept {
    for (const Completion& completion : completions) {
        switch (Kind(completion.data >> 60)) {
            case Kind::receive: received(completion); break;
            case Kind::accept: accepted(completion); break;
            case Kind::end: end_came(completion); break;
            case Kind::send: unsent_.push_back(completion); break;
            case Kind::watch:
                if (std::uint32_t(completion.data) != watch_) break;
                watching_ = false;
                watched_ready_ = true;
                break;
            case Kind::none: not_cancelled(completion); break;
        }
    }
    // Every send has had its answer by now: it does not wait.
    for (const Completion& completion : unsent_) {
        Collected& collected = collected_[low_of(completion)];
        if (collected.sender == nullptr) continue;
        void* const sender = std::exchange(collected.sender, nullptr);
        if (completion.result < 0) errno = -completion.result;
        sent_less_(sender, completion.result < 0 ? -1 : completion.result, collected.bytes());
    }
    unsent_.clear();
    if (queue_->waiting() == 0) forget_all_collected();  // else it could not take all
}

void Completions::received(const Completion& completion) noexcept {
    const int descriptor = int(low_of(completion));
    Slot& slot = slots_[std::size_t(descriptor)];
    const bool of_another_life = slot.life != std::uint32_t(completion.data) || !slot.joined;
    if (of_another_life || completion.result <= 0) [[unlikely]] {
        if ((completion.flags & Completion::with_buffer) != 0) release(completion.buffer());
        if (of_another_life) return;
    }
    if ((completion.flags & Completion::more) == 0) slot.receiving = slot.stopping = false;
    if (completion.result > 0) [[likely]] {
        keep(slot, completion.buffer(), std::uint16_t(completion.result));
        if (std::size_t(completion.result) == buffer_size) {  // there is more, for which larger reads are better
            slot.bulk = bulk_reads;
            stop_receiving(descriptor, slot);
        }
    } else if (completion.result == 0) {
        slot.at_end = true;
    } else {
        refused(slot, -completion.result);
    }
    list(descriptor, slot);
    if (!slot.receiving) [[unlikely]]
        make_due(descriptor, slot);
}

// Behind the input that waits.
inline void Completions::keep(Slot& slot, std::uint16_t buffer, std::uint16_t size) noexcept {
    next_[buffer] = none;
    lengths_[buffer] = size;
    if (slot.first == none) {
        slot.first = buffer;
        ++unread_;
    } else {
        next_[slot.last] = buffer;
    }
    slot.last = buffer;
}

// The request may have been worked on just then, and then it may go on: it is cancelled again.
void Completions::not_cancelled(const Completion& completion) noexcept {
    const int descriptor = int(low_of(completion));
    if (std::size_t(descriptor) >= slots_.size()) return;
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.life != std::uint32_t(completion.data) || !slot.joined) return;
    slot.stopping = slot.end_stopping = false;
    make_due(descriptor, slot);
}

// From now on readiness says when there is something, since a receive may not.
void Completions::end_came(const Completion& completion) noexcept {
    const int descriptor = int(low_of(completion));
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.life != std::uint32_t(completion.data) || !slot.joined) return;
    slot.awaits_end = slot.end_stopping = false;
    if (completion.result == -ECANCELED) return;
    slot.ended = true;
    stop_receiving(descriptor, slot);
    make_due(descriptor, slot);
}

// It has ended, with an error.
void Completions::refused(Slot& slot, int error) noexcept {
    slot.receiving = slot.stopping = false;
    if (error == ENOBUFS) {
        const std::size_t before = buffers_;
        grow();
        if (buffers_ == before) slot.bulk = bulk_reads;  // connections that do not read hold them all
    } else if (!is_of_the_call(error)) {
        slot.error = std::uint16_t(error);
    } else if (error != ECANCELED) {
        slot.by_readiness = true;
    }
}

}  // namespace reactor
