// The ordinary way of a datagram is readable → receive_batch → deliver_batch → received → send → flush_gathered:
// one recvmmsg and one sendmmsg for all that had come, nothing allocated, nothing copied if the answer is a piece of
// the input.
#include <reactor/net/datagram.hpp>

#include <reactor/error.hpp>
#include <reactor/net/bind_everywhere.hpp>
#include <reactor/net/socket_file.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#ifdef __linux__
#include <linux/errqueue.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

namespace reactor {

namespace {

#ifdef MSG_NOSIGNAL
constexpr int send_flags = MSG_NOSIGNAL;  // a packet socket whose peer is gone: EPIPE, not a signal
#else
constexpr int send_flags = 0;
#endif
#ifdef MSG_CMSG_CLOEXEC
constexpr int receive_flags = MSG_CMSG_CLOEXEC;
#else
constexpr int receive_flags = 0;
#endif

#ifdef __linux__
using Message = ::mmsghdr;
#else
struct Message {
    msghdr msg_hdr;
    unsigned msg_len;
};
#endif

constexpr std::size_t most_batch = 64;
constexpr std::size_t most_descriptors = 253;     // SCM_MAX_FD, unix(7)
constexpr std::size_t output_room = 256 * 1024;   // answers that leave together and are no piece of the input
constexpr std::size_t most_failures = 64;         // that wait to be told
constexpr int most_refusals = 64;                 // that are told in one turn

// What leaves in pieces (UDP_SEGMENT): no piece larger than the least that fits the links of today with IPv6's heads, all
// of them no more than IP can say the length of.
constexpr std::size_t largest_piece = 1452;
constexpr std::size_t most_in_pieces = 65'000;
// What may come in pieces (UDP_GRO).
constexpr std::size_t most_coalesced = 65'535;

// Slots side by side whose addresses differ by a power of two would meet in the same lines of the cache.
constexpr std::size_t stride_of(std::size_t largest) noexcept { return (largest + 63) / 64 * 64 + 5 * 64; }

std::error_code last_error() noexcept { return {errno, std::system_category()}; }

bool would_block(const std::error_code& error) noexcept {
    return error == std::errc::operation_would_block || error == std::errc::resource_unavailable_try_again;
}

bool out_of_room(const std::error_code& error) noexcept {
    return error == std::errc::no_buffer_space || error == std::errc::not_enough_memory;
}

bool peer_is_gone(const std::error_code& error) noexcept {
    return error == std::errc::broken_pipe || error == std::errc::connection_reset || error == std::errc::not_connected;
}

// Not a word on any datagram, but on the kernel or the link that was to cut it up.
[[maybe_unused]] bool cannot_segment(const std::error_code& error) noexcept {
    return error == std::errc::invalid_argument || error == std::errc::io_error || error == std::errc::message_size ||
           error == std::errc::not_supported || error == std::errc::operation_not_supported;
}

bool same(const Address& a, const Address& b) noexcept {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

[[maybe_unused]] bool same(const Route& a, const Route& b) noexcept {
    return same(a.to, b.to) && a.interface == b.interface && same(a.from, b.from);
}

template <class Kind>
Address address_of(const Kind& filled) noexcept {
    return Address(reinterpret_cast<const sockaddr*>(&filled), sizeof filled);
}

Address ipv4_address(const in_addr& host, std::uint16_t port) noexcept {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr = host;
    address.sin_port = htons(port);
    return address_of(address);
}

Address ipv6_address(const in6_addr& host, std::uint16_t port, unsigned interface) noexcept {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = host;
    address.sin6_port = htons(port);
    if (IN6_IS_ADDR_LINKLOCAL(&host) || IN6_IS_ADDR_MC_LINKLOCAL(&host)) address.sin6_scope_id = interface;
    return address_of(address);
}

// Of family none also where an Address cannot hold it.
Address sender_of(const msghdr& header) noexcept {
    try {
        return Address(static_cast<const sockaddr*>(header.msg_name), header.msg_namelen);
    } catch (const std::system_error&) {
        return {};
    }
}

template <class Value>
Value value_in(const cmsghdr* control) noexcept {
    Value value{};
    std::memcpy(&value, CMSG_DATA(control), sizeof value);
    return value;
}

template <class Value>
void put_control(msghdr& header, int level, int type, const Value& value) noexcept {
    auto* const control = reinterpret_cast<cmsghdr*>(static_cast<char*>(header.msg_control) + header.msg_controllen);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(control), &value, sizeof value);
    header.msg_controllen += CMSG_SPACE(sizeof value);
}

// Has the peer of a packet socket closed? Reading 0 bytes says so, and an empty packet says the same.
bool at_end(int descriptor) noexcept {
#ifdef POLLRDHUP
    pollfd entry{descriptor, POLLRDHUP, 0};
    if (::poll(&entry, 1, 0) >= 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0) return false;
#endif
    std::byte first;
    return ::recv(descriptor, &first, 1, MSG_PEEK) == 0;
}

}  // namespace

struct DatagramEndpoint::Outgoing {
    Bytes data;
    Route route;
};

// Both lie in queues as bytes.
static_assert(std::is_trivially_copyable_v<Route> && std::is_trivially_copyable_v<Datagram>);

struct DatagramEndpoint::Failure {
    Address to;
    std::error_code error;
};

// What the endpoints of a loop share: only one of them is in its protocol, or in a system call, at a time.
struct DatagramEndpoint::Workspace final : Reactor::Workspace {
    // Of one message of a system call.
    struct Slot {
        iovec piece;  // these two of incoming ones only
        sockaddr_storage name;
        alignas(cmsghdr) std::array<char, 128> control;
    };

