// Connection: the transport that is a connected stream socket. Protocols see it as their Transport; whoever
// has a socket from elsewhere (socketpair, inetd, a parent) opens one here. The system calls that move a connection's
// bytes stand in connection.cpp and connection_output.cpp, and those that few need in _descriptors and _splice.
#pragma once

#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/stream/rate_limit.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/transport.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <system_error>

namespace reactor {

/// What the connections of one acceptor or connector have in common.
struct REACTOR_EXPORT ConnectionOptions {
    Limits limits;
    /// What each of them may do in a second, and what all of them together may.
    RateLimits rates = {};
    RateLimits rates_together = {};
    /// TCP_NODELAY: on, because writes are gathered here already, and Nagle's wait would come on top.
    bool no_delay = true;
    std::optional<KeepAlive> keep_alive;
    /// TCP_USER_TIMEOUT: how long sent data may stay unacknowledged. Zero: the system's choice, many minutes.
    Duration user_timeout = Duration::zero();
    /// SO_RCVBUF and SO_SNDBUF. Zero: the system's choice, which adapts.
    std::size_t receive_buffer = 0;
    std::size_t send_buffer = 0;
    /// How many descriptors that came over a Unix socket may wait to be taken (Connection::take_descriptor); at one more
    /// the connection ends (Error::descriptor_limit). With 0 none is accepted: since Linux 6.16 the peer's call fails
    /// with EPERM (SO_PASSRIGHTS); before, and elsewhere, the kernel closes them when their bytes are read.
    std::size_t descriptors = 0;

    /// Sets the options of the socket's on it. On a listening socket they hold for all that it accepts: Linux and
    /// the BSDs copy them. An option that this kind of socket does not have is left out: those of TCP on Unix and vsock
    /// sockets, `user_timeout` on MPTCP. Throws std::system_error for a value that the kernel refuses.
    void apply_to(Socket& socket) const;
};

class Connection;

/// What a set of connections of one reactor shares: their limits, and who wants to know when one has ended. It lives until
/// its owner and the last of its connections have let go of it.
class REACTOR_EXPORT ConnectionGroup {
public:
    class Owner {
    public:
        /// One of the group's connections is gone. Comes at the end of a turn, after `disconnected`.
        virtual void connection_ended(const OwnedHandler& connection) noexcept = 0;
        /// The loop is being drained: nothing that would become a connection may be begun any more.
        virtual void no_new_ones() noexcept = 0;

    protected:
        ~Owner() = default;
    };

    /// Counts the references to a group; on one thread, as everything of a reactor's.
    class Reference {
    public:
        Reference() noexcept = default;
        explicit Reference(ConnectionGroup* group) noexcept : group_(group) { ++group_->references_; }
        Reference(const Reference& other) noexcept : group_(other.group_) {
            if (group_ != nullptr) ++group_->references_;
        }
        Reference& operator=(Reference other) noexcept {
            std::swap(group_, other.group_);
            return *this;
        }
        ~Reference() {
            if (group_ != nullptr && --group_->references_ == 0) delete group_;
        }
        ConnectionGroup* operator->() const noexcept { return group_; }
        ConnectionGroup* get() const noexcept { return group_; }

    private:
        ConnectionGroup* group_ = nullptr;
    };

    /// A group's connections are all of one reactor. If there is an owner it must `disown` the group before it goes.
    static Reference make(Reactor& reactor, const ConnectionOptions& options, Owner* owner = nullptr);
    void disown() noexcept;

    /// A group that its owner holds as a member. It is disowned when the owner goes, also by a constructor that throws.
    class Owned : public Reference {
    public:
        Owned(Reactor& reactor, const ConnectionOptions& options, Owner& owner)
            : Reference(make(reactor, options, &owner)) {}
        Owned(const Owned&) = delete;
        Owned& operator=(const Owned&) = delete;
        ~Owned() { get()->disown(); }
    };

