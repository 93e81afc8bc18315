// The part of restarting that the servers share: the signals that end a server or restart it, and the start of its
// successor on the sockets that listen. Not installed.
#pragma once

#include <protocols/programs/program.hpp>
#include <reactor/clock.hpp>
#include <reactor/function.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/inherited.hpp>

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace program {

/// SIGHUP asks for a restart. One that is ignored since the start, by nohup, stays ignored: nohup is to protect from a
/// terminal's end, and a restart would cut the connections that are left at the drain's deadline.
inline reactor::Signals watch_signals(reactor::Reactor& reactor, reactor::MoveOnlyFunction<void(int)> callback) {
    if (is_ignored(SIGHUP)) return {reactor, {SIGINT, SIGTERM}, std::move(callback)};
    return {reactor, {SIGHUP, SIGINT, SIGTERM}, std::move(callback)};
}

/// How this process was started.
struct Command {
    std::string program;                 // where its file is (reactor::program_path)
    std::vector<std::string> arguments;  // as it was called
};

/// Starts this program anew, as it was started, with the sockets that listen. If that fails, only the restart is lost.
class Restart {
public:
    /// `succeeded` is called when the successor accepts.
    Restart(reactor::Reactor& reactor, const Command& command, reactor::MoveOnlyFunction<void()> succeeded)
        : reactor_(reactor), command_(command), succeeded_(std::move(succeeded)) {}

    void begin(const std::vector<int>& sockets) {
        if (successor_) return say("cannot restart: a restart is under way");
        try {
            if (::getpid() == 1) throw std::runtime_error("the end of process 1 would end its successor, too");
            successor_.emplace(reactor_, sockets, command_.program, command_.arguments, longest,
                               [this](std::error_code error) { decided(error); });
        } catch (const std::exception& error) {
            say("cannot restart: {}", error.what());
        }
    }

    /// Ends a successor that does not accept yet.
    void cancel() { successor_.reset(); }

private:
    static constexpr reactor::Duration longest = std::chrono::seconds(30);

    void decided(std::error_code error) {
        if (error) {
            say("cannot restart: {}: {}", command_.program, error.message());
            return successor_.reset();
        }
        say("process {} goes on", successor_->id());
        succeeded_();
    }

    reactor::Reactor& reactor_;
    const Command& command_;
    reactor::MoveOnlyFunction<void()> succeeded_;
    std::optional<reactor::Successor> successor_;
};

}  // namespace program
