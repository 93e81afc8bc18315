// Writes that leave together: those of one call of the protocol with one send when it returns, those from outside with
// one send at the iteration's end. All but the first answer out of the input comes here.
#include <reactor/stream/connection_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace reactor {

bool SocketConnection::write_unusual(Bytes data) {
    Workspace& space = workspace();
    if (space.owner == this && state_.is_ordinary() && Workspace::is_small(data)) {
        if (space.unanswered == this) space.leave_short_way();
        if (space.copy_behind(data, group_->limits.high_mark)) return true;
    }
    return write_otherwise(data);
}

// A function of its own, so that a copied answer does not save the registers that only this needs.
bool SocketConnection::write_otherwise(Bytes data) {
    Workspace& space = workspace();
    if (space.owner != this && gather_first(space, data)) return true;
    if (!state_.accepts_writes()) return false;
    if (data.empty()) return true;
    if (is(gathers) && data.size() >= Workspace::large_write) send_gathered();
    send_collected();  // the gathered ones, it may be
    if (!state_.accepts_writes()) return false;
    if (space.unanswered == this) space.leave_short_way();
    if (is(gathers)) {
        gather_for_later(data);
    } else if (output_size() > 0) {
        queue(data);
    } else if (space.owner == this) {
        gather(space, data);
    } else if (data.size() < Workspace::large_write && Internals(loop()).in_iteration()) {
        gather_for_later(data);
    } else {
        send_now(data, {});
    }
    return !is(over);
}

// Written from outside, in another connection's callback for instance: the writes of one iteration leave together, at
// its end, as one send. Between iterations a write leaves at once, and so does a large one. Gathered bytes count as
// sent for as long as the kernel may take them: they pass no watermark. This is for the first small piece.
inline bool SocketConnection::gather_first(Workspace& space, Bytes data) {
    if (is(~no_matter) || place_ != Gathering::no_place || !Workspace::is_small(data)) return false;
    if (output_size() > 0 || data.size() >= limits().high_mark || !Internals(space.loop).in_iteration()) return false;
    try {
        place_ = space.gathering.add(*this, data);
    } catch (const std::bad_alloc&) {
        return false;
    }
    Internals(space.loop).call_streams_at_end();
    if (space.gathering[place_].piece.empty()) return false;
    state_.set(gathers);
    return true;
}

void SocketConnection::gather_for_later(Bytes data) {
    keep_gathered();
    if (is(over)) return;
    if (!is(gathers) && output_size() > 0) return queue(data);
    try {
        make_extra();
        if (place_ == Gathering::no_place) {
            place_ = workspace().gathering.add(*this, {});
            Internals(loop()).call_streams_at_end();
        }
        parts_->output.append(data);
    } catch (const std::bad_alloc&) {  // nothing has been appended
        send_gathered();
        if (is(over)) return;
        return output_size() > 0 ? queue(data) : send_now(data, {});
    }
    if (!is(gathers) && limits().write_timeout > Duration::zero()) parts_->since.output_since = loop().turn_time();
    set(gathers);
    if (parts_->output.size() >= std::min(Workspace::large_write, limits().high_mark)) send_gathered();
}

Bytes SocketConnection::gathered_piece() const noexcept {
    return place_ == Gathering::no_place ? Bytes() : workspace().gathering[place_].piece;
}

// Its piece becomes its output, where all that asks for the size of that finds it. Without memory it is sent now.
void SocketConnection::keep_gathered() {
    const Bytes piece = gathered_piece();
    if (piece.empty() || is(output_broken)) return;
    try {
        make_extra().output.append(piece);
        workspace().gathering.take(place_);
        parts_->since.output_since = loop().turn_time();
    } catch (const std::bad_alloc&) {
        send_gathered();
    }
}

// Sends the gathered bytes, and queues those that the kernel does not take.
void SocketConnection::send_gathered() {
    if (!is(gathers)) return;
    unset(gathers);
    const Bytes piece = workspace().gathering.take(place_);
    if (piece.empty()) {
        flush();
        if (!is(over) && output_size() > 0) note_queued(true);
    } else if (!is(output_broken)) {
        if (state_.is_ordinary()) {
            const ssize_t count = ::send(socket_.get(), piece.data(), piece.size(), send_flags);
            if (count == ssize_t(piece.size())) [[likely]]
                return void(workspace().bytes_sent += piece.size());
            sent_in_part(count, piece, {});
        } else {
            send_now(piece, {});
            if (!is(~no_matter) && output_size() == 0) return;
        }
    }
    if (!is(over) && workspace().owner != this) settle();
}

