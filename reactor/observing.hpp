// Observing a loop from outside: its counters, calls that held it up, and notices for an operator.
// Reactor::counters, Reactor::on_slow_call and Reactor::on_notice supply them. Nothing here prints or keeps anything.
#pragma once

#include <reactor/clock.hpp>

#include <cstdint>

namespace reactor {

/// The work of a reactor so far.
struct Counters {
    std::uint64_t turns = 0;           ///< waits, each a system call
    std::uint64_t looks = 0;           ///< further system calls, made in busy waits
    std::uint64_t events = 0;          ///< descriptors reported ready
    std::uint64_t changes = 0;         ///< interest changes handed to the backend; with epoll a system call each
    std::uint64_t wakeups = 0;         ///< waits ended by post() or stop()
    std::uint64_t timers = 0;          ///< timers called
    std::uint64_t tasks = 0;           ///< posted tasks run
    std::uint64_t connections = 0;     ///< begun; those that live are the acceptors' to say
    std::uint64_t bytes_received = 0;  ///< by connections, and as datagrams
    std::uint64_t bytes_sent = 0;      ///< by connections, and as datagrams
};

/// A call that took at least the threshold of Reactor::on_slow_call.
struct SlowCall {
    /// The kind of call.
    enum class Kind : std::uint8_t {
        event,    ///< a descriptor's handler; with several registrations, all of its handlers
        timer,    ///< a Timer's callback
        task,     ///< posted work
        retired,  ///< a handler's last call and its destruction: a connection's `disconnected`
        hook,     ///< a Hook's callable
        deferred  ///< a call of Reactor::defer
    };
    Kind kind = Kind::event;
    int descriptor = -1;        ///< of an event
    const void* who = nullptr;  ///< the EventHandler, Timer or Hook; it may be gone: to be compared, not followed
    Duration duration{};
};

/// Events that an operator may want in a log, because no counter names the connection.
enum class Notice : std::uint8_t {
    connection_shed,    ///< out of descriptors: a peer was accepted only to be closed
    accept_backed_off,  ///< out of descriptors or memory, or accept(2) keeps failing: an acceptor pauses for a while
    listener_lost,      ///< a listening socket does not listen any more, or was closed: its acceptor has given it up
    idle_timeout,       ///< Limits::idle_timeout ended a connection
    message_timeout,    ///< Limits::message_timeout ended a connection
    write_timeout,      ///< Limits::write_timeout ended a connection
    close_timeout,      ///< Limits::close_timeout ended a connection that was closing
    receive_timeout,    ///< Limits::receive_timeout ended a connection
    handshake_timeout,  ///< a TLS handshake took too long
};

}  // namespace reactor
