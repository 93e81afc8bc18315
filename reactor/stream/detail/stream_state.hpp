// StreamState: the course of a stream, the same for every transport. It knows the requests of the protocol, the
// actions of the peer, and the size of the queued output. From these it says which call the protocol is owed, when this
// side's end of stream is due, and when the connection is over. It does no I/O and calls nothing: a transport adds how
// bytes move.
//
//     transport: bytes were queued or sent, the peer ended, a write failed ──▶ StreamState ◀── protocol:
//     shutdown_write,
//                                                                                │    │        close, pause, resume
//                                              next_call: of the protocol             next_step: of the stream
//
// The size of the queued output is a parameter: a transport knows it, and an idle connection does not pay for it twice.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/detail/byte_queue.hpp>
#include <reactor/stream/limits.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace reactor {

class StreamState {
public:
    // Zero is the ordinary state: connected, both directions open, nothing held back. A hot path tests for it once.
    enum Flag : std::uint32_t {
        ordinary = 0,
        fresh = 1 << 0,            // connected() is still to be called
        paused = 1 << 1,           // by pause_reading()
        over_high = 1 << 2,        // the high watermark was passed, and the low one not reached since
        held_back = 1 << 3,        // answers passed it: nothing is read until the low one is reached
        pause_called = 1 << 4,     // pause_writing() was called, and resume_writing() not since
        input_ended = 1 << 5,      // the peer's end of stream was read
        shutting = 1 << 6,         // shutdown_write() was called
        closing = 1 << 7,          // close() was called
        output_ended = 1 << 8,     // this side's end of stream was sent
        output_broken = 1 << 9,    // a write failed; bytes that the peer sent before may still be read
        input_due = 1 << 10,       // unconsumed input is to be given to received() again
        over = 1 << 11,            // disconnected() is the next call, and the last
        closing_called = 1 << 12,  // closing() was called
        no_memory = 1 << 13,       // there was none even to note the reason of the end
        // From here on a transport has flags of its own. The first four are reasons not to read.
        of_transport = 1 << 14,
    };
    static constexpr std::uint32_t reading_stops =
        paused | held_back | input_ended | closing | over | 0xf * of_transport;

    /// A call that the protocol is owed.
    enum class Call : std::uint8_t { none, connected, received, end_of_stream, pause_writing, resume_writing, closing };

    /// Something that the stream itself is owed: its end of output is to be sent, or it is over.
    enum class Step : std::uint8_t { none, end_output, finish };

    bool is(std::uint32_t flags) const noexcept { return (flags_ & flags) != 0; }
    bool is_ordinary() const noexcept { return flags_ == ordinary; }
    bool is_only(std::uint32_t flags) const noexcept { return flags_ == flags; }
    void set(std::uint32_t flags) noexcept { flags_ |= flags; }
    void unset(std::uint32_t flags) noexcept { flags_ &= ~flags; }

    // ── what is allowed ──

    /// May input be given to the protocol?
    bool reading() const noexcept { return !is(reading_stops); }
    /// Is a write accepted?
    bool accepts_writes() const noexcept { return !is(shutting | closing | output_broken | over); }

    /// Has the end begun in neither direction?
    bool open_both_ways() const noexcept { return open() && !is(shutting | input_ended); }
    /// Has the end not begun?
    bool open() const noexcept { return !is(closing | output_broken | over); }
    /// Is closing() still to be called? Not of a stream on which connected() never was.
    bool owes_closing() const noexcept { return is(closing | over) && !is(fresh | closing_called); }

    // ── what the protocol asked for; true if that changed anything ──

    bool shutdown_write() noexcept { return change(shutting, shutting | closing | over); }
    bool pause_reading() noexcept { return change(paused, paused | over); }

    bool close() noexcept {
        if (!change(closing, closing | over)) return false;
        unset(input_due | over_high | held_back);  // the protocol is asked for nothing any more
        return true;
    }

    /// The peer's end counts as read.
    bool close_without_waiting() noexcept {
        if (!close()) return false;
        set(input_ended);
        return true;
    }

    bool resume_reading() noexcept {
        if (!is(paused) || is(over)) return false;
        unset(paused);
        set(input_due);
        return true;
    }

