// Draining: an end in good order. Nothing new is accepted or connected, each protocol is asked to end, queued output is
// sent, and connections that are left after a grace period are aborted and reported. It is for the connections of one
// acceptor (Acceptor::drain), of a loop, or of a group of loops.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>

namespace reactor {

class ConnectionGroup;
class ReactorGroup;

/// Connections of one kind: how many there are, and how those that are over ended.
struct ConnectionCounts {
    std::size_t live = 0;            ///< that have not ended
    std::uint64_t ended = 0;         ///< that have
    std::uint64_t failed = 0;        ///< of these, with an error
    std::uint64_t bytes_unsent = 0;  ///< that they had still to send
};

/// The outcome of a drain.
struct Drained {
    std::uint64_t finished = 0;   ///< connections that ended in order
    std::uint64_t cut = 0;        ///< that ended with an error, or at the deadline
    std::uint64_t bytes_cut = 0;  ///< that they had still to send
};

/// How a drain treats the connections that there are.
enum class Draining : std::uint8_t {
    told,  ///< Protocol::draining, which closes unless the protocol has something to finish
    left   ///< nothing: each goes on until it ends by itself
};

/// Ends a loop in good order. Its acceptors are closed, its connectors cancelled, and each connection is called
/// (Protocol::draining) once. With Draining::left, connectors that are connecting finish, and none connects again. A
/// connection that closes sends what it owes, within its Limits::close_timeout. After `longest` every connection that
/// is left is aborted (timed_out), and so is each that comes later. `done` is called from the loop, never from inside
/// this call, when no connection is left and none is on its way here from another loop.
///
/// A connection that moves here meanwhile is called when it has arrived. A connection that the program makes meanwhile,
/// to finish something, is not called: the program ends it. A further drain takes the place of the one before, whose
/// `done` is then not called. Connections that wait in the kernel's queue are reset: to lose none, hand the listening
/// sockets on before (Acceptor::listening_sockets). Datagrams are not touched, but for accepted packets; nor are pipes
/// and children.
///
/// Thread: the loop's. Errors: std::invalid_argument for an empty `done`, std::bad_alloc; then nothing has changed.
REACTOR_EXPORT void drain(Reactor& reactor, Duration longest, MoveOnlyFunction<void(const Drained&)> done,
                          Draining how = Draining::told);

/// The same for every loop of a group at once, which must be running, or run next. `done` is called once, with the
/// sums, on the thread of the loop that is ready last: when no loop of the group has a connection and none is on its
/// way from one to another. Each loop counts `longest` from when it begins. Of two calls from different threads the
/// later one takes the place of the earlier one on every loop.
///
/// Thread: any. Errors: std::invalid_argument for an empty `done`; std::bad_alloc, and then some of the loops may drain
/// and `done` is not called.
REACTOR_EXPORT void drain(ReactorGroup& group, Duration longest, MoveOnlyFunction<void(const Drained&)> done,
                          Draining how = Draining::told);

/// Ends the grace period of a loop's drain now: the connections that are left are aborted (timed_out), and `done` is
/// called, from the loop as ever. If no drain is under way, nothing happens. Thread: the loop's.
REACTOR_EXPORT void cut_drain(Reactor& reactor) noexcept;

/// A connection that can be drained, of a stream or of packets.
class REACTOR_EXPORT Drainable : public OwnedHandler {
private:
    friend class Drain;
    virtual const ConnectionGroup* group() const noexcept = 0;
    /// Calls the protocol, unless that has been done since `begin_drain`.
    virtual void tell_draining() = 0;
    virtual void begin_drain() noexcept = 0;
    virtual void abort(std::error_code reason) = 0;
};

/// How connections are drained, for those that count them: acceptors and loops.
class REACTOR_EXPORT Drain {
public:
    /// Of those in `group`; null: of all of the loop's. `counts` are theirs.
    Drain(Reactor& reactor, const ConnectionCounts& counts, const ConnectionGroup* group);
    ~Drain();
    Drain(const Drain&) = delete;
    Drain& operator=(const Drain&) = delete;

    /// As drain() says, for the connections that there are. Throws std::invalid_argument for an empty `done`, and
    /// std::bad_alloc; then nothing has changed.
    void begin(Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how);
    /// There is one connection more: a new one, or one from elsewhere.
    void connection_came() noexcept;
    /// Asks the connections that were not asked yet, from the loop: one that arrived was there before this began.
    void tell_again() noexcept;
    /// One of them is over, and counted so.
    void connection_ended() noexcept;
    /// Have the connections been asked that were there when it began?
    bool has_told() const noexcept { return report_ != nullptr && told_; }

private:
    friend void drain(Reactor&, Duration, MoveOnlyFunction<void(const Drained&)>, Draining);
    friend void drain(ReactorGroup&, Duration, MoveOnlyFunction<void(const Drained&)>, Draining);
    friend void cut_drain(Reactor&) noexcept;
    class Report;

    static Drain& of_loop(Reactor& reactor);
    static void stop_beginnings(Reactor& reactor, Draining how) noexcept;
    void prepare(Duration longest, Draining how);
    void commit(const std::shared_ptr<Report>& report, Draining how) noexcept;
    template <class Call>
    void for_each_connection(Call&& call);
    void tell();
    void cut();
    void report();
    void end() noexcept;

    Reactor& reactor_;
    const ConnectionCounts& counts_;
    const ConnectionGroup* const group_;
    const std::shared_ptr<Report> own_;  // for a drain of these alone; made before there is no memory
    std::shared_ptr<Report> report_;     // of the drain that is under way, null if there is none
    ConnectionCounts before_;            // the report is the difference
    Draining how_ = Draining::told;
    bool told_ = false;
    bool overdue_ = false;  // the deadline has passed: every connection that arrives is cut
    bool quiet_ = false;    // has reported, as there was no connection
    Timer tell_timer_;
    Timer deadline_timer_;
    Timer done_timer_;
    Lifetime lifetime_;
};

}  // namespace reactor
