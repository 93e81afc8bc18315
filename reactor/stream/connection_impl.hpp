// What the files of a connection share: what lies in the loop's workspace and what lies beside the object, and the way
// into a protocol's call and out of it. Not installed.
#pragma once

#include <reactor/detail/byte_queue.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/net/control_messages_impl.hpp>
#include <reactor/stream/deadlines_impl.hpp>
#include <reactor/detail/output.hpp>
#include <reactor/detail/timer_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

// The way of bytes that go from one connection to another without being copied: splice(2) needs a pipe in between.
struct Connection::Channel {
    FileDescriptor in, out;
    std::size_t held = 0;          // bytes in the pipe: before all that is in the output of the one that sends them
    Connection* source = nullptr;  // null when it has ended, or gone back to the ordinary way
};

// What the connections of a loop share: only one of them is in its protocol at a time.
struct Connection::Workspace final : Reactor::Workspace {
    static constexpr std::size_t gather_size = 64 * 1024;  // small writes that leave together

    explicit Workspace(Reactor& reactor) : loop(reactor) {}

    Reactor& loop;
    std::unique_ptr<std::byte[]> input;
    std::size_t input_size = 0;
    std::unique_ptr<std::byte[]> output{new std::byte[gather_size]};

    const Connection* owner = nullptr;  // whose protocol is being called
    Bytes gathered;                     // written in this call: in `output`, or still where it was read, in `input`
    // The owner while it has written nothing and its state is ordinary: then a first answer out of the input takes the
    // short way, and what `gathered` holds is from another time.
    const Connection* unanswered = nullptr;
    const Connection* straight = nullptr;  // who sent large writes in this turn
    std::uint64_t straight_turn = 0;
    std::size_t sent_straight = 0;  // how much of them
    bool in_received = true;        // the call is received(), unless call() says otherwise: what it writes is an answer
    bool spilled = false;  // more was written in this call than is gathered: it stands in the queue

    // Connections that were written to from outside in this iteration; null where one has left.
    std::vector<Connection*> gathering;
    void iteration_ends() override;

    std::vector<std::unique_ptr<Channel>> channels;  // a few that are not in use
    ConnectionCounts counts;
    std::vector<ConnectionGroup::Owner*> owners;
    std::unique_ptr<Drain> drain;  // of all of them, if there ever was one

    // What begins in there ends in there.
    bool in_input(Bytes data) const noexcept {
        return reinterpret_cast<std::uintptr_t>(data.data()) - reinterpret_cast<std::uintptr_t>(input.get()) < input_size;
    }
    void begin(const Connection& connection) noexcept {
        owner = &connection;
        leave_short_way();
    }
    void leave_short_way() noexcept {
        unanswered = nullptr;
        gathered = {};
    }
    void end() noexcept {
        owner = nullptr;
        leave_short_way();
        in_received = true;
        spilled = false;
    }
    std::byte* room_for_input(std::size_t size) {
        if (size > input_size) {
            input.reset(new std::byte[size]);
            input_size = size;
        }
        return input.get();
    }
};

inline Connection::Workspace& Connection::workspace() const noexcept {
    return static_cast<Workspace&>(*group_->workspace);  // there also when the registration has ended; not on the way
}

inline Reactor& Connection::loop() const noexcept { return workspace().loop; }

// Where to go.
struct Connection::Move {
    Reactor& target;
    MoveOnlyFunction<void()> arrived;
};

// One direction of a connection that has rates. What it may move next it has taken from all the budgets before, and
// waits until all of it has come: so each of those who wait for a budget that they share has its turn, and is woken
// once for it.
struct Connection::Flow final : TimerQueue::Node {
    Flow(Connection& owner, bool input, Rate rate, TokenBucket& all) noexcept
        : connection(owner), of_input(input), own(rate), together(all) {}
    ~Flow();
    void due() override { connection.tokens_came(*this); }

    bool limits() const noexcept { return own.limits() || together.limits(); }
    void used(std::size_t count) noexcept;

    Connection& connection;
    const bool of_input;
    TokenBucket own;
    TokenBucket& together;
    TimerQueue* timers = nullptr;
    std::size_t allowed = 0;  // taken, and not used yet
    std::size_t coming = 0;   // taken, and there when the timer comes
};

