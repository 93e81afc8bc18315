#include "kernel.hpp"

#include "../support/c_library.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <deque>
#include <span>
#include <type_traits>
#include <utility>

namespace simulation {

Kernel* Kernel::current_ = nullptr;

// ── what a descriptor stands for ──

struct Kernel::File {
    virtual ~File() = default;
    virtual short ready() const = 0;
};

struct Kernel::Event final : File {
    short ready() const override { return short(count > 0 ? POLLIN | POLLOUT : POLLOUT); }
    std::uint64_t count = 0;
};

struct Kernel::Null final : File {
    short ready() const override { return POLLIN | POLLOUT; }
};

struct Kernel::Listener final : File {
    short ready() const override { return waiting.empty() ? 0 : POLLIN; }
    Address address;
    std::deque<StreamPointer> waiting;
    std::size_t room = 0;
    bool open = true;
};

struct Kernel::Stream final : File {
    enum class State { fresh, connecting, connected, dead };

    short ready() const override {
        short bits = short(error != 0 ? POLLERR : 0);
        switch (state) {
            case State::fresh: return POLLOUT | POLLHUP;
            case State::connecting: return bits;
            case State::dead: return short(bits | POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
            case State::connected: break;
        }
        if (!input.empty() || input_ended) bits = short(bits | POLLIN);
        if (input_ended) bits = short(bits | POLLRDHUP);
        if (output_shut || (capacity - on_the_way) * 3 >= capacity) bits = short(bits | POLLOUT);
        if (output_shut && input_ended) bits = short(bits | POLLHUP);
        return bits;
    }

    State state = State::fresh;
    Address local, remote;
    StreamPointer peer;  // of a connected one, until both are closed
    std::string input;
    bool input_ended = false;  // the peer's end of stream has arrived
    bool output_shut = false;
    bool resets_on_close = false;
    bool closed = false;       // no descriptor stands for it any more
    bool cut = false;          // the bytes it sent that have not arrived are lost
    int error = 0;             // SO_ERROR
    std::size_t capacity = 1;  // bytes that may be on the way to the peer, or waiting there
    std::size_t on_the_way = 0;
    TimePoint last_arrival{};  // at the peer: later bytes do not overtake
};

// A UDP socket.
struct Kernel::Mailbox final : File {
    struct Letter {
        Address from;
        std::string text;
    };
    struct Refusal {
        Address to;
        int error;
    };

    short ready() const override {
        short bits = short(error != 0 || !refusals.empty() ? POLLERR : 0);
        if (!input.empty()) bits = short(bits | POLLIN);
        if (on_the_way * 2 <= capacity) bits = short(bits | POLLOUT);
        return bits;
    }

