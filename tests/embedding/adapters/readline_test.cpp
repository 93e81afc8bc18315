// readline on a terminal of the test's own.
#include "driven.hpp"

#include <reactor/adapters/readline.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Terminal {
    Terminal() : master(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)) {
        REQUIRE(master.get() >= 0);
        REQUIRE(::grantpt(master.get()) == 0);
        REQUIRE(::unlockpt(master.get()) == 0);
        stream = std::fopen(::ptsname(master.get()), "r+");
        REQUIRE(stream != nullptr);
        rl_instream = rl_outstream = stream;
        rl_catch_signals = 0;
    }
    ~Terminal() {
        rl_instream = rl_outstream = nullptr;
        std::fclose(stream);
    }
    void type(std::string_view text) {
        REQUIRE(::write(master.get(), text.data(), text.size()) == ssize_t(text.size()));
    }
    FileDescriptor master;
    std::FILE* stream;
};

}  // namespace

TEST_CASE("readline: lines are edited while the loop runs, and its end is the end of the input") {
    Terminal terminal;
    Reactor reactor;
    std::vector<std::string> lines;
    bool over = false;
    std::optional<ReadlinePrompt> prompt;
    prompt.emplace(reactor, "> ", [&](std::optional<std::string> line) {
        if (line) return lines.push_back(*line);
        over = true;
        prompt.reset();  // in its own call
    });
    CHECK_THROWS_AS((void)ReadlinePrompt(reactor, "? ", [](std::optional<std::string>) {}), std::logic_error);
    terminal.type("one\rtwx\177o\r");
    run_until(reactor, [&] { return lines.size() == 2; });
    CHECK(lines == std::vector<std::string>{"one", "two"});
    int ticks = 0;
    const Timer tick = reactor.every(std::chrono::milliseconds(1), [&] { ++ticks; });
    run_until(reactor, [&] { return ticks == 3; });
    terminal.type("\004");
    run_until(reactor, [&] { return over; });
    CHECK_FALSE(prompt.has_value());
}

TEST_CASE("readline: all that was pasted is read in one iteration, and the terminal is not asked to mark pastes") {
    ::setenv("TERM", "xterm", 1);
    Terminal terminal;
    Reactor reactor;
    int lines = 0;
    const ReadlinePrompt prompt(reactor, "> ", [&](std::optional<std::string>) { ++lines; });
    terminal.type(std::string(99, 'x') + "\r");
    const Cost cost = cost_of(reactor, "readline: a line of 100 keys that are there", 1,
                              [&] { run_until(reactor, [&] { return lines == 1; }); });
    CHECK(cost.iterations <= 100);
    char shown[4096];
    const ssize_t size = ::read(terminal.master.get(), shown, sizeof shown);
    REQUIRE(size > 0);
    CHECK(std::string_view(shown, std::size_t(size)).find("> ") != std::string_view::npos);
    CHECK(std::string_view(shown, std::size_t(size)).find("[?2004h") == std::string_view::npos);
}
