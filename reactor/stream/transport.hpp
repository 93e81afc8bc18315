// Transport: a protocol answers through it. It is an ordered, reliable stream of bytes to one peer, over any carrier. A
// connection (reactor/stream/connection.hpp) is one; so is the memory of a test (reactor/testing).
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/error.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/net/address.hpp>
#include <reactor/net/peer_credentials.hpp>
#include <reactor/stream/detail/stream_state.hpp>
#include <reactor/stream/limits.hpp>
#include <reactor/stream/transport_handle.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>

namespace reactor {

class Protocol;
class Reactor;

/// One peer. Lives as long as its protocol. All calls on the loop's thread.
class REACTOR_EXPORT Transport {
public:
    Transport() = default;
    Transport(const Transport&) = delete;
    Transport& operator=(const Transport&) = delete;

    /// Sends `data`, or queues what the peer does not take yet; copies what it queues. Writes in a call of this
    /// transport's own protocol leave together when that call returns. Other writes over a connection leave together at
    /// the iteration's end, or at once between iterations and where they are large. An error comes later, with
    /// `disconnected`. False, and nothing is sent, after `shutdown_write`, `close` and `abort`, and when the connection
    /// is already over.
    virtual bool write(Bytes data) = 0;
    bool write(std::string_view text) { return write(bytes_of(text)); }
    /// The same for any contiguous range of char, unsigned char, std::byte or char8_t.
    template <ByteSource Data>
    bool write(const Data& data) {
        return write(bytes_of(data));
    }
    /// Writes several pieces as one, in this order: `write(head, body, "\r\n")`. Also between iterations they leave
    /// with one send; the limits see one write. They are copied to be together, so a large piece is quicker alone,
    /// inside a call of the protocol. Throws std::bad_alloc, and then nothing is sent.
    template <ByteSource First, ByteSource Second, ByteSource... More>
    bool write(const First& first, const Second& second, const More&... more) {
        const Bytes pieces[] = {bytes_of(first), bytes_of(second), bytes_of(more)...};
        return write_together(pieces);
    }

    /// Up to where the file ends now.
    static constexpr std::uint64_t rest_of_file = std::numeric_limits<std::uint64_t>::max();

    /// Sends `length` bytes of a regular file, from `offset` on, in their place between earlier and later writes;
    /// takes the descriptor over, leaves its position alone, and closes it when they are sent or lost.
    ///
    /// A connection and a PipeTransport read them when they are about to be sent, unless they are 16 KiB or less: a
    /// file of any size takes no memory, and its bytes do not pass through this program where the kernel has
    /// sendfile(2). They count as queued and for the watermarks; with Limits::output_limit queued, files included, a
    /// further file ends the connection. Other transports read the file now and write it, as one of 16 KiB or less is
    /// everywhere. A read waits for the disk, and the loop with it, if the kernel does not hold these bytes yet
    /// (posix_fadvise(2)).
    ///
    /// The kernel sends the file's own pages: a change before the peer has received them arrives changed, also when
    /// nothing is queued any more. So replace files by rename(2). The rest of a file that becomes shorter cannot be
    /// sent: the connection ends (Error::file_shortened), as it does if the file cannot be read. It has the size that
    /// fstat(2) says. The files in /proc have content and a size of 0, so the rest of such a file is refused; read it,
    /// and write the bytes. Most files in /sys have less content than size, and end the connection.
    ///
    /// False as for `write`. Throws what `length_of` throws; nothing is sent then, and the file is closed.
    virtual bool write_file(FileDescriptor file, std::uint64_t offset = 0, std::uint64_t length = rest_of_file);

    /// How many bytes `write_file` would send now. Throws std::invalid_argument if that is no regular file, has no such
    /// bytes, or has content although its size is 0; std::system_error if it cannot be asked (fstat(2)).
    static std::uint64_t length_of(const FileDescriptor& file, std::uint64_t offset = 0,
                                   std::uint64_t length = rest_of_file);

    /// Says that nothing more will be written, once all that was written is sent: the peer sees the end of the
    /// stream and may go on sending. Again: nothing happens.
    void shutdown_write() {
        if (state_.shutdown_write()) requested(Request::shutdown_write);
    }

    /// Ends in good order: sends what is queued, says that that was all, throws away what still comes until
    /// the peer has closed as well (unread input would make the kernel send a reset, which destroys what
    /// the peer has not read yet: RFC 1122 4.2.2.13), then closes. Limits::close_timeout bounds all of it.
    /// `disconnected` comes later, never from inside this call; nothing is received any more. Again: nothing.
    void close() {
        if (state_.close()) requested(Request::close);
    }

    /// The same for a peer that has said that it sends nothing more, as a request of HTTP with "Connection: close"
    /// does: closes once all is sent, without waiting for the peer's end. What the peer sends all the same is answered
    /// by the kernel with a reset.
    void close_without_waiting() {
        if (state_.close_without_waiting()) requested(Request::close);
    }

