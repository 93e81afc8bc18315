// The kernel's own answers where it, or a filter in front of it, does not know a call: a child gives itself such a
// filter (seccomp(2)), and runs a session under it on this backend.
#include "../support/session.hpp"
#include "../support/temporary_folder.hpp"

#include <reactor/reactor.hpp>
#include <reactor/system_impl.hpp>

#include <doctest/doctest.h>

#if REACTOR_HAS(EPOLL)

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

using namespace reactor;

namespace {

// By number, because each machine has its own, and some lack the older call or have two of one.
struct Filtered {
    const char* name;
    std::vector<int> numbers;
    bool only_enosys = false;  // musl itself makes the older call then, and not after EPERM
};

const Filtered rows[] = {
    {"accept4", {SYS_accept4}},
    {"epoll_create1", {SYS_epoll_create1}, !REACTOR_HAS(GLIBC)},
    {"eventfd2", {SYS_eventfd2}},
    {"pidfd_open", {434}},
    {"pidfd_send_signal", {424}},
    {"pipe2", {SYS_pipe2}, !REACTOR_HAS(GLIBC)},
#if defined(SYS_ppoll_time64)
    {"ppoll", {SYS_ppoll, SYS_ppoll_time64}},
    {"recvmmsg", {SYS_recvmmsg, SYS_recvmmsg_time64}},
#else
    {"ppoll", {SYS_ppoll}},       {"recvmmsg", {SYS_recvmmsg}},
#endif
#if defined(SYS_sendfile64)
    {"sendfile", {SYS_sendfile, SYS_sendfile64}},
#else
    {"sendfile", {SYS_sendfile}},
#endif
    {"sendmmsg", {SYS_sendmmsg}},
    {"splice", {SYS_splice}},
};

// Of the same number on all machines.
constexpr int io_uring_enter = 426, io_uring_register = 427;

// Without pipe2(2), which the C library's pipe is as well.
std::vector<int> many_of_them(int error) {
    std::vector<int> many;
    for (const Filtered& row : rows) {
        if (row.name == std::string_view("pipe2") || (row.only_enosys && error == EPERM)) continue;
        many.insert(many.end(), row.numbers.begin(), row.numbers.end());
    }
    return many;
}

// Since then each call has one number for all machines: 424 and more, and on 32 bits those with a time of 64 bits. The
// C library makes some of them itself, and takes only ENOSYS for "not known".
std::vector<int> newer_than_4_18(int error) {
    constexpr int with_time64 = 403, for_all = 424, clone3 = 435, most = 512;
    std::vector<int> numbers;
    for (int number = error == ENOSYS ? with_time64 : for_all; number < most; ++number)
        if (error == ENOSYS || number != clone3) numbers.push_back(number);
    return numbers;
}

// From now on these calls fail with this error. False: the kernel takes no filter.
bool filter(const std::vector<int>& numbers, int error) {
    std::vector<sock_filter> program;
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    for (const int number : numbers) {
        program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, unsigned(number), 0, 1));
        program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | unsigned(error)));
    }
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog whole{static_cast<unsigned short>(program.size()), program.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole) != 0)
        return false;
    for (const int number : numbers)
        if (::syscall(number, -1, -1, -1, -1, -1, -1) != -1 || errno != error) return false;
    return true;
}

// In a child, because a filter stays. Returns the child's answer: a full stop alone, if all went well.
std::string run_filtered(const std::vector<int>& numbers, int error, const std::string& path,
                         const std::string& content) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const FileDescriptor reading(ends[0]);
    FileDescriptor writing(ends[1]);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::string words;
        try {
            words = filter(numbers, error) ? Session(path, content).run() : "no filter";
        } catch (const std::exception& thrown) {
            words = thrown.what();
        }
        words += '.';
        (void)!::write(writing.get(), words.data(), words.size());
        ::_exit(0);
    }
    writing.reset();
    std::string words(1'000, '\0');
    words.resize(std::size_t(std::max<ssize_t>(::read(reading.get(), words.data(), words.size()), 0)));
    CHECK(::waitpid(child, nullptr, 0) == child);
    return words;
}

}  // namespace

TEST_CASE("S96: under a filter of system calls, and on Linux 4.18, a session is what it is without") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(300'000, 97), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    for (const int error : {ENOSYS, EPERM}) {
        CAPTURE(error);
        REQUIRE(run_filtered(many_of_them(error), error, path, content) == ".");  // or each row could wait in vain
        // A backend that was asked for by name has no silent fallback.
        const bool ring = Reactor().backend() == "io_uring";
        const std::string refused = "io_uring_setup: " + std::system_category().message(error);
        CHECK(run_filtered(newer_than_4_18(error), error, path, content) == (ring ? refused : "") + ".");
        for (const Filtered& row : rows) {
            if (row.only_enosys && error == EPERM) continue;
            CAPTURE(std::string(row.name));
            CHECK(run_filtered(row.numbers, error, path, content) == ".");
        }
    }
}

TEST_CASE("S96: under a filter that forbids what a backend cannot do without, the error names the call") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(300'000, 97), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    const std::string backend(Reactor().backend());
    for (const int error : {ENOSYS, EPERM}) {
        const std::string told = ": " + std::system_category().message(error) + ".";
        if (backend == "epoll") {
            CHECK(run_filtered({SYS_epoll_ctl}, error, path, content) == "epoll_ctl" + told);
#if defined(SYS_epoll_create)
            CHECK(run_filtered({SYS_epoll_create, SYS_epoll_create1}, error, path, content) == "epoll_create1" + told);
#endif
#if defined(SYS_epoll_wait)
            CHECK(run_filtered({SYS_epoll_wait, SYS_epoll_pwait}, error, path, content) == "epoll_wait" + told);
#endif
        }
        if (backend == "io_uring") {
            CHECK(run_filtered({io_uring_enter}, error, path, content) == "io_uring_enter" + told);
            const std::string words = run_filtered({io_uring_register}, error, path, content);
            CHECK_MESSAGE(words.starts_with("io_uring_register("), words);
            CHECK_MESSAGE(words.ends_with(told), words);
        }
        if (backend == "select") CHECK(run_filtered({SYS_pselect6}, error, path, content) == "pselect" + told);
    }
}

#endif  // REACTOR_HAS(EPOLL)
