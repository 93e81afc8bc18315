// The queue of timers: a radix queue. An entry moves to finer buckets as its time comes near, at most once a level, and
// there are five levels between a nanosecond and a second. Spreading a bucket reads its entries in a row, and touches
// their nodes only when they may be due. Only a place needs memory: where there is none for a chunk, the node goes into
// a list that is looked through each time.
#include <reactor/detail/timer_queue.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <exception>
#include <limits>
#include <new>
#include <utility>

namespace reactor {

namespace {

constexpr std::uint64_t sign = std::uint64_t(1) << 63;

std::uint64_t key_of(TimePoint time) noexcept {
    return std::uint64_t(time.time_since_epoch().count()) ^ sign;
}

TimePoint time_of(std::uint64_t key) noexcept {
    return TimePoint(Duration(std::int64_t(key ^ sign)));
}

// Null without memory. Not `new (std::nothrow)`: programs that have an operator new of their own seldom have that one,
// too, and AddressSanitizer then takes its counterpart for the wrong one.
template <class T>
T* make_or_null() noexcept {
    try {
        return new T;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

constexpr std::size_t most_given_up_beside = 64;  // entries, beside as many as wait
constexpr std::uint32_t looks_each = 16;          // entries that one question for the next deadline may cost

}  // namespace

TimerQueue::~TimerQueue() {
    const auto destroy = [](Chunk* chunk) {
        while (chunk != nullptr) delete std::exchange(chunk, chunk->next);
    };
    for (const auto& level : levels_) {
        if (level == nullptr) continue;
        for (Bucket& bucket : level->buckets) destroy(bucket.first);
    }
    destroy(spare_);
}

// ── buckets ──

void TimerQueue::Bucket::append(Chunk* chunk) noexcept {
    (last == nullptr ? first : last->next) = chunk;
    last = chunk;
}

void TimerQueue::Bucket::add(const Entry& entry) noexcept {
    if (count == 0 || entry.key < least.key) least = entry;
    ++count;
    last->entries[last->count++] = entry;
}

bool TimerQueue::add(Bucket& bucket, const Entry& entry) noexcept {
    if (bucket.full()) {
        Chunk* chunk = spare_;
        if (chunk != nullptr) {
            spare_ = std::exchange(chunk->next, nullptr);
        } else {
            chunk = make_or_null<Chunk>();
            if (chunk == nullptr) return false;
        }
        bucket.append(chunk);
    }
    bucket.add(entry);
    return true;
}

// Of a key that is later than the base. Positions are in the order of their keys.
TimerQueue::Position TimerQueue::position_of(Key key) const noexcept {
    const unsigned level = (63 - unsigned(std::countl_zero(key ^ base_))) / digit_bits;
    return {level, unsigned(key >> (level * digit_bits)) & ((1U << digit_bits) - 1)};
}

TimerQueue::Bucket* TimerQueue::bucket_of(Key key) noexcept {
    if (key <= base_) return nullptr;
    const Position at = position_of(key);
    return levels_[at.level] == nullptr ? nullptr : &bucket_at(at);
}

bool TimerQueue::first_filled(Position& at) const noexcept {
    if (levels_filled_ == 0) return false;
    at.level = unsigned(std::countr_zero(levels_filled_));
    at.digit = unsigned(std::countr_zero(levels_[at.level]->filled));
    return true;
}

TimerQueue::Key TimerQueue::begin_of(Position at) const noexcept {
    const unsigned shift = at.level * digit_bits;
    const unsigned above = shift + digit_bits;
    return (above >= 64 ? 0 : base_ >> above << above) | Key(at.digit) << shift;
}

// False without memory, and for a time that is not later than the base.
bool TimerQueue::file_in_bucket(Key key, Index place) noexcept {
    if (key <= base_) return false;
    const Position at = position_of(key);
    std::unique_ptr<Level>& level = levels_[at.level];
    if (level == nullptr) level.reset(make_or_null<Level>());
    if (level == nullptr || !add(level->buckets[at.digit], {key, place, places_[place].generation})) return false;
    note_count(at);
    return true;
}

void TimerQueue::note_count(Position at) noexcept {
    Level& level = *levels_[at.level];
    const std::uint64_t digit = std::uint64_t(1) << at.digit;
    level.filled = level.buckets[at.digit].count > 0 ? level.filled | digit : level.filled & ~digit;
    const std::uint32_t bit = std::uint32_t(1) << at.level;
    levels_filled_ = level.filled != 0 ? levels_filled_ | bit : levels_filled_ & ~bit;
}

// Takes all entries out of the bucket, and drops those that were given up. `visit` returns whether it has put the entry
// somewhere; otherwise it goes to `rest`, for which its own chunk is kept at hand.
template <class Visit>
void TimerQueue::consume(Bucket& bucket, Bucket& rest, bool looks_at_nodes, Visit visit) noexcept {
    Chunk* chunk = std::exchange(bucket, {}).first;
    while (chunk != nullptr) {
        Chunk* const next = std::exchange(chunk->next, nullptr);
        const std::uint32_t count = std::exchange(chunk->count, 0);
        // Their nodes lie anywhere in memory, and are waited for together.
        for (std::uint32_t i = 0; i < count; ++i) __builtin_prefetch(&places_[chunk->entries[i].place]);
        if (looks_at_nodes)
            for (std::uint32_t i = 0; i < count; ++i) __builtin_prefetch(places_[chunk->entries[i].place].node);
        bool kept = false;
        for (std::uint32_t i = 0; i < count; ++i) {
            Entry entry = chunk->entries[i];
            if (!valid(entry)) {
                --given_up_;
            } else if (!visit(entry)) {
                if (rest.full()) {
                    rest.append(chunk);
                    kept = true;
                }
                rest.add(entry);
            }
        }
        if (!kept) chunk->next = std::exchange(spare_, chunk);
        chunk = next;
    }
}

// Drops what was given up, and puts what was moved where it belongs now.
void TimerQueue::tidy(Bucket& bucket) noexcept {
    Bucket rest;
    consume(bucket, rest, true, [&](Entry& entry) {
        Node& node = node_of(entry);
        if (!node.moved_) return false;
        const Key key = key_of(node.deadline_);
        const bool stays = bucket_of(key) == &bucket;
        if (!stays && !file_in_bucket(key, entry.place)) return false;
        entry.key = key;
        node.moved_ = false;
        return !stays;
    });
    bucket = rest;
}

void TimerQueue::sweep() noexcept {
    for (Position at{0, 0}; at.level < level_count; ++at.level) {
        if (levels_[at.level] == nullptr) continue;
        for (at.digit = 0; at.digit < std::size(levels_[at.level]->buckets); ++at.digit) {
            if (bucket_at(at).count == 0) continue;
            tidy(bucket_at(at));
            note_count(at);
        }
    }
}

// ── scheduling ──

void TimerQueue::schedule(Node& node, TimePoint deadline) {
    // The most frequent call of all: an idle timeout is moved by each message, and fires once or never. A few stores
    // do: it can stay where it is until that is the next.
    if (node.home_ == Node::Home::bucket && deadline >= node.deadline_) {
        node.deadline_ = deadline;
        node.order_ = ++order_;
        node.moved_ = true;
        return;
    }
    if (node.scheduled()) {
        leave(node);
    } else {
        if (free_.empty()) grow_places();
        node.place_ = free_.back();
        free_.pop_back();
        places_[node.place_].node = &node;
    }
    node.deadline_ = deadline;
    node.order_ = ++order_;
    file(node);
    if (given_up_ > waiting_ + most_given_up_beside) sweep();
}

// To free a place needs no memory then.
void TimerQueue::grow_places() {
    if (places_.size() == places_.capacity()) {
        const std::size_t more = std::max<std::size_t>(2 * places_.size(), 8);
        free_.reserve(more);
        places_.reserve(more);
    }
    free_.push_back(Index(places_.size()));
    places_.emplace_back();
}

void TimerQueue::file(Node& node) noexcept {
    const bool in_bucket = file_in_bucket(key_of(node.deadline_), node.place_);
    if (!in_bucket) link(front_, node.place_);
    node.home_ = in_bucket ? Node::Home::bucket : Node::Home::front;
    node.moved_ = false;
    ++waiting_;
}

// It keeps its place.
void TimerQueue::leave(Node& node) noexcept {
    const auto home = std::exchange(node.home_, Node::Home::nowhere);
    if (home == Node::Home::due_set) return unlink(due_, node.place_);
    --waiting_;
    if (home == Node::Home::front) return unlink(front_, node.place_);
    ++given_up_;
    // An entry of the same generation, four billion later, would be taken for a good one.
    if (++places_[node.place_].generation == 0) sweep();
}

bool TimerQueue::cancel(Node& node) noexcept {
    if (!node.scheduled()) return false;
    leave(node);
    places_[node.place_].node = nullptr;
    free_.push_back(node.place_);
    return true;
}

void TimerQueue::move_place(Node& from, Node& to) noexcept {
    // A movable Timer lies in the user's memory.
    to.deadline_ = from.deadline_;
    if (!from.scheduled()) return;
    to.order_ = from.order_;
    to.place_ = from.place_;
    to.moved_ = from.moved_;
    to.home_ = std::exchange(from.home_, Node::Home::nowhere);
    places_[to.place_].node = &to;
}

bool TimerQueue::awaits_any() const noexcept {
    // A timer that is started for never only keeps its place, so that starting it in earnest needs no memory.
    return std::any_of(places_.begin(), places_.end(), [](const Place& place) {
        return place.node != nullptr && place.node->home_ != Node::Home::due_set &&
               place.node->deadline_ != TimePoint::max();
    });
}

// Is there an entry in the bucket? Then `least` is the earliest, or one that was given up: a large bucket is not put in
// order for every question. Too early is a wait that ends for nothing, too late would be a bug.
bool TimerQueue::has_first(Bucket& bucket) noexcept {
    if (bucket.count == 0) return false;
    if (valid(bucket.least) && !node_of(bucket.least).moved_) return true;
    if (++bucket.asked * looks_each < bucket.count) return true;
    tidy(bucket);
    return bucket.count > 0;
}

std::optional<TimePoint> TimerQueue::find_next() noexcept {
    Key earliest = std::numeric_limits<Key>::max();
    for (Index place = front_.first; place != none; place = places_[place].next)
        earliest = std::min(earliest, key_of(places_[place].node->deadline_));
    for (Position at; first_filled(at);) {
        const bool found = has_first(bucket_at(at));
        note_count(at);
        if (!found) continue;
        earliest = std::min(earliest, bucket_at(at).least.key);
        break;
    }
    return time_of(earliest);
}

// ── the due ones ──

std::size_t TimerQueue::run_due(TimePoint now) {
    std::exception_ptr failure;
    const std::size_t called = run_due(now, [&] {
        if (!failure) failure = std::current_exception();
    });
    if (failure) std::rethrow_exception(failure);
    return called;
}

// All that are due are taken out before the first is called. A callback that starts a timer of zero adds it to the
// front, and so to a later iteration; one that cancels another finds it in this set.
void TimerQueue::take_due(TimePoint now) noexcept {
    const Key time = key_of(now);
    in_order_ = true;
    if (!front_.empty()) take_due_of_front(time);
    for (Position at; first_filled(at) && begin_of(at) <= time;) {
        base_ = begin_of(at);
        spread(at, time);
    }
    base_ = std::max(base_, time);  // a clock may be set back
    if (!in_order_) append(due_, sorted(std::exchange(due_, {})));
}

void TimerQueue::take_due_of_front(Key now) noexcept {
    Chain due;
    for (Index place = front_.first; place != none;) {
        Node& node = *places_[place].node;
        place = places_[place].next;
        const Key key = key_of(node.deadline_);
        if (key <= now) {
            if (key > base_) in_order_ = false;  // there was no memory to put it where it belongs
            unlink(front_, node.place_);
            take_as_due(due, node);
        } else if (file_in_bucket(key, node.place_)) {
            unlink(front_, node.place_);
            node.home_ = Node::Home::bucket;
        }
    }
    append(due_, sorted(due));
}

// The base is where the bucket begins. Due ones are taken from a small bucket, and from one where all are
// equal; the others go to finer ones.
void TimerQueue::spread(Position at, Key now) noexcept {
    Bucket& bucket = bucket_at(at);
    const bool finest = at.level == 0 || bucket.count <= Chunk::size;
    const Key end = std::min(now, finest ? base_ | ((Key(1) << at.level * digit_bits) - 1) : base_);
    Chain due;
    Bucket rest;  // of which there is none
    consume(bucket, rest, finest, [&](const Entry& entry) {
        Node& node = node_of(entry);
        Key key = entry.key;
        if (key <= end && node.moved_) key = key_of(node.deadline_);
        if (key <= end) {
            take_as_due(due, node);
        } else if (file_in_bucket(key, entry.place)) {
            if (key != entry.key) node.moved_ = false;
        } else if (key_of(node.deadline_) <= now) {
            in_order_ = false;
            take_as_due(due, node);
        } else {
            link(front_, entry.place);
            node.home_ = Node::Home::front;
            node.moved_ = false;
        }
        return true;
    });
    note_count(at);
    append(due_, sorted(due));
}

void TimerQueue::take_as_due(Chain& due, Node& node) noexcept {
    node.home_ = Node::Home::due_set;
    --waiting_;
    link(due, node.place_);
}

TimerQueue::Node* TimerQueue::take_first_due() noexcept {
    if (due_.empty()) return nullptr;
    Node& node = *places_[due_.first].node;
    const Index next = places_[due_.first].next;
    if (next != none) {  // the next one's way through memory begins while this one is called
        __builtin_prefetch(places_[next].node);
        if (places_[next].next != none) __builtin_prefetch(&places_[places_[next].next]);
    }
    cancel(node);
    return &node;
}

// ── chains, and the order of those that are due ──

void TimerQueue::link(Chain& chain, Index place) noexcept {
    places_[place].next = none;
    places_[place].previous = chain.last;
    (chain.empty() ? chain.first : places_[chain.last].next) = place;
    chain.last = place;
}

void TimerQueue::unlink(Chain& chain, Index place) noexcept {
    const Place& out = places_[place];
    (out.next == none ? chain.last : places_[out.next].previous) = out.previous;
    (out.previous == none ? chain.first : places_[out.previous].next) = out.next;
}

// In `more` the way back may be wrong.
void TimerQueue::append(Chain& chain, Chain more) noexcept {
    for (Index place = more.first; place != none;) link(chain, std::exchange(place, places_[place].next));
}

bool TimerQueue::before(Index one, Index other) const noexcept {
    const Node& first = *places_[one].node;
    const Node& second = *places_[other].node;
    return first.deadline_ != second.deadline_ ? first.deadline_ < second.deadline_ : first.order_ < second.order_;
}

TimerQueue::Chain TimerQueue::merged(Chain one, Chain other) noexcept {
    Chain all;
    while (!one.empty() && !other.empty()) {
        Chain& from = before(other.first, one.first) ? other : one;
        const Index place = from.first;
        from.first = places_[place].next;
        link(all, place);
    }
    const Chain& rest = one.empty() ? other : one;
    (all.empty() ? all.first : places_[all.last].next) = rest.first;
    all.last = rest.last;
    return all;
}

// Merges chains of one, two, four and so on: needs no memory. Mostly they are in order, since they were added so.
TimerQueue::Chain TimerQueue::sorted(Chain chain) noexcept {
    Index place = chain.first;
    while (place != chain.last && before(place, places_[place].next)) place = places_[place].next;
    if (place == chain.last) return chain;
    std::array<Chain, 32> runs;
    std::size_t used = 0;
    for (Index next = chain.first; next != none;) {
        Chain run{next, next};
        next = std::exchange(places_[next].next, none);
        std::size_t i = 0;
        for (; i < used && !runs[i].empty(); ++i) run = merged(std::exchange(runs[i], {}), run);
        runs[i] = run;
        used = std::max(used, i + 1);
    }
    Chain all;
    for (const Chain& run : runs)
        if (!run.empty()) all = all.empty() ? run : merged(run, all);
    return all;
}

}  // namespace reactor