    /// Ends now: the output is lost and the peer gets a reset. `disconnected(reason)` comes later.
    virtual void abort(std::error_code reason = std::make_error_code(std::errc::operation_canceled)) = 0;

    /// Has the end not begun? False from `close`, `abort` and an error on, and of a connection that never came about.
    /// An end of stream of the peer's alone, and `shutdown_write`, leave it true.
    bool open() const noexcept { return state_.open(); }

    /// The loop that it is on now: another one after `move_to`. For timers of the protocol's own, among
    /// others. Throws std::logic_error before there is a connection.
    virtual Reactor& reactor() const = 0;

    /// The way here from other threads, and from code that outlives the connection. Empty when that is over. The first
    /// call allocates what all the handles share; a connection that nobody asks pays nothing. Throws std::bad_alloc.
    virtual TransportHandle handle() = 0;

    /// Hands the living connection over to another reactor: see Connection::move_to, which does it. TLS over a
    /// connection moves with it, also in the middle of its handshake. Throws std::logic_error if this transport cannot
    /// move, as a PipeTransport cannot.
    virtual void move_to(Reactor& target, MoveOnlyFunction<void()> arrived = nullptr);

    /// Nothing is received until `resume_reading`: the kernel's buffers fill, and the peer must wait. An end
    /// of stream waits too. A reset does not: it ends the connection, and unread input is lost. Pausing twice is
    /// pausing once.
    void pause_reading() {
        if (state_.pause_reading()) requested(Request::pause_reading);
    }

    /// Goes on. What `received` left is given to it again, soon and not from inside this call.
    void resume_reading() {
        if (state_.resume_reading()) requested(Request::resume_reading);
    }

    /// Is anything being received? False while paused, while more answers wait than the high watermark allows, and for
    /// good after `close`, `abort` and the end of the connection. A protocol that finds several messages in one input
    /// asks after each and, at false, leaves the rest unconsumed: it is given to `received`
    /// again when this has turned true, also without new input.
    bool reading() const noexcept { return state_.reading(); }

    /// What `received` left, as it stood at the end of that call: in `end_of_stream`, what is about to be lost. Valid
    /// until the protocol's call in which it is asked for returns; not for use inside `received`.
    virtual Bytes unconsumed() const noexcept = 0;

    /// Bytes written and not yet taken by the kernel, gathered ones included.
    virtual std::size_t queued() const noexcept = 0;

    /// For a protocol that sends all its input on to `other`, inside `received` and having written to it: bulk data may
    /// then go straight there without a call of `received`. Small amounts are received again. A hint, which connections
    /// follow where the kernel can move bytes without copying them (splice(2)).
    void pass_on_to(Transport& other) { pass_on(*this, other); }
    /// For implementations: asked of `source` first. A connection that would like to pass on asks `target`.
    virtual void pass_on(Transport& /*source*/, Transport& /*target*/) {}

    /// A protocol that finds messages in its input calls this for each, so that they can be counted if their number is
    /// limited (RateLimits::messages_in). Framed does. If it was the last for now, `reading` is then false.
    virtual void message_received() {}

    virtual const Limits& limits() const noexcept = 0;
    /// Takes effect at once; an idle timeout counts from now.
    virtual void set_limits(const Limits& limits) = 0;

    /// The two ends' addresses (getpeername(2), getsockname(2)); empty ones where there are none. On Linux a TCP
    /// connection knows its peer's address until its protocol is destroyed. On other systems it is empty after a reset.
    /// Each asks the kernel: nothing is kept for it.
    Address peer() const { return ask(Question::peer).address; }
    Address local() const { return ask(Question::local).address; }

    /// The peer's process, user and group, if the system vouches for them: over a Unix socket. nullopt otherwise.
    std::optional<PeerCredentials> peer_credentials() const { return ask(Question::peer_credentials).credentials; }

    /// For implementations: the answer to one of the three before. The address is empty, and the credentials are
    /// nullopt, if they are not known or were not asked for. A transport that is carried by another one asks that.
    enum class Question : std::uint8_t { peer, local, peer_credentials };
    /// To one Question: the other field keeps its default.
    struct Answer {
        Address address = {};
        std::optional<PeerCredentials> credentials = std::nullopt;
    };
    virtual Answer ask(Question /*question*/) const { return {}; }

protected:
    ~Transport() = default;

    /// For implementations: `state_` has just changed because the program asked for this. Not called for a request
    /// that changes nothing, nor after the end.
    enum class Request : std::uint8_t { shutdown_write, close, pause_reading, resume_reading };
    virtual void requested(Request request) = 0;

    bool write_together(std::span<const Bytes> pieces);

    /// A file, or a piece of one, that is not worth more than being read and written.
    static constexpr std::size_t small_file = 16 * 1024;
    bool write_at_once(const FileDescriptor& file, std::uint64_t offset, std::uint64_t length);

    /// For implementations: from now on `protocol.transport()` is this one.
    static void attach(Protocol& protocol, Transport* transport) noexcept;

    /// What has been asked for, and what has happened. `open` and `reading` are its answers.
    StreamState state_;
};

}  // namespace reactor
