// Deadlines in order: a 4-ary heap with a back index, so that cancelling removes at once and leaves nothing
// behind. Moving a deadline later, what every idle timeout does, is a store: the heap catches up when the
// old deadline reaches its top. Users want Timer (reactor/timer.hpp); this is what it stands on.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace reactor {

class REACTOR_EXPORT TimerQueue {
public:
    /// Something with a deadline. Must be cancelled before it is destroyed.
    class Node {
    public:
        Node() = default;
        Node(const Node&) = delete;
        Node& operator=(const Node&) = delete;

        bool scheduled() const noexcept { return place_ != nowhere; }
        /// The last deadline set.
        TimePoint deadline() const noexcept { return deadline_; }

    protected:
        ~Node() = default;

    private:
        friend class TimerQueue;
        /// The deadline has come; the node is no longer scheduled and may be scheduled, or destroyed, here.
        virtual void due() = 0;

        static constexpr std::uint32_t nowhere = UINT32_MAX;
        TimePoint deadline_{};
        std::uint64_t order_ = 0;
        std::uint32_t place_ = nowhere;  // in heap_, or in due_ if in_due_set_
        bool in_due_set_ = false;
    };

    /// Schedules the node, or moves it if it is. Equal deadlines come due in the order of these calls. If
    /// memory runs out (std::bad_alloc) the node is as before.
    void schedule(Node& node, TimePoint deadline);

    /// It will not come due, even if it already belongs to the due set. False if it was not scheduled.
    bool cancel(Node& node) noexcept;

    /// The earliest deadline.
    std::optional<TimePoint> next() noexcept;

    /// Calls every node that is due at `now`, and none that is scheduled meanwhile: the set is fixed first. If
    /// one throws, the exception passes through and the next call goes on with the rest. Returns how many
    /// were called.
    std::size_t run_due(TimePoint now);

    /// Is a due set left over from a call that ended with an exception?
    bool interrupted() const noexcept { return next_due_ < due_.size(); }

    std::size_t size() const noexcept { return heap_.size(); }

private:
    struct Entry {  // the keys are copies, kept beside each other for the cache
        TimePoint deadline;
        std::uint64_t order;
        Node* node;

        bool before(const Entry& other) const noexcept {
            return deadline != other.deadline ? deadline < other.deadline : order < other.order;
        }
    };

    void settle_top() noexcept;
    void sift_up(std::size_t place, Entry entry) noexcept;
    void sift_down(std::size_t place, Entry entry) noexcept;
    void put(std::size_t place, Entry entry) noexcept {
        heap_[place] = entry;
        entry.node->place_ = std::uint32_t(place);
    }
    void remove_at(std::size_t place) noexcept;

    std::vector<Entry> heap_;
    std::vector<Node*> due_;  // null where cancelled
    std::size_t next_due_ = 0;
    std::uint64_t order_ = 0;
};

}  // namespace reactor
