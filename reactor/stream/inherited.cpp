// A restart that keeps the listening sockets: the predecessor starts its successor with them at the numbers from 3 on,
// as systemd does (sd_listen_fds(3)), and learns by a pipe that it accepts. fork(2) and not posix_spawn(3), because
// LISTEN_PID has to be the child's own number, which is known in the child only.
#include <reactor/stream/inherited.hpp>

#include <reactor/error.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/pipe_ends_impl.hpp>
#include <reactor/stream/child_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <utility>

extern char** environ;

namespace reactor {

namespace {

constexpr int first_inherited = 3;
constexpr const char* predecessor_variable = "REACTOR_PREDECESSOR";  // "PROCESS:DESCRIPTOR"

[[noreturn]] void refuse(const char* variable, const char* text) {
    throw std::system_error(EINVAL, std::system_category(), std::string(variable) + "='" + text + "'");
}

// A number that is not negative and stands in front of `end`, or all of it; -1 if there is no such number.
int number_in(std::string_view text) noexcept {
    int number = -1;
    const auto [last, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && last == text.data() + text.size() ? number : -1;
}

// The whole of a variable as a number, 0 if there is none.
int number_of(const char* name) {
    const char* const text = std::getenv(name);
    if (text == nullptr) return 0;
    const int number = number_in(text);
    if (number < 0) refuse(name, text);
    return number;
}

bool says(const char* variable, std::string_view name) noexcept {
    const std::string_view text(variable);
    return text.starts_with(name) && text.size() > name.size() && text[name.size()] == '=';
}

// All that the child needs is made before fork(2): in a process with threads the child may only call what a signal
// handler may call.
struct Launch {
    Launch(const std::vector<int>& sockets, const std::string& program, const std::vector<std::string>& words)
        : path(program.c_str()), descriptors(sockets), count("LISTEN_FDS=" + std::to_string(sockets.size())) {
        for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
        arguments.push_back(nullptr);
        for (char** variable = environ; *variable != nullptr; ++variable) {
            bool replaced = false;
            // These describe the sockets that this process has inherited itself, and would be the child's second ones.
            for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", predecessor_variable})
                replaced = replaced || says(*variable, name);
            if (!replaced) environment.push_back(*variable);
        }
        environment.insert(environment.end(), {count.data(), process, predecessor, nullptr});
    }
    Launch(const Launch&) = delete;
    Launch& operator=(const Launch&) = delete;

    const char* path;
    std::vector<int> descriptors;
    std::string count;
    std::vector<char*> arguments, environment;
    // Room for the numbers that the child writes behind these: it must not allocate.
    char process[32] = "LISTEN_PID=";
    char predecessor[64] = "REACTOR_PREDECESSOR=";
};

// The numbers are known to the child alone.
void append_number(char* text, int number) noexcept {
    char* const end = text + std::strlen(text);
    *std::to_chars(end, end + 12, number).ptr = '\0';
}

// Handlers are the predecessor's: a signal that arrives between fork and exec must not be given to them and be
// forgotten.
void forget_handlers() noexcept {
    for (int signal = 1; signal < NSIG; ++signal) {
        struct sigaction action {};
        if (::sigaction(signal, nullptr, &action) != 0) continue;
        // Ignored signals stay ignored through exec, as the shell's nohup expects. SIGPIPE is what the program ignores
        // for itself.
        if (signal != SIGPIPE && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)) continue;
        action.sa_handler = SIG_DFL;
        action.sa_flags = 0;
        ::sigaction(signal, &action, nullptr);
    }
}

// A descriptor out of the way of those that are to be at the numbers below `free`. The old one is closed: near the
// limit of descriptors there is room for one at a time. -1, and the old one stays, if that fails.
int move_up(int descriptor, int free) noexcept {
    const int moved = ::fcntl(descriptor, F_DUPFD_CLOEXEC, free);
    if (moved >= 0) ::close(descriptor);
    return moved;
}

// In the child, with all signals blocked. Returns only if something failed, and has then said what.
void become(Launch& launch, int reading, int writing) noexcept {
    const int place = first_inherited + int(launch.descriptors.size());  // of the pipe
    ::close(reading);
    const auto prepared = [&] {
        // All are moved out of the way first. dup2(2) would close a socket that lies at a number which another is to
        // have.
        const int moved = move_up(writing, place + 1);
        if (moved < 0) return false;
        writing = moved;
        for (int& descriptor : launch.descriptors)
            if ((descriptor = move_up(descriptor, place + 1)) < 0) return false;
        // dup2(2) also clears close-on-exec, at these numbers and at no others.
        for (std::size_t i = 0; i < launch.descriptors.size(); ++i)
            if (::dup2(launch.descriptors[i], first_inherited + int(i)) < 0) return false;
        return ::dup2(writing, place) >= 0;
    };
    if (prepared()) {
        append_number(launch.process, ::getpid());
        append_number(launch.predecessor, ::getpid());
        std::strcat(launch.predecessor, ":");
        append_number(launch.predecessor, place);
        forget_handlers();
        sigset_t until_watched;
        sigemptyset(&until_watched);
        // A SIGHUP that comes before the successor has a handler would end it. Blocked, it waits.
        sigaddset(&until_watched, SIGHUP);
        ::sigprocmask(SIG_SETMASK, &until_watched, nullptr);
        ::execve(launch.path, launch.arguments.data(), launch.environment.data());
    }
    const int error = errno;
    // Four bytes are written as one (PIPE_BUF), and there is always room for them: nothing else goes through this pipe.
    (void)!::write(writing, &error, sizeof error);
}

pid_t start(Launch& launch, int reading, int writing) {
    sigset_t all, before;
    // Until the handlers are forgotten, no signal may run one of the parent's in the child.
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t child = ::fork();
    const int error = errno;
    if (child == 0) {
        become(launch, reading, writing);
        ::_exit(127);
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (child < 0) throw std::system_error(error, std::system_category(), "fork");
    return child;
}

bool is_same_file(const std::string& one, const char* other) noexcept {
    struct stat first {
    }, second{};
    return ::stat(one.c_str(), &first) == 0 && ::stat(other, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

}  // namespace

std::vector<Socket> inherited_sockets() {
    const int process = number_of("LISTEN_PID"), count = number_of("LISTEN_FDS");
    std::vector<Socket> sockets;
    if (process == ::getpid()) {
        for (int descriptor = first_inherited; descriptor - first_inherited < count; ++descriptor) {
            if (::fcntl(descriptor, F_GETFD) < 0)
                throw std::system_error(errno, std::system_category(),
                                        "LISTEN_FDS: descriptor " + std::to_string(descriptor));
            sockets.push_back(Socket::adopt(FileDescriptor(descriptor)));
        }
    }
    // Children of this process would take them for their own, if one of them got the same number.
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
    return sockets;
}

std::string program_path(const std::string& name) {
    constexpr const char* running = "/proc/self/exe";
    // Absolute ones, since the program may change its folder before it restarts.
    std::vector<std::string> candidates;
    if (name.find('/') != std::string::npos) {
        candidates.push_back(std::filesystem::absolute(name));
    } else if (const char* folders = std::getenv("PATH")) {
        for (std::string_view rest = folders; !rest.empty();) {
            const std::string_view folder = rest.substr(0, rest.find(':'));
            rest.remove_prefix(std::min(folder.size() + 1, rest.size()));
            candidates.push_back(std::filesystem::absolute(std::filesystem::path(folder) / name));
        }
    }
    struct stat state {};
    const bool is_told = ::stat(running, &state) == 0;  // otherwise the name has to do
    for (const std::string& candidate : candidates)
        if (is_told ? is_same_file(candidate, running) : ::access(candidate.c_str(), X_OK) == 0) return candidate;
    // The name is one that a shell or a program has made up.
    return std::filesystem::read_symlink(running);
}

Predecessor::Predecessor() {
    const char* const text = std::getenv(predecessor_variable);
    if (text == nullptr) return;
    const std::string_view both(text);
    const std::size_t colon = both.find(':');
    const int process = number_in(both.substr(0, colon));
    const int descriptor = colon == std::string_view::npos ? -1 : number_in(both.substr(colon + 1));
    if (process < 0 || descriptor < 0) refuse(predecessor_variable, text);
    if (process == ::getpid()) {
        // A child of this process that kept the writing end could keep the predecessor waiting.
        if (::fcntl(descriptor, F_SETFD, FD_CLOEXEC) < 0)
            throw std::system_error(last_error(), std::string(predecessor_variable) + "='" + text + "'");
        pipe_.reset(descriptor);
    }
    ::unsetenv(predecessor_variable);
}

void Predecessor::ready() noexcept {
    const int no_error = 0;
    if (pipe_) without_sigpipe(sizeof no_error, [&] { return ::write(pipe_.get(), &no_error, sizeof no_error); });
    pipe_.reset();
}

Successor::Successor(Reactor& reactor, const std::vector<int>& sockets, const std::string& program,
                     const std::vector<std::string>& arguments, Duration longest,
                     MoveOnlyFunction<void(std::error_code)> decided)
    : decided_(required(std::move(decided), "Successor: the callback is empty")),
      timer_(reactor, [this] { decide(Error::successor_timeout); }) {
    bool has_nul = program.find('\0') != std::string::npos;
    for (const std::string& argument : arguments) has_nul = has_nul || argument.find('\0') != std::string::npos;
    if (has_nul) throw std::invalid_argument("Successor: a NUL in the path or in an argument");

    Launch launch(sockets, program, arguments);
    PipeEnds pipe = make_pipe();
    if (!pipe) throw std::system_error(last_error(), "pipe");
    pipe_ = std::move(pipe.reading);
    if (::fcntl(pipe_.get(), F_SETFL, O_NONBLOCK) < 0) throw std::system_error(last_error(), "fcntl(F_SETFL)");
    // All that may fail comes before the fork: afterwards there is a child to be ended.
    timer_.start(longest);
    pipe_registration_ = reactor.watch(pipe_.get(), Interest::readable, *this);
    id_ = start(launch, pipe_.get(), pipe.writing.get());
    waits_ = true;
    // The end of the pipe shows the child's end only if no other process has the writing end, and a child's child has
    // it.
    handle_ = children::handle_of(id_);
    // The child has ended, and has been waited for because SIGCHLD is ignored: its number may be another process's by
    // now.
    if (!handle_ && errno == ESRCH) waits_ = false;
    try {
        if (handle_) handle_registration_ = reactor.watch(handle_.get(), Interest::readable, *this);
    } catch (const std::exception&) {
        // Without room for it the end of the pipe and the deadline have to do.
    }
}

Successor::~Successor() {
    end();
}

// From both registrations. The child's message counts, also if it has ended since.
void Successor::readable() {
    const bool ended = has_ended();
    int error = 0;
    const ssize_t count = ::read(pipe_.get(), &error, sizeof error);
    if (count == ssize_t(sizeof error)) return decide({error, std::system_category()});
    if (ended || (count == 0 && !handle_registration_)) return decide(Error::successor_ended);
    // The pipe is closed before the child says on standard error why it ends: so it is not ended here and now.
    if (count == 0) pipe_registration_.reset();
}

// Leaves its exit status to be collected.
bool Successor::has_ended() const noexcept {
    return !waits_ || children::wait_for(id_, handle_, WNOHANG | WNOWAIT).has_value();
}

void Successor::decide(std::error_code error) {
    if (error) {
        end();
    } else {
        waits_ = false;
    }
    timer_.cancel();
    pipe_registration_.reset();
    handle_registration_.reset();
    decided_(error);  // may destroy this
}

void Successor::end() noexcept {
    if (!std::exchange(waits_, false)) return;
    children::send_signal(id_, handle_, SIGKILL);
    children::wait_for(id_, handle_, 0);
}

}  // namespace reactor
