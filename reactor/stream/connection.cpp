// The way of a connection's messages. The ordinary one is readable → received → write → readable: one read, one send,
// nothing allocated, nothing copied if the answer is a piece of the input. Everything else tests `state_` and takes the
// long way. Writes that leave together are in connection_gathering.cpp, the queue of output in connection_output.cpp,
// the beginning and the end of a connection in connection_life.cpp.
#include <reactor/last_error_impl.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <utility>

namespace reactor {

namespace {

constexpr std::size_t small_rest = 4 * 1024;   // a rest this small is copied in front of the next bytes
constexpr std::size_t large_read = 64 * 1024;  // a peer that fills this is read from in larger pieces:
constexpr std::size_t largest_read = 256 * 1024;

}  // namespace

// ── the way of nearly every message ──

void SocketConnection::readable() {
    if (!state_.is_ordinary()) [[unlikely]]
        return state_.is_only(completes) ? readable_completed() : readable_unusual();
    Workspace& space = workspace();
    // Not read(2): that is four instructions less here, and some 50 ns more in the kernel, which passes by the socket's
    // file on the way; with a thousand connections that has left the caches, and is 4 % of a message's time.
    const ssize_t count = ::recv(socket_.get(), space.input.get(), group_->limits.read_size, 0);
    if (std::size_t(count) - 1 >= large_read - 1) [[unlikely]]  // nothing, an error or much
        return read_unusual(space, count);
    const std::size_t size = std::size_t(count);
    space.bytes_received += size;
    space.unanswered = this;
    const std::size_t consumed = call_received(space, {space.input.get(), size});
    if (consumed != size || !state_.is_ordinary()) [[unlikely]]
        return after_received({space.input.get(), size}, consumed);
    if (space.unanswered != this) {
        const ssize_t sent = ::send(socket_.get(), space.gathered.data(), space.gathered.size(), send_flags);
        if (sent != ssize_t(space.gathered.size())) [[unlikely]]
            return gathered_sent_in_part(space, sent);
        space.bytes_sent += std::size_t(sent);
    } else {
        space.unanswered = nullptr;
    }
    space.owner = nullptr;
}

// The same, where a completion has brought the input already, and the answer leaves with those of other connections.
void SocketConnection::readable_completed() {
    Workspace& space = workspace();
    Completions& engine = *space.completions;
    const Bytes input = engine.take(socket_.get(), group_->limits.read_size);
    if (input.empty()) [[unlikely]]
        return read_more();
    struct GiveBack {
        Completions& engine;
        ~GiveBack() { engine.give_back(); }
    } const give_back{engine};
    space.bytes_received += input.size();
    if (engine.has_collected(socket_.get(), this)) [[unlikely]] {
        send_collected();
        if (is(over)) return;
        if (!state_.is_only(completes)) return deliver(input);
    }
    space.unanswered = this;
    const std::size_t consumed = call_received(space, input);
    if (consumed != input.size() || !state_.is_only(completes)) [[unlikely]]
        return after_received(input, consumed);
    if (space.unanswered != this) {
        const Bytes answer = space.gathered;
        const bool to_collect = !answer.empty() && answer.size() <= group_->limits.high_mark;
        if (!to_collect || !engine.collect(socket_.get(), answer, this)) [[unlikely]] {
            send_now(answer, {});
            return space.end();
        }
        space.bytes_sent += answer.size();
    } else {
        space.unanswered = nullptr;
    }
    space.owner = nullptr;
}

bool SocketConnection::write(Bytes data) {
    Workspace& space = workspace();
    if (space.unanswered == this && space.in_input(data)) [[likely]] {
        space.gathered = data;  // it stays there until the callback returns
        space.unanswered = nullptr;
        return true;
    }
    return write_unusual(data);
}

inline std::size_t SocketConnection::call_received(Workspace& space, Bytes input) {
    space.owner = this;
    try {
        return protocol_->received(input);
    } catch (...) {
        call_failed();
        throw;
    }
}

// ── reading ──

void SocketConnection::readable_unusual() {
    if (is(leaves)) return;  // it leaves in its next call of writable()
    if (is(closing)) return discard();
    if (is(fresh)) return void(make_next());
    if (is(unmeasured) && !make_room_for_reads()) return;
    if (is(input_due)) {
        unset(input_due);
        return void(make(StreamState::Call::received));
    }
    read_more();
}

// As recv(2).
ssize_t SocketConnection::receive(std::byte* into, std::size_t size) noexcept {
    if (is(completes)) return workspace().completions->receive(socket_.get(), into, size);
    return ::recv(socket_.get(), into, size, 0);
}

// Before the short way may be taken: it reads as much as its group says, and asks nothing. The buffer never gets
// smaller.
bool SocketConnection::make_room_for_reads() noexcept {
    try {
        workspace().room_for_input(limits().read_size);
    } catch (const std::bad_alloc&) {
        out_of_memory();
        return false;
    }
    unset(unmeasured);
    return true;
}

// With a rest to put in front: a small one is copied before the new bytes in the loop's buffer, behind a large one the
// new bytes are read into its own memory.
void SocketConnection::read_more() {
    if (is(passes_on) && pass_on_input()) return;
    std::size_t size = is(eager) ? largest_read : limits().read_size;
    if (is(metered)) {
        size = may_move(extra()->meter->input, size);
        if (size == 0) return;
    }
    const std::size_t rest = unconsumed().size();
    std::byte* into = nullptr;
    try {
        into = rest <= small_rest ? workspace().room_for_input(rest + size) : parts_->input.prepare(size).data();
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    if (rest <= small_rest) {
        if (rest > 0) std::memcpy(into, unconsumed().data(), rest);
        into += rest;
    }
    const ssize_t count = is(takes_descriptors) ? receive_with_descriptors(into, size) : receive(into, size);
    if (is(over)) return;
    if (is(metered)) extra()->meter->input.used(std::size_t(std::max(count, ssize_t(0))));
    if (count <= 0) return nothing_read(count);
    workspace().bytes_received += std::size_t(count);
    note_activity();
    if (parts_ != nullptr) parts_->since.received = parts_->since.last_activity;
    judge_read(std::size_t(count));
    if (rest <= small_rest) return deliver({into - rest, rest + std::size_t(count)});
    parts_->input.commit(std::size_t(count));
    deliver(parts_->input.view());
}

void SocketConnection::read_unusual(Workspace& space, ssize_t count) {
    if (count <= 0) return nothing_read(count);
    space.bytes_received += std::size_t(count);
    judge_read(std::size_t(count));
    deliver({space.input.get(), std::size_t(count)});
}

// A peer that fills a read gets larger ones for as long as it fills them. Small reads stay as they are: their size is
// the user's choice.
void SocketConnection::judge_read(std::size_t count) noexcept {
    const Limits& allowed = limits();
    const bool filled = count >= allowed.read_size && allowed.read_size >= large_read;
    (filled && largest_read > allowed.read_size) ? set(eager) : unset(eager);
}

void SocketConnection::nothing_read(ssize_t count) {
    if (count == 0) return end_of_input();
    if (would_block(errno)) return;
    finish(is(output_broken) ? reason() : last_error());
}

// While closing: input is read and thrown away, so that the kernel need not answer it with a reset.
void SocketConnection::discard() {
    std::byte* into = nullptr;
    try {
        into = workspace().room_for_input(limits().read_size);
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
    const std::size_t size = limits().read_size;
    const ssize_t count = group_->descriptors > 0 ? receive_with_descriptors(into, size) : receive(into, size);
    if (count > 0) workspace().bytes_received += std::size_t(count);
    if (count > 0 || (count < 0 && would_block(errno))) return;
    if (count < 0) return finish(last_error());
    end_of_input();
}

// ── calling the protocol ──

StreamTransport::Calling SocketConnection::calling() const noexcept {
    const Workspace& space = workspace();
    if (space.owner != this) return Calling::none;
    return space.in_received ? Calling::received : Calling::other;
}

void SocketConnection::begin_call(Calling call) noexcept {
    Workspace& space = workspace();
    space.begin(*this);
    space.in_received = call == Calling::received;
}

void SocketConnection::end_call() noexcept {
    workspace().end();
}

void SocketConnection::gathered_sent_in_part(Workspace& space, ssize_t count) {
    sent_in_part(count, space.gathered, {});
    space.end();
}

void SocketConnection::send_written() {
    Workspace& space = workspace();
    if (!space.gathered.empty() && !is(over)) send_now(space.gathered, {});
    const bool spilled = space.spilled;
    space.end();
    if (spilled && !is(over)) flush();
}

void SocketConnection::requested(Request request) {
    leave_short_way();
    send_collected();
    keep_gathered();
    StreamTransport::requested(request);
}

// ── in between ──

std::error_code SocketConnection::end_output() {
    leave_short_way();
    send_collected();
    const std::error_code error = socket_.shutdown_write();
    if (error != std::errc::not_connected) return error;
    // The connection is over already, and SO_ERROR says how: one that was not reading has not seen a reset, for
    // instance.
    const std::error_code pending = socket_.pending_error();
    return pending ? pending : error;
}

void SocketConnection::settled() {
    if (is(closing) && (parts_ == nullptr || !parts_->scheduled())) {
        plan_deadline();
        if (is(over)) return;
    }
    if (output_size() == 0 && parts_ != nullptr && extra()->channel != nullptr) channel_is_empty();
    update_interest();
    if (parts_ == nullptr || is(watches_idleness) || extra()->in_use()) return;
    parts_.reset();
    unset(holds_extra);
}

void SocketConnection::update_interest() {
    if (is(over)) return;
    if (is(leaves)) return registration().set_interest(Interest::writable);
    Interest wanted = Interest::none;
    const bool waits = is(paused | held_back | input_spent | passing_waits) && !is(closing | fresh);
    if (!is(input_ended) && !waits) wanted |= Interest::readable;
    // Without tokens pause_writing() may still be due.
    const bool to_close = state_.owes_closing();
    const bool to_tell = (is(over_high) && !is(pause_called | fresh)) || to_close;
    const bool to_send = output_size() > 0 && !is(gathers);  // gathered bytes have not been tried yet
    if (is(output_spent) ? to_tell : to_send || to_close || is(over_high)) wanted |= Interest::writable;
    // Nothing else would report a reset now, and the descriptor would stay for as long as nothing happens here. A
    // connection that waits for tokens looks again when they come.
    if (wanted == Interest::none && is(paused | held_back | passing_waits | input_ended) && !is(hung_up))
        wanted = Interest::error;
    const Interest before = registration().interest();
    if (wanted == before) return;
    registration().set_interest(wanted);
    if (is(input_due) && any(wanted & ~before, Interest::readable)) trigger(Interest::readable);
}

// While nothing is read or sent: an error, a hang-up, or urgent data. An error ends it, as it would end a send: what
// had come before it is lost. A hang-up alone is an end in good order, which waits with the data in front of it. It
// stays ready for ever, as does an error that SO_ERROR does not know (that of an error queue): so it is watched no
// more.
void SocketConnection::error() {
    if (is(output_broken)) return finish(reason());  // by which SO_ERROR is used up
    if (const std::error_code reason = socket_.pending_error()) return finish(reason);
    pollfd entry{socket_.get(), POLLPRI, 0};
    if (::poll(&entry, 1, 0) <= 0) return;
    // Urgent data is no part of the stream, and is not delivered. In the stream (SO_OOBINLINE) it cannot be taken.
    std::byte urgent;
    if ((entry.revents & (POLLERR | POLLHUP)) == 0 && ::recv(socket_.get(), &urgent, 1, MSG_OOB) >= 0) return;
    set(hung_up);
    update_interest();
}

void SocketConnection::trigger(Interest ready) noexcept {
    try {
        registration().trigger(ready);
    } catch (const std::bad_alloc&) {
        out_of_memory();
    }
}

void SocketConnection::note_sent(std::size_t count) noexcept {
    workspace().bytes_sent += count;
    note_activity();
}

void SocketConnection::note_activity() noexcept {
    if (is(watches_idleness | closing) && parts_ != nullptr) [[unlikely]]
        parts_->since.last_activity = loop().turn_time();
}

std::size_t SocketConnection::queued() const noexcept {
    if (is(over)) return 0;
    const Workspace& space = workspace();
    std::size_t in_call = space.owner == this && space.unanswered != this ? space.gathered.size() : 0;
    in_call += gathered_piece().size();
    if (is(completes) && space.completions->has_collected(socket_.get(), this))
        in_call += space.completions->collected(socket_.get());
    return output_size() + in_call;
}

const Limits& SocketConnection::limits() const noexcept {
    if (parts_ != nullptr && parts_->limits != nullptr) [[unlikely]]
        return *parts_->limits;
    return group_->limits;
}

}  // namespace reactor
