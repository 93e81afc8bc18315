// Stream: a connection as a coroutine sees it. It reads messages and writes answers from top to bottom, and the
// transport's limits and watermarks hold.
//
//     Task<> serve(Stream stream) {
//         while (auto line = co_await stream.read<Lines>()) co_await stream.write(*line, "\n");
//     }
//     Acceptor acceptor{reactor, "localhost", 10000, coroutine(serve)};
#pragma once

#include <reactor/coroutine/detail/stream_protocol.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/net/address.hpp>
#include <reactor/stream/protocol.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace reactor {

/// The rule by which a message ends, as a Framing of protocols/framing. `next(input)` and `end(rest)` return a
/// status (need_more, message, malformed), the message and how much of the input it took; `longest()` is a size.
template <class F>
concept StreamFraming = requires(F framing, Bytes bytes) {
    { framing.next(bytes).message } -> std::convertible_to<Bytes>;
    { framing.next(bytes).consumed } -> std::convertible_to<std::size_t>;
    { framing.next(bytes).error.code() } -> std::same_as<std::error_code>;
    { framing.end(bytes).status == decltype(framing.next(bytes))::Status::malformed } -> std::convertible_to<bool>;
    { framing.longest() } -> std::convertible_to<std::size_t>;
};

namespace coroutine_detail {

template <class F>
class FramedRead;
class ReadSome;
class ReadExactly;
class ReadUntilEnd;

}  // namespace coroutine_detail

/// One connection, which it owns: destroying it closes the connection in good order (Transport::close). All calls on
/// the loop's thread.
///
/// Reading. One read at a time waits. Each result is a view, valid until the next await, or an error: the peer's
/// orderly end is Error::end_of_stream, and the reason of a broken connection comes once it is known. Input that no
/// read waits for is left in the kernel: the peer waits. Cancelling a read loses nothing.
///
/// Writing. The bytes are sent or queued by the call; the await completes at once below Limits::high_mark, and waits
/// for Limits::low_mark() above it. So a slow peer slows the coroutine down. False if nothing is written: `error` or
/// the next read has the reason.
class REACTOR_EXPORT Stream {
public:
    /// Of no connection: everything fails with not_connected.
    Stream() noexcept = default;
    Stream(Stream&& other) noexcept { take(other); }
    Stream& operator=(Stream&& other) noexcept {
        if (this != &other) {
            leave();
            take(other);
        }
        return *this;
    }
    ~Stream() {
        if (!over()) leave();
    }

    // ── reading ──

    /// The next message in this framing: `co_await stream.read<Lines>()`. Errors: also those of the framing, as
    /// Framed's `malformed` gets; the input behind such a message is lost.
    template <StreamFraming F>
    coroutine_detail::FramedRead<F> read() {
        return coroutine_detail::FramedRead<F>(*this, F());
    }
    /// In a framing of the caller's. One that is passed as a variable must live until the await is over.
    template <class F>
    requires StreamFraming<std::remove_reference_t<F>> coroutine_detail::FramedRead<F> read(F&& framing) {
        return coroutine_detail::FramedRead<F>(*this, std::forward<F>(framing));
    }
    /// All that has come, at least one byte.
    coroutine_detail::ReadSome read_some() noexcept;
    /// So many bytes. Error::ended_inside_message if the end comes before the last of them.
    coroutine_detail::ReadExactly read_exactly(std::size_t size) noexcept;
    /// Everything up to the end of the stream. Error::message_too_long if it is more than `most` bytes.
    coroutine_detail::ReadUntilEnd read_until_end(std::size_t most = 1024 * 1024) noexcept;

    // ── writing ──

    /// Writes the pieces as one: text, or any contiguous ranges of bytes. Throws std::bad_alloc for several pieces.
    template <ByteSource... Pieces>
    requires(sizeof...(Pieces) > 0) coroutine_detail::WriteOperation write(const Pieces&... pieces) {
        if (over()) [[unlikely]]
            return {*this, false, true};
        coroutine_detail::StreamProtocol& protocol = this->of();
        const bool accepted = write_to(protocol.transport(), pieces...);
        const bool room = accepted && protocol.has_room((bytes_of(pieces).size() + ...));
        return {*this, accepted, room};
    }
    /// As Transport::write_file. Throws what that throws.
    coroutine_detail::WriteOperation write_file(FileDescriptor file, std::uint64_t offset = 0,
                                                std::uint64_t length = Transport::rest_of_file);

