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
#include <system_error>

namespace reactor {

class Stream;

namespace coroutine_detail {

class StreamProtocol;
class WriteOperation;

/// Input while it is being delivered, and the part that a read has taken.
struct Delivery {
    explicit Delivery(Bytes all) noexcept : input(all) {}
    void take(Bytes taken, std::size_t consumed) noexcept {
        message = taken;
        input = input.subspan(consumed);
        state = State::message;
    }
    void fail(std::error_code why) noexcept {
        error = why;
        state = State::failed;
    }

    enum class State : std::uint8_t { nothing, message, failed };

    Bytes input;  // that no read has taken
    State state = State::nothing;
    union {
        Bytes message = {};
        std::error_code error;
    };
};

/// A read that waits, or is about to. `take` looks at the front of the input; false if it needs more.
class REACTOR_EXPORT Reader {
public:
    using Take = bool (*)(Reader& reader, Delivery& delivery, bool at_end);

    Reader(Reader&& other) noexcept : stream_(other.stream_), take_(other.take_) {}
    ~Reader() {
        if (continuation_) [[unlikely]]
            leave();
    }

    inline bool ready();
    inline void start(Continuation continuation);
    /// What was read, or why not.
    inline Result<Bytes> result();

    /// For a message that may have so many bytes: raises Limits::input_limit if it is lower.
    void make_room(std::size_t longest);
    Transport& transport() const noexcept;

protected:
    Reader(Stream& stream, Take take) noexcept : stream_(&stream), take_(take) {}

private:
    friend class reactor::Stream;
    friend class StreamProtocol;
    void leave() noexcept;
    bool ready_in_call(StreamProtocol& protocol);
    Result<Bytes> result_unusual();

    Stream* stream_;
    Take take_;
    Continuation continuation_;  // while it waits
};

/// What a connect waits for.
class ConnectWaiter {
public:
    virtual void connected(StreamProtocol& protocol) = 0;
    virtual void failed(std::error_code reason) = 0;
    /// The reactor is being destroyed.
    virtual void gone() noexcept = 0;

protected:
    ~ConnectWaiter() = default;
};

class REACTOR_EXPORT StreamProtocol final : public Protocol, public Root {
public:
    StreamProtocol() noexcept;
    explicit StreamProtocol(ConnectWaiter& waiter) noexcept;
    ~StreamProtocol() override;

    /// It starts when the connection is there.
    void own(Task<> task) noexcept { task_ = std::move(task); }
    /// The connect is given up.
    void forget_waiter() noexcept { waiter_ = nullptr; }

    using Protocol::transport;
    Reactor& reactor() const override { return transport().reactor(); }

    /// After a write of so many bytes: below the high watermark?
    bool has_room(std::size_t written) noexcept {
        credit_ -= std::int64_t(written);
        return credit_ >= 0 || measure_room();
    }

    std::size_t received(Bytes input) override;

private:
    friend class reactor::Stream;
    friend class Reader;
    friend class WriteOperation;
    struct Extra;

    void connected() override;
    void end_of_stream() override;
    void draining() override;
    void disconnected(std::error_code reason) override;
    void resume_writing() override;
    void finished() override;
    StopState& stop_state() override;

    void pause() noexcept;
    void go_on();
    void deliver(Delivery& delivery, bool at_end);
    void resume_reader();
    void hold(Stream& now, Stream* holder) noexcept;
    bool measure_room() noexcept;
    Extra& extra();
    void wait_for_room(WriteOperation& operation) noexcept;
    void writers_go_on(bool over);

    Task<> task_;                   // of an accepted connection, until it ends
    Stream* stream_ = nullptr;      // the user's, if there is one
    Delivery* delivery_ = nullptr;  // while input is delivered
    Reader* reader_ = nullptr;      // that waits
    std::unique_ptr<Extra> extra_;  // what few connections need
    ConnectWaiter* waiter_ = nullptr;
    std::int64_t credit_ = 0;  // so many bytes may be written before the queue is looked at
    bool ended_ = false;       // the peer has shut its side, and all before that was read
    bool paused_ = false;      // there is input that no read waited for
};

/// A write that waits for the low watermark.
class REACTOR_EXPORT WriteOperation : public Operation<WriteOperation> {
public:
    WriteOperation(Stream& stream, bool accepted, bool room) noexcept
        : stream_(&stream), next_(accepted ? nullptr : this), waits_(accepted && !room) {}
    WriteOperation(WriteOperation&& other) noexcept
        : stream_(other.stream_), next_(other.next_ == nullptr ? nullptr : this), waits_(other.waits_) {}
    ~WriteOperation() {
        if (continuation_) [[unlikely]]
            leave();
    }

    bool ready() noexcept { return !waits_ || !must_wait(); }
    inline void start(Root& root, Continuation continuation) noexcept;
    inline Result<void> result() const noexcept;

private:
    friend class reactor::Stream;
    friend class StreamProtocol;
    bool must_wait() noexcept;
    void leave() noexcept;

    Stream* stream_;
    Continuation continuation_;
    WriteOperation* next_;  // that waits behind this one; itself if it was refused
    bool waits_;
};

}  // namespace coroutine_detail

}  // namespace reactor