    Address local, remote;  // the latter of a connected one
    std::deque<Letter> input;
    std::size_t input_size = 0;
    std::deque<Refusal> refusals;  // its error queue
    bool keeps_refusals = false;   // IP_RECVERR
    bool tells_arrival = false;    // IP_PKTINFO
    bool closed = false;
    int error = 0;             // SO_ERROR
    std::size_t capacity = 1;  // of the input and the bytes on the way
    std::size_t on_the_way = 0;
};

struct Kernel::Epoll final : File {
    short ready() const override {
        return std::any_of(watches.begin(), watches.end(), [](const auto& entry) { return entry.second.ready(); })
                   ? POLLIN
                   : short(0);
    }
    struct Watch {
        bool ready() const {
            const auto watched = file.lock();
            return watched != nullptr && (watched->ready() & short(event.events | POLLERR | POLLHUP)) != 0;
        }
        std::weak_ptr<File> file;
        epoll_event event;
    };
    std::map<int, Watch> watches;
};

// ── the simulation itself ──

namespace {

// The control messages beside a message; none if the caller has no room for them.
template <class Value>
void put_control(msghdr& message, bool wanted, int level, int type, const Value& value) {
    if (!wanted || message.msg_controllen < CMSG_SPACE(sizeof value)) {
        message.msg_controllen = 0;
        return;
    }
    cmsghdr* const control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(control), &value, sizeof value);
    message.msg_controllen = CMSG_SPACE(sizeof value);
}

}  // namespace

Kernel::Kernel(Dice& dice, const Weather& weather) : dice_(dice), weather_(weather) {
    current_ = this;
}

Kernel::~Kernel() {
    current_ = nullptr;
    // Two ends hold each other, also when both are closed.
    events_.clear();
    for (const auto& made : streams_)
        if (const StreamPointer stream = made.lock()) stream->peer.reset();
}

void Kernel::at(Duration from_now, std::function<void()> event) {
    events_.emplace(std::pair{now_ + from_now, ++event_count_}, std::move(event));
}

void Kernel::fail(std::string what) {
    if (!failure_.empty()) return;
    failure_ = std::move(what);
    trace("failed");
    if (on_failure) on_failure();
}

void Kernel::trace(const char* what, long long a, long long b) {
    for (const long long value : {a, b, static_cast<long long>(now_.time_since_epoch().count())})
        digest_ = (digest_ ^ std::uint64_t(value)) * 1099511628211u;
    for (const char* character = what; *character != '\0'; ++character)
        digest_ = (digest_ ^ std::uint64_t(static_cast<unsigned char>(*character))) * 1099511628211u;
    if (traced)
        std::fprintf(stderr, "%14.6f ms  %s %lld %lld\n",
                     double(now_.time_since_epoch().count() - 3'600'000'000'000) / 1e6, what, a, b);
}

// The beginning of every call: it takes time, and other threads go on meanwhile.
void Kernel::called(const char* call, long long a) {
    now_ += Duration(std::int64_t(dice_.between(50, 1000)));
    trace(call, a);
    if (in_hook_ || !on_call) return;
    in_hook_ = true;
    on_call();
    in_hook_ = false;
}

long long Kernel::answered(long long result) {
    trace("  =", result);
    return result;
}

int Kernel::refused(int error) {
    trace("  refused", error);
    errno = error;
    return -1;
}

// A call on a number that is not open is a fault of the library: the number may belong to another file by then.
std::shared_ptr<Kernel::File> Kernel::find(int descriptor, const char* call) {
    const auto found = table_.find(descriptor);
    if (found != table_.end()) return found->second;
    fail(std::string(call) + " on descriptor " + std::to_string(descriptor) + ", which is not open");
    return nullptr;
}

template <class Kind>
std::shared_ptr<Kind> Kernel::find_as(int descriptor, const char* call) {
    const auto file = find(descriptor, call);
    if (file == nullptr) {
        errno = EBADF;
        return nullptr;
    }
    auto result = std::dynamic_pointer_cast<Kind>(file);
    if (result == nullptr) {
        fail(std::string(call) + " on descriptor " + std::to_string(descriptor) + ", which is of another kind");
        errno = ENOTSOCK;
    }
    return result;
}

int Kernel::open(std::shared_ptr<File> file, std::size_t most) {
    if (table_.size() >= most) return refused(EMFILE);
    int number = first_descriptor;  // the lowest one free, as POSIX has it
    for (const auto& [taken, other] : table_) {
        if (taken != number) break;
        ++number;
    }
    table_.emplace(number, std::move(file));
    note_progress();
    return int(answered(number));
}

bool Kernel::is_socket(const File& file) {
    return dynamic_cast<const Stream*>(&file) != nullptr || dynamic_cast<const Mailbox*>(&file) != nullptr;
}

// ── making and closing ──

Kernel::StreamPointer Kernel::make_stream() {
    auto stream = std::make_shared<Stream>();
    streams_.push_back(stream);
    const std::size_t spread = weather_.largest_buffer - weather_.smallest_buffer;
    stream->capacity = weather_.smallest_buffer + std::size_t(dice_.magnitude(spread));
    return stream;
}

int Kernel::make_socket(bool for_datagrams) {
    called("socket");
    if (dice_.chance(weather_.starved)) return refused(dice_.chance(500) ? ENFILE : ENOBUFS);
    if (for_datagrams) {
        auto box = std::make_shared<Mailbox>();
        box->capacity = weather_.smallest_buffer + std::size_t(dice_.magnitude(weather_.largest_buffer));
        return open(std::move(box), weather_.most_descriptors);
    }
    return open(make_stream(), weather_.most_descriptors);
}

// The loop itself is set up in good weather. Its errors are exceptions, which other tests cover.
int Kernel::make_event() {
    called("eventfd");
    return open(std::make_shared<Event>(), SIZE_MAX);
}

int Kernel::make_null() {
    called("open");
    return open(std::make_shared<Null>(), weather_.most_descriptors);
}

int Kernel::make_epoll() {
    called("epoll_create1");
    return open(std::make_shared<Epoll>(), SIZE_MAX);
}

int Kernel::close(int descriptor) {
    called("close", descriptor);
    const auto file = find(descriptor, "close");
    if (file == nullptr) return refused(EBADF);
    table_.erase(descriptor);
    note_progress();
    // epoll forgets a file with its last descriptor: epoll(7).
    for (auto& [number, other] : table_)
        if (auto* epoll = dynamic_cast<Epoll*>(other.get())) epoll->watches.erase(descriptor);
    if (auto stream = std::dynamic_pointer_cast<Stream>(file)) close_stream(stream);
    if (auto* box = dynamic_cast<Mailbox*>(file.get())) {
        box->closed = true;
        mailboxes_.erase(box->local);
        post_.lost += box->input.size() + box->refusals.size();
    }
    if (auto* listener = dynamic_cast<Listener*>(file.get())) {
        listener->open = false;
        listeners_.erase(listener->address);
        for (const auto& waiting : listener->waiting) {
            waiting->resets_on_close = true;
            close_stream(waiting);
        }
    }
    if (dice_.chance(weather_.interrupted)) return refused(EINTR);  // closed nevertheless
    return 0;
}

void Kernel::close_stream(const StreamPointer& stream) {
    stream->closed = true;
    if (stream->state != Stream::State::connected) {
        stream->state = Stream::State::dead;
        return;
    }
    // RFC 1122, 4.2.2.13: closing with unread input resets.
    if (stream->resets_on_close || !stream->input.empty()) {
        stream->cut = stream->resets_on_close;
        send_reset(stream);
        stream->state = Stream::State::dead;
    } else if (!stream->output_shut) {
        stream->output_shut = true;
        send_end(stream);
    }
}

int Kernel::bind(int descriptor, const Address& address) {
    called("bind", descriptor);
    if (const auto box = std::dynamic_pointer_cast<Mailbox>(find(descriptor, "bind"))) {
        box->local = address.with_port(next_port_++);
        mailboxes_[box->local] = box;
        return 0;
    }
    const auto stream = find_as<Stream>(descriptor, "bind");
    if (stream == nullptr) return -1;
    stream->local = address.port() == 0 ? address.with_port(next_port_++) : address;
    if (listeners_.contains(stream->local)) return refused(EADDRINUSE);
    return 0;
}

int Kernel::listen(int descriptor, int backlog) {
    called("listen", descriptor);
    const auto stream = find_as<Stream>(descriptor, "listen");
    if (stream == nullptr) return -1;
    auto listener = std::make_shared<Listener>();
    listener->address = stream->local;
    listener->room = std::size_t(backlog) + 1;
    listeners_[listener->address] = listener;
    table_[descriptor] = listener;
    return 0;
}

// ── connections ──

int Kernel::connect(int descriptor, const Address& address) {
    called("connect", descriptor);
    if (const auto box = std::dynamic_pointer_cast<Mailbox>(find(descriptor, "connect"))) {
        box->remote = address;
        return 0;
    }
    const auto stream = find_as<Stream>(descriptor, "connect");
    if (stream == nullptr) return -1;
    if (dice_.chance(weather_.unreachable)) return refused(dice_.chance(500) ? ENETUNREACH : EADDRNOTAVAIL);
    if (stream->local.family() == Address::Family::none)
        stream->local = *Address::ip(address.family() == Address::Family::ipv6 ? "::1" : "127.0.0.1", next_port_++);
    stream->remote = address;
    stream->state = Stream::State::connecting;
    note_progress();
    if (!dice_.chance(weather_.silent))
        at(dice_.delay(weather_.longest_delay), [this, stream, address] { let_connect(stream, address); });
    return refused(dice_.chance(weather_.interrupted) ? EINTR : EINPROGRESS);
}

// connect(2) to no address (AF_UNSPEC): tcp_disconnect() in the kernel resets a connection, whatever still holds its
// socket.
int Kernel::disconnect(int descriptor) {
    called("disconnect", descriptor);
    const auto stream = find_as<Stream>(descriptor, "connect");
    if (stream == nullptr) return -1;
    note_progress();
    if (stream->state == Stream::State::connected) {
        stream->cut = true;
        send_reset(stream);
    }
    stream->state = Stream::State::dead;
    stream->input.clear();
    return 0;
}

// A SYN arrives.
void Kernel::let_connect(const StreamPointer& client, const Address& address) {
    if (client->closed) return;
    const auto found = listeners_.find(address);
    const auto listener = found == listeners_.end() ? nullptr : found->second.lock();
    if (listener == nullptr || !listener->open) {
        at(dice_.delay(weather_.longest_delay), [this, client] { reset(*client, ECONNREFUSED); });
        return;
    }
    if (listener->waiting.size() >= listener->room) {  // dropped; the client's TCP tries again
        at(std::chrono::seconds(1), [this, client, address] { let_connect(client, address); });
        return;
    }
    const StreamPointer server = make_stream();
    server->local = address;
    server->remote = client->local;
    server->state = Stream::State::connected;
    server->peer = client;
    client->peer = server;
    arrive(server, dice_.delay(weather_.longest_delay), [this, client, server] {
        if (client->closed) return send_reset(client);
        client->state = Stream::State::connected;
    });
    listener->waiting.push_back(server);
}

int Kernel::accept(int descriptor, Address& peer) {
    called("accept4", descriptor);
    const auto listener = find_as<Listener>(descriptor, "accept4");
    if (listener == nullptr) return -1;
    if (listener->waiting.empty() || dice_.chance(weather_.spurious)) return refused(EAGAIN);
    if (dice_.chance(weather_.interrupted)) return refused(EINTR);
    if (dice_.chance(weather_.starved)) return refused(dice_.chance(500) ? ENOMEM : ENFILE);
    if (dice_.chance(weather_.accept_fails)) {
        note_progress();
        const StreamPointer gone = listener->waiting.front();
        listener->waiting.pop_front();
        gone->resets_on_close = true;
        close_stream(gone);
        constexpr int errors[] = {ECONNABORTED, EPROTO, EHOSTUNREACH, ENETDOWN, EPERM};
        return refused(errors[dice_.below(std::size(errors))]);
    }
    const StreamPointer stream = listener->waiting.front();
    const int number = open(stream, weather_.most_descriptors);
    if (number < 0) return number;
    listener->waiting.pop_front();
    peer = stream->remote;
    return number;
}

// Something on its way from `from` to its peer; nothing overtakes.
void Kernel::arrive(const StreamPointer& from, Duration delay, std::function<void()> what) {
    from->last_arrival = std::max(now_ + delay, from->last_arrival);
    events_.emplace(std::pair{from->last_arrival, ++event_count_}, std::move(what));
}

void Kernel::send_end(const StreamPointer& stream) {
    arrive(stream, dice_.delay(weather_.longest_delay), [stream] {
        if (!stream->cut) stream->peer->input_ended = true;
    });
}

void Kernel::send_reset(const StreamPointer& stream) {
    arrive(stream, dice_.delay(weather_.longest_delay), [this, stream] {
        Stream& peer = *stream->peer;
        reset(peer, peer.input_ended ? EPIPE : ECONNRESET);
    });
}

// Bytes that arrived before it can still be read: tcp_reset() in the kernel leaves the receive queue alone.
void Kernel::reset(Stream& stream, int error) {
    if (stream.state == Stream::State::dead) return;
    stream.state = Stream::State::dead;
    stream.cut = true;
    if (!stream.closed) stream.error = error;
}

ssize_t Kernel::send(int descriptor, std::string_view data) {
    called("send", descriptor);
    const auto stream = find_as<Stream>(descriptor, "send");
    if (stream == nullptr) return -1;
    if (data.empty()) fail("no system call is made to send nothing");
    if (stream->error != 0) return refused(std::exchange(stream->error, 0));
    if (stream->state == Stream::State::dead || stream->output_shut) return refused(EPIPE);
    if (stream->state != Stream::State::connected) return refused(ENOTCONN);
    if (dice_.chance(weather_.interrupted)) return refused(EINTR);
    const std::size_t room = stream->capacity - stream->on_the_way;
    if (room == 0 || dice_.chance(weather_.spurious)) return refused(EAGAIN);
    std::size_t size = std::min(data.size(), room);
    if (dice_.chance(weather_.partial)) size = 1 + std::size_t(dice_.magnitude(size - 1));
    stream->on_the_way += size;
    note_progress();
    arrive(stream, dice_.delay(weather_.longest_delay), [this, stream, text = std::string(data.substr(0, size))] {
        if (stream->cut) return;
        const StreamPointer peer = stream->peer;
        if (peer->state == Stream::State::dead) return;
        if (dice_.chance(weather_.reset)) {
            trace("the network cuts a connection");
            stream->cut = peer->cut = true;
            reset(*stream, dice_.chance(500) ? ETIMEDOUT : ECONNRESET);
            return reset(*peer, ECONNRESET);
        }
        if (peer->closed) return send_reset(peer);
        peer->input += text;
    });
    return answered(static_cast<long long>(size));
}

ssize_t Kernel::receive(int descriptor, void* into, std::size_t size) {
    called("recv", descriptor);
    const auto stream = find_as<Stream>(descriptor, "recv");
    if (stream == nullptr) return -1;
    if (dice_.chance(weather_.interrupted)) return refused(EINTR);
    if (stream->input.empty()) {
        if (stream->error != 0) return refused(std::exchange(stream->error, 0));
        if (stream->state == Stream::State::dead || stream->input_ended) return answered(0);
        return refused(stream->state == Stream::State::connected ? EAGAIN : ENOTCONN);
    }
    if (dice_.chance(weather_.spurious)) return refused(EAGAIN);
    std::size_t count = std::min(size, stream->input.size());
    if (dice_.chance(weather_.partial)) count = 1 + std::size_t(dice_.magnitude(count - 1));
    std::memcpy(into, stream->input.data(), count);
    stream->input.erase(0, count);
    note_progress();
    const StreamPointer sender = stream->peer;
    at(dice_.delay(weather_.longest_delay), [sender, count] { sender->on_the_way -= count; });
    return answered(static_cast<long long>(count));
}

int Kernel::shut_down(int descriptor) {
    called("shutdown", descriptor);
    const auto stream = find_as<Stream>(descriptor, "shutdown");
    if (stream == nullptr) return -1;
    if (stream->state != Stream::State::connected) return refused(ENOTCONN);
    if (stream->output_shut) return 0;
    stream->output_shut = true;
    note_progress();
    send_end(stream);
    return 0;
}

int Kernel::pending_error(int descriptor, int& error) {
    called("getsockopt", descriptor);
    const auto stream = find_as<Stream>(descriptor, "getsockopt");
    if (stream == nullptr) return -1;
    error = std::exchange(stream->error, 0);
    return 0;
}

int Kernel::set_linger(int descriptor, bool resets) {
    called("setsockopt", descriptor);
    const auto stream = find_as<Stream>(descriptor, "setsockopt");
    if (stream == nullptr) return -1;
    stream->resets_on_close = resets;
    return 0;
}

int Kernel::check_socket(int descriptor) {
    called("setsockopt", descriptor);
    return find(descriptor, "setsockopt") == nullptr ? refused(EBADF) : 0;
}

int Kernel::name(int descriptor, bool of_peer, Address& address) {
    called(of_peer ? "getpeername" : "getsockname", descriptor);
    const auto file = find(descriptor, "getsockname");
    if (const auto* listener = dynamic_cast<Listener*>(file.get())) {
        address = listener->address;
        return of_peer ? refused(ENOTCONN) : 0;
    }
    if (const auto* box = dynamic_cast<Mailbox*>(file.get())) {
        address = of_peer ? box->remote : box->local;
        return address.family() == Address::Family::none ? refused(ENOTCONN) : 0;
    }
    const auto stream = find_as<Stream>(descriptor, "getsockname");
    if (stream == nullptr) return -1;
    if (of_peer && stream->state != Stream::State::connected) return refused(ENOTCONN);
    address = of_peer ? stream->remote : stream->local;
    return 0;
}

// ── datagrams ──

bool Kernel::is_mailbox(int descriptor) const {
    const auto found = table_.find(descriptor);
    return found != table_.end() && dynamic_cast<const Mailbox*>(found->second.get()) != nullptr;
}

int Kernel::kind_of(int descriptor, int& kind) {
    called("getsockopt", descriptor);
    if (find(descriptor, "getsockopt") == nullptr) return refused(EBADF);
    kind = is_mailbox(descriptor) ? SOCK_DGRAM : SOCK_STREAM;
    return 0;
}

// Some kernels know UDP_SEGMENT.
int Kernel::cuts_up(int descriptor) {
    called("getsockopt", descriptor);
    if (find(descriptor, "getsockopt") == nullptr) return refused(EBADF);
    return dice_.chance(500) ? 0 : refused(ENOPROTOOPT);
}

int Kernel::set_option(int descriptor, int level, int option) {
    called("setsockopt", descriptor);
    const auto box = find_as<Mailbox>(descriptor, "setsockopt");
    if (box == nullptr) return -1;
    if (level == IPPROTO_IP && option == IP_RECVERR) box->keeps_refusals = true;
    if (level == IPPROTO_IP && option == IP_PKTINFO) box->tells_arrival = true;
    return 0;
}

ssize_t Kernel::send(int descriptor, const msghdr& message) {
    called("sendmsg", descriptor);
    const auto box = find_as<Mailbox>(descriptor, "sendmsg");
    const ssize_t size = box == nullptr ? -1 : send_datagram(box, message);
    return size < 0 ? -1 : answered(size);
}

int Kernel::send(int descriptor, mmsghdr* messages, unsigned count) {
    called("sendmmsg", descriptor);
    const auto box = find_as<Mailbox>(descriptor, "sendmmsg");
    if (box == nullptr) return -1;
    for (unsigned done = 0; done < count; ++done) {
        if (done > 0 && dice_.chance(weather_.partial / 4)) return int(answered(done));
        if (send_datagram(box, messages[done].msg_hdr) < 0) return done > 0 ? int(answered(done)) : -1;
    }
    return int(answered(count));
}

ssize_t Kernel::send_datagram(const MailboxPointer& box, const msghdr& message) {
    // The error of an earlier datagram is returned first, and once.
    if (box->error != 0) return refused(std::exchange(box->error, 0));
    std::string text;
    for (const iovec& part : std::span(message.msg_iov, std::size_t(message.msg_iovlen)))
        text.append(static_cast<const char*>(part.iov_base), part.iov_len);
    const Address to = message.msg_name == nullptr
                           ? box->remote
                           : Address(static_cast<const sockaddr*>(message.msg_name), message.msg_namelen);
    if (to.family() == Address::Family::none) return refused(EDESTADDRREQ);
    std::size_t piece = std::max<std::size_t>(text.size(), 1);
    for (const cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
         control = CMSG_NXTHDR(const_cast<msghdr*>(&message), const_cast<cmsghdr*>(control))) {
        if (control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_SEGMENT) continue;
        std::uint16_t size = 0;
        std::memcpy(&size, CMSG_DATA(control), sizeof size);
        piece = size;
        if (piece == 0 || text.size() > 64 * piece)
            fail("a datagram is to be cut into more pieces than the kernel makes");
        if (dice_.chance(20)) return refused(EIO);  // the link cannot
    }
    if (to.host() == no_host) return refused(ENETUNREACH);
    if (text.size() > 65'507) return refused(EMSGSIZE);
    if (dice_.chance(weather_.interrupted)) return refused(EINTR);
    if (dice_.chance(weather_.starved)) return refused(dice_.chance(500) ? ENOBUFS : ENOMEM);
    if (box->on_the_way >= box->capacity || dice_.chance(weather_.spurious)) return refused(EAGAIN);
    note_progress();
    for (std::size_t place = 0; place == 0 || place < text.size(); place += piece)
        carry(box, to, text.substr(place, piece));
    return ssize_t(text.size());
}

// Each goes its own way.
void Kernel::carry(const MailboxPointer& box, const Address& to, std::string text) {
    const std::size_t weight = text.size() + 1;
    ++post_.sent;
    box->on_the_way += weight;
    at(dice_.delay(weather_.longest_delay), [this, box, to, weight, text = std::move(text)] {
        box->on_the_way -= weight;
        if (dice_.chance(weather_.lost)) {
            ++post_.lost;
        } else {
            deliver(box, to, text);
        }
    });
}

void Kernel::deliver(const MailboxPointer& sender, const Address& to, std::string text) {
    const auto found = mailboxes_.find(to);
    const MailboxPointer receiver = found == mailboxes_.end() ? nullptr : found->second.lock();
    if (receiver != nullptr) {
        if (receiver->input_size >= receiver->capacity) {
            ++post_.lost;
            return;
        }
        receiver->input_size += text.size() + 1;
        receiver->input.push_back({sender->local, std::move(text)});
        return;
    }
    at(dice_.delay(weather_.longest_delay), [this, sender, to] {
        if (sender->closed || !sender->keeps_refusals) {
            ++post_.lost;
            return;
        }
        sender->error = ECONNREFUSED;
        sender->refusals.push_back({to, ECONNREFUSED});
    });
}

ssize_t Kernel::receive(int descriptor, msghdr& message, int flags) {
    called("recvmsg", descriptor);
    const auto box = find_as<Mailbox>(descriptor, "recvmsg");
    if (box == nullptr) return -1;
    const bool refusal = (flags & MSG_ERRQUEUE) != 0;
    const ssize_t size = refusal ? receive_refusal(*box, message) : receive_datagram(*box, message);
    return size < 0 ? -1 : answered(size);
}

int Kernel::receive(int descriptor, mmsghdr* messages, unsigned count) {
    called("recvmmsg", descriptor);
    const auto box = find_as<Mailbox>(descriptor, "recvmmsg");
    if (box == nullptr) return -1;
    for (unsigned done = 0; done < count; ++done) {
        if (done > 0 && (box->input.empty() || dice_.chance(weather_.partial / 4))) return int(answered(done));
        const ssize_t size = receive_datagram(*box, messages[done].msg_hdr);
        if (size < 0) return done > 0 ? int(answered(done)) : -1;
        messages[done].msg_len = unsigned(size);
    }
    return int(answered(count));
}

ssize_t Kernel::receive_datagram(Mailbox& box, msghdr& message) {
    if (box.error != 0) return refused(std::exchange(box.error, 0));
    if (dice_.chance(weather_.interrupted)) return refused(EINTR);
    if (box.input.empty() || dice_.chance(weather_.spurious)) return refused(EAGAIN);
    const Mailbox::Letter letter = std::move(box.input.front());
    box.input.pop_front();
    box.input_size -= letter.text.size() + 1;
    note_progress();
    ++post_.read;
    const std::size_t size = std::min(letter.text.size(), message.msg_iov[0].iov_len);
    std::memcpy(message.msg_iov[0].iov_base, letter.text.data(), size);
    message.msg_flags = size < letter.text.size() ? MSG_TRUNC : 0;
    std::memcpy(message.msg_name, letter.from.data(), letter.from.size());
    message.msg_namelen = socklen_t(letter.from.size());
    in_pktinfo arrival{};
    sockaddr_in local{};
    std::memcpy(&local, box.local.data(), sizeof local);
    arrival.ipi_addr = arrival.ipi_spec_dst = local.sin_addr;
    arrival.ipi_ifindex = 1;
    put_control(message, box.tells_arrival, IPPROTO_IP, IP_PKTINFO, arrival);
    return ssize_t(size);
}

// The next refusal is the socket's error again: sock_dequeue_err_skb() in the kernel.
ssize_t Kernel::receive_refusal(Mailbox& box, msghdr& message) {
    if (box.refusals.empty()) return refused(EAGAIN);
    const Mailbox::Refusal refusal = box.refusals.front();
    box.refusals.pop_front();
    ++post_.refused;
    box.error = box.refusals.empty() ? 0 : box.refusals.front().error;
    note_progress();
    std::memcpy(message.msg_name, refusal.to.data(), refusal.to.size());
    message.msg_namelen = socklen_t(refusal.to.size());
    message.msg_flags = MSG_ERRQUEUE;
    sock_extended_err error{};
    error.ee_errno = std::uint32_t(refusal.error);
    error.ee_origin = SO_EE_ORIGIN_ICMP;
    put_control(message, true, IPPROTO_IP, IP_RECVERR, error);
    return 0;
}

ssize_t Kernel::read_event(int descriptor, void* into, std::size_t size) {
    called("read", descriptor);
    const auto event = find_as<Event>(descriptor, "read");
    if (event == nullptr) return -1;
    if (dice_.chance(weather_.interrupted)) return refused(EINTR);
    if (event->count == 0) return refused(EAGAIN);
    if (size < sizeof event->count) return refused(EINVAL);
    std::memcpy(into, &event->count, sizeof event->count);
    event->count = 0;
    note_progress();
    return answered(sizeof event->count);
}

ssize_t Kernel::write(int descriptor, const void* from, std::size_t size) {
    if (std::dynamic_pointer_cast<Stream>(find(descriptor, "write")) == nullptr)
        return write_event(descriptor, from, size);
    return send(descriptor, {static_cast<const char*>(from), size});
}

// Now and then a kernel has no way from this file to that socket.
int Kernel::give_entropy(void* buffer, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) static_cast<unsigned char*>(buffer)[i] = std::uint8_t(dice_.below(256));
    return 0;
}

bool Kernel::cannot_send_files() {
    if (!dice_.chance(50)) return false;
    errno = EINVAL;
    return true;
}

ssize_t Kernel::write_event(int descriptor, const void* from, std::size_t size) {
    called("write", descriptor);
    const auto event = find_as<Event>(descriptor, "write");
    if (event == nullptr) return -1;
    if (dice_.chance(weather_.interrupted)) return refused(EINTR);
    std::uint64_t add = 0;
    std::memcpy(&add, from, std::min(size, sizeof add));
    event->count += add;
    note_progress();
    return answered(sizeof add);
}

// ── waiting ──

int Kernel::control(int epoll_number, int operation, int descriptor, const epoll_event* event) {
    called("epoll_ctl", descriptor);
    const auto epoll = find_as<Epoll>(epoll_number, "epoll_ctl");
    if (epoll == nullptr) return -1;
    const auto file = find(descriptor, "epoll_ctl");
    if (file == nullptr) return refused(EBADF);
    if (file == epoll) return refused(EINVAL);  // no set takes itself
    note_progress();
    const auto watch = epoll->watches.find(descriptor);
    if (operation == EPOLL_CTL_DEL) {
        if (watch == epoll->watches.end()) return refused(ENOENT);
        epoll->watches.erase(watch);
        return 0;
    }
    if (operation == EPOLL_CTL_ADD) {
        if (watch != epoll->watches.end()) return refused(EEXIST);
        if (is_socket(*file) && dice_.chance(weather_.starved)) return refused(dice_.chance(500) ? ENOMEM : ENOSPC);
        epoll->watches[descriptor] = {file, *event};
        return 0;
    }
    if (watch == epoll->watches.end()) return refused(ENOENT);
    watch->second.event = *event;
    return 0;
}

// The conditions of one file: the wanted ones, and those that are always reported. Sockets are sometimes reported ready
// although they are not.
short Kernel::condition(const std::shared_ptr<File>& file, short wanted) {
    const short told = short(wanted | POLLERR | POLLHUP);
    short bits = short(file->ready() & told);
    if (bits == 0 && is_socket(*file) && dice_.chance(weather_.spurious / 4)) bits = short(wanted & (POLLIN | POLLOUT));
    return bits;
}

void Kernel::run_due() {
    while (!events_.empty() && events_.begin()->first.first <= now_) {
        const std::function<void()> event = std::move(events_.begin()->second);
        events_.erase(events_.begin());
        note_progress();
        event();
    }
}

void Kernel::note_turn() {
    idle_turns_ = progress_ == progress_seen_ ? idle_turns_ + 1 : 0;
    progress_seen_ = progress_;
    if (idle_turns_ > 100) fail("the loop spins");
}

// Looks, and sleeps until there is something to see or the time is up.
template <class Collect>
int Kernel::wait_for(std::optional<Duration> limit, Collect collect) {
    const TimePoint end = limit ? reactor::deadline_after(now_, *limit) : TimePoint::max();
    for (;;) {
        run_due();
        if (const int count = collect(); count != 0) return int(answered(count));
        if (now_ >= end) return int(answered(0));
        if (dice_.chance(weather_.interrupted)) return refused(EINTR);
        if (events_.empty() && end == TimePoint::max()) {
            fail("the loop waits for ever");
            return refused(EINTR);
        }
        TimePoint next = end;
        if (!events_.empty()) next = std::min(next, events_.begin()->first.first);
        if (dice_.chance(weather_.jump)) next += dice_.delay(std::chrono::hours(1));
        note_progress();
        slept_ += next - now_;
        now_ = next;
    }
}

int Kernel::wait(int epoll_number, epoll_event* events, int room, std::optional<Duration> limit) {
    called("epoll_wait");
    const auto epoll = find_as<Epoll>(epoll_number, "epoll_wait");
    if (epoll == nullptr) return -1;
    // The kernel promises no order, and gives no more than there is room for.
    const int most = dice_.chance(100) ? int(1 + dice_.below(8)) : room;
    return wait_for(limit, [&, this] {
        std::vector<epoll_event> found;
        for (const auto& [descriptor, watch] : epoll->watches) {
            const auto file = watch.file.lock();
            const short bits = file == nullptr ? short(0) : condition(file, short(watch.event.events));
            if (bits == 0) continue;
            found.push_back(watch.event);
            found.back().events = std::uint32_t(bits);
        }
        const auto count = std::min(found.size(), std::size_t(std::min(most, room)));
        for (std::size_t i = 0; i < count; ++i) {
            std::swap(found[i], found[i + std::size_t(dice_.below(found.size() - i))]);
            events[i] = found[i];
        }
        return int(count);
    });
}

int Kernel::poll(pollfd* watched, nfds_t count, std::optional<Duration> limit) {
    called("poll");
    return wait_for(limit, [&, this] {
        int ready = 0;
        for (nfds_t i = 0; i < count; ++i) {
            const auto file = table_.find(watched[i].fd);
            watched[i].revents = file == table_.end() ? short(POLLNVAL) : condition(file->second, watched[i].events);
            ready += int(watched[i].revents != 0);
        }
        return ready;
    });
}

int Kernel::select(int count, fd_set* readable, fd_set* writable, fd_set* exceptional, std::optional<Duration> limit) {
    called("pselect");
    using Word = unsigned long;
    constexpr std::size_t bits = 8 * sizeof(Word);
    const std::size_t words = (std::size_t(count) + bits - 1) / bits;
    fd_set* const sets[] = {readable, writable, exceptional};
    std::vector<Word> wanted[3];
    for (std::size_t set = 0; set < 3; ++set) {
        wanted[set].assign(words, Word(0));
        if (sets[set] == nullptr) continue;
        const auto* memory = reinterpret_cast<const Word*>(sets[set]);
        wanted[set].assign(memory, memory + words);
    }
    const auto wants = [&](std::size_t set, std::size_t descriptor) {
        return (wanted[set][descriptor / bits] >> (descriptor % bits) & 1) != 0;
    };
    for (std::size_t descriptor = 0; descriptor < std::size_t(count); ++descriptor)
        if ((wants(0, descriptor) || wants(1, descriptor) || wants(2, descriptor)) && !table_.contains(int(descriptor)))
            return refused(EBADF);
    return wait_for(limit, [&, this] {
        int ready = 0;
        for (fd_set* const set : sets)
            if (set != nullptr) std::fill_n(reinterpret_cast<Word*>(set), words, Word(0));
        for (const auto& [number, file] : table_) {
            const auto descriptor = std::size_t(number);
            if (number >= count) break;
            const bool wants_read = wants(0, descriptor), wants_write = wants(1, descriptor);
            const short asked = short((wants_read ? POLLIN : 0) | (wants_write ? POLLOUT : 0));
            if (asked == 0) continue;
            const short found = condition(file, asked);
            const bool tell[] = {wants_read && (found & (POLLIN | POLLHUP | POLLERR)) != 0,
                                 wants_write && (found & (POLLOUT | POLLERR)) != 0};
            for (std::size_t set = 0; set < 2; ++set) {
                if (!tell[set]) continue;
                reinterpret_cast<Word*>(sets[set])[descriptor / bits] |= Word(1) << (descriptor % bits);
                ++ready;
            }
        }
        return ready;
    });
}

}  // namespace simulation

