// The contract: the calls of a handler for every state that a descriptor can be in, for every interest, as one table
// that holds on every backend. A scripted demultiplexer, which is given the result of poll(2), is one more backend: so
// the reactor's own translation is tested, and not only that the kernel's three interfaces agree.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"

#include <reactor/backends/kernel_words_impl.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/testing/scripted_demultiplexer.hpp>

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/errqueue.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <sstream>
#include <thread>

using namespace reactor;

namespace {

constexpr Duration no_wait = Duration::zero();
constexpr Interest readable = Interest::readable, writable = Interest::writable, error = Interest::error;

// ── the states ──

// One descriptor in the state that a row of the table names, and the objects that keep it in that state.
struct State {
    int descriptor = -1;
    std::vector<FileDescriptor> held;
    std::function<void()> behind_the_back;  // happens to it once the loop watches it
    std::shared_ptr<void> kept;             // goes first

    void close() {
        std::erase_if(held, [&](const FileDescriptor& one) { return one.get() == descriptor; });
    }
};

template <class... Held>
State state_of(FileDescriptor watched, Held... held) {
    State state;
    state.descriptor = watched.get();
    state.held.push_back(std::move(watched));
    (state.held.push_back(std::move(held)), ...);
    return state;
}

int checked(int result) {
    REQUIRE_MESSAGE(result >= 0, std::generic_category().message(errno));
    return result;
}

// The kernel delivers over loopback before the call that sends returns, as a rule; this makes it one.
void arrived(const Socket& socket, short events) {
    pollfd entry{socket.get(), events, 0};
    REQUIRE(::poll(&entry, 1, 10'000) == 1);
}

struct Ends {
    FileDescriptor reading, writing;
};

Ends pipe_ends() {
    int ends[2];
    checked(::pipe2(ends, O_NONBLOCK | O_CLOEXEC));
    return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

void fill(int descriptor) {
    const std::string block(64 * 1024, 'x');
    for (std::size_t size = block.size(); size > 0; size /= 2)
        while (::write(descriptor, block.data(), size) > 0) {
        }
}

void put(int descriptor, std::string_view text) {
    REQUIRE(::write(descriptor, text.data(), text.size()) == ssize_t(text.size()));
}

// The socket that is watched, and the one at the other end.
using Pair = std::pair<Socket, Socket>;

State watched_of(Pair& pair) {
    return state_of(pair.first.release(), pair.second.release());
}

Pair tcp(int receive_buffer = 0) {
    Pair pair = tcp_pair(receive_buffer);
    arrived(pair.first, POLLOUT);
    return pair;
}

void reset_by_peer(Pair& pair) {
    pair.second.set_linger(std::chrono::seconds(0));
    pair.second.close();
    arrived(pair.first, POLLIN);
}

// Sent bytes stay in the kernel's buffers, because no peer reads: in the end there is no room.
void fill(Pair& pair) {
    const std::string block(64 * 1024, 'x');
    for (int quiet = 0; quiet < 3; ++quiet) {  // the receiver's kernel takes from the sender's with some delay
        while (write_some(pair.first, block) > 0) quiet = 0;
        pollfd entry{pair.first.get(), POLLOUT, 0};
        if (::poll(&entry, 1, 5) > 0) quiet = 0;
    }
}

Socket udp() {
    Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    socket.bind(*Address::ip("127.0.0.1", 0));
    return socket;
}

State udp_with(std::string_view datagram) {
    Socket receiver = udp(), sender = udp();
    REQUIRE_FALSE(sender.connect(receiver.local()));
    REQUIRE(::send(sender.get(), datagram.data(), datagram.size(), 0) == ssize_t(datagram.size()));
    arrived(receiver, POLLIN);
    return state_of(receiver.release());
}

State udp_refused(bool with_error_queue) {
    Socket sender = udp();
    if (with_error_queue) {
        const int on = 1;
        checked(::setsockopt(sender.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof on));
    }
    const Address nobody = [] { return udp().local(); }();
    REQUIRE_FALSE(sender.connect(nobody));
    REQUIRE(::send(sender.get(), "x", 1, 0) == 1);
    arrived(sender, 0);
    return state_of(sender.release());
}

// One that has a datagram to read, too.
State udp_refused_with(std::string_view datagram) {
    Socket sender = udp(), other = udp();
    const int on = 1;
    checked(::setsockopt(sender.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof on));
    const Address own = sender.local(), nobody = [] { return udp().local(); }();
    const auto send = [](const Socket& from, const Address& to, std::string_view text) {
        checked(int(::sendto(from.get(), text.data(), text.size(), 0, to.data(), socklen_t(to.size()))));
    };
    send(sender, nobody, "x");
    send(other, own, datagram);
    arrived(sender, POLLIN);
    return state_of(sender.release());
}

Socket tcp_listener(int backlog = 16) {
    Socket socket = Socket::open(Address::Family::ipv4);
    socket.bind(*Address::ip("127.0.0.1", 0));
    socket.listen(backlog);
    return socket;
}

State tcp_refused() {
    const Address nobody = [] {
        Socket socket = Socket::open(Address::Family::ipv4);
        socket.bind(*Address::ip("127.0.0.1", 0));
        return socket.local();
    }();
    Socket socket = Socket::open(Address::Family::ipv4);
    (void)socket.connect(nobody);
    arrived(socket, POLLOUT);
    return state_of(socket.release());
}

// A listener whose queue is full drops what asks for more, which makes a connect that stays under way.
State tcp_connecting() {
    Socket listener = tcp_listener(0);
    State state;
    for (int i = 0; i < 4; ++i) {
        Socket socket = Socket::open(Address::Family::ipv4);
        (void)socket.connect(listener.local());
        state.held.push_back(socket.release());
        state.descriptor = state.held.back().get();
    }
    state.held.push_back(listener.release());
    return state;
}

Socket unix_datagrams() {
    Socket socket = Socket::open(Address::Family::unix_domain, SocketKind::datagram);
    socket.bind(new_unix_name());
    return socket;
}

State file(std::string_view content, int flags = O_RDWR) {
    const TemporaryFolder folder;
    FileDescriptor opened(checked(::open((folder / "file").c_str(), flags | O_CREAT | O_EXCL | O_CLOEXEC, 0600)));
    put(opened.get(), content);
    checked(int(::lseek(opened.get(), 0, SEEK_SET)));
    return state_of(std::move(opened));
}

State opened(const char* path, int flags) {
    return state_of(FileDescriptor(checked(::open(path, flags | O_CLOEXEC | O_NONBLOCK))));
}

// The terminal's own side reads nothing; bytes written to the master pass to it, with some delay, until it is full.
State terminal(bool full, bool hung_up) {
    FileDescriptor master(checked(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)));
    checked(::grantpt(master.get()));
    checked(::unlockpt(master.get()));
    FileDescriptor other(checked(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC)));
    termios raw{};
    checked(::tcgetattr(other.get(), &raw));
    ::cfmakeraw(&raw);
    checked(::tcsetattr(other.get(), TCSANOW, &raw));
    for (int quiet = 0; full && quiet < 3; ++quiet) {
        const std::string block(4096, 'x');
        while (::write(master.get(), block.data(), block.size()) > 0) quiet = 0;
        pollfd entry{master.get(), POLLOUT, 0};
        if (::poll(&entry, 1, 5) > 0) quiet = 0;
    }
    if (hung_up) return state_of(std::move(master));
    return state_of(std::move(master), std::move(other));
}

State fifo_never_written() {
    const TemporaryFolder folder;
    const std::string path = folder / "fifo";
    checked(::mkfifo(path.c_str(), 0600));
    return opened(path.c_str(), O_RDONLY);
}

State counter(std::uint64_t count) {
    FileDescriptor descriptor(checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)));
    if (count > 0) REQUIRE(::write(descriptor.get(), &count, sizeof count) == sizeof count);
    return state_of(std::move(descriptor));
}

