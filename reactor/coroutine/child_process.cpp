// A child's streams are those of two protocols, and its end is an event.
#include <reactor/coroutine/child_process.hpp>

#include <memory>
#include <stdexcept>
#include <utility>

namespace reactor {

namespace {

std::unique_ptr<Protocol> protocol_of(Stream& stream) {
    auto protocol = std::make_unique<coroutine_detail::StreamProtocol>();
    stream = Stream(*protocol);
    return protocol;
}

// With a protocol for each transport that there will be.
ProcessOptions with_streams(ProcessOptions options, Stream& stream, Stream& error) {
    using Standard = ProcessOptions::Stream;
    if (options.protocol || options.error_protocol)
        throw std::invalid_argument("ChildProcess: it has streams in the place of protocols");
    if (options.input == Standard::pipe || options.output == Standard::pipe) options.protocol = protocol_of(stream);
    if (options.error == Standard::pipe) options.error_protocol = protocol_of(error);
    return options;
}

}  // namespace

ChildProcess::ChildProcess(Reactor& reactor, const Command& command, ProcessOptions options)
    : process_(reactor, command, with_streams(std::move(options), stream_, error_),
               [this](ExitStatus status) { exited(status); }) {}

void ChildProcess::exited(ExitStatus status) noexcept {
    status_ = status;
    exited_.set();
}

Task<ExitStatus> ChildProcess::wait() {
    co_await exited_.wait();
    co_return *status_;
}

}  // namespace reactor
