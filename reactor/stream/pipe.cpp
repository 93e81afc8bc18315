// The same course as connection.cpp's, with read and write for recv and send, two descriptors for one, and without what
// makes the way of a single message there as short as it is.
#include <reactor/stream/pipe.hpp>

#include <reactor/last_error_impl.hpp>
#include <reactor/stream/deadlines_impl.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace reactor {

namespace {

FileDescriptor duplicate(int descriptor, const char* name) {
    FileDescriptor copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!copy) throw std::system_error(last_error(), name);
    return copy;
}

}  // namespace

// ── beginning and end ──

PipeTransport& PipeTransport::open(Reactor& reactor, FileDescriptor input, FileDescriptor output,
                                   std::unique_ptr<Protocol> protocol, const Limits& limits) {
    if (protocol == nullptr) throw std::invalid_argument("PipeTransport::open: there is no protocol");
    if (!input && !output) throw std::invalid_argument("PipeTransport::open: no descriptor to read or to write");
    std::unique_ptr<PipeTransport> made(
        new PipeTransport(reactor, std::move(input), std::move(output), std::move(protocol), limits));
    PipeTransport& pipe = *made;
    if (pipe.input_) {
        if (pipe.output_) pipe.writing_ = reactor.watch(pipe.output_.get(), Interest::none, pipe);
        pipe.reading_ = reactor.adopt(pipe.input_.get(), Interest::readable, std::move(made));
        pipe.trigger(Interest::readable);  // connected() comes from the loop
    } else {
        pipe.writing_ = reactor.adopt(pipe.output_.get(), Interest::writable, std::move(made));
        pipe.trigger(Interest::writable);
    }
    return pipe;
}

PipeTransport& PipeTransport::standard(Reactor& reactor, std::unique_ptr<Protocol> protocol, const Limits& limits) {
    FileDescriptor input = duplicate(STDIN_FILENO, "standard input");
    return open(reactor, std::move(input), duplicate(STDOUT_FILENO, "standard output"), std::move(protocol), limits);
}

PipeTransport::PipeTransport(Reactor& reactor, FileDescriptor input, FileDescriptor output,
                             std::unique_ptr<Protocol> protocol, const Limits& limits)
    : reactor_(reactor),
      protocol_(std::move(protocol)),
      limits_(limits.bounded()),
      input_(std::move(input)),
      output_(std::move(output)),
      deadline_(reactor, [this] { deadline(); }),
      since_(std::make_unique<Deadlines>()) {
    attach(*protocol_, this);
    input_ended_ = !input_;
    output_ended_ = !output_;
}

PipeTransport::~PipeTransport() { protocol_.reset(); }

void PipeTransport::start() {
    fresh_ = false;
    plan_deadline();
    if (!over_) call([this] { protocol_->connected(); });
}

void PipeTransport::finish(std::error_code reason) noexcept {
    if (over_) return;
    over_ = true;
    reason_ = reason;
    deadline_.cancel();
    output_queue_.clear();  // not the rest: received() may be looking at it
    writing_.reset();
    reading_.reset();
}

// ── reading ──

void PipeTransport::readable() {
    if (fresh_) return start();
    if (rest_due_) {
        rest_due_ = false;
        return rest_.empty() ? settle() : deliver(rest_.view());
    }
    // A read of nothing would be taken for the end.
    const std::size_t wanted = std::max<std::size_t>(limits_.read_size, 1);
    if (buffer_size_ != wanted) {
        try {
            buffer_.reset(new std::byte[wanted]);
            buffer_size_ = wanted;
        } catch (const std::bad_alloc&) {
            return finish(std::make_error_code(std::errc::not_enough_memory));
        }
    }
    const ssize_t count = input_.read(buffer_.get(), buffer_size_);
    if (count < 0 && would_block(errno)) return;
    // EIO: how Linux says that the other side of a terminal is gone.
    if (count == 0 || (count < 0 && errno == EIO && ::isatty(input_.get()) == 1)) return end_of_input();
    if (count < 0) return finish(write_broken_ ? reason_ : last_error());
    note_activity();
    const Bytes input(buffer_.get(), std::size_t(count));
    if (rest_.empty()) return deliver(input);
    try {
        rest_.append(input);
    } catch (const std::bad_alloc&) {
        return finish(std::make_error_code(std::errc::not_enough_memory));
    }
    deliver(rest_.view());
}

