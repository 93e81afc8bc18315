// How datagrams come: readable → receive_batch → deliver_batch → received, one recvmmsg for all that are there; the
// kernel's control messages; the datagrams kept for a protocol that paused; and the error queue, in which the network's
// refusals come back.
#include <reactor/datagram/datagram_impl.hpp>
#include <reactor/net/control_messages_impl.hpp>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#if REACTOR_HAS(ERROR_QUEUE)
#include <linux/errqueue.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace reactor {

using namespace datagrams;
using namespace control_messages;

namespace {

constexpr std::size_t receives_per_turn = 128;
#if REACTOR_HAS(ERROR_QUEUE)
constexpr int most_refusals = 64;  // that are reported in one iteration
#endif

// For receiving, by whomever.
bool shut_down(int descriptor) noexcept {
#if REACTOR_HAS(POLLRDHUP)
    constexpr short shut = POLLRDHUP | POLLHUP;
#else
    constexpr short shut = POLLHUP;
#endif
    pollfd entry{descriptor, shut, 0};
    return ::poll(&entry, 1, 0) == 1 && (entry.revents & shut) != 0;
}

#if REACTOR_HAS(IPV6_PKTINFO)
// A group, or IPv4's "all hosts", which an IPv6 socket that carries IPv4 sees mapped. (ff00::/8, ::ffff:224.0.0.0/100,
// ::ffff:255.255.255.255: RFC 4291 2.5.5.2 and 2.7.)
bool of_many(const in6_addr& address) noexcept {
    if (!IN6_IS_ADDR_V4MAPPED(&address)) return IN6_IS_ADDR_MULTICAST(&address);
    const std::uint8_t* const host = address.s6_addr + 12;
    return host[0] >> 4 == 14 || std::all_of(host, host + 4, [](std::uint8_t byte) { return byte == 255; });
}
#endif

// Has the peer of a packet socket closed? Reading 0 bytes says so, and an empty packet says the same.
bool at_end(int descriptor) noexcept {
#if REACTOR_HAS(POLLRDHUP)
    pollfd entry{descriptor, POLLRDHUP, 0};
    if (::poll(&entry, 1, 0) >= 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0) return false;
#endif
    std::byte first;
    return ::recv(descriptor, &first, 1, MSG_PEEK) == 0;
}

}  // namespace

void DatagramEndpoint::readable() {
    if (over_) return;
    if (std::exchange(fresh_, false)) {
        update_interest();
        return call([this] { protocol_->opened(); });
    }
    Workspace& space = workspace();
    if (!kept_.empty()) {
        deliver_kept(space);
        if (over_ || paused_ || !kept_.empty()) return;
    }
    bool reset = false;
    for (std::size_t left = receives_per_turn; left > 0;) {
        // At most so many in an iteration: a socket that is flooded must leave the others their turn. It is ready
        // still.
        const std::size_t wanted = many_a_call_ ? std::min(options_.batch, left) : 1;
        std::error_code error;
        const std::size_t count = receive_batch(space, wanted, error);
        if (count == 0) {
            // Linux (seen in 6.18) says ECONNRESET once, before the packets that the peer sent ahead of its close. Over
            // a Unix stream they come first.
            if (packets_ && !reset && peer_is_gone(error)) {
                reset = true;
                if (!broken_) broken_ = error;
                continue;
            }
            if (reset) return finish(broken_);
            if (!would_block(error.value())) return receiving_failed(error);
            // Ready, and no datagram: the cause is an error that a send has met already, or another process that shares
            // the socket has shut it down, and it stays ready for ever.
            if (left == receives_per_turn && !drain_error_queue() && shut_down(socket_.get()))
                finish(std::make_error_code(std::errc::broken_pipe));
            return;
        }
        left -= std::min(left, deliver_batch(space, count));
        // Fewer than there was room for: the kernel has no more, and asking again would be a system call for nothing.
        if (over_ || paused_ || count < wanted) return;
    }
}

// How many came, of at most `wanted`; if none, why.
std::size_t DatagramEndpoint::receive_batch(Workspace& space, std::size_t wanted, std::error_code& error) {
    space.prepare(wanted, options_.largest);
    ssize_t count = 0;
#if REACTOR_HAS(RECVMMSG)
    if (wanted > 1) {
        do {
            // Without a timeout, whose meaning is broken: it is looked at after each datagram only (recvmmsg(2), BUGS).
            // The socket does not block.
            count = ::recvmmsg(socket_.get(), space.incoming.data(), unsigned(wanted), receive_flags, nullptr);
        } while (count < 0 && errno == EINTR);
        // A kernel without it, or a filter of system calls: seccomp profiles allow recvmsg(2) and may forget this one.
        if (count < 0 && call_is_unknown(errno)) {
            many_a_call_ = false;
            wanted = 1;
        }
    }
#endif
    if (wanted == 1) {
        msghdr& header = space.incoming[0].msg_hdr;
        if (options_.descriptors > 0) {
            header.msg_control = space.descriptor_control.data();
            // For all that can come, since how the kernel would close the rest is not ours to say (close_unwanted).
            header.msg_controllen = socklen_t(space.descriptor_control.size());
        }
        do {
            count = ::recvmsg(socket_.get(), &header, receive_flags);
        } while (count < 0 && errno == EINTR);
        if (count >= 0) {
            space.incoming[0].msg_len = unsigned(count);
            count = 1;
        }
    }
    if (count < 0) error = last_error();
    // The kernel has changed lengths and flags in these headers, and at an error perhaps in the first. Only they are
    // laid out anew the next time.
    space.stale = std::max(space.stale, std::size_t(std::max<ssize_t>(count, 1)));
    return std::size_t(std::max<ssize_t>(count, 0));
}

