// Linked into every test of an adapter: which clocks the library reads, how often it reads a socket that has nothing,
// and whether it closes descriptors that the loop still watches. It stands in for the C library's functions, and prints
// a row for each library when the program ends. The guide's table of libraries has these rows.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace {

struct Row {
    std::set<std::string_view> clocks;
    int closed = 0, closed_while_watched = 0, reads = 0, empty_reads = 0;
};

struct Seen {
    std::mutex mutex;
    std::map<const void*, std::string> libraries;  // by the address of a call
    std::map<std::string, Row> rows;
    std::set<std::pair<int, int>> watched;  // an epoll set of this program's own, and a descriptor in it

    // The file that has made this call; the program itself is "".
    const std::string& library_of(const void* call) {
        const auto [place, is_new] = libraries.try_emplace(call);
        Dl_info caller{}, program{};
        if (is_new && ::dladdr(call, &caller) != 0 && ::dladdr(reinterpret_cast<void*>(&print), &program) != 0 &&
            caller.dli_fbase != program.dli_fbase) {
            const std::string_view path = caller.dli_fname;
            place->second = path.substr(path.rfind('/') + 1);
        }
        return place->second;
    }
    Row& row_of(const void* call) { return rows[library_of(call)]; }

    static Seen& of_all() {
        static Seen& seen = *new Seen;  // for calls after the end of main, too
        return seen;
    }
    static void print() {
        Seen& seen = of_all();
        const std::lock_guard lock(seen.mutex);
        for (const auto& [library, row] : seen.rows) {
            if (library.empty() || library.starts_with("libc.") || library.starts_with("libstdc++")) continue;
            std::printf("| %s | ", library.c_str());
            for (std::string_view clock : row.clocks) std::printf("%s ", clock.data());
            std::printf("| %d of %d reads find nothing | %d of %d closed while watched |\n", row.empty_reads, row.reads,
                        row.closed_while_watched, row.closed);
        }
    }
};

const char* name_of(clockid_t clock) {
    switch (clock) {
        case CLOCK_REALTIME:
        case CLOCK_REALTIME_COARSE: return "wall";
        case CLOCK_MONOTONIC:
        case CLOCK_MONOTONIC_COARSE:
        case CLOCK_MONOTONIC_RAW: return "monotonic";
        case CLOCK_BOOTTIME: return "since the machine was started";
        default: return "of a processor";
    }
}

void note_clock(const void* call, const char* name) {
    Seen& seen = Seen::of_all();
    const std::lock_guard lock(seen.mutex);
    seen.row_of(call).clocks.insert(name);
}

ssize_t note_read(const void* call, ssize_t result) {
    const int error = errno;
    Seen& seen = Seen::of_all();
    const std::lock_guard lock(seen.mutex);
    Row& row = seen.row_of(call);
    ++row.reads;
    if (result < 0 && error == EAGAIN) ++row.empty_reads;
    errno = error;
    return result;
}

struct Printing {
    ~Printing() { Seen::print(); }
} printing;

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* now) noexcept {
    note_clock(__builtin_return_address(0), name_of(clock));
    return int(::syscall(SYS_clock_gettime, clock, now));
}

int gettimeofday(timeval* now, void*) noexcept {
    note_clock(__builtin_return_address(0), "wall");
    return int(::syscall(SYS_gettimeofday, now, nullptr));
}

time_t time(time_t* result) noexcept {
    note_clock(__builtin_return_address(0), "wall");
    timespec now{};
    ::syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    if (result != nullptr) *result = now.tv_sec;
    return now.tv_sec;
}

ssize_t read(int descriptor, void* buffer, std::size_t size) {
    return note_read(__builtin_return_address(0), ::syscall(SYS_read, descriptor, buffer, size));
}

ssize_t recv(int descriptor, void* buffer, std::size_t size, int flags) {
    return note_read(__builtin_return_address(0),
                     ::syscall(SYS_recvfrom, descriptor, buffer, size, flags, nullptr, nullptr));
}

ssize_t recvfrom(int descriptor, void* buffer, std::size_t size, int flags, sockaddr* from, socklen_t* length) {
    return note_read(__builtin_return_address(0),
                     ::syscall(SYS_recvfrom, descriptor, buffer, size, flags, from, length));
}

ssize_t recvmsg(int descriptor, msghdr* message, int flags) {
    return note_read(__builtin_return_address(0), ::syscall(SYS_recvmsg, descriptor, message, flags));
}

int epoll_ctl(int set, int operation, int descriptor, epoll_event* event) noexcept {
    Seen& seen = Seen::of_all();
    const std::lock_guard lock(seen.mutex);
    if (seen.library_of(__builtin_return_address(0)).empty()) {
        if (operation == EPOLL_CTL_DEL) {
            seen.watched.erase({set, descriptor});
        } else {
            seen.watched.insert({set, descriptor});
        }
    }
    return int(::syscall(SYS_epoll_ctl, set, operation, descriptor, event));
}

int close(int descriptor) {
    Seen& seen = Seen::of_all();
    {
        const std::lock_guard lock(seen.mutex);
        Row& row = seen.row_of(__builtin_return_address(0));
        ++row.closed;
        const auto was = std::erase_if(seen.watched, [=](const auto& one) { return one.second == descriptor; });
        if (was > 0) ++row.closed_while_watched;
        std::erase_if(seen.watched, [=](const auto& one) { return one.first == descriptor; });
    }
    return int(::syscall(SYS_close, descriptor));
}

}  // extern "C"
