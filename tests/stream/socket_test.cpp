#include "../support/loop.hpp"
#include "../support/messages.hpp"
#include "../support/unix_name.hpp"

#include <reactor/net/socket.hpp>
#include <reactor/stream/connection.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <ostream>
#include <string>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

const Address loopback = *Address::ip("127.0.0.1", 0);

Socket listening_on(const Address& address) {
    Socket socket = Socket::open(address.family());
    socket.bind(address);
    socket.listen(16);
    return socket;
}

void wait_for(const Socket& socket, short events) {
    pollfd entry{socket.get(), events, 0};
    REQUIRE(::poll(&entry, 1, 10'000) == 1);
}

bool non_blocking_and_closed_by_exec(int descriptor) {
    return (::fcntl(descriptor, F_GETFL) & O_NONBLOCK) != 0 && (::fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0;
}

}  // namespace

TEST_CASE("S74: every socket is non-blocking and closed by exec, however it was made") {
    const Socket opened = Socket::open(Address::Family::ipv4);
    CHECK(non_blocking_and_closed_by_exec(opened.get()));

    const auto [left, right] = Socket::pair();
    CHECK(non_blocking_and_closed_by_exec(left.get()));
    CHECK(non_blocking_and_closed_by_exec(right.get()));

    const Socket adopted = Socket::adopt(FileDescriptor(::socket(AF_INET, SOCK_STREAM, 0)));
    CHECK(non_blocking_and_closed_by_exec(adopted.get()));

    Socket listening = listening_on(loopback);
    Socket connecting = Socket::open(Address::Family::ipv4);
    static_cast<void>(connecting.connect(listening.local()));
    wait_for(listening, POLLIN);
    Socket accepted;
    Address peer;
    REQUIRE_FALSE(listening.accept(accepted, peer));
    CHECK(non_blocking_and_closed_by_exec(accepted.get()));
}

TEST_CASE("A connection knows both its ends, over IPv4, IPv6, a path and a Unix name") {
    const TemporaryFolder folder;
    for (const Address& address :
         {loopback, *Address::ip("::1", 0), Address::unix_path(folder / "socket"), new_unix_name()}) {
        CAPTURE(address.to_string());
        Socket listening = listening_on(address);
        CHECK(listening.local().with_port(0) == address);
        CHECK(listening.peer() == Address());
        Socket connecting = Socket::open(address.family());

        const std::error_code started = connecting.connect(listening.local());
        CHECK((!started || started == std::errc::operation_in_progress));
        wait_for(listening, POLLIN);
        wait_for(connecting, POLLOUT);
        CHECK_FALSE(connecting.pending_error());
        Socket accepted;
        Address peer;
        REQUIRE_FALSE(listening.accept(accepted, peer));

        CHECK(connecting.peer() == listening.local());
        CHECK(accepted.local() == listening.local());
        CHECK(peer == connecting.local());  // both unnamed, for Unix sockets
    }
}

TEST_CASE("To accept where nobody waits is an error that says so, and leaves what it would have filled") {
    Socket listening = listening_on(loopback);
    Socket accepted;
    Address peer = loopback;
    const std::error_code error = listening.accept(accepted, peer);
    CHECK((error == std::errc::operation_would_block || error == std::errc::resource_unavailable_try_again));
    CHECK_FALSE(accepted);
    CHECK(peer == loopback);
}

TEST_CASE("S29: an accepted peer that has already reset still has its address, and nothing throws") {
    Socket listening = listening_on(loopback);
    Socket connecting = Socket::open(Address::Family::ipv4);
    static_cast<void>(connecting.connect(listening.local()));
    wait_for(listening, POLLIN);
    const Address who = connecting.local();
    connecting.set_linger(0s);
    connecting.close();

    Socket accepted;
    Address peer;
    REQUIRE_FALSE(listening.accept(accepted, peer));
    CHECK(peer == who);
    CHECK(accepted.peer() == Address());
    accepted.set_no_delay(true);
}

TEST_CASE("S34: a refused connection is judged by its pending error, which is told once") {
    const Address nobody = [] {
        Socket bound = Socket::open(Address::Family::ipv4);
        bound.bind(loopback);
        return bound.local();
    }();
    Socket connecting = Socket::open(Address::Family::ipv4);
    const std::error_code started = connecting.connect(nobody);
    if (started == std::errc::operation_in_progress) {
        wait_for(connecting, POLLOUT);
        CHECK(connecting.pending_error() == std::errc::connection_refused);
        CHECK_FALSE(connecting.pending_error());
    } else {
        CHECK(started == std::errc::connection_refused);
    }
}

TEST_CASE("S35: a Unix socket whose listener has a full queue says that it would block, not that it connects") {
    const Address address = new_unix_name();
    Socket listening = Socket::open(Address::Family::unix_domain);
    listening.bind(address);
    listening.listen(0);
    Socket first = Socket::open(Address::Family::unix_domain);
    CHECK_FALSE(first.connect(address));
    Socket second = Socket::open(Address::Family::unix_domain);
    CHECK(second.connect(address) == std::errc::resource_unavailable_try_again);
}

TEST_CASE("S39: connecting again while it is still in progress is still in progress") {
    // A listener that accepts no connection: once its queue is full the kernel lets further connects wait.
    Socket listening = Socket::open(Address::Family::ipv4);
    listening.bind(loopback);
    listening.listen(0);
    std::vector<Socket> waiting;
    for (int i = 0; i < 8; ++i) {
        Socket connecting = Socket::open(Address::Family::ipv4);
        static_cast<void>(connecting.connect(listening.local()));
        pollfd entry{connecting.get(), POLLOUT, 0};
        if (::poll(&entry, 1, 0) == 0) {
            CHECK(connecting.connect(listening.local()) == std::errc::operation_in_progress);
            return;
        }
        waiting.push_back(std::move(connecting));
    }
    FAIL("the queue never filled");
}

TEST_CASE("S46: after the end was written the peer reads the end, and what it writes still arrives") {
    auto [left, right] = Socket::pair();
    CHECK_FALSE(left.shutdown_write());
    char byte = 0;
    CHECK(::read(right.get(), &byte, 1) == 0);
    CHECK(::write(right.get(), "x", 1) == 1);
    CHECK(::read(left.get(), &byte, 1) == 1);
    CHECK(Socket::open(Address::Family::ipv4).shutdown_write() == std::errc::not_connected);
}

TEST_CASE("What cannot be set up names the call and its argument") {
    Socket first = listening_on(loopback);
    Socket second = Socket::open(Address::Family::ipv4);
    const Address taken = first.local();
    CHECK(contains(message_of([&] { second.bind(taken); }), "bind(" + taken.to_string() + ")"));
    CHECK(contains(message_of([] { Socket::open(Address::Family::none); }), "socket(none)"));
    CHECK(contains(message_of([] { Socket::adopt(FileDescriptor()); }), "fcntl("));
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const Socket pipe = Socket::adopt(FileDescriptor(ends[0]));  // taken; its kind shows at its first use
    const FileDescriptor other_end(ends[1]);
    CHECK(contains(message_of([&] { (void)pipe.no_delay(); }), "getsockopt(TCP_NODELAY)"));
    CHECK(pipe.local() == Address());
    CHECK(pipe.pending_error() == std::errc::not_a_socket);
    Socket datagrams = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    datagrams.bind(loopback);
    CHECK(contains(message_of([&] { datagrams.listen(1); }), "listen(127.0.0.1:"));
    const KeepAlive never{std::chrono::seconds::max(), std::chrono::seconds(1), 1};
    CHECK(contains(message_of([&] { second.set_keep_alive(never); }), "setsockopt(TCP_KEEPIDLE)"));
}

#ifdef __linux__
TEST_CASE("A socket of a family that has no Address here can be adopted, and has none") {
    const Socket netlink = Socket::adopt(FileDescriptor(::socket(AF_NETLINK, SOCK_RAW, 0)));
    CHECK(netlink.local() == Address());
    CHECK(netlink.peer() == Address());
}
#endif

TEST_CASE("S85: where two sockets may bind one port, the error of the second listener comes from listen") {
    Socket first = Socket::open(Address::Family::ipv4), second = Socket::open(Address::Family::ipv4);
    first.set_reuse_address(true);
    second.set_reuse_address(true);
    first.bind(loopback);
    second.bind(first.local());
    first.listen(1);
    CHECK(contains(message_of([&] { second.listen(1); }), "listen(" + first.local().to_string() + ")"));
}

TEST_CASE("Every option reads back as it was set") {
    Socket socket = Socket::open(Address::Family::ipv4);
    for (const bool on : {true, false}) {
        socket.set_no_delay(on);
        CHECK(socket.no_delay() == on);
        socket.set_reuse_address(on);
        CHECK(socket.reuse_address() == on);
        socket.set_reuse_port(on);
        CHECK(socket.reuse_port() == on);
    }
    CHECK_FALSE(socket.keep_alive());
    socket.set_keep_alive(KeepAlive{7s, 0s, 3});
    CHECK(socket.keep_alive()->idle == 7s);
    CHECK(socket.keep_alive()->interval == 1s);  // less than a second counts as one
    CHECK(socket.keep_alive()->probes == 3);
    socket.set_keep_alive(std::nullopt);
    CHECK_FALSE(socket.keep_alive());

    CHECK_FALSE(socket.linger());
    socket.set_linger(0s);
    CHECK(socket.linger() == 0s);
    socket.set_linger(5s);
    CHECK(socket.linger() == 5s);
    socket.set_linger(std::nullopt);
    CHECK_FALSE(socket.linger());

    socket.set_receive_buffer(10'000);
    CHECK(socket.receive_buffer() >= 10'000);
    socket.set_send_buffer(10'000);
    CHECK(socket.send_buffer() >= 10'000);
    CHECK_NOTHROW(socket.set_send_buffer(std::size_t(-1)));  // the kernel takes its maximum
}

#if REACTOR_HAS(TCP_USER_TIMEOUT)
TEST_CASE("S50: a user timeout is rounded up to milliseconds, and zero is the system's own") {
    Socket socket = Socket::open(Address::Family::ipv4);
    CHECK(socket.user_timeout() == 0s);
    socket.set_user_timeout(1ns);
    CHECK(socket.user_timeout() == 1ms);
    socket.set_user_timeout(30s);
    CHECK(socket.user_timeout() == 30s);
    socket.set_user_timeout(Duration::max());
    CHECK(socket.user_timeout() > 24h);
    socket.set_user_timeout(0s);
    CHECK(socket.user_timeout() == 0s);
}
#else
TEST_CASE("A user timeout that the system does not have is refused, unless it is the system's own") {
    Socket socket = Socket::open(Address::Family::ipv4);
    CHECK(contains(message_of([&] { socket.set_user_timeout(30s); }), "setsockopt(TCP_USER_TIMEOUT)"));
    CHECK_NOTHROW(socket.set_user_timeout(0s));
    CHECK(socket.user_timeout() == 0s);
}
#endif

TEST_CASE("S84: whether an IPv6 socket takes IPv4 as well is set on purpose") {
    Socket socket = Socket::open(Address::Family::ipv6);
    for (const bool on : {true, false}) {
        socket.set_v6_only(on);
        CHECK(socket.v6_only() == on);
    }
    CHECK(contains(message_of([] { Socket::open(Address::Family::ipv4).set_v6_only(true); }), "IPV6_V6ONLY"));
}

TEST_CASE("S108: Unix sockets ignore TCP's options, and connection options leave out what a socket does not have") {
    Socket unix_socket = Socket::open(Address::Family::unix_domain);
    unix_socket.set_keep_alive(KeepAlive{});
    unix_socket.set_user_timeout(10s);
    unix_socket.set_no_delay(true);
    CHECK_FALSE(unix_socket.keep_alive());
    CHECK(unix_socket.user_timeout() == Duration::zero());

    ConnectionOptions options;
    KeepAlive times;
    options.prepare = [&](Socket& socket) {
        socket.set_keep_alive(times);
        if (REACTOR_HAS(TCP_USER_TIMEOUT)) socket.set_user_timeout(10s);
        socket.set_receive_buffer(SIZE_MAX);
        socket.set_send_buffer(SIZE_MAX);
    };
    options.apply_to(unix_socket);
#ifdef __linux__
    constexpr int mptcp = 262;  // IPPROTO_MPTCP, which knows keep-alive and no user timeout
    Socket mptcp_socket = Socket::open(Address::Family::ipv4);
    FileDescriptor descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, mptcp));
    if (!descriptor) return;
    mptcp_socket = Socket::adopt(std::move(descriptor));
    options.apply_to(mptcp_socket);
    CHECK(mptcp_socket.keep_alive());
    CHECK(mptcp_socket.no_delay());
#endif
    Socket tcp = Socket::open(Address::Family::ipv4);
    times.idle = std::chrono::seconds::max();
    CHECK_THROWS_AS(options.apply_to(tcp), std::system_error);  // TCP has it, and not so much of it
}

#if REACTOR_HAS(SO_PEERCRED)
TEST_CASE("S106: of a peer whose process this pid namespace does not show the user and group are known") {
    const auto [mine, theirs] = Socket::pair();  // its peer is this process, as it was when the pair was made
    const pid_t child = ::fork();
    if (child == 0) {
        if (::unshare(CLONE_NEWPID) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) ::_exit(77);
        const pid_t inside = ::fork();  // the first process of the namespace
        if (inside == 0) {
            const auto who = mine.peer_credentials();
            const bool as_expected = who && !who->process && who->user == ::geteuid() && who->group == ::getegid();
            ::_exit(as_expected ? 0 : 1);
        }
        int status = 0;
        ::_exit(::waitpid(inside, &status, 0) == inside && WIFEXITED(status) ? WEXITSTATUS(status) : 2);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) return;  // not allowed here
    CHECK(WEXITSTATUS(status) == 0);
}
#endif

TEST_CASE("No-delay is ignored for Unix sockets, so that nobody needs to ask what carries a stream") {
    auto [left, right] = Socket::pair();
    CHECK_NOTHROW(left.set_no_delay(true));
    CHECK_NOTHROW(right.set_no_delay(false));
    CHECK(left.no_delay());
}

TEST_CASE("A pair of packet sockets keeps the boundaries of messages") {
    auto [left, right] = Socket::pair(SocketKind::sequenced_packets);
    CHECK(::send(left.get(), "ab", 2, 0) == 2);
    CHECK(::send(left.get(), "c", 1, 0) == 1);
    char buffer[8];
    CHECK(::recv(right.get(), buffer, sizeof buffer, 0) == 2);
    CHECK(::recv(right.get(), buffer, sizeof buffer, 0) == 1);
}