State timer(bool expired) {
    FileDescriptor descriptor(checked(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)));
    itimerspec time{};
    time.it_value.tv_nsec = expired ? 1 : 0;
    checked(::timerfd_settime(descriptor.get(), TFD_TIMER_ABSTIME, &time, nullptr));
    pollfd entry{descriptor.get(), POLLIN, 0};
    if (expired) REQUIRE(::poll(&entry, 1, 10'000) == 1);
    return state_of(std::move(descriptor));
}

State nested_epoll(bool ready) {
    Ends ends = pipe_ends();
    if (ready) put(ends.writing.get(), "x");
    FileDescriptor set(checked(::epoll_create1(EPOLL_CLOEXEC)));
    epoll_event event{};
    event.events = EPOLLIN;
    checked(::epoll_ctl(set.get(), EPOLL_CTL_ADD, ends.reading.get(), &event));
    return state_of(std::move(set), std::move(ends.reading), std::move(ends.writing));
}

State pipe_with_data() {
    Ends ends = pipe_ends();
    put(ends.writing.get(), "x");
    return state_of(std::move(ends.reading), std::move(ends.writing));
}

State then_behind_the_back(State state, std::function<void(State&)> happens) {
    const auto shared = std::make_shared<State>(std::move(state));
    State result;
    result.descriptor = shared->descriptor;
    result.behind_the_back = [shared, happens = std::move(happens)] { happens(*shared); };
    return result;
}

// A state that cannot be made here: no right to, or a kernel without it. Its rows are left out, with a message.
struct NotHere {};

FileDescriptor if_possible(long descriptor) {
    if (descriptor < 0) throw NotHere();
    return FileDescriptor(int(descriptor));
}

State semaphore(std::uint64_t count, int taken) {
    FileDescriptor descriptor(checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC | EFD_SEMAPHORE)));
    if (count > 0) REQUIRE(::write(descriptor.get(), &count, sizeof count) == sizeof count);
    for (std::uint64_t one = 0; taken > 0; --taken) REQUIRE(::read(descriptor.get(), &one, sizeof one) == sizeof one);
    return state_of(std::move(descriptor));
}

State signals_of(bool pending) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    REQUIRE(::pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
    FileDescriptor descriptor(checked(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)));
    char buffer[sizeof(signalfd_siginfo)];
    while (::read(descriptor.get(), buffer, sizeof buffer) > 0) {
    }
    if (pending) REQUIRE(::pthread_kill(::pthread_self(), SIGURG) == 0);
    return state_of(std::move(descriptor));
}

enum class Child { runs, has_ended, is_reaped };

