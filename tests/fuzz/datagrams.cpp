// Datagrams: a byte stream is a program of two endpoints that send, pause and resume, from outside callbacks and from
// inside them, over UDP and Unix sockets, in batches of any size. On this machine nothing is lost: a datagram that was
// taken arrives once, whole and in order.
#include "fuzz.hpp"

#include <reactor/datagram/datagram.hpp>
#include <reactor/reactor.hpp>

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <utility>

namespace {

using namespace reactor;

constexpr std::size_t sizes[] = {0, 1, 5, 5, 100, 1'200, 1'452, 3'000};
constexpr std::size_t most_under_way = 40;  // so many of the largest fit into the smallest of the kernel's buffers

struct Side final : DatagramProtocol {
    Side* other = nullptr;
    DatagramEndpoint* endpoint = nullptr;
    std::deque<std::string> under_way;  // to this side
    int answers = 0;                    // to be sent from within the next calls
    std::size_t number = 0;

    void send(std::size_t size) {
        if (other->under_way.size() >= most_under_way) return;
        std::string data(size, char('a' + number++ % 26));
        fuzz::require(endpoint->send(data), "there is room for so little");
        other->under_way.push_back(std::move(data));
    }
    void received(const Datagram& datagram) override {
        fuzz::require(!under_way.empty(), "nothing comes that was not sent");
        fuzz::require(text_of(datagram.data) == under_way.front(), "it comes whole and in order");
        fuzz::require(!datagram.truncated, "and not cut off");
        under_way.pop_front();
        for (; answers > 0; --answers) send(sizes[number % std::size(sizes)]);
    }
    void refused(const Address&, std::error_code) override { fuzz::require(false, "nothing is refused"); }
};

std::pair<Socket, Socket> ends_of(std::size_t kind) {
    if (kind == 0) return Socket::pair(SocketKind::datagram);
    if (kind == 1) return Socket::pair(SocketKind::sequenced_packets);
    std::pair<Socket, Socket> ends;
    for (Socket* end : {&ends.first, &ends.second}) {
        *end = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        end->bind(*Address::ip("127.0.0.1", 0));
    }
    fuzz::require(!ends.first.connect(ends.second.local()) && !ends.second.connect(ends.first.local()), "they connect");
    return ends;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    Reactor reactor;
    auto [left, right] = ends_of(input.below(3));
    std::array<Side*, 2> sides{};
    std::array<Socket, 2> sockets{std::move(left), std::move(right)};
    for (std::size_t i = 0; i < 2; ++i) {
        DatagramOptions options;
        options.batch = 1 + input.below(40);
        auto side = std::make_unique<Side>();
        sides[i] = side.get();
        sides[i]->endpoint = &DatagramEndpoint::open(reactor, std::move(sockets[i]), std::move(side), options);
    }
    sides[0]->other = sides[1];
    sides[1]->other = sides[0];
    for (int steps = 0; steps < 300 && !input.empty(); ++steps) {
        const std::uint8_t step = input.byte();
        Side& side = *sides[step % 2];
        switch (step / 2 % 6) {
            case 0: side.send(sizes[input.below(std::size(sizes))]); break;
            case 1:
                for (std::size_t count = input.below(30); count > 0; --count) side.send(100);
                break;
            case 2: side.answers = int(input.below(20)); break;
            case 3: side.endpoint->pause_receiving(); break;
            case 4: side.endpoint->resume_receiving(); break;
            case 5: reactor.run_once(Duration::zero()); break;
        }
    }
    for (Side* side : sides) {
        side->answers = 0;
        side->endpoint->resume_receiving();
    }
    for (int turns = 0; turns < 1'000 && !(sides[0]->under_way.empty() && sides[1]->under_way.empty()); ++turns)
        reactor.run_once(Duration::zero());
    fuzz::require(sides[0]->under_way.empty() && sides[1]->under_way.empty(), "everything comes");
    return 0;
}
