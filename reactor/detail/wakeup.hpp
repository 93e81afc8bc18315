// Wakeup: a descriptor that another thread, or a signal handler, makes readable to end a loop's wait.
// eventfd(2) where there is one, a pipe elsewhere.
#pragma once

#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>

namespace reactor {

class REACTOR_EXPORT Wakeup {
public:
    /// Throws std::system_error if there is no descriptor to be had.
    Wakeup();

    /// The descriptor that the loop watches for `readable`.
    int descriptor() const noexcept { return reading_.get(); }

    /// Makes the descriptor readable; any number of calls before a `drain` are one. From any thread and from
    /// signal handlers; never blocks; leaves errno alone.
    void notify() noexcept;

    /// Makes it unreadable again.
    void drain() noexcept;

private:
    FileDescriptor reading_;
    FileDescriptor writing_;  // the pipe's other end; none with eventfd
};

}  // namespace reactor
