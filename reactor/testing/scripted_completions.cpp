// It hands over, looks at every socket once in a random order, and waits by poll(2) if it found nothing.
#include <reactor/testing/scripted_completions.hpp>

#include <reactor/backends/kernel_words_impl.hpp>
#include <reactor/backends/poll_entries_impl.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/uring/uring_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace reactor {

std::unique_ptr<Demultiplexer> make_epoll();

namespace testing {

namespace {

// The kernel reports this in any case.
#if REACTOR_HAS(POLLRDHUP)
constexpr short end_of_peer = POLLRDHUP;
#else
constexpr short end_of_peer = 0;
#endif

short state_of(int descriptor, short events) {
    pollfd entry{descriptor, events, 0};
    return ::poll(&entry, 1, 0) == 1 ? entry.revents : short(0);
}

}  // namespace

bool ScriptedCompletions::happens(unsigned Odds::*what) {
    if (odds_.*what == 0 || random_() % (odds_.*what) != 0) return false;
    ++(happened_.*what);
    return true;
}

CompletionQueue::Place ScriptedCompletions::add(Request request) {
    requests_.push_back(request);
    return first_ + Place(requests_.size()) - 1;
}

CompletionQueue::Place ScriptedCompletions::receive(int descriptor, std::uint64_t data) {
    return add({Kind::receive, descriptor, data});
}

CompletionQueue::Place ScriptedCompletions::accept(int descriptor, std::uint64_t data) {
    return add({Kind::accept, descriptor, data});
}

CompletionQueue::Place ScriptedCompletions::send(int descriptor, Bytes bytes, std::uint64_t data) {
    return add({Kind::send, descriptor, data, bytes});
}

CompletionQueue::Place ScriptedCompletions::poll(int descriptor, Interest interest, std::uint64_t data) {
    return add({Kind::poll, descriptor, data, {}, interest});
}

void ScriptedCompletions::cancel(std::uint64_t data) {
    add({Kind::cancel, -1, data});
}

void ScriptedCompletions::hand_over(const Request& request) {
    switch (request.kind) {
        case Kind::nothing: return;
        case Kind::receive: receives_.push_back(request); return;
        case Kind::poll: polls_.push_back(request); return;
        case Kind::accept: accepts_.push_back(request); return;
        case Kind::cancel: return end(request);
        case Kind::send: break;
    }
    std::size_t size = request.bytes.size();
    if (happens(&Odds::unsent)) return completions_.push_back({request.data, -EAGAIN, 0});
    if (size > 1 && happens(&Odds::sent_less)) size = 1 + random_() % (size - 1);
    const ssize_t count = ::send(request.descriptor, request.bytes.data(), size, send_flags);
    if (count == ssize_t(request.bytes.size())) return;
    completions_.push_back({request.data, count < 0 ? -errno : std::int32_t(count), 0});
}

void ScriptedCompletions::end(const Request& request) {
    const auto is_meant = [&](const Request& other) { return other.data == request.data; };
    for (std::vector<Request>* list : {&receives_, &accepts_, &polls_}) {
        const auto found = std::find_if(list->begin(), list->end(), is_meant);
        if (found == list->end()) continue;
        if (happens(&Odds::worked_on)) return completions_.push_back({of_cancellation(request.data), -EALREADY, 0});
        const bool goes_on =
            list == &polls_ || !happens(&Odds::too_late) || (list == &receives_ ? piece(*found) : connection(*found));
        if (!goes_on) {
            list->erase(found);  // which was its last word
            return;
        }
        completions_.push_back({request.data, -ECANCELED, 0});
        list->erase(found);
        return;
    }
    completions_.push_back({of_cancellation(request.data), -ENOENT, 0});
}

// False if the request has ended.
bool ScriptedCompletions::piece(Request& receive) {
    const short state = state_of(receive.descriptor, POLLIN | end_of_peer);
    if (receive.deaf || (state & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) == 0) return true;
    if (pool_.empty() || happens(&Odds::no_buffer)) {
        completions_.push_back({receive.data, -ENOBUFS, 0});
        return false;
    }
    const auto [buffer, memory] = pool_.front();
    const std::size_t size = random_() % 4 == 0 ? memory.size() : 1 + random_() % memory.size();
    const ssize_t count = ::recv(receive.descriptor, memory.data(), size, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (count <= 0) {
        completions_.push_back({receive.data, count < 0 ? -errno : 0, 0});
        return false;
    }
    pool_.pop_front();
    const bool ends = happens(&Odds::ends);
    const std::uint32_t flags = Completion::with_buffer | (ends ? 0 : Completion::more) | std::uint32_t(buffer) << 16;
    completions_.push_back({receive.data, std::int32_t(count), flags});
    const bool behind_it_all_is_over = (state & (end_of_peer | POLLHUP | POLLERR)) != 0;
    if (behind_it_all_is_over && happens(&Odds::overlooked)) receive.deaf = true;
    return !ends;
}

// The same for a request to accept.
bool ScriptedCompletions::connection(const Request& accept) {
    if ((state_of(accept.descriptor, POLLIN) & POLLIN) == 0) return true;
    if (happens(&Odds::refused)) {
        completions_.push_back({accept.data, -ECONNABORTED, 0});
        return false;
    }
    const int accepted = ::accept(accept.descriptor, nullptr, nullptr);
    if (accepted < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    const bool ends = accepted < 0 || happens(&Odds::ends);
    if (accepted >= 0) {
        ::fcntl(accepted, F_SETFD, FD_CLOEXEC);
        ::fcntl(accepted, F_SETFL, O_NONBLOCK);
    }
    completions_.push_back({accept.data, accepted < 0 ? -errno : accepted, ends ? 0 : Completion::more});
    return !ends;
}

void ScriptedCompletions::look() {
    std::shuffle(receives_.begin(), receives_.end(), random_);
    std::shuffle(polls_.begin(), polls_.end(), random_);
    std::erase_if(accepts_, [&](const Request& accept) {
        for (unsigned connections = random_() % 4; connections > 0; --connections)
            if (!connection(accept)) return true;
        return false;
    });
    const auto look_at_receives = [&] {
        std::erase_if(receives_, [&](Request& receive) {
            for (unsigned pieces = random_() % 4; pieces > 0; --pieces)
                if (!piece(receive)) return true;
            return false;
        });
    };
    const auto look_at_polls = [&] {
        std::erase_if(polls_, [&](const Request& request) {
            const short events = short(backends::poll_events(request.interest) | end_of_peer);
            const short state = state_of(request.descriptor, events);
            if (state == 0) return false;
            completions_.push_back({request.data, state, 0});
            return true;
        });
    };
    if (random_() % 2 == 0) {
        look_at_receives();
        look_at_polls();
    } else {
        look_at_polls();
        look_at_receives();
    }
}

void ScriptedCompletions::sleep(std::optional<Duration> limit) {
    std::vector<pollfd> entries;
    for (const Request& receive : receives_)
        if (!receive.deaf) entries.push_back({receive.descriptor, POLLIN, 0});
    for (const Request& accept : accepts_) entries.push_back({accept.descriptor, POLLIN, 0});
    for (const Request& request : polls_)
        entries.push_back({request.descriptor, short(backends::poll_events(request.interest) | end_of_peer), 0});
    if (backends::poll_entries(entries, limit) < 0 && errno != EINTR)
        throw std::system_error(errno, std::system_category(), "poll");
}

std::span<const Completion> ScriptedCompletions::wait(std::optional<Duration> limit) {
    completions_.clear();
    const std::vector<Request> requests = std::exchange(requests_, {});
    first_ += Place(requests.size());
    for (const Request& request : requests) hand_over(request);
    look();
    if (!completions_.empty() || limit == Duration::zero() || happens(&Odds::interrupted)) return completions_;
    sleep(limit);
    look();
    return completions_;
}

std::unique_ptr<Demultiplexer> io_uring(std::unique_ptr<CompletionQueue> queue) {
#if REACTOR_HAS(IO_URING)
    return make_uring(std::move(queue), make_epoll());
#else
    (void)queue;
    throw std::system_error(std::make_error_code(std::errc::function_not_supported), "testing::io_uring");
#endif
}

}  // namespace testing

}  // namespace reactor
