// PipeTransport: the transport over a descriptor to read and one to write that need not be sockets: the two ends of
// pipes, a terminal, a serial line, the program's standard input and output. For sockets there is Connection, which is
// quicker; regular files are allowed, because standard input may be one, but see below.
#pragma once

#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/detail/byte_queue.hpp>
#include <reactor/detail/output.hpp>
#include <reactor/detail/pipe_end.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>
#include <reactor/stream/transport.hpp>

#include <cstddef>
#include <memory>
#include <system_error>

namespace reactor {

struct Deadlines;

/// Runs a protocol over two descriptors, of which one may be absent: with nothing to read from the protocol is never
/// told an end of the stream, with nothing to write to every write() returns false. What Transport promises holds, with
/// these differences. `shutdown_write` closes the descriptor that is written to. `close` sends what is queued, within
/// Limits::close_timeout, and does not read on until the peer has closed too: a pipe's directions know nothing of each
/// other, so nothing is lost by unread input. `abort` closes both. There are no addresses. A write to a pipe that nobody
/// reads is the error broken_pipe and no SIGPIPE, whatever that signal's disposition; what the peer has still to say is
/// then received before `disconnected` tells it. So is a full terminal of which the other side has hung up.
///
/// Regular files are always ready, on every backend, and a read from a slow disk holds up the loop: fit for a small
/// program's redirected standard input. To send one there is `write_file`.
class REACTOR_EXPORT PipeTransport final : public OwnedHandler, public Transport {
public:
    /// Takes both descriptors, and the protocol, over to the reactor; `connected` comes from the loop. Throws
    /// std::invalid_argument if both are absent or there is no protocol, std::system_error, or std::bad_alloc; they are then
    /// closed.
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

    /// Over standard input and standard output, which themselves stay open: duplicates are read and written. So whoever
    /// reads the output sees its end when the process ends, not at shutdown_write. Throws std::system_error if one of
    /// the two is closed.
    static PipeTransport& standard(Reactor& reactor, std::unique_ptr<Protocol> protocol, const Limits& limits = {});

    ~PipeTransport() override;

    using Transport::write;
    bool write(Bytes data) override;
    bool write_file(FileDescriptor file, std::uint64_t offset = 0, std::uint64_t length = rest_of_file) override;
    void shutdown_write() override;
    void close() override;
    void abort(std::error_code reason = std::make_error_code(std::errc::operation_canceled)) override;
    void pause_reading() override;
    void resume_reading() override;
    bool reading() const noexcept override;
    Bytes unconsumed() const noexcept override { return rest_.view(); }
    std::size_t queued() const noexcept override { return output_queue_.size(); }
    const Limits& limits() const noexcept override { return limits_; }
    void set_limits(const Limits& limits) override;
    Address peer() const override { return {}; }
    Address local() const override { return {}; }

private:
    PipeTransport(Reactor& reactor, FileDescriptor input, FileDescriptor output, std::unique_ptr<Protocol> protocol,
                  const Limits& limits);

    // From the loop.
    void readable() override;
    void writable() override;
    void lost(std::error_code reason) override { finish(reason); }
    void retired() override { protocol_->disconnected(reason_); }
    void deadline();

    void start();
    void deliver(Bytes input);
    void keep_rest(Bytes input, std::size_t consumed);
    void end_of_input();
    template <class Call>
    void call(Call&& protocol_call);
    void leave_callback();
    void queue(Bytes data);
    void note_queued(bool first);
    std::size_t write_now(Bytes data);
    std::size_t written(ssize_t count);
    void flush();
    void broken(std::error_code reason);
    void settle();
    void update_interest() noexcept;
    void trigger(Interest ready) noexcept;
    void plan_deadline();
    void wait_for_deadline() noexcept;
    void note_activity() noexcept;
    void finish(std::error_code reason) noexcept;

    Reactor& reactor_;
    std::unique_ptr<Protocol> protocol_;
    Limits limits_;
    PipeEnd input_, output_;
    Registration reading_, writing_;  // the reactor owns this object by the first of them that there is
    std::unique_ptr<std::byte[]> buffer_;
    std::size_t buffer_size_ = 0;
    ByteQueue rest_;  // what received() left
    Output output_queue_;
    Timer deadline_;
    std::unique_ptr<Deadlines> since_;
    std::error_code reason_;

    bool fresh_ = true;          // connected() has not been called yet
    bool inside_ = false;        // the protocol is being called,
    bool in_received_ = false;   // with input
    bool paused_ = false;        // the user's pause_reading
    bool over_high_ = false;     // the high mark was passed and the low one not yet reached
    bool held_back_ = false;     // and that by answers: nothing is read until then
    bool pause_told_ = false;    // pause_writing was called and resume_writing not yet
    bool input_ended_ = false;
    bool shutting_ = false;      // shutdown_write was called
    bool closing_ = false;       // close was called
    bool output_ended_ = false;
    bool write_broken_ = false;  // nobody reads; what the peer has said before is still to be read
    bool rest_due_ = false;      // what received() left is to be given to it again
    bool over_ = false;          // retired: disconnected() comes next
};

}  // namespace reactor
