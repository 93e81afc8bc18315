// epoll(7), level-triggered: the cost of a wait grows with the ready descriptors, not with the watched ones.
#include <reactor/system_impl.hpp>
#if REACTOR_HAS(EPOLL)

#include <reactor/backends/poll_entries_impl.hpp>
#include <reactor/beyond_standard_impl.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/last_error_impl.hpp>

#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <string>
#include <system_error>

namespace reactor {

namespace {

// Where the kernel's event is laid out as ours is, as on x86-64, it writes into our array and nothing is translated.
constexpr bool same_layout =
    sizeof(epoll_event) == sizeof(Event) && offsetof(epoll_event, data) == offsetof(Event, token);

// The token rides in the kernel's 64 bits, so that an event of an earlier life of the number is recognised.
epoll_event watch_for(Token token, Interest interest) noexcept {
    static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI && EPOLLERR == POLLERR &&
                  EPOLLHUP == POLLHUP);
    epoll_event event{};
    event.events = std::uint32_t(interest);
    event.data.u64 = std::bit_cast<std::uint64_t>(token);
    return event;
}

FileDescriptor make_set() {
    FileDescriptor set = beyond_standard(::epoll_create1(EPOLL_CLOEXEC));
    if (!set && call_is_unknown(errno)) {
        set = beyond_standard(::epoll_create(1));  // the size means nothing any more
        if (set) ::fcntl(set.get(), F_SETFD, FD_CLOEXEC);
    }
    if (!set) throw std::system_error(errno, std::system_category(), "epoll_create1");
    // No set takes itself (EINVAL). Later, EPERM of a filter could not be told from EPERM of a file.
    epoll_event itself{};
    if (::epoll_ctl(set.get(), EPOLL_CTL_ADD, set.get(), &itself) != 0 && call_is_unknown(errno))
        throw std::system_error(errno, std::system_category(), "epoll_ctl");
    return set;
}

class Epoll final : public Demultiplexer {
public:
    Epoll() : epoll_(make_set()) {}

    std::string_view name() const noexcept override { return "epoll"; }
    int native_handle() const noexcept override { return epoll_.get(); }
    bool ready_unseen() const noexcept override { return !files_.empty(); }

    void update(Token token, Interest before, Interest after) override {
        // Whatever the number was, it begins anew: it may have been a file's, and be a socket's now.
        std::erase_if(files_, [&](const File& file) { return file.token.descriptor == token.descriptor; });
        epoll_event event = watch_for(token, after);
        if (after == Interest::none) {
            // Fails if the descriptor was closed behind our back. Nothing can be done about that here.
            ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, token.descriptor, &event);
            return;
        }
        int operation = before == Interest::none ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        int result = ::epoll_ctl(epoll_.get(), operation, token.descriptor, &event);
        // A number closed behind our back and used again stands for another file than the kernel knows here.
        if (result != 0 && (errno == ENOENT || errno == EEXIST)) {
            operation = errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
            result = ::epoll_ctl(epoll_.get(), operation, token.descriptor, &event);
        }
        if (result == 0) return;
        const int error = errno;
        if (error == EPERM) {  // a regular file or a directory: epoll takes none, since they never block
            if (any(after, Interest::readable | Interest::writable)) files_.push_back({token, after});
            return;
        }
        // After an exception nothing is watched (Demultiplexer::update), so the earlier interest ends as well.
        if (operation == EPOLL_CTL_MOD) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, token.descriptor, &event);
        throw std::system_error(error, std::system_category(),
                                "epoll_ctl(descriptor " + std::to_string(token.descriptor) + ")");
    }

    std::span<const Event> wait(std::optional<Duration> limit) override {
        // One of them is ready already, so there is nothing to sleep for.
        if (!files_.empty()) limit = Duration::zero();
        const int count = wait_for_kernel(limit);
        // A signal's handler has run (EINTR): an empty batch, so that the loop sees what the handler has asked for.
        if (count < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "epoll_wait");
        const auto ready = std::size_t(std::max(count, 0));
        if constexpr (!same_layout) {
            for (std::size_t i = 0; i < ready; ++i)
                events_[i] = {std::bit_cast<Token>(std::uint64_t(translated_[i].data.u64)),
                              Condition(std::uint32_t(translated_[i].events))};
        }
        if (files_.empty() && ready < room_) [[likely]]
            return {events_.data(), ready};
        return finish_rare(ready);
    }

