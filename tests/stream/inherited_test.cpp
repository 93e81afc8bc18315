// Restarts: a successor takes over what its predecessor says, and the predecessor goes on until it has.
#include "../support/loop.hpp"

#include <reactor/error.hpp>
#include <reactor/stream/inherited.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>

using namespace reactor;

namespace {

// A shell runs this to send the message of Predecessor::ready.
const std::string says_ready = "printf '\\000\\000\\000\\000' >&${REACTOR_PREDECESSOR#*:}";

// A successor under test, and the decision about it.
struct Attempt {
    Attempt(Reactor& reactor, const std::string& program, const std::vector<std::string>& arguments,
            Duration longest = std::chrono::hours(1), const std::vector<int>& sockets = {})
        : successor(std::in_place, reactor, sockets, program, arguments, longest, [this](std::error_code error) {
              ++decisions;
              reason = error;
          }) {}
    Attempt(Reactor& reactor, const std::string& script, Duration longest = std::chrono::hours(1),
            const std::vector<int>& sockets = {})
        : Attempt(reactor, "/bin/sh", {"sh", "-c", script}, longest, sockets) {}

    int decisions = 0;
    std::error_code reason;
    std::optional<Successor> successor;
};

bool no_children() {
    return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD;
}

// Both ends of a pipe, close-on-exec.
std::pair<FileDescriptor, FileDescriptor> pipe_ends() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

std::string read_all(const FileDescriptor& from) {
    std::string all;
    char piece[4096];
    for (ssize_t count; (count = ::read(from.get(), piece, sizeof piece)) > 0;) all.append(piece, std::size_t(count));
    return all;
}

// The numbers behind "SigBlk:" in what /proc says of a process.
std::uint64_t blocked_signals(const std::string& status) {
    std::istringstream words(status.substr(status.find("SigBlk:") + 7));
    std::uint64_t mask = ~std::uint64_t(0);
    words >> std::hex >> mask;
    return mask;
}

}  // namespace

TEST_CASE("S98: a successor has succeeded when it says that it accepts, and not when it is executed") {
    Reactor reactor;
    auto [reading, writing] = pipe_ends();
    Attempt attempt(reactor, "read line <&3; " + says_ready + "; read line <&3", std::chrono::hours(1),
                    {reading.get()});
    reactor.run_for(std::chrono::milliseconds(20));
    CHECK(attempt.decisions == 0);
    REQUIRE(::write(writing.get(), "\n", 1) == 1);
    run_until(reactor, [&] { return attempt.decisions > 0; });
    CHECK_FALSE(attempt.reason);
    const pid_t child = attempt.successor->id();
    attempt.successor.reset();  // leaves it alone
    CHECK(::waitpid(child, nullptr, WNOHANG) == 0);
    writing.reset();
    CHECK(::waitpid(child, nullptr, 0) == child);
    CHECK(attempt.decisions == 1);
}

TEST_CASE("S98: a successor that ends before it accepts has failed, however it ends") {
    Reactor reactor;
    for (const char* script : {"exit 0", "exit 127", "kill -KILL $$", "kill -HUP $$; kill -TERM $$"}) {
        CAPTURE(script);
        Attempt attempt(reactor, script);
        run_until(reactor, [&] { return attempt.decisions > 0; });
        CHECK(attempt.reason == Error::successor_ended);
        CHECK(no_children());
    }
}

TEST_CASE("S98: a program that cannot be executed is an error with exec's reason") {
    Reactor reactor;
    TemporaryFolder folder;
    std::ofstream(folder / "no-program") << "no program\n";
    const std::pair<std::string, std::errc> cases[] = {{"/no/such/program", std::errc::no_such_file_or_directory},
                                                       {folder / "no-program", std::errc::permission_denied},
                                                       {"/", std::errc::permission_denied}};
    for (const auto& one : cases) {
        const std::string& program = one.first;
        CAPTURE(program);
        Attempt attempt(reactor, program, {"name"});
        run_until(reactor, [&] { return attempt.decisions > 0; });
        CHECK(attempt.reason == one.second);
        CHECK(no_children());
    }
}

TEST_CASE("S98: a successor that does not accept in time is ended") {
    Reactor reactor;
    Attempt attempt(reactor, "/bin/sleep", {"sleep", "1000"}, std::chrono::milliseconds(1));
    run_until(reactor, [&] { return attempt.decisions > 0; });
    CHECK(attempt.reason == Error::successor_timeout);
    CHECK(attempt.reason == std::errc::timed_out);
    CHECK(no_children());
}