    std::unique_ptr<std::byte[]> input;
    std::size_t input_size = 0;
    std::array<Message, most_batch> incoming{};
    std::array<Slot, most_batch> incoming_slots;
    std::size_t prepared_for = 0;           // the length of datagram that the slots are laid out for
    std::size_t stale = most_batch;         // so many of them the kernel has written to since
    alignas(cmsghdr) std::array<char, CMSG_SPACE(most_descriptors * sizeof(int))> descriptor_control;

    std::array<Message, most_batch> leaving{};
    std::array<Slot, most_batch> leaving_slots;
    std::array<iovec, most_batch> pieces;
    std::array<std::size_t, most_batch> ends;  // which is the last piece of each message, and one more
    std::array<Outgoing, most_batch> waiting;  // the front of a queue

    const DatagramEndpoint* owner = nullptr;  // whose protocol is being called
    std::array<Outgoing, most_batch> gathered;  // sent in this call: in `output`, or still where it was received
    std::size_t gathered_count = 0;
    std::unique_ptr<std::byte[]> output{new std::byte[output_room]};
    std::size_t output_used = 0;

    // What begins in there ends in there.
    bool in_input(Bytes data) const noexcept {
        const auto begin = reinterpret_cast<std::uintptr_t>(input.get());
        return reinterpret_cast<std::uintptr_t>(data.data()) - begin < input_size;
    }
    void end() noexcept {
        owner = nullptr;
        gathered_count = output_used = 0;
    }
    void make_room(std::size_t batch, std::size_t largest) {
        if (const std::size_t size = batch * stride_of(largest); size > input_size) {
            input.reset(new std::byte[size]);
            input_size = size;
            prepared_for = 0;
        }
    }
    // Lays out `count` slots, if they are not still so from the last time.
    void prepare(std::size_t count, std::size_t largest) noexcept {
        if (prepared_for != largest) {
            prepared_for = largest;
            stale = most_batch;
        }
        for (std::size_t index = 0; index < std::min(stale, count); ++index) {
            Slot& slot = incoming_slots[index];
            msghdr& header = incoming[index].msg_hdr;
            slot.piece = {input.get() + index * stride_of(largest), largest};
            header.msg_name = &slot.name;
            header.msg_namelen = sizeof slot.name;
            header.msg_iov = &slot.piece;
            header.msg_iovlen = 1;
            header.msg_control = slot.control.data();
            header.msg_controllen = slot.control.size();
            header.msg_flags = 0;
        }
        if (count >= stale) stale = 0;
    }
};

inline DatagramEndpoint::Workspace& DatagramEndpoint::workspace() const noexcept {
    return static_cast<Workspace&>(*registration_.reactor().datagram_workspace());
}

// ── beginning and end ──

DatagramEndpoint& DatagramEndpoint::open(Reactor& reactor, Socket socket, std::unique_ptr<DatagramProtocol> protocol,
                                         const DatagramOptions& options) {
    if (reactor.datagram_workspace() == nullptr) reactor.datagram_workspace() = std::make_unique<Workspace>();
    const int descriptor = socket.get();
    std::unique_ptr<DatagramEndpoint> made(new DatagramEndpoint(std::move(socket), std::move(protocol), options));
    DatagramEndpoint& endpoint = *made;
    auto& space = static_cast<Workspace&>(*reactor.datagram_workspace());
    space.make_room(endpoint.options_.batch, endpoint.options_.largest);
    endpoint.registration_ = reactor.adopt(descriptor, Interest::readable, std::move(made));
    endpoint.trigger(Interest::readable);  // opened() comes from the loop
    return endpoint;
}

DatagramEndpoint::DatagramEndpoint(Socket socket, std::unique_ptr<DatagramProtocol> protocol,
                                   const DatagramOptions& options)
    : protocol_(std::move(protocol)), socket_(std::move(socket)), options_(options) {
    const SocketKind kind = socket_.kind();
    if (kind == SocketKind::stream)
        throw std::system_error(std::make_error_code(std::errc::wrong_protocol_type),
                                "DatagramEndpoint: a stream socket has no datagrams");
    packets_ = kind == SocketKind::sequenced_packets;
    const Address local = socket_.local();
    family_ = local.family();
    port_ = local.port();
    connected_ = socket_.peer().family() != Address::Family::none;
    options_.largest = std::max<std::size_t>(options_.largest, 1);
    options_.descriptors = std::min(options_.descriptors, most_descriptors);
    if (family_ != Address::Family::unix_domain) options_.descriptors = 0;
    options_.batch = std::clamp<std::size_t>(options_.batch, 1, most_batch);
    options_.receives_per_turn = std::max<std::size_t>(options_.receives_per_turn, 1);
#ifndef __linux__
    options_.batch = 1;
#endif
    // Packets have an end to look for behind each, and descriptors an owner before the next system call.
    if (packets_ || options_.descriptors > 0) options_.batch = 1;
    if (options_.descriptors > 0) descriptors_ = std::make_unique<FileDescriptor[]>(options_.descriptors);
    if (options_.broadcast) socket_.set_broadcast(true);
    if (options_.receive_buffer > 0) socket_.set_receive_buffer(options_.receive_buffer);
    if (options_.send_buffer > 0) socket_.set_send_buffer(options_.send_buffer);

    // Both are told of where the kernel can: a kernel that cannot is no reason not to receive.
    [[maybe_unused]] const int on = 1;
    [[maybe_unused]] const auto enabled = [&](int level, int option) {
        return ::setsockopt(socket_.get(), level, option, &on, sizeof on) == 0;
    };
    if (family_ == Address::Family::ipv4) {
#ifdef IP_PKTINFO
        if (options_.arrival) enabled(IPPROTO_IP, IP_PKTINFO);
#endif
#ifdef IP_RECVERR
        error_queue_ = enabled(IPPROTO_IP, IP_RECVERR);
#endif
    } else if (family_ == Address::Family::ipv6) {
#ifdef IPV6_RECVPKTINFO
        if (options_.arrival) enabled(IPPROTO_IPV6, IPV6_RECVPKTINFO);
#endif
#ifdef IPV6_RECVERR
        error_queue_ = enabled(IPPROTO_IPV6, IPV6_RECVERR);
#endif
    }
#ifdef UDP_SEGMENT
    if (family_ != Address::Family::unix_domain && options_.batch > 1) {
        int size = 0;
        socklen_t length = sizeof size;
        segments_ = ::getsockopt(socket_.get(), IPPROTO_UDP, UDP_SEGMENT, &size, &length) == 0;
        if (segments_ && options_.largest >= most_coalesced) enabled(IPPROTO_UDP, UDP_GRO);
    }
#endif
    attach(*protocol_, this);
}

DatagramEndpoint::~DatagramEndpoint() { protocol_.reset(); }

void DatagramEndpoint::finish(std::error_code reason) noexcept {
    if (over_) return;
    over_ = true;
    reason_ = reason;
    output_.clear();
    queued_ = 0;
    registration_.reactor().retire(registration_);
}

// From here on nothing asks for the loop: its workspace may be gone.
void DatagramEndpoint::retired() { protocol_->closed(reason_); }

void DatagramEndpoint::lost(std::error_code reason) { finish(reason); }

void DatagramEndpoint::close() {
    if (over_ || closing_) return;
    if (workspace().owner == this) {
        closing_ = true;  // what is gathered leaves when the callback returns
        return;
    }
    flush_queue();
    finish({});
}

// ── receiving ──

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
    for (std::size_t left = options_.receives_per_turn; left > 0;) {
        const std::size_t wanted = std::min(options_.batch, left);
        std::error_code error;
        const std::size_t count = receive_batch(space, wanted, error);
        if (count == 0) {
            if (!would_block(error)) return receiving_failed(error);
            // Ready, and nothing there: then what made it so is an error that somebody's send has met already.
            if (left == options_.receives_per_turn) drain_error_queue();
            return;
        }
        left -= std::min(left, deliver_batch(space, count));
        if (over_ || paused_ || count < wanted) return;
    }
}

