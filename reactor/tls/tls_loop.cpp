#include <reactor/tls/tls_loop_impl.hpp>

#include <reactor/stream/transport.hpp>
#include <reactor/tls/tls_transport_impl.hpp>

#include <openssl/err.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <utility>

namespace reactor {

namespace {

// Four full records as they leave, each with its header and tag: 22 bytes in TLS 1.3, up to 29 in TLS 1.2.
constexpr std::size_t sealed_size = 4 * (TlsLoop::record + 64);

constexpr Duration sweep_period = std::chrono::seconds(1);

// An iteration's time for handshakes. A step is not interrupted: it takes some 0.1 ms with P-256, 1 ms with RSA.
constexpr Duration handshake_budget = std::chrono::milliseconds(5);
constexpr std::size_t most_resumed = 64;

// OpenSSL has noted it in its queue of errors, which is left empty.
[[noreturn]] void out_of_memory() {
    ERR_clear_error();
    throw std::bad_alloc();
}

}  // namespace

TlsLoop& TlsLoop::of(Reactor& reactor) {
    if (Internals(reactor).tls() == nullptr) Internals(reactor).tls() = std::make_unique<TlsLoop>(reactor);
    return static_cast<TlsLoop&>(*Internals(reactor).tls());
}

TlsLoop& TlsLoop::inner() {
    if (inner_ == nullptr) inner_ = std::make_unique<TlsLoop>(reactor_);
    return *inner_;
}

TlsLoop::TlsLoop(Reactor& reactor)
    : reactor_(reactor),
      bio_(BIO_new(method())),
      plain_(new std::byte[plain_size]),
      gather_(new std::byte[gather_size]),
      sealed_(new std::byte[sealed_size]),
      sweep_timer_(reactor, [this] { sweep(); }) {
    if (bio_ == nullptr) out_of_memory();
    BIO_set_data(bio_.get(), this);
    BIO_set_init(bio_.get(), 1);
    // For ever: OpenSSL asks for these only after a read of nothing, which then means that more will come. The end of
    // the carrier is no affair of OpenSSL's.
    BIO_set_flags(bio_.get(), BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
}

// ── the BIO ──

BIO_METHOD* TlsLoop::method() {
    static const BioMethodPointer made = [] {
        BioMethodPointer method(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "reactor"));
        if (method == nullptr) out_of_memory();
        BIO_meth_set_read_ex(method.get(), &read);
        BIO_meth_set_write_ex(method.get(), &write);
        BIO_meth_set_ctrl(method.get(), &control);
        return method;
    }();
    return made.get();
}

int TlsLoop::read(BIO* bio, char* into, std::size_t size, std::size_t* count) {
    TlsLoop& loop = *static_cast<TlsLoop*>(BIO_get_data(bio));
    *count = std::min(size, loop.source.size());
    if (*count == 0) return 0;
    std::memcpy(into, loop.source.data(), *count);
    loop.source = loop.source.subspan(*count);
    return 1;
}

// Takes everything: a write never waits inside OpenSSL. The carrier has the queue and its limits.
int TlsLoop::write(BIO* bio, const char* data, std::size_t size, std::size_t* count) {
    TlsLoop& loop = *static_cast<TlsLoop*>(BIO_get_data(bio));
    *count = size;
    while (size > 0) {
        const std::size_t piece = std::min(size, sealed_size - loop.sealed_size_);
        std::memcpy(loop.sealed_.get() + loop.sealed_size_, data, piece);
        loop.sealed_size_ += piece;
        data += piece;
        size -= piece;
        if (loop.sealed_size_ == sealed_size) loop.send_records();
    }
    return 1;
}

long TlsLoop::control(BIO*, int command, long, void*) {
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP ? 1 : 0;
}

bool TlsLoop::send_sealed() {
    const std::size_t size = std::exchange(sealed_size_, 0);
    if (!carrier->write(Bytes(sealed_.get(), size))) return false;
    records_sent += size;
    return true;
}

// ── memory ──

void TlsLoop::note_buffers(TlsTransport& transport) {
    if (!sweep_timer_.active()) sweep_timer_.start(sweep_period);
    buffered_.push_back(&transport);
    transport.place_in_buffered = std::uint32_t(buffered_.size());
}

void TlsLoop::forget_buffers(TlsTransport& transport) noexcept {
    if (transport.place_in_buffered == 0) return;
    const std::size_t place = std::exchange(transport.place_in_buffered, 0) - 1;
    buffered_[place] = buffered_.back();
    buffered_.pop_back();
    if (place < buffered_.size()) buffered_[place]->place_in_buffered = std::uint32_t(place + 1);
    if (buffered_.empty()) sweep_timer_.cancel();
}

// From the end, as the last one takes the place of one that leaves.
void TlsLoop::sweep() {
    for (std::size_t i = buffered_.size(); i-- > 0;) {
        TlsTransport& transport = *buffered_[i];
        if (transport.free_buffers_unless_active()) forget_buffers(transport);
    }
    if (!buffered_.empty()) {
        sweep_timer_.start(sweep_period);
    } else {
        buffered_.shrink_to_fit();
    }
}

// ── handshakes ──

Duration& TlsLoop::handshake_time() noexcept {
    const std::uint64_t turn = reactor_.counters().turns;
    if (std::exchange(turn_, turn) != turn) handshake_time_ = Duration::zero();
    return handshake_time_;
}

bool TlsLoop::has_time_for_handshake() noexcept {
    return handshake_time() < handshake_budget;
}

void TlsLoop::spent_on_handshake(Duration time) noexcept {
    handshake_time() += time;
}

void TlsLoop::wait_for_handshake(TlsTransport& transport) {
    waiting_.push_back(&transport);
    if (!resume_.waiting()) resume_ = reactor_.defer([this] { resume_handshakes(); });
}

void TlsLoop::wait_no_longer(TlsTransport& transport) noexcept {
    std::replace(waiting_.begin(), waiting_.end(), &transport, static_cast<TlsTransport*>(nullptr));
}

// At the iteration's end: so many as the next one may have time for. Each gets its input again from its carrier, and is
// back here if there was no time for it.
void TlsLoop::resume_handshakes() {
    for (std::size_t i = 0; i < most_resumed && !waiting_.empty(); ++i) {
        TlsTransport* const transport = waiting_.front();
        waiting_.pop_front();
        if (transport != nullptr) transport->resume_handshake();
    }
    if (!waiting_.empty()) resume_ = reactor_.defer([this] { resume_handshakes(); });
}

}  // namespace reactor
