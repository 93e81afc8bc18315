// ChildProcess: a child of this program's, whose streams and end a coroutine awaits.
#pragma once

#include <reactor/coroutine/manual_reset_event.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/process.hpp>

#include <sys/types.h>

#include <optional>

namespace reactor {

/// A Process with streams in the place of protocols.
///
///     ProcessOptions options;
///     options.input = options.output = ProcessOptions::Stream::pipe;
///     ChildProcess sort(reactor, {"sort"}, std::move(options));
///     co_await sort.stream().write("b\na\n");
///     sort.stream().shutdown_write();
///     const auto sorted = co_await sort.stream().read_until_end();
///     const ExitStatus status = co_await sort.wait();
///
/// Thread: the loop's. Errors: those of Process, thrown; std::invalid_argument if the options have a protocol.
/// Lifetime: must go before its reactor. Destroying it kills the child if it has not ended, and waits for it; tasks
/// that wait for its end are then never resumed.
class REACTOR_EXPORT ChildProcess {
public:
    [[nodiscard]] ChildProcess(Reactor& reactor, const Command& command, ProcessOptions options = {});
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;

    /// Writes to its standard input and reads its standard output, those of them that are pipes. Of no connection if
    /// none is.
    Stream& stream() noexcept { return stream_; }
    /// Reads its standard error, if that is a pipe.
    Stream& error() noexcept { return error_; }

    /// Waits until it has ended. May be awaited by several tasks, and again.
    Task<ExitStatus> wait();

    pid_t id() const noexcept { return process_.id(); }
    bool running() const noexcept { return process_.running(); }
    /// As Process::kill.
    bool kill(int signal) noexcept { return process_.kill(signal); }

private:
    void exited(ExitStatus status) noexcept;

    Stream stream_, error_;
    std::optional<ExitStatus> status_;
    ManualResetEvent exited_;
    Process process_;
};

}  // namespace reactor