// ── the C library's calls ──

namespace {

using simulation::Kernel;

template <class Function>
Function* real(const char* name) {
    return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

std::optional<reactor::Duration> limit_of(const timespec* time) {
    if (time == nullptr) return std::nullopt;
    return std::chrono::seconds(time->tv_sec) + std::chrono::nanoseconds(time->tv_nsec);
}

std::optional<reactor::Duration> limit_of(int milliseconds) {
    if (milliseconds < 0) return std::nullopt;
    return std::chrono::milliseconds(milliseconds);
}

void give_out(const reactor::Address& address, sockaddr* into, socklen_t* length) {
    std::memcpy(into, address.data(), std::min<std::size_t>(*length, address.size()));
    *length = socklen_t(address.size());
}

}  // namespace

// Hands a call on to the C library.
#define REAL(name, ...)                                          \
    do {                                                         \
        static auto* const next = real<decltype(::name)>(#name); \
        return next(__VA_ARGS__);                                \
    } while (false)

extern "C" {

int socket(int domain, int type, int protocol) noexcept(in_glibc) {
    constexpr int kinds = 0xf;  // the other bits are flags
    if (auto* kernel = Kernel::current()) return kernel->make_socket((type & kinds) == SOCK_DGRAM);
    REAL(socket, domain, type, protocol);
}

int eventfd(unsigned count, int flags) noexcept(in_glibc) {
    if (auto* kernel = Kernel::current()) return kernel->make_event();
    REAL(eventfd, count, flags);
}

int epoll_create1(int flags) noexcept(in_glibc) {
    if (auto* kernel = Kernel::current()) return kernel->make_epoll();
    REAL(epoll_create1, flags);
}

int open(const char* path, int flags, ...) {
    if (auto* kernel = Kernel::current(); kernel != nullptr && std::strcmp(path, "/dev/null") == 0)
        return kernel->make_null();
    va_list arguments;
    va_start(arguments, flags);
    const auto mode = va_arg(arguments, mode_t);
    va_end(arguments);
    REAL(open, path, flags, mode);
}

// A simulated descriptor is open, close-on-exec and non-blocking: the library asks for nothing else, and changes
// nothing.
int fcntl(int descriptor, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void* const argument = va_arg(arguments, void*);
    va_end(arguments);
    if (Kernel::simulates(descriptor)) {
        if (command == F_GETFL) return O_RDWR | O_NONBLOCK;
        return command == F_GETFD ? FD_CLOEXEC : 0;
    }
    REAL(fcntl, descriptor, command, argument);
}

int close(int descriptor) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->close(descriptor);
    REAL(close, descriptor);
}

int bind(int descriptor, const sockaddr* address, socklen_t length) noexcept(in_glibc) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->bind(descriptor, reactor::Address(address, length));
    REAL(bind, descriptor, address, length);
}

int listen(int descriptor, int backlog) noexcept(in_glibc) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->listen(descriptor, backlog);
    REAL(listen, descriptor, backlog);
}

