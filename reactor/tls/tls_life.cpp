// A TLS transport's life behind its handshake: it moves to another loop, its deadlines, its memory, and its end.
#include <reactor/tls/tls_transport_impl.hpp>

#include <reactor/detail/internals.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/last_calls_impl.hpp>

#include <new>
#include <utility>

namespace reactor {

// ── to another loop ──

void TlsTransport::move_to(Reactor& target, MoveOnlyFunction<void()> arrived) {
    if (state_.is(StreamState::over)) return;
    MoveOnlyFunction<void()> told;
    if (arrived) {
        told = [this, arrived = std::move(arrived)]() mutable {
            if (!handshaking()) return call(arrived);
            early_calls().emplace(early_calls().begin(),
                                  [arrived = std::move(arrived)](Transport&, Protocol&) mutable { arrived(); });
        };
    }
    carrier().move_to(target, std::move(told));
    note_hold();
}

void TlsTransport::leaves() noexcept {
    if (place_in_buffered != 0) {
        loop_->forget_buffers(*this);
        SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
        uses_ = 0;
    }
    if (std::exchange(waits_for_time_, false)) loop_->wait_no_longer(*this);
    deadline_.reset();
    if (DressedProtocol* const dressed = as_dressed(protocol_.get())) dressed->leaves();
}

void TlsTransport::arrives() {
    if (state_.is(StreamState::over) || ssl_ == nullptr) return;
    loop_ = &shared_state();
    BIO_up_ref(loop_->bio());
    SSL_set_bio(ssl_.get(), loop_->bio(), loop_->bio());
    if (DressedProtocol* const dressed = as_dressed(protocol_.get())) dressed->arrives();
    plan_deadline();
    if (handshaking()) return resume_handshake();  // if it waited for time
    state_.unset(carrier_holds);
    if (!rest_.empty()) state_.set(StreamState::input_due);
    wake();
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
        plan_deadline();
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
    if (state_.is(StreamState::fresh)) return close();
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
    deadline_.reset();
    make_last_calls(state_, *protocol_, reason_ ? reason_ : reason);
}

// ── deadlines: the carrier has those that are about bytes ──

void TlsTransport::wait_until(TimePoint at) {
    if (deadline_ == nullptr) deadline_ = std::make_unique<Timer>(reactor(), [this] { deadline(); });
    deadline_->start_at(at);
}

// All that hold now begin now.
void TlsTransport::plan_deadline() {
    rest_since_ = reactor().now();
    const Duration limit = handshaking() ? context_->handshake_timeout()
                           : state_.is(StreamState::closing)
                               ? (queue_ == nullptr ? Duration::zero() : limits().close_timeout)
                           : rest_.empty() ? Duration::zero()
                                           : limits().message_timeout;
    if (limit <= Duration::zero()) return deadline_.reset();
    wait_until(deadline_after(rest_since_, limit));
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
    plan_deadline();
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
