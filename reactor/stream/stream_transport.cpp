// The order of the calls is StreamState's. This makes them, and does what they lead to.
#include <reactor/detail/internals.hpp>
#include <reactor/stream/dressed_impl.hpp>
#include <reactor/stream/last_calls_impl.hpp>
#include <reactor/stream/stream_transport_impl.hpp>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>

namespace reactor {

StreamTransport::StreamTransport(std::unique_ptr<Protocol> protocol) noexcept : protocol_(std::move(protocol)) {
    attach(*protocol_, this);
}

StreamTransport::~StreamTransport() {
    destroy_protocol();
}

void StreamTransport::destroy_protocol() noexcept {
    if (parts_ != nullptr && parts_->handles != nullptr) parts_->handles->end();
    protocol_.reset();
}

TimePoint StreamTransport::now() const {
    return reactor().now();
}

TimePoint StreamTransport::turn_time() const {
    return reactor().turn_time();
}

Bytes StreamTransport::unconsumed() const noexcept {
    return parts_ == nullptr ? Bytes() : parts_->input.view();
}

std::size_t StreamTransport::queued() const noexcept {
    return output_size();
}

// ── calling the protocol ──

StreamTransport::Calling StreamTransport::calling() const noexcept {
    return parts_->calling;
}

void StreamTransport::begin_call(Calling call) noexcept {
    parts_->calling = call;
}

void StreamTransport::end_call() noexcept {
    parts_->calling = Calling::none;
}

void StreamTransport::send_written() {
    end_call();
    flush();
}

// Calls the protocol, as it is owed. False if it is owed nothing.
bool StreamTransport::make(StreamState::Call due) {
    switch (due) {
        case StreamState::Call::none: return false;
        case StreamState::Call::connected:
            prepare();  // which may fail for lack of memory
            if (is(over)) {
                state_.set(fresh);  // `connected` has not been called, so `closing` is not either
            } else {
                call([this] { protocol_->connected(); });
                if (is(input_due) && reading()) read_soon();  // input that came before TLS was started
            }
            return true;
        case StreamState::Call::received: unconsumed().empty() ? settle() : deliver(unconsumed()); return true;
        case StreamState::Call::pause_writing: call([this] { protocol_->pause_writing(); }); return true;
        case StreamState::Call::resume_writing: call([this] { protocol_->resume_writing(); }); return true;
        case StreamState::Call::closing: call([this] { protocol_->closing(); }); return true;
        case StreamState::Call::end_of_stream:
            call([this] {
                protocol_->end_of_stream();
                // Behind the end nothing completes them.
                if (parts_ != nullptr && !is(over)) parts_->input.clear();
            });
            return true;
    }
    return false;
}

void StreamTransport::call_failed() noexcept {
    finish(Error::exception);
    end_call();
}

// Sends what was written in the call, and does all that it has led to.
void StreamTransport::leave_call() {
    send_written();
    // `closing` comes right behind the call that began the end, and this again behind `closing`.
    if (is(closing) && make_next()) return;
    settle();
    // A resume comes from the loop: a protocol that writes without end in it would never return.
    if (is(over_high) && !is(pause_called | fresh)) make_next();
}

void StreamTransport::deliver(Bytes input) {
    begin_call(Calling::received);
    std::size_t consumed = 0;
    try {
        consumed = protocol_->received(input);
    } catch (...) {
        call_failed();
        throw;
    }
    after_received(input, consumed);
}

void StreamTransport::after_received(Bytes input, std::size_t consumed) {
    if (consumed < input.size() || parts_ != nullptr) keep_rest(input, consumed);
    leave_call();
}

// The input lies in the rest's own memory, or in other memory that is about to be used again.
void StreamTransport::keep_rest(Bytes input, std::size_t consumed) {
    if (is(over | closing)) return;
    try {
        ByteQueue& rest = parts().input;
        const bool begins = state_.keep_rest(rest, input, consumed);
        if (rest.size() > limits().input_limit) return finish(Error::input_limit);
        if (!begins || limits().message_timeout <= Duration::zero()) return;
        parts_->since.rest_since = turn_time();
        wait_for_deadline();
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
}

void StreamTransport::end_of_input() {
    if (!make(state_.peer_ended())) settle();
}

void StreamTransport::last_calls() {
    make_last_calls(state_, *protocol_, reason());
}

TransportHandle StreamTransport::handle() {
    if (is(over)) return {};
    std::shared_ptr<HandleState>& handles = parts().handles;
    // Shared by all the handles, and ended by finish(): a handle may live on in another thread for ever.
    if (handles == nullptr) handles = std::make_shared<HandleState>(reactor(), *this, &run_posted);
    return handles->handle();
}

// From the loop: a call that a handle posted.
bool StreamTransport::run_posted(Transport& transport, HandleState::Call& posted) {
    auto& stream = static_cast<StreamTransport&>(transport);
    if (!stream.open()) return true;
    // No call comes before `connected`. It is kept until then.
    if (stream.is(fresh)) return false;
    DressedProtocol* const dressed = as_dressed(stream.protocol_.get());
    stream.call([&] { dressed == nullptr ? posted(stream, *stream.protocol_) : dressed->run_posted(posted); });
    return true;
}

// ── another protocol ──

bool StreamTransport::dress(std::unique_ptr<DressedProtocol> around) {
    if (!state_.open_both_ways()) return false;
    if (is(fresh) || as_dressed(protocol_.get()) != nullptr)
        throw std::logic_error("start_tls: before `connected`, or a second time");
    protocol_changes();
    around->carry(std::move(protocol_), state_);
    begin_anew(std::move(around));
    return true;
}

bool StreamTransport::hand_over(std::unique_ptr<Protocol>&& next) {
    if (!state_.open_both_ways()) return false;
    if (is(fresh)) throw std::logic_error("Protocol::hand_over_to: before `connected`, or a second time");
    DestroyedLater previous(reactor());
    protocol_changes();
    previous.takes(std::move(protocol_));
    state_.unset(pause_called);  // the next one is owed it
    begin_anew(std::move(next));
    return true;
}

// To this one the stream begins here.
void StreamTransport::begin_anew(std::unique_ptr<Protocol> protocol) {
    protocol_ = std::move(protocol);
    attach(*protocol_, this);
    state_.begin_anew();
    update_interest();
    read_soon();
}

bool Protocol::hand_over_to(std::unique_ptr<Protocol>&& next) {
    if (next == nullptr) throw std::invalid_argument("Protocol::hand_over_to: there is no protocol");
    if (const auto stream = dynamic_cast<StreamTransport*>(transport_)) return stream->hand_over(std::move(next));
    if (const auto dressed = dynamic_cast<DressedProtocol*>(transport_)) return dressed->hand_over(std::move(next));
    throw std::logic_error("Protocol::hand_over_to: this transport cannot do it");
}

// ── what the protocol asks for ──

void StreamTransport::requested(Request request) {
    switch (request) {
        case Request::shutdown_write:
            if (calling() == Calling::none) settle();
            return;
        case Request::close: return begin_close();
        case Request::resume_reading:
            // The time of the pause is not the peer's.
            if (parts_ != nullptr) parts_->since.received = parts_->since.rest_since = turn_time();
            return update_interest();
        case Request::pause_reading: return update_interest();
    }
}

void StreamTransport::begin_close() {
    if (parts_ != nullptr) plan_deadline();  // otherwise `settled` does, if it is not over by then, as it mostly is
    if (is(over) || calling() != Calling::none) return;
    settle();
    if (!is(over) && state_.owes_closing()) call_soon();  // not from inside this call
}

// ── output ──

template <class Append>
void StreamTransport::append(Append&& append) {
    // Output for a peer that reads no more is dropped without an error, as long as it may still have something to say.
    if (is(over | output_broken)) return;
    try {
        Output& output = parts().output;
        const bool first = output.empty();
        append(output);
        note_queued(first);
    } catch (const std::bad_alloc&) {  // the bytes sent before have no continuation now
        abort(std::make_error_code(std::errc::not_enough_memory));
    }
}

void StreamTransport::queue(Bytes data) {
    if (data.empty()) return;
    append([&](Output& output) {
        if (output.in_memory() >= limits().output_limit) return finish(Error::output_limit);
        output.append(data);
    });
}

void StreamTransport::queue_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length,
                                 bool to_blocking_socket) {
    if (output_size() >= std::min(limits().output_limit, Output::most_size)) return finish(Error::output_limit);
    append([&](Output& output) { output.append(std::move(file), offset, length, to_blocking_socket); });
}

void StreamTransport::note_queued(bool first) {
    if (is(over)) return;
    if (first && limits().write_timeout > Duration::zero()) {
        parts_->since.output_since = turn_time();
        if (!is(closing)) wait_for_deadline();
        if (is(over)) return;
    }
    const Calling call = calling();
    const bool passed = state_.output_queued(output_size(), limits(), call == Calling::received);
    update_interest();
    if (passed && !is(over) && call == Calling::none) call_soon();  // after the call, if one is under way
}

void StreamTransport::writable_now() {
    if (make_next()) return;
    flush();
    if (!is(over) && !make_next()) settle();
}

// A write failed. After a reset the kernel still hands out what had come before it, and a peer that does not read may
// still have something to say, so the protocol gets that first.
void StreamTransport::broken(std::error_code reason) {
    const bool reset = reason == std::errc::broken_pipe || reason == std::errc::connection_reset;
    try {
        parts().reason = reason;
    } catch (const std::bad_alloc&) {
        return finish(reason);
    }
    if (!state_.write_failed(reset)) return finish(reason);
    parts_->output.clear();
    update_interest();
}

// ── in between, and the end ──

// Does the steps that are due: the end of stream once everything is sent, the end once both sides have closed. Calls no
// protocol, so that it may run inside any call to the transport.
void StreamTransport::settle() {
    if (is(over)) return;
    for (StreamState::Step step; (step = state_.next_step(output_size())) != StreamState::Step::none;) {
        if (step == StreamState::Step::finish) return finish(is(output_broken) ? reason() : std::error_code());
        if (const std::error_code error = end_output()) return broken(error);
    }
    settled();
}

std::error_code StreamTransport::reason() const noexcept {
    if (is(no_memory)) return std::make_error_code(std::errc::not_enough_memory);
    return parts_ == nullptr ? std::error_code() : parts_->reason;
}

void StreamTransport::finish(std::error_code reason) noexcept {
    if (is(over)) return;
    const std::size_t unsent = queued();
    state_.set(over);
    try {
        if (reason) parts().reason = reason;
    } catch (const std::bad_alloc&) {
        state_.set(no_memory);
    }
    if (parts_ != nullptr) {
        if (parts_->scheduled()) parts_->timers->cancel(*parts_);
        if (parts_->handles != nullptr) parts_->handles->end();
    }
    ended(reason, unsent);
    if (parts_ != nullptr) parts_->output.clear();  // not the input: received() may be looking at it
}

// ── deadlines: of all that hold, one timer waits for the first ──

const Limits& StreamTransport::limits() const noexcept {
    return *parts_->limits;
}

void StreamTransport::set_limits(const Limits& limits) {
    if (is(over)) return;
    parts().limits = std::make_unique<Limits>(limits.bounded());
    if (!is(closing | fresh)) plan_deadline();
}

// From now on other deadlines hold; those of idleness, and to close in, begin now.
void StreamTransport::plan_deadline() {
    parts_->since.begin(now());
    wait_for_deadline();
}

void StreamTransport::wait_for_deadline() noexcept {
    if (parts_->timers == nullptr) return;
    const TimePoint first = parts_->next_deadline().at;
    try {
        if (first == TimePoint::max() && !is(closing)) {
            parts_->timers->cancel(*parts_);
        } else {
            parts_->timers->schedule(*parts_, first);
        }
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
}

// Traffic only stores a time; here, once a period, that is turned into the next deadline. Input since the loop's last
// look is still unread: so the time of that look counts, and not the present one.
void StreamTransport::deadline() {
    const TimePoint time = turn_time();
    // While nothing is read, nothing can come: it is not the peer's time.
    if (!reading()) parts_->since.rest_since = parts_->since.received = time;
    const Deadlines::Next next = parts_->next_deadline();
    if (time < next.at) return wait_for_deadline();
    if (parts_->timers != nullptr) {
        Internals(reactor()).notice(next.notice, [&] {
            return name() + ": " + next.text + ", with " + std::to_string(output_size()) + " bytes unsent";
        });
    }
    finish(next.error);  // resets a connection with output; the kernel may still deliver the bytes that it has taken
}

}  // namespace reactor