void PipeTransport::deliver(Bytes input) {
    in_received_ = true;
    call([&] {
        const std::size_t consumed = protocol_->received(input);
        keep_rest(input, std::min(consumed, input.size()));
    });
}

// The input is the rest, or what was read when there was none.
void PipeTransport::keep_rest(Bytes input, std::size_t consumed) {
    if (over_ || closing_) return;
    const bool known = !rest_.empty();
    try {
        if (known) {
            rest_.consume(consumed);
        } else {
            rest_.append(input.subspan(consumed));
        }
    } catch (const std::bad_alloc&) {
        return finish(std::make_error_code(std::errc::not_enough_memory));
    }
    rest_due_ = !reading() && !rest_.empty();
    if (rest_.size() > limits_.input_limit) return finish(Error::input_limit);
    // Another message begins with what is left, unless nothing was taken from it.
    if (limits_.message_timeout <= Duration::zero() || rest_.empty() || (consumed == 0 && known)) return;
    since_->rest_since = reactor_.turn_time();
    wait_for_deadline();
}

void PipeTransport::end_of_input() {
    input_ended_ = true;
    if (write_broken_) return finish(reason_);
    call([this] {
        protocol_->end_of_stream();
        if (!over_) rest_.clear();
    });
}

void PipeTransport::pause_reading() {
    paused_ = true;
    update_interest();
}

void PipeTransport::resume_reading() {
    if (!std::exchange(paused_, false) || over_) return;
    rest_due_ = true;
    update_interest();
}

bool PipeTransport::reading() const noexcept {
    return !paused_ && !held_back_ && !input_ended_ && !closing_ && !over_;
}

// ── calling the protocol ──

template <class Call>
void PipeTransport::call(Call&& protocol_call) {
    inside_ = true;
    try {
        protocol_call();
    } catch (...) {
        inside_ = in_received_ = false;
        finish(Error::exception);
        throw;
    }
    inside_ = in_received_ = false;
    leave_callback();
}

// Sends what was written in the call and does all that it has led to.
void PipeTransport::leave_callback() {
    flush();
    settle();
    if (over_ || !over_high_ || pause_told_) return;
    pause_told_ = true;
    call([this] { protocol_->pause_writing(); });
}

// ── writing ──

bool PipeTransport::write(Bytes data) {
    if (!output_ || shutting_ || closing_ || write_broken_ || over_) return false;
    if (inside_ || !output_queue_.empty()) {
        queue(data);
    } else {
        queue(data.subspan(write_now(data)));
    }
    return !over_;
}

void PipeTransport::queue(Bytes data) {
    if (data.empty() || over_ || write_broken_) return;
    try {
        if (output_queue_.in_memory() >= limits_.output_limit) return finish(Error::output_limit);
        const bool first = output_queue_.empty();
        output_queue_.append(data);
        note_queued(first);
    } catch (const std::bad_alloc&) {
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
}

bool PipeTransport::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    length = length_of(file, offset, length);
    if (!output_ || shutting_ || closing_ || write_broken_ || over_) return false;
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
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
    if (!inside_) flush();
    return !over_;
}

void PipeTransport::note_queued(bool first) {
    if (first && limits_.write_timeout > Duration::zero()) {
        since_->output_since = reactor_.turn_time();
        if (!closing_) wait_for_deadline();
        if (over_) return;
    }
    const bool passed = !over_high_ && output_queue_.size() > limits_.high_mark;
    if (passed) over_high_ = true;
    if (over_high_ && in_received_) held_back_ = true;
    update_interest();
    if (passed && !inside_) trigger(Interest::writable);  // not from inside this call
}

// How much of it the kernel took.
std::size_t PipeTransport::write_now(Bytes data) {
    if (data.empty()) return 0;
    return written(output_.write(data));
}

// What a system call says that has written.
std::size_t PipeTransport::written(ssize_t count) {
    if (count < 0) {
        if (!would_block(errno)) broken(last_error());
        return 0;
    }
    note_activity();
    return std::size_t(count);
}

void PipeTransport::flush() {
    if (over_ || output_queue_.empty()) return;
    std::size_t taken = 0;
    if (output_queue_.begins_with_file()) {
        const ssize_t count = output_queue_.send_file(output_.get(), Output::file_piece);
        if (count == 0) return finish(Error::file_shortened);
        taken = written(count);
    } else {
        taken = write_now(output_queue_.bytes());
        if (taken > 0) output_queue_.consume(taken);
    }
    if (taken > 0 && limits_.write_timeout > Duration::zero()) since_->output_since = reactor_.turn_time();
}

