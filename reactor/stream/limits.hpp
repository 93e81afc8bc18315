// Limits: the bounds of one connection, in memory and in time. Each has a default; those in time are zero, which is
// none, except the one for closing.
#pragma once

#include <reactor/clock.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace reactor {

/// Bounds of the memory and time of one connection: nothing grows and nothing waits without one. If a limit ends a
/// connection that still has output, the peer gets a reset and not the end of the stream.
struct Limits {
    /// The high watermark: above so many bytes of output `pause_writing` is called, and at the low watermark, a quarter
    /// of it, `resume_writing`. If an answer, written inside `received`, passed it or was added above it, the peer is
    /// not read from until the low watermark: a peer that does not read its answers must wait with its questions.
    std::size_t high_mark = 128 * 1024;
    /// Bytes waiting to be sent, in memory, at which a further write ends the connection (Error::output_limit): for
    /// a protocol that ignores the marks. One write may pass it, so that any single message can be sent. Files
    /// (`write_file`) are in no memory; with so much waiting, and they included, no further file is taken.
    std::size_t output_limit = 16 * 1024 * 1024;
    /// Bytes that `received` may leave unconsumed; at more the connection ends (Error::input_limit).
    std::size_t input_limit = 16 * 1024 * 1024;
    /// Bytes that one read takes at most, and so one iteration for a peer that never stops; a connection takes 256 KiB
    /// for as long as its peer fills a read of 64 KiB or more. 1 byte to `most_read`: each transport takes the nearest
    /// of these for another number.
    std::size_t read_size = 64 * 1024;
    /// Without a byte in or out for this long the connection ends (Error::idle_timeout). Zero: never.
    Duration idle_timeout = Duration::zero();
    /// How long `received` may leave the beginning of a message unconsumed: a peer that sends a byte now and then is
    /// not idle, and its connection ends after this (Error::message_timeout). Not counted while nothing is read. Zero:
    /// never.
    Duration message_timeout = Duration::zero();
    /// How long the peer may take none of the output (Error::write_timeout). Zero: never.
    Duration write_timeout = Duration::zero();
    /// Without a received byte for this long the connection ends (Error::receive_timeout), however much is sent. Not
    /// counted while nothing is read. Zero: never.
    Duration receive_timeout = Duration::zero();
    /// After `close()`, how long the peer may take none of the output, and, when it has all, may wait until it closes
    /// as well; then the connection ends (Error::close_timeout). It counts from `close()`, at the latest from the end
    /// of the protocol's call that this was made in.
    Duration close_timeout = std::chrono::seconds(5);

    /// 16 MiB. The kernel seldom holds more for one connection, and the loop keeps a buffer of the largest read.
    static constexpr std::size_t most_read = 16 * 1024 * 1024;

    /// The low watermark: bytes waiting to be sent at which writing goes on.
    constexpr std::size_t low_mark() const noexcept { return high_mark / 4; }

    /// The limits that hold for a transport which was given these: the size of a read is within its bounds. All other
    /// fields may have any value.
    Limits bounded() const noexcept {
        Limits result = *this;
        result.read_size = std::clamp<std::size_t>(read_size, 1, most_read);
        return result;
    }
};

}  // namespace reactor
