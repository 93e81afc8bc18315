// Draining: an end in good order. Nothing new is accepted or connected, each connection is told that its end is wished
// for, what is owed is sent, and what is left after a while is aborted, and reported. Of one acceptor's connections
// (Acceptor::drain), of all of a loop's, or of all of a group of loops'.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <cstddef>
#include <cstdint>
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

/// What came of a drain.
struct Drained {
    std::uint64_t finished = 0;   ///< connections that ended in order
    std::uint64_t cut = 0;        ///< that ended with an error, or at the deadline
    std::uint64_t bytes_cut = 0;  ///< that they had still to send
};

/// What a drain does about the connections that there are.
enum class Draining : std::uint8_t {
    told,  ///< Protocol::draining, which closes unless the protocol has something to finish
    left   ///< nothing: each goes on until it ends by itself
};

/// Closes the loop's acceptors, cancels its connectors, has every connection told that its end is wished for, and aborts
/// (timed_out) what is left after `longest`. Closing, each sends what it owes, within its Limits::close_timeout. `done`
/// is called from the loop when none is left, never from inside this call. A connection that moves here meanwhile is
/// told when it has arrived; who makes a new one, to finish something, must end it too. Again: only the last counts.
/// Who waits in a kernel's queue is lost, with a reset: to lose nobody, hand the listening sockets on before
/// (Acceptor::listening_sockets). Datagrams are not touched, but for accepted packets; nor are pipes and children. On the loop's thread. Throws
/// std::invalid_argument for an empty `done`, and std::bad_alloc; then nothing has changed.
REACTOR_EXPORT void drain(Reactor& reactor, Duration longest, MoveOnlyFunction<void(const Drained&)> done,
                          Draining how = Draining::told);

/// The same of every loop of a group at once, which must be running, or run next. `done` is called once, with the
/// sums, on the thread of the loop that is ready last. From any thread. Throws std::invalid_argument
/// for an empty `done`; std::bad_alloc, and then some of the loops may drain, and `done` is not called.
REACTOR_EXPORT void drain(ReactorGroup& group, Duration longest, MoveOnlyFunction<void(const Drained&)> done,
                          Draining how = Draining::told);

/// What is drained: connections, of streams and of packets.
class REACTOR_EXPORT Drainable : public OwnedHandler {
private:
    friend class Drain;
    virtual const ConnectionGroup* group() const noexcept = 0;
    virtual void tell_draining() = 0;
    virtual void abort(std::error_code reason) = 0;
};

/// How connections are drained, for those that count them: acceptors and loops.
class REACTOR_EXPORT Drain {
public:
    /// Of those in `group`; null: of all of the loop's. `counts` are theirs.
    Drain(Reactor& reactor, const ConnectionCounts& counts, const ConnectionGroup* group);
    Drain(const Drain&) = delete;
    Drain& operator=(const Drain&) = delete;

    /// As drain() says, for the connections that there are. Throws std::bad_alloc, and then nothing has changed.
    void begin(Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how);
    /// One of them is over, and counted so.
    void connection_ended() noexcept;
    /// Have those been told that were there when it began?
    bool has_told() const noexcept { return done_ && told_; }

private:
    template <class Call>
    void for_each_connection(Call&& call);
    void tell();
    void cut();
    void report();

    Reactor& reactor_;
    const ConnectionCounts& counts_;
    const ConnectionGroup* const group_;
    ConnectionCounts before_;  // what is reported is what comes on top
    MoveOnlyFunction<void(const Drained&)> done_;
    bool told_ = false;
    Timer tell_timer_;
    Timer deadline_timer_;
    Timer done_timer_;
    Lifetime lifetime_;
};

}  // namespace reactor
