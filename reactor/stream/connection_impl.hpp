// Shared by the files of a connection: the loop's workspace, the parts beside the object, and the way into a protocol's
// call and out of it.
#pragma once

#include <reactor/detail/internals.hpp>
#include <reactor/detail/timer_queue.hpp>
#include <reactor/net/control_messages_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/detail/connection_group.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/stream/gathering_impl.hpp>
#include <reactor/stream/stream_transport_impl.hpp>
#include <reactor/uring/completions_impl.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

class REACTOR_EXPORT SocketConnection final : public Drainable, public Connection {
public:
    static SocketConnection& open(Reactor& reactor, Socket socket, std::unique_ptr<Protocol> protocol,
                                  ConnectionGroup::Reference group);
    ~SocketConnection() override;

    using Transport::open;
    using Transport::write;
    bool write(Bytes data) override;
    void abort(std::error_code reason) override;
    Reactor& reactor() const override { return loop(); }
    std::size_t queued() const noexcept override;
    const Limits& limits() const noexcept override;
    bool write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) override;
    void message_received() override;
    void pass_on(Transport& from, Transport& to) override;
    Answer ask(Question question) const override;
    void set_rates(const RateLimits& rates) override;
    bool send_descriptors(Bytes data, std::span<const int> descriptors) override;
    FileDescriptor take_descriptor() noexcept override;
    void move_to(Reactor& target, MoveOnlyFunction<void()> arrived) override;
    const reactor::Workspace* shares() const noexcept override { return group_->workspace; }

    /// Its protocol, if it is in `group` and has not ended.
    Protocol* protocol_in(const ConnectionGroup& group) const noexcept {
        return group_.get() == &group && !is(over) ? protocol_.get() : nullptr;
    }

    struct Workspace;
    static Workspace& workspace_of(Reactor& reactor);
    void join(ConnectionGroup::Reference group);

