// The queue of timers: some lists in order of their deadlines, and a heap for those that fit in none. Programs start
// most of their timers with a few durations, each of which makes an ordered list by itself: adding and cancelling there
// touch two neighbours. Only deadlines that come in no order pay for the heap.
#include <reactor/detail/timer_queue.hpp>

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

namespace reactor {

namespace {
constexpr std::size_t arity = 4;  // four children share two cache lines, and the heap is half as deep
}

// ── the lists ──

void TimerQueue::List::insert_behind(Node* place, Node& node) noexcept {
    node.previous_ = place;
    node.next_ = place == nullptr ? first : place->next_;
    (node.next_ == nullptr ? last : node.next_->previous_) = &node;
    (place == nullptr ? first : place->next_) = &node;
}

void TimerQueue::List::remove(Node& node) noexcept {
    (node.next_ == nullptr ? last : node.next_->previous_) = node.previous_;
    (node.previous_ == nullptr ? first : node.previous_->next_) = node.next_;
    // Of an empty list `latest` means nothing: list_for() takes it as empty before it looks.
    if (last != nullptr) latest = last->key_;
}

// Of the lists whose deadlines are all earlier the one that comes nearest, so that a longer duration does not spoil the
// list of a shorter one more than once; or an empty one.
TimerQueue::List* TimerQueue::list_for(TimePoint deadline) noexcept {
    List* nearest = nullptr;
    List* empty = nullptr;
    for (std::size_t i = 0; i < lists_in_use_; ++i) {
        List& list = lists_[i];
        if (list.first == nullptr) {
            empty = &list;
        } else if (list.latest <= deadline && (nearest == nullptr || nearest->latest < list.latest)) {
            nearest = &list;
        }
    }
    if (nearest != nullptr) return nearest;
    if (empty != nullptr) return empty;
    return lists_in_use_ < most_lists ? &lists_[lists_in_use_] : nullptr;
}

void TimerQueue::insert(List& list, Node* place, Node& node) noexcept {
    list.insert_behind(place, node);
    node.key_ = node.deadline_;
    node.home_ = std::uint8_t(&list - lists_);
    node.moved_ = false;
    lists_in_use_ = std::max(lists_in_use_, node.home_ + std::size_t(1));
    ++listed_;
}

void TimerQueue::append(List& list, Node& node) noexcept {
    insert(list, list.last, node);
    list.latest = node.key_;
}

// The first of the list was moved to a later deadline: it goes where that belongs.
void TimerQueue::settle_first(List& list) noexcept {
    Node& node = *list.first;
    take_out(node);
    // Not behind an equal deadline, which may have been set after this one. Nothing is before the earliest of all.
    const bool earliest = node.deadline_ == TimePoint::min();
    if (List* other = earliest ? nullptr : list_for(node.deadline_ - Duration(1))) return append(*other, node);
    try {
        heap_.push_back({});
        node.home_ = Node::in_heap;
        sift_up(heap_.size() - 1, {node.deadline_, node.order_, &node});
    } catch (const std::bad_alloc&) {  // then it is a long way, but the deadline is kept
        Node* place = list.last;
        while (place != nullptr &&
               (place->key_ > node.deadline_ || (place->key_ == node.deadline_ && place->order_ > node.order_)))
            place = place->previous_;
        insert(list, place, node);
    }
}

// ── both ──

void TimerQueue::schedule(Node& node, TimePoint deadline) {
    const bool waits = node.scheduled() && node.home_ != Node::in_due_set;
    // The most frequent call of all: an idle timeout is moved by each message, and fires once or never. Two stores do.
    if (waits && deadline >= node.deadline_) {  // it can stay where it is until that is the next
        node.deadline_ = deadline;
        node.order_ = ++order_;
        node.moved_ = true;
        return;
    }
    if (node.home_ == Node::in_heap) {
        node.deadline_ = deadline;
        node.order_ = ++order_;
        // Not earlier than what it stands under, if it had been moved later before.
        if (deadline < heap_[node.place_].deadline) sift_up(node.place_, {deadline, node.order_, &node});
        return;
    }
    List* list = list_for(deadline);
    if (list == nullptr) heap_.push_back({});  // first: if this throws, nothing has changed
    // Earlier than before, or already taken out as due: it goes where the new deadline belongs.
    if (node.scheduled()) take_out(node);
    node.deadline_ = deadline;
    node.order_ = ++order_;
    if (list != nullptr) return append(*list, node);
    node.home_ = Node::in_heap;
    sift_up(heap_.size() - 1, {deadline, node.order_, &node});
}

bool TimerQueue::cancel(Node& node) noexcept {
    if (!node.scheduled()) return false;
    take_out(node);
    return true;
}

void TimerQueue::move_place(Node& from, Node& to) noexcept {
    // A movable Timer lies in the user's memory: its neighbours, or its place in the heap, must point to the new one.
    to.deadline_ = from.deadline_;
    if (!from.scheduled()) return;
    to.order_ = from.order_;
    to.key_ = from.key_;
    to.previous_ = from.previous_;
    to.next_ = from.next_;
    to.place_ = from.place_;
    to.moved_ = from.moved_;
    to.home_ = std::exchange(from.home_, Node::nowhere);
    if (to.home_ == Node::in_heap) {
        heap_[to.place_].node = &to;
        return;
    }
    List& list = to.home_ == Node::in_due_set ? due_ : lists_[to.home_];
    (to.previous_ == nullptr ? list.first : to.previous_->next_) = &to;
    (to.next_ == nullptr ? list.last : to.next_->previous_) = &to;
}

bool TimerQueue::awaits_any() const noexcept {
    // A timer that is started for never only keeps its place, so that starting it in earnest needs no memory.
    const auto comes = [](const Node& node) { return node.deadline_ != TimePoint::max(); };
    for (std::size_t i = 0; i < lists_in_use_; ++i)
        for (const Node* node = lists_[i].first; node != nullptr; node = node->next_)
            if (comes(*node)) return true;
    return std::any_of(heap_.begin(), heap_.end(), [&](const Entry& entry) { return comes(*entry.node); });
}

void TimerQueue::take_out(Node& node) noexcept {
    if (node.home_ == Node::in_heap) {
        remove_at(node.place_);
    } else if (node.home_ == Node::in_due_set) {
        due_.remove(node);
    } else {
        lists_[node.home_].remove(node);
        --listed_;
        // All loops over the lists end here: a program with one duration looks at one list.
        while (lists_in_use_ > 0 && lists_[lists_in_use_ - 1].first == nullptr) --lists_in_use_;
    }
    node.home_ = Node::nowhere;
}

// A little is put in order each time, so that a program with few timers gets the very deadline, and one that moves
// thousands of them in every turn does not pay for each.
std::optional<TimePoint> TimerQueue::find_next() noexcept {
    constexpr int little = 4;
    for (std::size_t i = 0; i < lists_in_use_; ++i) {
        List& list = lists_[i];
        for (int moved = 0; moved < little && list.first != nullptr && list.first->moved_; ++moved) settle_first(list);
    }
    for (int moved = 0; moved < little && top_moved(); ++moved) settle_top();

    std::optional<TimePoint> earliest;
    if (!heap_.empty()) earliest = heap_.front().deadline;
    for (std::size_t i = 0; i < lists_in_use_; ++i) {
        const Node* node = lists_[i].first;
        // The key, and not the deadline, which may have been moved: too early is a wait that ends for nothing, too late
        // is a bug.
        if (node != nullptr && (!earliest || node->key_ < *earliest)) earliest = node->key_;
    }
    return earliest;
}

// The next of those whose deadline has come, null if there is none.
TimerQueue::Node* TimerQueue::first_due(TimePoint now) noexcept {
    for (std::size_t i = 0; i < lists_in_use_; ++i) {
        List& list = lists_[i];
        if (list.first == nullptr || list.first->key_ > now) continue;
        // With the first all that were moved in a row: they need not end a wait each.
        while (list.first != nullptr && list.first->moved_) settle_first(list);
    }
    while (top_moved() && heap_.front().deadline <= now) settle_top();

    // Among equal deadlines the one that was set first (`order_`), in whatever list it is.
    Node* earliest = nullptr;
    if (!heap_.empty() && heap_.front().deadline <= now) earliest = heap_.front().node;
    for (std::size_t i = 0; i < lists_in_use_; ++i) {
        Node* node = lists_[i].first;
        if (node == nullptr || node->key_ > now) continue;
        if (earliest == nullptr || node->deadline_ < earliest->deadline_ ||
            (node->deadline_ == earliest->deadline_ && node->order_ < earliest->order_))
            earliest = node;
    }
    return earliest;
}

std::size_t TimerQueue::run_due(TimePoint now) {
    std::exception_ptr failure;
    const std::size_t called = run_due(now, [&] {
        if (!failure) failure = std::current_exception();
    });
    if (failure) std::rethrow_exception(failure);
    return called;
}

void TimerQueue::take_due(TimePoint now) noexcept {
    // All that are due are taken out before the first is called. A callback that starts a timer of zero adds it to the
    // lists, and so to a later iteration; one that cancels another finds it in this set.
    while (Node* node = first_due(now)) {
        take_out(*node);
        due_.insert_behind(due_.last, *node);
        node->home_ = Node::in_due_set;
    }
}

// ── the heap ──

bool TimerQueue::top_moved() const noexcept {
    // A node that was moved has another order than its entry in the heap, which was left where it was.
    return !heap_.empty() && heap_.front().order != heap_.front().node->order_;
}

void TimerQueue::settle_top() noexcept {
    Node& node = *heap_.front().node;
    sift_down(0, {node.deadline_, node.order_, &node});
}

void TimerQueue::sift_up(std::size_t place, Entry entry) noexcept {
    while (place > 0) {
        const std::size_t parent = (place - 1) / arity;
        if (!entry.before(heap_[parent])) break;
        put(place, heap_[parent]);
        place = parent;
    }
    put(place, entry);
}

void TimerQueue::sift_down(std::size_t place, Entry entry) noexcept {
    for (;;) {
        const std::size_t first = place * arity + 1;
        if (first >= heap_.size()) break;
        const std::size_t last = std::min(first + arity, heap_.size());
        std::size_t least = first;
        for (std::size_t child = first + 1; child < last; ++child)
            if (heap_[child].before(heap_[least])) least = child;
        if (!heap_[least].before(entry)) break;
        put(place, heap_[least]);
        place = least;
    }
    put(place, entry);
}

// Fills the gap with the last entry, which may belong above or below it.
void TimerQueue::remove_at(std::size_t place) noexcept {
    const Entry last = heap_.back();
    heap_.pop_back();
    if (place == heap_.size()) return;
    if (place > 0 && last.before(heap_[(place - 1) / arity])) {
        sift_up(place, last);
    } else {
        sift_down(place, last);
    }
}

}  // namespace reactor
