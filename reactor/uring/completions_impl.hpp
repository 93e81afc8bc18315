// Completions: the engine that moves the bytes of connections on io_uring. A connection asks it where it would call
// recv(2) and send(2); all else of the connection is the same on every backend. Not installed.
//
// What it obeys:
// - Input that has come waits here, in order, and counts as if it waited in the kernel: it makes the descriptor
//   readable, level-triggered, for as long as the connection wants to read.
// - A small send is collected, and handed over together with all others by the wait. It never waits in the kernel:
//   bytes that a socket does not take go back to its connection before the loop goes on. Nothing may overtake it:
//   before a connection touches its socket or its output in any other way, it sends it at once (`send_collected`).
// - Memory that the kernel may write to, the pool, lives as long as the engine. A connection may go at any time: its
//   completions that come late find another life of the descriptor's slot, and only give their buffer back.
// - Connections that the kernel has accepted wait here too, and make their listening socket readable, until its
//   acceptor takes them (completions_accepting.cpp).
// - What completions have nothing for (bulk, room to write, errors, descriptors, rates, files, splice) goes the way of
//   readiness: epoll says when, and the connection calls recv(2) and send(2) itself. The ring's own poll would not do.
//   It completes at once, whatever was asked for, when the peer has shut its side (POLLRDHUP, Linux 6.18), and it holds
//   the file.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/demultiplexer.hpp>
#include <reactor/event_handler.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/uring/completion_queue.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace reactor {

class REACTOR_INTERNAL Completions {
public:
    /// Tells a connection that its collected bytes were not all taken. As send(2): so many were, or -1 and errno. Must
    /// call no protocol.
    using SentLess = void (*)(void* sender, ssize_t count, Bytes bytes) noexcept;

    static constexpr std::size_t buffer_size = 2048;
    /// A larger piece is worth a system call of its own.
    static constexpr std::size_t largest_send = 4096;

    /// Throws std::bad_alloc.
    explicit Completions(std::unique_ptr<CompletionQueue> queue);
    ~Completions();

    // ── for connections ──

    /// From now on this descriptor is a connection's. Throws std::bad_alloc.
    void join(int descriptor);
    /// It leaves at the end of this iteration: its requests are cancelled together with those of others that do.
    void leave_soon(int descriptor) noexcept;
    /// It is not any more. When this returns the kernel has let go of the file.
    void leave(int descriptor) noexcept;
    /// From now on this listening socket's connections are accepted ahead, while it wants to read: they wait here, and
    /// make it readable. It leaves as a connection does. Throws std::bad_alloc.
    void join_listener(int descriptor);
    /// The next connection that waits here; none if there is none.
    FileDescriptor accept(int descriptor) noexcept;
    /// Nothing is received ahead of the connection: as with readiness. Or it is again.
    void receive_ahead(int descriptor, bool ahead) noexcept;
    /// Stops receiving, and waits until that is so. Input that had come waits here.
    void stop(int descriptor) noexcept;

    /// The next input where it lies, if that is one piece of `most` bytes at most; empty otherwise. It stays until
    /// `give_back`.
    Bytes take(int descriptor, std::size_t most) noexcept {
        Slot& slot = slots_[std::size_t(descriptor)];
        if (slot.first == none || slot.first != slot.last || slot.taken != 0 || lengths_[slot.first] > most) return {};
        taken_ = slot.first;
        emptied(descriptor, slot);
        return {buffer(taken_), lengths_[taken_]};
    }
    void give_back() noexcept { release(std::exchange(taken_, none)); }
    /// As recv(2): the input that waits here, and then the socket's own.
    ssize_t receive(int descriptor, std::byte* into, std::size_t size) noexcept;
    /// May the socket be read from? False while there is input here, or about to come.
    bool reads_directly(int descriptor) const noexcept {
        const Slot& slot = slots_[std::size_t(descriptor)];
        return slot.first == none && slot.error == 0 && !slot.receiving;
    }
    /// The error that waits behind the input, or 0.
    int error(int descriptor) const noexcept { return slots_[std::size_t(descriptor)].error; }
    /// So many bytes wait here.
    std::size_t held(int descriptor) const noexcept;

