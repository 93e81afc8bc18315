// Children: started, spoken with, ended and waited for.
#include "../support/loop.hpp"
#include "../support/standard_streams.hpp"

#include <protocols/echo.hpp>
#include <protocols/send_file.hpp>
#include <reactor/error.hpp>
#include <reactor/net/resolver.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/inherited.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/stream/process.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>

using namespace reactor;

namespace {

// A child under test: its output and its exit.
struct Child {
    Child(Reactor& reactor, const Command& command, ProcessOptions options = {}) {
        const bool pipe =
            options.input == ProcessOptions::Stream::pipe || options.output == ProcessOptions::Stream::pipe;
        if (pipe) options.protocol = std::make_unique<Recorder>(journal);
        if (options.error == ProcessOptions::Stream::pipe) options.error_protocol = std::make_unique<Recorder>(errors);
        process = std::make_unique<Process>(reactor, command, std::move(options), [this](ExitStatus status) {
            ++exits;
            result = status;
        });
    }
    Journal journal, errors;
    int exits = 0;
    ExitStatus result;
    std::unique_ptr<Process> process;
};

ProcessOptions streams(ProcessOptions::Stream input, ProcessOptions::Stream output,
                       ProcessOptions::Stream error = ProcessOptions::Stream::inherit) {
    ProcessOptions options;
    options.input = input;
    options.output = output;
    options.error = error;
    return options;
}

std::vector<std::string> shell(const char* script) {
    return {"/bin/sh", "-c", script};
}

// No child of ours is left, not even a dead one.
bool all_reaped() {
    return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD;
}

}  // namespace

