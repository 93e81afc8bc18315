// Children where the kernel, or a filter in front of it, refuses what they are started, signalled and waited for with.
#include "../support/loop.hpp"
#include "faults.hpp"

#include <reactor/stream/process.hpp>
#include <reactor/system_impl.hpp>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#if REACTOR_HAS(PIDFD)

using namespace reactor;
using faults::Call;

namespace {

// Starts, with a pipe to its output, what `script` says. The plan holds for the beginning.
struct Child {
    Child(Reactor& reactor, testing::ManualClock& clock, const faults::Plan& plan, const std::string& script) {
        ProcessOptions options;
        options.input = ProcessOptions::Stream::null;
        options.output = ProcessOptions::Stream::pipe;
        options.protocol = std::make_unique<Recorder>(journal);
        const std::vector<std::string> command{"/bin/sh", "-c", script};
        const faults::Armed armed(plan, clock, true);
        process = std::make_unique<Process>(reactor, command, std::move(options), [this](ExitStatus status) {
            ++exits;
            result = status;
        });
        struck = faults::struck();
    }
    Journal journal;
    bool struck = false;
    int exits = 0;
    ExitStatus result;
    std::unique_ptr<Process> process;
};

faults::Plan always(Call call, int error) {
    faults::Plan plan;
    plan.call = call;
    plan.error = error;
    plan.times = 1'000;
    return plan;
}

}  // namespace

TEST_CASE("S96: a child is started, heard and waited for where a call of it is forbidden or not known") {
    for (const Call call : {Call::pidfd_open, Call::pipe2}) {
        for (const int error : {EPERM, ENOSYS}) {
            CAPTURE(faults::name_of(call));
            CAPTURE(error);
            testing::ManualClock clock;
            Reactor reactor;
            Child child(reactor, clock, always(call, error), "echo hello; exit 3");
            CHECK(child.struck);
            run_until(reactor, [&] { return child.exits > 0 && child.journal.over; });
            CHECK(child.journal.input == "hello\n");
            CHECK(child.result.code == 3);
        }
    }
}

TEST_CASE("S75: the exit of a child that only a thread waits for is reported although there is no memory") {
    testing::ManualClock clock;
    Reactor reactor;
    Child child(reactor, clock, always(Call::pidfd_open, ENOSYS), "exec >&-; exec sleep 1000");
    run_until(reactor, [&] { return child.journal.over; });
    faults::Plan no_memory = always(Call::allocation, ENOMEM);
    no_memory.times = 1'000'000'000;
    {
        const faults::Armed armed(no_memory, clock, true);
        REQUIRE(child.process->kill(SIGTERM));
        for (int turn = 0; turn < 5'000 && child.exits == 0; ++turn) reactor.run_once(std::chrono::milliseconds(1));
    }
    CHECK(child.exits == 1);
    CHECK(child.result.signal == SIGTERM);
}

TEST_CASE("run_until_idle waits for a child that only a thread waits for") {
    testing::ManualClock clock;
    Reactor reactor;
    Child child(reactor, clock, always(Call::pidfd_open, ENOSYS), "exec >&-; sleep 0.1; exit 3");
    CHECK(child.struck);
    reactor.run_until_idle();
    CHECK(child.journal.over);
    CHECK(child.exits == 1);
    CHECK(child.result.code == 3);
}

TEST_CASE("S96: a child whose handle serves for no signal or wait is signalled and waited for by its number") {
    for (const int error : {EPERM, ENOSYS}) {
        CAPTURE(error);
        testing::ManualClock clock;
        Reactor reactor;
        Child child(reactor, clock, {}, "exec sleep 1000");
        {
            const faults::Armed armed(always(Call::pidfd_send_signal, error), clock, true);
            REQUIRE(child.process->kill(SIGTERM));
            CHECK(faults::struck());
        }
        run_until(reactor, [&] { return child.exits > 0; });
        CHECK(child.result.signal == SIGTERM);
    }
    for (const int error : {EPERM, EINVAL, ENOSYS}) {
        CAPTURE(error);
        testing::ManualClock clock;
        Reactor reactor;
        auto child = std::make_unique<Child>(reactor, clock, faults::Plan(), "exec sleep 1000");
        const pid_t number = child->process->id();
        faults::Plan once = always(Call::waitid, error);
        once.times = 1;
        {
            const faults::Armed armed(once, clock, true);
            child->process.reset();
            CHECK(faults::struck());
        }
        CHECK(::waitpid(number, nullptr, WNOHANG) == -1);
        CHECK(errno == ECHILD);
        run_until(reactor, [&] { return child->journal.over; });
    }
}

TEST_CASE("S106: a child that is gone before it can be watched is told as ended, and its number gets no signal") {
    for (const bool told : {true, false}) {
        CAPTURE(told);
        testing::ManualClock clock;
        Reactor reactor;
        Child child(reactor, clock, always(Call::pidfd_open, ESRCH), "exec sleep 1000");
        CHECK(child.struck);
        const pid_t number = child.process->id();  // as if it were another process's by now
        CHECK(child.process->running());
        CHECK_FALSE(child.process->kill(SIGTERM));
        if (told) {
            run_until(reactor, [&] { return child.exits > 0; });
            CHECK_FALSE(child.result.code);
            CHECK_FALSE(child.result.signal);
        } else {
            child.process.reset();
        }
        int status = 0;
        CHECK(::waitpid(number, &status, WNOHANG) == 0);
        REQUIRE(::kill(number, SIGKILL) == 0);
        CHECK(::waitpid(number, &status, 0) == number);
        CHECK(WTERMSIG(status) == SIGKILL);
        run_until(reactor, [&] { return child.journal.over; });
    }
}

TEST_CASE("S96, S106: without a right to the handle's signal an ended child's number is not signalled") {
    testing::ManualClock clock;
    Reactor reactor;
    Child child(reactor, clock, {}, "exit 0");
    siginfo_t ended{};
    REQUIRE(::waitid(P_PID, id_t(child.process->id()), &ended, WEXITED | WNOWAIT) == 0);
    const faults::Armed armed(always(Call::pidfd_send_signal, EPERM), clock, true);
    CHECK_FALSE(child.process->kill(SIGTERM));
}

#endif  // REACTOR_HAS(PIDFD)