    /// What is called for every sender.
    void on_sent_less(SentLess sent_less) noexcept { sent_less_ = sent_less; }
    /// Collects a copy. False if it is too much for that, or if the sender has collected something already.
    bool collect(int descriptor, Bytes bytes, void* sender) noexcept;
    bool has_collected(int descriptor, const void* sender) const noexcept {
        const std::size_t index = slots_[std::size_t(descriptor)].collected;
        return index < collected_size_ && collected_[index].sender == sender;
    }
    std::size_t collected(int descriptor) const noexcept {
        return collected_[slots_[std::size_t(descriptor)].collected].size;
    }
    /// Sends it now, by itself: as send(2). `bytes` is what it was.
    ssize_t send_collected(int descriptor, Bytes& bytes) noexcept;

    /// The pool's memory, all of it: a piece that begins in there ends in there.
    const std::byte* pool() const noexcept { return pool_.get(); }
    static constexpr std::size_t pool_size() noexcept { return most_buffers * buffer_size; }

    // ── for the demultiplexer ──

    bool owns(int descriptor) const noexcept {
        return std::size_t(descriptor) < slots_.size() && slots_[std::size_t(descriptor)].joined;
    }
    /// Is there any connection?
    bool empty() const noexcept { return joined_ == 0; }
    void update(Token token, Interest wanted) noexcept;
    /// The demultiplexer that watches by readiness, from now on. A wait ends when its descriptor turns readable.
    void watch(Demultiplexer& readiness) noexcept;
    /// The same for one that watches nothing yet.
    void watch_anew(Demultiplexer& readiness) noexcept;
    /// Is it to be asked what is ready? The latter says it once.
    bool watched_is_ready() const noexcept { return watched_ready_; }
    bool take_watched_ready() noexcept { return std::exchange(watched_ready_, false); }

    /// Is there an event, or something to be handed over, for which no wait may sleep?
    bool ready() const noexcept;
    bool waits_to_be_handed_over() const noexcept {
        return queue_->waiting() > 0 || !due_.empty() || !watching_ || watched_ready_;
    }
    /// Makes the requests that are due, hands them over, and waits, unless something is ready.
    void wait(std::optional<Duration> limit);
    /// Makes them and hands them over.
    void hand_over() noexcept;
    /// Appends what is ready.
    void tell(std::vector<Event>& events);
    int native_handle() const noexcept { return queue_->descriptor(); }

    /// Everything is requested anew, in another queue: the thread has changed, or the process (`forked`). Throws
    /// std::bad_alloc.
    void renew(std::unique_ptr<CompletionQueue> queue, bool forked);

private:
    static constexpr std::uint16_t none = 0xffff;
    static constexpr std::size_t first_buffers = 64, most_buffers = 4096;
    static constexpr std::size_t arena_size = 256 * 1024;
    // So many small reads in a row, and input is received ahead again.
    static constexpr std::uint8_t bulk_reads = 64;

    enum class Kind : std::uint64_t { watch, receive, end, send, none = CompletionQueue::of_no_request >> 60, accept };
    struct Slot {
        std::uint32_t generation = 0;  // of the token
        std::uint32_t life = 0;        // of a connection; completions carry it
        CompletionQueue::Place receive_at = 0, end_at = 0;
        std::uint16_t first = none, last = none;  // of the buffers that wait
        std::uint16_t taken = 0;                  // so much of the first
        std::uint16_t collected = none;           // its place among those
        std::uint16_t error = 0;                  // behind the buffers
        Interest wanted = Interest::none;
        Interest watched = Interest::none;  // by readiness
        std::uint8_t bulk = 0;              // so many small reads are to come before input is received ahead again
        bool joined : 1 = false;
        bool receiving : 1 = false;  // by a request that has not ended
        bool stopping : 1 = false;   // which is cancelled
        bool at_end : 1 = false;     // the end of the stream is behind the input
        bool by_readiness : 1 = false;
        bool awaits_end : 1 = false;    // by a request that has not ended
        bool ended : 1 = false;         // at least in the peer's direction
        bool lost : 1 = false;          // readiness does not take it
        bool listed : 1 = false;        // in ready_
        bool due : 1 = false;           // in due_
        bool end_stopping : 1 = false;  // awaits_end, and is cancelled
        bool listens : 1 = false;       // a listening socket; at its end are connections that wait
    };
    static_assert(sizeof(Slot) == 32, "two lie in a line of the cache, and are found without a multiplication");
    // The connections of a listening socket that wait here.
    struct Accepted {
        int listener;
        std::vector<int> descriptors;
        std::size_t taken = 0;  // so many of them
    };
    struct Collected {
        void* sender;  // null once it has been sent by itself, or its connection has left
        const std::byte* data;
        std::uint32_t size;
        int descriptor;
        CompletionQueue::Place place;

