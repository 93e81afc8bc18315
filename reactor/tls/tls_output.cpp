// The way of a TLS transport's output: writes of one call are gathered, encrypted together when it returns, and are one
// write to the carrier. The carrier queues what the peer does not take.
#include <reactor/tls/tls_transport_impl.hpp>

#include <openssl/err.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace reactor {

bool TlsTransport::write(Bytes data) {
    if (!state_.accepts_writes()) return false;
    if (data.empty()) return true;
    if (queue_ != nullptr || handshaking())
        return queue(queue_ == nullptr ? 0 : queue_->in_memory(), [&] { queue_->append(data); });
    inside_ ? gather(data) : encrypt(data);
    return state_.accepts_writes();
}

// Collects what is written in one call: as a view as long as it is one piece of the input, else as a copy. Whole
// records leave as soon as the memory for copies is full.
void TlsTransport::gather(Bytes data) {
    TlsLoop& loop = *loop_;
    Bytes& gathered = loop.gathered;
    const bool view = loop.in_plain(data);
    if (view && gathered.empty()) {
        gathered = data;
        return;
    }
    const bool copied = gathered.data() == loop.gather();
    if (view && !copied && gathered.data() + gathered.size() == data.data()) {
        gathered = {gathered.data(), gathered.size() + data.size()};
        return;
    }
    if (!copied && gathered.size() >= TlsLoop::gather_size) send_gathered();
    if (!copied && !gathered.empty()) {
        std::memcpy(loop.gather(), gathered.data(), gathered.size());
        gathered = {loop.gather(), gathered.size()};
    }
    while (!data.empty() && state_.accepts_writes()) {
        if (gathered.empty() && data.size() >= TlsLoop::gather_size) {
            const std::size_t whole = data.size() - data.size() % TlsLoop::record;
            encrypt(data.first(whole));
            data = data.subspan(whole);
            continue;
        }
        const std::size_t piece = std::min(data.size(), TlsLoop::gather_size - gathered.size());
        std::memcpy(loop.gather() + gathered.size(), data.data(), piece);
        gathered = {loop.gather(), gathered.size() + piece};
        data = data.subspan(piece);
        if (gathered.size() == TlsLoop::gather_size) send_gathered();
    }
}

void TlsTransport::send_gathered() {
    const Bytes data = std::exchange(loop_->gathered, {});
    if (data.empty() || state_.is(StreamState::over)) return;
    note_watermark(data.size());
    encrypt(data);
}

void TlsTransport::encrypt(Bytes data) {
    if (state_.is(StreamState::over | StreamState::output_broken)) return;
    TlsLoop& loop = *loop_;
    note_activity();
    loop.carrier = &carrier();
    loop.records_sent = 0;
    std::size_t written = 0;
    if (SSL_write_ex(ssl_.get(), data.data(), data.size(), &written) != 1) [[unlikely]] {
        const std::error_code error = take_openssl_error();
        loop.send_records();
        return fail(error);
    }
    if (!loop.send_records()) [[unlikely]]
        return carrier_refused();
    if (carrier().queued() <= loop.records_sent) plain_sent_ = records_sent_ = 0;  // all earlier ones have left
    plain_sent_ += data.size();
    records_sent_ += loop.records_sent;
    note_watermark();
    if (answering_) note_hold();
}

// Its end has begun, for a reason that comes with `disconnected`. Input that came before may still be read.
void TlsTransport::carrier_refused() noexcept {
    state_.set(StreamState::output_broken);
    state_.unset(StreamState::over_high | StreamState::held_back);
    queue_.reset();
}

// ── how much waits ──

// Of the records in the carrier's queue the plain bytes: exactly, if all hold equally many, and never none of some.
std::size_t TlsTransport::in_carrier() const noexcept {
    const std::uint64_t waiting = carrier().queued();
    if (waiting >= records_sent_) return waiting == 0 ? 0 : plain_sent_;
    return std::size_t((waiting * plain_sent_ + records_sent_ - 1) / records_sent_);
}

std::size_t TlsTransport::queued() const noexcept {
    if (state_.is(StreamState::over)) return 0;
    return in_carrier() + (queue_ != nullptr ? queue_->size() : 0) + (inside_ ? loop_->gathered.size() : 0);
}

// For the watermarks. The carrier's part counts only while the carrier will say when it has fallen: it holds more than
// the mark, or has said so.
std::size_t TlsTransport::waiting() const noexcept {
    const std::size_t carried = in_carrier();
    const bool counts = carrier_over_high_ || carried > limits().high_mark;
    return (counts ? carried : 0) + (queue_ != nullptr ? queue_->size() : 0);
}