void SocketConnection::leave_gathering() noexcept {
    if (place_ == Gathering::no_place) return;
    workspace().gathering.leave(place_);
    place_ = Gathering::no_place;
}

// At the iteration's end. Nothing here calls a protocol.
void SocketConnection::Workspace::iteration_ends() {
    for (std::size_t place = 0; place < gathering.size(); ++place) {
        SocketConnection* const connection = gathering[place].connection;
        if (connection == nullptr) continue;
        connection->send_gathered();
        connection->place_ = Gathering::no_place;
    }
    gathering.clear();
}

// Collects what is written in one callback: as a view as long as it is one piece of the input, else as a copy.
void SocketConnection::gather(Workspace& space, Bytes data) {
    Bytes& gathered = space.gathered;
    const bool copied = gathered.data() == space.output.get();
    const std::size_t together = gathered.size() + data.size();
    // Beyond the high watermark the protocol is owed pause_writing and resume_writing, so those bytes are queued.
    const bool below_mark = together <= limits().high_mark;
    const bool view = space.in_input(data) && below_mark;
    if (view && gathered.empty()) {
        gathered = data;
        return;
    }
    if (view && !copied && gathered.data() + gathered.size() == data.data()) {
        gathered = {gathered.data(), gathered.size() + data.size()};
        return;
    }
    if (data.size() < Workspace::large_write && together <= Workspace::gather_size && below_mark) {
        if (!copied && !gathered.empty()) std::memcpy(space.output.get(), gathered.data(), gathered.size());
        std::memcpy(space.output.get() + gathered.size(), data.data(), data.size());
        gathered = {space.output.get(), together};
        return;
    }
    const Bytes before = std::exchange(gathered, {});
    // A quota for each turn: against a reader as fast as we are a producer would never come to its end.
    const std::uint64_t turn = loop().counters().turns;
    if (space.straight != this || space.straight_turn != turn) {
        space.straight = this;
        space.straight_turn = turn;
        space.sent_straight = 0;
    }
    if (data.size() >= Workspace::large_write && space.sent_straight < limits().high_mark) {
        space.sent_straight += together;
        send_now(before, data);
        // Nothing is gathered now. Otherwise the short way would send that: a system call for no bytes.
        if (state_.is_ordinary()) space.unanswered = this;
        return;
    }
    space.spilled = true;
    queue(before);
    if (!is(over)) queue(data);
}

// Not while the stream ends, nor where bytes wait already: then each send has to be seen through at once.
bool SocketConnection::may_collect() const noexcept {
    return is(completes) && !is(~no_matter) && Internals(loop()).in_iteration();
}

// Takes a small piece, to be sent with those of other connections when the loop waits. False: it is to be sent now.
// Never more than the high watermark: that these bytes have left is not noted, so resume_writing() would never come.
bool SocketConnection::collect(Bytes data) noexcept {
    if (data.empty() || data.size() > limits().high_mark || !may_collect()) return false;
    if (!workspace().completions->collect(socket_.get(), data, this)) return false;
    note_sent(data.size());
    return true;
}

void SocketConnection::sent_less(ssize_t count, Bytes bytes) noexcept {
    workspace().bytes_sent -= bytes.size() - std::size_t(std::max(count, ssize_t(0)));
    if (!is(over)) sent_in_part(count < 0 ? count : 0, bytes.subspan(std::size_t(std::max(count, ssize_t(0)))), {});
}

// Sends both pieces with one system call.
void SocketConnection::send_now(Bytes first, Bytes second) {
    if (first.empty() && second.empty()) return;
    if (second.empty() && output_size() == 0 && collect(first)) return;
    send_collected();
    if (is(over)) return;
    if (output_size() > 0) {  // what the socket did not take of those
        queue(first);
        if (!is(over)) queue(second);
        return;
    }
    if (is(metered)) {
        queue(first);
        if (!is(over)) queue(second);
        return flush();
    }
    iovec pieces[2] = {{const_cast<std::byte*>(first.data()), first.size()},
                       {const_cast<std::byte*>(second.data()), second.size()}};
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    const ssize_t count = ::sendmsg(socket_.get(), &message, send_flags);
    if (count != ssize_t(first.size() + second.size())) return sent_in_part(count, first, second);
    note_sent(std::size_t(count));
}

}  // namespace reactor