    // ── the end ──

    /// Ends this side's stream, once all is sent.
    void shutdown_write();
    /// Ends the connection in good order. Reads and writes fail from now on.
    void close();
    /// Ends it at once: the peer gets a reset.
    void abort(std::error_code reason = std::make_error_code(std::errc::operation_canceled));
    /// Has the end not begun?
    bool open() const noexcept { return !over() && protocol()->transport().open(); }
    /// The reason of the end, once the connection is over; Error::end_of_stream if both sides closed in order.
    std::error_code error() const noexcept;

    // ── the connection ──

    /// Empty addresses when it is over.
    Address peer() const;
    Address local() const;
    /// Throws std::system_error if the connection is over, as do the next ones.
    Limits limits() const;
    void set_limits(const Limits& limits);
    Reactor& reactor() const;
    /// For the rest: rates, descriptors, a handle, moving to another loop. Do not close it but by `close`.
    Transport& transport() const;

    /// For implementations.
    explicit Stream(coroutine_detail::StreamProtocol& protocol) noexcept;

private:
    friend class coroutine_detail::Reader;
    friend class coroutine_detail::StreamProtocol;
    friend class coroutine_detail::WriteOperation;

    template <class Piece>
    static bool write_to(Transport& transport, const Piece& piece) {
        return transport.write(bytes_of(piece));
    }
    template <class First, class Second, class... More>
    static bool write_to(Transport& transport, const First& first, const Second& second, const More&... more) {
        return transport.write(first, second, more...);
    }

    bool over() const noexcept { return (bits_ & is_over) != 0; }
    coroutine_detail::StreamProtocol& of() const noexcept {  // if it is not over
        return *reinterpret_cast<coroutine_detail::StreamProtocol*>(std::uintptr_t(bits_));
    }
    coroutine_detail::StreamProtocol* protocol() const noexcept { return over() ? nullptr : &of(); }
    coroutine_detail::StreamProtocol& connected() const;
    void end(std::error_code reason) noexcept;
    void take(Stream& other) noexcept;
    void leave() noexcept;

    static constexpr std::uint64_t is_over = 1;

    // Its protocol; or, with the lowest bit set, the reason of the end: the number of its category, and above it 32
    // bits of value. A stream lies in the frame of each idle connection.
    std::uint64_t bits_ = std::uint64_t(std::uint32_t(int(std::errc::not_connected))) << 32 | is_over;
};

namespace coroutine_detail {

// ── reads ──

inline StreamProtocol* Reader::protocol() const noexcept {
    return stream().protocol();
}

inline bool Reader::may_take() {
    if (stream().over()) [[unlikely]]
        return true;
    const StreamProtocol& protocol = stream().of();
    if (protocol.state_ == StreamProtocol::none) [[likely]]
        return false;
    return protocol.is(StreamProtocol::has_input | StreamProtocol::ended);
}

// As for the others: input behind a pause, or behind start_tls, is not for this read.
inline bool Reader::may_take_all() {
    if (!may_take()) [[likely]]
        return false;
    const StreamProtocol* const protocol = this->protocol();
    return protocol == nullptr || protocol->is(StreamProtocol::ended) || protocol->transport().reading();
}

class ReadSome final : public Reader, public Operation<ReadSome> {
public:
    explicit ReadSome(Stream& stream) noexcept : Reader(stream) {}

    bool ready() { return may_take_all(); }
    void start(Root&, Continuation continuation) { wait(continuation, false); }
    Result<Bytes> result() {
        Bytes all;
        if (!take_all(all)) [[unlikely]]
            return reason();
        return all;
    }
};

inline bool Reader::take_all(Bytes& all) noexcept {
    if (continuation_) [[likely]] {
        all = Bytes(static_cast<const std::byte*>(place_), continuation_.bits());
        continuation_ = {};
        return true;
    }
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr || !protocol->is(StreamProtocol::has_input)) return false;
    protocol->unset(StreamProtocol::has_input);
    all = protocol->input_;
    return true;
}

inline void Reader::wait(Continuation continuation, bool takes) {
    StreamProtocol& protocol = stream().of();
    if (protocol.state_ != StreamProtocol::none) [[unlikely]]
        return protocol.begin_read(*this, continuation, takes);
    continuation_ = continuation;
    protocol.reader_ = this;
    protocol.state_ = takes ? StreamProtocol::reads_message : StreamProtocol::reads_some;
}