void PipeTransport::writable() {
    if (fresh_) return start();
    if (over_high_ && !pause_told_ && output_queue_.size() > limits_.low_mark) {
        pause_told_ = true;
        return call([this] { protocol_->pause_writing(); });
    }
    const std::size_t waiting = output_queue_.size();
    flush();
    if (waiting > 0 && output_queue_.size() == waiting && output_.hung_up())
        broken(std::make_error_code(std::errc::broken_pipe));
    if (over_) return;
    if (over_high_ && output_queue_.size() <= limits_.low_mark) {
        over_high_ = held_back_ = false;
        if (std::exchange(pause_told_, false)) return call([this] { protocol_->resume_writing(); });
    }
    settle();
}

// A write failed. Who does not read may still have something to say: a child that was asked enough answers.
void PipeTransport::broken(std::error_code reason) {
    if (reason != std::errc::broken_pipe || closing_ || paused_ || input_ended_) return finish(reason);
    reason_ = reason;
    write_broken_ = true;
    over_high_ = held_back_ = false;
    output_queue_.clear();
    update_interest();
}

void PipeTransport::shutdown_write() {
    shutting_ = true;
    if (!inside_) settle();
}

void PipeTransport::close() {
    if (closing_ || over_) return;
    closing_ = true;
    rest_due_ = false;
    plan_deadline();
    if (!inside_) settle();
}

void PipeTransport::abort(std::error_code reason) { finish(reason); }

// ── in between ──

// Does what became due. Calls nobody, so that it may run inside any call to the transport.
void PipeTransport::settle() {
    if (over_) return;
    if (output_queue_.empty()) {
        if (closing_) return finish(write_broken_ ? reason_ : std::error_code());
        if (shutting_ && input_ && !write_broken_) {
            writing_.reset();
            output_.close();
            output_ended_ = true;
        }
        if (input_ended_ && (output_ended_ || shutting_)) return finish({});
    }
    update_interest();
}

void PipeTransport::update_interest() noexcept {
    if (over_) return;
    const bool send = !output_queue_.empty() || over_high_;
    const Interest writable = send || (fresh_ && !input_) ? Interest::writable : Interest::none;
    if (writing_ && writing_.interest() != writable) writing_.set_interest(writable);
    if (!reading_) return;
    const Interest before = reading_.interest();
    const Interest readable = reading() || fresh_ ? Interest::readable : Interest::none;
    if (readable == before) return;
    reading_.set_interest(readable);
    if (rest_due_ && readable != Interest::none) trigger(Interest::readable);
}

void PipeTransport::trigger(Interest ready) noexcept {
    try {
        (ready == Interest::readable ? reading_ : writing_).trigger(ready);
    } catch (const std::bad_alloc&) {
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
}

void PipeTransport::set_limits(const Limits& limits) {
    limits_ = limits.bounded();
    if (!closing_ && !fresh_ && !over_) plan_deadline();
}

// From now on other deadlines hold, and begin.
void PipeTransport::plan_deadline() {
    since_->begin(reactor_.now());
    wait_for_deadline();
}

void PipeTransport::wait_for_deadline() noexcept {
    const TimePoint at = since_->next(limits_, closing_, !rest_.empty(), !output_queue_.empty()).at;
    if (at == TimePoint::max() && !closing_) return void(deadline_.cancel());
    try {
        deadline_.start_at(at);
    } catch (const std::bad_alloc&) {
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
}

// As Connection::deadline.
void PipeTransport::deadline() {
    const TimePoint now = reactor_.turn_time();
    if (!reading()) since_->rest_since = now;
    const Deadlines::Next next = since_->next(limits_, closing_, !rest_.empty(), !output_queue_.empty());
    if (now < next.at) return wait_for_deadline();
    reactor_.notice(next.notice, [&] {
        return std::string("a pipe: ") + next.text + ", with " + std::to_string(queued()) + " bytes unsent";
    });
    finish(next.error);
}

void PipeTransport::note_activity() noexcept {
    if (deadline_.active()) since_->last_activity = reactor_.turn_time();
}

}  // namespace reactor