// How many came, of at most `wanted`; if none, why.
std::size_t DatagramEndpoint::receive_batch(Workspace& space, std::size_t wanted, std::error_code& error) {
    space.prepare(wanted, options_.largest);
    ssize_t count = 0;
#ifdef __linux__
    if (wanted > 1) {
        do {
            count = ::recvmmsg(socket_.get(), space.incoming.data(), unsigned(wanted), receive_flags, nullptr);
        } while (count < 0 && errno == EINTR);
        if (count < 0 && errno == ENOSYS) {
            options_.batch = wanted = 1;
            count = 0;
        }
    }
#endif
    if (wanted == 1) {
        msghdr& header = space.incoming[0].msg_hdr;
        if (options_.descriptors > 0) {
            header.msg_control = space.descriptor_control.data();
            // To the byte: in what CMSG_SPACE adds for alignment the kernel would put one more.
            header.msg_controllen = CMSG_LEN(options_.descriptors * sizeof(int));
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
    space.stale = std::max(space.stale, std::size_t(std::max<ssize_t>(count, 1)));
    return std::size_t(std::max<ssize_t>(count, 0));
}

// How many datagrams they were.
std::size_t DatagramEndpoint::deliver_batch(Workspace& space, std::size_t count) {
    const std::uint64_t before = counters_.received;
    space.owner = this;
    try {
        for (std::size_t index = 0; index < count && !over_ && !closing_; ++index) {
            const Message& message = space.incoming[index];
            Datagram datagram;
            datagram.data = {static_cast<const std::byte*>(message.msg_hdr.msg_iov->iov_base), message.msg_len};
            datagram.sender = sender_of(message.msg_hdr);
            datagram.truncated = (message.msg_hdr.msg_flags & MSG_TRUNC) != 0;
            std::size_t piece = 0;
            if (message.msg_hdr.msg_controllen > 0) piece = take_control(space.incoming[index].msg_hdr, datagram);
            datagram.descriptors_truncated =
                options_.descriptors > 0 && (message.msg_hdr.msg_flags & MSG_CTRUNC) != 0;
            if (packets_ && message.msg_len == 0 && datagram.descriptors.empty() && at_end(socket_.get())) {
                finish(broken_);
                break;
            }
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
        callback_failed(space);
        throw;
    }
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
#ifdef IP_PKTINFO
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
            const auto info = value_in<in_pktinfo>(control);
            datagram.destination = ipv4_address(info.ipi_addr, port_);
            datagram.local = ipv4_address(info.ipi_spec_dst, port_);
            datagram.interface = unsigned(info.ipi_ifindex);
        }
#endif
#ifdef IPV6_PKTINFO
        if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
            const auto info = value_in<in6_pktinfo>(control);
            datagram.interface = unsigned(info.ipi6_ifindex);
            datagram.destination = ipv6_address(info.ipi6_addr, port_, datagram.interface);
            if (!IN6_IS_ADDR_MULTICAST(&info.ipi6_addr)) datagram.local = datagram.destination;
        }
#endif
#ifdef UDP_GRO
        if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO)
            piece = std::size_t(std::max(value_in<int>(control), 0));
#endif
        if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS) {
            const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (std::size_t index = 0; index < count; ++index) {
                int number = -1;
                std::memcpy(&number, CMSG_DATA(control) + index * sizeof number, sizeof number);
                FileDescriptor descriptor(number);
#ifndef MSG_CMSG_CLOEXEC
                ::fcntl(number, F_SETFD, FD_CLOEXEC);
#endif
                if (descriptor_count_ < options_.descriptors) descriptors_[descriptor_count_++] = std::move(descriptor);
            }
            datagram.descriptors = {descriptors_.get(), descriptor_count_};
        }
    }
    return piece;
}

