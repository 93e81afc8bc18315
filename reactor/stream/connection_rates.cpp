// A connection's rates: before it moves bytes it takes tokens for them, and where there are none it waits for some.
#include <reactor/stream/connection_impl.hpp>

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

namespace reactor {

SocketConnection::Flow::~Flow() {
    if (scheduled()) timers->cancel(*this);
    together.give_back(allowed + coming);
}

void SocketConnection::Flow::used(std::size_t count) noexcept {
    if (!limits()) return;
    own.give_back(allowed - count);
    together.give_back(allowed - count);
    allowed = 0;
}

void SocketConnection::set_rates(const RateLimits& rates) {
    if (!is(over)) use_rates(rates, true, *group_.get());
}

void SocketConnection::use_rates(const RateLimits& rates, bool own, ConnectionGroup& group) {
    std::unique_ptr<Meter> meter;
    if (own || rates.any() || group.limits_rates) {
        make_extra();
        meter = std::make_unique<Meter>(*this, rates, own, group.budget);
    }
    if (parts_ != nullptr) extra()->meter = std::move(meter);
    pass_on_no_longer();
    if (parts_ != nullptr && extra()->channel != nullptr && extra()->channel->source != nullptr)
        extra()->channel->source->pass_on_no_longer();
    parts_ != nullptr&& extra()->meter != nullptr ? set(metered) : unset(metered);
    if (is(completes)) workspace().completions->receive_ahead(socket_.get(), !is(metered | takes_descriptors));
    unset(input_spent);
    unset(output_spent);
    update_interest();
}

// How many of the wanted bytes may be read or sent now. Zero: not before there are tokens again.
std::size_t SocketConnection::may_move(Flow& flow, std::size_t wanted) noexcept {
    if (!flow.limits()) return wanted;
    const TimePoint now = loop().turn_time();
    if (flow.allowed == 0) {
        const std::uint64_t most = wanted;
        const std::uint64_t there = std::min({most, flow.own.available(now), flow.together.available(now)});
        const std::uint64_t piece = std::min({most, flow.own.piece(), flow.together.piece()});
        const std::uint64_t taken = std::max(there, piece);
        flow.own.take(taken, now);
        flow.together.take(taken, now);
        if (there < piece) {
            flow.coming = std::size_t(piece);
            wait_for_tokens(flow, std::max(flow.own.ready_at(0), flow.together.ready_at(0)));
            return 0;
        }
        flow.allowed = std::size_t(there);
    }
    return std::min(flow.allowed, wanted);
}

// Also for two reasons at once: for the later one.
void SocketConnection::wait_for_tokens(Flow& flow, TimePoint ready) noexcept {
    flow.timers = parts_->timers;
    try {
        flow.timers->schedule(flow, flow.scheduled() ? std::max(flow.deadline(), ready) : ready);
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    set(flow.of_input ? input_spent : output_spent);
    update_interest();
}

// Until now it was not the peer's time that passed.
void SocketConnection::tokens_came(Flow& flow) {
    flow.allowed += std::exchange(flow.coming, 0);
    if (is(leaves)) return;
    const TimePoint now = loop().turn_time();
    if (flow.of_input) {
        if (!is(closing)) parts_->since.last_activity = parts_->since.received = parts_->since.rest_since = now;
        unset(input_spent);
        return update_interest();
    }
    parts_->since.last_activity = parts_->since.output_since = now;
    unset(output_spent);
    writable();
}

void SocketConnection::message_received() {
    if (!is(metered) || is(over)) return;
    Meter& meter = *extra()->meter;
    const TimePoint now = loop().turn_time();
    TimePoint ready = now;
    for (TokenBucket* bucket : {&meter.messages, &meter.messages_together}) {
        bucket->take(1, now);
        if (bucket->limits()) ready = std::max(ready, bucket->ready_at(1));
    }
    if (ready > now) wait_for_tokens(meter.input, ready);
}

}  // namespace reactor