TEST_CASE("cat, as a child, gives 8 MB back exactly") {
    Reactor reactor;
    Child cat(reactor, {"cat"}, streams(ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe));
    const std::string all = random_bytes(8 * 1024 * 1024, 5);
    std::size_t written = 0;
    Journal& journal = cat.journal;
    const auto produce = [&] {
        while (written < all.size() && journal.transport->queued() <= journal.transport->limits().high_mark) {
            const std::string_view piece = std::string_view(all).substr(written, 10'000);
            journal.transport->write(piece);
            written += piece.size();
        }
        if (written == all.size()) journal.transport->shutdown_write();
    };
    journal.on_connected = journal.on_resume = produce;
    run_until(reactor, [&] { return journal.over && cat.exits > 0; });
    CHECK(journal.input == all);
    CHECK_FALSE(journal.reason);
    CHECK(cat.exits == 1);
    CHECK(cat.result.success());
    CHECK(all_reaped());
}

TEST_CASE("What cannot be executed is an error here, with exec's reason and the name") {
    Reactor reactor;
    const std::size_t before = open_descriptors();
    const auto start = [&](const char* name) {
        Child child(reactor, {name},
                    streams(ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe));
    };
    const auto reason = [&](const char* name) {
        try {
            start(name);
        } catch (const std::system_error& error) {
            CHECK(std::string_view(error.what()).find(name) != std::string_view::npos);
            return error.code();
        }
        return std::error_code();
    };
    CHECK(reason("/no/such/program") == std::errc::no_such_file_or_directory);
    CHECK(reason("no-such-program-in-the-path") == std::errc::no_such_file_or_directory);
    CHECK(reason("/") == std::errc::permission_denied);
    CHECK(open_descriptors() == before);
    CHECK(all_reaped());
}

TEST_CASE("A child runs in the directory that it is given, and one that is not there is an error that names it") {
    Reactor reactor;
    Command where = shell("pwd -P");
    where.directory = "/usr/..";  // a shell says which that is
    Child child(reactor, where, streams(ProcessOptions::Stream::inherit, ProcessOptions::Stream::pipe));
    run_until(reactor, [&] { return child.journal.over && child.exits > 0; });
    CHECK(child.journal.input == "/\n");
    CHECK(child.result.success());

    Command nowhere{"true"};
    nowhere.directory = "/no/such/directory";
    try {
        const Process none(reactor, nowhere, {}, [](ExitStatus) {});
        FAIL("it was started nowhere");
    } catch (const std::system_error& error) {
        CHECK(error.code() == std::errc::no_such_file_or_directory);
        CHECK(std::string_view(error.what()).find("/no/such/directory") != std::string_view::npos);
    }
    CHECK(all_reaped());
}

TEST_CASE("A child that does not match its options is a mistake") {
    Reactor reactor;
    const auto start = [&](std::vector<std::string> command, ProcessOptions options) {
        Process process(reactor, command, std::move(options), [](ExitStatus) {});
    };
    CHECK_THROWS_AS(start({}, {}), std::invalid_argument);
    CHECK_THROWS_AS(start({"true"}, streams(ProcessOptions::Stream::pipe, ProcessOptions::Stream::inherit)),
                    std::invalid_argument);
    ProcessOptions options;
    options.error_protocol = std::make_unique<Echo>();
    CHECK_THROWS_AS(start({"true"}, std::move(options)), std::invalid_argument);
    CHECK_THROWS_AS(start({"true"}, streams(ProcessOptions::Stream::output, ProcessOptions::Stream::inherit)),
                    std::invalid_argument);
}

TEST_CASE("How a child ended is told once: with a code or by a signal") {
    Reactor reactor;
    SUBCASE("with a code") {
        Child child(reactor, shell("exit 7"));
        run_until(reactor, [&] { return child.exits > 0; });
        CHECK(child.result.code == 7);
        CHECK_FALSE(child.result.signal);
        CHECK_FALSE(child.process->running());
        CHECK_FALSE(child.process->kill(SIGTERM));
        settle(reactor);
        CHECK(child.exits == 1);
    }
    SUBCASE("by a signal of its own") {
        Child child(reactor, shell("kill -SEGV $$"));
        run_until(reactor, [&] { return child.exits > 0; });
        CHECK(child.result.signal == SIGSEGV);
        CHECK_FALSE(child.result.code);
        CHECK_FALSE(child.result.success());
    }
    SUBCASE("by a signal from here") {
        Child child(reactor, {"sleep", "1000"});
        settle(reactor);
        CHECK(child.exits == 0);
        CHECK(child.process->running());
        CHECK(child.process->kill(SIGTERM));
        run_until(reactor, [&] { return child.exits > 0; });
        CHECK(child.result.signal == SIGTERM);
    }
    CHECK(all_reaped());
}

TEST_CASE("Standard output and standard error come apart, or together") {
    Reactor reactor;
    SUBCASE("apart") {
        Child child(reactor, shell("echo out; echo err >&2"),
                    streams(ProcessOptions::Stream::null, ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe));
        run_until(reactor, [&] { return child.journal.over && child.errors.over && child.exits > 0; });
        CHECK(child.journal.input == "out\n");
        CHECK(child.errors.input == "err\n");
    }
    SUBCASE("together") {
        Child child(
            reactor, shell("echo out; echo err >&2"),
            streams(ProcessOptions::Stream::null, ProcessOptions::Stream::pipe, ProcessOptions::Stream::output));
        run_until(reactor, [&] { return child.journal.over && child.exits > 0; });
        CHECK(child.journal.input == "out\nerr\n");
    }
    SUBCASE("nowhere") {
        Child child(reactor, shell("read line; echo \"$line\""),
                    streams(ProcessOptions::Stream::null, ProcessOptions::Stream::null, ProcessOptions::Stream::null));
        run_until(reactor, [&] { return child.exits > 0; });
        CHECK(child.result.success());
    }
    SUBCASE("only standard error") {
        Child child(
            reactor, shell("echo err >&2"),
            streams(ProcessOptions::Stream::inherit, ProcessOptions::Stream::inherit, ProcessOptions::Stream::pipe));
        run_until(reactor, [&] { return child.errors.over && child.exits > 0; });
        CHECK(child.errors.input == "err\n");
    }
}

TEST_CASE("A child that does not read its input to the end is no signal here, and its answer is received") {
    Reactor reactor;
    struct sigaction before {
    }, fatal{};
    fatal.sa_handler = SIG_DFL;
    ::sigaction(SIGPIPE, &fatal, &before);
    {
        Child child(reactor, shell("read line; exec <&-; echo \"got $line\""),
                    streams(ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe));
        child.journal.on_connected = [&] { child.journal.transport->write("first\n" + std::string(1'000'000, 'x')); };
        run_until(reactor, [&] { return child.journal.over && child.exits > 0; });
        CHECK(child.journal.input == "got first\n");
        CHECK(child.journal.reason == std::errc::broken_pipe);
        CHECK(child.result.success());
    }
    ::sigaction(SIGPIPE, &before, nullptr);
}

TEST_CASE("A child has its environment, no blocked signal, the default for SIGPIPE, and none of our descriptors") {
    Reactor reactor;
    SUBCASE("an environment of its own") {
        Command greet = shell("echo $GREETING; env | grep -c .");
        greet.environment = {{"GREETING=hello", "PATH=/usr/bin:/bin"}};
        Child child(reactor, greet, streams(ProcessOptions::Stream::null, ProcessOptions::Stream::pipe));
        run_until(reactor, [&] { return child.journal.over; });
        CHECK(child.journal.input.substr(0, 6) == "hello\n");
    }
    SUBCASE("signals") {
        sigset_t all, mask;
        sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &mask);
        struct sigaction before {
        }, ignored{};
        ignored.sa_handler = SIG_IGN;
        ::sigaction(SIGPIPE, &ignored, &before);
        Child child(reactor, shell("kill -PIPE $$; exit 3"));
        ::sigaction(SIGPIPE, &before, nullptr);
        ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
        run_until(reactor, [&] { return child.exits > 0; });
        CHECK(child.result.signal == SIGPIPE);
    }
#ifdef __linux__
    SUBCASE("descriptors") {
        Socket listener = Socket::open(Address::Family::ipv4);
        Child child(reactor, shell("echo /proc/self/fd/*"),
                    streams(ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe));
        run_until(reactor, [&] { return child.journal.over; });
        Child bare(reactor, shell("echo /proc/self/fd/*"),
                   streams(ProcessOptions::Stream::null, ProcessOptions::Stream::pipe, ProcessOptions::Stream::null));
        run_until(reactor, [&] { return bare.journal.over; });
        CHECK(child.journal.input == bare.journal.input);
        CHECK(child.journal.input.find("/" + std::to_string(listener.get())) == std::string::npos);
    }
#endif
}

