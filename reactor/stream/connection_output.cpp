// The queue of output that the kernel does not take at once, of bytes and of files: how it leaves, its watermarks, and
// its end when the connection breaks.
#include <reactor/last_error_impl.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace reactor {

namespace {

#if REACTOR_HAS(MSG_MORE)
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

void SocketConnection::writable() {
    if (is(over)) return;
    if (is(leaves)) return depart();
    writable_now();
}

// Sends of the queue what the kernel takes at once.
void SocketConnection::flush() {
    send_collected();
    keep_gathered();  // also where it is writable for another reason, before the iteration has ended
    unset(gathers);
    if (output_size() == 0 || is(output_spent | over)) return;
    if (extra()->channel != nullptr && extra()->channel->held > 0) return send_channel();
    // Bytes in front of a file leave with its beginning.
    Output& output = parts_->output;
    const std::size_t in_front = output.bytes().size();
    std::size_t allowed = std::min(output.size(), in_front + Output::file_piece);
    if (is(metered)) {
        allowed = may_move(extra()->meter->output, allowed);
        if (allowed == 0) return;
    }
    if (in_front == output.size() && extra()->passing == nullptr && collect(output.bytes()))
        return output.consume(in_front);
    std::size_t sent = 0;
    ssize_t count = 0;
    if (in_front > 0) {
        count = send_queued(output.bytes().first(std::min(in_front, allowed)), allowed > in_front);
        if (count > 0) {
            sent = std::size_t(count);
            output.consume(sent);
            if (extra()->passing != nullptr) extra()->passing->sent += sent;
        }
    }
    const bool of_file = output.begins_with_file() && sent < allowed;
    if (of_file) {
        count = output.send_file(socket_.get(), allowed - sent);
        if (count > 0) sent += std::size_t(count);
    }
    const int error = errno;
    if (is(metered)) extra()->meter->output.used(sent);
    if (sent > 0) {
        note_sent(sent);
        if (limits().write_timeout > Duration::zero()) parts_->since.output_since = loop().turn_time();
    }
    if (of_file && count == 0) return finish(Error::file_shortened);
    if (count < 0 && !would_block(error)) broken({error, std::system_category()});
}

// As send(2). A packet need not leave before what follows at once.
ssize_t SocketConnection::send_queued(Bytes data, bool more) noexcept {
    if (extra()->passing != nullptr && !extra()->passing->to_send.empty()) return send_with_descriptors(data);
    return ::send(socket_.get(), data.data(), data.size(), send_flags | (more ? more_follows : 0));
}

bool SocketConnection::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    length = length_of(file, offset, length);
    if (is(shutting | closing | output_broken | over)) return false;
    if (length <= small_file) return write_at_once(file, offset, length);
    return queue_behind([&] { queue_file(std::move(file), offset, length); });
}

void SocketConnection::broken(std::error_code reason) {
    leave_short_way();
    StreamTransport::broken(reason);
    if (!is(output_broken)) return;
    if (extra()->passing != nullptr) extra()->passing->to_send.clear();
    drop_channel();
    update_interest();
}

}  // namespace reactor
