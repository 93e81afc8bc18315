// How a child is started, watched and collected. It is started by posix_spawn(3): glibc's shares the parent's memory
// until exec (CLONE_VM, CLONE_VFORK), so that a large program starts a child as fast as a small one, and an error of
// exec comes back as a result.
#include <reactor/detail/internals.hpp>
#include <reactor/signals_blocked_impl.hpp>
#include <reactor/stream/process.hpp>

#include <reactor/c_string_impl.hpp>
#include <reactor/pipe_ends_impl.hpp>
#include <reactor/stream/child_impl.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

extern char** environ;

namespace reactor {

namespace {

using Standard = ProcessOptions::Stream;  // of the three streams; a coroutine's Stream is another

void check(int error, const std::string& what) {
    if (error != 0) throw std::system_error(error, std::system_category(), what);
}

class FileActions {
public:
    FileActions() { check(::posix_spawn_file_actions_init(&actions_), "posix_spawn_file_actions_init"); }
    ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
    FileActions(const FileActions&) = delete;
    FileActions& operator=(const FileActions&) = delete;

    void duplicate(int from, int to) {
        // dup2(2) takes close-on-exec away, which is how the child gets this one and no other. From a number to itself
        // dup2(2) changes nothing, but the pipes are above 2.
        check(::posix_spawn_file_actions_adddup2(&actions_, from, to), "posix_spawn_file_actions_adddup2");
    }
    void open_null(int number, int mode) {
        check(::posix_spawn_file_actions_addopen(&actions_, number, "/dev/null", mode, 0),
              "posix_spawn_file_actions_addopen");
    }
    void change_to([[maybe_unused]] const std::string& directory) {
#if REACTOR_HAS(SPAWN_CHDIR)
        check(::posix_spawn_file_actions_addchdir_np(&actions_, directory.c_str()),
              "posix_spawn_file_actions_addchdir(" + directory + ")");
#else
        check(EOPNOTSUPP, "posix_spawn_file_actions_addchdir(" + directory + ")");
#endif
    }
    const posix_spawn_file_actions_t* get() const noexcept {
        return &actions_;
    }

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
        // A program may ignore SIGPIPE for itself. Children are other programs, which rely on it to end behind a reader
        // that has gone.
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

// Closed here, or close-on-exec, the child would not have it; the first file that it opens would be this standard
// stream.
bool is_inherited(int number) noexcept {
    const int flags = ::fcntl(number, F_GETFD);
    return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

}  // namespace

Process::Process(Reactor& reactor, const Command& command, ProcessOptions options,
                 MoveOnlyFunction<void(ExitStatus)> exited)
    : reactor_(reactor), exited_(required(std::move(exited), "Process: there is no callback for the exit")) {
    const bool input = options.input == Standard::pipe, output = options.output == Standard::pipe;
    const bool error = options.error == Standard::pipe;
    if (command.arguments.empty()) throw std::invalid_argument("Process: an empty command");
    const std::string name = std::string("Process: ") + command.arguments[0].c_str() + ": ";
    for (const std::string& argument : command.arguments) refuse_nul(argument, name + "an argument");
    for (const std::string& variable : command.environment.value_or(std::vector<std::string>()))
        refuse_nul(variable, name + "a variable");
    refuse_nul(command.directory, name + "the directory");
    if ((input || output) != bool(options.protocol) || error != bool(options.error_protocol))
        throw std::invalid_argument(name + "to each pipe a protocol and the other way round");
    if (options.input == Standard::output || options.output == Standard::output)
        throw std::invalid_argument(name + "only standard error can join standard output");

    FileActions actions;
    // The first action, so that all paths that follow, and the command's, are looked for there.
    if (!command.directory.empty()) actions.change_to(command.directory);
    // One after another in the child, which works because each lies above the numbers that they are to have.
    PipeEnds pipes[3];
    const Standard streams[3] = {options.input, options.output, options.error};
    for (int number = 0; number < 3; ++number) {
        PipeEnds& pipe = pipes[number];
        if (streams[number] == Standard::pipe) {
            // Blocking: the open file's flags are shared with the child, whose programs expect to wait. PipeTransport
            // opens our end anew, and sets it there.
            pipe = make_pipe();
            if (!pipe) check(errno, "pipe");
            actions.duplicate(number == STDIN_FILENO ? pipe.reading.get() : pipe.writing.get(), number);
        } else if (streams[number] == Standard::null ||
                   (streams[number] == Standard::inherit && !is_inherited(number))) {
            actions.open_null(number, number == STDIN_FILENO ? O_RDONLY : O_WRONLY);
        } else if (streams[number] == Standard::output && number == STDERR_FILENO) {
            actions.duplicate(STDOUT_FILENO, STDERR_FILENO);
        }
    }
    const Attributes attributes;
    const std::vector<char*> arguments = pointers_to(command.arguments);
    std::vector<char*> environment;
    if (command.environment) environment = pointers_to(*command.environment);
    char** const variables = command.environment ? environment.data() : environ;
    check(::posix_spawnp(&id_, arguments[0], actions.get(), attributes.get(), arguments.data(), variables),
          "posix_spawn(" + command.arguments[0] + (command.directory.empty() ? "" : ", in " + command.directory) + ")");
    // From here on there is a child: an error ends it again.
    running_ = true;
    try {
        // Before the transports, which run the user's protocols: only a child that is watched can be ended in order.
        watch();
        pipes[0].reading.reset();  // the child's ends, which only the child is to hold
        pipes[1].writing.reset();
        pipes[2].writing.reset();
        if (options.protocol)
            PipeTransport::open(reactor, std::move(pipes[1].reading), std::move(pipes[0].writing),
                                std::move(options.protocol));
        if (options.error_protocol)
            PipeTransport::open(reactor, std::move(pipes[2].reading), {}, std::move(options.error_protocol));
    } catch (...) {
        end();
        throw;
    }
}

Process::~Process() {
    end();
}

// Leaves no child behind.
void Process::end() noexcept {
    registration_.reset();
    // A post of the thread's may be on its way. It finds this empty, and does nothing.
    if (self_ != nullptr) *self_ = nullptr;
    // Before the thread is joined: it waits for just this.
    kill(SIGKILL);
    join_waiting();
    // It has been killed, so this wait is short, unless a debugger holds it. Without it the kernel keeps a zombie.
    if (std::exchange(running_, false) && !collected_) children::wait_for(id_, handle_, 0);
}

void Process::watch() {
    // pidfd_open(2), Linux 5.3: readable when the child has ended. The number is not another process's yet: a child
    // that has ended keeps it until it is waited for, unless SIGCHLD is ignored.
    handle_ = children::handle_of(id_);
    if (!handle_ && errno == ESRCH) {  // it has ended, and SIGCHLD is ignored or other code has waited for it
        collected_ = true;
        self_ = std::make_shared<Process*>(this);
        reactor_.post([self = self_] {
            if (*self != nullptr) (*self)->reap();
        });
        return;
    }
    if (!handle_) return watch_by_thread();
    registration_ = reactor_.watch(handle_.get(), Interest::readable, *this);
}

// A thread that waits for this one child, and leaves it to be collected here. SIGCHLD would do without a thread, but it
// is the whole process's: it has one handler, and says only that some children have ended.
void Process::watch_by_thread() {
    self_ = std::make_shared<Process*>(this);
    PreparedPost ended([self = self_] {
        if (*self != nullptr) (*self)->reap();
    });
    // A thread inherits the mask. A signal of the program's must not be delivered to this one.
    const SignalsBlocked blocked;
    waiting_ = std::thread([&reactor = reactor_, ended = std::move(ended), id = id_]() mutable {
        siginfo_t status{};
        // WNOWAIT: the zombie stays, and with it the number. So kill() on the loop never meets another process.
        while (::waitid(P_PID, id_t(id), &status, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
        }
        reactor.post(std::move(ended));
    });
    // As long as there is the thread: nothing is watched that would say that the child goes on.
    ++Internals(reactor_).awaited();
}

void Process::join_waiting() noexcept {
    if (!waiting_.joinable()) return;
    waiting_.join();
    --Internals(reactor_).awaited();
}

// The kernel has no room to watch the handle, which still serves for signals.
void Process::lost(std::error_code) {
    registration_.reset();
    watch_by_thread();
}

void Process::reap() {
    const std::optional<ExitStatus> status = collected_ ? ExitStatus() : children::wait_for(id_, handle_, WNOHANG);
    if (!status) {
        // The handle is readable and there is nothing to collect: the child is traced (ptrace(2)), and its tracer has
        // not waited for it yet. The kernel says nothing when it does.
        look_again_.start(std::chrono::milliseconds(50));
        if (registration_) registration_.set_interest(Interest::none);
        return;
    }
    running_ = false;
    look_again_.cancel();
    registration_.reset();
    handle_.reset();
    join_waiting();
    exited_(*status);  // may destroy this
}

bool Process::kill(int signal) noexcept {
    return running_ && !collected_ && children::send_signal(id_, handle_, signal);
}

}  // namespace reactor