void DatagramEndpoint::close_descriptors() noexcept {
    while (descriptor_count_ > 0) descriptors_[--descriptor_count_].reset();
}

void DatagramEndpoint::receiving_failed(std::error_code error) {
    if (packets_ && broken_) return finish(broken_);
    // A network that is gone or answers so is one datagram's misfortune; this is the socket's.
    if (packets_ || error == std::errc::bad_file_descriptor || error == std::errc::not_a_socket ||
        error == std::errc::invalid_argument)
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
    if (!kept_.empty()) trigger(Interest::readable);
}

// Paused in mid-batch: the kernel has given away what follows already.
void DatagramEndpoint::keep(const Datagram& datagram) noexcept {
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

// ── calling the protocol ──

template <class Call>
void DatagramEndpoint::call(Call&& protocol_call) {
    Workspace& space = workspace();
    space.owner = this;
    try {
        protocol_call();
    } catch (...) {
        callback_failed(space);
        throw;
    }
    leave_callback(space);
}

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
    const std::vector<Failure> failures = std::exchange(failures_, {});
    for (const Failure& failure : failures)
        if (!over_) tell_refused(failure.to, failure.error);
}

// Tells what the network said of datagrams sent earlier. False if it was nothing.
bool DatagramEndpoint::drain_error_queue() {
#ifdef __linux__
    bool told = false;
    for (int count = 0; error_queue_ && count < most_refusals && !over_; ++count) {
        sockaddr_storage to{};
        alignas(cmsghdr) std::array<char, 512> control;
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
            // What this machine itself had against it the send has returned.
            if (error.ee_origin != SO_EE_ORIGIN_ICMP && error.ee_origin != SO_EE_ORIGIN_ICMP6) continue;
            told = true;
            tell_refused(sender_of(header), std::error_code(int(error.ee_errno), std::system_category()));
            break;
        }
    }
    return told;