int accept4(int descriptor, sockaddr* address, socklen_t* length, int flags) {
    if (Kernel::simulates(descriptor)) {
        reactor::Address peer;
        const int accepted = Kernel::current()->accept(descriptor, peer);
        if (accepted >= 0) give_out(peer, address, length);
        return accepted;
    }
    REAL(accept4, descriptor, address, length, flags);
}

int connect(int descriptor, const sockaddr* address, socklen_t length) {
    if (Kernel::simulates(descriptor) && address->sa_family == AF_UNSPEC)
        return Kernel::current()->disconnect(descriptor);
    if (Kernel::simulates(descriptor)) return Kernel::current()->connect(descriptor, reactor::Address(address, length));
    REAL(connect, descriptor, address, length);
}

ssize_t send(int descriptor, const void* data, size_t size, int flags) {
    if (Kernel::simulates(descriptor))
        return Kernel::current()->send(descriptor, {static_cast<const char*>(data), size});
    REAL(send, descriptor, data, size, flags);
}

ssize_t sendmsg(int descriptor, const msghdr* message, int flags) {
    if (Kernel::simulates(descriptor)) {
        if (Kernel::current()->is_mailbox(descriptor)) return Kernel::current()->send(descriptor, *message);
        std::string together;
        for (const iovec& part : std::span(message->msg_iov, std::size_t(message->msg_iovlen)))
            together.append(static_cast<const char*>(part.iov_base), part.iov_len);
        return Kernel::current()->send(descriptor, together);
    }
    REAL(sendmsg, descriptor, message, flags);
}