struct Connection::Meter {
    Meter(Connection& owner, const RateLimits& the_rates, bool of_its_own, ConnectionGroup::Budget& together) noexcept
        : rates(the_rates),
          own(of_its_own),
          input(owner, true, rates.bytes_in, together.bytes_in),
          output(owner, false, rates.bytes_out, together.bytes_out),
          messages(rates.messages_in),
          messages_together(together.messages_in) {}

    const RateLimits rates;
    const bool own;  // set_rates has given it these
    Flow input, output;
    TokenBucket messages;
    TokenBucket& messages_together;
};

// Descriptors that come and go. What is to be sent goes with a certain byte of the output, and not before.
struct Connection::Passing {
    struct Outgoing {
        std::uint64_t at;  // of all bytes of the output since this began
        std::vector<FileDescriptor> descriptors;
    };
    ~Passing() {
        while (!received.empty()) {
            control_messages::close_unwanted(std::move(received.front()));
            received.pop_front();
        }
    }

    std::size_t most = 0;  // that may wait to be taken
    std::deque<FileDescriptor> received;
    std::deque<Outgoing> to_send;
    std::uint64_t sent = 0;  // bytes of the output
};

// What an idle connection does not need.
struct Connection::Extra final : TimerQueue::Node {
    explicit Extra(Connection& owner) noexcept : connection(owner), timers(&owner.loop().timers()) {}
    ~Extra() {
        if (scheduled()) timers->cancel(*this);
    }
    void due() override { connection.deadline(); }

    Connection& connection;
    TimerQueue* timers;  // its loop's, or the last one's while it is on the way to another
    std::unique_ptr<Move> move;
    ByteQueue input;  // what received() left
    Output output;    // what the kernel did not take
    std::unique_ptr<Limits> limits;
    std::unique_ptr<Meter> meter;
    std::unique_ptr<Passing> passing;
    std::unique_ptr<Channel> channel;  // from another one
    Connection* passes_to = nullptr;   // by its channel
    Deadlines since;
    std::error_code reason;
    static constexpr std::size_t not_listed = std::size_t(-1);
    std::size_t place_in_gathering = not_listed;  // of the loop's workspace

    Deadlines::Next next_deadline() const noexcept {
        return since.next(connection.limits(), connection.is(closing), !input.empty(), connection.output_size() > 0);
    }
    bool listed() const noexcept { return place_in_gathering != not_listed; }
    bool in_use() const noexcept {
        return listed() || !input.empty() || !output.empty() || limits != nullptr || meter != nullptr ||
               passing != nullptr || channel != nullptr || passes_to != nullptr || move != nullptr || scheduled() || reason;
    }
};

inline bool Connection::leaving() const noexcept { return extra_ != nullptr && extra_->move != nullptr; }

// What waits to be sent.
inline std::size_t Connection::output_size() const noexcept {
    if (extra_ == nullptr) return 0;
    return extra_->output.size() + (extra_->channel == nullptr ? 0 : extra_->channel->held);
}

inline Connection::Extra& Connection::extra() {
    if (extra_ == nullptr) {
        extra_ = std::make_unique<Extra>(*this);
        set(holds_extra);
    }
    return *extra_;
}

// The short way is for the ordinary state alone.
inline void Connection::set(State state) noexcept {
    state_ |= state;
    Workspace& space = workspace();
    if (space.unanswered == this) space.leave_short_way();
}

// What is neither gathered nor sent at once: `append` puts it behind all that was written before.
template <class Append>
bool Connection::queue_behind(Append&& append) {
    Workspace& space = workspace();
    const bool in_callback = space.owner == this;
    if (space.unanswered == this) space.leave_short_way();
    send_gathered();
    if (is(over)) return false;
    if (in_callback) queue(std::exchange(space.gathered, {}));
    if (is(over)) return false;
    append();
    if (in_callback) {
        space.spilled = true;
    } else if (!is(over)) {
        flush();
    }
    return !is(over);
}

// For every call but received().
template <class Call>
void Connection::call(Call&& protocol_call) {
    Workspace& space = workspace();
    space.begin(*this);
    space.in_received = false;
    try {
        protocol_call();
    } catch (...) {
        callback_failed(space);
        throw;
    }
    leave_callback(space);
}

}  // namespace reactor