#else
    return false;
#endif
}

// ── sending ──

bool DatagramEndpoint::send(const Route& route, Bytes data) {
    if (over_ || closing_) return false;
    Workspace& space = workspace();
    if (output_.empty() && space.owner == this) {
        if (space.gathered_count == options_.batch) flush_gathered(space);
        const bool copied = !space.in_input(data);
        if (copied && data.size() > output_room - space.output_used) flush_gathered(space);
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
    const std::uint64_t before = counters_.dropped;
    send_all({&one, 1});
    return counters_.dropped == before;
}

bool DatagramEndpoint::send_descriptors(const Route& route, Bytes data, std::span<const int> descriptors) {
    if (over_ || closing_) return false;
    if (workspace().owner == this) flush_gathered(workspace());
    if (!output_.empty()) {
        ++counters_.dropped;
        return false;
    }
    if (family_ != Address::Family::unix_domain || descriptors.size() > most_descriptors) {
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
        header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* const entry = CMSG_FIRSTHDR(&header);
        entry->cmsg_level = SOL_SOCKET;
        entry->cmsg_type = SCM_RIGHTS;
        entry->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(entry), descriptors.data(), descriptors.size_bytes());
    }
    ssize_t count = 0;
    do {
        count = ::sendmsg(socket_.get(), &header, send_flags);
    } while (count < 0 && errno == EINTR);
    if (count >= 0) {
        ++counters_.sent;
        return true;
    }
    const std::error_code error = last_error();
    if (would_block(error) || out_of_room(error)) {
        ++counters_.dropped;
        return false;
    }
    note_failure(route.to, error);
    return true;
}

