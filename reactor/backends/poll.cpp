// poll(2): a dense array of the watched descriptors, which the kernel walks at every wait.
#include <reactor/backends/poll_entries_impl.hpp>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

namespace reactor {

namespace {

class Poll final : public Demultiplexer {
public:
    std::string_view name() const noexcept override { return "poll"; }

    // The interest before means nothing here: between two calls the kernel remembers nothing.
    void update(Token token, Interest /*before*/, Interest after) override {
        const auto index = std::size_t(token.descriptor);
        if (index >= places_.size()) {
            if (after == Interest::none) return;
            places_.resize(std::max(index + 1, places_.size() * 2));
        }
        Place& place = places_[index];
        if (after == Interest::none) {
            if (place.index == nowhere) return;
            // The last entry fills the gap, because the kernel would copy a gap (a negative descriptor) at every wait.
            // If the entry is the last one itself, its place is written twice, and `nowhere` has to be the second time.
            watched_[place.index] = watched_.back();
            places_[std::size_t(watched_.back().fd)].index = place.index;
            watched_.pop_back();
            place.index = nowhere;
            return;
        }
        if (place.index == nowhere) {
            watched_.push_back({token.descriptor, 0, 0});
            place.index = std::uint32_t(watched_.size() - 1);
        }
        watched_[place.index].events = backends::poll_events(after);
        // A pollfd has no room for a token, so the generation is kept here, and found again by the number.
        place.generation = token.generation;
    }

    std::span<const Event> wait(std::optional<Duration> limit) override {
        int left = backends::poll_entries(watched_, limit);
        if (left < 0 && errno != EINTR)
            throw std::system_error(errno, std::system_category(),
                                    "ppoll(" + std::to_string(watched_.size()) + " descriptors)");
        events_.clear();
        // A number that was closed behind our back is among them at every wait (POLLNVAL), until it is taken out. epoll
        // forgets such a number silently.
        for (const pollfd* watched = watched_.data(); left > 0; ++watched) {
            if (watched->revents == 0) continue;
            --left;
            events_.push_back({{watched->fd, places_[std::size_t(watched->fd)].generation},
                               backends::condition_of(watched->revents)});
        }
        return events_;
    }

private:
    static constexpr std::uint32_t nowhere = UINT32_MAX;
    struct Place {
        std::uint32_t index = nowhere;  // in watched_
        std::uint32_t generation = 0;
    };

    std::vector<pollfd> watched_;
    std::vector<Place> places_;  // by descriptor
    std::vector<Event> events_;
};

}  // namespace

std::unique_ptr<Demultiplexer> make_poll() {
    return std::make_unique<Poll>();
}

}  // namespace reactor
