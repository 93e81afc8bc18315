// A queue of completions that plays the kernel's part on real sockets, and makes use of all that the kernel may do: it
// completes in any order, in pieces of any size, ends what could go on, has no buffers, sends in part, and lets a
// cancellation come too late, of receives and of requests to accept. All of it is decided by a seed, and is the same
// each time.
//
//     Reactor reactor(testing::io_uring(std::make_unique<testing::ScriptedCompletions>(seed)));
#pragma once

#include <reactor/demultiplexer.hpp>
#include <reactor/export.hpp>
#include <reactor/uring/completion_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace reactor::testing {

/// See above. Thread: the loop's. Errors: those of poll(2) that cannot be helped are thrown as std::system_error.
class REACTOR_EXPORT ScriptedCompletions final : public CompletionQueue {
public:
    /// How often something happens: one time in so many; 0 is never.
    struct Odds {
        unsigned no_buffer = 20;    ///< a receive ends with ENOBUFS although there may be one
        unsigned ends = 10;         ///< a receive ends behind a piece, without an error
        unsigned unsent = 10;       ///< a send takes nothing (EAGAIN)
        unsigned sent_less = 10;    ///< a send takes a part
        unsigned too_late = 3;      ///< a piece comes before the cancellation
        unsigned overlooked = 3;    ///< a receive that found input does not tell of an end behind it
        unsigned interrupted = 20;  ///< a wait ends with nothing
        unsigned refused = 10;      ///< a request to accept fails
        unsigned worked_on = 6;     ///< a cancellation fails (EALREADY), and its request goes on
    };

    explicit ScriptedCompletions(unsigned seed) : ScriptedCompletions(seed, Odds()) {}
    ScriptedCompletions(unsigned seed, Odds odds) : random_(seed), odds_(odds) {}

    Place receive(int descriptor, std::uint64_t data) override;
    Place accept(int descriptor, std::uint64_t data) override;
    Place send(int descriptor, Bytes bytes, std::uint64_t data) override;
    Place poll(int descriptor, Interest interest, std::uint64_t data) override;
    void cancel(std::uint64_t data) override;
    bool handed_over(Place place) const noexcept override { return std::int32_t(place - first_) < 0; }
    void withdraw(Place place) noexcept override { requests_[place - first_].kind = Kind::nothing; }
    std::size_t waiting() const noexcept override { return requests_.size(); }
    std::span<const Completion> wait(std::optional<Duration> limit) override;
    void give(std::uint16_t buffer, std::span<std::byte> memory) noexcept override {
        pool_.push_back({buffer, memory});
    }

    /// How often each thing of Odds has happened, for a test that wants to have met all of them.
    const Odds& happened() const noexcept { return happened_; }
    /// Requests that have not ended.
    std::size_t under_way() const noexcept { return receives_.size() + accepts_.size() + polls_.size(); }

private:
    enum class Kind : std::uint8_t { nothing, receive, accept, send, poll, cancel };
    struct Request {
        Kind kind = Kind::nothing;
        int descriptor = -1;
        std::uint64_t data = 0;
        Bytes bytes = {};
        Interest interest = Interest::none;
        bool deaf = false;
    };

    Place add(Request request);
    bool happens(unsigned Odds::*what);
    void hand_over(const Request& request);
    void end(const Request& request);
    bool piece(Request& receive);
    bool connection(const Request& accept);
    void look();
    void sleep(std::optional<Duration> limit);

    std::mt19937 random_;
    Odds odds_;
    Odds happened_ = {0, 0, 0, 0, 0, 0, 0, 0, 0};
    Place first_ = 0;
    std::vector<Request> requests_, receives_, accepts_, polls_;
    std::deque<std::pair<std::uint16_t, std::span<std::byte>>> pool_;
    std::vector<Completion> completions_;
};

/// The backend "io_uring" over a queue of the caller's. Throws std::system_error where that backend is not built.
REACTOR_EXPORT std::unique_ptr<Demultiplexer> io_uring(std::unique_ptr<CompletionQueue> queue);

}  // namespace reactor::testing
