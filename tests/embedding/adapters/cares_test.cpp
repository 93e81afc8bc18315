// Against a name server that runs in the same loop, and knows what this test needs.
#include "driven.hpp"

#include <reactor/adapters/cares.hpp>

#include <reactor/net/socket.hpp>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;
using namespace std::chrono_literals;

namespace {

// Answers questions for IPv4 addresses (RFC 1035): those of names that begin with "silent" not at all, the first one
// for names that begin with "late" not either, unknown ones with NXDOMAIN.
class NameServer final : EventHandler {
public:
    explicit NameServer(Reactor& reactor) : socket_(Socket::open(Address::Family::ipv4, SocketKind::datagram)) {
        socket_.bind(*Address::ip("127.0.0.1", 0));
        registration_ = reactor.watch(socket_.get(), Interest::readable, *this);
    }
    std::string address() const { return socket_.local().to_string(); }
    std::map<std::string, int> questions;

private:
    void readable() override {
        unsigned char packet[512];
        sockaddr_storage from{};
        socklen_t from_size = sizeof from;
        const ssize_t size =
            ::recvfrom(socket_.get(), packet, sizeof packet, 0, reinterpret_cast<sockaddr*>(&from), &from_size);
        if (size < 17) return;
        std::string name;
        std::size_t at = 12;
        while (at < std::size_t(size) && packet[at] != 0) {
            name.append(name.empty() ? "" : ".").append(reinterpret_cast<char*>(packet) + at + 1, packet[at]);
            at += packet[at] + 1u;
        }
        const int asked = ++questions[name];
        if (name.starts_with("silent") || (name.starts_with("late") && asked == 1)) return;
        const bool known = name.ends_with(".test");
        std::string answer(reinterpret_cast<char*>(packet), at + 5);  // header and question
        answer[2] = char(0x84);                                       // an answer, authoritative
        answer[3] = char(known ? 0 : 3);
        answer[6] = 0;
        answer[7] = char(known ? 1 : 0);
        answer[8] = answer[9] = answer[10] = answer[11] = 0;
        if (known) answer += std::string("\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\x01\x02\x03", 16);
        ::sendto(socket_.get(), answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from), from_size);
    }

    Socket socket_;
    Registration registration_;
};

const ares_addrinfo_hints over_ipv4{0, AF_INET, 0, 0};

struct Answer {
    int status = -1;
    std::string address;
    static void done(void* self, int status, int, ares_addrinfo* result) {
        auto* answer = static_cast<Answer*>(self);
        answer->status = status;
        if (result == nullptr) return;
        for (const ares_addrinfo_node* node = result->nodes; node != nullptr; node = node->ai_next) {
            char text[INET_ADDRSTRLEN] = "";
            sockaddr_in ipv4{};
            std::memcpy(&ipv4, node->ai_addr, sizeof ipv4);
            answer->address = ::inet_ntop(AF_INET, &ipv4.sin_addr, text, sizeof text);
        }
        ares_freeaddrinfo(result);
    }
};

void run_until_answered(Reactor& reactor, const std::vector<Answer>& answers) {
    for (const Answer& answer : answers) run_until(reactor, [&] { return answer.status >= 0; });
}

}  // namespace

TEST_CASE("c-ares: many names are looked up at once, without a thread") {
    Reactor reactor;
    NameServer server(reactor);
    CaresChannel channel(reactor, server.address().c_str(), 5000ms, 3);
    std::vector<Answer> answers(100);
    for (std::size_t i = 0; i < answers.size(); ++i)
        channel.look_up(("host" + std::to_string(i) + ".test").c_str(), nullptr, over_ipv4, &Answer::done, &answers[i]);
    run_until_answered(reactor, answers);
    for (const Answer& answer : answers) {
        CHECK(answer.status == ARES_SUCCESS);
        CHECK(answer.address == "127.1.2.3");
    }
}

TEST_CASE("c-ares: a name that does not exist, and a server that does not answer") {
    Reactor reactor;
    NameServer server(reactor);
    CaresChannel channel(reactor, server.address().c_str(), 50ms, 2);
    std::vector<Answer> answers(3);
    channel.look_up("nowhere.example", nullptr, over_ipv4, &Answer::done, &answers[0]);
    channel.look_up("silent.test", nullptr, over_ipv4, &Answer::done, &answers[1]);
    channel.look_up("late.test", nullptr, over_ipv4, &Answer::done, &answers[2]);
    run_until_answered(reactor, answers);
    CHECK(answers[0].status == ARES_ENOTFOUND);
    CHECK(answers[1].status == ARES_ETIMEOUT);
    CHECK(server.questions["silent.test"] == 2);
    CHECK(answers[2].status == ARES_SUCCESS);  // asked again when the timer said so
    CHECK(server.questions["late.test"] == 2);
}

TEST_CASE("c-ares: a channel that goes while names are being looked up tells each of them") {
    Reactor reactor;
    NameServer server(reactor);
    std::vector<Answer> answers(2);
    {
        CaresChannel channel(reactor, server.address().c_str(), 5000ms, 3);
        for (Answer& answer : answers) channel.look_up("silent.test", nullptr, over_ipv4, &Answer::done, &answer);
        reactor.run_once(std::chrono::seconds(1));
    }
    for (const Answer& answer : answers) CHECK(answer.status == ARES_EDESTRUCTION);
    reactor.run_once(Duration::zero());
}

TEST_CASE("c-ares: a server that does not answer costs the loop a few iterations for each try, and no spinning") {
    Reactor reactor;
    NameServer server(reactor);
    CaresChannel channel(reactor, server.address().c_str(), 20ms, 2);
    std::vector<Answer> answers(1);
    int iterations = 0;
    for (int i = 0; i < 5; ++i) {
        answers[0] = {};
        channel.look_up("silent.test", nullptr, over_ipv4, &Answer::done, &answers[0]);
        while (answers[0].status < 0 && iterations < 10'000) {
            iterate(reactor);
            ++iterations;
        }
        CHECK(answers[0].status == ARES_ETIMEOUT);
    }
    // Two tries each: the question's arrival at the server and the time when it is over, and now and then one more.
    CHECK(server.questions["silent.test"] == 10);
    CHECK(iterations <= 50);
}

TEST_CASE("c-ares: its time is asked once an iteration, however many names are looked up") {
    Reactor reactor;
    NameServer server(reactor);
    CaresChannel channel(reactor, server.address().c_str(), 5000ms, 3);
    constexpr int names = 100;
    std::vector<Answer> answers(1);
    const Cost cost = cost_of(reactor, "c-ares: a name, its server in the same loop", names, [&] {
        for (int i = 0; i < names; ++i) {
            answers[0] = {};
            channel.look_up("host.test", nullptr, over_ipv4, &Answer::done, &answers[0]);
            run_until_answered(reactor, answers);
        }
    });
    CHECK(cost.iterations <= 3);  // the question at the server, the answer
    CHECK(cost.timers == 0);
}
