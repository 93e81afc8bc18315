// A descriptor that another thread, or a signal handler, makes readable: eventfd(2) where there is one, because it is
// one descriptor and has a counter that cannot fill up in practice; otherwise a pipe. notify() may be called in a
// signal handler, so it leaves errno as it was.
#include <reactor/beyond_standard_impl.hpp>
#include <reactor/detail/wakeup.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/pipe_ends_impl.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <unistd.h>
#if REACTOR_HAS(EVENTFD)
#include <sys/eventfd.h>
#endif

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

namespace reactor {

Wakeup::Wakeup() {
#if REACTOR_HAS(EVENTFD)
    reading_ = beyond_standard(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (reading_) return;
    if (!call_is_unknown(errno)) throw std::system_error(last_error(), "eventfd");
#endif
    PipeEnds pipe = make_pipe(O_NONBLOCK);
    if (!pipe) throw std::system_error(last_error(), "pipe");
    reading_ = std::move(pipe.reading);
    writing_ = std::move(pipe.writing);
}

void Wakeup::notify() noexcept {
    const int saved = errno;
    const std::uint64_t one = 1;
    // EAGAIN means that the counter, or the pipe, is full: it is readable already. EINTR is tried again.
    while (::write(writing_ ? writing_.get() : reading_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
    errno = saved;
}

void Wakeup::drain() noexcept {
    std::uint64_t buffer[64];
    for (;;) {
        const auto size = ::read(reading_.get(), buffer, sizeof buffer);
        if (size == sizeof buffer || (size < 0 && errno == EINTR)) continue;  // a pipe may hold more
        return;
    }
}

}  // namespace reactor
