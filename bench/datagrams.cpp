// The cost of receiving and sending a datagram, one by one and in batches: two UDP sockets on one loop send each other
// all that they receive, with so many on their way, and every arrival counts as one. Datagrams of one size the library
// lets the kernel cut up and put together (UDP_SEGMENT, UDP_GRO); of 64 sizes that grow from one to the next each goes
// by itself. The floor is the same written by hand on epoll, with sendto and recvfrom, and with sendmmsg and recvmmsg.
#include <reactor/datagram/datagram.hpp>
#include <reactor/reactor.hpp>

#include <benchmark/benchmark.h>

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

namespace {

constexpr std::size_t in_flight = 64;  // no more than a socket's buffer holds of the largest size here

reactor::Socket bound() {
    reactor::Socket socket = reactor::Socket::open(reactor::Address::Family::ipv4, reactor::SocketKind::datagram);
    socket.bind(*reactor::Address::ip("127.0.0.1", 0));
    return socket;
}

std::string message(const benchmark::State& state, std::size_t number) {
    return std::string(std::size_t(state.range(1)) + number % std::size_t(state.range(2)), 'x');
}

class Player final : public reactor::DatagramProtocol {
public:
    explicit Player(std::uint64_t& arrivals) : arrivals_(arrivals) {}
    void received(const reactor::Datagram& datagram) override {
        ++arrivals_;
        transport().answer(datagram, datagram.data);
    }

private:
    std::uint64_t& arrivals_;
};

void play(benchmark::State& state, const std::string& backend) {
    reactor::DatagramOptions options;
    options.batch = std::size_t(state.range(0));
    std::uint64_t arrivals = 0;
    reactor::Reactor loop(backend);
    auto& one = reactor::DatagramEndpoint::open(loop, bound(), std::make_unique<Player>(arrivals), options);
    auto& other = reactor::DatagramEndpoint::open(loop, bound(), std::make_unique<Player>(arrivals), options);
    for (std::size_t i = 0; i < in_flight; ++i) one.send(other.local(), message(state, i));
    while (arrivals < 10 * in_flight) loop.run_once();
    const std::uint64_t before = arrivals;
    for (auto _ : state) loop.run_once();
    state.SetItemsProcessed(std::int64_t(arrivals - before));
}

// Receives what there is and sends it back, with one system call each or for all of them.
struct BarePlayer {
    reactor::Socket socket = bound();
    std::array<mmsghdr, 64> messages{};
    std::array<iovec, 64> pieces{};
    std::array<sockaddr_in, 64> peers{};
    std::array<std::array<char, 2048>, 64> buffers{};

    std::uint64_t turn(std::size_t batch) {
        std::uint64_t arrivals = 0;
        while (batch == 1 && arrivals < 128) {
            socklen_t length = sizeof peers[0];
            auto* const peer = reinterpret_cast<sockaddr*>(peers.data());
            const ssize_t count = ::recvfrom(socket.get(), buffers[0].data(), buffers[0].size(), 0, peer, &length);
            if (count < 0) return arrivals;
            if (::sendto(socket.get(), buffers[0].data(), std::size_t(count), 0, peer, length) < 0) return arrivals;
            ++arrivals;
        }
        while (batch > 1 && arrivals < 128) {
            for (std::size_t i = 0; i < batch; ++i) {
                pieces[i] = {buffers[i].data(), buffers[i].size()};
                messages[i].msg_hdr = {};
                messages[i].msg_hdr.msg_name = &peers[i];
                messages[i].msg_hdr.msg_namelen = sizeof peers[i];
                messages[i].msg_hdr.msg_iov = &pieces[i];
                messages[i].msg_hdr.msg_iovlen = 1;
            }
            const int count = ::recvmmsg(socket.get(), messages.data(), unsigned(batch), 0, nullptr);
            if (count <= 0) return arrivals;
            for (std::size_t i = 0; i < std::size_t(count); ++i) pieces[i].iov_len = messages[i].msg_len;
            if (::sendmmsg(socket.get(), messages.data(), unsigned(count), 0) < count) return arrivals;
            arrivals += std::uint64_t(count);
            if (std::size_t(count) < batch) return arrivals;
        }
        return arrivals;
    }
};

void bare_play(benchmark::State& state) {
    auto one = std::make_unique<BarePlayer>(), other = std::make_unique<BarePlayer>();
    const auto to = other->socket.local();
    for (std::size_t i = 0; i < in_flight; ++i) {
        const std::string text = message(state, i);
        ::sendto(one->socket.get(), text.data(), text.size(), 0, to.data(), socklen_t(to.size()));
    }
    const reactor::FileDescriptor set(::epoll_create1(EPOLL_CLOEXEC));
    for (BarePlayer* player : {one.get(), other.get()}) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.ptr = player;
        ::epoll_ctl(set.get(), EPOLL_CTL_ADD, player->socket.get(), &event);
    }
    std::uint64_t arrivals = 0;
    for (auto _ : state) {
        std::array<epoll_event, 2> events;
        const int count = ::epoll_wait(set.get(), events.data(), 2, -1);
        for (int i = 0; i < count; ++i)
            arrivals += static_cast<BarePlayer*>(events[std::size_t(i)].data.ptr)->turn(std::size_t(state.range(0)));
    }
    state.SetItemsProcessed(std::int64_t(arrivals));
}

const bool registered = [] {
    const auto add = [](const std::string& name, auto function) {
        benchmark::RegisterBenchmark(("datagrams/" + name).c_str(), function)
            ->ArgNames({"batch", "bytes", "sizes"})
            ->ArgsProduct({{1, 8, 32, 64}, {64, 1200}, {1, std::int64_t(in_flight)}});
    };
    add("bare epoll", bare_play);
    for (const std::string backend : {"epoll", "poll", "select"})
        add("reactor " + backend, [backend](benchmark::State& state) { play(state, backend); });
    return true;
}();

}  // namespace
