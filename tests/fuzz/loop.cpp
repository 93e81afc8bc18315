// The loop: a byte stream is a program that watches, changes, closes, posts, triggers, sets timers, writes and reads,
// on pipes and socket pairs, from outside the loop and from inside handlers; run on every backend in turn. No handler
// is called that is gone or has no such interest. If handlers only listen, every backend makes the same calls.
#include "fuzz.hpp"

#include <reactor/demultiplexer.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/testing/scripted_completions.hpp>
#include <reactor/timer.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <csignal>

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace reactor;

// The ring's part, played by a script: where this machine's kernel has none, too.
constexpr std::string_view scripted = "io_uring, scripted";

class Program {
public:
    Program(std::string_view backend, fuzz::Input input)
        : input_(input), reactor_(make(backend), clock_), passive_(input_.byte() % 2 == 0) {
        // With a connection, a loop on io_uring waits by its ring and not by epoll.
        auto [peer, socket] = Socket::pair();
        peer_ = std::move(peer);
        Connection::open(reactor_, std::move(socket), std::make_unique<Idle>());
        for (std::size_t place = 0; place < places; ++place)
            timers_[place].emplace(reactor_, [this, place] {
                fuzz::require(clock_.now() >= deadlines_[place], "no timer is early");
                note('t', place);
                if (!passive_) step();
            });
    }
    ~Program() {
        for (auto& watcher : watchers_) watcher.reset();
    }

    /// The calls of each iteration, as far as they must be the same on all backends.
    std::vector<std::multiset<std::string>> run() {
        for (int steps = 0; steps < 400 && !input_.empty(); ++steps) step();
        for (int turns = 0; turns < 3; ++turns) turn();
        fuzz::require(posts_run_ == posts_made_, "every post runs, once");
        if (behind_the_back_ || !passive_) log_.clear();
        return log_;
    }

private:
    static constexpr std::size_t places = 8;

    static std::unique_ptr<Demultiplexer> make(std::string_view backend) {
        if (backend != scripted) return make_demultiplexer(backend);
        return testing::io_uring(std::make_unique<testing::ScriptedCompletions>(1));
    }
    struct Idle final : Protocol {
        std::size_t received(Bytes input) override { return input.size(); }
    };

    struct Watcher final : EventHandler {
        Watcher(Program& the_program, std::size_t the_place, std::size_t the_end, int descriptor, Interest interest)
            : program(the_program),
              place(the_place),
              end(the_end),
              registration(program.reactor_.watch(descriptor, interest, *this)) {}
        ~Watcher() { gone = true; }
        void readable() override { told('r', Interest::readable); }
        void writable() override { told('w', Interest::writable); }
        void error() override { told('e', Interest::error); }
        void lost(std::error_code reason) override {
            fuzz::require(!gone && reason && !is_lost, "a loss is told once, with its reason");
            is_lost = true;
            program.note('l', place);
        }
        void told(char what, Interest interest) {
            fuzz::require(!gone && !is_lost, "nobody is called who is gone or lost");
            fuzz::require(any(registration.interest(), interest), "nobody is told what is not wanted");
            program.note(what, place);
            if (!program.passive_) program.step();  // may destroy this one
        }

        Program& program;
        std::size_t place, end;
        bool gone = false, is_lost = false;
        Registration registration;
    };

    void note(char what, std::size_t place) {
        if (!log_.empty()) log_.back().insert(std::string(1, what) + char('0' + place));
    }

    void turn() {
        if (running_) return;
        running_ = true;
        log_.emplace_back();
        reactor_.run_once(Duration::zero());
        running_ = false;
    }