State child(Child is) {
    const pid_t pid = checked(::fork());
    if (pid == 0) {
        if (is == Child::runs) ::pause();
        ::_exit(0);
    }
    struct Ended {  // with the state
        ~Ended() {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
        pid_t pid;
    };
    auto ended = std::shared_ptr<Ended>(new Ended{pid});
    FileDescriptor descriptor = if_possible(::syscall(SYS_pidfd_open, pid, 0));
    pollfd entry{descriptor.get(), POLLIN, 0};
    if (is != Child::runs) REQUIRE(::poll(&entry, 1, 10'000) == 1);
    if (is == Child::is_reaped) {
        ended.reset();
        // The last of it goes a moment later.
        for (int most = 1000; most > 0 && (entry.revents & POLLHUP) == 0; --most) ::poll(&entry, 1, 1);
    }
    State state = state_of(std::move(descriptor));
    state.kept = ended;
    return state;
}

// Made once: the kernel takes some ten milliseconds to close one of these.
struct WatchedFolder {
    explicit WatchedFolder(FileDescriptor the_descriptor) : descriptor(std::move(the_descriptor)) {}
    State with(bool event) const {
        char buffer[4096];
        while (::read(descriptor.get(), buffer, sizeof buffer) > 0) {
        }
        if (event) {
            FileDescriptor(checked(::open((folder / "file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
            checked(::unlink((folder / "file").c_str()));
        }
        return state_of(FileDescriptor(checked(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, 0))));
    }
    TemporaryFolder folder;
    FileDescriptor descriptor;
};

State inotify(bool event) {
    static const WatchedFolder watched(FileDescriptor(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)));
    checked(::inotify_add_watch(watched.descriptor.get(), (watched.folder / "").c_str(), IN_CREATE));
    return watched.with(event);
}

State fanotify(bool event) {
    static const WatchedFolder watched(
        FileDescriptor(::fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC | FAN_REPORT_FID, O_RDONLY)));
    const int result = ::fanotify_mark(watched.descriptor.get(), FAN_MARK_ADD, FAN_CREATE | FAN_ONDIR, AT_FDCWD,
                                       (watched.folder / "").c_str());
    if (result != 0) throw NotHere();  // no right to, or a file system without an identity
    return watched.with(event);
}

// The side that a program has as its terminal.
State own_terminal(bool data, bool hung_up) {
    FileDescriptor master(checked(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)));
    checked(::grantpt(master.get()));
    checked(::unlockpt(master.get()));
    FileDescriptor own(checked(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)));
    if (data) {
        put(master.get(), "x\n");
        pollfd entry{own.get(), POLLIN, 0};
        REQUIRE(::poll(&entry, 1, 10'000) == 1);
    }
    if (hung_up) return state_of(std::move(own));
    return state_of(std::move(own), std::move(master));
}

State fifo(bool with_data, bool writer_gone) {
    const TemporaryFolder folder;
    const std::string path = folder / "fifo";
    checked(::mkfifo(path.c_str(), 0600));
    FileDescriptor reading(checked(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)));
    FileDescriptor writing(checked(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)));
    if (with_data) put(writing.get(), "x");
    if (writer_gone) return state_of(std::move(reading));
    return state_of(std::move(reading), std::move(writing));
}

enum class Netlink { quiet, answered, overrun };

State netlink(Netlink is) {
    FileDescriptor descriptor(checked(::socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE)));
    struct {
        nlmsghdr head;
        rtgenmsg body;
    } question{};
    question.head.nlmsg_len = sizeof question;
    question.head.nlmsg_type = RTM_GETLINK;
    question.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;  // refused: an error as an answer
    const int smallest = 1;
    if (is == Netlink::overrun)
        checked(::setsockopt(descriptor.get(), SOL_SOCKET, SO_RCVBUF, &smallest, sizeof smallest));
    const int questions = is == Netlink::quiet ? 0 : is == Netlink::answered ? 1 : 100;
    for (int i = 0; i < questions; ++i) (void)!::send(descriptor.get(), &question, sizeof question, 0);
    return state_of(std::move(descriptor));
}

// Two interfaces in a network namespace of their own, made once: a namespace takes a tenth of a second to go. One is
// down; the other one is up, and packets are sent to it.
struct Tunnels {
    Tunnels() {
        std::thread([this] {  // only this thread is in the namespace
            if (::unshare(CLONE_NEWNET) != 0) return;
            down = open(nullptr);
            up = open(&index);
            sender.reset(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        })
            .join();
    }
    static FileDescriptor open(int* index_if_up) {
        FileDescriptor descriptor(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
        ifreq request{};
        request.ifr_flags = IFF_TUN | IFF_NO_PI;
        if (::ioctl(descriptor.get(), TUNSETIFF, &request) != 0) return {};
        if (index_if_up == nullptr) return descriptor;
        const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        request.ifr_flags = IFF_UP;
        if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0 || ::ioctl(socket.get(), SIOCGIFINDEX, &request) != 0)
            return {};
        *index_if_up = request.ifr_ifindex;
        return descriptor;
    }
    void send_packet() const {
        const char packet[20] = {0x45};  // an IPv4 header, which is all that a tun interface looks at
        sockaddr_ll to{};
        to.sll_family = AF_PACKET;
        to.sll_protocol = htons(ETH_P_IP);
        to.sll_ifindex = index;
        checked(int(::sendto(sender.get(), packet, sizeof packet, 0, reinterpret_cast<sockaddr*>(&to), sizeof to)));
    }
    FileDescriptor down, up, sender;
    int index = 0;
};

enum class Tun { down, up, has_packet };

State tunnel(Tun is) {
    static const Tunnels tunnels;
    const FileDescriptor& which = is == Tun::down ? tunnels.down : tunnels.up;
    if (!which || !tunnels.sender) throw NotHere();
    char packet[2000];
    while (is == Tun::up && ::read(which.get(), packet, sizeof packet) > 0) {
    }
    if (is == Tun::has_packet) tunnels.send_packet();
    return state_of(FileDescriptor(checked(::fcntl(which.get(), F_DUPFD_CLOEXEC, 0))));
}

State readable_file(const char* path) {
    return state_of(if_possible(::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)));
}

State pressure(bool with_trigger) {
    FileDescriptor descriptor = if_possible(::open("/proc/pressure/memory", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    const std::string_view trigger = "some 1000000 2000000";  // a stall of one second in two: nothing does that here
    if (with_trigger && ::write(descriptor.get(), trigger.data(), trigger.size() + 1) < 0) throw NotHere();
    return state_of(std::move(descriptor));
}

// A software event, with a ring of one page or without.
State performance(bool mapped) {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_DUMMY;
    attributes.exclude_kernel = attributes.exclude_hv = 1;
    FileDescriptor descriptor =
        if_possible(::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
    State state;
    if (mapped) {
        const std::size_t size = 2 * std::size_t(::sysconf(_SC_PAGESIZE));
        void* const ring = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.get(), 0);
        if (ring == MAP_FAILED) throw NotHere();
        state.kept = std::shared_ptr<void>(ring, [size](void* it) { ::munmap(it, size); });
    }
    state.descriptor = descriptor.get();
    state.held.push_back(std::move(descriptor));
    return state;
}

// Again if something wanted this thread meanwhile, as the end of a ring does: then the kernel's verifier gives up.
long bpf(bpf_cmd command, bpf_attr& attributes) {
    long result = -1;
    for (int tries = 0; tries < 10; ++tries) {
        result = ::syscall(SYS_bpf, command, &attributes, sizeof attributes);
        if (result >= 0 || (errno != EAGAIN && errno != EINTR)) break;
    }
    return result;
}

// A program of the kernel's that puts eight bytes into the ring, run once.
void put_record(int ring) {
    constexpr std::uint8_t store = BPF_ST | BPF_MEM | BPF_DW, load = BPF_LD | BPF_DW | BPF_IMM,
                           copy = BPF_ALU64 | BPF_MOV | BPF_X, set = BPF_ALU64 | BPF_MOV | BPF_K,
                           add = BPF_ALU64 | BPF_ADD | BPF_K, call = BPF_JMP | BPF_CALL, leave = BPF_JMP | BPF_EXIT;
    const bpf_insn program[] = {
        {store, 10, 0, -8, 7}, {load, 1, BPF_PSEUDO_MAP_FD, 0, ring},
        {0, 0, 0, 0, 0},       {copy, 2, 10, 0, 0},
        {add, 2, 0, 0, -8},    {set, 3, 0, 0, 8},
        {set, 4, 0, 0, 0},     {call, 0, 0, 0, BPF_FUNC_ringbuf_output},
        {set, 0, 0, 0, 0},     {leave, 0, 0, 0, 0},
    };
    bpf_attr attributes{};
    attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insns = std::uint64_t(std::uintptr_t(program));
    attributes.insn_cnt = std::size(program);
    attributes.license = std::uint64_t(std::uintptr_t("GPL"));
    const FileDescriptor loaded = if_possible(bpf(BPF_PROG_LOAD, attributes));
    const char packet[64] = {};
    attributes = {};
    attributes.test.prog_fd = std::uint32_t(loaded.get());
    char result[64];
    attributes.test.data_in = std::uint64_t(std::uintptr_t(packet));
    attributes.test.data_out = std::uint64_t(std::uintptr_t(result));
    attributes.test.data_size_in = attributes.test.data_size_out = sizeof packet;
    if (bpf(BPF_PROG_TEST_RUN, attributes) != 0) throw NotHere();
}

State bpf_ring(bool with_record) {
    bpf_attr attributes{};
    attributes.map_type = BPF_MAP_TYPE_RINGBUF;
    attributes.max_entries = std::uint32_t(::sysconf(_SC_PAGESIZE));
    FileDescriptor ring = if_possible(bpf(BPF_MAP_CREATE, attributes));
    if (with_record) put_record(ring.get());
    return state_of(std::move(ring));
}

State io_uring(bool completed) {
    io_uring_params parameters{};
    FileDescriptor ring = if_possible(::syscall(SYS_io_uring_setup, 4, &parameters));
    if (completed) {
        const std::size_t queue_size = parameters.sq_off.array + parameters.sq_entries * sizeof(unsigned);
        const std::size_t entries_size = parameters.sq_entries * sizeof(io_uring_sqe);
        const auto map = [&](std::size_t size, off_t offset) {
            void* const place = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring.get(), offset);
            REQUIRE(place != MAP_FAILED);
            return static_cast<char*>(place);
        };
        char* const queue = map(queue_size, IORING_OFF_SQ_RING);
        char* const entries = map(entries_size, IORING_OFF_SQES);
        reinterpret_cast<io_uring_sqe*>(entries)->opcode = IORING_OP_NOP;  // the others are zero
        reinterpret_cast<unsigned*>(queue + parameters.sq_off.array)[0] = 0;
        ++*reinterpret_cast<unsigned*>(queue + parameters.sq_off.tail);
        REQUIRE(::syscall(SYS_io_uring_enter, ring.get(), 1, 0, 0, nullptr, 0) == 1);
        ::munmap(queue, queue_size);
        ::munmap(entries, entries_size);
    }
    return state_of(std::move(ring));
}

enum class Peer { quiet, sent, closed };

State mptcp(Peer is) {
    const auto open = [] {
        return if_possible(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_MPTCP));
    };
    FileDescriptor listener = open(), client = open();
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    checked(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length));
    checked(::listen(listener.get(), 1));
    checked(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length));
    (void)::connect(client.get(), reinterpret_cast<sockaddr*>(&address), length);
    pollfd entry{listener.get(), POLLIN, 0};
    REQUIRE(::poll(&entry, 1, 10'000) == 1);
    FileDescriptor peer(checked(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)));
    entry = {client.get(), POLLOUT, 0};
    REQUIRE(::poll(&entry, 1, 10'000) == 1);
    if (is == Peer::sent) put(peer.get(), "x");
    if (is == Peer::closed) peer.reset();
    entry = {client.get(), POLLIN, 0};
    if (is != Peer::quiet) REQUIRE(::poll(&entry, 1, 10'000) == 1);
    return state_of(std::move(client), std::move(peer));
}

State memory_file() {
    return state_of(FileDescriptor(checked(::memfd_create("contract", MFD_CLOEXEC))));
}

// ── the table ──

struct Exception {
    const char* backend;
    const char* told;
};

struct Row {
    const char* state;
    State (*make)();
    /// The calls for the interests R, W, E and their combinations, in one iteration and in this order: r, w, e or l
    /// (lost); - is none. Without an interest there is no call, in any state.
    const char* told;
    /// Where the kernel makes it impossible, and why.
    std::vector<Exception> exceptions = {};
};

// Reasons for exceptions.
//   epoll_forgets: when the last descriptor of a file is closed the file leaves the epoll set, without a word.
//   epoll_knows_files: epoll watches the file and not its number. It stays in the set for as long as a
//       duplicate keeps it open; and another file that is given the number is not in it.
#define EPOLL_FORGETS(words) \
    {                        \
        { "epoll", words }   \
    }
#define EPOLL_KNOWS_FILES(words) \
    {                            \
        { "epoll", words }       \
    }

// clang-format off
const Row table[] = {
//   asked for:                                   R    W    E    RW   RE   WE   RWE

// pipes
{"a pipe's reading end, empty",
    [] { Ends ends = pipe_ends(); return state_of(std::move(ends.reading), std::move(ends.writing)); },
                                                 "-    -    -    -    -    -    -"},
{"a pipe's reading end with data", pipe_with_data,
                                                 "r    -    -    r    r    -    r"},
{"S12: a pipe's reading end with data and the end behind it",
    [] { Ends ends = pipe_ends(); put(ends.writing.get(), "x"); return state_of(std::move(ends.reading)); },
                                                 "r    w    e    rw   r    w    rw"},
{"S12: a pipe's reading end at the end, which is a hang-up without readable",
    [] { Ends ends = pipe_ends(); return state_of(std::move(ends.reading)); },
                                                 "r    w    e    rw   r    w    rw"},
{"a pipe's writing end with room",
    [] { Ends ends = pipe_ends(); return state_of(std::move(ends.writing), std::move(ends.reading)); },
                                                 "-    w    -    w    -    w    w"},
{"a pipe's writing end, full",
    [] { Ends ends = pipe_ends(); fill(ends.writing.get());
         return state_of(std::move(ends.writing), std::move(ends.reading)); },
                                                 "-    -    -    -    -    -    -"},
{"S26: a pipe's writing end, full but for one byte that was read: there is room only when a page is free",
    [] { Ends ends = pipe_ends(); fill(ends.writing.get()); char byte;
         REQUIRE(::read(ends.reading.get(), &byte, 1) == 1);
         return state_of(std::move(ends.writing), std::move(ends.reading)); },
                                                 "-    -    -    -    -    -    -"},
{"a pipe's writing end with room and without a reader",
    [] { Ends ends = pipe_ends(); return state_of(std::move(ends.writing)); },
                                                 "r    w    e    rw   e    we   we"},
{"a pipe's writing end, full and without a reader",
    [] { Ends ends = pipe_ends(); fill(ends.writing.get()); return state_of(std::move(ends.writing)); },
                                                 "r    w    e    rw   e    e    e"},
{"a named pipe that nobody has opened for writing yet", fifo_never_written,
                                                 "-    -    -    -    -    -    -"},

// Unix sockets
{"a socket pair, quiet",
    [] { Pair pair = Socket::pair(); return watched_of(pair); },
                                                 "-    w    -    w    -    w    w"},
{"a socket pair with data",
    [] { Pair pair = Socket::pair(); put(pair.second.get(), "x"); return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"a socket pair with no room",
    [] { Pair pair = Socket::pair(); fill(pair.first.get()); return watched_of(pair); },
                                                 "-    -    -    -    -    -    -"},
{"a socket pair with no room, and data",
    [] { Pair pair = Socket::pair(); fill(pair.first.get()); put(pair.second.get(), "x"); return watched_of(pair); },
                                                 "r    -    -    r    r    -    r"},
{"S13: a socket pair whose other end shut its writing",
    [] { Pair pair = Socket::pair(); (void)pair.second.shutdown_write(); return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"a socket pair that shut its own writing",
    [] { Pair pair = Socket::pair(); (void)pair.first.shutdown_write(); return watched_of(pair); },
                                                 "-    w    -    w    -    w    w"},
{"S15: a socket pair whose other end is closed",
    [] { Pair pair = Socket::pair(); pair.second.close(); return watched_of(pair); },
                                                 "r    w    e    rw   r    w    rw"},
{"S12: a socket pair with data whose other end is closed",
    [] { Pair pair = Socket::pair(); put(pair.second.get(), "x"); pair.second.close(); return watched_of(pair); },
                                                 "r    w    e    rw   r    w    rw"},
{"S14: a socket pair whose other end was closed with unread data, which is a reset",
    [] { Pair pair = Socket::pair(); put(pair.first.get(), "x"); pair.second.close(); return watched_of(pair); },
                                                 "r    w    e    rw   re   we   rwe"},
{"a pair of datagram sockets with a datagram",
    [] { Pair pair = Socket::pair(SocketKind::datagram); put(pair.second.get(), "x"); return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"a pair of datagram sockets with no room",
    [] { Pair pair = Socket::pair(SocketKind::datagram); fill(pair.first.get()); return watched_of(pair); },
                                                 "-    -    -    -    -    -    -"},
{"a pair of datagram sockets with no room, and a datagram",
    [] { Pair pair = Socket::pair(SocketKind::datagram); fill(pair.first.get()); put(pair.second.get(), "x");
         return watched_of(pair); },
                                                 "r    -    -    r    r    -    r"},
{"a pair of datagram sockets whose other end is closed",
    [] { Pair pair = Socket::pair(SocketKind::datagram); pair.second.close(); return watched_of(pair); },
                                                 "-    w    -    w    -    w    w"},
{"a pair of datagram sockets with a datagram whose other end is closed",
    [] { Pair pair = Socket::pair(SocketKind::datagram); put(pair.second.get(), "x"); pair.second.close();
         return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"a Unix socket of datagrams that is not connected",
    [] { return state_of(unix_datagrams().release()); },
                                                 "-    w    -    w    -    w    w"},
{"a Unix socket of datagrams whose receiver has no room",
    [] { Socket sender = unix_datagrams(), receiver = unix_datagrams(); REQUIRE_FALSE(sender.connect(receiver.local()));
         fill(sender.get()); return state_of(sender.release(), receiver.release()); },
                                                 "-    -    -    -    -    -    -"},
{"S78: a pair of packet sockets with an empty packet",
    [] { Pair pair = Socket::pair(SocketKind::sequenced_packets); REQUIRE(::send(pair.second.get(), "", 0, 0) == 0);
         return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"a pair of packet sockets with no room",
    [] { Pair pair = Socket::pair(SocketKind::sequenced_packets); fill(pair.first.get()); return watched_of(pair); },
                                                 "-    -    -    -    -    -    -"},
{"S13: a pair of packet sockets with a packet and the end behind it",
    [] { Pair pair = Socket::pair(SocketKind::sequenced_packets); put(pair.second.get(), "x");
         (void)pair.second.shutdown_write(); return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"S14: a pair of packet sockets whose other end was closed with an unread packet, which is a reset",
    [] { Pair pair = Socket::pair(SocketKind::sequenced_packets); put(pair.first.get(), "x"); pair.second.close();
         return watched_of(pair); },
                                                 "r    w    e    rw   re   we   rwe"},
{"a pair of packet sockets whose other end is closed",
    [] { Pair pair = Socket::pair(SocketKind::sequenced_packets); pair.second.close(); return watched_of(pair); },
                                                 "r    w    e    rw   r    w    rw"},
{"S19: a Unix socket that was never connected",
    [] { return state_of(Socket::open(Address::Family::unix_domain).release()); },
                                                 "r    w    e    rw   r    w    rw"},

// TCP
{"S19: a TCP socket that was never connected",
    [] { return state_of(Socket::open(Address::Family::ipv4).release()); },
                                                 "r    w    e    rw   r    w    rw"},
{"a TCP socket that is connecting", tcp_connecting,
                                                 "-    -    -    -    -    -    -"},
{"S34: a TCP socket that was refused", tcp_refused,
                                                 "r    w    e    rw   re   we   rwe"},
{"a TCP connection, quiet",
    [] { Pair pair = tcp(); return watched_of(pair); },
                                                 "-    w    -    w    -    w    w"},
{"a TCP connection with data",
    [] { Pair pair = tcp(); put(pair.second.get(), "x"); arrived(pair.first, POLLIN); return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"a TCP connection with no room",
    [] { Pair pair = tcp(4096); fill(pair); return watched_of(pair); },
                                                 "-    -    -    -    -    -    -"},
{"S13: a TCP connection whose peer shut its writing",
    [] { Pair pair = tcp(); (void)pair.second.shutdown_write(); arrived(pair.first, POLLIN); return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"S12: a TCP connection with data whose peer is closed",
    [] { Pair pair = tcp(); put(pair.second.get(), "x"); pair.second.close(); arrived(pair.first, POLLRDHUP);
         return watched_of(pair); },
                                                 "r    w    -    rw   r    w    rw"},
{"a TCP connection that shut its own writing",
    [] { Pair pair = tcp(); (void)pair.first.shutdown_write(); return watched_of(pair); },
                                                 "-    w    -    w    -    w    w"},
{"S11: a TCP connection that both ends shut",
    [] { Pair pair = tcp(); (void)pair.second.shutdown_write(); (void)pair.first.shutdown_write();
         arrived(pair.first, 0); return watched_of(pair); },
                                                 "r    w    e    rw   r    w    rw"},
{"S14: a TCP connection that was reset",
    [] { Pair pair = tcp(); reset_by_peer(pair); return watched_of(pair); },
                                                 "r    w    e    rw   re   we   rwe"},
{"S14: a TCP connection with data that was reset",
    [] { Pair pair = tcp(); put(pair.second.get(), "x"); reset_by_peer(pair); arrived(pair.first, POLLRDHUP);
         return watched_of(pair); },
                                                 "r    w    e    rw   re   we   rwe"},
{"S11: a TCP connection that was reset, whose error was taken",
    [] { Pair pair = tcp(); reset_by_peer(pair); (void)pair.first.pending_error(); return watched_of(pair); },
                                                 "r    w    e    rw   r    w    rw"},
{"S20: a TCP connection with a byte of urgent data and nothing else",
    [] { Pair pair = tcp(); REQUIRE(::send(pair.second.get(), "!", 1, MSG_OOB) == 1); arrived(pair.first, POLLPRI);
         return watched_of(pair); },
                                                 "-    w    e    w    e    we   we"},
{"S20: a TCP connection with data and a byte of urgent data",
    [] { Pair pair = tcp(); REQUIRE(::send(pair.second.get(), "x!", 2, MSG_OOB) == 2); arrived(pair.first, POLLPRI);
         return watched_of(pair); },
                                                 "r    w    e    rw   re   we   rwe"},
{"S20: a TCP connection that takes urgent data in line (SO_OOBINLINE)",
    [] { Pair pair = tcp(); const int on = 1;
         checked(::setsockopt(pair.first.get(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
         REQUIRE(::send(pair.second.get(), "!", 1, MSG_OOB) == 1); arrived(pair.first, POLLPRI);
         return watched_of(pair); },
                                                 "r    w    e    rw   re   we   rwe"},

// listening
{"a TCP listener that nobody waits for",
    [] { return state_of(tcp_listener().release()); },
                                                 "-    -    -    -    -    -    -"},
{"a TCP listener with a connection that waits",
    [] { Socket listener = tcp_listener(), client = Socket::open(Address::Family::ipv4);
         (void)client.connect(listener.local()); arrived(listener, POLLIN);
         return state_of(listener.release(), client.release()); },
                                                 "r    -    -    r    r    -    r"},
{"S29: a TCP listener with a connection that waited and was reset",
    [] { Socket listener = tcp_listener(), client = Socket::open(Address::Family::ipv4);
         (void)client.connect(listener.local()); arrived(listener, POLLIN);
         client.set_linger(std::chrono::seconds(0)); client.close();
         return state_of(listener.release()); },
                                                 "r    -    -    r    r    -    r"},
{"a TCP listener that was shut down, which is a socket that was never connected",
    [] { Socket listener = tcp_listener(); checked(::shutdown(listener.get(), SHUT_RDWR));
         return state_of(listener.release()); },
                                                 "r    w    e    rw   r    w    rw"},
{"a Unix listener that nobody waits for",
    [] { Socket listener = Socket::open(Address::Family::unix_domain);
         listener.bind(new_unix_name()); listener.listen(4);
         return state_of(listener.release()); },
                                                 "-    -    -    -    -    -    -"},
{"a Unix listener with a connection that waits",
    [] { Socket listener = Socket::open(Address::Family::unix_domain);
         listener.bind(new_unix_name()); listener.listen(4);
         Socket client = Socket::open(Address::Family::unix_domain);
         REQUIRE_FALSE(client.connect(listener.local()));
         return state_of(listener.release(), client.release()); },
                                                 "r    -    -    r    r    -    r"},

{"a listener of packets with a connection that waits",
    [] { Socket listener = Socket::open(Address::Family::unix_domain, SocketKind::sequenced_packets);
         listener.bind(new_unix_name()); listener.listen(4);
         Socket client = Socket::open(Address::Family::unix_domain, SocketKind::sequenced_packets);
         REQUIRE_FALSE(client.connect(listener.local()));
         return state_of(listener.release(), client.release()); },
                                                 "r    -    -    r    r    -    r"},

// UDP
{"a UDP socket, quiet",
    [] { return state_of(udp().release()); },
                                                 "-    w    -    w    -    w    w"},
{"a UDP socket with a datagram",
    [] { return udp_with("x"); },
                                                 "r    w    -    rw   r    w    rw"},
{"S78: a UDP socket with an empty datagram",
    [] { return udp_with(""); },
                                                 "r    w    -    rw   r    w    rw"},
{"S16: a UDP socket whose datagram was refused: an error without readable",
    [] { return udp_refused(false); },
                                                 "r    w    e    rw   e    we   we"},
{"S17: a UDP socket with a message in its error queue (IP_RECVERR)",
    [] { return udp_refused(true); },
                                                 "r    w    e    rw   e    we   we"},
{"S17: a UDP socket with a message in its error queue, whose error a send has taken",
    [] { State state = udp_refused(true); REQUIRE(::send(state.descriptor, "x", 1, 0) == -1);
         REQUIRE(errno == ECONNREFUSED); return state; },
                                                 "r    w    e    rw   e    we   we"},
{"S17: a UDP socket with a datagram and a message in its error queue",
    [] { return udp_refused_with("x"); },
                                                 "r    w    e    rw   re   we   rwe"},
{"a UDP socket that was shut down",
    [] { Socket socket = udp(), other = udp(); REQUIRE_FALSE(socket.connect(other.local()));
         checked(::shutdown(socket.get(), SHUT_RDWR)); return state_of(socket.release()); },
                                                 "r    w    e    rw   r    w    rw"},

// files and devices
{"S18: a regular file",
    [] { return file("x"); },
                                                 "r    w    -    rw   r    w    rw"},
{"S18: a regular file at its end",
    [] { return file(""); },
                                                 "r    w    -    rw   r    w    rw"},
{"S18: a directory",
    [] { return opened("/", O_RDONLY | O_DIRECTORY); },
                                                 "r    w    -    rw   r    w    rw"},
{"S18: /dev/null",
    [] { return opened("/dev/null", O_RDWR); },
                                                 "r    w    -    rw   r    w    rw"},
{"S12: a terminal's master side, quiet", [] { return terminal(false, false); },
                                                 "-    w    -    w    -    w    w"},
{"S12: a terminal's master side, full", [] { return terminal(true, false); },
                                                 "-    -    -    -    -    -    -"},
{"S12: a terminal's master side, full, whose other side is closed: a hang-up and nothing else",
    [] { return terminal(true, true); },
                                                 "r    w    e    rw   r    w    rw"},
{"an eventfd at zero",
    [] { return counter(0); },
                                                 "-    w    -    w    -    w    w"},
{"an eventfd above zero",
    [] { return counter(1); },
                                                 "r    w    -    rw   r    w    rw"},
{"an eventfd at its maximum",
    [] { return counter(UINT64_MAX - 1); },
                                                 "r    -    -    r    r    -    r"},
{"a timerfd that is not set",
    [] { return timer(false); },
                                                 "-    -    -    -    -    -    -"},
{"a timerfd that has expired",
    [] { return timer(true); },
                                                 "r    -    -    r    r    -    r"},
{"an epoll set in which nothing is ready",
    [] { return nested_epoll(false); },
                                                 "-    -    -    -    -    -    -"},
{"an epoll set in which something is ready",
    [] { return nested_epoll(true); },
                                                 "r    -    -    r    r    -    r"},

// kinds of the kernel's own
{"an eventfd that is a semaphore, with two, of which one was taken",
    [] { return semaphore(2, 1); },
                                                 "r    w    -    rw   r    w    rw"},
{"an eventfd that is a semaphore, with two, which were taken",
    [] { return semaphore(2, 2); },
                                                 "-    w    -    w    -    w    w"},
{"a signalfd without a signal",
    [] { return signals_of(false); },
                                                 "-    -    -    -    -    -    -"},
{"a signalfd with a signal",
    [] { return signals_of(true); },
                                                 "r    -    -    r    r    -    r"},
{"a pidfd of a child that runs",
    [] { return child(Child::runs); },
                                                 "-    -    -    -    -    -    -"},
{"a pidfd of a child that has ended",
    [] { return child(Child::has_ended); },
                                                 "r    -    -    r    r    -    r"},
{"a pidfd of a child that was waited for",
    [] { return child(Child::is_reaped); },
                                                 "r    w    e    rw   r    w    rw"},
{"an inotify descriptor without an event",
    [] { return inotify(false); },
                                                 "-    -    -    -    -    -    -"},
{"an inotify descriptor with an event",
    [] { return inotify(true); },
                                                 "r    -    -    r    r    -    r"},
{"a fanotify descriptor without an event",
    [] { return fanotify(false); },
                                                 "-    -    -    -    -    -    -"},
{"a fanotify descriptor with an event",
    [] { return fanotify(true); },
                                                 "r    -    -    r    r    -    r"},
{"a terminal's master side, whose other side is closed",
    [] { return terminal(false, true); },
                                                 "r    w    e    rw   r    w    rw"},
{"a terminal's master side in packet mode (TIOCPKT), whose other side was flushed",
    [] { State state = terminal(false, false); const int on = 1; checked(::ioctl(state.descriptor, TIOCPKT, &on));
         checked(::tcflush(state.held.back().get(), TCIOFLUSH)); return state; },
                                                 "r    w    e    rw   re   we   rwe"},
{"a terminal's own side, quiet",
    [] { return own_terminal(false, false); },
                                                 "-    w    -    w    -    w    w"},
{"a terminal's own side with a line",
    [] { return own_terminal(true, false); },
                                                 "r    w    -    rw   r    w    rw"},
{"a terminal's own side, whose master is closed",
    [] { return own_terminal(false, true); },
                                                 "r    w    e    rw   re   we   rwe"},
{"a named pipe with a writer, empty",
    [] { return fifo(false, false); },
                                                 "-    -    -    -    -    -    -"},
{"a named pipe whose writer is closed, with data",
    [] { return fifo(true, true); },
                                                 "r    w    e    rw   r    w    rw"},
{"a named pipe whose writer is closed",
    [] { return fifo(false, true); },
                                                 "r    w    e    rw   r    w    rw"},
{"a netlink socket, quiet",
    [] { return netlink(Netlink::quiet); },
                                                 "-    w    -    w    -    w    w"},
{"a netlink socket with an answer",
    [] { return netlink(Netlink::answered); },
                                                 "r    w    -    rw   r    w    rw"},
{"a netlink socket that has overrun",
    [] { return netlink(Netlink::overrun); },
                                                 "r    w    e    rw   re   we   rwe"},
{"a tun descriptor without an interface",
    [] { return state_of(if_possible(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC))); },
                                                 "r    w    e    rw   e    e    e"},
{"a tun descriptor whose interface is down",
    [] { return tunnel(Tun::down); },
                                                 "-    -    -    -    -    -    -"},
{"a tun descriptor whose interface is up, quiet",
    [] { return tunnel(Tun::up); },
                                                 "-    w    -    w    -    w    w"},
{"a tun descriptor with a packet",
    [] { return tunnel(Tun::has_packet); },
                                                 "r    w    -    rw   r    w    rw"},
{"the mount table (mountinfo), unchanged, which is readable always",
    [] { return readable_file("/proc/self/mountinfo"); },
                                                 "r    -    -    r    r    -    r"},
{"a pressure file (PSI) without a trigger",
    [] { return pressure(false); },
                                                 "r    w    e    rw   re   we   rwe"},
{"a pressure file (PSI) with a trigger that has not fired, which is readable and writable always",
    [] { return pressure(true); },
                                                 "r    w    -    rw   r    w    rw"},
{"a perf event without a ring",
    [] { return performance(false); },
                                                 "r    w    e    rw   r    w    rw"},
{"a perf event with an empty ring",
    [] { return performance(true); },
                                                 "-    -    -    -    -    -    -"},
{"a BPF ring buffer without a record",
    [] { return bpf_ring(false); },
                                                 "-    -    -    -    -    -    -"},
{"a BPF ring buffer with a record",
    [] { return bpf_ring(true); },
                                                 "r    -    -    r    r    -    r"},
{"an io_uring without a completion, whose submission queue has room",
    [] { return io_uring(false); },
                                                 "-    w    -    w    -    w    w"},
{"an io_uring with a completion",
    [] { return io_uring(true); },
                                                 "r    w    -    rw   r    w    rw"},
{"an MPTCP connection, quiet",
    [] { return mptcp(Peer::quiet); },
                                                 "-    w    -    w    -    w    w"},
{"an MPTCP connection with data",
    [] { return mptcp(Peer::sent); },
                                                 "r    w    -    rw   r    w    rw"},
{"an MPTCP connection whose peer is closed",
    [] { return mptcp(Peer::closed); },
                                                 "r    w    -    rw   r    w    rw"},
{"S18: a file in memory (memfd)", memory_file,
                                                 "r    w    -    rw   r    w    rw"},
{"S18: /dev/zero",
    [] { return opened("/dev/zero", O_RDWR); },
                                                 "r    w    -    rw   r    w    rw"},

// numbers and files
{"S3: a number that is not open",
    [] { State state = pipe_with_data(); state.close(); state.held.clear(); return state; },
                                                 "l    l    l    l    l    l    l"},
{"S3: a number that is not open, past the places that the kernel's table of the process has",
    [] { State state; state.descriptor = 50'000; return state; },
                                                 "l    l    l    l    l    l    l"},
{"S3: a descriptor that only names a file (O_PATH)",
    [] { return opened("/", O_PATH); },
                                                 "l    l    l    l    l    l    l"},
{"S3: a regular file, closed behind the loop's back",
    [] { return then_behind_the_back(file("x"), [](State& state) { state.close(); }); },
                                                 "l    l    l    l    l    l    l",
                                   EPOLL_FORGETS("l    l    -    l    l    l    l")},
{"S23: a regular file, closed behind the loop's back, whose number is used again by a pipe with data",
    [] { return then_behind_the_back(file("x"), [](State& state) {
             State other = pipe_with_data(); checked(::dup2(other.descriptor, state.descriptor));
             for (FileDescriptor& one : other.held) state.held.push_back(std::move(one)); }); },
                                                 "r    -    -    r    r    -    r"},
{"S3: a pipe with data, closed behind the loop's back",
    [] { return then_behind_the_back(pipe_with_data(), [](State& state) { state.close(); }); },
                                                 "l    l    l    l    l    l    l",
                                   EPOLL_FORGETS("-    -    -    -    -    -    -")},
{"S2: a pipe with data, closed behind the loop's back while a duplicate keeps it open",
    [] { return then_behind_the_back(pipe_with_data(), [](State& state) {
             state.held.emplace_back(checked(::dup(state.descriptor))); state.close(); }); },
                                                 "l    l    l    l    l    l    l",
                               EPOLL_KNOWS_FILES("r    -    -    r    r    -    r")},
{"S23: a quiet pipe, closed behind the loop's back, whose number is used again by one with data",
    [] { Ends ends = pipe_ends();
         return then_behind_the_back(state_of(std::move(ends.reading), std::move(ends.writing)), [](State& state) {
             State other = pipe_with_data(); checked(::dup2(other.descriptor, state.descriptor));
             for (FileDescriptor& one : other.held) state.held.push_back(std::move(one)); }); },
                                                 "r    -    -    r    r    -    r",
                               EPOLL_KNOWS_FILES("-    -    -    -    -    -    -")},
{"S2: a pipe with data whose duplicate is closed behind the loop's back",
    [] { State state = pipe_with_data();
         const auto duplicate = std::make_shared<FileDescriptor>(checked(::dup(state.descriptor)));
         state.behind_the_back = [duplicate] { duplicate->reset(); };
         return state; },
                                                 "r    -    -    r    r    -    r"},
{"a duplicate of a pipe's reading end with data",
    [] { State state = pipe_with_data();
         state.descriptor = checked(::dup(state.descriptor)); state.held.emplace_back(state.descriptor);
         return state; },
                                                 "r    -    -    r    r    -    r"},
};
// clang-format on

#undef EPOLL_FORGETS
#undef EPOLL_KNOWS_FILES

// ── the body ──

struct Column {
    const char* name;
    Interest interest;
};
constexpr Column columns[] = {{"R", readable},
                              {"W", writable},
                              {"E", error},
                              {"RW", readable | writable},
                              {"RE", readable | error},
                              {"WE", writable | error},
                              {"RWE", readable | writable | error}};

std::vector<std::string> words_of(const Row& row, std::string_view backend) {
    if (backend == "io_uring") backend = "epoll";  // which watches what is no connection's
    const char* told = row.told;
    for (const Exception& exception : row.exceptions)
        if (exception.backend == backend) told = exception.told;
    std::istringstream stream(told);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word == "-" ? "" : word);
    REQUIRE(words.size() == std::size(columns));
    return words;
}

// Can the row's state be made here? Asked once for each.
bool can_be_made(const Row& row) {
    static std::map<const Row*, bool> known;
    const auto [place, is_new] = known.emplace(&row, true);
    if (!is_new) return place->second;
    try {
        row.make();
    } catch (const NotHere&) {
        MESSAGE("not to be had here: ", std::string(row.state));
        place->second = false;
    }
    return place->second;
}

struct Listener final : EventHandler {
    void readable() override { told += 'r'; }
    void writable() override { told += 'w'; }
    void error() override { told += 'e'; }
    void lost(std::error_code reason) override {
        told += 'l';
        CHECK(reason == std::errc::bad_file_descriptor);
    }
    std::string take() { return std::exchange(told, {}); }
    std::string told;
};

// One iteration: its calls, and that there was no event without a call, which would make a loop spin.
std::string turn(Reactor& reactor, Listener& listener) {
    const std::size_t events = reactor.run_once(no_wait);
    std::string told = listener.take();
    if (told.empty()) CHECK(events == 0);
    return told;
}

enum class Way { registered_with_it, asked_for_later };

void check_row(const Row& row, std::string_view backend, const std::function<void(int, Interest)>& before_turn,
               Reactor& reactor) {
    const std::vector<std::string> words = words_of(row, backend);
    for (std::size_t i = 0; i < std::size(columns); ++i) {
        for (const Way way : {Way::registered_with_it, Way::asked_for_later}) {
            const Interest interest = columns[i].interest;
            const std::string when = way == Way::asked_for_later ? ", later" : "";
            INFO(std::string(row.state), ", asked for ", std::string(columns[i].name), when);
            State state = row.make();
            Listener listener;
            const bool later = way == Way::asked_for_later;
            Registration registration = reactor.watch(state.descriptor, later ? Interest::none : interest, listener);
            if (later) {
                before_turn(state.descriptor, Interest::none);
                CHECK(turn(reactor, listener) == "");
                registration.set_interest(interest);
            }
            if (state.behind_the_back) {
                reactor.run_once(no_wait);
                listener.take();
                state.behind_the_back();
            }
            before_turn(state.descriptor, interest);
            CHECK(turn(reactor, listener) == words[i]);
            // Called again for as long as it lasts; but once for a loss.
            before_turn(state.descriptor, interest);
            CHECK(turn(reactor, listener) == (words[i] == "l" ? "" : words[i]));
            // Without an interest there is no call, and no cost.
            registration.set_interest(Interest::none);
            before_turn(state.descriptor, Interest::none);
            if (state.behind_the_back) reactor.run_once(no_wait);  // an epoll set that knows a ghost is left
            CHECK(turn(reactor, listener) == "");
        }
    }
}

}  // namespace

TEST_CASE("What a handler is told of every state of a descriptor, for every interest, is the same on every backend") {
    for (const Row& row : table) {
        if (!can_be_made(row)) continue;
        Reactor reactor;
        check_row(
            row, reactor.backend(), [](int, Interest) {}, reactor);
    }
}

TEST_CASE("A scripted demultiplexer that reports what poll(2) says of a state tells the same as a backend") {
    for (const Row& row : table) {
        if (!can_be_made(row)) continue;
        testing::ManualClock clock;
        auto owned = std::make_unique<testing::ScriptedDemultiplexer>(clock);
        testing::ScriptedDemultiplexer& script = *owned;
        Reactor reactor(std::move(owned), clock);
        reactor.run_once(no_wait);
        bool lost = false;
        check_row(
            row, "scripted",
            [&](int descriptor, Interest interest) {
                pollfd entry{descriptor, backends::poll_events(interest), 0};
                lost = lost && interest != Interest::none;  // a lost registration is not watched
                if (interest == Interest::none || ::poll(&entry, 1, 0) == 0 || lost) return;
                lost = (entry.revents & POLLNVAL) != 0;
                script.report({testing::ready(descriptor, backends::condition_of(entry.revents))});
            },
            reactor);
        CHECK(script.finished());
    }
}

TEST_CASE("Inside another loop the descriptor or the time shows every state that has a call, and no other state") {
    for (const Row& row : table) {
        if (!can_be_made(row)) continue;
        Reactor reactor;
        if (reactor.native_handle() < 0) return;
        const std::vector<std::string> words = words_of(row, reactor.backend());
        for (std::size_t i = 0; i < std::size(columns); ++i) {
            INFO(std::string(row.state), ", asked for ", std::string(columns[i].name));
            State state = row.make();
            Listener listener;
            const Registration registration = reactor.watch(state.descriptor, columns[i].interest, listener);
            reactor.run_once(no_wait);
            if (state.behind_the_back) state.behind_the_back();
            reactor.run_once(no_wait);
            reactor.run_once(no_wait);  // a loss is reported once
            pollfd outer{reactor.native_handle(), POLLIN, 0};
            const bool shown = ::poll(&outer, 1, 0) == 1 || reactor.next_timeout() == no_wait;
            CHECK(shown == (words[i] != "" && words[i] != "l"));
        }
    }
}

TEST_CASE("Several registrations of one descriptor are each told what they would be told alone, in every state") {
    for (const Row& row : table) {
        if (!row.exceptions.empty() || !can_be_made(row)) continue;
        INFO(std::string(row.state));
        Reactor reactor;
        const std::vector<std::string> words = words_of(row, reactor.backend());
        State state = row.make();
        Listener listeners[std::size(columns)];
        std::vector<Registration> registrations;
        for (std::size_t i = 0; i < std::size(columns); ++i)
            registrations.push_back(reactor.watch(state.descriptor, columns[i].interest, listeners[i]));
        if (state.behind_the_back) {
            reactor.run_once(no_wait);
            for (Listener& listener : listeners) listener.take();
            state.behind_the_back();
        }
        reactor.run_once(no_wait);
        for (std::size_t i = 0; i < std::size(columns); ++i) {
            INFO("asked for ", std::string(columns[i].name));
            CHECK(listeners[i].take() == words[i]);
        }
        registrations.clear();
        CHECK(reactor.run_once(no_wait) == 0);
    }
}

TEST_CASE("S11, S15, S17, S19: a handler that deals with what it is told brings every state to rest in a few turns") {
    // Reads until there is nothing, writes nothing, takes the error; and no longer wants what has come to its end.
    struct Dealing final : EventHandler {
        void readable() override {
            char buffer[4096];
            constexpr int endless = 4;  // some can be read for ever: /dev/zero, a perf event
            if (::read(registration.descriptor(), buffer, sizeof buffer) > 0 && ++reads < endless) return;
            if (const int one = ::accept(registration.descriptor(), nullptr, nullptr); one >= 0) {
                ::close(one);
            } else if (!take_error_queue()) {
                no_longer(Interest::readable);
            }
        }
        void writable() override { no_longer(Interest::writable); }
        void error() override {
            int pending = 0;
            socklen_t length = sizeof pending;
            const bool had =
                ::getsockopt(registration.descriptor(), SOL_SOCKET, SO_ERROR, &pending, &length) == 0 && pending != 0;
            if (!had && !take_error_queue()) no_longer(Interest::error);
        }
        void lost(std::error_code) override {}

        bool take_error_queue() const {
            char buffer[512];
            msghdr message{};
            message.msg_control = buffer;
            message.msg_controllen = sizeof buffer;
            // Unix sockets do not know the flag, and read.
            return ::recvmsg(registration.descriptor(), &message, MSG_ERRQUEUE) >= 0 &&
                   (message.msg_flags & MSG_ERRQUEUE) != 0;
        }
        void no_longer(Interest interest) { registration.set_interest(registration.interest() & ~interest); }
        Registration registration;
        int reads = 0;
    };
    constexpr int most = 6;
    for (const Row& row : table) {
        if (!can_be_made(row)) continue;
        for (const Column& column : columns) {
            INFO(std::string(row.state), ", asked for ", std::string(column.name));
            Reactor reactor;
            State state = row.make();
            Dealing dealing;
            (void)::fcntl(state.descriptor, F_SETFL,
                          O_NONBLOCK);  // fails for a number that is not open, or only names a file
            dealing.registration = reactor.watch(state.descriptor, column.interest, dealing);
            reactor.run_once(no_wait);
            if (state.behind_the_back) state.behind_the_back();
            int turns = 0;
            while (turns <= most && reactor.run_once(no_wait) > 0) ++turns;
            CHECK(turns <= most);
        }
    }
}

// ── datagrams ──

namespace {

struct DatagramRow {
    const char* state;  // of the table above
    const char* heard;  // the calls of a protocol, in this order
};

const DatagramRow datagram_table[] = {
    {"a UDP socket, quiet", "opened"},
    {"a UDP socket with a datagram", "opened received(x)"},
    {"S78: a UDP socket with an empty datagram", "opened received()"},
    {"S16: a UDP socket whose datagram was refused: an error without readable", "opened refused"},
    {"S17: a UDP socket with a message in its error queue (IP_RECVERR)", "opened refused"},
    {"S17: a UDP socket with a message in its error queue, whose error a send has taken", "opened refused"},
    {"S17: a UDP socket with a datagram and a message in its error queue", "opened refused received(x)"},
    {"a UDP socket that was shut down", "opened closed(broken)"},
    {"a pair of datagram sockets with a datagram", "opened received(x)"},
    {"a pair of datagram sockets with no room", "opened"},
    {"a pair of datagram sockets with no room, and a datagram", "opened received(x)"},
    {"a pair of datagram sockets whose other end is closed", "opened"},
    {"a pair of datagram sockets with a datagram whose other end is closed", "opened received(x)"},
    {"a Unix socket of datagrams that is not connected", "opened"},
    {"a Unix socket of datagrams whose receiver has no room", "opened"},
    {"S78: a pair of packet sockets with an empty packet", "opened received()"},
    {"a pair of packet sockets with no room", "opened"},
    {"a pair of packet sockets whose other end is closed", "opened closed"},
    {"S13: a pair of packet sockets with a packet and the end behind it", "opened received(x) closed"},
    {"S14: a pair of packet sockets whose other end was closed with an unread packet, which is a reset",
     "opened closed(reset)"},
};

class Hearing final : public DatagramProtocol {
public:
    explicit Hearing(std::string& heard) : heard_(heard) {}

private:
    void opened() override { heard_ += "opened"; }
    void received(const Datagram& datagram) override {
        heard_ += " received(" + std::string(text_of(datagram.data)) + ")";
    }
    void refused(const Address&, std::error_code reason) override {
        CHECK(reason == std::errc::connection_refused);
        heard_ += " refused";
    }
    void closed(std::error_code reason) override {
        heard_ += reason == std::errc::connection_reset ? " closed(reset)"
                  : reason == std::errc::broken_pipe    ? " closed(broken)"
                                                        : " closed";
        CHECK((!reason || heard_.ends_with(')')));
    }
    std::string& heard_;
};

}  // namespace

TEST_CASE("What a protocol of datagrams is told of every state of its socket is the same on every backend, and once") {
    for (const DatagramRow& row : datagram_table) {
        INFO(std::string(row.state));
        // A library without the error queue's calls cannot empty one that the test has switched on.
        if (!REACTOR_HAS(ERROR_QUEUE) && std::string_view(row.state).find("error queue") != std::string_view::npos)
            continue;
        const auto* const found = std::find_if(std::begin(table), std::end(table), [&](const Row& one) {
            return std::string_view(one.state) == row.state;
        });
        REQUIRE(found != std::end(table));
        for (const std::size_t batch : {std::size_t(1), std::size_t(32)}) {
            State state = found->make();
            std::string heard;
            Reactor reactor;
            DatagramOptions options;
            options.batch = batch;
            const auto own = std::find_if(state.held.begin(), state.held.end(),
                                          [&](const FileDescriptor& one) { return one.get() == state.descriptor; });
            REQUIRE(own != state.held.end());
            DatagramEndpoint::open(reactor, Socket::adopt(std::move(*own)), std::make_unique<Hearing>(heard), options);
            CHECK(settle(reactor, 20) <= 5);
            CHECK(heard == row.heard);
        }
    }
}

TEST_CASE("S16: a refused datagram is told once, and the socket serves on") {
    Reactor reactor;
    for (const Interest interest : {readable, error, readable | error}) {
        State state = udp_refused(false);
        Listener listener;
        const Registration registration = reactor.watch(state.descriptor, interest, listener);
        CHECK(turn(reactor, listener).size() == 1);
        char byte;
        CHECK(::recv(state.descriptor, &byte, 1, 0) == -1);
        CHECK(errno == ECONNREFUSED);
        CHECK(turn(reactor, listener) == "");
    }
}

TEST_CASE("S26: a full pipe turns writable when a page was read, and not before") {
    Reactor reactor;
    Ends ends = pipe_ends();
    fill(ends.writing.get());
    Listener listener;
    const Registration registration = reactor.watch(ends.writing.get(), writable, listener);
    CHECK(turn(reactor, listener) == "");
    std::string buffer(std::size_t(::sysconf(_SC_PAGESIZE)), '\0');
    REQUIRE(::read(ends.reading.get(), buffer.data(), 1) == 1);
    turn(reactor, listener);  // Linux says no, a system that counts bytes says yes
    REQUIRE(::read(ends.reading.get(), buffer.data(), buffer.size()) > 0);
    CHECK(turn(reactor, listener) == "w");
}