// `gathered`: bytes that the protocol saw waiting until now. They may all leave at once, without a word of the
// carrier's.
void TlsTransport::note_watermark(std::size_t gathered) {
    // The usual case, for which the carrier need not be asked: it holds no more than `plain_sent_`.
    if (queue_ == nullptr && !state_.is(StreamState::over_high) && gathered + plain_sent_ <= limits().high_mark) return;
    if (state_.output_queued(gathered + waiting(), limits(), answering_) && !inside_ && !handshaking()) wake();
}

void TlsTransport::pause_writing() {
    carrier_over_high_ = true;
    if (handshaking()) return;
    note_hold();
    state_.output_queued(waiting(), limits(), false);
    if (state_.is(StreamState::over_high)) make(state_.next_call(waiting(), limits()));
}

void TlsTransport::resume_writing() {
    carrier_over_high_ = false;
    state_.unset(carrier_holds);
    if (handshaking()) return;
    if (queue_ != nullptr) send_queue();
    make_due_call();
    if (state_.is(StreamState::over)) return;
    if (state_.reading() && (end_due_ || (state_.is(StreamState::input_due) && !rest_.empty()))) wake();
    update_carrier();
}

// ── the queue of plain bytes and files: before the handshake is done, and behind a file ──

template <class Append>
bool TlsTransport::queue(std::size_t already, Append&& append) {
    if (already >= std::min(limits().output_limit, Output::most_size)) {
        finish(Error::output_limit);
        return false;
    }
    try {
        if (inside_ && !handshaking()) send_gathered();
        if (queue_ == nullptr) queue_ = std::make_unique<Output>();
        append();
    } catch (const std::bad_alloc&) {
        out_of_memory();
        return false;
    }
    note_watermark();
    if (!inside_ && !handshaking()) wake();
    return state_.accepts_writes();
}

bool TlsTransport::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    length = length_of(file, offset, length);
    if (!state_.accepts_writes()) return false;
    if (length <= small_file) return write_at_once(file, offset, length);
    return queue(waiting(), [&] { queue_->append(std::move(file), offset, length); });
}

// So much in a call as is encrypted together. It goes on from the loop, or when the carrier has sent enough.
void TlsTransport::send_queue() {
    if (handshaking() || carrier_over_high_ || state_.is(StreamState::over)) return;
    if (Bytes bytes = queue_->bytes(); !bytes.empty()) {
        bytes = bytes.first(std::min(bytes.size(), TlsLoop::gather_size));
        encrypt(bytes);
        if (queue_ == nullptr) return;
        queue_->consume(bytes.size());
    } else if (queue_->begins_with_file()) {
        const ssize_t count = queue_->read_file({loop_->gather(), TlsLoop::gather_size});
        if (count == 0) return finish(Error::file_shortened);
        if (count < 0 && errno != EINTR && errno != EAGAIN) return finish({errno, std::system_category()});
        if (count > 0) encrypt({loop_->gather(), std::size_t(count)});
    }
    if (queue_ == nullptr || state_.is(StreamState::over)) return;
    if (state_.is(StreamState::closing)) rest_since_ = reactor().turn_time();
    if (queue_->empty()) {
        queue_.reset();
        settle();
    } else if (!carrier_over_high_) {
        wake();
    }
}

// ── the end of the output ──

void TlsTransport::say_close_notify() {
    loop_->carrier = &carrier();
    note_activity();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();  // without memory OpenSSL 3.5 leaves an error, and returns 0 all the same
    loop_->send_records();
}

// Does what became due. Calls no protocol, so that it may run inside any call to the transport.
void TlsTransport::settle() {
    if (handshaking()) return;
    for (;;) {
        switch (state_.next_step(queue_ == nullptr ? 0 : queue_->size())) {
            case StreamState::Step::none:
                if (state_.is(StreamState::closing) && state_.is(StreamState::output_ended)) carrier().close();
                return;
            case StreamState::Step::end_output:
                say_close_notify();
                if (!state_.is(StreamState::closing)) carrier().shutdown_write();
                break;
            case StreamState::Step::finish:
                if (!state_.is(StreamState::output_ended | StreamState::output_broken)) say_close_notify();
                state_.set(StreamState::output_ended | StreamState::closing);
                return carrier().close();
        }
    }
}

}  // namespace reactor
