// Connections: a byte stream is a program of up to three of them and their peers, which write, read, pause, end and
// reset, from outside callbacks and from inside them. The first byte chooses who moves the bytes: a real backend, or
// the engine of completions over a script that completes in the order and in the pieces of the second byte's choice.
// Input comes once and in order, the calls keep their order, and every connection comes to its end.
#include "fuzz.hpp"

#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/testing/scripted_completions.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

using namespace reactor;
using testing::ScriptedCompletions;

constexpr std::size_t places = 3;
constexpr std::size_t sizes[] = {1, 10, 500, 2048, 4096, 4097, 20'000, 70'000};

char byte_at(std::size_t place) {
    return char('a' + place * place % 23);
}

std::string pattern(std::size_t from, std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = byte_at(from + i);
    return text;
}

bool is_pattern(std::size_t from, std::string_view text) {
    return text == pattern(from, text.size());
}

/// One connection and its peer: how much each has written, and how much of it has come.
struct Talk {
    Socket peer;
    Transport* transport = nullptr;  // while the connection lives
    std::size_t to_connection = 0, came = 0, to_peer = 0, read = 0;
    std::uint8_t in_call = 0;  // done in its next call
    bool opened = false, begun = false, ended = false, over = false;
    bool paused = false;
    bool peer_ended = false;  // in good order
    bool lossless = true;     // nothing has been closed, aborted or reset before its time
};

void act(Talk& talk, std::uint8_t action, std::size_t size) {
    if (talk.transport == nullptr) return;
    switch (action % 8) {
        case 0: return;
        case 1:
        case 2:
            if (talk.transport->write(pattern(talk.to_peer, size))) talk.to_peer += size;
            return;
        case 3: talk.paused = true; return talk.transport->pause_reading();
        case 4: talk.paused = false; return talk.transport->resume_reading();
        case 5: return talk.transport->shutdown_write();
        case 6: talk.lossless = false; return talk.transport->close();
        default: talk.lossless = false; return talk.transport->abort();
    }
}

class Checked final : public Protocol {
public:
    explicit Checked(Talk& talk) : talk_(talk) {}

private:
    void connected() override {
        fuzz::require(!talk_.begun, "connected is called once");
        talk_.begun = true;
        talk_.transport = &transport();
        next();
    }
    std::size_t received(Bytes input) override {
        fuzz::require(talk_.begun && !talk_.over && !talk_.ended, "input comes between connected and the end");
        fuzz::require(!talk_.paused && !input.empty(), "nothing is received while reading is paused");
        fuzz::require(is_pattern(talk_.came, text_of(input)), "input comes once and in order");
        const std::size_t taken = talk_.in_call / 8 % 4 == 1 ? input.size() / 2 : input.size();
        talk_.came += taken;
        fuzz::require(talk_.came <= talk_.to_connection, "nothing comes that was not written");
        next();
        return taken;
    }
    void end_of_stream() override {
        fuzz::require(talk_.begun && !talk_.over && !talk_.ended && !talk_.paused, "the end comes once");
        talk_.came += transport().unconsumed().size();
        fuzz::require(!talk_.peer_ended || !talk_.lossless || talk_.came == talk_.to_connection,
                      "an end in good order lacks nothing");
        talk_.ended = true;
        next();
    }
    void disconnected(std::error_code) override {
        fuzz::require(!talk_.over, "disconnected is called once");
        talk_.over = true;
        talk_.transport = nullptr;
    }
    void next() { act(talk_, std::exchange(talk_.in_call, std::uint8_t(0)), 700); }

    Talk& talk_;
};

void read_all(Talk& talk) {
    char data[16 * 1024];
    for (ssize_t count; talk.peer && (count = ::recv(talk.peer.get(), data, sizeof data, 0)) > 0;) {
        fuzz::require(is_pattern(talk.read, {data, std::size_t(count)}), "output arrives once and in order");
        talk.read += std::size_t(count);
    }
}