int getentropy(void* buffer, size_t size) {
    if (auto* kernel = Kernel::current()) return kernel->give_entropy(buffer, size);
    REAL(getentropy, buffer, size);
}

// Of a file that is none of the simulation's.
ssize_t sendfile(int to, int from, off_t* offset, size_t size) noexcept(in_glibc) {
    if (Kernel::simulates(to)) {
        if (Kernel::current()->cannot_send_files()) return -1;
        std::string piece(size, '\0');
        const ssize_t count = ::pread(from, piece.data(), size, *offset);
        if (count <= 0) return count;
        const ssize_t sent = Kernel::current()->send(to, std::string_view(piece).substr(0, std::size_t(count)));
        if (sent > 0) *offset += sent;
        return sent;
    }
    REAL(sendfile, to, from, offset, size);
}

int sendmmsg(int descriptor, mmsghdr* messages, unsigned count, MessageFlags flags) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->send(descriptor, messages, count);
    REAL(sendmmsg, descriptor, messages, count, flags);
}

ssize_t recvmsg(int descriptor, msghdr* message, int flags) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->receive(descriptor, *message, flags);
    REAL(recvmsg, descriptor, message, flags);
}

int recvmmsg(int descriptor, mmsghdr* messages, unsigned count, MessageFlags flags, timespec* limit) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->receive(descriptor, messages, count);
    REAL(recvmmsg, descriptor, messages, count, flags, limit);
}

