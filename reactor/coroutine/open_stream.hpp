// open_stream: a Stream over descriptors that the program has already: a connected socket, pipes, a terminal.
#pragma once

#include <reactor/coroutine/stream.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/limits.hpp>

namespace reactor {

/// A Stream over a connected socket, which the reactor takes over. Thread: the loop's. Errors: those of
/// Connection::open, thrown; the socket is then closed. Lifetime: as of any Stream.
[[nodiscard]] REACTOR_EXPORT Stream open_stream(Reactor& reactor, Socket socket, const ConnectionOptions& options = {});

/// A Stream that reads one descriptor and writes the other, as PipeTransport does: one of them may be absent. Errors:
/// those of PipeTransport::open, thrown; both are then closed.
[[nodiscard]] REACTOR_EXPORT Stream open_stream(Reactor& reactor, FileDescriptor input, FileDescriptor output,
                                                const Limits& limits = {});

/// A Stream over standard input and standard output, as PipeTransport::standard.
[[nodiscard]] REACTOR_EXPORT Stream standard_stream(Reactor& reactor, const Limits& limits = {});

}  // namespace reactor
