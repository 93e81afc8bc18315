// AcceptorSharing: spreads the connections that one acceptor accepts over the loops of several, each on its own thread:
// for servers that cannot have one listening socket a loop (SO_REUSEPORT: AcceptorOptions::reuse_port), and if the
// kernel's spreading, by the connection's addresses, is too uneven.
//
//     AcceptorSharing sharing(AcceptorSharing::Choice::least_connections);
//     ReactorGroup group;
//     group.start([&](Reactor& reactor, std::size_t index) {
//         std::vector<Address> addresses;                      // one of them listens
//         if (index == 0) addresses = resolve_blocking("localhost", 10000);
//         Acceptor acceptor{reactor, addresses, factory<Echo>(), {.sharing = &sharing}};
//         reactor.run();
//     });
#pragma once

#include <reactor/export.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace reactor {

class Acceptor;

/// Shared by the acceptors that name it in AcceptorOptions::sharing. Those with addresses listen. A connection that one
/// of them accepts goes to one of all, with or without addresses: that one's factory makes its protocol, it stays on
/// that one's loop, and that one's `max_connections` counts it. While none has room, no connection is accepted. A
/// socket on its way to an acceptor that has closed meanwhile goes to another; if there is none left it is closed.
///
/// A lock is taken for each connection, when it comes and when it ends, and none for its traffic. May be made
/// anywhere; must outlive its acceptors and their reactors.
class REACTOR_EXPORT AcceptorSharing {
public:
    /// The acceptor that gets the next connection.
    enum class Choice {
        round_robin,        ///< one after the other: best if connections are alike
        least_connections,  ///< to the acceptor with the fewest at the moment: best if some last long and others do not
    };

    explicit AcceptorSharing(Choice choice) noexcept : choice_(choice) {}
    AcceptorSharing(const AcceptorSharing&) = delete;
    AcceptorSharing& operator=(const AcceptorSharing&) = delete;

    /// Connections of all its acceptors, and those on their way to one. From any thread.
    std::size_t connections() const noexcept;

private:
    friend class Acceptor;

    struct Member {
        Member(Acceptor& the_acceptor, Reactor& its_reactor, std::size_t the_most) noexcept
            : acceptor(&the_acceptor), reactor(its_reactor), most(the_most) {}
        std::size_t connections() const noexcept { return live + on_the_way; }

        Acceptor* acceptor;  // null once it has closed; for its own thread
        Reactor& reactor;
        const std::size_t most;
        std::size_t live = 0;  // under the lock, as the next two
        std::size_t on_the_way = 0;
        bool waits = false;  // for room, to accept again
    };
    using MemberPointer = std::shared_ptr<Member>;

    // From the member's own thread.
    MemberPointer join(Acceptor& acceptor, Reactor& reactor, std::size_t most);
    void leave(const MemberPointer& member) noexcept;
    void count(Member& member, std::size_t live, std::size_t arrived) noexcept;
    // Is there room? If not, `member` is called when there is.
    bool has_room(Member& member) noexcept;

    void hand_over(Socket socket);
    std::size_t choose() const noexcept;
    void tell_those_who_wait() noexcept;

    const Choice choice_;
    mutable std::mutex mutex_;
    std::vector<MemberPointer> members_;
    std::size_t next_ = 0;
};

}  // namespace reactor
