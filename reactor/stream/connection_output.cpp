// The queue of output that the kernel does not take at once, of bytes and of files: how it leaves, its watermarks, and
// its end when the connection breaks.
#include <reactor/last_error_impl.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace reactor {

namespace {

#ifdef MSG_MORE
constexpr int more_follows = MSG_MORE;
#else
constexpr int more_follows = 0;
#endif

}  // namespace

// Queues what the kernel did not take of two pieces.
void SocketConnection::sent_in_part(ssize_t count, Bytes first, Bytes second) {
    if (count < 0 && !would_block(errno)) return broken(last_error());
    const std::size_t sent = count < 0 ? 0 : std::size_t(count);
    if (sent > 0) note_sent(sent);
    const std::size_t of_first = std::min(sent, first.size());
    queue(first.subspan(of_first));
    if (!is(over)) queue(second.subspan(sent - of_first));
}

void SocketConnection::queue(Bytes data) {
    if (data.empty()) return;
    try {
        Output& output = extra().output;
        if (output.in_memory() >= limits().output_limit) return finish(Error::output_limit);
        const bool first = output.empty();
        output.append(data);
        note_queued(first);
    } catch (const std::bad_alloc&) {  // the bytes sent before have no continuation now
        reset_on_close();
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
}

void SocketConnection::note_queued(bool first) {
    if (first && limits().write_timeout > Duration::zero()) {
        extra_->since.output_since = loop().turn_time();
        if (!is(closing)) wait_for_deadline();
    }
    const bool in_callback = workspace().owner == this;
    const bool passed = state_.output_queued(output_size(), limits(), in_callback && workspace().in_received);
    leave_short_way();
    update_interest();
    // Not from inside this call; after the callback, if we are in one.
    if (passed && !is(over) && !in_callback) trigger(Interest::writable);
}

void SocketConnection::writable() {
    if (is(over)) return;
    if (is(leaves)) return depart();
    if (make(state_.next_call(output_size(), limits()))) return;
    flush();
    if (!is(over) && !make(state_.next_call(output_size(), limits()))) settle();
}

// Sends of the queue what the kernel takes at once.
void SocketConnection::flush() {
    unset(gathers);
    if (output_size() == 0 || is(output_spent | over)) return;
    if (extra_->channel != nullptr && extra_->channel->held > 0) return send_channel();
    // Bytes in front of a file leave with its beginning.
    Output& output = extra_->output;
    const std::size_t in_front = output.bytes().size();
    std::size_t allowed = std::min(output.size(), in_front + Output::file_piece);
    if (is(metered)) {
        allowed = may_move(extra_->meter->output, allowed);
        if (allowed == 0) return;
    }
    std::size_t sent = 0;
    ssize_t count = 0;
    if (in_front > 0) {
        count = send_queued(output.bytes().first(std::min(in_front, allowed)), allowed > in_front);
        if (count > 0) {
            sent = std::size_t(count);
            output.consume(sent);
            if (extra_->passing != nullptr) extra_->passing->sent += sent;
        }
    }
    const bool of_file = output.begins_with_file() && sent < allowed;
    if (of_file) {
        count = output.send_file(socket_.get(), allowed - sent);
        if (count > 0) sent += std::size_t(count);
    }
    const int error = errno;
    if (is(metered)) extra_->meter->output.used(sent);
    if (sent > 0) {
        note_sent(sent);
        if (limits().write_timeout > Duration::zero()) extra_->since.output_since = loop().turn_time();
    }
    if (of_file && count == 0) return finish(Error::file_shortened);
    if (count < 0 && !would_block(error)) broken({error, std::system_category()});
}

// As send(2). A packet need not leave before what follows at once.
ssize_t SocketConnection::send_queued(Bytes data, bool more) noexcept {
    if (extra_->passing != nullptr && !extra_->passing->to_send.empty()) return send_with_descriptors(data);
    return ::send(socket_.get(), data.data(), data.size(), send_flags | (more ? more_follows : 0));
}

bool SocketConnection::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    length = length_of(file, offset, length);
    if (is(shutting | closing | write_broken | over)) return false;
    if (length <= small_file) return write_at_once(file, offset, length);
    return queue_behind([&] {
        if (output_size() >= std::min(limits().output_limit, Output::most_size)) return finish(Error::output_limit);
        try {
            Output& output = extra().output;
            const bool first = output.empty();
            output.append(std::move(file), offset, length);
            note_queued(first);
        } catch (const std::bad_alloc&) {
            reset_on_close();
            finish(std::make_error_code(std::errc::not_enough_memory));
        }
    });
}

// A send failed. After a reset the kernel still hands out what had come before it, so the protocol gets that first.
void SocketConnection::broken(std::error_code reason) {
    const bool reset = reason == std::errc::broken_pipe || reason == std::errc::connection_reset;
    try {
        extra().reason = reason;
    } catch (const std::bad_alloc&) {
        return finish(reason);
    }
    if (!state_.write_failed(reset)) return finish(reason);
    leave_short_way();
    extra_->output.clear();
    if (extra_->passing != nullptr) extra_->passing->to_send.clear();
    drop_channel();
    update_interest();
}

}  // namespace reactor