// One system call. How many it took; if none, why.
std::size_t DatagramEndpoint::send_some(std::span<Outgoing> batch, std::error_code& error) noexcept {
    Workspace& space = workspace();
    const std::size_t count = std::min(batch.size(), options_.batch);
    std::size_t messages = 0;
    for (std::size_t index = 0; index < count; ++messages) {
        const std::size_t first = index;
        const Outgoing& one = batch[first];
        std::size_t together = 0;
        do {
            const Bytes data = batch[index].data;
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
#ifdef UDP_SEGMENT
        if (index - first > 1) put_control(header, IPPROTO_UDP, UDP_SEGMENT, std::uint16_t(one.data.size()));
#endif
        if (header.msg_controllen == 0) header.msg_control = nullptr;
    }
    ssize_t sent = 0;
    do {
#ifdef __linux__
        if (messages > 1) {
            sent = ::sendmmsg(socket_.get(), space.leaving.data(), unsigned(messages), send_flags);
            if (sent < 0 && errno == ENOSYS) {
                options_.batch = 1;
                segments_ = false;
                return send_some(batch, error);
            }
            continue;
        }
#endif
        sent = ::sendmsg(socket_.get(), &space.leaving[0].msg_hdr, send_flags) < 0 ? -1 : 1;
    } while (sent < 0 && errno == EINTR);
    if (sent > 0) return space.ends[std::size_t(sent) - 1];
    error = last_error();
    if (space.ends[0] == 1 || !cannot_segment(error)) return 0;
    segments_ = false;
    return send_some(batch, error);
}

// Can the kernel cut the two apart again? All pieces but the last have one size.
bool DatagramEndpoint::belongs_to_one(const Outgoing& first, const Outgoing& before, const Outgoing& next,
                                      std::size_t together) noexcept {
    const std::size_t size = first.data.size();
    return before.data.size() == size && next.data.size() <= size && !next.data.empty() && size <= largest_piece &&
           together + next.data.size() <= most_in_pieces && same(first.route, next.route);
}

// Where it is to leave from, if that was said.
void DatagramEndpoint::put_source([[maybe_unused]] msghdr& header, const Route& route) const noexcept {
    if (route.from.family() != family_ && route.interface == 0) return;
#ifdef IP_PKTINFO
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
#ifdef IPV6_PKTINFO
    if (family_ == Address::Family::ipv6) {
        in6_pktinfo info{};
        if (route.from.family() == family_) {
            sockaddr_in6 from{};
            std::memcpy(&from, route.from.data(), sizeof from);
            info.ipi6_addr = from.sin6_addr;
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
    std::error_code earlier;  // what the first try of this one said
    while (done < batch.size()) {
        std::error_code error;
        const std::size_t sent = send_some(batch.subspan(done), error);
        if (sent > 0) {
            if (earlier && !error_queue_) note_failure({}, earlier);
            earlier.clear();
            counters_.sent += sent;
            done += sent;
        } else if (would_block(error) && waits_for_room()) {
            break;
        } else if (would_block(error) || out_of_room(error)) {
            ++counters_.dropped;
            earlier.clear();
            ++done;
        } else if (packets_ && peer_is_gone(error)) {
            // What it sent before may still be there to be read; behind that comes the end.
            if (!broken_) broken_ = error;
            return batch.size();
        } else if (!earlier) {
            // What came back of an earlier datagram is returned by the next send, whatever that is; so once more.
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
    for (const Outgoing& one : batch.subspan(send_until_blocked(batch))) queue(one);
}

void DatagramEndpoint::flush_gathered(Workspace& space) noexcept {
    const std::size_t count = std::exchange(space.gathered_count, 0);
    if (count > 0) send_all({space.gathered.data(), count});
    space.output_used = 0;
}

bool DatagramEndpoint::queue(const Outgoing& one) noexcept {
    Outgoing head = one;
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
    wants_room_ = false;
    call([this] { protocol_->resume_sending(); });
}

// It is told by the loop, which calls writable() for it.
void DatagramEndpoint::note_failure(const Address& to, std::error_code error) noexcept {
    try {
        if (failures_.size() < most_failures) failures_.push_back({to, error});
    } catch (const std::bad_alloc&) {
        ++counters_.refused;  // told by the counter alone
    }
    update_interest();
}

void DatagramEndpoint::update_interest() noexcept {
    if (over_) return;
    Interest wanted = Interest::none;
    if (fresh_ || !paused_) wanted |= Interest::readable;
    if (!output_.empty() || !failures_.empty()) wanted |= Interest::writable;
    if (wanted != registration_.interest()) registration_.set_interest(wanted);
}

void DatagramEndpoint::trigger(Interest ready) noexcept {
    try {
        registration_.trigger(ready);
    } catch (const std::bad_alloc&) {
        finish(std::make_error_code(std::errc::not_enough_memory));
    }
}

// ── binding ──

std::vector<Socket> bind_datagrams(std::string_view host, std::uint16_t port, const DatagramOptions& options) {
    return bind_everywhere(resolve_blocking(host, port), [&](const Address& address) {
        Socket socket = Socket::open(address.family(), SocketKind::datagram);
        if (options.reuse_address && address.family() != Address::Family::unix_domain) socket.set_reuse_address(true);
        if (options.reuse_port && address.family() != Address::Family::unix_domain) socket.set_reuse_port(true);
        if (address.family() == Address::Family::ipv6) socket.set_v6_only(true);
        bind_replacing(socket, address);
        return socket;
    });
}

}  // namespace reactor
