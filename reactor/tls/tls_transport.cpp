// A TLS transport's input: the handshake, records as they come, and the calls of the protocol. The way of the output is
// in tls_output.cpp, moving, the end and the deadlines in tls_life.cpp.
#include <reactor/tls/tls_transport_impl.hpp>

#include <reactor/reactor.hpp>
#include <reactor/tls/tls_error.hpp>

#include <openssl/err.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

namespace reactor {

namespace {

std::unique_ptr<const std::string> host_of(const TlsContext::State& context, std::string host) {
    return context.is_server() ? nullptr : std::make_unique<const std::string>(std::move(host));
}

}  // namespace

TlsTransport::TlsTransport(std::shared_ptr<TlsContext::State> context, std::string host,
                           std::unique_ptr<Protocol> protocol)
    : protocol_(std::move(protocol)), context_(std::move(context)), host_(host_of(*context_, std::move(host))) {
    state_.set(shakes_hands);
    attach(*protocol_, this);
}

TlsTransport::TlsTransport(std::shared_ptr<TlsContext::State> context, std::string host, Reactor& reactor,
                           MoveOnlyFunction<void()> secured)
    : loop_(&TlsLoop::of(reactor)), context_(std::move(context)), host_(host_of(*context_, std::move(host))) {
    state_.set(shakes_hands);
    if (secured)
        early_calls().emplace_back([secured = std::move(secured)](Transport&, Protocol&) mutable { secured(); });
}

// It is connected already, and may be in a call. A pause is its own; that of the carrier ends. The high watermark, if
// it has heard of it, was passed by plain bytes that the carrier still holds.
void TlsTransport::carry(std::unique_ptr<Protocol> protocol, const StreamState& carrier) noexcept {
    protocol_ = std::move(protocol);
    attach(*protocol_, this);
    state_.unset(StreamState::fresh);
    if (carrier.is(StreamState::paused)) state_.set(StreamState::paused);
    if (!carrier.is(StreamState::pause_called)) return;
    state_.set(StreamState::over_high | StreamState::pause_called);
    carrier_over_high_ = true;
}

TlsTransport::~TlsTransport() {
    protocol_.reset();
    if (place_in_buffered != 0) loop_->forget_buffers(*this);
    if (waits_for_time_) loop_->wait_no_longer(*this);
}

TlsTransport* TlsTransport::of(const SSL* ssl) noexcept {
    return static_cast<TlsTransport*>(SSL_get_app_data(ssl));
}

TlsLoop& TlsTransport::shared_state() const {
    const auto* const outer = dynamic_cast<const TlsTransport*>(&carrier());
    return outer == nullptr ? TlsLoop::of(reactor()) : outer->loop_->inner();
}

// ── the handshake ──

// Not before: the transport may have been made on another thread than its loop's.
void TlsTransport::connected() {
    if (state_.is(StreamState::closing | StreamState::over)) return carrier().close();
    const TimePoint begin = reactor().now();
    try {
        loop_ = &shared_state();
        ssl_ = context_->make_ssl(host_ == nullptr ? std::string() : *host_);
        if (SSL_set_app_data(ssl_.get(), this) != 1) throw std::bad_alloc();
        BIO_up_ref(loop_->bio());
        SSL_set_bio(ssl_.get(), loop_->bio(), loop_->bio());
        plan_deadline();
        loop_->spent_on_handshake(time_between(begin, reactor().now()));
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

std::vector<HandleState::Call>& TlsTransport::early_calls() {
    if (early_calls_ == nullptr) early_calls_ = std::make_unique<std::vector<HandleState::Call>>();
    return *early_calls_;
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
    state_.unset(shakes_hands);
    if (state_.is(StreamState::fresh)) make(state_.next_call(waiting(), limits()));
    make_early_calls();
    if (!state_.open()) return;
    leave_callback();
    if (state_.is(StreamState::over_high)) wake();  // passed before TLS was started
}

void TlsTransport::make_early_calls() {
    if (const auto early = std::exchange(early_calls_, nullptr)) {
        for (HandleState::Call& posted : *early) run_posted(posted);
    }
}

void TlsTransport::resume_handshake() {
    waits_for_time_ = false;
    carrier().resume_reading();
    if (!state_.open() || context_->is_server() || SSL_in_before(ssl_.get()) == 0) return;
    Bytes nothing;  // a client's first step answers no input, so none brings it here
    shake_hands(nothing);
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
    // The carrier may be over behind this, so a call that was to come from the loop comes now: the end above all.
    while (state_.reading() && (end_due_ || state_.is(StreamState::input_due))) make_due_call();
    if (end_due_ || state_.is(StreamState::input_ended | StreamState::closing | StreamState::over)) return;
    fail(Error::truncated);
}

// The carrier reads if the protocol does. It also reads on behind a close_notify, to see its own end.
void TlsTransport::update_carrier() {
    const bool pauses = state_.is(StreamState::paused | StreamState::held_back | hands_over) &&
                        !state_.is(shakes_hands | StreamState::closing | StreamState::over);
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
        case StreamState::Call::connected:
            state_.unset(hands_over);
            call([this] { protocol_->connected(); });
            if (!handshaking()) make_early_calls();
            return true;
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

// Sends what was written in the call, and does everything that it led to.
void TlsTransport::leave_callback() {
    send_gathered();
    if (state_.is_ordinary() && queue_ == nullptr && !carrier_paused_) return;  // as nearly always
    if (queue_ != nullptr) send_queue();
    if (state_.is(StreamState::over)) return;
    settle();
    if (state_.is(StreamState::over_high) && !state_.is(StreamState::pause_called))
        make(state_.next_call(waiting(), limits()));
    else if (state_.is(StreamState::over_high) && !carrier_over_high_ && waiting() <= limits().low_mark())
        wake();  // all of it has left before the protocol was told to pause, and nothing else calls resume_writing
    update_carrier();
}

bool TlsTransport::hand_over(std::unique_ptr<Protocol>&& next) {
    if (!state_.open_both_ways() || end_due_) return false;
    if (state_.is(StreamState::fresh))
        throw std::logic_error("Protocol::hand_over_to: before `connected`, or a second time");
    DestroyedLater previous(reactor());
    previous.takes(std::exchange(protocol_, std::move(next)));
    attach(*protocol_, this);
    state_.unset(StreamState::pause_called);  // the next one is owed it
    state_.begin_anew();
    state_.set(hands_over);
    if (!inside_) update_carrier();
    wake();
    return true;
}

// Something is due outside the carrier's calls: it comes from the loop, as a call of the carrier's protocol.
void TlsTransport::wake() {
    if (woken_) return;
    try {
        woken_ = HandleState::post_own(carrier().handle());
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

// The carrier's, so that one from before TLS was started leads here as well.
TransportHandle TlsTransport::handle() {
    return state_.is(StreamState::over) ? TransportHandle() : carrier().handle();
}

// During the handshake a call is kept: a handshake takes many iterations. An empty one is that of `wake`.
void TlsTransport::run_posted(HandleState::Call& posted) {
    if (woken_ && !posted) return woken();
    if (!state_.open()) return;
    if (state_.is(shakes_hands | hands_over)) return early_calls().push_back(std::move(posted));
    DressedProtocol* const dressed = as_dressed(protocol_.get());  // TLS inside TLS
    call([&] { dressed == nullptr ? posted(*this, *protocol_) : dressed->run_posted(posted); });
}

}  // namespace reactor