private:
    friend class ConnectionGroup;
    struct Extra;
    struct Move;
    struct Meter;
    struct Flow;
    struct Passing;
    struct Channel;

    SocketConnection(Socket socket, std::unique_ptr<Protocol> protocol, ConnectionGroup::Reference group) noexcept;

    void requested(Request request) override;

    // From the loop.
    void readable() override;
    void writable() override;
    void error() override;
    void lost(std::error_code reason) override { finish(reason); }
    void retired() override;

    // As StreamTransport says.
    Calling calling() const noexcept override;
    void begin_call(Calling call) noexcept override;
    void end_call() noexcept override;
    void send_written() override;
    void flush() override;
    std::error_code end_output() override;
    void update_interest() override;
    void call_soon() noexcept override { trigger(Interest::writable); }
    void read_soon() noexcept override { trigger(Interest::readable); }
    void protocol_changes() override;
    void prepare() override;
    void settled() override;
    void ended(std::error_code reason, std::size_t unsent) noexcept override;
    std::string name() const override { return peer().to_string(); }
    StreamParts& parts() override;
    void broken(std::error_code reason) override;
    void plan_deadline() override;
    void deadline() override;

    Workspace& workspace() const noexcept;
    Extra* extra() const noexcept;
    Extra& make_extra();
    const ConnectionGroup* group() const noexcept override { return group_.get(); }
    void tell_draining() override;
    void begin_drain() noexcept override { unset(told_of_drain); }
    void stop_passing_on() noexcept;
    void depart();
    void arrive(Reactor& reactor, std::unique_ptr<OwnedHandler> self, MoveOnlyFunction<void()> arrived);
    bool make_room_for_reads() noexcept;
    void accept_descriptors(std::size_t most);
    std::error_code keep_descriptor(FileDescriptor& descriptor) noexcept;
    void readable_unusual();
    void readable_completed();
    void enter_engine();
    void leave_engine() noexcept;
    ssize_t receive(std::byte* into, std::size_t size) noexcept;
    bool may_collect() const noexcept;
    bool collect(Bytes data) noexcept;
    void send_collected() noexcept;
    void sent_less(ssize_t count, Bytes bytes) noexcept;
    bool take_held() noexcept;
    void read_more();
    ssize_t receive_with_descriptors(std::byte* into, std::size_t size) noexcept;
    ssize_t send_with_descriptors(Bytes data) noexcept;
    void read_unusual(Workspace& space, ssize_t count);
    void judge_read(std::size_t count) noexcept;
    void nothing_read(ssize_t count);
    void discard();
    std::size_t call_received(Workspace& space, Bytes input);
    bool write_unusual(Bytes data);
    [[gnu::noinline]] bool write_otherwise(Bytes data);
    void gather(Workspace& space, Bytes data);
    bool gather_first(Workspace& space, Bytes data);
    void gather_for_later(Bytes data);
    Bytes gathered_piece() const noexcept;
    void keep_gathered();
    void send_gathered();
    void leave_gathering() noexcept;
    void send_now(Bytes first, Bytes second);
    void gathered_sent_in_part(Workspace& space, ssize_t count);
    void sent_in_part(ssize_t count, Bytes first, Bytes second);
    template <class Append>
    bool queue_behind(Append&& append);
    ssize_t send_queued(Bytes data, bool more) noexcept;
    void trigger(Interest ready) noexcept;
    void use_rates(const RateLimits& rates, bool own, ConnectionGroup& group);
    void pass_on_from(SocketConnection& source);
    bool can_be_passed_on_to() const noexcept;
    bool pass_on_input();
    void pass_on_no_longer() noexcept;
    void send_channel();
    void drop_channel() noexcept;
    void channel_is_empty() noexcept;
    void wait_for_tokens(Flow& flow, TimePoint ready) noexcept;
    void tokens_came(Flow& flow);
    std::size_t may_move(Flow& flow, std::size_t wanted) noexcept;
    void note_sent(std::size_t count) noexcept;
    void note_activity() noexcept;
    void reset_on_close() noexcept;

    // Beside StreamState's. The first are reasons not to read.
    enum OwnFlag : std::uint32_t {
        input_spent = StreamState::of_transport << 0,    // nothing is read before there are tokens
        passing_waits = StreamState::of_transport << 1,  // nothing is read before the one it passes on to has sent
        leaves = StreamState::of_transport << 2,         // to another loop: `extra()->move` has the way
        output_spent = StreamState::of_transport << 4,   // nothing is sent before there are tokens
        watches_idleness = StreamState::of_transport << 6,
        holds_extra = StreamState::of_transport << 7,
        eager = StreamState::of_transport << 8,    // the last read was filled: the next one is larger
        metered = StreamState::of_transport << 9,  // it has rates, or shares in some
        takes_descriptors = StreamState::of_transport << 10,
        passes_on = StreamState::of_transport << 11,  // its input goes straight on to another connection
        told_of_drain = StreamState::of_transport << 12,
        gathers = StreamState::of_transport << 13,     // its output was written from outside in this iteration
        unmeasured = StreamState::of_transport << 14,  // the loop's buffer may be smaller than its reads
        hung_up = StreamState::of_transport << 15,     // while it does not read its socket has no further news
        resets = StreamState::of_transport << 16,      // the peer gets a reset and no end of stream
        completes = StreamState::of_transport << 17,   // its bytes are moved by the loop's engine of completions
    };
    // The flags with which a small piece is sent as in the ordinary state.
    static constexpr std::uint32_t no_matter =
        completes | holds_extra | watches_idleness | told_of_drain | paused | input_due;
    void set(std::uint32_t flag) noexcept {
        state_.set(flag);
        leave_short_way();
    }
    void unset(std::uint32_t flag) noexcept { state_.unset(flag); }
    void leave_short_way() noexcept;
    Reactor& loop() const noexcept;  // not on the way to another one, as for workspace()
    RegistrationView registration() const noexcept { return {loop(), socket_.get(), registration_id_}; }

    // A line of the cache, of which malloc takes the rest: a million idle ones are a million of these.
    ConnectionGroup::Reference group_;
    Socket socket_;
    std::uint32_t registration_id_ = 0;
};