        Bytes bytes() const noexcept { return {data, size}; }
    };

    static std::uint64_t data_of(Kind kind, std::uint64_t low, std::uint32_t life = 0) noexcept {
        return std::uint64_t(kind) << 60 | low << 32 | life;
    }
    static std::size_t low_of(const Completion& completion) noexcept {
        return std::size_t(completion.data >> 32 & 0xfff'ffff);
    }
    std::byte* buffer(std::uint16_t index) const noexcept { return pool_.get() + index * buffer_size; }
    void release(std::uint16_t index) noexcept { queue_->give(index, {buffer(index), buffer_size}); }
    void grow() noexcept;
    // All of its input was taken.
    void emptied(int descriptor, Slot& slot) noexcept {
        slot.first = slot.last = none;
        --unread_;
        if (slot.receiving) [[likely]]
            return;
        unusual_ = true;
        make_due(descriptor, slot);
    }
    void keep(Slot& slot, std::uint16_t buffer, std::uint16_t size) noexcept;
    void collect_completions(std::span<const Completion> completions) noexcept;
    void received(const Completion& completion) noexcept;
    void accepted(const Completion& completion) noexcept;
    Accepted& accepted_of(int descriptor) noexcept;
    static void drop(Accepted& accepted) noexcept;
    void leave_listener(int descriptor) noexcept;
    void request_accept(int descriptor, Slot& slot);
    void refused(Slot& slot, int error) noexcept;
    void not_cancelled(const Completion& completion) noexcept;
    void end_came(const Completion& completion) noexcept;
    bool withdrawn(CompletionQueue::Place place) noexcept;
    bool cancelled(std::uint64_t data) noexcept;
    void stop_receiving(int descriptor, Slot& slot) noexcept;
    void stop_awaiting_end(int descriptor, Slot& slot) noexcept;
    void drop_input(Slot& slot) noexcept;
    void forget_collected(int descriptor, const Slot& slot) noexcept;
    void forget_all_collected() noexcept;
    void list(int descriptor, Slot& slot) noexcept;
    void list_again() noexcept;
    void make_due(int descriptor, Slot& slot) noexcept;
    void request(int descriptor, Slot& slot);
    void watch(int descriptor, Slot& slot, Interest interest) noexcept;
    void make_requests();
    void flush() noexcept;
    Condition condition_of(const Slot& slot) const noexcept;

    std::unique_ptr<CompletionQueue> queue_;
    Demultiplexer* readiness_ = nullptr;
    std::unique_ptr<std::byte[]> pool_;          // its pages are the kernel's to give when they are first used
    std::vector<std::uint16_t> next_, lengths_;  // by buffer: the one behind it, and its bytes
    std::size_t buffers_ = 0;
    std::uint16_t taken_ = none;
    std::vector<Slot> slots_;
    std::size_t joined_ = 0;
    std::vector<int> ready_, told_, due_;
    std::size_t unread_ = 0;  // slots with input
    bool unusual_ = false;    // one in ready_ or told_ may be ready without
    SentLess sent_less_ = nullptr;
    std::unique_ptr<Collected[]> collected_;
    std::size_t collected_size_ = 0;
    std::vector<Completion> unsent_;
    std::unique_ptr<std::byte[]> arena_;
    std::size_t arena_used_ = 0;
    std::vector<Accepted> accepted_;
    bool watching_ = false, watched_ready_ = false;
    std::uint32_t watch_ = 0;  // which of them
};

}  // namespace reactor
