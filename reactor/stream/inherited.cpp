#include <reactor/stream/inherited.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>

extern char** environ;

namespace reactor {

namespace {

constexpr int first_inherited = 3;

// The whole of a variable as a number, 0 if there is none.
int number_in(const char* name) {
    const char* const text = std::getenv(name);
    if (text == nullptr) return 0;
    const char* const end = text + std::strlen(text);
    int number = -1;
    const auto [last, error] = std::from_chars(text, end, number);
    if (error != std::errc() || last != end || number < 0)
        throw std::system_error(EINVAL, std::system_category(), std::string(name) + "='" + text + "'");
    return number;
}

bool says(const char* variable, std::string_view name) noexcept {
    const std::string_view text(variable);
    return text.starts_with(name) && text.size() > name.size() && text[name.size()] == '=';
}

// What the child needs, all of it made before fork(2): of a process with threads the child may only call what
// a signal handler may.
struct Launch {
    std::vector<char*> arguments, environment;
    std::string sockets;
    char process[32] = "LISTEN_PID=";
    std::vector<int> descriptors;
};

// In the child. Returns only if something failed.
void become(const char* program, Launch& launch, int failure) noexcept {
    // The number of this process, which only it knows.
    const auto end = std::to_chars(launch.process + std::strlen(launch.process), launch.process + sizeof launch.process - 1,
                                   ::getpid());
    *end.ptr = '\0';
    // Out of each other's way first: one may stand where another is to be.
    const int free = first_inherited + int(launch.descriptors.size());
    failure = ::fcntl(failure, F_DUPFD_CLOEXEC, free);
    for (int& descriptor : launch.descriptors) {
        descriptor = ::fcntl(descriptor, F_DUPFD_CLOEXEC, free);
        if (descriptor < 0) break;
    }
    bool moved = true;
    for (std::size_t i = 0; i < launch.descriptors.size() && moved; ++i)
        moved = launch.descriptors[i] >= 0 && ::dup2(launch.descriptors[i], first_inherited + int(i)) >= 0;
    if (moved) {
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::execve(program, launch.arguments.data(), launch.environment.data());
    }
    const int error = errno;
    (void)!::write(failure, &error, sizeof error);
}

}  // namespace

std::vector<Socket> inherited_sockets() {
    const int process = number_in("LISTEN_PID"), count = number_in("LISTEN_FDS");
    std::vector<Socket> sockets;
    if (process == ::getpid()) {
        for (int descriptor = first_inherited; descriptor - first_inherited < count; ++descriptor) {
            if (::fcntl(descriptor, F_GETFD) < 0)
                throw std::system_error(errno, std::system_category(),
                                        "LISTEN_FDS: descriptor " + std::to_string(descriptor));
            sockets.push_back(Socket::adopt(FileDescriptor(descriptor)));
        }
    }
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
    return sockets;
}

pid_t start_successor(const std::vector<int>& sockets, const std::string& program,
                      const std::vector<std::string>& arguments) {
    Launch launch;
    launch.descriptors = sockets;
    launch.sockets = "LISTEN_FDS=" + std::to_string(sockets.size());
    for (const std::string& argument : arguments) launch.arguments.push_back(const_cast<char*>(argument.c_str()));
    launch.arguments.push_back(nullptr);
    for (char** variable = environ; *variable != nullptr; ++variable)
        if (!says(*variable, "LISTEN_PID") && !says(*variable, "LISTEN_FDS") && !says(*variable, "LISTEN_FDNAMES"))
            launch.environment.push_back(*variable);
    launch.environment.insert(launch.environment.end(), {launch.sockets.data(), launch.process, nullptr});

    const auto fail = [&](int error) { throw std::system_error(error, std::system_category(), "start " + program); };
    int ends[2];
    if (::pipe(ends) != 0) fail(errno);
    const FileDescriptor reading(ends[0]);
    FileDescriptor writing(ends[1]);
    for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);

    const pid_t child = ::fork();
    if (child < 0) fail(errno);
    if (child == 0) {
        become(program.c_str(), launch, writing.get());
        ::_exit(127);
    }
    writing.reset();
    int error = 0;
    ssize_t count = 0;
    while ((count = ::read(reading.get(), &error, sizeof error)) < 0 && errno == EINTR) {
    }
    if (count <= 0) return child;  // exec has closed it
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    fail(error);
    return child;
}

}  // namespace reactor
