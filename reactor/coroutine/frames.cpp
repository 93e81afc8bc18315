// The free lists of a thread.
#include <reactor/coroutine/detail/frames.hpp>

#include <new>

namespace reactor {

namespace {

constexpr std::size_t granule = 16;            // sizes are rounded up to this, as malloc does
constexpr std::size_t largest_kept = 2048;     // a larger frame is not kept
constexpr std::size_t most_kept = 256 * 1024;  // bytes, of one thread

struct Block {
    Block* next;
};

// Sizes are rounded up as malloc of glibc does, which keeps 8 bytes of its own in each block.
constexpr std::size_t class_of(std::size_t size) noexcept {
    return (size + 7) / granule;
}
constexpr std::size_t size_of(std::size_t number) noexcept {
    return number * granule + 8;
}

// Trivially destructible parts first: a frame may be freed when the thread's other variables are gone.
struct Lists {
    Block* first[largest_kept / granule + 1];
    std::size_t kept;
    bool closed;  // the thread ends: nothing is kept any more
    CoroutineFrames counts;
};

constinit thread_local Lists lists{};

// Gives the blocks back at the thread's end.
struct Cleanup {
    ~Cleanup() {
        lists.closed = true;
        release_coroutine_frames();
    }
};

void clean_up_at_the_end() noexcept {
    thread_local const Cleanup cleanup;
    (void)cleanup;
}

}  // namespace

CoroutineFrames coroutine_frames() noexcept {
    return lists.counts;
}

void release_coroutine_frames() noexcept {
    for (Block*& first : lists.first) {
        while (Block* const block = first) {
            first = block->next;
            ::operator delete(block);
        }
    }
    lists.kept = 0;
}

namespace coroutine_detail {

void* allocate_frame(std::size_t size) {
    const std::size_t number = class_of(size);
    Lists& all = lists;
    if (size <= largest_kept) [[likely]] {
        if (Block* const block = all.first[number]) [[likely]] {
            all.first[number] = block->next;
            all.kept -= size_of(number);
            ++all.counts.allocated;
            return block;
        }
    }
    void* const block = ::operator new(size_of(number));
    ++all.counts.from_heap;
    ++all.counts.allocated;
    return block;
}

void free_frame(void* block, std::size_t size) noexcept {
    const std::size_t number = class_of(size);
    Lists& all = lists;
    ++all.counts.freed;
    if (size > largest_kept || all.kept + size_of(number) > most_kept || all.closed) [[unlikely]]
        return ::operator delete(block);
    if (all.kept == 0) [[unlikely]]
        clean_up_at_the_end();
    all.first[number] = ::new (block) Block{all.first[number]};
    all.kept += size_of(number);
}

}  // namespace coroutine_detail

}  // namespace reactor