class Program {
public:
    explicit Program(fuzz::Input input) : input_(input) {
        const std::span<const std::string_view> backends = available_backends();
        const std::size_t choice = input_.below(2 * backends.size());  // half of them are the script
        const unsigned seed = input_.byte();
        if (choice < backends.size() || backends.front() != "epoll") {
            reactor_ = std::make_unique<Reactor>(backends[choice % backends.size()]);
            return;
        }
        auto script = std::make_unique<ScriptedCompletions>(seed);
        script_ = script.get();
        reactor_ = std::make_unique<Reactor>(testing::io_uring(std::move(script)));
    }

    void run() {
        for (int steps = 0; steps < 300 && !input_.empty(); ++steps) step();
        for (int turns = 0; turns < 20'000 && !all_over(); ++turns) {
            for (Talk& talk : talks_) finish(talk);
            reactor_->run_once(Duration::zero());
        }
        fuzz::require(all_over(), "every connection comes to its end");
        for (Talk& talk : talks_) {
            read_all(talk);
            fuzz::require(!talk.lossless || (talk.came == talk.to_connection && talk.read == talk.to_peer),
                          "in good order all of it comes");
        }
        fuzz::require(script_ == nullptr || script_->under_way() <= 1, "nothing is under way for what has ended");
    }

private:
    bool all_over() const {
        return std::all_of(talks_.begin(), talks_.end(), [](const Talk& talk) { return talk.over || !talk.opened; });
    }

    // The end in good order: all is read, both sides end.
    void finish(Talk& talk) {
        talk.in_call = 0;
        read_all(talk);
        if (talk.peer && !std::exchange(talk.peer_ended, true)) (void)talk.peer.shutdown_write();
        if (talk.paused) act(talk, 4, 0);
        if (talk.transport != nullptr && talk.ended) talk.transport->shutdown_write();
    }

    void open(Talk& talk) {
        talk.opened = true;
        auto [peer, socket] = Socket::pair();
        talk.peer = std::move(peer);
        ConnectionOptions options;
        options.limits.read_size = sizes[2 + input_.below(std::size(sizes) - 2)];
        options.limits.high_mark = sizes[input_.below(std::size(sizes))];
        options.limits.output_limit = 100'000'000;
        Connection::open(*reactor_, std::move(socket), std::make_unique<Checked>(talk), options);
    }

    void step() {
        const std::uint8_t operation = input_.byte();
        Talk& talk = talks_[operation / 16 % places];
        if (!talk.opened) return open(talk);
        switch (operation % 16) {
            case 0:
            case 1: {
                const std::string text = pattern(talk.to_connection, sizes[input_.below(std::size(sizes))]);
                if (!talk.peer || talk.peer_ended) return;
                const ssize_t count = ::send(talk.peer.get(), text.data(), text.size(), MSG_NOSIGNAL);
                if (count > 0) talk.to_connection += std::size_t(count);
                return;
            }
            case 2: return read_all(talk);
            case 3:
                if (talk.peer && !std::exchange(talk.peer_ended, true)) (void)talk.peer.shutdown_write();
                return;
            case 4: talk.lossless = false; return talk.peer.close();
            case 5: talk.in_call = input_.byte(); return;
            case 6: {
                const std::uint8_t action = input_.byte();
                (void)reactor_->post([&talk, action] { act(talk, action, 300); });
                return;
            }
            case 7:
            case 8: {
                const std::uint8_t action = input_.byte();
                return act(talk, action, sizes[input_.below(std::size(sizes))]);
            }
            default: reactor_->run_once(Duration::zero());
        }
    }

    fuzz::Input input_;
    std::array<Talk, places> talks_;
    std::unique_ptr<Reactor> reactor_;
    const ScriptedCompletions* script_ = nullptr;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Program(fuzz::Input(data, size)).run();
    return 0;
}
