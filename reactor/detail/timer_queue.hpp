// Deadlines in order. A program that sets the same few durations again and again, as nearly every one does, appends
// each time to a list that is sorted already. Such lists cost neither a search nor memory, and form by themselves for
// the usual durations. A deadline that fits none of them is in a 4-ary heap with a back index. Either way cancelling
// removes at once and leaves nothing behind, and moving a deadline later, what every idle timeout does, is a store: the
// queue catches up when the old deadline is the next. Users want Timer (reactor/timer.hpp), which is built on this.
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
    /// Something with a deadline. Must be cancelled, or its place moved, before it is destroyed.
    class Node {
    public:
        Node() = default;
        Node(const Node&) = delete;
        Node& operator=(const Node&) = delete;

        bool scheduled() const noexcept { return home_ != nowhere; }
        /// The last deadline set.
        TimePoint deadline() const noexcept { return deadline_; }

    protected:
        virtual ~Node() = default;

    private:
        friend class TimerQueue;
        /// The deadline has come; the node is no longer scheduled and may be scheduled, or destroyed, here.
        virtual void due() = 0;

        // Where it stands: one of the lists by its number, or one of these.
        static constexpr std::uint8_t nowhere = 255, in_heap = 254, in_due_set = 253;

        TimePoint deadline_{};
        std::uint64_t order_ = 0;
        TimePoint key_{};  // in a list: its place in the order; its deadline may be later meanwhile
        Node* previous_ = nullptr;
        Node* next_ = nullptr;
        std::uint32_t place_ = 0;  // in the heap
        std::uint8_t home_ = nowhere;
        bool moved_ = false;  // in a list: its key is out of date
    };

    TimerQueue() = default;
    TimerQueue(const TimerQueue&) = delete;
    TimerQueue& operator=(const TimerQueue&) = delete;

    /// Schedules the node, or moves it if it is. Equal deadlines come due in the order of these calls. If
    /// memory runs out (std::bad_alloc) the node is as before.
    void schedule(Node& node, TimePoint deadline);

    /// It will not come due, even if it already belongs to the due set. False if it was not scheduled.
    bool cancel(Node& node) noexcept;

    /// `to`, which is not scheduled, takes the place of `from`: its deadline and its order among equal ones. Afterwards
    /// `from` is not scheduled.
    void move_place(Node& from, Node& to) noexcept;

    /// Does any node wait for a deadline before TimePoint::max(), which never comes? Units: looks at nodes until it has
    /// found one.
    bool awaits_any() const noexcept;

    /// When to call run_due next: the earliest deadline; or, while more of those in front than a few have been moved
    /// later, one that was given up.
    std::optional<TimePoint> next() noexcept {
        if (empty()) return std::nullopt;
        return find_next();
    }

    /// Calls every node that is due at `now`, and none that is scheduled meanwhile: the set is fixed first. Where one
    /// throws, `failed` is called in a catch block; it must not throw, and the rest is called next. Returns how many
    /// were called.
    template <class Failed>
    std::size_t run_due(TimePoint now, Failed failed) {
        take_due(now);
        std::size_t called = 0;
        while (due_.first != nullptr) {
            Node& node = *due_.first;
            take_out(node);
            ++called;
            try {
                node.due();
            } catch (...) {
                failed();
            }
        }
        return called;
    }

    /// The same; when all have been called, throws what the first one threw that threw.
    std::size_t run_due(TimePoint now);

    /// How many wait, those of a due set not counted.
    std::size_t size() const noexcept { return heap_.size() + listed_; }
    bool empty() const noexcept { return listed_ == 0 && heap_.empty(); }

private:
    struct Entry {  // the keys are copies, kept beside each other for the cache
        TimePoint deadline;
        std::uint64_t order;
        Node* node;

        bool before(const Entry& other) const noexcept {
            return deadline != other.deadline ? deadline < other.deadline : order < other.order;
        }
    };

    struct List {
        Node* first = nullptr;
        Node* last = nullptr;
        TimePoint latest{};  // no key in it is later

        void insert_behind(Node* place, Node& node) noexcept;
        void remove(Node& node) noexcept;
    };

    std::optional<TimePoint> find_next() noexcept;
    List* list_for(TimePoint deadline) noexcept;
    void insert(List& list, Node* place, Node& node) noexcept;
    void append(List& list, Node& node) noexcept;
    void take_out(Node& node) noexcept;
    void settle_first(List& list) noexcept;
    void settle_top() noexcept;
    Node* first_due(TimePoint now) noexcept;
    void take_due(TimePoint now) noexcept;
    bool top_moved() const noexcept;
    void sift_up(std::size_t place, Entry entry) noexcept;
    void sift_down(std::size_t place, Entry entry) noexcept;
    void put(std::size_t place, Entry entry) noexcept {
        heap_[place] = entry;
        entry.node->place_ = std::uint32_t(place);
    }
    void remove_at(std::size_t place) noexcept;

    // More than a program has usual durations; each is looked at when a deadline is set, and when the next is sought.
    static constexpr std::size_t most_lists = 12;

    List lists_[most_lists];
    std::size_t lists_in_use_ = 0;  // those behind are empty
    std::size_t listed_ = 0;
    std::vector<Entry> heap_;
    List due_;
    std::uint64_t order_ = 0;
};

}  // namespace reactor
