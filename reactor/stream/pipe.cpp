// A pipe's transport: StreamState decides, read and write move the bytes. Connection does the same for sockets, with a
// short way for each message that this one does not need.
#include <reactor/stream/pipe.hpp>

#include <reactor/detail/byte_queue.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/deadlines_impl.hpp>
#include <reactor/stream/detail/stream_state.hpp>
#include <reactor/stream/handle_state_impl.hpp>
#include <reactor/stream/last_calls_impl.hpp>
#include <reactor/stream/output_impl.hpp>
#include <reactor/stream/pipe_end_impl.hpp>
#include <reactor/timer.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace reactor {

namespace {

FileDescriptor duplicate(int descriptor, const char* name) {
    // The program's own stay open, for printf and for children. Above 2: where a standard stream was closed, its number
    // is left alone, or the next message of some library would go into this pipe.
    FileDescriptor copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!copy) throw std::system_error(last_error(), name);
    return copy;
}

class Pipe final : public OwnedHandler, public PipeTransport {
public:
    Pipe(Reactor& reactor, FileDescriptor input, FileDescriptor output, std::unique_ptr<Protocol> protocol,
         const Limits& limits);
    ~Pipe() override {
        if (handles_ != nullptr) handles_->end();
        protocol_.reset();
    }
    static Pipe& begin(Reactor& reactor, std::unique_ptr<Pipe> made);

    using Transport::write;
    bool write(Bytes data) override;
    bool write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) override;
    void abort(std::error_code reason) override { finish(reason); }
    Reactor& reactor() const override { return reactor_; }
    TransportHandle handle() override;
    Bytes unconsumed() const noexcept override { return rest_.view(); }
    std::size_t queued() const noexcept override { return output_queue_.size(); }
    const Limits& limits() const noexcept override { return limits_; }
    void set_limits(const Limits& limits) override;

private:
    void requested(Request request) override;

    // From the loop.
    void readable() override;
    void writable() override;
    void lost(std::error_code reason) override { finish(reason); }
    void retired() override { make_last_calls(state_, *protocol_, reason_); }
    void deadline();
    static bool run_posted(Transport& transport, HandleState::Call& posted);

    bool make(StreamState::Call due);
    template <class ProtocolCall>
    void call(ProtocolCall&& protocol_call);
    void leave_callback();
    void deliver(Bytes input);
    void queue(Bytes data);
    void note_queued(bool first);
    std::size_t write_now(Bytes data);
    std::size_t written(ssize_t count);
    void flush();
    void broken(std::error_code reason);
    void begin_close();
    void settle();
    void update_interest() noexcept;
    void trigger(Interest ready) noexcept;
    void plan_deadline();
    void wait_for_deadline() noexcept;
    void note_activity() noexcept;
    void finish(std::error_code reason) noexcept;
    void out_of_memory() noexcept { finish(std::make_error_code(std::errc::not_enough_memory)); }

    Reactor& reactor_;
    std::unique_ptr<Protocol> protocol_;
    Limits limits_;
    PipeEnd input_, output_;
    Registration reading_, writing_;  // the reactor owns this object by the first of them that there is
    std::unique_ptr<std::byte[]> buffer_;
    std::size_t buffer_size_ = 0;
    ByteQueue rest_;  // unconsumed input
    Output output_queue_;
    Timer deadline_;
    Deadlines since_;
    std::error_code reason_;
    std::shared_ptr<HandleState> handles_;  // if there are any
    bool inside_ = false;                   // the protocol is being called,
    bool answering_ = false;                // with input
};

// ── beginning and end ──

Pipe& Pipe::begin(Reactor& reactor, std::unique_ptr<Pipe> made) {
    Pipe& pipe = *made;
    if (pipe.input_) {
        // The output first: if this throws, the pipe is still the caller's. The last step, which may throw as well,
        // gives it to the reactor.
        if (pipe.output_) pipe.writing_ = reactor.watch(pipe.output_.get(), Interest::none, pipe);
        pipe.reading_ = reactor.adopt(pipe.input_.get(), Interest::readable, std::move(made));
        pipe.trigger(Interest::readable);  // connected() comes from the loop
    } else {
        pipe.writing_ = reactor.adopt(pipe.output_.get(), Interest::writable, std::move(made));
        pipe.trigger(Interest::writable);
    }
    return pipe;
}

Pipe::Pipe(Reactor& reactor, FileDescriptor input, FileDescriptor output, std::unique_ptr<Protocol> protocol,
           const Limits& limits)
    : reactor_(reactor),
      protocol_(std::move(protocol)),
      limits_(limits.bounded()),
      input_(std::move(input)),
      output_(std::move(output)),
      deadline_(reactor, [this] { deadline(); }) {
    // A direction that is not there has ended already, in good order: StreamState then needs no other case.
    attach(*protocol_, this);
    if (!input_) state_.set(StreamState::input_ended);
    if (!output_) state_.set(StreamState::shutting | StreamState::output_ended);
}