TEST_CASE("S98: destroying a successor that has not accepted ends it, and its callback is not called") {
    Reactor reactor;
    const std::size_t before = open_descriptors();
    Attempt attempt(reactor, "/bin/sleep", {"sleep", "1000"});
    attempt.successor.reset();
    CHECK(no_children());
    CHECK(open_descriptors() == before);
    settle(reactor);
    CHECK(attempt.decisions == 0);
}

#if REACTOR_HAS(PIDFD)
TEST_CASE("S98: a successor that fails has the time to say why") {
    Reactor reactor;
    auto [reading, writing] = pipe_ends();
    Attempt attempt(reactor, "eval \"exec ${REACTOR_PREDECESSOR#*:}>&-\"; read line <&3; exit 3", std::chrono::hours(1),
                    {reading.get()});
    reactor.run_for(std::chrono::milliseconds(20));
    CHECK(attempt.decisions == 0);
    const pid_t child = attempt.successor->id();
    CHECK(::kill(child, 0) == 0);
    writing.reset();
    run_until(reactor, [&] { return attempt.decisions > 0; });
    CHECK(attempt.reason == Error::successor_ended);
}
#endif

TEST_CASE("S92, S98: the callback may destroy its successor") {
    Reactor reactor;
    for (const std::string& script : {std::string("exit 1"), says_ready}) {
        std::optional<Successor> successor;
        const auto big = std::make_shared<std::string>("captured");
        bool decided = false;
        successor.emplace(reactor, std::vector<int>(), "/bin/sh", std::vector<std::string>{"sh", "-c", script},
                          std::chrono::hours(1), [&, big](std::error_code) {
                              successor.reset();
                              decided = *big == "captured";
                          });
        run_until(reactor, [&] { return decided; });
        while (::waitpid(-1, nullptr, 0) > 0) {
        }
    }
}

#if REACTOR_HAS(PIDFD)
TEST_CASE("S98, S103: a successor's death is noticed although another process keeps its end of the pipe open") {
    Reactor reactor;
    auto [reading, writing] = pipe_ends();
    // The shell's child inherits the pipe, and lives for as long as the test keeps the other pipe open.
    Attempt attempt(reactor, "(read line) <&3 & exit 1", std::chrono::hours(1), {reading.get()});
    run_until(reactor, [&] { return attempt.decisions > 0; });
    CHECK(attempt.reason == Error::successor_ended);
}
#endif

TEST_CASE("S98: with no descriptors left a restart fails and says why, or succeeds") {
    Reactor reactor;
    auto [reading, writing] = pipe_ends();
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    int succeeded = 0, failed = 0;
    for (int left = 0; left <= 8; ++left) {
        CAPTURE(left);
        std::vector<FileDescriptor> taken;
        rlimit low{64, before.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &low);
        while (true) {
            FileDescriptor one(::open("/dev/null", O_RDONLY | O_CLOEXEC));
            if (!one) break;
            taken.push_back(std::move(one));
        }
        for (int i = 0; i < left; ++i) taken.pop_back();
        std::error_code reason;
        pid_t child = -1;
        try {
            Attempt attempt(reactor, says_ready, std::chrono::hours(1), {reading.get()});
            run_until(reactor, [&] { return attempt.decisions > 0; });
            reason = attempt.reason;
            child = attempt.successor->id();
        } catch (const std::system_error& error) {
            reason = error.code();
        }
        ::setrlimit(RLIMIT_NOFILE, &before);
        if (reason) {
            ++failed;
            CHECK(reason == std::errc::too_many_files_open);
            CHECK(no_children());
        } else {
            ++succeeded;
            int status = -1;
            CHECK(::waitpid(child, &status, 0) == child);
            CHECK(status == 0);
        }
    }
    CHECK(succeeded > 0);
    CHECK(failed > 0);
}

TEST_CASE("S98: in a successor no signal is blocked but SIGHUP, and nothing is handled or, but for what was, ignored") {
    Reactor reactor;
    auto [reading, writing] = pipe_ends();
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);  // as in the threads of a ReactorGroup
    Attempt attempt(reactor, "exec cat /proc/self/status >&3", std::chrono::hours(1), {writing.get()});
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    writing.reset();
    const std::string status = read_all(reading);
    CHECK(blocked_signals(status) == std::uint64_t(1) << (SIGHUP - 1));
    CHECK(status.find("SigCgt:\t0000000000000000") != std::string::npos);
}

