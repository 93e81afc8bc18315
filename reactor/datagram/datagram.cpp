// How a socket of datagrams begins, calls its protocol, and ends. The ordinary way of a datagram is readable →
// receive_batch → deliver_batch → received → send → flush_gathered: one recvmmsg and one sendmmsg for all that had
// come, nothing allocated, nothing copied if the answer is a piece of the input. It stands in datagram_receiving.cpp
// and datagram_sending.cpp.
#include <reactor/datagram/datagram_impl.hpp>

#include <reactor/error.hpp>
#include <reactor/net/bind_everywhere_impl.hpp>
#include <reactor/net/socket_file.hpp>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

namespace reactor {

using namespace datagrams;

namespace {

#if REACTOR_HAS(IP_MULTICAST_ALL)
constexpr int ipv6_multicast_all = 29;  // linux/in6.h, which some C libraries leave out
#endif
constexpr std::size_t most_failures_kept = 64;  // that wait to be reported

}  // namespace

// ── beginning and end ──

DatagramEndpoint& DatagramEndpoint::open(Reactor& reactor, Socket socket, std::unique_ptr<DatagramProtocol> protocol,
                                         const DatagramOptions& options) {
    return open(reactor, std::move(socket), std::move(protocol), options, nullptr);
}

DatagramEndpoint& DatagramEndpoint::open(Reactor& reactor, Socket socket, std::unique_ptr<DatagramProtocol> protocol,
                                         const DatagramOptions& options, ConnectionGroup* group) {
    if (protocol == nullptr) throw std::invalid_argument("DatagramEndpoint::open: there is no protocol");
    if (Internals(reactor).datagrams() == nullptr) Internals(reactor).datagrams() = std::make_unique<Workspace>();
    const int descriptor = socket.get();
    std::unique_ptr<DatagramEndpoint> made(new DatagramEndpoint(std::move(socket), std::move(protocol), options));
    DatagramEndpoint& endpoint = *made;
    if (group != nullptr) endpoint.membership_ = std::make_unique<Membership>(*group, endpoint);
    auto& space = static_cast<Workspace&>(*Internals(reactor).datagrams());
    // One input buffer for all the sockets of the loop, as large as the largest batch: only one of them receives at a
    // time.
    space.make_room(endpoint.options_.batch, endpoint.options_.largest);
    endpoint.registration_ = reactor.adopt(descriptor, Interest::readable, std::move(made));
    if (group != nullptr) ++group->workspace->connections;
    endpoint.trigger(Interest::readable);  // opened() comes from the loop
    return endpoint;
}

DatagramEndpoint::DatagramEndpoint(Socket socket, std::unique_ptr<DatagramProtocol> protocol,
                                   const DatagramOptions& options)
    : protocol_(std::move(protocol)), socket_(std::move(socket)), options_(options) {
    // Asked of the kernel, because the socket may be anyone's: inherited, or made by another library.
    const SocketKind kind = socket_.kind();
    if (kind == SocketKind::stream)
        throw std::system_error(std::make_error_code(std::errc::wrong_protocol_type),
                                "DatagramEndpoint: a stream socket has no datagrams");
    packets_ = kind == SocketKind::sequenced_packets;
    const Address local = socket_.local();
    family_ = local.family();
    port_ = local.port();
    connected_ = socket_.peer().family() != Address::Family::none;
    const bool udp = family_ == Address::Family::ipv4 || family_ == Address::Family::ipv6;
    options_.largest = std::clamp<std::size_t>(options_.largest, 1, over_unix() ? largest_of_others : largest_of_udp);
    options_.descriptors = std::min(options_.descriptors, control_messages::most_descriptors);
    if (!over_unix()) options_.descriptors = 0;
    const std::size_t fitting = std::max<std::size_t>(input_room / stride_of(options_.largest), 1);
    options_.batch = std::clamp<std::size_t>(options_.batch, 1, std::min(most_batch, fitting));
#if !REACTOR_HAS(RECVMMSG)
    options_.batch = 1;
#endif
    // Packets have an end to look for behind each, and descriptors an owner before the next system call.
    if (packets_ || options_.descriptors > 0) options_.batch = 1;
    if (options_.descriptors > 0) descriptors_ = std::make_unique<FileDescriptor[]>(options_.descriptors);
    if (over_unix()) socket_.set_accepts_descriptors(options_.descriptors > 0);

    // A kernel that does not know one of these is no reason not to receive.
    [[maybe_unused]] const auto accepted = [&](int level, int option, int value) {
        return ::setsockopt(socket_.get(), level, option, &value, sizeof value) == 0;
    };
    if (family_ == Address::Family::ipv4) {
#if REACTOR_HAS(IP_PKTINFO)
        // On a machine with several addresses it is the only way to answer from the one that was asked.
        accepted(IPPROTO_IP, IP_PKTINFO, 1);
#endif
    } else if (family_ == Address::Family::ipv6) {
#if REACTOR_HAS(IPV6_PKTINFO)
        accepted(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
#endif
#if REACTOR_HAS(ERROR_QUEUE)
        error_queue_ = accepted(IPPROTO_IPV6, IPV6_RECVERR, 1);
#endif
#if REACTOR_HAS(IP_MULTICAST_ALL)
        accepted(IPPROTO_IPV6, ipv6_multicast_all, 0);
#endif
    }
    // An IPv6 socket may carry IPv4 too, and has IPv4's options then. Without IP_RECVERR Linux (seen in 6.18) drops an
    // ICMP error for a mapped address, whatever IPV6_RECVERR is. Its error queue is one for both.
    if (udp) {
#if REACTOR_HAS(ERROR_QUEUE)
        error_queue_ = accepted(IPPROTO_IP, IP_RECVERR, 1) || error_queue_;
#endif
#if REACTOR_HAS(IP_MULTICAST_ALL)
        // Linux's default is 1: a socket bound to any address receives from every group that some other process has
        // joined (ip(7)).
        accepted(IPPROTO_IP, IP_MULTICAST_ALL, 0);
#endif
    }
#if REACTOR_HAS(UDP_SEGMENT)
    if (udp && options_.batch > 1) {
        int size = 0;
        socklen_t length = sizeof size;
        // Asked and not set: the size of the pieces goes with each call. A kernel before 4.18 does not know the option.
        // With UDP_GRO a batch comes as one long datagram, so it is for those alone that have room for the longest.
        segments_ = ::getsockopt(socket_.get(), IPPROTO_UDP, UDP_SEGMENT, &size, &length) == 0;
        if (segments_ && options_.largest >= largest_of_udp) accepted(IPPROTO_UDP, UDP_GRO, 1);
    }
#endif
    attach(*protocol_, this);
}

DatagramEndpoint::~DatagramEndpoint() {
    // Before the members, which a protocol's destructor may still ask by its transport.
    protocol_.reset();
}

void DatagramEndpoint::finish(std::error_code reason) noexcept {
    if (over_) return;
    over_ = true;
    reason_ = reason;
    if (membership_ != nullptr) membership_->group->note_unsent(queued_);
    output_.clear();
    queued_ = 0;
    registration_.reset();
}

// From here on nothing asks for the loop: its workspace may be gone.
void DatagramEndpoint::retired() {
    if (membership_ != nullptr) membership_->group->note_end(reason_);
    protocol_->closed(reason_);
}

const Workspace* DatagramEndpoint::shares() const noexcept {
    return membership_ == nullptr ? nullptr : membership_->group->workspace;
}

const ConnectionGroup* DatagramEndpoint::group() const noexcept {
    return membership_->group.get();
}

void DatagramEndpoint::lost(std::error_code reason) {
    finish(reason);
}

void DatagramEndpoint::close() {
    if (over_ || closing_) return;
    // Inside its own call, the datagrams that were sent before close() have not left yet.
    if (workspace().owner == this) {
        closing_ = true;  // gathered datagrams leave when the callback returns
        return;
    }
    flush_queue();
    finish({});
}

// ── calling the protocol ──

void DatagramEndpoint::callback_failed(Workspace& space) noexcept {
    close_descriptors();
    space.end();
    finish(Error::exception);
}

void DatagramEndpoint::leave_callback(Workspace& space) {
    if (!over_) flush_gathered(space);
    space.end();
    if (over_ || !closing_) return;
    flush_queue();
    finish({});
}

void DatagramEndpoint::tell_refused(const Address& to, std::error_code error) {
    ++counters_.refused;
    call([&] { protocol_->refused(to, error); });
}

void DatagramEndpoint::tell_failures() {
    // A call may send again, and fail again: that failure is for the next iteration, or this would not end.
    const std::vector<Failure> failures = std::exchange(failures_, {});
    for (const Failure& failure : failures)
        if (!over_) tell_refused(failure.to, failure.error);
}

void DatagramEndpoint::tell_draining() {
    if (fresh_) return close();  // it has not even begun
    if (over_ || closing_ || std::exchange(told_of_drain_, true)) return;
    call([this] { protocol_->draining(); });
}

// The call comes from the loop, which calls writable() for it.
void DatagramEndpoint::note_failure(const Address& to, std::error_code error) noexcept {
    try {
        if (failures_.size() < most_failures_kept) failures_.push_back({to, error});
    } catch (const std::bad_alloc&) {
        ++counters_.refused;  // only the counter reports it
    }
    update_interest();
}

void DatagramEndpoint::update_interest() noexcept {
    if (over_) return;
    Interest wanted = Interest::none;
    if (fresh_ || !paused_) wanted |= Interest::readable;
    if (!output_.empty() || !failures_.empty()) wanted |= Interest::writable;
    // Packets have a connection, which may be reset while nothing is wanted: it has to be noticed.
    if (wanted == Interest::none && packets_ && !hung_up_) wanted = Interest::error;
    if (wanted != registration_.interest()) registration_.set_interest(wanted);
}

// As Connection::error: of packets, while nothing is received or sent. A hang-up alone waits with the input before it.
void DatagramEndpoint::error() {
    if (const std::error_code reason = socket_.pending_error()) return finish(reason);
    hung_up_ = true;
    update_interest();
}

void DatagramEndpoint::trigger(Interest ready) noexcept {
    try {
        registration_.trigger(ready);
    } catch (const std::bad_alloc&) {
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
}

// ── binding ──

std::vector<Socket> bind_datagrams(std::string_view host, std::uint16_t port,
                                   const std::function<void(Socket&)>& prepare) {
    return bind_everywhere(resolve_blocking(host, port), [&](const Address& address) {
        Socket socket = Socket::open(address.family(), SocketKind::datagram);
        if (address.family() == Address::Family::ipv6) socket.set_v6_only(true);
        if (prepare) prepare(socket);
        bind_replacing(socket, address);
        return socket;
    });
}

}  // namespace reactor
