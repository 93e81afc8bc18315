// PipeTransport: the transport over a descriptor to read and one to write that need not be sockets: the two ends of
// pipes, a terminal, a serial line, the program's standard input and output. For sockets there is Connection, which is
// quicker; regular files are allowed, because standard input may be one, but see below.
#pragma once

#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/stream/detail/stream_transport.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/stream/transport.hpp>

#include <memory>

namespace reactor {

class Reactor;

/// Runs a protocol over two descriptors. One may be absent: without one to read from, `end_of_stream` is never called;
/// without one to write to, every write() returns false. The contract of Transport holds, with these differences:
///
/// - `shutdown_write` closes the descriptor that is written to.
/// - `close` sends what is queued, within Limits::close_timeout, and does not wait for the peer: the two directions of
/// a pipe
///   are independent, so unread input destroys nothing. `abort` closes both.
/// - There are no addresses.
/// - A write to a pipe without a reader is the error broken_pipe and raises no SIGPIPE, whatever that signal's
/// disposition.
///   Input of the peer is then received before `disconnected`. The same holds for a full terminal whose other side has
///   hung up.
///
/// Regular files are always ready, on every backend, and a read from a slow disk holds up the loop. They suit a small
/// program's redirected standard input. `write_file` sends one.
class REACTOR_EXPORT PipeTransport : public StreamTransport {
public:
    using Transport::open;

    /// Takes both descriptors, and the protocol, over to the reactor; `connected` comes from the loop. Throws
    /// std::invalid_argument if both are absent or there is no protocol, std::system_error, or std::bad_alloc; they are
    /// then closed.
    ///
    /// The loop never waits for them, and as a rule nothing changes for others that hold the same open file (open(2),
    /// "open file description"): duplicates, children, the shell. On Linux a pipe or a terminal is opened once more
    /// (/proc/thread-self/fd), and the new open file is this transport's alone. A socket is asked not to block in each
    /// call. A regular file stays as it is.
    ///
    /// The rest becomes non-blocking for all that share it: a terminal's master side, other devices, and a pipe that
    /// cannot be opened again, because there is no /proc or it is another user's. Until the last transport of this
    /// program over it has ended, printf and children that write there may see EAGAIN; then it is what it was before. A
    /// program that is killed leaves it non-blocking. If another process makes it blocking meanwhile, a write may hold
    /// up the loop.
    static PipeTransport& open(Reactor& reactor, FileDescriptor input, FileDescriptor output,
                               std::unique_ptr<Protocol> protocol, const Limits& limits = {});

    /// Over standard input and standard output, which themselves stay open: duplicates are read and written. So a
    /// reader of the output sees its end when the process ends, not at shutdown_write. Throws std::system_error if one
    /// of the two is closed.
    static PipeTransport& standard(Reactor& reactor, std::unique_ptr<Protocol> protocol, const Limits& limits = {});

protected:
    using StreamTransport::StreamTransport;
    ~PipeTransport() = default;
};

}  // namespace reactor