// The way of bytes that go from one connection to another without being copied: splice(2) needs a pipe in between.
struct SocketConnection::Channel {
    FileDescriptor in, out;
    std::size_t held = 0;  // bytes in the pipe: before all that is in the output of the one that sends them
    SocketConnection* source = nullptr;  // null when it has ended, or gone back to the ordinary way
};

// Shared by the connections of a loop: only one of them is in its protocol at a time.
struct SocketConnection::Workspace final : reactor::Workspace {
    static constexpr std::size_t gather_size = 64 * 1024;  // small writes that leave together
    static constexpr std::size_t large_write = 16 * 1024;  // from here a copy costs more than a system call

    explicit Workspace(Reactor& reactor);

    Reactor& loop;
    Completions* const completions;  // null where readiness moves the bytes
    std::unique_ptr<std::byte[]> input;
    std::size_t input_size = 0;
    // Where input lies that a first answer may be a piece of: `input`, or the engine's pool.
    const std::byte* views = completions == nullptr ? nullptr : completions->pool();
    std::size_t views_size = completions == nullptr ? 0 : Completions::pool_size();
    std::unique_ptr<std::byte[]> output{new std::byte[gather_size]};

    const SocketConnection* owner = nullptr;  // whose protocol is being called
    Bytes gathered;  // written in this call: in `output`, or still where it was read, in `input`
    // The owner while it has written nothing and its state is ordinary: then a first answer out of the input takes the
    // short way, and what `gathered` holds is from another time.
    const SocketConnection* unanswered = nullptr;
    const SocketConnection* straight = nullptr;  // the one that sent large writes in this iteration
    std::uint64_t straight_turn = 0;
    std::size_t sent_straight = 0;  // how much of them
    bool in_received = true;        // the call is received(), unless call() says otherwise: its writes are answers
    bool spilled = false;           // more was written in this call than is gathered: it stands in the queue

    Gathering gathering;
    void iteration_ends() override;

    std::vector<std::unique_ptr<Channel>> channels;  // a few that are not in use
    ConnectionCounts counts;
    std::vector<ConnectionGroup::Owner*> owners;
    std::unique_ptr<Drain> drain;  // of all of them, if there ever was one

    // A piece that begins in there ends in there.
    bool in_input(Bytes data) const noexcept {
        return reinterpret_cast<std::uintptr_t>(data.data()) - reinterpret_cast<std::uintptr_t>(views) < views_size;
    }
    /// Is it worth a copy? Nothing is not.
    static bool is_small(Bytes data) noexcept { return data.size() - 1 < large_write - 1; }
    /// Gathers a small piece that is not out of the input, behind others of its kind. Beyond the high watermark the
    /// protocol is owed pause_writing and resume_writing, so those bytes are queued.
    bool copy_behind(Bytes data, std::size_t high_mark) noexcept {
        const std::size_t before = gathered.size(), together = before + data.size();
        if (together > std::min(gather_size, high_mark)) return false;
        if ((before > 0 && gathered.data() != output.get()) || in_input(data)) return false;
        std::memcpy(output.get() + before, data.data(), data.size());
        gathered = {output.get(), together};
        return true;
    }
    void begin(const SocketConnection& connection) noexcept {
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
            if (completions == nullptr) {
                views = input.get();
                views_size = size;
            }
        }
        return input.get();
    }
};

inline SocketConnection::Workspace& SocketConnection::workspace() const noexcept {
    return static_cast<Workspace&>(*group_->workspace);  // there also when the registration has ended; not on the way
}

inline Reactor& SocketConnection::loop() const noexcept {
    return workspace().loop;
}