// How many datagrams they were.
std::size_t DatagramEndpoint::deliver_batch(Workspace& space, std::size_t count) {
    const std::uint64_t before = counters_.received;
    space.owner = this;
    std::size_t next = 0;
    // Datagrams that are not delivered any more have brought descriptors as well.
    const auto leave_rest = [&] {
        for (close_descriptors(); next < count; close_descriptors()) {
            Datagram untold;
            msghdr& header = space.incoming[next++].msg_hdr;
            if (header.msg_controllen > 0) take_control(header, untold);
        }
    };
    try {
        while (next < count && !over_ && !closing_) {
            Message& message = space.incoming[next++];
            space.bytes_received += message.msg_len;
            Datagram datagram;
            datagram.data = {static_cast<const std::byte*>(message.msg_hdr.msg_iov->iov_base), message.msg_len};
            datagram.sender = sender_of(message.msg_hdr);
            datagram.truncated = (message.msg_hdr.msg_flags & MSG_TRUNC) != 0;
            std::size_t piece = 0;
            if (message.msg_hdr.msg_controllen > 0) piece = take_control(message.msg_hdr, datagram);
            // Out of descriptors (EMFILE) the kernel leaves out those that it could not install, and says only this.
            if (options_.descriptors > 0 && (message.msg_hdr.msg_flags & MSG_CTRUNC) != 0)
                datagram.descriptors_truncated = true;
            // The end of a connection of packets and an empty packet look alike here, so the socket is asked.
            if (packets_ && message.msg_len == 0 && datagram.descriptors.empty() && at_end(socket_.get())) {
                finish(broken_);
                break;
            }
            // UDP_GRO: several datagrams of one sender, all but the last of one size. For the protocol they are what
            // they were.
            for (Bytes rest = datagram.data; piece > 0 && rest.size() > piece && !over_ && !closing_;) {
                datagram.data = rest.first(piece);
                deliver(datagram);
                datagram.data = rest = rest.subspan(piece);
            }
            if (over_ || closing_) break;
            deliver(datagram);
            close_descriptors();
        }
    } catch (...) {
        leave_rest();
        callback_failed(space);
        throw;
    }
    leave_rest();
    leave_callback(space);
    return std::size_t(counters_.received - before);
}

void DatagramEndpoint::deliver(const Datagram& datagram) {
    ++counters_.received;
    if (datagram.truncated) ++counters_.truncated;
    if (paused_) return keep(datagram);
    protocol_->received(datagram);
}

// The kernel's words behind a datagram. Descriptors have an owner from here on. If these are several datagrams in one
// piece: how long each of them is, but for the last; otherwise 0.
std::size_t DatagramEndpoint::take_control(msghdr& header, Datagram& datagram) noexcept {
    std::size_t piece = 0;
    for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr; control = CMSG_NXTHDR(&header, control)) {
#if REACTOR_HAS(IP_PKTINFO)
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
            const auto info = value_in<in_pktinfo>(control);
            datagram.destination = ipv4_address(info.ipi_addr, port_);
            datagram.local = ipv4_address(info.ipi_spec_dst, port_);
            datagram.interface = unsigned(info.ipi_ifindex);
        }
#endif
#if REACTOR_HAS(IPV6_PKTINFO)
        if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
            const auto info = value_in<in6_pktinfo>(control);
            datagram.interface = unsigned(info.ipi6_ifindex);
            datagram.destination = ipv6_address(info.ipi6_addr, port_, datagram.interface);
            // IPv4 names the address to answer from beside the destination (ipi_spec_dst). IPv6 has one field for both,
            // so for a group there is none.
            if (!of_many(info.ipi6_addr)) datagram.local = datagram.destination;
        }
#endif
#if REACTOR_HAS(UDP_SEGMENT)
        if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO)
            // The kernel writes an int, although UDP_SEGMENT takes 16 bits.
            piece = std::size_t(std::max(value_in<int>(control), 0));