int shutdown(int descriptor, int how) noexcept(in_glibc) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->shut_down(descriptor);
    REAL(shutdown, descriptor, how);
}

int getsockopt(int descriptor, int level, int name, void* value, socklen_t* length) noexcept(in_glibc) {
    if (Kernel::simulates(descriptor) && level == SOL_SOCKET && name == SO_ERROR)
        return Kernel::current()->pending_error(descriptor, *static_cast<int*>(value));
    if (Kernel::simulates(descriptor) && level == SOL_SOCKET && name == SO_PEERNAME) {
        errno = ENOTCONN;
        return -1;
    }
    if (Kernel::simulates(descriptor) && level == SOL_SOCKET && name == SO_TYPE)
        return Kernel::current()->kind_of(descriptor, *static_cast<int*>(value));
    if (Kernel::simulates(descriptor) && level == IPPROTO_UDP && name == UDP_SEGMENT)
        return Kernel::current()->cuts_up(descriptor);
    REAL(getsockopt, descriptor, level, name, value, length);
}

int setsockopt(int descriptor, int level, int name, const void* value, socklen_t length) noexcept(in_glibc) {
    if (Kernel::simulates(descriptor)) {
        if (Kernel::current()->is_mailbox(descriptor)) return Kernel::current()->set_option(descriptor, level, name);
        if (level != SOL_SOCKET || name != SO_LINGER) return Kernel::current()->check_socket(descriptor);
        const auto* linger = static_cast<const ::linger*>(value);
        return Kernel::current()->set_linger(descriptor, linger->l_onoff != 0 && linger->l_linger == 0);
    }
    REAL(setsockopt, descriptor, level, name, value, length);
}

