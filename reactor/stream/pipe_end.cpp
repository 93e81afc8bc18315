// One end of a pipe, a terminal or a socket that others may share. Non-blocking belongs to the open file, and so to all
// who have it (fcntl(2), F_SETFL): set for us, it would break the shell that started this program. So the file is
// opened anew if that is possible, and otherwise the flag is put back at the end.
#include <reactor/stream/pipe_end_impl.hpp>

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <utility>

namespace reactor {

namespace {

// Of the list of those with the flag: their loops may run on several threads.
constinit std::mutex flagged_mutex;

[[noreturn]] void throw_last_error(const char* what) {
    throw std::system_error(last_error(), what);
}

// The terminal's master side: opening its name does not open it, but the next terminal (pts(4), /dev/ptmx).
bool is_master([[maybe_unused]] int descriptor) noexcept {
#if REACTOR_HAS(TIOCGPTN)
    unsigned number = 0;
    return ::ioctl(descriptor, TIOCGPTN, &number) == 0;
#else
    return ::ptsname(descriptor) != nullptr;  // only a master has a name for its other side
#endif
}

// Where the same pipe or terminal can be opened once more; false if nowhere.
bool name_of(int descriptor, std::array<char, 256>& name) noexcept {
#if REACTOR_HAS(PROC)
    // Of the thread: one that has unshared its descriptors has others than the process (unshare(2), CLONE_FILES).
    return std::snprintf(name.data(), name.size(), "/proc/thread-self/fd/%d", descriptor) > 0;
#else
    return ::isatty(descriptor) == 1 && ::ttyname_r(descriptor, name.data(), name.size()) == 0;
#endif
}

// The same pipe or terminal as an open file of our own. Empty where it has no name (no /proc), may not be opened
// (another user's) or has lost its other side.
FileDescriptor opened_anew(int descriptor, mode_t kind) noexcept {
    std::array<char, 256> name;
    if (!S_ISFIFO(kind) && (::isatty(descriptor) != 1 || is_master(descriptor))) return {};
    if (!name_of(descriptor, name)) return {};
    const int mode = ::fcntl(descriptor, F_GETFL) & O_ACCMODE;
    FileDescriptor opened = beyond_standard(::open(name.data(), mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    // When the last writer of a named pipe has gone, poll(2) reports that to a reader that was open before, and not to
    // one that is opened later (Linux 6.18, fifo_open). So the old open file is asked once the new one is there.
    pollfd reading{descriptor, POLLIN, 0};
    if (S_ISFIFO(kind) && (::poll(&reading, 1, 0) < 0 || (reading.revents & POLLHUP) != 0)) return {};
    return opened;
}

// Are these two the same open file? A flag that is changed at one is then seen at the other. O_APPEND means nothing
// for files that are not regular. kcmp(2) would need no change, but containers' filters forbid it.
bool same_open_file(int one, int other) noexcept {
    const int flags = ::fcntl(one, F_GETFL);
    if (flags < 0 || ::fcntl(other, F_GETFL) != flags || ::fcntl(one, F_SETFL, flags ^ O_APPEND) < 0) return false;
    const bool seen = ::fcntl(other, F_GETFL) == (flags ^ O_APPEND);
    ::fcntl(one, F_SETFL, flags);
    return seen;
}

}  // namespace

constinit PipeEnd* PipeEnd::flagged_ = nullptr;

PipeEnd::PipeEnd(FileDescriptor descriptor) : descriptor_(std::move(descriptor)) {
    if (!descriptor_) return;
    struct stat state {};
    if (::fstat(get(), &state) != 0) throw_last_error("PipeTransport: fstat");
    socket_ = S_ISSOCK(state.st_mode);
    if (!socket_ && !S_ISREG(state.st_mode)) {
        if (FileDescriptor opened = opened_anew(get(), state.st_mode)) {
            descriptor_ = std::move(opened);
        } else {
            set_flag();
        }
    }
#if REACTOR_HAS(F_SETNOSIGPIPE)  // there SIGPIPE goes to the process, and without_sigpipe holds back the thread's alone
    ::fcntl(get(), F_SETNOSIGPIPE, 1);
#endif
}

void PipeEnd::set_flag() {
    const std::lock_guard lock(flagged_mutex);
    const int flags = ::fcntl(get(), F_GETFL);
    if (flags < 0) throw_last_error("PipeTransport: fcntl(F_GETFL)");
    if ((flags & O_NONBLOCK) == 0) {
        if (::fcntl(get(), F_SETFL, flags | O_NONBLOCK) < 0) throw_last_error("PipeTransport: fcntl(O_NONBLOCK)");
        flags_ = flags;
    }
    next_ = std::exchange(flagged_, this);
}

void PipeEnd::close() noexcept {
    if (descriptor_) put_flag_back();
    descriptor_.reset();
}

// Another one over the same open file needs the flag still, and puts it back in its turn.
void PipeEnd::put_flag_back() noexcept {
    const std::lock_guard lock(flagged_mutex);
    PipeEnd** place = &flagged_;
    while (*place != nullptr && *place != this) place = &(*place)->next_;
    if (*place == nullptr) return;  // it has none
    *place = next_;
    if (flags_ < 0) return;
    for (PipeEnd* other = flagged_; other != nullptr; other = other->next_) {
        if (!same_open_file(get(), other->get())) continue;
        other->flags_ = std::exchange(flags_, -1);
        return;
    }
    ::fcntl(get(), F_SETFL, std::exchange(flags_, -1));
}

ssize_t PipeEnd::read(std::byte* into, std::size_t size) const noexcept {
    return socket_ ? ::recv(get(), into, size, MSG_DONTWAIT) : ::read(get(), into, size);
}

ssize_t PipeEnd::write(Bytes data) const noexcept {
    if (socket_) return ::send(get(), data.data(), data.size(), MSG_DONTWAIT | send_flags);
    return without_sigpipe(data.size(), [&] { return ::write(get(), data.data(), data.size()); });
}

// A terminal's master that is full when its other side closes: poll(2) says POLLHUP and no POLLERR (Linux 6.18).
bool PipeEnd::hung_up() const noexcept {
    pollfd writing{get(), POLLOUT, 0};
    return ::poll(&writing, 1, 0) == 1 && (writing.revents & (POLLOUT | POLLHUP)) == POLLHUP;
}

}  // namespace reactor