#endif
        if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS) {
            take_descriptors(control, [&](FileDescriptor descriptor) {
                if (descriptor && descriptor_count_ < options_.descriptors) {
                    descriptors_[descriptor_count_++] = std::move(descriptor);
                } else {
                    datagram.descriptors_truncated = true;
                    close_unwanted(std::move(descriptor));
                }
            });
            datagram.descriptors = {descriptors_.get(), descriptor_count_};
        }
    }
    return piece;
}

void DatagramEndpoint::close_descriptors() noexcept {
    while (descriptor_count_ > 0) close_unwanted(std::move(descriptors_[--descriptor_count_]));
}

void DatagramEndpoint::receiving_failed(std::error_code error) {
    if (packets_ && broken_) return finish(broken_);  // all that the peer sent has been received
    // A network that is gone or answers so is one datagram's misfortune; this is the socket's. No answer of a network's
    // becomes EPERM: it is a filter that forbids recvmsg(2), and will do so again.
    if (packets_ || error == std::errc::bad_file_descriptor || error == std::errc::not_a_socket ||
        error == std::errc::invalid_argument || call_is_unknown(error.value()))
        return finish(error);
    if (out_of_room(error)) return;  // it is ready still
    if (!drain_error_queue()) tell_refused(socket_.peer(), error);
}

void DatagramEndpoint::pause_receiving() {
    paused_ = true;
    update_interest();
}

void DatagramEndpoint::resume_receiving() {
    if (!std::exchange(paused_, false) || over_) return;
    update_interest();
    // The kernel knows nothing of these, and would not wake the loop for them.
    if (!kept_.empty()) trigger(Interest::readable);
}

// Paused in mid-batch: the kernel has given away what follows already.
void DatagramEndpoint::keep(const Datagram& datagram) noexcept {
    // Behind one another in one queue, as those that wait to be sent.
    Datagram head = datagram;
    head.data = {static_cast<const std::byte*>(nullptr), datagram.data.size()};
    head.descriptors = {};
    try {
        const auto into = kept_.prepare(sizeof head + datagram.data.size());
        std::memcpy(into.data(), static_cast<const void*>(&head), sizeof head);
        if (!datagram.data.empty()) std::memcpy(into.data() + sizeof head, datagram.data.data(), datagram.data.size());
        kept_.commit(sizeof head + datagram.data.size());
    } catch (const std::bad_alloc&) {
        ++counters_.dropped;
    }
}

void DatagramEndpoint::deliver_kept(Workspace& space) {
    space.owner = this;
    ByteQueue kept = std::move(kept_);  // a pause in the middle does not add to it
    kept_ = ByteQueue();
    try {
        while (!kept.empty()) {
            Datagram datagram;
            const Bytes bytes = kept.view();
            std::memcpy(static_cast<void*>(&datagram), bytes.data(), sizeof datagram);
            const std::size_t size = datagram.data.size();
            datagram.data = bytes.subspan(sizeof datagram, size);
            if (paused_ || over_ || closing_) break;
            protocol_->received(datagram);
            kept.consume(sizeof datagram + size);
        }
    } catch (...) {
        callback_failed(space);
        throw;
    }
    kept_ = std::move(kept);
    leave_callback(space);
}

// ── the error queue ──

// Reports the network's answers to datagrams sent earlier. False if there were none.
bool DatagramEndpoint::drain_error_queue() {
#if REACTOR_HAS(ERROR_QUEUE)
    bool told = false;
    for (int count = 0; error_queue_ && count < most_refusals && !over_; ++count) {
        // One error a call. Its `name` is not a sender, but the address that the datagram was sent to.
        sockaddr_storage to{};
        alignas(cmsghdr) std::array<char, 512> control;
        // The datagram itself comes back as data, which is not needed: a byte is enough, and the rest is cut off.
        std::byte ignored;
        iovec piece{&ignored, sizeof ignored};
        msghdr header{};
        header.msg_name = &to;
        header.msg_namelen = sizeof to;
        header.msg_iov = &piece;
        header.msg_iovlen = 1;
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        if (::recvmsg(socket_.get(), &header, MSG_ERRQUEUE) < 0) break;
        for (cmsghdr* entry = CMSG_FIRSTHDR(&header); entry != nullptr; entry = CMSG_NXTHDR(&header, entry)) {
            const bool ipv4 = entry->cmsg_level == IPPROTO_IP && entry->cmsg_type == IP_RECVERR;
            const bool ipv6 = entry->cmsg_level == IPPROTO_IPV6 && entry->cmsg_type == IPV6_RECVERR;
            if (!ipv4 && !ipv6) continue;
            const auto error = value_in<sock_extended_err>(entry);
            // The send has returned the objections of this machine itself.
            if (error.ee_origin != SO_EE_ORIGIN_ICMP && error.ee_origin != SO_EE_ORIGIN_ICMP6) continue;
            told = true;
            // The protocol may close in this call: the loop looks at `over_` each time.
            tell_refused(sender_of(header), std::error_code(int(error.ee_errno), std::system_category()));
            break;
        }
    }
    return told;
#else
    return false;
#endif
}

}  // namespace reactor
