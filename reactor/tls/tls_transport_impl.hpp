// TlsTransport: to its carrier it is a protocol, and to the user's protocol a transport. StreamState decides, OpenSSL
// turns bytes into records, and the carrier moves them, with its queue, its limits and its deadlines. Not installed.
//
//     user's protocol ──write──▶ gathered ──SSL_write──▶ records ──write──▶ carrier ──▶ peer
//                    ◀─received─ plain    ◀──SSL_read─── records ◀─received─
#pragma once

#include <reactor/detail/byte_queue.hpp>
#include <reactor/stream/dressed_impl.hpp>
#include <reactor/stream/handle_state_impl.hpp>
#include <reactor/stream/output_impl.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/stream/transport.hpp>
#include <reactor/timer.hpp>
#include <reactor/tls/openssl_impl.hpp>
#include <reactor/tls/tls_context_impl.hpp>
#include <reactor/tls/tls_info.hpp>
#include <reactor/tls/tls_loop_impl.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

namespace reactor {

class TlsTransport final : public DressedProtocol, public Transport {
public:
    TlsTransport(std::shared_ptr<TlsContext::State> context, std::string host, std::unique_ptr<Protocol> protocol);
    /// To be put around the protocol of a carrier on that loop, in mid-stream. Throws std::bad_alloc.
    TlsTransport(std::shared_ptr<TlsContext::State> context, std::string host, Reactor& reactor,
                 MoveOnlyFunction<void()> secured);
    ~TlsTransport() override;

    // ── the user's protocol ──

    using Transport::write;
    bool write(Bytes data) override;
    bool write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) override;
    void abort(std::error_code reason) override { finish(reason); }
    Reactor& reactor() const override { return carrier().reactor(); }
    TransportHandle handle() override;
    void move_to(Reactor& target, MoveOnlyFunction<void()> arrived) override;
    Bytes unconsumed() const noexcept override { return rest_.view(); }
    std::size_t queued() const noexcept override;
    void message_received() override;
    const Limits& limits() const noexcept override { return carrier().limits(); }
    void set_limits(const Limits& limits) override;
    Answer ask(Question question) const override { return carrier().ask(question); }

    // ── the carrier's implementation ──

    Protocol& inside() noexcept override { return undressed(*protocol_); }
    void carry(std::unique_ptr<Protocol> protocol, const StreamState& carrier) noexcept override;
    void run_posted(MoveOnlyFunction<void(Transport&, Protocol&)>& posted) override;
    bool hand_over(std::unique_ptr<Protocol>&& next) override;
    void leaves() noexcept override;
    void arrives() override;

    TlsInfo info() const;

    // ── the loop ──

    /// Frees OpenSSL's record buffers if nothing has come or gone since the last call, and no record is half there.
    /// True if it keeps none from now on.
    bool free_buffers_unless_active() noexcept;
    void resume_handshake();
    std::uint32_t place_in_buffered = 0;  // of the loop's list, from 1

    // ── the context ──

    static TlsTransport* of(const SSL* ssl) noexcept;
    const std::shared_ptr<TlsContext::State>& context() const noexcept { return context_; }
    const std::string& host() const noexcept { return *host_; }  // of a client

private:
    // A reason of its own not to read: the carrier does not, because answers wait or its rates are used up. The carrier
    // calls `received` when it reads again.
    static constexpr std::uint32_t carrier_holds = StreamState::of_transport << 0;
    // Another one: the handshake is not done. Input in the clear is not taken for input behind it.
    static constexpr std::uint32_t shakes_hands = StreamState::of_transport << 1;
    // And a third: the next protocol's `connected` is still to come.
    static constexpr std::uint32_t hands_over = StreamState::of_transport << 2;

    void requested(Request request) override;

    // From the carrier.
    void connected() override;
    std::size_t received(Bytes input) override;
    void end_of_stream() override;
    void draining() override;
    void closing() override;
    void connect_failed(const std::vector<ConnectFailure>& failures) override;
    void disconnected(std::error_code reason) override;
    void pause_writing() override;
    void resume_writing() override;

    Transport& carrier() const noexcept { return Protocol::transport(); }
    /// The loop's, or in TLS inside TLS that of this layer.
    TlsLoop& shared_state() const;

    bool shake_hands(Bytes& source);
    void handshake_done();
    std::vector<HandleState::Call>& early_calls();
    void make_early_calls();
    void read_records(Bytes& source);
    void deliver(Bytes plain);
    void give(Bytes input);
    bool make(StreamState::Call due);
    void make_due_call();
    template <class Call>
    void call(Call&& protocol_call);
    void leave_callback();
    std::size_t in_carrier() const noexcept;
    std::size_t waiting() const noexcept;
    template <class Append>
    bool queue(std::size_t already, Append&& append);
    void send_queue();
    void gather(Bytes data);
    void send_gathered();
    void encrypt(Bytes data);
    void note_watermark(std::size_t gathered = 0);
    void carrier_refused() noexcept;
    void say_close_notify();
    void settle();
    void update_carrier();
    void note_hold() noexcept;
    void wake();
    void woken();
    void fail(std::error_code reason);
    void finish(std::error_code reason);
    void out_of_memory() { finish(std::make_error_code(std::errc::not_enough_memory)); }
    void wait_until(TimePoint at);
    void plan_deadline();
    void deadline();
    std::error_code handshake_error() const noexcept;

    bool handshaking() const noexcept { return state_.is(shakes_hands); }
    // OpenSSL frees the record buffers after each use, until the connection has used them this often in a row. From
    // then on it keeps them, which saves some 700 instructions a message, until the loop's sweep finds it silent. So
    // many connections that say little leave no holes in the heap.
    static constexpr std::uint8_t busy = 32;
    void note_activity() {
        active_ = true;
        if (place_in_buffered == 0 && ++uses_ == busy) [[unlikely]]
            keep_buffers();
    }
    void keep_buffers();

    SslPointer ssl_;
    TlsLoop* loop_ = nullptr;
    std::unique_ptr<Protocol> protocol_;
    std::shared_ptr<TlsContext::State> context_;
    std::unique_ptr<const std::string> host_;  // of a client
    ByteQueue rest_;                           // unconsumed plain input
    std::unique_ptr<Output> queue_;    // written before the handshake was done, or behind a file; only if there is some
    std::unique_ptr<Timer> deadline_;  // of the handshake, then of a message
    std::unique_ptr<std::vector<HandleState::Call>> early_calls_;  // for when the handshake is done
    std::error_code reason_;
    TimePoint rest_since_{};  // when closing: since the last piece of the queue was sent
    // Of the records since the carrier's queue was last empty: how many plain bytes are in how many.
    std::size_t plain_sent_ = 0;
    std::size_t records_sent_ = 0;
    std::uint8_t uses_ = 0;           // of the record buffers, while OpenSSL does not keep them
    bool inside_ = false;             // the protocol is being called,
    bool answering_ = false;          // with input
    bool carrier_paused_ = false;     // by this
    bool carrier_over_high_ = false;  // it called pause_writing, and not resume_writing since
    bool woken_ = false;              // a call is posted
    bool active_ = false;             // since the loop's last sweep
    bool waits_for_time_ = false;     // for a step of the handshake
    bool kept_byte_ = false;          // the carrier keeps a byte that was read, so as to call again
    bool end_due_ = false;            // the peer's close_notify was read, and the protocol does not read
};

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

}  // namespace reactor
