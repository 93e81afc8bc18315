// The protocol behind a Stream: it resumes the coroutine that waits for input, and owns the task of an accepted
// connection.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/coroutine/detail/ready_list.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/coroutine/stopping.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/export.hpp>
#include <reactor/stream/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

namespace reactor {

class Stream;

namespace coroutine_detail {

class StreamProtocol;
class WriteOperation;

/// A read that waits, or is about to.
class REACTOR_EXPORT Reader {
public:
    using View = Bytes;

    Reader(Reader&& other) noexcept : place_(other.place_) {}
    ~Reader() {
        if (continuation_) [[unlikely]]
            leave();
    }

protected:
    explicit Reader(Stream& stream) noexcept : place_(&stream) {}

    /// Is there input in the call under way, or an end?
    inline bool may_take();
    inline bool may_take_all();
    inline StreamProtocol* protocol() const noexcept;
    /// The error of a read that could not take anything.
    std::error_code reason() const noexcept;
    void wait(Continuation continuation, bool takes);
    bool take_all(Bytes& all) noexcept;

private:
    friend class reactor::Stream;
    friend class StreamProtocol;
    void leave() noexcept;
    Stream& stream() const noexcept { return *static_cast<Stream*>(place_); }
    /// All the input of a call, for the coroutine that is resumed next. It is never empty.
    void give(Bytes input) noexcept {
        place_ = const_cast<std::byte*>(input.data());
        continuation_ = Continuation::of_bits(input.size());
    }

    // Its stream, and the continuation while it waits; or the bytes that it was given, and their number. In the frame
    // of each idle connection lies one.
    void* place_;
    Continuation continuation_;
};

/// One that looks at the input before its coroutine is resumed.
class REACTOR_EXPORT TakingReader : public Reader {
public:
    /// Looks at the front of `input`, and shortens it. False if it needs more.
    using Take = bool (*)(TakingReader& reader, Bytes& input, bool at_end);

    TakingReader(TakingReader&& other) noexcept : Reader(std::move(other)), take_(other.take_) {}

    bool ready();
    void start(Root&, Continuation continuation) { wait(continuation, true); }
    Result<Bytes> result();

protected:
    TakingReader(Stream& stream, Take take) noexcept : Reader(stream), take_(take) {}

    bool take_message(Bytes& input, Bytes message, std::size_t consumed) noexcept {
        taken_ = message;
        input = input.subspan(consumed);
        return true;
    }
    bool fail(std::error_code error) noexcept {
        taken_ = error;
        return true;
    }
    /// For a message that may have so many bytes: raises Limits::input_limit if it is lower.
    void make_room(std::size_t longest);
    void message_received() const;

private:
    friend class StreamProtocol;

    Take take_;
    std::optional<Result<Bytes>> taken_;
};

/// The part of a connect that its connection calls.
class ConnectWaiter {
public:
    virtual void connected(StreamProtocol& protocol) = 0;
    virtual void failed(std::error_code reason) = 0;
    /// The reactor is being destroyed.
    virtual void gone() noexcept = 0;

protected:
    ~ConnectWaiter() = default;
};

class REACTOR_EXPORT StreamProtocol final : public Root {
public:
    StreamProtocol() noexcept;
    explicit StreamProtocol(ConnectWaiter& waiter) noexcept;

    ~StreamProtocol() override;

    /// It starts when the connection is there.
    void own(Task<> task) noexcept { task_ = std::move(task); }
    /// The connect is given up.
    void forget_waiter() noexcept { (void)take_waiter(); }

    using Protocol::transport;
    Reactor& reactor() const override { return transport().reactor(); }

    /// After a write of so many bytes: below the high watermark?
    bool has_room(std::size_t written) noexcept {
        std::size_t left = 0;
        if (__builtin_sub_overflow(std::size_t(credit_), written, &left)) [[unlikely]]
            return measure_room();
        credit_ = std::uint32_t(left);
        return true;
    }

    std::size_t received(Bytes input) override;

private:
    friend class reactor::Stream;
    friend class Reader;
    friend class ReadSome;
    friend class TakingReader;
    friend class WriteOperation;
    struct Extra;

    /// Nearly all the time a connection has one of these bits: reads_some.
    enum State : std::uint8_t {
        none = 0,
        reads_some = 1 << 0,     // a read waits that takes whatever comes
        reads_message = 1 << 1,  // a TakingReader waits
        has_input = 1 << 2,      // there is some that no read was given, in the call under way
        ended = 1 << 3,          // nothing more comes, and all before was read
        canceled = 1 << 4,       // that is the reason why
        paused = 1 << 5,         // there is input that no read waited for
        connecting = 1 << 6
    };
    bool is(unsigned states) const noexcept { return (state_ & states) != 0; }
    void set(unsigned states) noexcept { state_ = State(state_ | states); }
    void unset(unsigned states) noexcept { state_ = State(state_ & ~states); }
    bool waits() const noexcept { return is(reads_some | reads_message); }

    void connected() override;
    void end_of_stream() override;
    void draining() override;
    void disconnected(std::error_code reason) override;
    void resume_writing() override;
    void finished() override;
    StopState& stop_state() override;
    void move_to(Reactor& target, MoveOnlyFunction<void()> arrived) override;

    ConnectWaiter* take_waiter() noexcept;
    std::size_t received_otherwise(Bytes input);
    std::size_t leave_input(std::size_t size) noexcept;
    void pause() noexcept;
    void begin_read(Reader& reader, Continuation continuation, bool takes);
    bool take(TakingReader& reader, bool at_end);
    void resume_reader();
    void hold(Stream& now, Stream* holder) noexcept;
    bool measure_room() noexcept;
    Extra& extra();
    void wait_for_room(WriteOperation& operation) noexcept;
    void writers_go_on(bool over);

    State state_ = none;        // in the place that the base leaves free, as the next one
    std::uint32_t credit_ = 0;  // so many bytes may be written before the queue is looked at

    Task<> task_;               // of an accepted connection, until it ends
    Stream* stream_ = nullptr;  // the user's, if there is one
    Bytes input_;               // while it has_input
    union {
        Reader* reader_ = nullptr;  // that waits
        ConnectWaiter* waiter_;     // while it is connecting
    };
    std::unique_ptr<Extra> extra_;  // what few connections need
};

/// A write that waits for the low watermark.
class REACTOR_EXPORT WriteOperation : public Operation<WriteOperation> {
public:
    WriteOperation(Stream& stream, bool accepted, bool room) noexcept
        : bits_(accepted && room ? 0 : reinterpret_cast<std::uintptr_t>(&stream) | (accepted ? waiting : refused)) {}
    WriteOperation(WriteOperation&& other) noexcept : bits_(other.bits_) {}
    ~WriteOperation() {
        if (continuation_) [[unlikely]]
            leave();
    }

    bool ready() noexcept { return (bits_ & waiting) == 0 || !must_wait(); }
    void start(Root&, Continuation continuation) noexcept;
    bool result() const noexcept { return (bits_ & refused) == 0; }

private:
    friend class reactor::Stream;
    friend class StreamProtocol;
    static constexpr std::uintptr_t refused = 1, waiting = 2;

    Stream& stream() const noexcept { return *reinterpret_cast<Stream*>(bits_ & ~(refused | waiting)); }
    void set_stream(Stream& stream) noexcept;
    bool must_wait() noexcept;
    void leave() noexcept;

    std::uintptr_t bits_;  // the stream, and the write's outcome; 0 if there is nothing to wait for
    Continuation continuation_;
};

}  // namespace coroutine_detail

}  // namespace reactor
