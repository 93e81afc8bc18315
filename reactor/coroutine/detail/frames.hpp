// The memory of coroutine frames: each thread keeps a bounded number of freed blocks of each size, and gives them out
// again. A frame needs no look at its parameters to find its list, and may be freed on another thread, as a connection
// that has moved to another loop does.
#pragma once

#include <reactor/export.hpp>

#include <cstddef>

namespace reactor {

/// Frames of coroutines, and other blocks of the same free list, as this thread counts them.
struct CoroutineFrames {
    std::size_t allocated = 0;  ///< blocks given out
    std::size_t freed = 0;      ///< blocks given back; on this thread more than it gave out if connections moved here
    std::size_t from_heap = 0;  ///< allocations of `operator new` that were needed for them
    std::size_t alive() const noexcept { return allocated - freed; }
};

/// The counts of the calling thread. For tests and measurements.
REACTOR_EXPORT CoroutineFrames coroutine_frames() noexcept;

/// Gives the blocks that this thread keeps back to the heap. It keeps at most 256 KiB of them otherwise.
REACTOR_EXPORT void release_coroutine_frames() noexcept;

namespace coroutine_detail {

/// Throws std::bad_alloc.
REACTOR_EXPORT void* allocate_frame(std::size_t size);
REACTOR_EXPORT void free_frame(void* block, std::size_t size) noexcept;

}  // namespace coroutine_detail

}  // namespace reactor