private:
    // Files that the set does not take: a regular file, a directory, a device without poll, as /dev/null.
    struct File {
        Token token;
        Interest wanted;
    };

    epoll_event* kernel_events() noexcept {
        if constexpr (same_layout) return reinterpret_cast<epoll_event*>(events_.data());
        return translated_.data();
    }

    int wait_for_kernel(std::optional<Duration> limit) noexcept {
        const int room = int(room_);
        // These two need no timespec, which the kernel would have to copy, and every filter of system calls knows them.
        if (limit && *limit == Duration::zero()) return ::epoll_wait(epoll_.get(), kernel_events(), room, 0);
        if (!limit) return ::epoll_wait(epoll_.get(), kernel_events(), room, -1);
#if REACTOR_HAS(EPOLL_PWAIT2)
        if (nanoseconds_) {
            const backends::Timeout timeout(limit);
            const int count = ::epoll_pwait2(epoll_.get(), kernel_events(), room, timeout.get(), nullptr);
            if (count >= 0 || !call_is_unknown(errno)) return count;
            nanoseconds_ = false;  // before Linux 5.11, or in a filter that is older
        }
#endif
        return ::epoll_wait(epoll_.get(), kernel_events(), room, backends::milliseconds_of(limit));
    }

    // Adds the files, and makes room for more where all the room was used.
    std::span<const Event> finish_rare(std::size_t ready) {
        // More may have been ready than fitted. They are not starved: the kernel puts the reported ones at the end of
        // its list, and begins the next wait with the others.
        const std::size_t room = ready == room_ ? std::min(2 * room_, most_room) : room_;
        events_.resize(std::max(events_.size(), room + files_.size()));
        if constexpr (!same_layout) translated_.resize(room);
        room_ = room;
        return {events_.data(), files_.empty() ? ready : add_files(ready)};
    }

    // They are asked by their numbers, as the poll backend asks: poll(2) says of a number that was closed behind our
    // back. A file is always ready. So a number that is not has been used again, and the set takes it now.
    std::size_t add_files(std::size_t ready) {
        polled_.clear();
        for (const File& file : files_)
            polled_.push_back({file.token.descriptor, backends::poll_events(file.wanted), 0});
        if (backends::poll_entries(polled_, Duration::zero()) < 0) {  // no memory, as a rule
            for (pollfd& entry : polled_) entry.revents = entry.events & (POLLIN | POLLOUT);
        }
        const pollfd* entry = polled_.data();
        std::erase_if(files_, [&](const File& file) {
            const short revents = (entry++)->revents;
            if (revents == 0) {
                epoll_event event = watch_for(file.token, file.wanted);
                return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, file.token.descriptor, &event) == 0;
            }
            events_[ready++] = {file.token, backends::condition_of(revents)};
            return false;
        });
        return ready;
    }

    static constexpr std::size_t first_room = 128, most_room = 4096;
    FileDescriptor epoll_;
    [[maybe_unused]] bool nanoseconds_ = true;
    std::size_t room_ = first_room;  // of events a wait
    std::vector<Event> events_ = std::vector<Event>(first_room);
    std::vector<epoll_event> translated_ = std::vector<epoll_event>(same_layout ? 0 : first_room);
    std::vector<File> files_;
    std::vector<pollfd> polled_;
};

}  // namespace

std::unique_ptr<Demultiplexer> make_epoll() {
    return std::make_unique<Epoll>();
}

}  // namespace reactor

#endif
