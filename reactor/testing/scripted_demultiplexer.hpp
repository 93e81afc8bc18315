// A demultiplexer that reports what a test wrote down, and remembers what it was asked to watch. Where a real
// one would wait, it moves a ManualClock: a loop on it runs through hours in no time, and cannot hang.
//
//     ManualClock clock;
//     auto owned = std::make_unique<ScriptedDemultiplexer>(clock);
//     ScriptedDemultiplexer& script = *owned;
//     Reactor reactor(std::move(owned), clock);
//     script.report({ready(7, Condition::readable)});
//     reactor.run_once();
#pragma once

#include <reactor/demultiplexer.hpp>
#include <reactor/export.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace reactor::testing {

/// `descriptor` is ready, for its registration at the time when the batch is given out. A batch for an earlier
/// registration of the descriptor takes its token from ScriptedDemultiplexer::token instead.
inline Event ready(int descriptor, Condition condition) noexcept {
    return {{descriptor, 0}, condition};
}

/// A backend without descriptors. Each wait reports the next batch of the script, or moves the clock by its timeout.
class REACTOR_EXPORT ScriptedDemultiplexer final : public Demultiplexer {
public:
    /// One call of `update`: an interest that was changed.
    struct Update {
        Token token;
        Interest before;
        Interest after;
    };

    /// The clock must outlive this, and should be the reactor's own.
    explicit ScriptedDemultiplexer(ManualClock& clock) : clock_(clock) {}

    /// Adds a batch, which a wait returns after `after` more waiting (at once: 0) since the batch before it was
    /// given out. Batches are given out in order, one a wait.
    void report(std::vector<Event> events, Duration after = Duration::zero()) {
        script_.push_back({std::move(events), after});
    }

    /// Nothing more is in the script.
    bool finished() const noexcept { return script_.empty(); }

    /// Everything that was asked of `update`, the reactor's own wake-up descriptor included.
    const std::vector<Update>& updates() const noexcept { return updates_; }
    /// The interest in the descriptor now.
    Interest interest(int descriptor) const {
        const auto found = watched_.find(descriptor);
        return found == watched_.end() ? Interest::none : found->second.interest;
    }
    /// The descriptor's token now. Keep it to report an event to a registration that has gone.
    Token token(int descriptor) const {
        const auto found = watched_.find(descriptor);
        if (found == watched_.end()) throw std::logic_error(text(descriptor) + " is not watched");
        return {descriptor, found->second.generation};
    }

    std::string_view name() const noexcept override { return "scripted"; }

    void update(Token token, Interest before, Interest after) override {
        updates_.push_back({token, before, after});
        if (after == Interest::none) {
            watched_.erase(token.descriptor);
        } else {
            watched_[token.descriptor] = {token.generation, after};
        }
    }

    /// The next batch, if its time comes within `limit`; otherwise none, and the clock moves on by `limit`.
    /// Throws std::logic_error where a real loop would wait for ever, and for a batch with a descriptor that
    /// is not watched.
    std::span<const Event> wait(std::optional<Duration> limit) override {
        batch_.clear();
        if (script_.empty()) {
            if (!limit) throw std::logic_error("nothing is scripted and no timer is set: would wait for ever");
            clock_.advance(*limit);
            return batch_;
        }
        Step& step = script_.front();
        if (limit && *limit < step.after) {
            step.after -= *limit;
            clock_.advance(*limit);
            return batch_;
        }
        clock_.advance(step.after);
        batch_ = std::move(step.events);
        script_.pop_front();
        for (Event& event : batch_) {
            if (event.token.generation == 0) event.token = token(event.token.descriptor);
        }
        return batch_;
    }

private:
    struct Step {
        std::vector<Event> events;
        Duration after;
    };
    struct Watched {
        std::uint32_t generation = 0;
        Interest interest = Interest::none;
    };

    static std::string text(int descriptor) { return "descriptor " + std::to_string(descriptor); }

    ManualClock& clock_;
    std::deque<Step> script_;
    std::map<int, Watched> watched_;
    std::vector<Update> updates_;
    std::vector<Event> batch_;
};

}  // namespace reactor::testing
