// Streams over descriptors that are there.
#include <reactor/coroutine/open_stream.hpp>
#include <reactor/stream/pipe.hpp>

#include <memory>
#include <utility>

namespace reactor {

namespace {

// A Stream of the protocol for which `open` makes the transport. If that throws, protocol and Stream go.
template <class Open>
Stream stream_of(Open&& open) {
    auto protocol = std::make_unique<coroutine_detail::StreamProtocol>();
    Stream stream(*protocol);
    open(std::move(protocol));
    return stream;
}

}  // namespace

Stream open_stream(Reactor& reactor, Socket socket, const ConnectionOptions& options) {
    return stream_of([&](std::unique_ptr<Protocol> protocol) {
        Connection::open(reactor, std::move(socket), std::move(protocol), options);
    });
}

Stream open_stream(Reactor& reactor, FileDescriptor input, FileDescriptor output, const Limits& limits) {
    return stream_of([&](std::unique_ptr<Protocol> protocol) {
        PipeTransport::open(reactor, std::move(input), std::move(output), std::move(protocol), limits);
    });
}

Stream standard_stream(Reactor& reactor, const Limits& limits) {
    return stream_of(
        [&](std::unique_ptr<Protocol> protocol) { PipeTransport::standard(reactor, std::move(protocol), limits); });
}

}  // namespace reactor
