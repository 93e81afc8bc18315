// kqueue(2) of macOS and the BSDs, level-triggered: the cost of a wait grows with the ready descriptors, not with the
// watched ones. It has been compiled and linked, and never run. The meaning of the queue's events is tested by itself:
// kqueue_words_impl.hpp.
//
// The queue has no filter for errors alone, and reports a regular file at its end as not ready. Such descriptors are
// asked of poll(2), with the queue itself as one more descriptor among them.
#include <reactor/system_impl.hpp>
#if REACTOR_HAS(KQUEUE)

#include <reactor/backends/kqueue_words_impl.hpp>
#include <reactor/backends/poll_entries_impl.hpp>
#include <reactor/beyond_standard_impl.hpp>
#include <reactor/file_descriptor.hpp>

#include <fcntl.h>
#include <sys/event.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <system_error>

namespace reactor {

namespace {

using backends::Answer;
using backends::FilterEvent;
using KernelEvent = struct ::kevent;

FileDescriptor make_queue() {
    FileDescriptor queue = beyond_standard(::kqueue());
    if (!queue) throw std::system_error(errno, std::system_category(), "kqueue");
    ::fcntl(queue.get(), F_SETFD, FD_CLOEXEC);
    return queue;
}

bool is_file(int descriptor) noexcept {
    struct stat state {};
    return ::fstat(descriptor, &state) == 0 && (S_ISREG(state.st_mode) || S_ISDIR(state.st_mode));
}

// EV_RECEIPT: the call answers each change with an EV_ERROR, and reports nothing that is ready.
KernelEvent change_of(Token token, Interest direction, bool wanted) noexcept {
    KernelEvent change{};
    change.ident = std::uintptr_t(token.descriptor);
    change.filter = direction == Interest::readable ? EVFILT_READ : EVFILT_WRITE;
    change.flags = (wanted ? EV_ADD : EV_DELETE) | EV_RECEIPT;
    change.udata = reinterpret_cast<decltype(change.udata)>(std::uintptr_t(token.generation));
    return change;
}

FilterEvent translated(const KernelEvent& event) noexcept {
    FilterEvent result;
    result.token = {int(event.ident), std::uint32_t(reinterpret_cast<std::uintptr_t>(event.udata))};
    result.filter = event.filter == EVFILT_READ ? FilterEvent::Filter::read : FilterEvent::Filter::write;
    result.refused = (event.flags & EV_ERROR) != 0;
    result.end = (event.flags & EV_EOF) != 0;
    result.error = result.refused ? int(event.data) : int(event.fflags);
    return result;
}

class Kqueue final : public Demultiplexer {
public:
    Kqueue() : queue_(make_queue()) {}

    std::string_view name() const noexcept override { return "kqueue"; }
    int native_handle() const noexcept override { return queue_.get(); }
    bool ready_unseen() const noexcept override { return !asked_.empty(); }

    void update(Token token, Interest before, Interest after) override {
        const bool was_asked =
            std::erase_if(asked_, [&](const Asked& one) { return one.token.descriptor == token.descriptor; }) > 0;
        const bool by_poll = after != Interest::none && (any(after, Interest::error) || is_file(token.descriptor));
        const Answer answer = change(token, was_asked ? Interest::none : before, by_poll ? Interest::none : after);
        if (after == Interest::none) return;
        if (by_poll || answer == Answer::ask_poll) asked_.push_back({token, after});
        if (!by_poll && answer == Answer::refused)
            throw std::system_error(errno, std::system_category(),
                                    "kevent(descriptor " + std::to_string(token.descriptor) + ")");
    }

    std::span<const Event> wait(std::optional<Duration> limit) override {
        events_.clear();
        if (!asked_.empty()) {
            ask_poll(limit);
            limit = Duration::zero();
        }
        const backends::Timeout timeout(limit);
        const int count =
            ::kevent(queue_.get(), nullptr, 0, kernel_events_.data(), int(kernel_events_.size()), timeout.get());
        if (count < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "kevent");
        translated_.clear();
        for (int i = 0; i < count; ++i) translated_.push_back(translated(kernel_events_[std::size_t(i)]));
        merger_.merge(translated_, events_);
        if (count == int(kernel_events_.size())) kernel_events_.resize(std::min(2 * kernel_events_.size(), most_room));
        for (const pollfd& entry : polled_)
            if (entry.revents != 0 && entry.fd != queue_.get())
                events_.push_back(
                    {asked_[std::size_t(&entry - polled_.data())].token, backends::condition_of(entry.revents)});
        polled_.clear();
        return events_;
    }

private:
    struct Asked {
        Token token;
        Interest wanted;
    };

    // Adds and removes filters. If one of them is refused the descriptor has none, and errno says why.
    Answer change(Token token, Interest before, Interest after) noexcept {
        std::array<KernelEvent, 2> changes, receipts;
        int count = 0;
        for (const Interest direction : {Interest::readable, Interest::writable})
            if (any(before | after, direction))
                changes[std::size_t(count++)] = change_of(token, direction, any(after, direction));
        if (count == 0) return Answer::done;
        const int answered = ::kevent(queue_.get(), changes.data(), count, receipts.data(), count, nullptr);
        Answer worst = answered < 0 && after != Interest::none ? Answer::refused : Answer::done;
        int error = errno;
        for (int i = 0; i < answered; ++i) {
            const KernelEvent& receipt = receipts[std::size_t(i)];
            const bool removing = (changes[std::size_t(i)].flags & EV_DELETE) != 0;
            const Answer answer = backends::answer_to(removing, int(receipt.data));
            if (answer <= worst) continue;
            worst = answer;
            error = int(receipt.data);
        }
        if (worst != Answer::done) change(token, before | after, Interest::none);
        errno = error;
        return worst;
    }

    void ask_poll(std::optional<Duration> limit) {
        for (const Asked& one : asked_) polled_.push_back({one.token.descriptor, backends::poll_events(one.wanted), 0});
        polled_.push_back({queue_.get(), POLLIN, 0});
        if (backends::poll_entries(polled_, limit) >= 0) return;
        const int error = errno;
        polled_.clear();
        if (error != EINTR) throw std::system_error(error, std::system_category(), "poll");
    }

    static constexpr std::size_t most_room = 4096;
    FileDescriptor queue_;
    std::vector<KernelEvent> kernel_events_ = std::vector<KernelEvent>(128);
    std::vector<FilterEvent> translated_;
    backends::FilterMerger merger_;
    std::vector<Event> events_;
    std::vector<Asked> asked_;  // of poll(2)
    std::vector<pollfd> polled_;
};

}  // namespace

std::unique_ptr<Demultiplexer> make_kqueue() {
    return std::make_unique<Kqueue>();
}

}  // namespace reactor

#endif
