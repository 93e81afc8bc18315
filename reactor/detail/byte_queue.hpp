// ByteQueue: bytes that wait, in one piece of memory, appended behind and taken from the front. An empty one
// owns nothing, so that an idle connection costs none.
#pragma once

#include <reactor/bytes.hpp>

#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace reactor {

class ByteQueue {
public:
    bool empty() const noexcept { return begin_ == end_; }
    std::size_t size() const noexcept { return end_ - begin_; }
    Bytes view() const noexcept { return {memory_.get() + begin_, size()}; }

    /// Room for at least `size` bytes behind what is there; `commit` says how many were then filled in.
    /// Throws std::bad_alloc, and then nothing has changed.
    std::span<std::byte> prepare(std::size_t size) {
        if (capacity_ - end_ < size) make_room(size);
        return {memory_.get() + end_, capacity_ - end_};
    }
    void commit(std::size_t size) noexcept { end_ += size; }

    void append(Bytes bytes) {
        if (bytes.empty()) return;
        std::memcpy(prepare(bytes.size()).data(), bytes.data(), bytes.size());
        commit(bytes.size());
    }

    /// Drops `size` bytes at the front. The memory goes back when nothing is left.
    void consume(std::size_t size) noexcept {
        begin_ += size;
        if (empty()) clear();
    }

    void clear() noexcept {
        memory_.reset();
        begin_ = end_ = capacity_ = 0;
    }

private:
    // Twice what is needed when it grows, so that every byte moves a bounded number of times; and no more than that
    // when it moves anyway, so that the memory of a burst does not stay for as long as a little is queued.
    void make_room(std::size_t size) {
        const std::size_t used = this->size();
        if (size > most - used) throw std::bad_alloc();
        const std::size_t needed = used + size;
        if (needed <= capacity_ / 2 && needed > capacity_ / 8) {
            std::memmove(memory_.get(), memory_.get() + begin_, used);
        } else {
            const std::size_t capacity = needed > 256 ? 2 * needed : 512;
            std::unique_ptr<std::byte[]> larger(new std::byte[capacity]);
            if (used > 0) std::memcpy(larger.get(), memory_.get() + begin_, used);
            memory_ = std::move(larger);
            capacity_ = capacity;
        }
        begin_ = 0;
        end_ = used;
    }

    static constexpr std::size_t most =
        std::numeric_limits<std::size_t>::max() / 2;  // so that twice it is still a size

    std::unique_ptr<std::byte[]> memory_;
    std::size_t begin_ = 0, end_ = 0, capacity_ = 0;
};

}  // namespace reactor
