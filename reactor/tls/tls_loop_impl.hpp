// TlsLoop: shared by the TLS transports of one loop. Only one of them is inside OpenSSL at a time, so one BIO serves
// all: it reads from the carrier's own input, and gathers the records that are to leave. TLS inside TLS has one for
// each layer. Not installed.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/clock.hpp>
#include <reactor/deferred.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>
#include <reactor/tls/openssl_impl.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace reactor {

class TlsTransport;
class Transport;

class TlsLoop final : public Workspace {
public:
    static constexpr std::size_t record = 16 * 1024;        // the most plain bytes in one
    static constexpr std::size_t gather_size = 4 * record;  // writes that are encrypted together

    /// The loop's, made when it is first asked for. Throws std::bad_alloc.
    static TlsLoop& of(Reactor& reactor);

    explicit TlsLoop(Reactor& reactor);

    /// The one for transports that those of this one carry: both are in a call at the same time. Made when it is first
    /// asked for. Throws std::bad_alloc.
    TlsLoop& inner();

    Reactor& reactor() const noexcept { return reactor_; }
    BIO* bio() const noexcept { return bio_.get(); }

    // ── inside OpenSSL ──

    /// The bytes that the BIO reads next: those of the carrier's input that are left.
    Bytes source;
    /// Where records go when `sealed` is full: the carrier of the transport that is inside OpenSSL.
    Transport* carrier = nullptr;

    /// Sends the records that wait, as one write. False if the carrier took none.
    bool send_records() { return sealed_size_ == 0 || send_sealed(); }
    /// How many bytes the last `send_records`, and those before since the last `begin_records`, have sent.
    std::size_t records_sent = 0;

    // ── the protocol's call ──

    /// Plain bytes as they are read: room for a read and one record more.
    std::byte* plain() noexcept { return plain_.get(); }
    static constexpr std::size_t plain_size = 4 * record + record;
    bool in_plain(Bytes data) const noexcept {
        return reinterpret_cast<std::uintptr_t>(data.data()) - reinterpret_cast<std::uintptr_t>(plain_.get()) <
               plain_size;
    }
    /// Written in this call: a view of `plain`, or a copy in `gather`.
    Bytes gathered;
    std::byte* gather() noexcept { return gather_.get(); }

    // ── memory of transports that are silent ──

    /// OpenSSL keeps the transport's record buffers from now on: 33 KB. They are freed after a while of silence. Throws
    /// std::bad_alloc, and then nothing has changed.
    void note_buffers(TlsTransport& transport);
    void forget_buffers(TlsTransport& transport) noexcept;

    // ── handshakes ──

    /// May another step of a handshake be made in this iteration? Otherwise the transport waits for one of the next
    /// ones, when its carrier is read again.
    bool has_time_for_handshake() noexcept;
    void spent_on_handshake(Duration time) noexcept;
    void wait_for_handshake(TlsTransport& transport);
    void wait_no_longer(TlsTransport& transport) noexcept;

private:
    static BIO_METHOD* method();
    static int read(BIO* bio, char* into, std::size_t size, std::size_t* count);
    static int write(BIO* bio, const char* data, std::size_t size, std::size_t* count);
    static long control(BIO* bio, int command, long number, void* pointer);
    bool send_sealed();
    void sweep();
    void resume_handshakes();
    Duration& handshake_time() noexcept;

    Reactor& reactor_;
    BioPointer bio_;
    std::unique_ptr<std::byte[]> plain_;
    std::unique_ptr<std::byte[]> gather_;
    std::unique_ptr<std::byte[]> sealed_;
    std::size_t sealed_size_ = 0;
    std::vector<TlsTransport*> buffered_;
    Timer sweep_timer_;
    std::deque<TlsTransport*> waiting_;
    Deferred resume_;
    std::uint64_t turn_ = 0;
    Duration handshake_time_ = Duration::zero();  // in that turn
    std::unique_ptr<TlsLoop> inner_;
};

}  // namespace reactor
