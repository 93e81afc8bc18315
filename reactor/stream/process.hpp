// Process: a child of this program's, started with its three streams where they are wanted, spoken with by protocols,
// and waited for by its own id: never by SIGCHLD, and never for "any child", so that it gets along with whatever else
// in the program starts children.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/stream/transport.hpp>
#include <reactor/timer.hpp>

#include <sys/types.h>

#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace reactor {

/// How a child ended. If neither is there, other code has waited for it: the program ignores SIGCHLD, or calls
/// waitpid(2) for children that are not its own.
struct ExitStatus {
    std::optional<int> code;    ///< returned from main
    std::optional<int> signal;  ///< the signal that ended it

    bool success() const noexcept { return code == 0; }
};

/// A program to start: its name and arguments, its folder and its environment.
struct Command {
    Command(std::vector<std::string> name_and_arguments) : arguments(std::move(name_and_arguments)) {}
    Command(std::initializer_list<std::string> name_and_arguments) : arguments(name_and_arguments) {}

    /// The first is the program; without a slash it is looked for in PATH.
    std::vector<std::string> arguments;
    /// Where it runs; a relative program with a slash, too, is looked for there. Empty: where this program is. Throws
    /// std::system_error (operation_not_supported) where posix_spawn(3) cannot do that.
    std::string directory = {};
    /// "NAME=value" each. Nothing: this program's own.
    std::optional<std::vector<std::string>> environment = {};
};

/// The streams of a child, and the protocols that talk with it.
struct ProcessOptions {
    /// The other end of one of the child's three streams.
    enum class Stream {
        inherit,  ///< the program's own; /dev/null where that is closed, or close-on-exec
        null,     ///< /dev/null
        pipe,     ///< a pipe to a protocol here
        output    ///< for standard error: where standard output goes
    };
    Stream input = Stream::inherit;
    Stream output = Stream::inherit;
    Stream error = Stream::inherit;
    /// Writes to the child's standard input and receives its standard output, those of them that are pipes:
    /// shutdown_write() is the end of its input. There is one if, and only if, one of them is.
    std::unique_ptr<Protocol> protocol = {};
    /// Receives the child's standard error, if that is a pipe. Both may set their transport's limits in `connected`.
    std::unique_ptr<Protocol> error_protocol = {};
};

/// One child. On the loop's thread only; must go before its reactor. Its transports belong to the reactor, and end when
/// the child, and every process that has inherited its streams from it, has closed them: before or after its exit is
/// reported.
class REACTOR_EXPORT Process final : EventHandler {
public:
    /// Starts the command (posix_spawn(3): nothing of this program runs in the child). The child has the three streams
    /// and every descriptor that is not close-on-exec, as all of this library's are; no signal is blocked, and SIGPIPE
    /// has its default disposition. `exited` is called from the loop, exactly once, and may destroy this object.
    ///
    /// Throws std::system_error with exec's error (no_such_file_or_directory, permission_denied …) and the command's
    /// name, and (invalid_argument) for a NUL in an argument, a variable or the directory; std::invalid_argument for an
    /// empty command, for an empty `exited`, and for a protocol without a pipe or a pipe without one.
    [[nodiscard]] Process(Reactor& reactor, const Command& command, ProcessOptions options,
                          MoveOnlyFunction<void(ExitStatus)> exited);

    /// Kills the child if it has not ended (SIGKILL), and waits for it: nothing is left, and `exited` is not called.
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    /// The child's id; of no use once it has exited, because another process may then have it.
    pid_t id() const noexcept { return id_; }
    bool running() const noexcept { return running_; }

    /// Sends the child a signal. Returns false, and sends nothing, if the child has exited. The signal goes through the
    /// child's handle (pidfd_send_signal(2), Linux 5.3), and so never meets another process.
    ///
    /// Without a handle the child's number is used (kill(2)): on other systems, where a filter forbids pidfd_open(2),
    /// and when no descriptor is free. The kernel keeps the number until `exited` is called. Two programs are
    /// exceptions, and may hit another process: one that ignores SIGCHLD, and one that waits for children that are not
    /// its own.
    bool kill(int signal) noexcept;

private:
    void readable() override { reap(); }
    void lost(std::error_code) override;
    void watch();
    void watch_by_thread();
    void join_waiting() noexcept;
    void reap();
    void end() noexcept;

    Reactor& reactor_;
    Callback<void(ExitStatus)> exited_;
    pid_t id_ = -1;
    bool running_ = false;
    bool collected_ = false;  // not by this one: its number may be another process's
    FileDescriptor handle_;   // of the child: readable when it has ended
    Registration registration_;
    Timer look_again_{reactor_, [this] { reap(); }};  // for the end of a child that is traced
    std::shared_ptr<Process*> self_;                  // for the thread's post, which may come when this is gone
    std::thread waiting_;                             // where there is no such handle
};

}  // namespace reactor
