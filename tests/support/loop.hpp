// Shared by the tests of connections: a loop driven until something holds, the raw client end of a
// conversation, and a protocol that notes its calls.
#pragma once

#include "temporary_folder.hpp"

#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/protocol.hpp>

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

/// For ConnectionOptions::prepare: small buffers of the kernel's, so that few bytes fill them.
inline std::function<void(reactor::Socket&)> send_buffer(std::size_t bytes) {
    return [bytes](reactor::Socket& socket) { socket.set_send_buffer(bytes); };
}
inline std::function<void(reactor::Socket&)> receive_buffer(std::size_t bytes) {
    return [bytes](reactor::Socket& socket) { socket.set_receive_buffer(bytes); };
}

/// Turns the loop until `condition` holds. A test that would wait for ever fails instead.
inline void run_until(reactor::Reactor& reactor, const std::function<bool()>& condition) {
    const auto give_up = reactor.now() + std::chrono::seconds(60);
    while (!condition()) {
        REQUIRE_MESSAGE(reactor.now() < give_up, "what the test waits for does not happen");
        reactor.run_once(std::chrono::milliseconds(20));
    }
}

/// Turns the loop until nothing is ready, at most `most` times; returns how many turns it took. More is a spin.
inline int settle(reactor::Reactor& reactor, int most = 1000) {
    int turns = 0;
    while (turns < most) {
        ++turns;
        const bool now = reactor.next_timeout() == reactor::Duration::zero();
        if (reactor.run_once(reactor::Duration::zero()) == 0 && !now) break;
    }
    return turns;
}

/// Two ends of a TCP connection over loopback.
inline std::pair<reactor::Socket, reactor::Socket> tcp_pair(int receive_buffer = 0) {
    using namespace reactor;
    Socket listener = Socket::open(Address::Family::ipv4);
    if (receive_buffer > 0) listener.set_receive_buffer(std::size_t(receive_buffer));
    listener.bind(*Address::ip("127.0.0.1", 0));
    listener.listen(1);
    Socket client = Socket::open(Address::Family::ipv4);
    if (receive_buffer > 0) client.set_receive_buffer(std::size_t(receive_buffer));
    (void)client.connect(listener.local());
    Socket server;
    Address peer;
    while (listener.accept(server, peer)) {
    }
    return {std::move(client), std::move(server)};
}

/// The bytes that can be read from a non-blocking socket now. `ended` says whether the end or an error followed.
inline std::string read_all(const reactor::Socket& socket, bool* ended = nullptr, std::size_t piece = 64 * 1024) {
    std::string result;
    std::string buffer(piece, '\0');
    for (;;) {
        const ssize_t count = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
        if (count > 0) {
            result.append(buffer, 0, std::size_t(count));
            continue;
        }
        if (ended != nullptr) *ended = count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
        return result;
    }
}

/// Writes as much as the socket takes now; returns how much that was.
inline std::size_t write_some(const reactor::Socket& socket, std::string_view text) {
    const ssize_t count = ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
    return count < 0 ? 0 : std::size_t(count);
}

inline std::size_t open_descriptors() {
    std::size_t count = 0;
    DIR* directory = ::opendir("/proc/self/fd");
    REQUIRE(directory != nullptr);
    while (::readdir(directory) != nullptr) ++count;
    ::closedir(directory);
    return count;
}

/// Lowers the limit of descriptors to the open ones and `more`, until the end of the scope.
struct FewDescriptors {
    explicit FewDescriptors(std::size_t more) {
        ::getrlimit(RLIMIT_NOFILE, &before);
        rlimit few = before;
        reactor::FileDescriptor probe(::open("/dev/null", O_RDONLY | O_CLOEXEC));  // the lowest free number
        few.rlim_cur = rlim_t(std::size_t(probe.get()) + more);
        ::setrlimit(RLIMIT_NOFILE, &few);
    }
    ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before); }
    rlimit before{};
};

