// Channel<T>: a bounded queue between tasks. A slow receiver slows the senders down.
#pragma once

#include <reactor/coroutine/detail/ready_list.hpp>

#include <cstddef>
#include <deque>
#include <optional>
#include <stdexcept>
#include <utility>

namespace reactor {

/// Values in their order, at most `capacity` of them: `co_await channel.send(x)` waits for room, and returns false once
/// the channel is closed; `co_await channel.receive()` waits for a value, and returns none once it is closed and empty.
/// Each value is received once; one that a destroyed receiver was about to take goes to the next. Thread: the loop's.
/// Errors: std::invalid_argument for a capacity of 0, and std::bad_alloc. Lifetime: tasks that wait when it is
/// destroyed are never resumed.
template <class T>
class Channel {
public:
    explicit Channel(std::size_t capacity) : capacity_(capacity) {
        if (capacity == 0) throw std::invalid_argument("Channel: a capacity of 0");
    }
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

    class SendOperation;
    class ReceiveOperation;
    SendOperation send(T value) { return SendOperation(*this, std::move(value)); }
    ReceiveOperation receive() noexcept { return ReceiveOperation(*this); }

    /// From callbacks: false if there is no room, or it is closed.
    bool try_send(T value) {
        if (closed_ || values_.size() >= capacity_) return false;
        values_.push_back(std::move(value));
        wake();
        return true;
    }

    /// Nothing more can be sent. Values that are there can still be received.
    void close() noexcept {
        closed_ = true;
        wake();
    }

    std::size_t size() const noexcept { return values_.size(); }
    bool closed() const noexcept { return closed_; }

private:
    struct Place : coroutine_detail::Link {
        coroutine_detail::ReadyList* ready = nullptr;
        bool* woken = nullptr;
    };

    // Each value has one receiver that is awake for it, and each free place one sender.
    void wake() noexcept {
        while (!receivers_.empty() && (receivers_awake_ < values_.size() || closed_)) {
            ++receivers_awake_;
            wake_first(receivers_);
        }
        while (!senders_.empty() && (senders_awake_ + values_.size() < capacity_ || closed_)) {
            ++senders_awake_;
            wake_first(senders_);
        }
    }
    static void wake_first(coroutine_detail::LinkList& list) noexcept {
        auto& place = static_cast<Place&>(list.front());
        *place.woken = true;
        place.ready->push(place);
    }

    const std::size_t capacity_;
    std::deque<T> values_;
    coroutine_detail::LinkList senders_, receivers_;
    std::size_t senders_awake_ = 0, receivers_awake_ = 0;  // and not resumed yet
    bool closed_ = false;
};

template <class T>
class Channel<T>::SendOperation : public coroutine_detail::Operation<typename Channel<T>::SendOperation> {
public:
    SendOperation(SendOperation&& other) : channel_(other.channel_), value_(std::move(other.value_)) {}
    ~SendOperation() {
        if (!woken_) return;
        --channel_.senders_awake_;
        channel_.wake();
    }

    bool ready() const noexcept {
        return channel_.closed_ || channel_.values_.size() + channel_.senders_awake_ < channel_.capacity_;
    }
    void start(coroutine_detail::Root& root, coroutine_detail::Continuation continuation) {
        place_.ready = &coroutine_detail::ReadyList::of(root.reactor());
        place_.woken = &woken_;
        place_.continuation = continuation;
        channel_.senders_.push_back(place_);
    }
    bool result() {
        if (std::exchange(woken_, false)) --channel_.senders_awake_;
        if (channel_.closed_) return false;
        channel_.values_.push_back(std::move(value_));
        channel_.wake();
        return true;
    }

private:
    friend class Channel;
    SendOperation(Channel& channel, T value) : channel_(channel), value_(std::move(value)) {}

    Channel& channel_;
    T value_;
    Place place_;
    bool woken_ = false;  // and not resumed yet
};

template <class T>
class Channel<T>::ReceiveOperation : public coroutine_detail::Operation<typename Channel<T>::ReceiveOperation> {
public:
    ReceiveOperation(ReceiveOperation&& other) noexcept : channel_(other.channel_) {}
    ~ReceiveOperation() {
        if (!woken_) return;
        --channel_.receivers_awake_;
        channel_.wake();
    }

    bool ready() const noexcept { return channel_.values_.size() > channel_.receivers_awake_ || closed_and_empty(); }
    void start(coroutine_detail::Root& root, coroutine_detail::Continuation continuation) {
        place_.ready = &coroutine_detail::ReadyList::of(root.reactor());
        place_.woken = &woken_;
        place_.continuation = continuation;
        channel_.receivers_.push_back(place_);
    }
    std::optional<T> result() {
        if (std::exchange(woken_, false)) --channel_.receivers_awake_;
        if (channel_.values_.empty()) return std::nullopt;
        std::optional<T> value(std::move(channel_.values_.front()));
        channel_.values_.pop_front();
        channel_.wake();
        return value;
    }

private:
    friend class Channel;
    explicit ReceiveOperation(Channel& channel) noexcept : channel_(channel) {}
    bool closed_and_empty() const noexcept { return channel_.closed_ && channel_.values_.empty(); }

    Channel& channel_;
    Place place_;
    bool woken_ = false;
};

}  // namespace reactor
