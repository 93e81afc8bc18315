// Deadlines in order. Time only goes forward, and that saves the sorting: a deadline waits in one of few buckets,
// chosen by the highest digit (of 6 bits, in nanoseconds) in which it differs from the time of the last run. So a
// bucket spans more the further away it is. Only when its time begins are its entries spread over finer ones, and only
// those that come due together are sorted. To add is an append, to cancel marks the entry as given up, and to move a
// deadline later, as every idle timeout does, is a store: the queue catches up when the old deadline comes. Users want
// Timer (reactor/timer.hpp), which is built on this.
//
//     time of the last run:  … 02 17 40       a deadline of … 02 17 43 is in bucket 43 of the lowest level,
//                                                           … 02 21 05 in bucket 21 of the next one
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
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

        bool scheduled() const noexcept { return home_ != Home::nowhere; }
        /// The last deadline set.
        TimePoint deadline() const noexcept { return deadline_; }

    protected:
        virtual ~Node() = default;

    private:
        friend class TimerQueue;
        /// The deadline has come; the node is no longer scheduled and may be scheduled, or destroyed, here.
        virtual void due() = 0;

        enum class Home : std::uint8_t { nowhere, bucket, front, due_set };

        TimePoint deadline_{};
        std::uint64_t order_ = 0;  // of all calls of schedule()
        std::uint32_t place_ = 0;  // in `places_`
        Home home_ = Home::nowhere;
        bool moved_ = false;  // to a later deadline than that of its entry
    };

    TimerQueue() = default;
    TimerQueue(const TimerQueue&) = delete;
    TimerQueue& operator=(const TimerQueue&) = delete;
    ~TimerQueue();

    /// Schedules the node, or moves it if it is. Equal deadlines come due in the order of these calls. Throws
    /// std::bad_alloc if it was not scheduled, and then it is not; to move one needs no memory.
    void schedule(Node& node, TimePoint deadline);

    /// It will not come due, even if it already belongs to the due set. False if it was not scheduled.
    bool cancel(Node& node) noexcept;

    /// `to`, which is not scheduled, takes the place of `from`: its deadline and its order among equal ones. Afterwards
    /// `from` is not scheduled.
    void move_place(Node& from, Node& to) noexcept;

    /// Does any node wait for a deadline before TimePoint::max(), which never comes? Units: looks at nodes until it has
    /// found one.
    bool awaits_any() const noexcept;

    /// When to call run_due next: the earliest deadline. If others were moved or cancelled in front of it, for a while
    /// an earlier one that was given up.
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
        while (Node* node = take_first_due()) {
            ++called;
            try {
                node->due();
            } catch (...) {
                failed();
            }
        }
        return called;
    }

    /// The same; when all have been called, throws what the first one threw that threw.
    std::size_t run_due(TimePoint now);

    /// How many wait, those of a due set not counted.
    std::size_t size() const noexcept { return waiting_; }
    bool empty() const noexcept { return waiting_ == 0; }

private:
    using Key = std::uint64_t;  // a TimePoint without a sign
    using Index = std::uint32_t;
    static constexpr Index none = ~Index(0);

    // The target of an entry. A node has one for as long as it is scheduled, and may lie anywhere.
    struct Place {
        Node* node = nullptr;
        std::uint32_t generation = 0;  // an entry with another one was given up
        Index next = none;             // of the front, or of the due set
        Index previous = none;
    };
    struct Entry {
        Key key;
        Index place;
        std::uint32_t generation;
    };
    struct Chunk {
        Chunk* next = nullptr;
        std::uint32_t count = 0;
        static constexpr std::uint32_t size = 31;
        Entry entries[size];
    };
    struct Bucket {
        Chunk* first = nullptr;
        Chunk* last = nullptr;
        Entry least{};            // the earliest, unless it was given up since
        std::uint32_t count = 0;  // of entries, also those that were given up
        std::uint32_t asked = 0;  // how often for the earliest, while that was one that was given up

        void add(const Entry& entry) noexcept;  // there is room in `last`
        bool full() const noexcept { return last == nullptr || last->count == Chunk::size; }
        void append(Chunk* chunk) noexcept;
    };
    static constexpr unsigned digit_bits = 6;
    static constexpr std::size_t level_count = (64 + digit_bits - 1) / digit_bits;
    struct Level {
        std::uint64_t filled = 0;  // a bit for each bucket with entries
        Bucket buckets[std::size_t(1) << digit_bits];
    };
    struct Position {
        unsigned level;
        unsigned digit;
    };
    struct Chain {  // through the places: it needs no memory
        Index first = none;
        Index last = none;
        bool empty() const noexcept { return first == none; }
    };

    bool valid(const Entry& entry) const noexcept { return places_[entry.place].generation == entry.generation; }
    Node& node_of(const Entry& entry) const noexcept { return *places_[entry.place].node; }
    void grow_places();
    void leave(Node& node) noexcept;

    Position position_of(Key key) const noexcept;
    Key begin_of(Position at) const noexcept;
    Bucket& bucket_at(Position at) noexcept { return levels_[at.level]->buckets[at.digit]; }
    Bucket* bucket_of(Key key) noexcept;
    bool first_filled(Position& at) const noexcept;
    void note_count(Position at) noexcept;
    void file(Node& node) noexcept;
    bool file_in_bucket(Key key, Index place) noexcept;
    bool add(Bucket& bucket, const Entry& entry) noexcept;
    template <class Visit>
    void consume(Bucket& bucket, Bucket& rest, bool looks_at_nodes, Visit visit) noexcept;
    void tidy(Bucket& bucket) noexcept;
    void sweep() noexcept;
    bool has_first(Bucket& bucket) noexcept;
    std::optional<TimePoint> find_next() noexcept;

    void take_due(TimePoint now) noexcept;
    void take_due_of_front(Key now) noexcept;
    void spread(Position at, Key now) noexcept;
    void take_as_due(Chain& due, Node& node) noexcept;
    Node* take_first_due() noexcept;

    void link(Chain& chain, Index place) noexcept;
    void unlink(Chain& chain, Index place) noexcept;
    void append(Chain& chain, Chain more) noexcept;
    bool before(Index one, Index other) const noexcept;
    Chain merged(Chain one, Chain other) noexcept;
    Chain sorted(Chain chain) noexcept;

    Key base_ = 0;  // the time of the last run, which decides on the buckets
    std::unique_ptr<Level> levels_[level_count];
    std::uint32_t levels_filled_ = 0;  // a bit for each
    Chain front_;                      // nothing later than the base; and for want of memory anything
    std::size_t waiting_ = 0;
    std::size_t given_up_ = 0;  // entries
    std::vector<Place> places_;
    std::vector<Index> free_;
    Chunk* spare_ = nullptr;
    Chain due_;
    bool in_order_ = true;  // those taken as due
    std::uint64_t order_ = 0;
};

}  // namespace reactor