TEST_CASE("S104: the pipes are right even if the program has closed its own standard streams") {
    Reactor reactor;
    std::string output, errors;
    {
        const KeptStandardStreams kept;
        KeptStandardStreams::close_all();
        Child child(reactor, shell("cat; echo err >&2"),
                    streams(ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe));
        child.journal.on_connected = [&] {
            child.journal.transport->write("through");
            child.journal.transport->shutdown_write();
        };
        for (int i = 0; i < 10'000 && !(child.journal.over && child.errors.over && child.exits > 0); ++i)
            reactor.run_once(std::chrono::milliseconds(10));
        output = child.journal.input;
        errors = child.errors.input;
    }
    CHECK(output == "through");
    CHECK(errors == "err\n");
}

TEST_CASE("S104: a child has all three standard streams, also those that are closed here or close-on-exec") {
    const auto exit_code = [](bool closed) {
        Reactor reactor;
        const KeptStandardStreams kept;
        for (int number = 0; number < 3; ++number) closed ? ::close(number) : ::fcntl(number, F_SETFD, FD_CLOEXEC);
        Child child(reactor, shell("cat && echo out && echo err >&2 && test -e /dev/fd/0 -a -e /dev/fd/1"));
        for (int i = 0; i < 10'000 && child.exits == 0; ++i) reactor.run_once(std::chrono::milliseconds(10));
        return child.result.code;
    };
    for (const bool closed : {true, false}) {
        CAPTURE(closed);
        CHECK(exit_code(closed) == 0);
    }
}

TEST_CASE("S104: nothing that the library opens takes the number of a standard stream that is closed") {
    std::string failed;
    {
        const KeptStandardStreams kept;
        KeptStandardStreams::close_all();
        const auto look = [&](const char* after) {
            for (int number = 0; number < 3; ++number)
                if (::fcntl(number, F_GETFD) >= 0 && failed.empty())
                    failed = std::to_string(number) + " is open after " + after;
        };
        Reactor reactor;
        reactor.run_once(Duration::zero());
        look("a loop");
        Acceptor acceptor(reactor, "127.0.0.1", 0, factory<Echo>());
        Socket client = Socket::open(Address::Family::ipv4);
        (void)client.connect(acceptor.addresses().at(0));
        for (int i = 0; i < 1000 && acceptor.connections() == 0; ++i) reactor.run_once(std::chrono::milliseconds(1));
        look("a connection");
        ConnectionOptions options;
        options.descriptors = 3;
        Journal sender, receiver;
        auto [one, other] = Socket::pair();
        Connection& sends = Connection::open(reactor, std::move(one), std::make_unique<Recorder>(sender), options);
        Connection::open(reactor, std::move(other), std::make_unique<Recorder>(receiver), options);
        for (int i = 0; i < 10; ++i) reactor.run_once(Duration::zero());
        const int number = client.get();
        sends.send_descriptors(bytes_of("here"), {&number, 1});
        for (int i = 0; i < 10; ++i) reactor.run_once(Duration::zero());
        if (receiver.input != "here") failed = "the descriptor did not come";
        look("a descriptor that came");
        Child child(reactor, shell("cat; exit 3"), streams(ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe));
        for (int i = 0; i < 10; ++i) reactor.run_once(Duration::zero());
        look("a child");
        const Signals signals(reactor, {SIGUSR2}, [](int) {});
        look("a watched signal");
        try {
            PipeTransport::standard(reactor, std::make_unique<Echo>());
            failed = "a transport over standard streams that are closed";
        } catch (const std::system_error& error) {
            if (error.code() != std::errc::bad_file_descriptor) failed = error.what();
        }
    }
    CHECK(failed == "");
}

TEST_CASE("S105: a NUL in an argument, a variable, a directory, a path or a name is refused, not cut off") {
    Reactor reactor;
    const std::string cut("true\0lost", 9);
    const auto refusal = [](auto&& start) {
        try {
            start();
        } catch (const std::system_error& error) {
            CHECK(std::string_view(error.what()).find("NUL") != std::string_view::npos);
            return error.code() == std::errc::invalid_argument;
        }
        return false;
    };
    const auto start = [&](const Command& command) {
        return refusal([&] { const Process process(reactor, command, {}, [](ExitStatus) {}); });
    };
    CHECK(start({cut}));
    CHECK(start({"true", cut}));
    Command command{"true"};
    command.environment = {{"PATH=/usr/bin:/bin", "NAME=" + cut}};
    CHECK(start(command));
    command = {"true"};
    command.directory = std::string("/\0lost", 6);
    CHECK(start(command));
    CHECK(refusal([&] { const SendFile protocol(cut); }));
    CHECK(refusal([&] { interface_number(std::string("lo\0lost", 7)); }));
    CHECK_FALSE(Address::ip(std::string("fe80::1%lo\0lost", 15), 80));
    CHECK_THROWS_AS(Address::unix_path(cut), std::system_error);
    CHECK_THROWS_AS(Address::parse("unix:" + cut), std::system_error);
    CHECK_THROWS_AS(resolve_blocking(cut, 80), std::system_error);
    CHECK(all_reaped());
}

#if REACTOR_HAS(PIDFD) && defined(SYS_clone3)
namespace {

// A child with the number that it is given, which ends with 7 when it is asked to. -1 where that is not allowed.
pid_t fork_as(pid_t number, int asked) {
    struct {  // clone_args, of which old headers know less
        std::uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size;
    } arguments{};
    arguments.exit_signal = SIGCHLD;
    arguments.set_tid = reinterpret_cast<std::uintptr_t>(&number);
    arguments.set_tid_size = 1;
    const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child != 0) return pid_t(child);
    char byte;
    ::_exit(::read(asked, &byte, 1) == 1 ? 7 : 1);
}

// Another process with the number of a child that has ended. SIGCHLD was ignored, so that the kernel gave it away.
class Stranger {
public:
    /// `start` starts a child that ends, and returns its number.
    template <class Start>
    explicit Stranger(Start&& start) {
        struct sigaction before {
        }, ignored{};
        ignored.sa_handler = SIG_IGN;
        ::sigaction(SIGCHLD, &ignored, &before);
        number_ = start();
        // Where SIGCHLD is ignored this waits for the end.
        CHECK(::waitpid(number_, nullptr, 0) == -1);
        ::sigaction(SIGCHLD, &before, nullptr);
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        asked_ = FileDescriptor(ends[0]);
        asks_ = FileDescriptor(ends[1]);
        id_ = fork_as(number_, asked_.get());
        if (!exists()) MESSAGE("only root can give a process a number: " << std::strerror(errno));
    }
    bool exists() const { return id_ == number_; }
    void let_end() const { REQUIRE(::write(asks_.get(), "!", 1) == 1); }
    /// It ended by itself, and nothing has waited for it.
    void check_untouched() const {
        int status = 0;
        CHECK(::waitpid(id_, &status, 0) == id_);
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 7);
    }

private:
    pid_t number_ = -1, id_ = -1;
    FileDescriptor asked_, asks_;
};

}  // namespace

