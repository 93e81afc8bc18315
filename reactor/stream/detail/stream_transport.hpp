// StreamTransport: all that transports of streams do in the same way. That is the queue of output and its watermarks,
// the unconsumed input, the calls of the protocol and their exceptions, the order of the end, the handle, and the
// deadlines. It moves no bytes and knows no descriptor: a transport adds how they move. It is no interface.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/stream/detail/stream_state.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/stream/transport.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>

namespace reactor {

class DressedProtocol;
struct StreamParts;

class REACTOR_EXPORT StreamTransport : public Transport {
public:
    void abort(std::error_code reason = std::make_error_code(std::errc::operation_canceled)) override {
        finish(reason);
    }
    TransportHandle handle() override;
    Bytes unconsumed() const noexcept override;
    std::size_t queued() const noexcept override;
    const Limits& limits() const noexcept override;
    void set_limits(const Limits& limits) override;

    /// From now on `around` is the protocol here. It carries the one so far, and learns of a pause or a watermark that
    /// this has passed. Its `connected` comes from the loop, and unconsumed input is its first. False, and nothing has
    /// changed, once the end has begun in either direction. Throws std::logic_error before `connected`, and a second
    /// time.
    bool dress(std::unique_ptr<DressedProtocol> around);

    /// As Protocol::hand_over_to.
    bool hand_over(std::unique_ptr<Protocol>&& next);

protected:
    /// The flags of the state, under their own names.
    static constexpr std::uint32_t fresh = StreamState::fresh, paused = StreamState::paused,
                                   over_high = StreamState::over_high, held_back = StreamState::held_back,
                                   pause_called = StreamState::pause_called, input_ended = StreamState::input_ended,
                                   shutting = StreamState::shutting, closing = StreamState::closing,
                                   output_ended = StreamState::output_ended, output_broken = StreamState::output_broken,
                                   input_due = StreamState::input_due, over = StreamState::over,
                                   no_memory = StreamState::no_memory;

    explicit StreamTransport(std::unique_ptr<Protocol> protocol) noexcept;
    // Virtual although it is protected: g++ 12 takes it for accessible, since there is a friend, and would warn about
    // that in every program that includes this (-Wnon-virtual-dtor).
    virtual ~StreamTransport();
    /// For the destructors of transports: before anything that a protocol's destructor may ask for is gone.
    void destroy_protocol() noexcept;

    bool is(std::uint32_t flags) const noexcept { return state_.is(flags); }

    // ── what a transport adds ──

    /// Which call of the protocol is under way.
    enum class Calling : std::uint8_t { none, received, other };
    virtual Calling calling() const noexcept;
    virtual void begin_call(Calling call) noexcept;
    virtual void end_call() noexcept;
    /// The call has returned: ends it, and sends what was written in it.
    virtual void send_written();
    /// Sends of the queue what is taken at once.
    virtual void flush() = 0;
    /// Everything is sent: sends the end of the stream.
    virtual std::error_code end_output() = 0;
    /// Has itself called when bytes can be read or written, as far as the state says that they are to be.
    virtual void update_interest() = 0;
    /// Calls `writable` soon, from the loop.
    virtual void call_soon() noexcept = 0;
    /// The same as if bytes could be read, which makes `connected` and gives unconsumed input again.
    virtual void read_soon() noexcept = 0;
    /// Another protocol takes the place of the present one. Throws if that cannot be.
    virtual void protocol_changes() {}
    /// `connected` is the next call.
    virtual void prepare() { plan_deadline(); }
    /// Nothing is left to be done now.
    virtual void settled() { update_interest(); }
    /// The state is `over`, and so many bytes are lost. Calls `last_calls` soon, from the loop.
    virtual void ended(std::error_code reason, std::size_t unsent) noexcept = 0;
    /// For notices.
    virtual std::string name() const = 0;
    virtual TimePoint now() const;
    virtual TimePoint turn_time() const;
    /// The parts, which are made if they are not there. Throws std::bad_alloc.
    virtual StreamParts& parts() = 0;

    // ── what all of them do ──

    void requested(Request request) override;
    /// The stream can be written to, or there is a call to be made.
    void writable_now();
    void end_of_input();

    bool make(StreamState::Call due);
    bool make_next() { return make(state_.next_call(output_size(), limits())); }
    std::size_t output_size() const noexcept;
    template <class ProtocolCall>
    void call(ProtocolCall&& protocol_call);
    void call_failed() noexcept;
    void leave_call();
    void deliver(Bytes input);
    void after_received(Bytes input, std::size_t consumed);
    void last_calls();

    void queue(Bytes data);
    void queue_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length, bool to_blocking_socket = false);
    void note_queued(bool first);
    virtual void broken(std::error_code reason);
    void settle();
    std::error_code reason() const noexcept;
    void finish(std::error_code reason) noexcept;
    void out_of_memory() noexcept { finish(std::make_error_code(std::errc::not_enough_memory)); }

    virtual void plan_deadline();
    virtual void deadline();
    void wait_for_deadline() noexcept;

    std::uint32_t place_ = std::uint32_t(-1);  // a connection's, in the loop's Gathering: here it fills a gap
    std::unique_ptr<Protocol> protocol_;
    std::unique_ptr<StreamParts> parts_;  // a connection has them only while there is something in them

private:
    friend struct StreamParts;
    static bool run_posted(Transport& transport, MoveOnlyFunction<void(Transport&, Protocol&)>& posted);
    void begin_anew(std::unique_ptr<Protocol> protocol);
    void begin_close();
    void keep_rest(Bytes input, std::size_t consumed);
    template <class Append>
    void append(Append&& append);
};

}  // namespace reactor