TEST_CASE("S98: a second SIGHUP before the successor watches it does not end the successor") {
    Reactor reactor;
    Attempt attempt(reactor, "kill -HUP $$; " + says_ready);
    run_until(reactor, [&] { return attempt.decisions > 0; });
    CHECK_FALSE(attempt.reason);
    while (::waitpid(-1, nullptr, 0) > 0) {
    }
}

TEST_CASE("A successor finds the sockets at 3 and behind, in their order, and knows its number") {
    Reactor reactor;
    auto [reading, writing] = pipe_ends();
    FileDescriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    Attempt attempt(reactor,
                    "echo $LISTEN_FDS ${REACTOR_PREDECESSOR#*:} >&4; [ $LISTEN_PID = $$ ] && echo pid >&4; "
                    "[ ${REACTOR_PREDECESSOR%:*} = $$ ] && echo pid >&4; read line <&3 || echo end >&4; echo $0 >&4",
                    std::chrono::hours(1), {null.get(), writing.get()});
    writing.reset();
    CHECK(read_all(reading) == "2 5\npid\npid\nend\nsh\n");
}

TEST_CASE("S105: a NUL in the path or in an argument of a successor is refused") {
    Reactor reactor;
    using namespace std::string_literals;
    CHECK_THROWS_AS(Attempt(reactor, "/bin/sh\0x"s, {"sh"}), std::invalid_argument);
    CHECK_THROWS_AS(Attempt(reactor, "/bin/sh", {"sh", "-c", "true\0x"s}), std::invalid_argument);
    CHECK_THROWS_AS((void)Successor(reactor, {}, "/bin/sh", {"sh"}, std::chrono::hours(1), nullptr),
                    std::invalid_argument);
    CHECK(no_children());
}

TEST_CASE("A predecessor is there for the process that it started alone, and once") {
    auto ends = pipe_ends();
    FileDescriptor &reading = ends.first, &writing = ends.second;
    const auto found_with = [&](const std::string& value) {
        const int copy = ::dup(writing.get());
        ::setenv("REACTOR_PREDECESSOR", (value + ":" + std::to_string(copy)).c_str(), 1);
        Predecessor predecessor;
        const bool found = bool(predecessor);
        CHECK(::getenv("REACTOR_PREDECESSOR") == nullptr);
        if (found) CHECK(::fcntl(copy, F_GETFD) == FD_CLOEXEC);
        predecessor.ready();
        predecessor.ready();
        CHECK_FALSE(predecessor);
        if (!found) ::close(copy);
        return found;
    };
    CHECK(found_with(std::to_string(::getpid())));
    CHECK_FALSE(found_with(std::to_string(::getppid())));
    CHECK_FALSE(Predecessor());
    for (const char* wrong : {"", "1", "1:", ":1", "x:1", "1:-1", "1:1x"}) {
        ::setenv("REACTOR_PREDECESSOR", wrong, 1);
        CHECK_THROWS_AS(Predecessor(), std::system_error);
    }
    ::unsetenv("REACTOR_PREDECESSOR");
    writing.reset();
    CHECK(read_all(reading) == std::string(sizeof(int), '\0'));
    // A predecessor that has gone meanwhile is no reason to die of SIGPIPE.
    auto [unread, gone] = pipe_ends();
    ::setenv("REACTOR_PREDECESSOR", (std::to_string(::getpid()) + ":" + std::to_string(gone.release())).c_str(), 1);
    Predecessor predecessor;
    unread.reset();
    predecessor.ready();
}

TEST_CASE("S98: a program's path leads to its file by name, so that a newer file is found there") {
    const std::string running = program_path("a name that a shell has made up");
    CHECK(running.starts_with('/'));
    CHECK(::access(running.c_str(), X_OK) == 0);
    TemporaryFolder folder;
    REQUIRE(::symlink(running.c_str(), (folder / "program").c_str()) == 0);
    CHECK(program_path(folder / "program") == folder / "program");  // a link is not resolved
    const std::string path = std::getenv("PATH") == nullptr ? "" : std::getenv("PATH");
    ::setenv("PATH", ("/no/such/folder:" + (folder / "") + ":/bin").c_str(), 1);
    const std::string found = program_path("program");
    CHECK(std::filesystem::equivalent(found, running));
    CHECK(found.starts_with(folder / ""));
    CHECK(program_path("sh") == running);  // another program's name
    ::setenv("PATH", path.c_str(), 1);
}