TEST_CASE("S106: a child whose number another process has by now is neither signalled nor waited for in its place") {
    Reactor reactor;
    std::optional<Child> child;
    const Stranger stranger([&] { return child.emplace(reactor, shell("exit 4")).process->id(); });
    if (!stranger.exists()) return;
    CHECK(child->process->running());
    CHECK_FALSE(child->process->kill(SIGTERM));
    SUBCASE("destroyed") {
        child.reset();
    }
    SUBCASE("told") {
        run_until(reactor, [&] { return child->exits > 0; });
        CHECK_FALSE(child->result.code);
        CHECK_FALSE(child->result.signal);
    }
    stranger.let_end();
    stranger.check_untouched();
}

TEST_CASE("S98, S106: a successor whose number another process has by now has failed, and that one is left alone") {
    Reactor reactor;
    int decisions = 0;
    std::error_code reason;
    const std::vector<std::string> arguments{"sh", "-c", "exit 4"};
    const auto decided = [&](std::error_code error) {
        ++decisions;
        reason = error;
    };
    std::optional<Successor> successor;
    const Stranger stranger([&] {
        return successor.emplace(reactor, std::vector<int>(), "/bin/sh", arguments, std::chrono::hours(1), decided)
            .id();
    });
    if (!stranger.exists()) return;
    stranger.let_end();
    SUBCASE("destroyed") {
        successor.reset();
    }
    SUBCASE("decided") {
        run_until(reactor, [&] { return decisions > 0; });
        CHECK(reason == Error::successor_ended);
    }
    stranger.check_untouched();
}
#endif