int getsockname(int descriptor, sockaddr* address, socklen_t* length) noexcept(in_glibc) {
    if (Kernel::simulates(descriptor)) {
        reactor::Address local;
        const int result = Kernel::current()->name(descriptor, false, local);
        if (result == 0) give_out(local, address, length);
        return result;
    }
    REAL(getsockname, descriptor, address, length);
}

int getpeername(int descriptor, sockaddr* address, socklen_t* length) noexcept(in_glibc) {
    if (Kernel::simulates(descriptor)) {
        reactor::Address peer;
        const int result = Kernel::current()->name(descriptor, true, peer);
        if (result == 0) give_out(peer, address, length);
        return result;
    }
    REAL(getpeername, descriptor, address, length);
}

ssize_t read(int descriptor, void* into, size_t size) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->read_event(descriptor, into, size);
    REAL(read, descriptor, into, size);
}

ssize_t recv(int descriptor, void* into, size_t size, int flags) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->receive(descriptor, into, size);
    REAL(recv, descriptor, into, size, flags);
}

ssize_t write(int descriptor, const void* from, size_t size) {
    if (Kernel::simulates(descriptor)) return Kernel::current()->write(descriptor, from, size);
    REAL(write, descriptor, from, size);
}

int epoll_ctl(int epoll, int operation, int descriptor, epoll_event* event) noexcept(in_glibc) {
    if (Kernel::simulates(epoll)) return Kernel::current()->control(epoll, operation, descriptor, event);
    REAL(epoll_ctl, epoll, operation, descriptor, event);
}

