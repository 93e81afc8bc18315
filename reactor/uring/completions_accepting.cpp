// Connections that the kernel accepts ahead of an acceptor. They wait here, and make their listening socket readable:
// the acceptor takes them in its own time, as if they waited in the kernel. A request that fails is not judged here:
// the socket's readiness takes its place, and accept(2) says what is wrong.
#include <reactor/uring/completions_impl.hpp>

#include <reactor/beyond_standard_impl.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace reactor {

namespace {

// From here on they wait in the kernel again. A request takes all that it finds at once, which is at most the kernel's
// queue.
constexpr std::size_t most_waiting = 256;

}  // namespace

void Completions::join_listener(int descriptor) {
    accepted_.push_back({descriptor, {}});
    try {
        join(descriptor);
    } catch (...) {
        accepted_.pop_back();
        throw;
    }
    slots_[std::size_t(descriptor)].listens = true;
}

void Completions::leave_listener(int descriptor) noexcept {
    Accepted& accepted = accepted_of(descriptor);
    drop(accepted);
    std::swap(accepted, accepted_.back());
    accepted_.pop_back();
}

Completions::Accepted& Completions::accepted_of(int descriptor) noexcept {
    return *std::find_if(accepted_.begin(), accepted_.end(),
                         [descriptor](const Accepted& one) { return one.listener == descriptor; });
}

void Completions::drop(Accepted& accepted) noexcept {
    for (; accepted.taken < accepted.descriptors.size(); ++accepted.taken)
        ::close(accepted.descriptors[accepted.taken]);
    accepted.descriptors.clear();
    accepted.taken = 0;
}

FileDescriptor Completions::accept(int descriptor) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (!slot.at_end) return {};
    Accepted& accepted = accepted_of(descriptor);
    FileDescriptor connection = beyond_standard(accepted.descriptors[accepted.taken++]);
    if (accepted.taken < accepted.descriptors.size()) return connection;
    drop(accepted);
    slot.at_end = false;
    make_due(descriptor, slot);
    return connection;
}

// Nothing more is taken from the kernel while there are connections here.
void Completions::request_accept(int descriptor, Slot& slot) {
    const bool wanted = any(slot.wanted, Interest::readable) && !slot.at_end;
    if (wanted && !slot.by_readiness && !slot.receiving) {
        slot.receive_at = queue_->accept(descriptor, data_of(Kind::accept, std::uint64_t(descriptor), slot.life));
        slot.receiving = true;
    }
    if (slot.by_readiness || !any(slot.wanted, Interest::readable)) stop_receiving(descriptor, slot);
    const bool watches = wanted && slot.by_readiness && !slot.receiving;
    watch(descriptor, slot, watches ? Interest::readable : Interest::none);
}

void Completions::accepted(const Completion& completion) noexcept {
    const int descriptor = int(low_of(completion));
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.life != std::uint32_t(completion.data) || !slot.joined) {
        if (completion.result >= 0) ::close(completion.result);
        return;
    }
    if ((completion.flags & Completion::more) == 0) {
        slot.receiving = slot.stopping = false;
        make_due(descriptor, slot);
    }
    if (completion.result < 0) {
        if (completion.result != -ECANCELED) slot.by_readiness = true;
        return;
    }
    Accepted& accepted = accepted_of(descriptor);
    try {
        accepted.descriptors.push_back(completion.result);
    } catch (...) {  // out of memory: its peer sees the end at once
        ::close(completion.result);
        return;
    }
    slot.at_end = true;
    list(descriptor, slot);
    if (accepted.descriptors.size() >= most_waiting) stop_receiving(descriptor, slot);
}

}  // namespace reactor