    /// For its connections: each is counted in the group and in the loop, and so is how it ends.
    void join() noexcept { ++counts.live; }
    void leave(const OwnedHandler& connection) noexcept;
    void enter_loop(Reactor::Workspace& loop) noexcept;
    void leave_loop() noexcept;
    void note_unsent(std::size_t bytes) noexcept;
    void note_end(std::error_code reason) noexcept;

    /// What all together may take.
    struct Budget {
        TokenBucket bytes_in, bytes_out, messages_in;
        explicit Budget(const RateLimits& rates) noexcept
            : bytes_in(rates.bytes_in), bytes_out(rates.bytes_out), messages_in(rates.messages_in) {}
    };

    const Limits limits;
    const RateLimits rates;  ///< of each
    Budget budget;
    const bool limits_rates;  ///< of each or together
    const std::size_t descriptors;
    Reactor::Workspace* workspace;  ///< their reactor's; null while its only connection is on the way to another
    Owner* owner;                   ///< null once it is gone
    ConnectionCounts counts;

private:
    ConnectionGroup(const ConnectionOptions& options, Reactor::Workspace& space, Owner* the_owner) noexcept
        : limits(options.limits.bounded()),
          rates(options.rates),
          budget(options.rates_together),
          limits_rates(options.rates.any() || options.rates_together.any()),
          descriptors(options.descriptors),
          workspace(&space),
          owner(the_owner) {}
    std::size_t references_ = 0;
};

class REACTOR_EXPORT Connection final : public Drainable, public Transport {
public:
    /// Runs `protocol` over a connected stream socket; both belong to the reactor from now on. `connected`
    /// comes from the loop. Throws std::system_error, std::bad_alloc, or std::invalid_argument without a protocol; the
    /// socket is then closed.
    static Connection& open(Reactor& reactor, Socket socket, std::unique_ptr<Protocol> protocol,
                            const ConnectionOptions& options = {});
    static Connection& open(Reactor& reactor, Socket socket, std::unique_ptr<Protocol> protocol,
                            ConnectionGroup::Reference group);

    ~Connection() override;

    using Transport::write;
    bool write(Bytes data) override;
    void shutdown_write() override;
    void close() override;
    void abort(std::error_code reason = std::make_error_code(std::errc::operation_canceled)) override;
    void pause_reading() override;
    void resume_reading() override;
    bool reading() const noexcept override;
    Bytes unconsumed() const noexcept override;
    std::size_t queued() const noexcept override;
    const Limits& limits() const noexcept override;
    void set_limits(const Limits& limits) override;
    bool write_file(FileDescriptor file, std::uint64_t offset = 0, std::uint64_t length = rest_of_file) override;
    void message_received() override;
    void pass_on_to(Transport& other) override {
        if (is(eager)) other.pass_on_from(*this);
    }
    void pass_on_from(Connection& source) override;
    /// Rates of its own from now on, instead of those of its acceptor or connector; what all together may do still
    /// holds. The budget is full at first. Throws std::bad_alloc, and then nothing has changed.
    void set_rates(const RateLimits& rates);

    /// Writes `data`, and with its first byte copies of these descriptors, over a Unix socket; the caller keeps its own.
    /// False as for `write`. Throws std::invalid_argument for no data, more than 253 descriptors (unix(7)) and other
    /// sockets, std::system_error if one cannot be copied (fcntl(2), F_DUPFD_CLOEXEC), std::bad_alloc; then nothing is
    /// sent.
    bool send_descriptors(Bytes data, std::span<const int> descriptors);
    /// The next descriptor that has come and is not taken yet, in the order in which they were sent; an empty one if
    /// there is none. It is there when `received` is given the first of the bytes that it was sent with, or sooner.
    /// Those that nobody takes are closed with the connection. Out of descriptors of its own (EMFILE) the connection
    /// ends with that error, since the kernel has then dropped some.
    FileDescriptor take_descriptor() noexcept;
    Address peer() const override { return socket_.peer(); }
    Address local() const override { return socket_.local(); }
    std::optional<PeerCredentials> peer_credentials() const override { return socket_.peer_credentials(); }

