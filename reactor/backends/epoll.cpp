// epoll(7), level-triggered: the cost of a wait goes by what is ready, not by what is watched.
#include <reactor/backends/kernel_words.hpp>
#include <reactor/file_descriptor.hpp>

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <string>
#include <system_error>

namespace reactor {

namespace {

// The token rides in the kernel's 64 bits, so that an event of an earlier life of the number is recognised.
epoll_event watch_for(Token token, Interest interest) noexcept {
    epoll_event event{};
    event.events = std::uint32_t(backends::poll_events(interest));
    event.data.u64 = std::uint64_t(token.generation) << 32 | std::uint32_t(token.descriptor);
    return event;
}

// The five bits that are asked for or come unasked, all at once: a table is the whole translation.
constexpr auto conditions = [] {
    static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI && EPOLLERR == POLLERR &&
                  EPOLLHUP == POLLHUP && (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLERR | EPOLLHUP) < 32);
    std::array<Condition, 32> table{};
    for (unsigned bits = 0; bits < table.size(); ++bits) table[bits] = backends::condition_of(bits);
    return table;
}();

class Epoll final : public Demultiplexer {
public:
    Epoll() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        if (!epoll_) throw std::system_error(errno, std::system_category(), "epoll_create1");
    }

    std::string_view name() const noexcept override { return "epoll"; }
    int native_handle() const noexcept override { return epoll_.get(); }

    void update(Token token, Interest before, Interest after) override {
        std::erase_if(always_ready_, [&](const Always& always) { return always.token.descriptor == token.descriptor; });
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
            const Interest ready = after & (Interest::readable | Interest::writable);
            if (ready != Interest::none) always_ready_.push_back({token, ready});
            return;
        }
        if (operation == EPOLL_CTL_MOD) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, token.descriptor, &event);
        throw std::system_error(error, std::system_category(),
                                "epoll_ctl(descriptor " + std::to_string(token.descriptor) + ")");
    }

    std::span<const Event> wait(std::optional<Duration> limit) override {
        if (!always_ready_.empty()) limit = Duration::zero();
        const int count = wait_for_kernel(limit);
        if (count < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "epoll_pwait2");
        const auto ready = std::size_t(std::max(count, 0));
        for (std::size_t i = 0; i < ready; ++i) {
            const std::uint64_t data = kernel_events_[i].data.u64;
            events_[i] = {{int(std::uint32_t(data)), std::uint32_t(data >> 32)}, conditions[kernel_events_[i].events & 31]};
        }
        if (always_ready_.empty() && ready < kernel_events_.size()) [[likely]]
            return {events_.data(), ready};
        return finish_rare(ready);
    }

private:
    struct Always {
        Token token;
        Interest ready;
    };

    int wait_for_kernel(std::optional<Duration> limit) noexcept {
        const int size = int(kernel_events_.size());
        if (limit && *limit == Duration::zero()) return ::epoll_wait(epoll_.get(), kernel_events_.data(), size, 0);
        if (!limit) return ::epoll_wait(epoll_.get(), kernel_events_.data(), size, -1);
        if (nanoseconds_) {
            const backends::Timeout timeout(limit);
            const int count = ::epoll_pwait2(epoll_.get(), kernel_events_.data(), size, timeout.get(), nullptr);
            if (count >= 0 || errno != ENOSYS) return count;
            nanoseconds_ = false;  // before Linux 5.11
        }
        const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(*limit).count();
        return ::epoll_wait(epoll_.get(), kernel_events_.data(), size, int(std::min<std::int64_t>(milliseconds, INT_MAX)));
    }

    // Adds what is always ready, and makes room for more where all the room was used.
    std::span<const Event> finish_rare(std::size_t ready) {
        const bool full = ready == kernel_events_.size();
        if (events_.size() < kernel_events_.size() + always_ready_.size())
            events_.resize(kernel_events_.size() + always_ready_.size());
        for (const auto& [token, both] : always_ready_) events_[ready++] = {token, Condition(std::uint8_t(both))};
        if (full && kernel_events_.size() < most_events) {
            events_.resize(std::max(events_.size(), 2 * kernel_events_.size()));
            kernel_events_.resize(2 * kernel_events_.size());
        }
        return {events_.data(), ready};
    }

    static constexpr std::size_t first_events = 128, most_events = 4096;
    FileDescriptor epoll_;
    bool nanoseconds_ = true;
    std::vector<epoll_event> kernel_events_{first_events};
    std::vector<Event> events_{first_events};
    std::vector<Always> always_ready_;
};

}  // namespace

std::unique_ptr<Demultiplexer> make_epoll() { return std::make_unique<Epoll>(); }

}  // namespace reactor
