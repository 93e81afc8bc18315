// How datagrams leave: gathered while a protocol is called and sent in one sendmmsg, those to one receiver in one piece
// if the kernel cuts it up; and the queue for a kernel without room.
#include <reactor/datagram/datagram_impl.hpp>
#include <reactor/net/control_messages_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace reactor {

using namespace datagrams;
using namespace control_messages;

namespace {

// Datagrams that leave in pieces (UDP_SEGMENT): no piece larger than the least that fits the links of today with IPv6's
// heads, all of them no more than IP can say the length of.
constexpr std::size_t largest_piece = 1452;
constexpr std::size_t most_in_pieces = 65'000;

// Not a word on any datagram, but on the kernel or the link that was to cut it up.
[[maybe_unused]] bool cannot_segment(const std::error_code& error) noexcept {
    return error == std::errc::invalid_argument || error == std::errc::io_error || error == std::errc::message_size ||
           error == std::errc::not_supported || error == std::errc::operation_not_supported;
}

// By all their bytes, where == leaves out IPv6's flow label: datagrams of two flows must not leave as one.
bool same(const Address& a, const Address& b) noexcept {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

[[maybe_unused]] bool same(const Route& a, const Route& b) noexcept {
    return same(a.to, b.to) && a.interface == b.interface && same(a.from, b.from);
}

}  // namespace

bool DatagramEndpoint::send(const Route& route, Bytes data) {
    if (over_ || closing_) return false;
    Workspace& space = workspace();
    if (output_.empty() && space.owner == this) {
        if (space.gathered_count == options_.batch) flush_gathered(space);
        // An answer made of received bytes is sent from where it lies, since the buffer is not received into before the
        // call returns. All else may be gone by then, and is copied.
        const bool copied = !space.in_input(data);
        // Both flushes may leave something queued. Then this one has its place behind it, and order is kept.
        if (copied && data.size() > output_room - space.output_used) flush_gathered(space);
        // A datagram larger than all the room goes out by itself, and is copied only if it has to wait.
        if (output_.empty() && (!copied || data.size() <= output_room)) {
            Outgoing& one = space.gathered[space.gathered_count++];
            one.route = route;
            one.data = data;
            if (!copied || data.empty()) return true;
            std::byte* const into = space.output.get() + space.output_used;
            std::memcpy(into, data.data(), data.size());
            one.data = {into, data.size()};
            space.output_used += data.size();
            return true;
        }
    }
    Outgoing one{data, route};
    if (!output_.empty()) {  // behind those that wait
        if (output_.size() < options_.queue_limit) return queue(one);
        ++counters_.dropped;
        wants_room_ = true;
        return false;
    }
    // Sent, queued and refused are all "taken". That it was dropped shows in this counter alone.
    const std::uint64_t before = counters_.dropped;
    send_all({&one, 1});
    return counters_.dropped == before;
}

bool DatagramEndpoint::send_descriptors(const Route& route, Bytes data, std::span<const int> descriptors) {
    if (over_ || closing_) return false;
    // Descriptors cannot be gathered: the caller may close its own as soon as this returns.
    if (workspace().owner == this) flush_gathered(workspace());
    if (!output_.empty()) {
        ++counters_.dropped;
        return false;
    }
    if (family_ != Address::Family::unix_domain || descriptors.size() > most_descriptors) {
        // The kernel's objection comes through `refused`, and so does this one, which needs no kernel.
        note_failure(route.to, std::make_error_code(std::errc::invalid_argument));
        return true;
    }
    alignas(cmsghdr) std::array<char, CMSG_SPACE(most_descriptors * sizeof(int))> control{};
    iovec piece{const_cast<std::byte*>(data.data()), data.size()};
    msghdr header{};
    if (route.to.family() != Address::Family::none) {
        header.msg_name = const_cast<sockaddr*>(route.to.data());
        header.msg_namelen = socklen_t(route.to.size());
    }
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    if (!descriptors.empty()) {
        header.msg_control = control.data();
        put_descriptors(header, descriptors);
    }
    ssize_t count = 0;
    do {
        count = ::sendmsg(socket_.get(), &header, send_flags);
    } while (count < 0 && errno == EINTR);
    if (count >= 0) {
        ++counters_.sent;
        workspace().bytes_sent += data.size();
        return true;
    }
    const std::error_code error = last_error();
    if (would_block(error.value()) || out_of_room(error)) {
        ++counters_.dropped;
        return false;
    }
    note_failure(route.to, error);
    return true;
}

// How many the kernel took of those laid out; -1 leaves the reason in errno. EPERM is also what a firewall's refusal of
// the first of them looks like: if a call that moves one alone says so too, then it was that.
ssize_t DatagramEndpoint::send_messages(std::size_t messages) noexcept {
    Workspace& space = workspace();
    ssize_t sent = 0;
#if REACTOR_HAS(RECVMMSG)
    if (messages > 1) {
        do {
            sent = ::sendmmsg(socket_.get(), space.leaving.data(), unsigned(messages), send_flags);
        } while (sent < 0 && errno == EINTR);
        // sendmmsg(2) returns an error only if not one datagram left. The error of a later one is lost, and comes again
        // when that one is the first (its manual, BUGS).
        if (sent >= 0 || !call_is_unknown(errno)) return sent;
    }
#endif
    do {
        sent = ::sendmsg(socket_.get(), &space.leaving[0].msg_hdr, send_flags);
    } while (sent < 0 && errno == EINTR);
    // So sendmmsg(2) is what is missing, or forbidden: it is not tried again.
    if (messages > 1 && (sent >= 0 || errno != EPERM)) many_a_call_ = false;
    return sent < 0 ? -1 : 1;
}

// One system call, as a rule. How many it took; if none, why.
std::size_t DatagramEndpoint::send_some(std::span<Outgoing> batch, std::error_code& error) noexcept {
    Workspace& space = workspace();
    const std::size_t count = std::min(batch.size(), options_.batch);
    std::size_t messages = 0;
    for (std::size_t index = 0; index < count && (messages == 0 || many_a_call_); ++messages) {
        const std::size_t first = index;
        const Outgoing& one = batch[first];
        std::size_t together = 0;
        do {
            const Bytes data = batch[index].data;
            // iovec has no const; sending does not write.
            space.pieces[index] = {const_cast<std::byte*>(data.data()), data.size()};
            together += data.size();
            ++index;
        } while (index < count && segments_ && belongs_to_one(one, batch[index - 1], batch[index], together));
        space.ends[messages] = index;
        Workspace::Slot& slot = space.leaving_slots[messages];
        msghdr& header = space.leaving[messages].msg_hdr;
        header = {};
        header.msg_iov = &space.pieces[first];
        header.msg_iovlen = decltype(header.msg_iovlen)(index - first);
        if (one.route.to.family() != Address::Family::none) {
            header.msg_name = const_cast<sockaddr*>(one.route.to.data());
            header.msg_namelen = socklen_t(one.route.to.size());
        }
        header.msg_control = slot.control.data();
        put_source(header, one.route);
#if REACTOR_HAS(UDP_SEGMENT)
        // The kernel then makes one datagram of each `size` bytes: one walk through the network stack for all of them.
        if (index - first > 1) put_control(header, IPPROTO_UDP, UDP_SEGMENT, std::uint16_t(one.data.size()));
#endif
        // A pointer to no bytes is an error on some systems (BSD: EINVAL).
        if (header.msg_controllen == 0) header.msg_control = nullptr;
    }
    const ssize_t sent = send_messages(messages);
    if (sent > 0) return space.ends[std::size_t(sent) - 1];
    error = last_error();
    // The first was a bundle. A device without checksums in hardware refuses these (EIO), as does a path with a small
    // MTU (EINVAL, EMSGSIZE): so from now on each goes by itself.
    if (space.ends[0] == 1 || !cannot_segment(error)) return 0;
    segments_ = false;
    return send_some(batch, error);
}

// Can the kernel cut the two apart again? All pieces but the last have one size.
bool DatagramEndpoint::belongs_to_one(const Outgoing& first, const Outgoing& before, const Outgoing& next,
                                      std::size_t together) noexcept {
    const std::size_t size = first.data.size();
    // An empty datagram would vanish in a bundle. One that is larger than the link takes would be an error there, where
    // it would be cut into fragments by itself.
    return before.data.size() == size && next.data.size() <= size && !next.data.empty() && size <= largest_piece &&
           together + next.data.size() <= most_in_pieces && same(first.route, next.route);
}

// Where it is to leave from, if that was said.
void DatagramEndpoint::put_source([[maybe_unused]] msghdr& header, const Route& route) const noexcept {
    if (route.from.family() != family_ && route.interface == 0) return;
#if REACTOR_HAS(IP_PKTINFO)
    if (family_ == Address::Family::ipv4) {
        in_pktinfo info{};
        info.ipi_ifindex = int(route.interface);
        if (route.from.family() == family_) {
            sockaddr_in from{};
            std::memcpy(&from, route.from.data(), sizeof from);
            info.ipi_spec_dst = from.sin_addr;
        }
        put_control(header, IPPROTO_IP, IP_PKTINFO, info);
    }
#endif
#if REACTOR_HAS(IPV6_PKTINFO)
    if (family_ == Address::Family::ipv6) {
        in6_pktinfo info{};
        if (route.from.family() == family_) {
            sockaddr_in6 from{};
            std::memcpy(&from, route.from.data(), sizeof from);
            info.ipi6_addr = from.sin6_addr;
            // A link-local address means nothing without its interface.
            info.ipi6_ifindex = from.sin6_scope_id;
        }
        if (route.interface != 0) info.ipi6_ifindex = route.interface;
        put_control(header, IPPROTO_IPV6, IPV6_PKTINFO, info);
    }
#endif
}

// Sends until the kernel has no room; returns how many are dealt with, one way or another.
std::size_t DatagramEndpoint::send_until_blocked(std::span<Outgoing> batch) noexcept {
    std::size_t done = 0;
    std::error_code earlier;  // the error of the first try of this one
    while (done < batch.size()) {
        std::error_code error;
        const std::size_t sent = send_some(batch.subspan(done), error);
        if (sent > 0) {
            // The second try went through, so the first error was an earlier datagram's. With an error queue it is
            // reported from there, by its address.
            if (earlier && !error_queue_) note_failure({}, earlier);
            earlier.clear();
            counters_.sent += sent;
            for (const Outgoing& one : batch.subspan(done, sent)) workspace().bytes_sent += one.data.size();
            done += sent;
        } else if (would_block(error.value()) && waits_for_room()) {
            break;
        } else if (would_block(error.value()) || out_of_room(error)) {
            // Where IP_RECVERR is set, Linux says ENOBUFS if a device's queue had no room: the datagram is lost, and
            // no event says when there is room again.
            ++counters_.dropped;
            earlier.clear();
            ++done;
        } else if (packets_ && peer_is_gone(error)) {
            // Packets that it sent before may still be read; the end comes behind them.
            if (!broken_) broken_ = error;
            return batch.size();
        } else if (!earlier) {
            // The error of an earlier datagram is returned by the next send, of any datagram; so once more.
            earlier = error;
        } else {
            note_failure(batch[done].route.to, error);
            earlier.clear();
            ++done;
        }
    }
    return done;
}

// A Unix socket that is not connected turns writable whatever its receivers' queues are like: to wait for room would be
// to spin, so what does not fit is dropped, as a network does.
bool DatagramEndpoint::waits_for_room() const noexcept {
    return family_ != Address::Family::unix_domain || connected_;
}

void DatagramEndpoint::send_all(std::span<Outgoing> batch) noexcept {
    // Only those that were not sent are copied, and allocated for: with room in the kernel there are none.
    for (const Outgoing& one : batch.subspan(send_until_blocked(batch))) queue(one);
}

void DatagramEndpoint::flush_gathered(Workspace& space) noexcept {
    const std::size_t count = std::exchange(space.gathered_count, 0);
    if (count > 0) send_all({space.gathered.data(), count});
    space.output_used = 0;
}

bool DatagramEndpoint::queue(const Outgoing& one) noexcept {
    Outgoing head = one;
    // Head and bytes lie in the queue one behind the other. The pointer is left out: the bytes move when the queue
    // grows.
    head.data = {static_cast<const std::byte*>(nullptr), one.data.size()};
    try {
        const auto into = output_.prepare(sizeof head + one.data.size());
        std::memcpy(into.data(), static_cast<const void*>(&head), sizeof head);
        if (!one.data.empty()) std::memcpy(into.data() + sizeof head, one.data.data(), one.data.size());
    } catch (const std::bad_alloc&) {
        ++counters_.dropped;
        return false;
    }
    output_.commit(sizeof head + one.data.size());
    queued_ += one.data.size();
    update_interest();
    return true;
}

void DatagramEndpoint::flush_queue() noexcept {
    Workspace& space = workspace();
    while (!output_.empty()) {
        Bytes bytes = output_.view();
        std::size_t count = 0;
        for (; count < options_.batch && !bytes.empty(); ++count) {
            Outgoing& one = space.waiting[count];
            std::memcpy(static_cast<void*>(&one), bytes.data(), sizeof one);
            one.data = bytes.subspan(sizeof one, one.data.size());
            bytes = bytes.subspan(sizeof one + one.data.size());
        }
        // Consumed only afterwards, since the kernel reads the bytes from the queue itself.
        const std::size_t done = send_until_blocked({space.waiting.data(), count});
        for (std::size_t index = 0; index < done; ++index) {
            const std::size_t size = space.waiting[index].data.size();
            queued_ -= size;
            output_.consume(sizeof(Outgoing) + size);
        }
        if (done < count) return;
    }
}

void DatagramEndpoint::writable() {
    if (over_) return;
    if (fresh_) return readable();
    const std::size_t before = output_.size();
    flush_queue();
    update_interest();
    tell_failures();
    // While an error waits the kernel says that it is writable, whether there is room or not.
    if (!over_ && before > 0 && output_.size() == before) drain_error_queue();
    if (over_ || !wants_room_ || output_.size() > options_.queue_limit / 2) return;
    // Half of the queue and not all of it, so that the kernel is not idle while the protocol produces.
    wants_room_ = false;
    call([this] { protocol_->resume_sending(); });
}

}  // namespace reactor