/// The behaviour of a peer that is not ours: so many copies of one descriptor with one message. 0, or errno.
inline int send_descriptor_raw(const reactor::Socket& socket, std::string_view data, int descriptor,
                               std::size_t count = 1) {
    alignas(cmsghdr) char control[CMSG_SPACE(100 * sizeof(int))] = {};
    iovec piece{const_cast<char*>(data.data()), data.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const entry = CMSG_FIRSTHDR(&message);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SCM_RIGHTS;
    entry->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (std::size_t i = 0; i < count; ++i) std::memcpy(CMSG_DATA(entry) + i * sizeof(int), &descriptor, sizeof(int));
    return ::sendmsg(socket.get(), &message, MSG_NOSIGNAL) == ssize_t(data.size()) ? 0 : errno;
}

/// Can a socket be told to take no descriptors (Linux 6.16: SO_PASSRIGHTS)?
inline bool kernel_refuses_descriptors() {
    auto [sender, receiver] = reactor::Socket::pair();
    receiver.set_accepts_descriptors(false);
    return send_descriptor_raw(sender, "x", 0) == EPERM;
}

/// The same for the same seed. Eight at a time: some tests want twenty million, and run under valgrind too.
inline std::string random_bytes(std::size_t size, unsigned seed) {
    std::mt19937_64 random(seed);
    std::string result(size, '\0');
    for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
        const std::uint64_t bytes = random();
        std::memcpy(result.data() + at, &bytes, std::min(sizeof bytes, size - at));
    }
    return result;
}

/// The calls of one connection, in order, and the actions that the test wants in them.
struct Journal {
    std::vector<std::string> calls;
    std::string input;
    std::error_code reason;
    bool over = false;
    reactor::Transport* transport = nullptr;  // while it is not over

    std::function<void()> on_connected, on_end, on_pause, on_resume, on_draining, on_disconnected;
    std::function<std::size_t(reactor::Bytes)> on_received;

    std::size_t count(std::string_view call) const { return std::size_t(std::count(calls.begin(), calls.end(), call)); }
};

class Recorder final : public reactor::Protocol {
public:
    explicit Recorder(Journal& journal) : journal_(journal) {}

    void connected() override {
        journal_.transport = &transport();
        note("connected");
        if (journal_.on_connected) journal_.on_connected();
    }
    std::size_t received(reactor::Bytes input) override {
        if (journal_.on_received) return journal_.on_received(input);
        journal_.input += reactor::text_of(input);
        if (journal_.calls.empty() || journal_.calls.back() != "received") note("received");
        return input.size();
    }
    void end_of_stream() override {
        note("end");
        if (journal_.on_end) return journal_.on_end();
        transport().close();
    }
    void draining() override {
        note("draining");
        if (journal_.on_draining) return journal_.on_draining();
        transport().close();
    }
    void disconnected(std::error_code reason) override {
        note("disconnected");
        journal_.reason = reason;
        journal_.over = true;
        journal_.transport = nullptr;
        if (journal_.on_disconnected) journal_.on_disconnected();
    }
    void pause_writing() override {
        note("pause");
        if (journal_.on_pause) journal_.on_pause();
    }
    void resume_writing() override {
        note("resume");
        if (journal_.on_resume) journal_.on_resume();
    }

private:
    void note(const char* call) { journal_.calls.emplace_back(call); }
    Journal& journal_;
};

/// A connection under test, with a journal, and the raw socket at its other end.
struct Conversation {
    explicit Conversation(reactor::Reactor& reactor, const reactor::ConnectionOptions& options = {},
                          int receive_buffer = 0)
        : Conversation(reactor, tcp_pair(receive_buffer), options) {}
    Conversation(reactor::Reactor& reactor, std::pair<reactor::Socket, reactor::Socket> ends,
                 const reactor::ConnectionOptions& options)
        : peer(std::move(ends.first)) {
        reactor::Connection::open(reactor, std::move(ends.second), std::make_unique<Recorder>(journal), options);
    }
    Journal journal;
    reactor::Socket peer;
};
