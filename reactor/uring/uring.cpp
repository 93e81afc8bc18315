// The backend "io_uring". Connections run on completions (completions_impl.hpp). All other descriptors are watched by
// an epoll set, of which the ring says when to look: they behave as on epoll, and a library that closes a descriptor of
// its own first really closes it, as a request of the ring's would hold the file. Without connections it is that set.
#include <reactor/system_impl.hpp>
#if REACTOR_HAS(IO_URING)

#include <reactor/demultiplexer.hpp>
#include <reactor/uring/completions_impl.hpp>
#include <reactor/uring/ring_impl.hpp>
#include <reactor/uring/uring_impl.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

std::unique_ptr<Demultiplexer> make_epoll();

namespace {

class Uring final : public Demultiplexer {
public:
    Uring(std::unique_ptr<CompletionQueue> queue, std::unique_ptr<Demultiplexer> others, bool made_here)
        : completions_(std::move(queue)), others_(std::move(others)), made_here_(made_here) {
        completions_.watch(*others_);
        events_.reserve(128);
    }

    std::string_view name() const noexcept override { return "io_uring"; }
    Completions* completions() noexcept override { return &completions_; }

    int native_handle() const noexcept override {
        return completions_.empty() ? others_->native_handle() : completions_.native_handle();
    }
    bool ready_unseen() const noexcept override {
        return others_->ready_unseen() ||
               (!completions_.empty() && (completions_.ready() || completions_.waits_to_be_handed_over()));
    }

    void update(Token token, Interest before, Interest after) override {
        if (completions_.owns(token.descriptor)) return completions_.update(token, after);
        others_->update(token, before, after);
    }

    std::span<const Event> wait(std::optional<Duration> limit) override {
        if (completions_.empty()) return others_->wait(limit);
        if (completions_.watched_is_ready() || others_->ready_unseen()) limit = Duration::zero();
        try {
            completions_.wait(limit);
        } catch (const std::system_error& error) {
            // Another thread has run the loop before, and the ring is that one's (EEXIST).
            if (error.code() != std::errc::file_exists || !made_here_) throw;
            completions_.renew(make_ring(), false);
            completions_.wait(Duration::zero());
        }
        events_.clear();
        completions_.tell(events_);
        if (completions_.take_watched_ready() || others_->ready_unseen()) {
            const std::span<const Event> others = others_->wait(Duration::zero());
            events_.insert(events_.end(), others.begin(), others.end());
        }
        return events_;
    }

    void hand_over() noexcept override {
        if (!completions_.empty()) completions_.hand_over();
    }

    bool renew(bool forked) override {
        if (!made_here_) return false;
        std::unique_ptr<Demultiplexer> others = make_epoll();
        if (forked) completions_.renew(make_ring(), true);
        completions_.watch_anew(*others);
        others_ = std::move(others);
        return true;
    }

private:
    Completions completions_;
    std::unique_ptr<Demultiplexer> others_;
    bool made_here_;
    std::vector<Event> events_;
};

}  // namespace

std::unique_ptr<Demultiplexer> make_uring(std::unique_ptr<CompletionQueue> queue,
                                          std::unique_ptr<Demultiplexer> others) {
    return std::make_unique<Uring>(std::move(queue), std::move(others), false);
}

std::unique_ptr<Demultiplexer> make_uring() {
    return std::make_unique<Uring>(make_ring(), make_epoll(), true);
}

}  // namespace reactor

#endif
