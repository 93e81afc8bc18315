// Abuse for a while, on loopback: connects, resets, slow readers, slowloris, half-open connections and garbage, all
// together, while one honest client must get each of its answers. When it is over, the memory and the descriptors
// are where they were. Time decides only how long it goes on and when an answer has been waited for too long.
//
//     soak --seconds 600            ten minutes on each backend
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/testing/scripted_completions.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

namespace {

using namespace reactor;
using std::chrono::milliseconds;
using std::chrono::seconds;

double seconds_each = 1;

// The memory that may come on top. A sanitizer keeps freed memory for a while.
#ifdef __has_feature  // clang
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KEEPS_WHAT_WAS_FREED
#endif
#endif
#if defined(KEEPS_WHAT_WAS_FREED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t allowed_growth = 512 * 1024 * 1024;
#else
constexpr std::size_t allowed_growth = 64 * 1024 * 1024;
#endif

/// Answers each line with itself.
class LineServer final : public Framed<Lines> {
public:
    LineServer() : Framed(Lines(4096)) {}

private:
    void message(Bytes line) override { send(line); }
};

/// A malicious raw client: its next action is drawn anew at each step.
struct Abuser {
    Socket socket;
    unsigned manner = 0;
};

/// Bytes of memory that the process holds; 0 where /proc does not say.
std::size_t resident_memory() {
    std::ifstream file("/proc/self/statm");
    std::size_t size = 0, resident = 0;
    file >> size >> resident;
    return resident * 4096;
}

/// Asks, waits for the answer, asks again.
class Honest final : public Framed<Lines> {
public:
    Honest(std::size_t& the_answers, TimePoint& the_last) : answers_(the_answers), last_(the_last) {}

private:
    void connected() override { ask(); }
    void message(Bytes line) override {
        REQUIRE(text_of(line) == question());
        ++answers_;
        last_ = Clock::monotonic().now();
        ask();
    }
    void ask() { send(question()); }
    std::string question() const { return "question " + std::to_string(answers_); }

    std::size_t& answers_;
    TimePoint& last_;
};

void misbehave(Abuser& abuser, const Address& server, std::mt19937& random) {
    if (!abuser.socket) {
        abuser.socket = Socket::open(server.family());
        abuser.manner = unsigned(random() % 6);
        (void)abuser.socket.connect(server);
        return;
    }
    const auto end_sometimes = [&](bool reset) {
        if (random() % 20 != 0) return;
        if (reset) abuser.socket.set_linger(seconds(0));
        abuser.socket.close();
    };
    switch (abuser.manner) {
        case 0: return end_sometimes(true);  // silent, then gone
        case 1:                              // asks for a lot and reads nothing
            write_some(abuser.socket, std::string(20'000, 'x') + '\n');
            write_some(abuser.socket, std::string(1000, '\n'));
            return end_sometimes(random() % 2 == 0);
        case 2:  // a byte at a time, never a line
            write_some(abuser.socket, "y");
            return end_sometimes(false);
        case 3:  // garbage
            write_some(abuser.socket, random_bytes(1 + random() % 10'000, unsigned(random())));
            return end_sometimes(false);
        case 4:  // ends its side and stays
            write_some(abuser.socket, "half a line");
            (void)abuser.socket.shutdown_write();
            return end_sometimes(false);
        default:  // comes and goes
            abuser.socket.set_linger(seconds(0));
            return abuser.socket.close();
    }
}

// A backend, or the engine of completions over a script that completes in any order and in pieces.
constexpr std::string_view scripted = "io_uring, scripted";

std::unique_ptr<Reactor> make_reactor(std::string_view backend) {
    if (backend != scripted) return std::make_unique<Reactor>(backend);
    return std::make_unique<Reactor>(testing::io_uring(std::make_unique<testing::ScriptedCompletions>(1)));
}

void soak(std::string_view backend) {
    std::mt19937 random(1);
    const std::size_t descriptors = open_descriptors();
    std::size_t answers = 0, memory = 0;
    {
        const std::unique_ptr<Reactor> made = make_reactor(backend);
        Reactor& reactor = *made;
        AcceptorOptions impatient;
        impatient.connection.limits.idle_timeout = milliseconds(300);
        impatient.connection.limits.close_timeout = milliseconds(300);
        Acceptor echo(reactor, "127.0.0.1", 0, factory<Echo>(), impatient);
        // The honest client has this very thread: when that is held up, it is silent. So only a connection in the
        // middle of a message, or one that does not take its output, must hurry here.
        AcceptorOptions fair = impatient;
        fair.connection.limits.idle_timeout = seconds(8);
        fair.connection.limits.message_timeout = milliseconds(300);
        fair.connection.limits.write_timeout = milliseconds(300);
        Acceptor lines(reactor, "127.0.0.1", 0, factory<LineServer>(), fair);
        TimePoint last = reactor.now();
        Connector honest(reactor, lines.addresses(), factory<Honest>(std::ref(answers), std::ref(last)));
        std::vector<Abuser> abusers(100);
        const TimePoint begin = reactor.now(), end = begin + Duration(std::int64_t(seconds_each * 1e9));
        while (reactor.now() < end) {
            for (int i = 0; i < 10; ++i) {
                Abuser& abuser = abusers[random() % abusers.size()];
                misbehave(abuser, (random() % 2 == 0 ? lines : echo).addresses()[0], random);
            }
            reactor.run_once(milliseconds(1));
            REQUIRE_MESSAGE(reactor.now() - last < seconds(10), "the honest client waits for its answer");
            if (memory == 0 && reactor.now() - begin > (end - begin) / 4) memory = resident_memory();
        }
        CHECK(answers > 0);
        // The first quarter has shown what the abuse costs; the rest must not cost much more.
        CHECK(resident_memory() < memory + allowed_growth);
        for (Abuser& abuser : abusers) abuser.socket.close();
        honest.cancel();
        int drained = 0;
        lines.drain([&] { ++drained; });
        echo.drain([&] { ++drained; });
        run_until(reactor, [&] { return drained == 2; });
        settle(reactor);
    }
    CHECK(open_descriptors() == descriptors);
    std::printf("%.*s: %zu answers amid the abuse\n", int(backend.size()), backend.data(), answers);
}

}  // namespace

TEST_CASE("amid resets, slow readers, slowloris, half-open connections and garbage an honest client is answered") {
    std::vector<std::string_view> backends(available_backends().begin(), available_backends().end());
    if (backends.front() == "epoll") backends.push_back(scripted);
    for (const std::string_view backend : backends) {
        CAPTURE(std::string(backend));
        soak(backend);
    }
}

int main(int count, char** words) {
    if (const char* wanted = std::getenv("SOAK_SECONDS")) seconds_each = std::atof(wanted);
    for (int i = 1; i + 1 < count; ++i)
        if (std::string_view(words[i]) == "--seconds") seconds_each = std::atof(words[i + 1]);
    doctest::Context context(count, words);
    return context.run();
}
