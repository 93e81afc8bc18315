// Files of the kernel's that say something only to the first who asks: poll(2) takes the notice away. So a loop must
// not look twice, and an outer loop that looks at its descriptor has taken the notice before the inner one does.
#include "../support/loop.hpp"

#include <reactor/event_handler.hpp>
#include <reactor/reactor.hpp>

#include <doctest/doctest.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

using namespace reactor;

namespace {

constexpr Duration at_once = Duration::zero();

struct Counting final : EventHandler {
    void readable() override { ++reads; }
    void error() override { ++errors; }
    int reads = 0, errors = 0;
};

enum Result { told_once, otherwise, not_here };

// Watches it, has it change, and says whether the handler was called once for that. Nested: an outer loop looks first.
Result told(int descriptor, Interest interest, bool (*change)(), bool nested) {
    if (descriptor < 0) return not_here;
    pollfd look{descriptor, POLLPRI, 0};
    ::poll(&look, 1, 0);
    Reactor reactor;
    Counting handler;
    const Registration registration = reactor.watch(descriptor, interest, handler);
    reactor.run_once(at_once);
    const int errors = handler.errors;
    handler.reads = 0;
    if (!change()) return not_here;
    for (int turns = 0; turns < 3; ++turns) {
        pollfd outer{reactor.native_handle(), POLLIN, 0};
        if (nested) ::poll(&outer, 1, 0);
        reactor.run_once(at_once);
    }
    const int calls = interest == Interest::readable ? handler.reads : handler.errors;
    return errors == 0 && calls == 1 ? told_once : otherwise;
}

// In a namespace of its own, so that nothing changes for other programs.
Result in_namespace(int flags, Result (*body)(bool), bool nested) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        if (::unshare(flags) != 0 && ::unshare(CLONE_NEWUSER | flags) != 0) ::_exit(not_here);
        ::_exit(body(nested));
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    return Result(WEXITSTATUS(status));
}

Result host_name(bool nested) {
    const FileDescriptor file(::open("/proc/sys/kernel/hostname", O_RDONLY | O_CLOEXEC));
    return told(
        file.get(), Interest::readable | Interest::error, [] { return ::sethostname("elsewhere", 9) == 0; }, nested);
}

Result mount_table(bool nested) {
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return not_here;
    const FileDescriptor file(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    return told(
        file.get(), Interest::error, [] { return ::mount("none", "/tmp", "tmpfs", 0, nullptr) == 0; }, nested);
}

// The name of a thread is a record in the ring of a perf event.
Result perf_record(bool nested) {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_DUMMY;
    attributes.exclude_kernel = attributes.exclude_hv = attributes.comm = 1;
    attributes.watermark = 1;
    attributes.wakeup_watermark = 1;
    const FileDescriptor event(int(::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)));
    const std::size_t size = 2 * std::size_t(::sysconf(_SC_PAGESIZE));
    if (!event || ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, event.get(), 0) == MAP_FAILED)
        return not_here;
    return told(
        event.get(), Interest::readable, [] { return ::prctl(PR_SET_NAME, "renamed") == 0; }, nested);
}

void check(Result result, Result expected) {
    if (result == not_here) {
        MESSAGE("skipped: no right to, or no such file");
    } else {
        CHECK(result == expected);
    }
}

}  // namespace

TEST_CASE("S3: a changed host name, a mount and a record of a perf event are each reported once") {
    check(in_namespace(CLONE_NEWUTS, host_name, false), told_once);
    check(in_namespace(CLONE_NEWNS, mount_table, false), told_once);
    check(in_namespace(CLONE_NEWUTS, perf_record, false), told_once);
}

TEST_CASE("S3: inside another loop such a notice is lost on epoll, because the outer loop's look takes it") {
    // Seen on Linux 6.18. The other backends have no descriptor to look at.
    const Result expected = Reactor().native_handle() >= 0 ? otherwise : told_once;
    check(in_namespace(CLONE_NEWUTS, host_name, true), expected);
    check(in_namespace(CLONE_NEWNS, mount_table, true), expected);
    check(in_namespace(CLONE_NEWUTS, perf_record, true), expected);
}

// Two seconds of all processors, so only by request: backend_tests --no-skip -tc='S3: a pressure*'
TEST_CASE("S3: a pressure trigger that fires is reported once" * doctest::skip()) {
    const FileDescriptor file(::open("/proc/pressure/cpu", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    const std::string_view trigger = "some 1000 2000000";  // microseconds of a wait for a processor, in two seconds
    if (!file || ::write(file.get(), trigger.data(), trigger.size() + 1) < 0) return check(not_here, told_once);
    struct Busy {  // more of them than there are processors
        Busy() {
            for (pid_t& one : pids)
                if ((one = ::fork()) == 0) {
                    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
                    for (volatile bool always = true; always;) {
                    }
                }
        }
        ~Busy() {
            for (const pid_t one : pids) ::kill(one, SIGKILL), ::waitpid(one, nullptr, 0);
        }
        std::vector<pid_t> pids = std::vector<pid_t>(2 * std::thread::hardware_concurrency());
    };
    std::optional<Busy> busy(std::in_place);
    Reactor reactor;
    Counting handler;
    const Registration registration = reactor.watch(file.get(), Interest::error, handler);
    run_until(reactor, [&] { return handler.errors > 0; });
    busy.reset();
    reactor.run_once(at_once);
    CHECK(handler.errors == 1);
}
