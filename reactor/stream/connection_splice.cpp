// Bytes that go from one connection straight to another: the kernel moves them by splice(2), through a pipe, and this
// program never sees them. It pays where much comes at a time (the forwarder with 16 KiB in a message and 16 of them in
// flight: 0.70 of the processor time, 1.15 times the messages), costs where little does (64 bytes, bare loops: 1.09 of
// the time), and so ends by itself. Elsewhere than on Linux it never begins.
#include <reactor/last_error_impl.hpp>
#include <reactor/pipe_ends_impl.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <utility>

namespace reactor {

#if REACTOR_HAS(SPLICE)

namespace {

constexpr std::size_t pipe_size = 64 * 1024;    // the size of a pipe, unless the administrator changed it
constexpr std::size_t worthwhile = 16 * 1024;   // less at a time costs more than it saves
constexpr std::size_t most_idle_channels = 16;  // of a loop
constexpr unsigned splice_flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

// The call failed, and not the socket.
bool cannot_splice(int error) noexcept {
    return error == EINVAL || error == ENOMEM || error == ENOSYS || error == EPERM || error == EOPNOTSUPP;
}

}  // namespace

bool SocketConnection::can_be_passed_on_to() const noexcept {
    return !is(fresh | shutting | closing | output_broken | over | metered | leaves);
}

void SocketConnection::pass_on(Transport& from, Transport& to) {
    if (&from != this) return pass_on_from(static_cast<SocketConnection&>(from));  // no other kind asks
    if (is(eager) && &to != this) to.pass_on(from, to);
}

void SocketConnection::pass_on_from(SocketConnection& source) {
    constexpr unsigned other_ways = passes_on | input_ended | closing | over | metered | takes_descriptors | leaves;
    if (!can_be_passed_on_to() || source.is(other_ways)) return;
    if (group_->workspace != source.group_->workspace) return;
    if (parts_ != nullptr && extra()->channel != nullptr) return;
    Workspace& space = workspace();
    try {
        std::unique_ptr<Channel> channel;
        if (space.channels.empty()) {
            space.channels.reserve(most_idle_channels);
            channel = std::make_unique<Channel>();
            PipeEnds pipe = make_pipe(O_NONBLOCK);
            if (!pipe) return;
            channel->out = std::move(pipe.reading);
            channel->in = std::move(pipe.writing);
        } else {
            channel = std::move(space.channels.back());
            space.channels.pop_back();
        }
        source.make_extra();
        make_extra().channel = std::move(channel);
    } catch (const std::bad_alloc&) {
        return;  // then they are copied
    }
    extra()->channel->source = &source;
    source.extra()->passes_to = this;
    source.set(passes_on);
}

// Instead of reading. False: it is to be read after all.
bool SocketConnection::pass_on_input() {
    SocketConnection& target = *extra()->passes_to;
    target.send_gathered();  // it was written before
    if (!target.can_be_passed_on_to() || !unconsumed().empty()) {
        pass_on_no_longer();
        return false;
    }
    if (is(completes) && !workspace().completions->reads_directly(socket_.get())) return false;
    if (target.output_size() > 0) {  // its end will call back
        set(passing_waits);
        update_interest();
        return true;
    }
    Channel& channel = *target.extra()->channel;
    const ssize_t count = ::splice(socket_.get(), nullptr, channel.in.get(), nullptr, pipe_size, splice_flags);
    // A reset, for one. The socket reports it once: recv(2) would then say that the stream has ended (Linux 6.18).
    if (count < 0 && !would_block(errno) && !cannot_splice(errno)) {
        finish(last_error());
        return true;
    }
    // The end, or what recv(2) will say. EAGAIN does not say that there is nothing: of urgent data splice(2) says it
    // for as long as the urgent byte is the next one (Linux 6.18), and recv(2) passes over that.
    if (count <= 0) {
        pass_on_no_longer();
        return false;
    }
    workspace().bytes_received += std::size_t(count);
    note_activity();
    parts_->since.received = parts_->since.last_activity;
    channel.held = std::size_t(count);
    if (std::size_t(count) < worthwhile) {
        unset(eager);
        pass_on_no_longer();
        settle();
    }
    target.send_channel();
    target.settle();
    return true;
}

void SocketConnection::send_channel() {
    send_collected();
    if (is(over)) return;
    Channel& channel = *extra()->channel;
    const bool first = !any(registration().interest(), Interest::writable);
    const ssize_t count = without_sigpipe(channel.held, [&] {
        return ::splice(channel.out.get(), nullptr, socket_.get(), nullptr, channel.held, splice_flags);
    });
    if (count < 0 && !would_block(errno)) return broken(last_error());
    if (count > 0) {
        channel.held -= std::size_t(count);
        note_sent(std::size_t(count));
    }
    if (channel.held == 0 || limits().write_timeout <= Duration::zero() || (count <= 0 && !first)) return;
    parts_->since.output_since = loop().turn_time();
    if (!is(closing)) wait_for_deadline();
}

#else

bool SocketConnection::can_be_passed_on_to() const noexcept {
    return false;
}
void SocketConnection::pass_on(Transport&, Transport&) {}
bool SocketConnection::pass_on_input() {
    return false;
}
void SocketConnection::send_channel() {}

#endif

// Bytes in the channel are sent all the same.
void SocketConnection::pass_on_no_longer() noexcept {
    if (!is(passes_on)) return;
    SocketConnection& target = *std::exchange(extra()->passes_to, nullptr);
    target.extra()->channel->source = nullptr;
    unset(passes_on);
    unset(passing_waits);
    update_interest();
    if (target.extra()->channel->held == 0) target.channel_is_empty();
}

// In either direction.
void SocketConnection::stop_passing_on() noexcept {
    pass_on_no_longer();
    if (parts_ != nullptr && extra()->channel != nullptr && extra()->channel->source != nullptr)
        extra()->channel->source->pass_on_no_longer();
}

// With the bytes that it holds.
void SocketConnection::drop_channel() noexcept {
    if (extra()->channel == nullptr) return;
    if (extra()->channel->source != nullptr) extra()->channel->source->pass_on_no_longer();
    extra()->channel.reset();
}

// Its source may go on; if there is none, it is kept for another one.
void SocketConnection::channel_is_empty() noexcept {
    if (SocketConnection* const source = extra()->channel->source) {
        if (!source->is(passing_waits)) return;
        source->unset(passing_waits);
        return source->update_interest();
    }
    Workspace& space = workspace();
    if (space.channels.size() < space.channels.capacity()) space.channels.push_back(std::move(extra()->channel));
    extra()->channel.reset();
}

}  // namespace reactor