    void open(std::size_t place, bool pipe) {
        if (ends_[place][0] || ends_[place][1]) return;
        int ends[2];
        const int result = pipe ? ::pipe2(ends, O_NONBLOCK | O_CLOEXEC)
                                : ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends);
        fuzz::require(result == 0, "there are descriptors left");
        pipes_[place] = pipe;
        ends_[place][0].reset(ends[0]);
        ends_[place][1].reset(ends[1]);
    }

    // select cannot report a hang-up to a handler that waits to write to a pipe's reading end, or the other way round.
    // No program does that.
    Interest sensible(std::size_t place, std::size_t end) {
        const auto interest = Interest(input_.byte() % 8);
        return pipes_[place] ? interest & ~(end == 0 ? Interest::writable : Interest::readable) : interest;
    }

    // Two watchers a place, of which each may watch either end of it: so descriptors are shared.
    void step() {
        const std::uint8_t operation = input_.byte();
        const std::size_t place = input_.below(places), end = operation / 16 % 2;
        std::unique_ptr<Watcher>& watcher = watchers_[place * 2 + operation / 32 % 2];
        switch (operation % 16) {
            case 0:
            case 1: return open(place, operation % 2 == 0);
            case 2:
            case 3: {
                const Interest interest = sensible(place, end);
                const int descriptor = ends_[place][end].get();
                watcher.reset();
                if (descriptor >= 0) watcher = std::make_unique<Watcher>(*this, place, end, descriptor, interest);
                return;
            }
            case 4: return watcher.reset();
            case 5:
                if (watcher != nullptr) watcher->registration.set_interest(sensible(place, watcher->end));
                return;
            case 6:  // in good order: its registration goes first
                for (auto& other : watchers_)
                    if (other != nullptr && other->registration.descriptor() == ends_[place][end].get()) other.reset();
                return ends_[place][end].reset();
            case 7:
                if (input_.byte() != 'b') return;
                behind_the_back_ = behind_the_back_ || bool(ends_[place][end]);
                return ends_[place][end].reset();
            case 8: {
                const std::string data(1 + input_.byte() * std::size_t(64), 'x');
                if (!ends_[place][end]) return;
                (void)!::write(ends_[place][end].get(), data.data(), data.size());
                return;
            }
            case 9: {
                char data[4096];
                if (ends_[place][end])
                    (void)!::read(ends_[place][end].get(), data, 1 + input_.byte() * std::size_t(16));
                return;
            }
            case 10: {
                ++posts_made_;
                reactor_.post([this] {
                    ++posts_run_;
                    note('p', 0);
                });
                return;
            }
            case 11: {
                const auto delay = Duration(input_.byte());
                timers_[place]->start(delay);
                deadlines_[place] = clock_.now() + delay;
                return;
            }
            case 12: {
                const bool active = timers_[place]->active();
                fuzz::require(timers_[place]->cancel() == active, "cancel says whether it won");
                return;
            }
            case 13:
                if (watcher != nullptr) watcher->registration.trigger(Interest(input_.byte() % 8));
                return;
            case 14: return clock_.advance(Duration(input_.byte()));
            default: return turn();
        }
    }

    fuzz::Input input_;
    testing::ManualClock clock_;
    Reactor reactor_;
    Socket peer_;
    const bool passive_;  // handlers do nothing, so the calls do not depend on their order
    std::array<std::array<FileDescriptor, 2>, places> ends_;
    std::array<bool, places> pipes_{};
    std::array<std::unique_ptr<Watcher>, places * 2> watchers_;
    std::array<std::optional<Timer>, places> timers_;
    std::array<TimePoint, places> deadlines_{};
    std::size_t posts_made_ = 0, posts_run_ = 0;
    bool running_ = false, behind_the_back_ = false;
    std::vector<std::multiset<std::string>> log_;
};

// A pipe whose reader is gone would end the program otherwise.
const auto ignored = ::signal(SIGPIPE, SIG_IGN);

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)ignored;
    std::optional<std::vector<std::multiset<std::string>>> first;
    std::vector<std::string_view> backends(available_backends().begin(), available_backends().end());
    if (backends.front() == "epoll") backends.push_back(scripted);
    for (const std::string_view backend : backends) {
        auto log = Program(backend, fuzz::Input(data, size)).run();
        if (first && *first != log) {
            for (std::size_t turn = 0; turn < std::min(log.size(), first->size()); ++turn) {
                for (const std::string& text : (*first)[turn]) std::fprintf(stderr, "%s ", text.c_str());
                std::fprintf(stderr, "| %.*s: ", int(backend.size()), backend.data());
                for (const std::string& text : log[turn]) std::fprintf(stderr, "%s ", text.c_str());
                std::fprintf(stderr, "\n");
            }
            fuzz::require(false, "every backend tells the same");
        }
        if (!first) first = std::move(log);
    }
    return 0;
}
