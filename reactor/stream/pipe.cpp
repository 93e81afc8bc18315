// A pipe's transport: read and write move the bytes, and all else is StreamTransport's. Connection does the same for
// sockets, with a short way for each message that this one does not need.
#include <reactor/stream/pipe.hpp>

#include <reactor/detail/internals.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/pipe_end_impl.hpp>
#include <reactor/stream/stream_transport_impl.hpp>

#include <fcntl.h>
#include <unistd.h>

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
    ~Pipe() override { destroy_protocol(); }
    static Pipe& begin(Reactor& reactor, std::unique_ptr<Pipe> made);

    using Transport::write;
    bool write(Bytes data) override;
    bool write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) override;
    Reactor& reactor() const override { return reactor_; }

private:
    // From the loop.
    void readable() override;
    void writable() override;
    void lost(std::error_code reason) override { finish(reason); }
    void retired() override { last_calls(); }

    // As StreamTransport says.
    void requested(Request request) override;
    void flush() override;
    std::error_code end_output() override;
    void update_interest() override;
    void call_soon() noexcept override { trigger(writing_); }
    void read_soon() noexcept override {
        if (reading_) trigger(reading_);
    }
    void ended(std::error_code reason, std::size_t unsent) noexcept override;
    std::string name() const override { return "a pipe"; }
    StreamParts& parts() override { return *parts_; }

    std::size_t written(ssize_t count);
    void trigger(Registration& registration) noexcept;
    void note_activity() noexcept {
        // Without a deadline nothing looks at the time, and it is not asked for.
        if (parts_->scheduled()) parts_->since.last_activity = reactor_.turn_time();
    }

    Reactor& reactor_;
    PipeEnd input_, output_;
    Registration reading_, writing_;  // the reactor owns this object by the first of them that there is
    std::unique_ptr<std::byte[]> buffer_;
    std::size_t buffer_size_ = 0;
};

// ── beginning and end ──

Pipe& Pipe::begin(Reactor& reactor, std::unique_ptr<Pipe> made) {
    Pipe& pipe = *made;
    if (pipe.input_) {
        // The output first: if this throws, the pipe is still the caller's. The last step, which may throw as well,
        // gives it to the reactor.
        if (pipe.output_) pipe.writing_ = reactor.watch(pipe.output_.get(), Interest::none, pipe);
        pipe.reading_ = reactor.adopt(pipe.input_.get(), Interest::readable, std::move(made));
    } else {
        pipe.writing_ = reactor.adopt(pipe.output_.get(), Interest::writable, std::move(made));
    }
    pipe.trigger(pipe.input_ ? pipe.reading_ : pipe.writing_);  // connected() comes from the loop
    return pipe;
}

Pipe::Pipe(Reactor& reactor, FileDescriptor input, FileDescriptor output, std::unique_ptr<Protocol> protocol,
           const Limits& limits)
    : PipeTransport(std::move(protocol)), reactor_(reactor), input_(std::move(input)), output_(std::move(output)) {
    parts_ = std::make_unique<StreamParts>(*this, &Internals(reactor).timers());
    parts_->limits = std::make_unique<Limits>(limits.bounded());
    // A direction that is not there has ended already, in good order: StreamState then needs no other case.
    if (!input_) state_.set(input_ended);
    if (!output_) state_.set(shutting | output_ended);
}

void Pipe::ended(std::error_code, std::size_t) noexcept {
    // The reactor owns this object by one of these. Ending it retires the object, which is destroyed when the iteration
    // ends, and not under the feet of a caller.
    writing_.reset();
    reading_.reset();
}

// The directions of a pipe know nothing of each other: nothing is read any more, and no end is waited for.
void Pipe::requested(Request request) {
    if (request == Request::close) state_.set(input_ended);
    StreamTransport::requested(request);
}

// ── bytes ──