TEST_CASE("S71: children are waited for by their own id, whatever others there are") {
    Reactor reactor;
    const pid_t other = ::fork();
    if (other == 0) ::_exit(9);
    Child first(reactor, shell("exit 1")), second(reactor, shell("exit 2"));
    run_until(reactor, [&] { return first.exits > 0 && second.exits > 0; });
    CHECK(first.result.code == 1);
    CHECK(second.result.code == 2);
    int status = 0;
    CHECK(::waitpid(other, &status, 0) == other);  // no other code took it
    CHECK(WEXITSTATUS(status) == 9);
}

TEST_CASE("A child that somebody else has waited for has an unknown end, told all the same") {
    Reactor reactor;
    Child child(reactor, shell("exit 4"));
    CHECK(::waitpid(child.process->id(), nullptr, 0) == child.process->id());
    run_until(reactor, [&] { return child.exits > 0; });
    CHECK_FALSE(child.result.code);
    CHECK_FALSE(child.result.signal);
}

TEST_CASE("A process that is destroyed leaves no child and no zombie, and is silent") {
    Reactor reactor;
    const std::size_t before = open_descriptors();
    {
        Child running(reactor, {"sleep", "1000"}, streams(ProcessOptions::Stream::pipe, ProcessOptions::Stream::pipe));
        Child ended(reactor, {"true"});
        const pid_t id = running.process->id();
        running.process.reset();
        CHECK(::kill(id, 0) == -1);
        ended.process.reset();
        CHECK(all_reaped());
        run_until(reactor, [&] { return running.journal.over; });
        CHECK(running.exits == 0);
        CHECK(ended.exits == 0);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("S4: a process may be destroyed in the callback that tells its exit") {
    Reactor reactor;
    std::unique_ptr<Process> process;
    bool told = false;
    const std::vector<std::string> command{"true"};
    process = std::make_unique<Process>(reactor, command, ProcessOptions{}, [&](ExitStatus status) {
        process.reset();
        told = status.success();
    });
    run_until(reactor, [&] { return told; });
}

#if REACTOR_HAS(PIDFD)
TEST_CASE(
    "S103: a child that is traced when it ends does not keep the loop awake, and its exit is reported in the end") {
    Reactor reactor;
    reactor.run_once(Duration::zero());
    Child child(reactor, {"sleep", "1000"});
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const FileDescriptor reading(ends[0]), writing(ends[1]);
    const pid_t tracer = ::fork();
    REQUIRE(tracer >= 0);
    if (tracer == 0) {
        const bool traces = ::ptrace(PTRACE_SEIZE, child.process->id(), nullptr, nullptr) == 0;
        (void)!::write(writing.get(), traces ? "y" : "n", 1);
        ::pause();
        ::_exit(0);
    }
    char answer = 'n';
    REQUIRE(::read(reading.get(), &answer, 1) == 1);
    REQUIRE(child.process->kill(SIGKILL));
    if (answer == 'y') {
        while (reactor.run_once() == 0) {
        }
        reactor.run_once(Duration::zero());  // the change of interest
        CHECK(child.exits == 0);
        CHECK(reactor.run_once(Duration::zero()) == 0);
        REQUIRE(reactor.next_timeout());
        CHECK(*reactor.next_timeout() > Duration::zero());
    } else {
        MESSAGE("skipped: no right to trace");
    }
    REQUIRE(::kill(tracer, SIGKILL) == 0);
    REQUIRE(::waitpid(tracer, nullptr, 0) == tracer);
    run_until(reactor, [&] { return child.exits > 0; });
    CHECK(child.exits == 1);
    CHECK(child.result.signal == SIGKILL);
    CHECK_FALSE(reactor.next_timeout());
}
#endif

TEST_CASE("A thousand children come and go, and leave nothing behind") {
    Reactor reactor;
    const std::size_t before = open_descriptors();
    const std::vector<std::string> command{"/bin/echo", "hello"};
    std::size_t started = 0, succeeded = 0, answered = 0;
    constexpr std::size_t all = 1000, at_a_time = 20;
    {
        std::vector<std::unique_ptr<Child>> children;
        run_until(reactor, [&] {
            std::erase_if(children, [&](const std::unique_ptr<Child>& child) {
                if (!child->journal.over || child->exits == 0) return false;
                succeeded += child->exits == 1 && child->result.success();
                answered += child->journal.input == "hello\n";
                return true;
            });
            while (children.size() < at_a_time && started < all) {
                children.push_back(std::make_unique<Child>(
                    reactor, command, streams(ProcessOptions::Stream::null, ProcessOptions::Stream::pipe)));
                ++started;
            }
            return children.empty();
        });
    }
    CHECK(succeeded == all);
    CHECK(answered == all);
    CHECK(open_descriptors() == before);
    CHECK(all_reaped());
}

#ifdef __GLIBC__  // with musl, posix_spawn(3) fails: it makes a pipe of its own
TEST_CASE("Where no handle of a child is to be had, its end is told all the same") {
    Reactor reactor;
    reactor.run_once(Duration::zero());
    rlimit limit{}, none{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    const auto duplicate = [] { return FileDescriptor(::fcntl(0, F_DUPFD_CLOEXEC, 0)); };
    const FileDescriptor next = duplicate();
    none.rlim_cur = rlim_t(next.get() + 1);  // every number below it is in use
    std::vector<FileDescriptor> filling;
    for (;;) {
        FileDescriptor one = duplicate();
        if (one.get() >= next.get() + 1) break;
        filling.push_back(std::move(one));
    }
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    Child child(reactor, shell("exit 5"));
    Child endless(reactor, {"sleep", "1000"});
    ::setrlimit(RLIMIT_NOFILE, &limit);
    run_until(reactor, [&] { return child.exits > 0; });
    CHECK(child.result.code == 5);
    CHECK(endless.process->kill(SIGTERM));
    run_until(reactor, [&] { return endless.exits > 0; });
    CHECK(endless.result.signal == SIGTERM);
    {
        ::setrlimit(RLIMIT_NOFILE, &none);
        Child forgotten(reactor, {"sleep", "1000"});
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    CHECK(all_reaped());
}
#endif
