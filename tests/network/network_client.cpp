// The client end of tests/network/network_test.py: connects to the first of some addresses that answers, prints its
// events, a line each, and obeys standard input.
//
//     network_client [--user-timeout MS] [--keep-alive S] [--timeout MS] [--reconnect] ADDRESS:PORT...
//     echo N       sends N bytes and expects them back; says how many are, at each full megabyte and at the end
//     send N       sends N bytes and expects nothing
#include <reactor/reactor.hpp>
#include <reactor/stream/connector.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace reactor;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr std::size_t progress = 1 << 20;

template <class... Words>
void say(const Words&... words) {
    const std::string line = (std::string() + ... + words);
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
}

// The byte at each place distinguishes lost, doubled and exchanged ones.
char byte_at(std::size_t place) noexcept {
    return char(place * 0x9e3779b97f4a7c15u >> 56);
}

struct Client final : EventHandler {
    class Talk;

    Client(Reactor& the_reactor, bool goes_on) : reactor(the_reactor), reconnects(goes_on) {
        commands = reactor.watch(STDIN_FILENO, Interest::readable, *this);
    }

    void readable() override {
        char buffer[256];
        const ssize_t count = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (count <= 0) return reactor.stop();
        text.append(buffer, std::size_t(count));
        for (std::size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1))
            obey(text.substr(0, end));
    }
    void obey(const std::string& command);

    Reactor& reactor;
    const bool reconnects;
    Connector* connector = nullptr;
    Talk* talk = nullptr;
    Registration commands;
    std::string text;
};

class Client::Talk final : public Protocol {
public:
    explicit Talk(Client& client) noexcept : client_(client) {}

    void send(std::size_t size, bool expected) {
        to_send_ += size;
        if (expected) expected_ += size;
        produce();
    }

private:
    void connected() override {
        client_.talk = this;
        say("connected to ", transport().peer().to_string());
    }
    std::size_t received(Bytes input) override {
        for (const char byte : text_of(input)) {
            if (byte != byte_at(came_)) {
                say("wrong byte ", std::to_string(came_));
                std::exit(EXIT_FAILURE);
            }
            ++came_;
            if (came_ == expected_ || came_ % progress == 0) say("echoed ", std::to_string(came_));
        }
        return input.size();
    }
    void resume_writing() override { produce(); }
    void disconnected(std::error_code reason) override {
        client_.talk = nullptr;
        for (const Connector::Failure& failure : client_.connector->failures())
            say("failed ", failure.address.to_string(), ": ", failure.error.message());
        say("ended: ", reason ? reason.message() : "in good order");
        if (!client_.reconnects) client_.reactor.stop();
    }
    void produce() {
        std::string piece;
        while (to_send_ > 0 && transport().queued() <= transport().limits().high_mark) {
            piece.resize(std::min<std::size_t>(to_send_, 30'000));
            for (std::size_t i = 0; i < piece.size(); ++i) piece[i] = byte_at(sent_ + i);
            if (!transport().write(piece)) return;
            sent_ += piece.size();
            to_send_ -= piece.size();
        }
    }

    Client& client_;
    std::size_t to_send_ = 0, sent_ = 0, expected_ = 0, came_ = 0;
};

void Client::obey(const std::string& command) {
    const std::size_t size = std::strtoull(command.c_str() + command.find(' ') + 1, nullptr, 10);
    if (talk != nullptr) talk->send(size, command.starts_with("echo "));
}

int run(int count, char** words) {
    ConnectorOptions options;
    std::vector<Address> addresses;
    for (int i = 1; i < count; ++i) {
        const std::string_view word = words[i];
        const auto number = [&] { return std::atoi(words[std::min(++i, count - 1)]); };
        if (word == "--user-timeout") {
            options.connection.prepare = [timeout = milliseconds(number())](Socket& socket) {
                socket.set_user_timeout(timeout);
            };
        } else if (word == "--keep-alive") {
            const seconds every(number());
            options.connection.prepare = [every](Socket& socket) { socket.set_keep_alive(KeepAlive{every, every, 1}); };
        } else if (word == "--timeout") {
            options.timeout = milliseconds(number());
        } else if (word == "--reconnect") {
            options.reconnect = milliseconds(20);
        } else {
            addresses.push_back(Address::parse(word));
        }
    }
    Reactor reactor;
    Client client(reactor, options.reconnect > Duration::zero());
    Connector connector(reactor, addresses, factory<Client::Talk>(std::ref(client)), options);
    client.connector = &connector;
    reactor.run();
    return EXIT_SUCCESS;
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(count, words);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "network_client: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
