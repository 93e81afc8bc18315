#include "../support/loop.hpp"

#include <reactor/error.hpp>
#include <reactor/stream/communicate.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <sys/wait.h>

#include <csignal>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

std::vector<std::string> shell(std::string script) {
    return {"/bin/sh", "-c", std::move(script)};
}

Communicated run(const std::vector<std::string>& command, std::string_view input, CommunicateOptions options = {}) {
    Reactor reactor;
    std::optional<Communicated> result;
    Communication child = communicate(
        reactor, command, input, [&](Communicated communicated) { result = std::move(communicated); },
        std::move(options));
    run_until(reactor, [&] { return result.has_value(); });
    return *std::move(result);
}

}  // namespace

TEST_CASE("A child is given its input, and its outputs and its exit status come back together") {
    const Communicated sorted = run({"sort"}, "b\na\n");
    CHECK(sorted.output == "a\nb\n");
    CHECK(sorted.error.empty());
    CHECK(sorted.success());

    const Communicated failed = run(shell("echo out; echo wrong >&2; exit 3"), "");
    CHECK(failed.output == "out\n");
    CHECK(failed.error == "wrong\n");
    CHECK(failed.status.code == 3);
    CHECK_FALSE(failed.success());
    CHECK_FALSE(failed.reason);
}

TEST_CASE("Input and output far larger than a pipe pass each other without a deadlock") {
    const std::string all = random_bytes(4 * 1024 * 1024, 7);
    CHECK(run({"cat"}, all).output == all);
}

TEST_CASE("A child that does not read its input is no error") {
    const Communicated result = run(shell("exec <&-; echo done"), random_bytes(1024 * 1024, 8));
    CHECK(result.output == "done\n");
    CHECK(result.success());
}

TEST_CASE("A child that writes more than is kept is killed") {
    CommunicateOptions options;
    options.most_output = 1000;
    const Communicated result = run({"cat", "/dev/zero"}, "", std::move(options));
    CHECK(result.output.size() == 1000);
    CHECK(result.reason == Error::input_limit);
    CHECK(result.status.signal == SIGKILL);
}

TEST_CASE("A child that takes longer than it may is killed, also if only a child of its own keeps the output open") {
    for (const char* script : {"echo $$; exec sleep 600", "sleep 600 & echo $!"}) {
        CAPTURE(script);
        testing::ManualClock clock;
        Reactor reactor{"auto", clock};
        std::optional<Communicated> result;
        CommunicateOptions options;
        options.timeout = std::chrono::seconds(10);
        Communication child = communicate(
            reactor, shell(script), "", [&](Communicated communicated) { result = std::move(communicated); },
            std::move(options));
        // The child has begun when it has written, and the one with a child of its own when it has ended.
        for (int i = 0; i < 2000 && !result; ++i) {
            reactor.run_once(std::chrono::milliseconds(1));
            if (i > 100) clock.advance(std::chrono::seconds(1));
        }
        REQUIRE(result);
        CHECK(result->reason == std::errc::timed_out);
        REQUIRE_FALSE(result->output.empty());
        ::kill(std::stoi(result->output), SIGKILL);  // the child's own child lives on
    }
}

TEST_CASE("A communication that is destroyed kills its child and calls nothing") {
    Reactor reactor;
    bool called = false;
    {
        Communication child = communicate(reactor, {"sleep", "600"}, "", [&](Communicated) { called = true; });
        CHECK(child.id() > 0);
    }
    settle(reactor);
    CHECK_FALSE(called);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // and none is left
}

TEST_CASE("A callback may destroy its communication") {
    Reactor reactor;
    std::optional<Communication> child;
    bool called = false;
    child.emplace(communicate(reactor, {"true"}, "", [&](Communicated result) {
        child.reset();
        called = result.success();
    }));
    run_until(reactor, [&] { return called; });
}

TEST_CASE("A command that cannot be started, and an empty callback, are errors at once") {
    Reactor reactor;
    CHECK_THROWS_AS((void)communicate(reactor, {"/nowhere/at/all"}, "", [](Communicated) {}), std::system_error);
    CHECK_THROWS_AS((void)communicate(reactor, {"true"}, "", nullptr), std::invalid_argument);
    CHECK(settle(reactor) < 10);
}