    /// Hands the living connection over to another reactor, which may run on another thread: with its protocol, what
    /// `received` left, what is not sent yet, and its limits; the same objects, so references to them stay good. It
    /// leaves this loop when the protocol's call, if one is under way, has returned, at the latest in the next turn.
    /// From this call on nothing is received, and until it is there only the protocol itself may use the transport. Its
    /// deadlines begin anew there, what was left unconsumed is given to `received` again, and `connected`, if that was
    /// still to come, comes there. `arrived` is called on the other loop like a call of the protocol's, after
    /// `connected` and before anything else.
    ///
    /// What the protocol holds of this loop, a timer or a place in a room, it gives up before; what it shares with the
    /// other must bear two threads. Here the connection has ended for its acceptor or connector; there it belongs to
    /// none unless Acceptor::adopt is called. If it ends before it could leave, `disconnected` comes here and `arrived`
    /// never; so also if the other reactor is being destroyed. Destroyed with it on the way there, the other reactor
    /// destroys it with its own. A second call before it has left counts instead of the first. Throws std::bad_alloc,
    /// and then nothing has changed. On this loop's thread; `target` must live until it has arrived.
    void move_to(Reactor& target, MoveOnlyFunction<void()> arrived = nullptr);

    const void* belongs_to() const noexcept override { return group_->workspace; }

private:
    friend class Acceptor;
    friend class ConnectionGroup;
    friend class Drain;
    struct Workspace;
    struct Extra;
    struct Move;
    struct Meter;
    struct Flow;
    struct Passing;
    struct Channel;

    Connection(Socket socket, std::unique_ptr<Protocol> protocol, ConnectionGroup::Reference group) noexcept;

    // From the loop.
    void readable() override;
    void writable() override;
    void error() override;
    void lost(std::error_code reason) override;
    void retired() override;
    void deadline();

    static Workspace& workspace_of(Reactor& reactor);
    Workspace& workspace() const noexcept;
    Extra& extra();
    void start();
    const ConnectionGroup* group() const noexcept override { return group_.get(); }
    void tell_draining() override;
    void begin_drain() noexcept override { unset(told_of_drain); }
    bool leaving() const noexcept;
    void depart();
    void arrive(Reactor& reactor, std::unique_ptr<OwnedHandler> self, MoveOnlyFunction<void()> arrived);
    void join(ConnectionGroup::Reference group);
    bool make_room_for_reads() noexcept;
    void accept_descriptors(std::size_t most);
    std::error_code keep_descriptor(FileDescriptor& descriptor) noexcept;
    void readable_unusual();
    void read_more();
    void read_rest();
    ssize_t receive_with_descriptors(std::byte* into, std::size_t size) noexcept;
    ssize_t send_with_descriptors(Bytes data) noexcept;
    void read_unusual(Workspace& space, ssize_t count);
    void judge_read(std::size_t count) noexcept;
    void nothing_read(ssize_t count);
    void discard();
    std::size_t call_received(Workspace& space, Bytes input);
    void after_received(Workspace& space, Bytes input, std::size_t consumed);
    void deliver(Bytes input);
    void keep_rest(Bytes input, std::size_t consumed);
    void end_of_input();
    template <class Call>
    void call(Call&& protocol_call);
    void callback_failed(Workspace& space) noexcept;
    void leave_callback(Workspace& space);
    bool write_unusual(Bytes data);
    void gather(Workspace& space, Bytes data);
    void gather_for_later(Bytes data);
    void send_gathered();
    void leave_gathering() noexcept;
    void send_now(Bytes first, Bytes second);
    void gathered_sent_in_part(Workspace& space, ssize_t count);
    void sent_in_part(ssize_t count, Bytes first, Bytes second);
    void queue(Bytes data);
    template <class Append>
    bool queue_behind(Append&& append);
    void note_queued(bool first);
    ssize_t send_queued(Bytes data, bool more) noexcept;
    void flush();
    void broken(std::error_code reason);
    void settle();
    void update_interest();
    void trigger(Interest ready) noexcept;
    void use_rates(const RateLimits& rates, bool own, ConnectionGroup& group);
    bool can_be_passed_on_to() const noexcept;
    bool pass_on();
    void pass_on_no_longer() noexcept;
    void send_channel();
    void drop_channel() noexcept;
    void channel_is_empty() noexcept;
    void wait_for_tokens(Flow& flow, TimePoint ready) noexcept;
    void tokens_came(Flow& flow);
    std::size_t may_move(Flow& flow, std::size_t wanted) noexcept;
    void plan_deadline();
    void wait_for_deadline() noexcept;
    void note_sent(std::size_t count) noexcept;
    void note_activity() noexcept;
    void finish(std::error_code reason) noexcept;
    void reset_on_close() noexcept;
    std::size_t output_size() const noexcept;