int epoll_wait(int epoll, epoll_event* events, int room, int milliseconds) {
    if (Kernel::simulates(epoll)) return Kernel::current()->wait(epoll, events, room, limit_of(milliseconds));
    REAL(epoll_wait, epoll, events, room, milliseconds);
}

int epoll_pwait2(int epoll, epoll_event* events, int room, const timespec* time, const sigset_t* signals) {
    if (Kernel::simulates(epoll)) return Kernel::current()->wait(epoll, events, room, limit_of(time));
    REAL(epoll_pwait2, epoll, events, room, time, signals);
}

int poll(pollfd* watched, nfds_t count, int milliseconds) {
    if (auto* kernel = Kernel::current()) return kernel->poll(watched, count, limit_of(milliseconds));
    REAL(poll, watched, count, milliseconds);
}

int ppoll(pollfd* watched, nfds_t count, const timespec* time, const sigset_t* signals) {
    if (auto* kernel = Kernel::current()) return kernel->poll(watched, count, limit_of(time));
    REAL(ppoll, watched, count, time, signals);
}

int pselect(int count, fd_set* readable, fd_set* writable, fd_set* exceptional, const timespec* time,
            const sigset_t* signals) {
    if (auto* kernel = Kernel::current()) return kernel->select(count, readable, writable, exceptional, limit_of(time));
    REAL(pselect, count, readable, writable, exceptional, time, signals);
}

}  // extern "C"