// Where to go.
struct SocketConnection::Move {
    Reactor& target;
    MoveOnlyFunction<void()> arrived;
};

// One direction of a connection that has rates. It takes the tokens of its next bytes from all the budgets before, and
// waits until all of them have come: so each connection that waits for a shared budget has its turn, and is woken once
// for it.
struct SocketConnection::Flow final : TimerQueue::Node {
    Flow(SocketConnection& owner, bool input, Rate rate, TokenBucket& all) noexcept
        : connection(owner), of_input(input), own(rate), together(all) {}
    ~Flow();
    void due() override { connection.tokens_came(*this); }

    bool limits() const noexcept { return own.limits() || together.limits(); }
    void used(std::size_t count) noexcept;

    SocketConnection& connection;
    const bool of_input;
    TokenBucket own;
    TokenBucket& together;
    TimerQueue* timers = nullptr;
    std::size_t allowed = 0;  // taken, and not used yet
    std::size_t coming = 0;   // taken, and there when the timer comes
};

struct SocketConnection::Meter {
    Meter(SocketConnection& owner, const RateLimits& the_rates, bool of_its_own,
          ConnectionGroup::Budget& together) noexcept
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

// Received and outgoing descriptors. An outgoing one leaves with a certain byte of the output, and not before.
struct SocketConnection::Passing {
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

// The parts that an idle connection does not need.
struct SocketConnection::Extra final : StreamParts {
    explicit Extra(SocketConnection& owner) noexcept : StreamParts(owner, &Internals(owner.loop()).timers()) {}

    std::unique_ptr<Move> move;
    std::unique_ptr<Meter> meter;
    std::unique_ptr<Passing> passing;
    std::unique_ptr<Channel> channel;       // from another one
    SocketConnection* passes_to = nullptr;  // by its channel

    std::size_t output_size() const noexcept override {
        return output.size() + (channel == nullptr ? 0 : channel->held);
    }
    bool in_use() const noexcept {
        return !input.empty() || !output.empty() || limits != nullptr || meter != nullptr || passing != nullptr ||
               channel != nullptr || passes_to != nullptr || move != nullptr || handles != nullptr || scheduled() ||
               reason;
    }
};

inline SocketConnection::Extra* SocketConnection::extra() const noexcept {
    return static_cast<Extra*>(parts_.get());
}

inline SocketConnection::Extra& SocketConnection::make_extra() {
    if (parts_ == nullptr) {
        parts_ = std::make_unique<Extra>(*this);
        set(holds_extra);
    }
    return *extra();
}

inline StreamParts& SocketConnection::parts() {
    return make_extra();
}

// Before anything else is done to the socket or to the output: bytes that were collected are the first.
inline void SocketConnection::send_collected() noexcept {
    if (!is(completes) || !workspace().completions->has_collected(socket_.get(), this)) return;
    Bytes bytes;
    const ssize_t count = workspace().completions->send_collected(socket_.get(), bytes);
    if (count != ssize_t(bytes.size())) sent_less(count, bytes);
}

// The short way is for the ordinary state alone.
inline void SocketConnection::leave_short_way() noexcept {
    Workspace& space = workspace();
    if (space.unanswered == this) space.leave_short_way();
}

// For output that is neither gathered nor sent at once: `append` puts it behind all earlier writes.
template <class Append>
bool SocketConnection::queue_behind(Append&& append) {
    Workspace& space = workspace();
    const bool in_call = space.owner == this;
    if (space.unanswered == this) space.leave_short_way();
    send_gathered();
    send_collected();  // the gathered ones, it may be
    if (is(over)) return false;
    if (in_call) queue(std::exchange(space.gathered, {}));
    if (is(over)) return false;
    append();
    if (in_call) {
        space.spilled = true;
    } else if (!is(over)) {
        flush();
    }
    return !is(over);
}

}  // namespace reactor