/// The common part of the reads that look for an end of their message.
template <class Derived>
class ReadOperation : public TakingReader, public Operation<Derived> {
protected:
    explicit ReadOperation(Stream& stream) noexcept
        : TakingReader(stream, [](TakingReader& reader, Bytes& input, bool at_end) {
              return static_cast<Derived&>(reader).take(input, at_end);
          }) {}
};

template <class F>
class FramedRead final : public ReadOperation<FramedRead<F>> {
public:
    template <class Given>
    FramedRead(Stream& stream, Given&& framing)
        : ReadOperation<FramedRead>(stream), framing_(std::forward<Given>(framing)) {}

    bool take(Bytes& input, bool at_end) {
        const auto decoded = at_end ? framing_.end(input) : framing_.next(input);
        using Status = typename std::remove_const_t<decltype(decoded)>::Status;
        if (decoded.status == Status::message) [[likely]] {
            this->message_received();
            return this->take_message(input, decoded.message, decoded.consumed);
        }
        if (decoded.status == Status::malformed) {
            input = {};
            return this->fail(decoded.error.code());
        }
        if (!at_end && !input.empty()) this->make_room(framing_.longest());
        return false;
    }

private:
    F framing_;  // a reference to the caller's, perhaps
};

class REACTOR_EXPORT ReadExactly final : public ReadOperation<ReadExactly> {
public:
    ReadExactly(Stream& stream, std::size_t size) noexcept : ReadOperation(stream), size_(size) {}
    bool ready() { return size_ == 0 ? take_nothing() : TakingReader::ready(); }
    bool take(Bytes& input, bool at_end);

private:
    bool take_nothing() noexcept;

    std::size_t size_;
};

class REACTOR_EXPORT ReadUntilEnd final : public ReadOperation<ReadUntilEnd> {
public:
    ReadUntilEnd(Stream& stream, std::size_t most) noexcept : ReadOperation(stream), most_(most) {}
    bool take(Bytes& input, bool at_end);

private:
    std::size_t most_;
};

}  // namespace coroutine_detail

/// The factory of connections that a coroutine serves: `Acceptor{reactor, "", 80, coroutine(serve, std::ref(room))}`.
/// It converts to ProtocolFactory. Each connection starts `serve(Stream, arguments...)` with copies of the arguments
/// and owns it: when the connection is over, the coroutine is destroyed, at whatever await it waits; when the coroutine
/// ends, its Stream closes the connection. If a read or write waits when the connection breaks, it gets the reason
/// first. An exception out of it ends the connection (Error::exception) and goes to the loop. A drain destroys it,
/// unless it has awaited `stopping`. Lifetime: pass an object that it takes by reference with std::ref; it must live as
/// long as the connections.
template <class Function, class... Arguments>
auto coroutine(Function function, Arguments... arguments) {
    using Called = coroutine_detail::TaskFunction<decltype(+function)>;  // of a lambda without captures, too
    static_assert(std::is_void_v<typename Called::Value>, "coroutine(function, ...): the function returns a Task<>");
    static_assert(Called::template accepts<Stream, Arguments...>,
                  "coroutine(function, arguments...): the function takes other arguments than these, or takes one by "
                  "reference that is not passed with std::ref");
    static_assert((std::copy_constructible<Arguments> && ...),
                  "coroutine(function, arguments...): it is called for each connection, so it cannot give away an "
                  "argument that can only be moved");
    return [function = +function, ... arguments = std::move(arguments)]() -> std::unique_ptr<Protocol> {
        auto protocol = std::make_unique<coroutine_detail::StreamProtocol>();
        protocol->own(function(Stream(*protocol), arguments...));
        return protocol;
    };
}

inline coroutine_detail::ReadSome Stream::read_some() noexcept {
    return coroutine_detail::ReadSome(*this);
}
inline coroutine_detail::ReadExactly Stream::read_exactly(std::size_t size) noexcept {
    return coroutine_detail::ReadExactly(*this, size);
}
inline coroutine_detail::ReadUntilEnd Stream::read_until_end(std::size_t most) noexcept {
    return coroutine_detail::ReadUntilEnd(*this, most);
}

}  // namespace reactor
