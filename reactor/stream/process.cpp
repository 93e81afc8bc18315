#include <reactor/signals_blocked_impl.hpp>
#include <reactor/stream/process.hpp>

#include <reactor/stream/pipe.hpp>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include <cerrno>
#include <csignal>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

extern char** environ;

namespace reactor {

namespace {

using Stream = ProcessOptions::Stream;

void check(int error, const std::string& what) {
    if (error != 0) throw std::system_error(error, std::system_category(), what);
}

// Both ends close-on-exec, and neither of them one of the three standard numbers, which the program may have closed:
// the child's are made there one after another, and must not lie where the next one's pipe still is.
struct Pipe {
    FileDescriptor reading, writing;

    static Pipe make() {
        int ends[2];
#ifdef __linux__
        if (::pipe2(ends, O_CLOEXEC) != 0) check(errno, "pipe2");
#else
        if (::pipe(ends) != 0) check(errno, "pipe");
        for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
#endif
        Pipe pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
        for (FileDescriptor* end : {&pipe.reading, &pipe.writing}) {
            if (end->get() > STDERR_FILENO) continue;
            FileDescriptor higher(::fcntl(end->get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
            if (!higher) check(errno, "fcntl(F_DUPFD_CLOEXEC)");
            *end = std::move(higher);
        }
        return pipe;
    }
};

class FileActions {
public:
    FileActions() { check(::posix_spawn_file_actions_init(&actions_), "posix_spawn_file_actions_init"); }
    ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
    FileActions(const FileActions&) = delete;
    FileActions& operator=(const FileActions&) = delete;

    void duplicate(int from, int to) {
        check(::posix_spawn_file_actions_adddup2(&actions_, from, to), "posix_spawn_file_actions_adddup2");
    }
    void open_null(int number, int mode) {
        check(::posix_spawn_file_actions_addopen(&actions_, number, "/dev/null", mode, 0),
              "posix_spawn_file_actions_addopen");
    }
    void change_to([[maybe_unused]] const std::string& directory) {
#if defined(__APPLE__) || (defined(__GLIBC__) && __GLIBC_MINOR__ >= 29) || (defined(__FreeBSD__) && __FreeBSD__ >= 14)
        check(::posix_spawn_file_actions_addchdir_np(&actions_, directory.c_str()),
              "posix_spawn_file_actions_addchdir(" + directory + ")");
#else
        check(EOPNOTSUPP, "posix_spawn_file_actions_addchdir(" + directory + ")");
#endif
    }
    const posix_spawn_file_actions_t* get() const noexcept { return &actions_; }

private:
    posix_spawn_file_actions_t actions_;
};

// A loop's thread may have every signal blocked (ReactorGroup), and a mask goes through exec; so does being ignored.
class Attributes {
public:
    Attributes() {
        check(::posix_spawnattr_init(&attributes_), "posix_spawnattr_init");
        sigset_t none, pipe;
        sigemptyset(&none);
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        ::posix_spawnattr_setsigmask(&attributes_, &none);
        ::posix_spawnattr_setsigdefault(&attributes_, &pipe);
        ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    }
    ~Attributes() { ::posix_spawnattr_destroy(&attributes_); }
    Attributes(const Attributes&) = delete;
    Attributes& operator=(const Attributes&) = delete;
    const posix_spawnattr_t* get() const noexcept { return &attributes_; }

private:
    posix_spawnattr_t attributes_;
};

std::vector<char*> pointers_to(const std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (const std::string& string : strings) result.push_back(const_cast<char*>(string.c_str()));
    result.push_back(nullptr);
    return result;
}

// Waits for this child and no other. An empty result means that it has not ended; `flags` as for waitpid(2).
std::optional<ExitStatus> wait_for(pid_t id, int flags) noexcept {
    int status = 0;
    pid_t waited = 0;
    do {
        waited = ::waitpid(id, &status, flags);
    } while (waited < 0 && errno == EINTR);
    if (waited == 0) return std::nullopt;
    ExitStatus result;
    if (waited == id && WIFEXITED(status)) result.code = WEXITSTATUS(status);
    if (waited == id && WIFSIGNALED(status)) result.signal = WTERMSIG(status);
    return result;
}

// The kernel's handle of a process, readable when it has ended; none before Linux 5.3 and elsewhere. It is
// close-on-exec by itself (pidfd_open(2)).
FileDescriptor handle_of([[maybe_unused]] pid_t id) noexcept {
#ifdef SYS_pidfd_open
    return FileDescriptor(int(::syscall(SYS_pidfd_open, id, 0)));
#else
    return {};
#endif
}

}  // namespace

Process::Process(Reactor& reactor, const std::vector<std::string>& command, ProcessOptions options,
                 MoveOnlyFunction<void(ExitStatus)> exited)
    : reactor_(reactor), exited_(required(std::move(exited), "Process: there is no callback for the exit")) {
    const bool input = options.input == Stream::pipe, output = options.output == Stream::pipe;
    const bool error = options.error == Stream::pipe;
    if (command.empty()) throw std::invalid_argument("Process: an empty command");
    if ((input || output) != bool(options.protocol) || error != bool(options.error_protocol))
        throw std::invalid_argument("Process: " + command[0] + ": to each pipe a protocol and the other way round");
    if (options.input == Stream::output || options.output == Stream::output)
        throw std::invalid_argument("Process: " + command[0] + ": only standard error can join standard output");

    FileActions actions;
    if (!options.directory.empty()) actions.change_to(options.directory);
    Pipe pipes[3];
    const Stream streams[3] = {options.input, options.output, options.error};
    for (int number = 0; number < 3; ++number) {
        Pipe& pipe = pipes[number];
        if (streams[number] == Stream::pipe) {
            pipe = Pipe::make();
            actions.duplicate(number == STDIN_FILENO ? pipe.reading.get() : pipe.writing.get(), number);
        } else if (streams[number] == Stream::null) {
            actions.open_null(number, number == STDIN_FILENO ? O_RDONLY : O_WRONLY);
        } else if (streams[number] == Stream::output && number == STDERR_FILENO) {
            actions.duplicate(STDOUT_FILENO, STDERR_FILENO);
        }
    }
    const Attributes attributes;
    const std::vector<char*> arguments = pointers_to(command);
    std::vector<char*> environment;
    if (options.environment) environment = pointers_to(*options.environment);
    char** const variables = options.environment ? environment.data() : environ;
    check(::posix_spawnp(&id_, arguments[0], actions.get(), attributes.get(), arguments.data(), variables),
          "posix_spawn(" + command[0] + (options.directory.empty() ? "" : ", in " + options.directory) + ")");
    running_ = true;
    try {
        watch();
        pipes[0].reading.reset();  // the child's ends, which only the child is to hold
        pipes[1].writing.reset();
        pipes[2].writing.reset();
        if (options.protocol)
            PipeTransport::open(reactor, std::move(pipes[1].reading), std::move(pipes[0].writing),
                                std::move(options.protocol), options.limits);
        if (options.error_protocol)
            PipeTransport::open(reactor, std::move(pipes[2].reading), {}, std::move(options.error_protocol),
                                options.limits);
    } catch (...) {
        end();
        throw;
    }
}

Process::~Process() { end(); }

// Leaves nobody behind.
void Process::end() noexcept {
    registration_.reset();
    if (self_ != nullptr) *self_ = nullptr;
    if (running_) ::kill(id_, SIGKILL);
    if (waiting_.joinable()) waiting_.join();
    if (std::exchange(running_, false)) wait_for(id_, 0);
}

void Process::watch() {
    handle_ = handle_of(id_);
    if (!handle_) return watch_by_thread();
    registration_ = reactor_.watch(handle_.get(), Interest::readable, *this);
}

// A thread that waits for this one child, and leaves it to be collected here. SIGCHLD would do without a thread, but it
// is the whole process's: it has one handler, and tells only that some children have ended.
void Process::watch_by_thread() {
    self_ = std::make_shared<Process*>(this);
    const SignalsBlocked blocked;
    waiting_ = std::thread([&reactor = reactor_, self = self_, id = id_] {
        siginfo_t ended{};
        while (::waitid(P_PID, id_t(id), &ended, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
        }
        for (;;) {
            try {
                reactor.post([self] {
                    if (*self != nullptr) (*self)->reap();
                });
                return;
            } catch (const std::bad_alloc&) {
                std::this_thread::yield();  // nobody else will tell
            }
        }
    });
}

// The kernel has no room to watch the handle.
void Process::lost(std::error_code) {
    registration_.reset();
    handle_.reset();
    watch_by_thread();
}

void Process::reap() {
    const std::optional<ExitStatus> status = wait_for(id_, WNOHANG);
    if (!status) {
        // The handle is readable and there is nothing to collect: the child is traced (ptrace(2)), and its tracer has not
        // waited for it yet. The kernel says nothing when it does.
        look_again_.start(std::chrono::milliseconds(50));
        if (registration_) registration_.set_interest(Interest::none);
        return;
    }
    running_ = false;
    look_again_.cancel();
    registration_.reset();
    handle_.reset();
    if (waiting_.joinable()) waiting_.join();
    exited_(*status);  // may destroy this
}

bool Process::kill(int signal) noexcept { return running_ && ::kill(id_, signal) == 0; }

}  // namespace reactor
