#include <reactor/timer_queue.hpp>

#include <algorithm>

namespace reactor {

namespace {
constexpr std::size_t arity = 4;  // four children share two cache lines, and the heap is half as deep
}

void TimerQueue::schedule(Node& node, TimePoint deadline) {
    if (!node.scheduled() || node.in_due_set_) {
        heap_.push_back({});  // first: if this throws, nothing has changed
        cancel(node);
        node.deadline_ = deadline;
        node.order_ = ++order_;
        sift_up(heap_.size() - 1, {deadline, node.order_, &node});
        return;
    }
    node.deadline_ = deadline;
    node.order_ = ++order_;
    // Later than the key it stands under: it can stay there until that key reaches the top.
    if (deadline < heap_[node.place_].deadline) sift_up(node.place_, {deadline, node.order_, &node});
}

bool TimerQueue::cancel(Node& node) noexcept {
    if (!node.scheduled()) return false;
    if (node.in_due_set_) {
        due_[node.place_] = nullptr;
        node.in_due_set_ = false;
    } else {
        remove_at(node.place_);
    }
    node.place_ = Node::nowhere;
    return true;
}

std::optional<TimePoint> TimerQueue::next() noexcept {
    if (heap_.empty()) return std::nullopt;
    settle_top();
    return heap_.front().deadline;
}

std::size_t TimerQueue::run_due(TimePoint now) {
    if (!interrupted()) {
        due_.clear();
        next_due_ = 0;
        for (auto earliest = next(); earliest && *earliest <= now; earliest = next()) {
            Node& node = *heap_.front().node;
            due_.push_back(&node);  // first: if this throws, the node still waits in the heap
            remove_at(0);
            node.place_ = std::uint32_t(due_.size() - 1);
            node.in_due_set_ = true;
        }
    }
    std::size_t called = 0;
    while (interrupted()) {
        Node* node = due_[next_due_++];
        if (node == nullptr) continue;
        node->place_ = Node::nowhere;
        node->in_due_set_ = false;
        ++called;
        node->due();
    }
    return called;
}

// Brings the keys at the top up to date until the top is what it says.
void TimerQueue::settle_top() noexcept {
    for (;;) {
        const Entry& top = heap_.front();
        if (top.order == top.node->order_) return;
        sift_down(0, {top.node->deadline_, top.node->order_, top.node});
    }
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