void Pipe::finish(std::error_code reason) noexcept {
    if (state_.is(StreamState::over)) return;
    state_.set(StreamState::over);
    reason_ = reason;
    deadline_.cancel();
    if (handles_ != nullptr) handles_->end();
    output_queue_.clear();  // not the rest: received() may be looking at it
    // The reactor owns this object by one of these. Ending it retires the object, which is destroyed when the iteration
    // ends, and not under the feet of a caller.
    writing_.reset();
    reading_.reset();
}

TransportHandle Pipe::handle() {
    if (state_.is(StreamState::over)) return {};
    // Shared by all the handles, and ended by finish(): a handle may live on in another thread for ever.
    if (handles_ == nullptr) handles_ = std::make_shared<HandleState>(reactor_, *this, &run_posted);
    return handles_->handle();
}

// From the loop: a call that a handle posted.
bool Pipe::run_posted(Transport& transport, HandleState::Call& posted) {
    auto& pipe = static_cast<Pipe&>(transport);
    if (!pipe.open()) return true;
    // No call comes before `connected`. It is kept until then.
    if (pipe.state_.is(StreamState::fresh)) return false;
    pipe.call([&] { posted(pipe, *pipe.protocol_); });
    return true;
}

// ── reading ──

void Pipe::readable() {
    // Not reading: it was closed before it began.
    if (make(state_.next_call(queued(), limits_)) || !reading()) return;
    // Made at the first input, and anew when set_limits() has changed its size: a pipe that only writes has none.
    if (buffer_size_ != limits_.read_size) {
        try {
            buffer_.reset(new std::byte[limits_.read_size]);
            buffer_size_ = limits_.read_size;
        } catch (const std::bad_alloc&) {
            return out_of_memory();
        }
    }
    const ssize_t count = input_.read(buffer_.get(), buffer_size_);
    if (count < 0 && would_block(errno)) return;
    // EIO: Linux says so if the other side of a terminal is gone. From anything but a terminal it is a broken disk or
    // device, and an error.
    if (count == 0 || (count < 0 && errno == EIO && ::isatty(input_.get()) == 1)) {
        if (!make(state_.peer_ended())) settle();
        return;
    }
    // The first error counts: behind a write that failed, a read that fails has the same cause.
    if (count < 0) return finish(state_.is(StreamState::output_broken) ? reason_ : last_error());
    note_activity();
    since_.received = since_.last_activity;
    const Bytes input(buffer_.get(), std::size_t(count));
    if (rest_.empty()) return deliver(input);
    try {
        // The protocol is given the old bytes and the new ones as one piece of memory.
        rest_.append(input);
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    deliver(rest_.view());
}

void Pipe::deliver(Bytes input) {
    answering_ = true;
    call([&] {
        const std::size_t consumed = protocol_->received(input);
        try {
            const bool begins = state_.keep_rest(rest_, input, consumed);
            if (rest_.size() > limits_.input_limit) return finish(Error::input_limit);
            if (!begins || limits_.message_timeout <= Duration::zero()) return;
            since_.rest_since = reactor_.turn_time();
            wait_for_deadline();
        } catch (const std::bad_alloc&) {
            out_of_memory();
        }
    });
}

// ── calling the protocol ──

bool Pipe::make(StreamState::Call due) {
    switch (due) {
        case StreamState::Call::none: return false;
        case StreamState::Call::connected:
            plan_deadline();
            // Planning the deadline needs memory. Without it the pipe has ended here, before it began.
            if (state_.is(StreamState::over)) {
                state_.set(StreamState::fresh);  // `connected` has not been called, so `closing` is not either
            } else {
                call([this] { protocol_->connected(); });
            }
            return true;
        case StreamState::Call::received: rest_.empty() ? settle() : deliver(rest_.view()); return true;
        case StreamState::Call::end_of_stream:
            call([this] {
                protocol_->end_of_stream();
                // Behind the end nothing completes them.
                if (!state_.is(StreamState::over)) rest_.clear();
            });
            return true;
        case StreamState::Call::closing: call([this] { protocol_->closing(); }); return true;
        case StreamState::Call::pause_writing: call([this] { protocol_->pause_writing(); }); return true;
        case StreamState::Call::resume_writing: call([this] { protocol_->resume_writing(); }); return true;
    }
    return false;
}

template <class ProtocolCall>
void Pipe::call(ProtocolCall&& protocol_call) {
    inside_ = true;
    try {
        protocol_call();
    } catch (...) {
        inside_ = answering_ = false;
        finish(Error::exception);
        throw;
    }
    inside_ = answering_ = false;
    leave_callback();
}

// Sends what was written in the call, and does everything that it led to. A resume comes from the loop: a protocol that
// writes without end in it would never return.
void Pipe::leave_callback() {
    flush();
    // `closing` comes right behind the call that began the end, and this again behind `closing`.
    if (state_.is(StreamState::closing) && make(state_.next_call(queued(), limits_))) return;
    settle();
    if (state_.is(StreamState::over_high) && !state_.is(StreamState::pause_called))
        make(state_.next_call(queued(), limits_));
}

// ── writing ──

bool Pipe::write(Bytes data) {
    if (!state_.accepts_writes()) return false;
    // In a call of the protocol's, writes are gathered; behind queued bytes, order demands it. Otherwise one write(2)
    // may do, and nothing is copied.
    if (inside_ || !output_queue_.empty()) {
        queue(data);
    } else {
        queue(data.subspan(write_now(data)));
    }
    return !state_.is(StreamState::over);
}

void Pipe::queue(Bytes data) {
    // Output for a peer that reads no more is dropped without an error, as long as it may still have something to say.
    if (data.empty() || state_.is(StreamState::over | StreamState::output_broken)) return;
    try {
        if (output_queue_.in_memory() >= limits_.output_limit) return finish(Error::output_limit);
        const bool first = output_queue_.empty();
        output_queue_.append(data);
        note_queued(first);
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
}

bool Pipe::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    length = length_of(file, offset, length);
    if (!state_.accepts_writes()) return false;
    // One read(2) of so little costs less than keeping a file open, and than the system call that sends it.
    if (length <= small_file) return write_at_once(file, offset, length);
    try {
        const bool first = output_queue_.empty();
        if (output_queue_.size() >= std::min(limits_.output_limit, Output::most_size)) {
            finish(Error::output_limit);
            return false;
        }
        output_queue_.append(std::move(file), offset, length, output_.is_socket());
        note_queued(first);
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
    if (!inside_) flush();
    return !state_.is(StreamState::over);
}

void Pipe::note_queued(bool first) {
    if (first && limits_.write_timeout > Duration::zero()) {
        since_.output_since = reactor_.turn_time();
        if (!state_.is(StreamState::closing)) wait_for_deadline();
        if (state_.is(StreamState::over)) return;
    }
    const bool passed = state_.output_queued(queued(), limits_, answering_);
    update_interest();
    if (passed && !inside_) trigger(Interest::writable);  // not from inside this call
}

// How much of it the kernel took.
std::size_t Pipe::write_now(Bytes data) {
    if (data.empty()) return 0;
    return written(output_.write(data));
}

// The bytes that a system call has written.
std::size_t Pipe::written(ssize_t count) {
    if (count < 0) {
        if (!would_block(errno)) broken(last_error());
        return 0;
    }
    note_activity();
    return std::size_t(count);
}

void Pipe::flush() {
    if (state_.is(StreamState::over) || output_queue_.empty()) return;
    // One system call for each direction and iteration, however much waits: a fast reader must not keep the loop here.
    std::size_t taken = 0;
    if (output_queue_.begins_with_file()) {
        const ssize_t count = output_queue_.send_file(output_.get(), Output::file_piece);
        // sendfile(2) returns 0 at the end of the file. The bytes that were promised by `length` will not come.
        if (count == 0) return finish(Error::file_shortened);
        taken = written(count);
    } else {
        taken = write_now(output_queue_.bytes());
        if (taken > 0) output_queue_.consume(taken);
    }
    // A byte that was taken is a sign of life: the peer's time for the rest begins anew.
    if (taken > 0 && limits_.write_timeout > Duration::zero()) since_.output_since = reactor_.turn_time();
}

void Pipe::writable() {
    if (make(state_.next_call(queued(), limits_))) return;
    // Writable and nothing written: a terminal's master whose other side has closed is so for ever (PipeEnd::hung_up).
    const std::size_t waiting = queued();
    flush();
    if (waiting > 0 && queued() == waiting && output_.hung_up()) broken(std::make_error_code(std::errc::broken_pipe));
    if (!make(state_.next_call(queued(), limits_))) settle();
}

// A write failed. A peer that does not read may still have something to say: a child that was asked enough answers.
void Pipe::broken(std::error_code reason) {
    if (!state_.write_failed(reason == std::errc::broken_pipe)) return finish(reason);
    reason_ = reason;
    output_queue_.clear();
    update_interest();
}

void Pipe::requested(Request request) {
    switch (request) {
        case Request::shutdown_write:
            if (!inside_) settle();
            return;
        case Request::close: return begin_close();
        case Request::resume_reading:
            since_.received = since_.rest_since = reactor_.turn_time();  // the time of the pause is not the peer's
            return update_interest();
        case Request::pause_reading: return update_interest();
    }
}

// The directions of a pipe know nothing of each other: nothing is read any more, and no end is waited for.
void Pipe::begin_close() {
    state_.set(StreamState::input_ended);
    plan_deadline();
    if (inside_) return;
    settle();
    // Not from inside this call. It is not over, so it has output, and the interest in sending it.
    if (!state_.is(StreamState::over) && state_.owes_closing()) trigger(Interest::writable);
}

// ── in between ──

// Does what became due. Calls no protocol, so that it may run inside any call to the transport.
void Pipe::settle() {
    for (;;) {
        const StreamState::Step step = state_.next_step(queued());
        if (step == StreamState::Step::none) return update_interest();
        if (step == StreamState::Step::finish)
            return finish(state_.is(StreamState::output_broken) ? reason_ : std::error_code());
        writing_.reset();
        // The peer sees the end when the last descriptor of the pipe's writing end is closed; a pipe has no
        // shutdown(2).
        output_.close();
    }
}

void Pipe::update_interest() noexcept {
    if (state_.is(StreamState::over)) return;
    // `connected` is still to come. It comes as the first readable or, without an input, as the first writable.
    const bool fresh = state_.is(StreamState::fresh) && !state_.is(StreamState::closing);
    const bool send = !output_queue_.empty() || state_.is(StreamState::over_high);
    const Interest writable = send || (fresh && !input_) ? Interest::writable : Interest::none;
    if (writing_ && writing_.interest() != writable) writing_.set_interest(writable);
    if (!reading_) return;
    const Interest before = reading_.interest();
    const Interest readable = reading() || fresh ? Interest::readable : Interest::none;
    if (readable == before) return;
    reading_.set_interest(readable);
    // Unconsumed bytes are given again although the kernel has no new ones: it would say nothing.
    if (state_.is(StreamState::input_due) && readable != Interest::none) trigger(Interest::readable);
}

void Pipe::trigger(Interest ready) noexcept {
    try {
        (ready == Interest::readable ? reading_ : writing_).trigger(ready);
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
}

// ── deadlines ──

void Pipe::set_limits(const Limits& limits) {
    limits_ = limits.bounded();
    if (!state_.is(StreamState::closing | StreamState::fresh | StreamState::over)) plan_deadline();
}

// From now on other deadlines hold, and begin.
void Pipe::plan_deadline() {
    since_.begin(reactor_.now());
    wait_for_deadline();
}

void Pipe::wait_for_deadline() noexcept {
    const bool closing = state_.is(StreamState::closing);
    const TimePoint at = since_.next(limits_, closing, !rest_.empty(), !output_queue_.empty()).at;
    if (at == TimePoint::max() && !closing) return void(deadline_.cancel());
    try {
        deadline_.start_at(at);
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
}

// As Connection::deadline.
void Pipe::deadline() {
    const TimePoint now = reactor_.turn_time();
    // A peer that is not read from is not late.
    if (!reading()) since_.rest_since = since_.received = now;
    const Deadlines::Next next =
        since_.next(limits_, state_.is(StreamState::closing), !rest_.empty(), !output_queue_.empty());
    if (now < next.at) return wait_for_deadline();
    reactor_.notice(next.notice, [&] {
        return std::string("a pipe: ") + next.text + ", with " + std::to_string(queued()) + " bytes unsent";
    });
    finish(next.error);
}

void Pipe::note_activity() noexcept {
    // Without a deadline nothing looks at the time, and it is not asked for.
    if (deadline_.active()) since_.last_activity = reactor_.turn_time();
}

}  // namespace

PipeTransport& PipeTransport::open(Reactor& reactor, FileDescriptor input, FileDescriptor output,
                                   std::unique_ptr<Protocol> protocol, const Limits& limits) {
    if (protocol == nullptr) throw std::invalid_argument("PipeTransport::open: there is no protocol");
    if (!input && !output) throw std::invalid_argument("PipeTransport::open: no descriptor to read or to write");
    return Pipe::begin(
        reactor, std::make_unique<Pipe>(reactor, std::move(input), std::move(output), std::move(protocol), limits));
}

PipeTransport& PipeTransport::standard(Reactor& reactor, std::unique_ptr<Protocol> protocol, const Limits& limits) {
    // Two descriptors also if both are one terminal: each direction ends, and is closed, by itself.
    FileDescriptor input = duplicate(STDIN_FILENO, "standard input");
    return open(reactor, std::move(input), duplicate(STDOUT_FILENO, "standard output"), std::move(protocol), limits);
}

}  // namespace reactor
