// Coroutines that await what the system has beside connections: pipes, children, signals.
#include "../support/loop.hpp"
#include "../support/temporary_folder.hpp"
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>
#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/child_process.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/open_stream.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/signal_set.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/file_descriptor.hpp>

#include <csignal>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

// The text of a whole stream, or its error.
Task<std::string> all_of_stream(Stream& stream) {
    const auto bytes = co_await stream.read_until_end();
    co_return bytes ? std::string(text_of(*bytes)) : bytes.error().message();
}

Task<> write_and_end(Stream& stream, std::string text) {
    co_await stream.write(text);
    stream.shutdown_write();
}

std::pair<FileDescriptor, FileDescriptor> pipe_ends() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

// ── streams over descriptors ──

Task<std::string> through_a_pipe(Reactor& reactor, std::string text) {
    auto [reading, writing] = pipe_ends();
    Stream from = open_stream(reactor, std::move(reading), FileDescriptor());
    Stream to = open_stream(reactor, FileDescriptor(), std::move(writing));
    auto [read, none] = co_await all_of(all_of_stream(from), write_and_end(to, text));
    (void)none;
    co_return read;
}

Task<std::string> between_sockets(Reactor& reactor, Socket one, Socket other) {
    Stream from = open_stream(reactor, std::move(one)), to = open_stream(reactor, std::move(other));
    co_await to.write("hel", "lo\nmore");
    const auto line = co_await from.read<Lines>();
    std::string text(text_of(line.value()));
    co_await to.write("\n");
    to.close();
    const auto rest = co_await from.read<Lines>();
    text += "/" + std::string(text_of(rest.value()));
    const auto end = co_await from.read_some();
    co_return text + (end.error() == Error::end_of_stream ? "" : end.error().message());
}

// ── children ──

ProcessOptions all_piped() {
    ProcessOptions options;
    options.input = options.output = options.error = ProcessOptions::Stream::pipe;
    return options;
}

Task<> sort_lines(Reactor& reactor, std::vector<std::string>& notes) {
    const Command command{"sh", "-c", "sort; echo done >&2; exit 3"};
    ChildProcess child(reactor, command, all_piped());
    auto [sorted, errors, none] = co_await all_of(all_of_stream(child.stream()), all_of_stream(child.error()),
                                                  write_and_end(child.stream(), "b\na\n"));
    (void)none;
    const ExitStatus status = co_await child.wait();
    const std::string code = std::to_string(status.code.value_or(-1));
    for (const std::string& note : {sorted, errors, code}) notes.push_back(note);
    CHECK_FALSE(child.running());
    CHECK((co_await child.wait()).code == 3);
}

Task<int> killed_by_timeout(Reactor& reactor) {
    const Command command{"sleep", "1000"};
    ChildProcess child(reactor, command);
    const auto early = co_await timeout(1ms, child.wait());
    CHECK(early.error() == std::errc::timed_out);
    CHECK(child.kill(SIGTERM));
    const ExitStatus status = co_await child.wait();
    co_return status.signal.value_or(0);
}

// ── signals ──

Task<std::vector<int>> three_signals(Reactor& reactor) {
    SignalSet signals(reactor, {SIGUSR1, SIGUSR2});
    ::raise(SIGUSR1);
    std::vector<int> taken;
    taken.push_back(co_await signals.wait());
    ::raise(SIGUSR2);
    ::raise(SIGUSR2);  // the same while it is pending: once
    co_await sleep(1ms);
    taken.push_back(co_await signals.wait());
    const auto none = co_await first_of(signals.wait(), sleep(1ms));
    taken.push_back(none.index() == 0 ? -1 : 0);
    ::raise(SIGUSR1);
    const auto next = co_await first_of(signals.wait(), sleep(1h));
    taken.push_back(next.index() == 0 ? std::get<0>(next) : -1);
    co_return taken;
}

Task<> take_signal(SignalSet& signals, std::vector<int>& taken) {
    taken.push_back(co_await signals.wait());
}

}  // namespace

TEST_CASE("a coroutine writes to a pipe and reads from one") {
    Reactor reactor;
    const std::size_t descriptors = open_descriptors();
    const std::string text = random_bytes(500'000, 1);  // more than a pipe holds
    CHECK(run(reactor, through_a_pipe(reactor, text)) == text);
    settle(reactor);
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a stream over a socket that is connected already, written to before the loop turns") {
    Reactor reactor;
    auto [one, other] = tcp_pair();
    CHECK(run(reactor, between_sockets(reactor, std::move(one), std::move(other))) == "hello/more");
}

TEST_CASE("a stream that is destroyed before its connection has begun closes it") {
    Reactor reactor;
    auto [mine, other] = tcp_pair();
    { const Stream stream = open_stream(reactor, std::move(mine)); }
    bool ended = false;
    run_until(reactor, [&, &end = other] { return (void)read_all(end, &ended), ended; });
    CHECK_THROWS_AS((void)open_stream(reactor, FileDescriptor(), FileDescriptor()), std::invalid_argument);
}

TEST_CASE("a coroutine talks with a child over its three streams, and waits for its end") {
    Reactor reactor;
    std::vector<std::string> notes;
    run(reactor, sort_lines(reactor, notes));
    CHECK(notes == std::vector<std::string>{"a\nb\n", "done\n", "3"});
    CHECK(run(reactor, killed_by_timeout(reactor)) == SIGTERM);
}

TEST_CASE("A command that cannot be started throws where a coroutine would wait for it") {
    Reactor reactor;
    const Command command{"true"};
    CHECK_THROWS_AS((void)ChildProcess(reactor, Command{"/no/such/program"}), std::system_error);
    ProcessOptions options;
    options.output = ProcessOptions::Stream::pipe;
    options.protocol = std::make_unique<coroutine_detail::StreamProtocol>();
    CHECK_THROWS_AS((void)ChildProcess(reactor, command, std::move(options)), std::invalid_argument);
}

TEST_CASE("a coroutine waits for signals, and one that comes meanwhile is kept for it") {
    Reactor reactor;
    CHECK(run(reactor, three_signals(reactor)) == std::vector<int>{SIGUSR1, SIGUSR2, 0, SIGUSR1});
}

TEST_CASE("each signal goes to one of the tasks that wait") {
    Reactor reactor;
    SignalSet signals(reactor, {SIGUSR1, SIGUSR2});
    Scope scope(reactor);
    std::vector<int> taken;
    for (int i = 0; i < 2; ++i) scope.start(take_signal(signals, taken));
    settle(reactor);
    ::raise(SIGUSR1);
    run_until(reactor, [&] { return taken.size() == 1; });
    settle(reactor);
    CHECK(scope.size() == 1);
    ::raise(SIGUSR2);
    run_until(reactor, [&] { return scope.size() == 0; });
    CHECK(taken == std::vector<int>{SIGUSR1, SIGUSR2});
}
