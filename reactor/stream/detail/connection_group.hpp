// ConnectionGroup: shared by the connections of one acceptor or connector, which hold one. It is no interface.
#pragma once

#include <reactor/detail/internals.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/stream/rate_limit.hpp>
#include <reactor/stream/transport.hpp>

#include <cstddef>
#include <system_error>
#include <utility>

namespace reactor {

/// The limits and counts of a set of connections of one reactor, and the owner that is called when one has ended. It
/// lives until its owner and the last of its connections have let go of it.
class REACTOR_EXPORT ConnectionGroup {
public:
    class Owner {
    public:
        /// One of the group's connections is gone. Comes at the end of a turn, after `disconnected`.
        virtual void connection_ended(const OwnedHandler& connection) noexcept = 0;
        /// The loop is being drained: nothing that would become a connection may be begun any more. What is under way
        /// goes on if connections are `left`.
        virtual void no_new_ones(Draining how) noexcept = 0;

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
    void enter_loop(Workspace& loop) noexcept;
    void leave_loop() noexcept;
    void note_unsent(std::size_t bytes) noexcept;
    void note_end(std::error_code reason) noexcept;

    /// The tokens of all together.
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
    Workspace* workspace;  ///< their reactor's; null while its only connection is on the way to another
    Owner* owner;          ///< null once it is gone
    ConnectionCounts counts;

private:
    ConnectionGroup(const ConnectionOptions& options, Workspace& space, Owner* the_owner) noexcept
        : limits(options.limits.bounded()),
          rates(options.rates),
          budget(options.rates_together),
          limits_rates(options.rates.any() || options.rates_together.any()),
          descriptors(options.descriptors),
          workspace(&space),
          owner(the_owner) {}
    std::size_t references_ = 0;
};

}  // namespace reactor