    // What a connection is doing besides moving bytes both ways. Zero is the ordinary state, and the hot path
    // tests for it once.
    enum State : std::uint32_t {
        ordinary = 0,
        fresh = 1 << 0,           // connected() has not been called yet
        paused = 1 << 1,          // the user's pause_reading
        over_high = 1 << 2,       // the high mark was passed and the low one not yet reached
        held_back = 1 << 3,       // and that by answers: nothing is read until then
        pause_told = 1 << 4,      // pause_writing was called and resume_writing not yet
        peer_ended = 1 << 5,      // the peer's end of stream was read
        shutting = 1 << 6,        // shutdown_write was called
        closing = 1 << 7,         // close was called
        write_ended = 1 << 8,     // our end of stream is sent
        write_broken = 1 << 9,    // a send failed; what the peer sent before may still be there to be read
        rest_due = 1 << 10,       // what received() left is to be given to it again
        over = 1 << 11,           // retired: disconnected() comes next
        out_of_memory = 1 << 12,  // there was none even to note the reason
        watches_idleness = 1 << 13,
        holds_extra = 1 << 14,
        eager = 1 << 15,          // the last read was filled: the next one is larger
        metered = 1 << 16,        // it has rates, or shares in some
        input_spent = 1 << 17,    // nothing is read before there are tokens
        output_spent = 1 << 18,   // nothing is sent before there are tokens
        takes_descriptors = 1 << 19,
        passes_on = 1 << 20,      // what comes goes straight on to another one
        passing_waits = 1 << 21,  // nothing is read before that one has sent what it has
        told_of_drain = 1 << 22,
        gathers = 1 << 24,        // what the output holds was written from outside in this iteration
        unmeasured = 1 << 23,     // it has not asked yet whether the loop's buffer is as large as its reads
        hung_up = 1 << 25,        // while it does not read there is nothing more to be told of its socket
        resets = 1 << 26,         // the peer is to get a reset and no end of stream
    };
    bool is(unsigned states) const noexcept { return (state_ & states) != 0; }
    Reactor& loop() const noexcept;  // not on the way to another one, as for workspace()
    RegistrationView registration() const noexcept { return {loop(), socket_.get(), registration_id_}; }
    void set(State state) noexcept;
    void unset(State state) noexcept { state_ &= ~std::uint32_t(state); }

    // A line of the cache, of which malloc takes the rest: a million idle ones are a million of these.
    std::unique_ptr<Protocol> protocol_;
    ConnectionGroup::Reference group_;
    std::unique_ptr<Extra> extra_;  // only while there is something in it
    Socket socket_;
    std::uint32_t state_ = fresh;
    std::uint32_t registration_id_ = 0;
};

}  // namespace reactor
