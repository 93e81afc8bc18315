// The floor: the same echo written by hand on the bare call, a page for each of select, poll and epoll. A library's
// cost is the difference to these. They do what a server must (partial writes wait for room, and the peer is not
// read from meanwhile) and nothing else: no timers, no limits, no second protocol.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <system_error>
#include <vector>

namespace {

std::vector<char> buffer;

// The bytes that could not be sent at once, by descriptor.
std::vector<std::vector<char>> rests;

enum class Wait { readable, writable, nothing };  // nothing: the connection is over

std::system_error failure(const char* what) {
    return std::system_error(errno, std::system_category(), what);
}

Wait send_back(int descriptor, const char* data, std::size_t size) {
    const ssize_t sent = ::send(descriptor, data, size, MSG_NOSIGNAL);
    if (sent == ssize_t(size)) return Wait::readable;
    if (sent < 0 && errno != EAGAIN) return Wait::nothing;
    rests[std::size_t(descriptor)].assign(data + std::max<ssize_t>(sent, 0), data + size);
    return Wait::writable;
}

Wait echo(int descriptor) {
    const ssize_t received = ::recv(descriptor, buffer.data(), buffer.size(), 0);
    if (received == 0) return Wait::nothing;
    if (received < 0) return errno == EAGAIN || errno == EINTR ? Wait::readable : Wait::nothing;
    return send_back(descriptor, buffer.data(), std::size_t(received));
}

Wait send_rest(int descriptor) {
    std::vector<char>& rest = rests[std::size_t(descriptor)];
    const ssize_t sent = ::send(descriptor, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? Wait::writable : Wait::nothing;
    rest.erase(rest.begin(), rest.begin() + sent);
    return rest.empty() ? Wait::readable : Wait::writable;
}

int accept_one(int listener) {
    const int descriptor = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor < 0) return -1;
    const int on = 1;
    ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (rests.size() <= std::size_t(descriptor)) rests.resize(2 * std::size_t(descriptor) + 64);
    return descriptor;
}

void close_connection(int descriptor) {
    std::vector<char>().swap(rests[std::size_t(descriptor)]);
    ::close(descriptor);
}

// ── epoll ──

// Bytes that were received and are still to be sent: --together receives from all that are ready, then sends to all.
// This is an experiment that measures the worth of doing so.
struct Received {
    int descriptor;
    std::size_t begin, size;
};

void serve_with_epoll(int listener, bool together) {
    const std::size_t one = buffer.size();
    if (together) buffer.resize(128 * one);
    std::vector<Received> received;

    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) throw failure("epoll_create1");
    const auto control = [epoll](int operation, int descriptor, std::uint32_t events) {
        epoll_event event{};
        event.events = events;
        event.data.fd = descriptor;
        ::epoll_ctl(epoll, operation, descriptor, &event);
    };
    const auto send_received = [&] {
        for (const Received& each : received) {
            const Wait wait = send_back(each.descriptor, buffer.data() + each.begin, each.size);
            if (wait == Wait::nothing) close_connection(each.descriptor);
            if (wait == Wait::writable) control(EPOLL_CTL_MOD, each.descriptor, EPOLLOUT);
        }
        received.clear();
    };
    control(EPOLL_CTL_ADD, listener, EPOLLIN);
    std::array<epoll_event, 1024> events{};
    for (;;) {
        const int count = ::epoll_wait(epoll, events.data(), int(events.size()), -1);
        if (count < 0 && errno != EINTR) throw failure("epoll_wait");
        std::size_t used = 0;
        for (int i = 0; i < count; ++i) {
            const int descriptor = events[std::size_t(i)].data.fd;
            if (descriptor == listener) {
                for (int accepted = accept_one(listener); accepted >= 0; accepted = accept_one(listener))
                    control(EPOLL_CTL_ADD, accepted, EPOLLIN);
                continue;
            }
            const bool writes = !rests[std::size_t(descriptor)].empty();
            if (together && !writes) {
                if (used + one > buffer.size()) {
                    send_received();
                    used = 0;
                }
                const ssize_t size = ::recv(descriptor, buffer.data() + used, one, 0);
                if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) close_connection(descriptor);
                if (size <= 0) continue;
                received.push_back({descriptor, used, std::size_t(size)});
                used += (std::size_t(size) + 63) / 64 * 64;  // a cache line belongs to one
                continue;
            }
            const Wait wait = writes ? send_rest(descriptor) : echo(descriptor);
            if (wait == Wait::nothing) {
                close_connection(descriptor);
            } else if (writes != (wait == Wait::writable)) {
                control(EPOLL_CTL_MOD, descriptor, wait == Wait::writable ? EPOLLOUT : EPOLLIN);
            }
        }
        send_received();
    }
}

// ── poll ──

