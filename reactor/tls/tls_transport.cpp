// A TLS transport's life and its input: the handshake, records as they come, and the end. The way of the output is in
// tls_output.cpp.
#include <reactor/tls/tls_transport_impl.hpp>

#include <reactor/detail/internals.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/last_calls_impl.hpp>
#include <reactor/tls/tls_error.hpp>

#include <openssl/err.h>

#include <algorithm>
#include <new>
#include <utility>

namespace reactor {

TlsTransport::TlsTransport(std::shared_ptr<TlsContext::State> context, std::string host,
                           std::unique_ptr<Protocol> protocol)
    : protocol_(std::move(protocol)), context_(std::move(context)), host_(std::move(host)) {
    attach(*protocol_, this);
}

TlsTransport::~TlsTransport() {
    if (handles_ != nullptr) handles_->end();
    protocol_.reset();
    if (loop_ == nullptr) return;
    loop_->forget_buffers(*this);
    if (waits_for_time_) loop_->wait_no_longer(*this);
}

TlsTransport* TlsTransport::of(const SSL* ssl) noexcept {
    return static_cast<TlsTransport*>(SSL_get_app_data(ssl));
}

// ── the handshake ──

// Not before: the transport may have been made on another thread than its loop's.
void TlsTransport::connected() {
    if (state_.is(StreamState::closing | StreamState::over)) return carrier().close();
    try {
        loop_ = &TlsLoop::of(reactor());
        ssl_ = context_->make_ssl(host_);
        if (SSL_set_app_data(ssl_.get(), this) != 1) throw std::bad_alloc();
        BIO_up_ref(loop_->bio());
        SSL_set_bio(ssl_.get(), loop_->bio(), loop_->bio());
        if (context_->handshake_timeout() > Duration::zero())
            wait_until(deadline_after(reactor().now(), context_->handshake_timeout()));
    } catch (const std::bad_alloc&) {
        ERR_clear_error();
        return fail(std::make_error_code(std::errc::not_enough_memory));
    } catch (const std::system_error& failure) {
        return fail(failure.code());
    }
    if (context_->is_server()) return SSL_set_accept_state(ssl_.get());
    SSL_set_connect_state(ssl_.get());
    Bytes nothing;
    shake_hands(nothing);
}

// True if it is done now, and something may be read.
bool TlsTransport::shake_hands(Bytes& source) {
    if (!loop_->has_time_for_handshake()) {
        waits_for_time_ = true;
        carrier().pause_reading();
        loop_->wait_for_handshake(*this);
        return false;
    }
    const TimePoint begin = reactor().now();
    note_activity();
    loop_->source = source;
    loop_->carrier = &carrier();
    const int result = SSL_do_handshake(ssl_.get());
    // A handshake begins with an empty error queue. That it wants to read is no sign: OpenSSL 3.0 says so, too, of one
    // that has failed (tls_get_message_header).
    const bool failed = result != 1 && ERR_peek_error() != 0;
    const std::error_code error = failed ? handshake_error() : std::error_code();
    source = loop_->source;
    loop_->send_records();  // also an alert
    loop_->spent_on_handshake(time_between(begin, reactor().now()));
    if (failed) {
        fail(error);
    } else if (result == 1) {
        handshake_done();
    }
    return result == 1;
}

std::error_code TlsTransport::handshake_error() const noexcept {
    const std::error_code error = take_openssl_error();
    const long verdict = SSL_get_verify_result(ssl_.get());
    const bool refused = ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    if (error.category() == tls_category() && refused && verdict != X509_V_OK)
        return {int(verdict), certificate_category()};
    return error;
}

void TlsTransport::handshake_done() {
    deadline_.reset();
    make(state_.next_call(waiting(), limits()));
    for (HandleState::Call& posted : std::exchange(early_calls_, {})) {
        if (!state_.open()) return;
        call([&] { posted(*this, *protocol_); });
    }
}

void TlsTransport::resume_handshake() {
    waits_for_time_ = false;
    carrier().resume_reading();
}

// ── records ──

std::size_t TlsTransport::received(Bytes input) {
    if (state_.is(StreamState::closing | StreamState::over)) return input.size();
    Bytes source = input.subspan(std::exchange(kept_byte_, false) ? 1 : 0);
    state_.unset(carrier_holds);
    if (handshaking()) {
        if (!shake_hands(source)) return input.size() - source.size();
    } else if (state_.is(StreamState::input_due)) {
        make_due_call();
    }
    while (!source.empty() && state_.reading()) {
        read_records(source);
        if (!source.empty() || !rest_.empty()) note_hold();
    }
    // Behind a close_notify nothing counts.
    if (end_due_ || state_.is(StreamState::input_ended | StreamState::closing | StreamState::over)) return input.size();
    // When the carrier reads again it calls only if it has something. So it keeps a byte, if the protocol's rest waits
    // for that.
    kept_byte_ = source.empty() && state_.is(carrier_holds) && !rest_.empty();
    return input.size() - source.size() - (kept_byte_ ? 1 : 0);
}

// Reads whole records for as long as there is room, so that the protocol is called once for many. A read that would
// only say that the record is not whole is not made: when all of the source is used, what is left is a part of one.
void TlsTransport::read_records(Bytes& source) {
    TlsLoop& loop = *loop_;
    note_activity();
    loop.source = source;
    loop.carrier = &carrier();
    const std::size_t most = TlsLoop::plain_size - TlsLoop::record;
    std::size_t filled = 0;
    std::size_t count = 0;
    int result = 1;
    do {
        result = SSL_read_ex(ssl_.get(), loop.plain() + filled, TlsLoop::record, &count);
        if (result == 1) filled += count;
    } while (result == 1 && !loop.source.empty() && filled < most);
    source = loop.source;
    bool ended = false;
    std::error_code error;
    // The error queue alone says nothing, as code outside may have left errors there. A failure also puts OpenSSL back
    // to its beginning; so does half of a message after the handshake, before which the queue is emptied. The flag of a
    // close_notify is set by a fatal alert as well.
    if (result != 1) [[unlikely]] {
        if (SSL_in_init(ssl_.get())) {
            if (ERR_peek_error() != 0) error = take_openssl_error();
        } else {
            ended = (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
        }
    }
    loop.send_records();  // a KeyUpdate that answers one, or an alert
    if (filled > 0) deliver(Bytes(loop.plain(), filled));
    if (state_.is(StreamState::closing | StreamState::over)) return;
    if (error) return fail(error);
    if (!ended) return;
    end_due_ = true;
    make_due_call();
}

void TlsTransport::deliver(Bytes plain) {
    if (rest_.empty()) return give(plain);
    try {
        rest_.append(plain);
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    give(rest_.view());
}

void TlsTransport::give(Bytes input) {
    answering_ = true;
    call([&] {
        const std::size_t consumed = protocol_->received(input);
        if (consumed >= input.size() && rest_.empty()) return;
        try {
            const bool begins = state_.keep_rest(rest_, input, consumed);
            if (state_.is(StreamState::over)) return;
            if (!rest_.empty() && !state_.reading()) state_.set(StreamState::input_due);
            if (rest_.size() > limits().input_limit) return finish(Error::input_limit);
            if (!begins || limits().message_timeout <= Duration::zero()) return;
            rest_since_ = reactor().turn_time();
            wait_until(deadline_after(rest_since_, limits().message_timeout));
        } catch (const std::bad_alloc&) {
            out_of_memory();
        }
    });
}

// The carrier's end. It comes after all input, and not while the protocol has paused.
void TlsTransport::end_of_stream() {
    if (state_.is(StreamState::closing | StreamState::over)) return;
    if (state_.is(StreamState::input_due)) make_due_call();
    if (end_due_ || state_.is(StreamState::input_ended | StreamState::closing | StreamState::over)) return;
    fail(Error::truncated);
}

// The carrier reads if the protocol does. It also reads on behind a close_notify, to see its own end.
void TlsTransport::update_carrier() {
    const bool pauses = state_.is(StreamState::paused | StreamState::held_back) &&
                        !state_.is(StreamState::fresh | StreamState::closing | StreamState::over);
    if (pauses == carrier_paused_) return;
    carrier_paused_ = pauses;
    pauses ? carrier().pause_reading() : carrier().resume_reading();
}

// In a call of the carrier's `received`: has it stopped reading meanwhile?
void TlsTransport::note_hold() noexcept {
    if (carrier_paused_ || carrier().reading()) return;
    state_.set(carrier_holds);
    if (!rest_.empty()) state_.set(StreamState::input_due);
}

void TlsTransport::message_received() {
    carrier().message_received();
    if (answering_) note_hold();
}

// ── calling the protocol ──

bool TlsTransport::make(StreamState::Call due) {
    switch (due) {
        case StreamState::Call::none: return false;
        case StreamState::Call::connected: call([this] { protocol_->connected(); }); return true;
        case StreamState::Call::received:
            if (!rest_.empty()) give(rest_.view());
            return true;
        case StreamState::Call::end_of_stream:
            call([this] {
                protocol_->end_of_stream();
                if (!state_.is(StreamState::over)) rest_.clear();
            });
            return true;
        case StreamState::Call::closing: call([this] { protocol_->closing(); }); return true;
        case StreamState::Call::pause_writing: call([this] { protocol_->pause_writing(); }); return true;
        case StreamState::Call::resume_writing: call([this] { protocol_->resume_writing(); }); return true;
    }
    return false;
}

// One call that is owed: a protocol may always want another.
void TlsTransport::make_due_call() {
    if (make(state_.next_call(waiting(), limits()))) return;
    if (!end_due_ || !state_.reading()) return;
    end_due_ = false;
    if (!make(state_.peer_ended())) settle();
}

// All calls are made inside one of the carrier's, which ends the connection if they throw.
template <class Call>
void TlsTransport::call(Call&& protocol_call) {
    inside_ = true;
    try {
        protocol_call();
    } catch (...) {
        inside_ = answering_ = false;
        loop_->gathered = {};
        state_.set(StreamState::over);
        reason_ = Error::exception;
        throw;
    }
    inside_ = answering_ = false;
    leave_callback();
}

// Sends what was written in the call, and does everything that it led to.
void TlsTransport::leave_callback() {
    send_gathered();
    if (state_.is_ordinary() && queue_ == nullptr && !carrier_paused_) return;  // as nearly always
    if (queue_ != nullptr) send_queue();
    if (state_.is(StreamState::over)) return;
    settle();
    if (state_.is(StreamState::over_high) && !state_.is(StreamState::pause_called))
        make(state_.next_call(waiting(), limits()));
    update_carrier();
}

// Something is due outside the carrier's calls: it comes from the loop, as a call of the carrier's protocol.
void TlsTransport::wake() {
    if (woken_) return;
    try {
        woken_ = carrier().handle().post([](Protocol& self) { static_cast<TlsTransport&>(self).woken(); });
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
}

void TlsTransport::woken() {
    woken_ = false;
    if (handshaking() || state_.is(StreamState::over)) return;
    if (queue_ != nullptr) send_queue();
    if (state_.is(StreamState::closing | StreamState::over)) return;
    make_due_call();
    if (state_.is(StreamState::over)) return;
    if (state_.reading() && (end_due_ || (state_.is(StreamState::input_due) && !rest_.empty()))) wake();
    update_carrier();
}

TransportHandle TlsTransport::handle() {
    if (state_.is(StreamState::over)) return {};
    if (handles_ == nullptr) handles_ = std::make_shared<HandleState>(reactor(), *this, &run_posted);
    return handles_->handle();
}

// From the loop: a call that a handle posted. During the handshake it is kept: a handshake takes many iterations.
bool TlsTransport::run_posted(Transport& transport, HandleState::Call& posted) {
    auto& self = static_cast<TlsTransport&>(transport);
    if (!self.state_.open()) return true;
    if (self.handshaking()) {
        self.early_calls_.push_back(std::move(posted));
        return true;
    }
    try {
        self.call([&] { posted(self, *self.protocol_); });
    } catch (...) {
        self.carrier().abort(Error::exception);
        throw;
    }
    return true;
}

// ── the end ──

void TlsTransport::requested(Request request) {
    switch (request) {
        case Request::pause_reading:
            if (!inside_) update_carrier();
            return;
        case Request::resume_reading:
            rest_since_ = reactor().turn_time();  // the time of the pause is not the peer's
            if (rest_.empty()) state_.unset(StreamState::input_due);
            if (state_.is(StreamState::input_due) || end_due_) wake();
            if (!inside_) update_carrier();
            return;
        case Request::close:
            end_due_ = false;
            if (handshaking()) return carrier().close();
            [[fallthrough]];
        case Request::shutdown_write:
            if (!inside_ && !handshaking()) settle();
    }
    // The carrier's own deadline begins when it is closed, behind all that waits here.
    if (state_.is(StreamState::closing) && queue_ != nullptr) {
        rest_since_ = reactor().now();
        wait_until(deadline_after(rest_since_, limits().close_timeout));
    }
}

// In order: the peer gets what was said last, an alert for instance.
void TlsTransport::fail(std::error_code reason) {
    if (state_.is(StreamState::over)) return;
    reason_ = reason;
    state_.set(StreamState::over);
    deadline_.reset();
    carrier().close();
}

void TlsTransport::finish(std::error_code reason) {
    if (state_.is(StreamState::over)) return;
    reason_ = reason;
    state_.set(StreamState::over);
    carrier().abort(reason);
}

void TlsTransport::draining() {
    if (handshaking()) return close();
    if (!state_.is(StreamState::closing | StreamState::over)) call([this] { protocol_->draining(); });
}

// The carrier's end has begun: by this, or by an error that comes with `disconnected`.
void TlsTransport::closing() {
    if (!state_.is(StreamState::closing)) state_.set(StreamState::over);
    if (state_.take_closing()) protocol_->closing();
}

void TlsTransport::connect_failed(const std::vector<ConnectFailure>& failures) {
    state_.set(StreamState::over);
    protocol_->connect_failed(failures);
}

void TlsTransport::disconnected(std::error_code reason) {
    state_.set(StreamState::over);
    if (handles_ != nullptr) handles_->end();
    deadline_.reset();
    make_last_calls(state_, *protocol_, reason_ ? reason_ : reason);
}

// ── deadlines: the carrier has those that are about bytes ──

void TlsTransport::wait_until(TimePoint at) {
    if (deadline_ == nullptr) deadline_ = std::make_unique<Timer>(reactor(), [this] { deadline(); });
    deadline_->start_at(at);
}

void TlsTransport::deadline() {
    Reactor& loop = reactor();
    const auto end = [&](Notice notice, Error error, const char* text) {
        Internals(loop).notice(notice, [&] { return peer().to_string() + ": " + text; });
        finish(error);
    };
    if (handshaking()) return end(Notice::handshake_timeout, Error::handshake_timeout, "took too long for a handshake");
    if (state_.is(StreamState::closing)) {
        if (queue_ == nullptr) return;
        const TimePoint at = deadline_after(rest_since_, limits().close_timeout);
        if (loop.turn_time() < at) return deadline_->start_at(at);
        return end(Notice::close_timeout, Error::close_timeout, "not closed in time");
    }
    if (rest_.empty() || limits().message_timeout <= Duration::zero()) return;
    if (!state_.reading()) rest_since_ = loop.turn_time();
    const TimePoint at = deadline_after(rest_since_, limits().message_timeout);
    if (loop.turn_time() < at) return deadline_->start_at(at);
    end(Notice::message_timeout, Error::message_timeout, "took too long for a message");
}

void TlsTransport::set_limits(const Limits& limits) {
    carrier().set_limits(limits);
    if (handshaking() || rest_.empty() || state_.is(StreamState::closing | StreamState::over)) return;
    rest_since_ = reactor().now();
    if (limits.message_timeout <= Duration::zero()) return deadline_.reset();
    wait_until(deadline_after(rest_since_, limits.message_timeout));
}

bool TlsTransport::free_buffers_unless_active() noexcept {
    if (std::exchange(active_, false) || SSL_free_buffers(ssl_.get()) != 1) return false;
    SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
    uses_ = 0;
    return true;
}

void TlsTransport::keep_buffers() {
    try {
        loop_->note_buffers(*this);
        SSL_clear_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
    } catch (const std::bad_alloc&) {  // then it asks again
        uses_ = 0;
    }
}

}  // namespace reactor