    // ── what happened ──

    /// Another protocol takes the place of the present one: it is owed `connected`, and then the unconsumed input.
    void begin_anew() noexcept {
        unset(paused);
        set(fresh | input_due);
    }

    /// Output was queued: so much waits now. `answer`: it was written inside received(). Only a peer whose answers are
    /// not read is not read from: if other output counted, two peers with much to say would wait for each other for
    /// ever. True if the high watermark was passed just now.
    bool output_queued(std::size_t waiting, const Limits& limits, bool answer) noexcept {
        const bool passed = !is(over_high | closing | output_broken) && waiting > limits.high_mark;
        if (passed) set(over_high);
        if (is(over_high) && answer) set(held_back);
        return passed;
    }

    /// The peer's end of stream was read. The protocol is owed a call, unless it closed or the stream is broken: then
    /// next_step() says how it goes on.
    Call peer_ended() noexcept {
        set(input_ended);
        return is(closing | output_broken | over) ? Call::none : Call::end_of_stream;
    }

    /// A write failed. True if the stream goes on: bytes that a peer sent before a reset can still be read, and the
    /// caller drops the queued output. False if it is over now.
    bool write_failed(bool reset) noexcept {
        if (!reset || is(closing | paused | input_ended)) return false;
        set(output_broken);
        unset(over_high | held_back);
        return true;
    }

    // ── what follows ──

    /// The call that the protocol is owed now, and takes it as called. `waiting`: bytes of output that wait.
    /// A watermark that was passed is always followed by pause_writing() and then by resume_writing(), even if all of
    /// it left in between: a producer may rely on the latter.
    Call next_call(std::size_t waiting, const Limits& limits) noexcept {
        if (is(over)) return Call::none;  // see take_closing()
        if (is(closing)) return take_closing() ? Call::closing : Call::none;
        if (is(fresh)) {
            unset(fresh);
            return Call::connected;
        }
        if (is(over_high)) {
            if (!is(pause_called)) {
                set(pause_called);
                return Call::pause_writing;
            }
            if (waiting <= limits.low_mark()) {
                unset(over_high | held_back | pause_called);
                return Call::resume_writing;
            }
        }
        if (is(input_due) && reading()) {
            unset(input_due);
            return Call::received;
        }
        return Call::none;
    }

    /// closing() is to be called now, and is taken as called. At the latest right before disconnected().
    bool take_closing() noexcept {
        if (!owes_closing()) return false;
        set(closing_called);
        return true;
    }

    /// The step that the stream is owed now, and takes it as done; to be asked until there is none. `waiting`: bytes of
    /// output that wait.
    Step next_step(std::size_t waiting) noexcept {
        if (is(over)) return Step::none;
        if (is(output_broken)) return is(input_ended | closing) ? Step::finish : Step::none;
        if (waiting > 0) return Step::none;
        // Closing the descriptor sends the end of the stream, too.
        if (is(input_ended) && is(output_ended | closing)) return Step::finish;
        if (!is(shutting | closing) || is(output_ended)) return Step::none;
        set(output_ended);
        return Step::end_output;
    }

    /// received() was called with `input` and returned `consumed`, of which more than there was counts as all. `rest`
    /// is the earlier unconsumed input, at the front of `input`, and becomes the present one. True if a message begins
    /// with that: its deadline counts from now. Throws std::bad_alloc.
    bool keep_rest(ByteQueue& rest, Bytes input, std::size_t consumed) {
        if (is(over | closing)) return false;
        consumed = std::min(consumed, input.size());
        const std::size_t known = rest.size();
        if (known > 0 && rest.view().data() == input.data()) {
            rest.consume(consumed);
        } else if (consumed < known) {  // `input` is a copy of it, and new bytes
            rest.consume(consumed);
            rest.append(input.subspan(known));
        } else {
            rest.clear();
            rest.append(input.subspan(consumed));
        }
        if (rest.empty()) return false;
        if (!reading()) set(input_due);
        return consumed > 0 || known == 0;
    }

private:
    bool change(std::uint32_t to, std::uint32_t unless) noexcept {
        if (is(unless)) return false;
        set(to);
        return true;
    }

    std::uint32_t flags_ = fresh;
};

}  // namespace reactor