void serve_with_poll(int listener) {
    std::vector<pollfd> watched{{listener, POLLIN, 0}};
    for (;;) {
        int left = ::poll(watched.data(), nfds_t(watched.size()), -1);
        if (left < 0 && errno != EINTR) throw failure("poll");
        for (std::size_t i = watched.size(); i-- > 0 && left > 0;) {  // backwards: the last one may fill a gap
            if (watched[i].revents == 0) continue;
            --left;
            const int descriptor = watched[i].fd;
            if (descriptor == listener) {
                for (int accepted = accept_one(listener); accepted >= 0; accepted = accept_one(listener))
                    watched.push_back({accepted, POLLIN, 0});
                continue;
            }
            const bool writes = !rests[std::size_t(descriptor)].empty();
            const Wait wait = writes ? send_rest(descriptor) : echo(descriptor);
            if (wait == Wait::nothing) {
                close_connection(descriptor);
                watched[i] = watched.back();
                watched.pop_back();
            } else {
                watched[i].events = wait == Wait::writable ? POLLOUT : POLLIN;
            }
        }
    }
}

// ── select ──

using Word = unsigned long;
constexpr std::size_t word_bits = sizeof(Word) * CHAR_BIT;

// As large as the highest descriptor: the kernel takes any size, the C library's fd_set ends at 1024.
struct Set {
    std::vector<Word> words;
    void put(int descriptor, bool in) {
        const auto word = std::size_t(descriptor) / word_bits;
        if (word >= words.size()) words.resize(2 * word + 1);
        const Word bit = Word(1) << (std::size_t(descriptor) % word_bits);
        words[word] = in ? words[word] | bit : words[word] & ~bit;
    }
};

void serve_with_select(int listener) {
    Set readable, writable;
    std::vector<Word> ready[2];
    int highest = listener;
    const auto watch = [&](int descriptor, Wait wait) {
        readable.put(descriptor, wait == Wait::readable);
        writable.put(descriptor, wait == Wait::writable);
        if (wait != Wait::nothing) highest = std::max(highest, descriptor);
        const auto watched = [&](int at) {
            return ((readable.words[std::size_t(at) / word_bits] | writable.words[std::size_t(at) / word_bits]) >>
                    (std::size_t(at) % word_bits)) &
                   1;
        };
        while (!watched(highest)) --highest;
    };
    watch(listener, Wait::readable);
    for (;;) {
        const auto used = std::size_t(highest) / word_bits + 1;
        ready[0].assign(readable.words.begin(), readable.words.begin() + std::ptrdiff_t(used));
        ready[1].assign(writable.words.begin(), writable.words.begin() + std::ptrdiff_t(used));
        const int count = ::select(highest + 1, reinterpret_cast<fd_set*>(ready[0].data()),
                                   reinterpret_cast<fd_set*>(ready[1].data()), nullptr, nullptr);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw failure("select");
        for (std::size_t word = 0; word < used; ++word) {
            for (Word left = ready[0][word] | ready[1][word]; left != 0; left &= left - 1) {
                const auto descriptor = int(word * word_bits + std::size_t(std::countr_zero(left)));
                if (descriptor == listener) {
                    for (int accepted = accept_one(listener); accepted >= 0; accepted = accept_one(listener))
                        watch(accepted, Wait::readable);
                    continue;
                }
                const bool writes = !rests[std::size_t(descriptor)].empty();
                const Wait wait = writes ? send_rest(descriptor) : echo(descriptor);
                if (wait != Wait::nothing && writes == (wait == Wait::writable)) continue;
                watch(descriptor, wait);
                if (wait == Wait::nothing) close_connection(descriptor);
            }
        }
    }
}

// ── the program ──

int listen_on(const std::string& host, std::uint16_t port) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) throw failure("socket");
    const int on = 1;
    ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1)
        throw std::runtime_error(host + " is no IPv4 address");
    if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) throw failure("bind");
    if (::listen(listener, SOMAXCONN) != 0) throw failure("listen");
    return listener;
}

}  // namespace

int main(int count, char** arguments) {
    std::string host = "127.0.0.1", backend = "epoll";
    std::uint16_t port = 0;
    std::size_t buffer_size = 64 * 1024;
    bool together = false;
    CLI::App app{"An echo server written by hand on the bare call: what the library is measured against."};
    app.option_defaults()->always_capture_default();
    app.add_option("--host", host, "IPv4 address to listen on");
    app.add_option("--port", port, "Port to listen on; 0 takes a free one");
    app.add_option("--backend", backend, "The call")->check(CLI::IsMember({"select", "poll", "epoll"}));
    app.add_option("--buffer", buffer_size, "Bytes read at a time")->check(CLI::Range(1, 1 << 24));
    app.add_flag("--together", together, "With epoll: receive from all that are ready, then send to all");
    CLI11_PARSE(app, count, arguments);
    try {
        std::signal(SIGTERM, [](int) { ::_exit(0); });
        std::signal(SIGINT, [](int) { ::_exit(0); });
        rlimit limit{};
        if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            ::setrlimit(RLIMIT_NOFILE, &limit);
        }
        buffer.resize(buffer_size);
        const int listener = listen_on(host, port);
        sockaddr_in address{};
        socklen_t length = sizeof address;
        ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
        fmt::print("listening on {}:{} (bare {})\n", host, ntohs(address.sin_port), backend);
        std::fflush(stdout);
        if (backend == "epoll") serve_with_epoll(listener, together);
        if (backend == "poll") serve_with_poll(listener);
        if (backend == "select") serve_with_select(listener);
    } catch (const std::exception& error) {
        fmt::print(stderr, "bare_server: {}\n", error.what());
        return 1;
    }
}