void Pipe::readable() {
    // Not reading: it was closed before it began.
    if (make_next() || !reading()) return;
    // Made at the first input, and anew when set_limits() has changed its size: a pipe that only writes has none.
    if (buffer_size_ != limits().read_size) {
        try {
            buffer_.reset(new std::byte[limits().read_size]);
            buffer_size_ = limits().read_size;
        } catch (const std::bad_alloc&) {
            return out_of_memory();
        }
    }
    const ssize_t count = input_.read(buffer_.get(), buffer_size_);
    if (count < 0 && would_block(errno)) return;
    // EIO: Linux says so if the other side of a terminal is gone. From anything but a terminal it is a broken disk or
    // device, and an error.
    if (count == 0 || (count < 0 && errno == EIO && ::isatty(input_.get()) == 1)) return end_of_input();
    // The first error counts: behind a write that failed, a read that fails has the same cause.
    if (count < 0) return finish(is(output_broken) ? reason() : last_error());
    note_activity();
    parts_->since.received = parts_->since.last_activity;
    ByteQueue& rest = parts_->input;
    const Bytes input(buffer_.get(), std::size_t(count));
    if (rest.empty()) return deliver(input);
    try {
        // The protocol is given the old bytes and the new ones as one piece of memory.
        rest.append(input);
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    deliver(rest.view());
}

void Pipe::writable() {
    // Writable and nothing written: a terminal's master whose other side has closed is so for ever (PipeEnd::hung_up).
    const std::size_t waiting = queued();
    writable_now();
    if (waiting == 0 || queued() != waiting || !output_.hung_up()) return;
    broken(std::make_error_code(std::errc::broken_pipe));
    settle();
}

bool Pipe::write(Bytes data) {
    if (!state_.accepts_writes()) return false;
    // In a call of the protocol's, writes are gathered; behind queued bytes, order demands it. Otherwise one write(2)
    // may do, and nothing is copied.
    const bool waits = calling() != Calling::none || queued() > 0;
    queue(waits || data.empty() ? data : data.subspan(written(output_.write(data))));
    return !is(over);
}

bool Pipe::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    length = length_of(file, offset, length);
    if (!state_.accepts_writes()) return false;
    // One read(2) of so little costs less than keeping a file open, and than the system call that sends it.
    if (length <= small_file) return write_at_once(file, offset, length);
    queue_file(std::move(file), offset, length, output_.is_socket());
    if (calling() == Calling::none) flush();
    return !is(over);
}

// The bytes that a system call has written.
std::size_t Pipe::written(ssize_t count) {
    if (count >= 0) {
        note_activity();
        return std::size_t(count);
    }
    if (errno == EPIPE) {
        broken(last_error());
    } else if (!would_block(errno)) {
        finish(last_error());
    }
    return 0;
}

void Pipe::flush() {
    if (is(over) || queued() == 0) return;
    // One system call for each direction and iteration, however much waits: a fast reader must not keep the loop here.
    Output& output = parts_->output;
    std::size_t taken = 0;
    if (output.begins_with_file()) {
        const ssize_t count = output.send_file(output_.get(), Output::file_piece);
        // sendfile(2) returns 0 at the end of the file. The bytes that were promised by `length` will not come.
        if (count == 0) return finish(Error::file_shortened);
        taken = written(count);
    } else {
        taken = written(output_.write(output.bytes()));
        if (taken > 0) output.consume(taken);
    }
    // A byte that was taken is a sign of life: the peer's time for the rest begins anew.
    if (taken > 0 && limits().write_timeout > Duration::zero()) parts_->since.output_since = reactor_.turn_time();
}

std::error_code Pipe::end_output() {
    writing_.reset();
    // The peer sees the end when the last descriptor of the pipe's writing end is closed; a pipe has no shutdown(2).
    output_.close();
    return {};
}

void Pipe::update_interest() {
    if (is(over)) return;
    // `connected` is still to come. It comes as the first readable or, without an input, as the first writable.
    const bool begins = is(fresh) && !is(closing);
    const bool send = queued() > 0 || is(over_high);
    const Interest writable = send || (begins && !input_) ? Interest::writable : Interest::none;
    if (writing_ && writing_.interest() != writable) writing_.set_interest(writable);
    if (!reading_) return;
    const Interest readable = reading() || begins ? Interest::readable : Interest::none;
    if (readable == reading_.interest()) return;
    reading_.set_interest(readable);
    // Unconsumed bytes are given again although the kernel has no new ones: it would say nothing.
    if (is(input_due) && readable != Interest::none) trigger(reading_);
}

void Pipe::trigger(Registration& registration) noexcept {
    try {
        registration.trigger(&registration == &reading_ ? Interest::readable : Interest::writable);
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
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
