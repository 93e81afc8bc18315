// Any failure ends in order, also for bytes that the kernel moves without passing through this program: files, and
// bytes that go from one connection straight to another.
#include "../support/loop.hpp"
#include "faults_sweep.hpp"

#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/system_impl.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

using namespace reactor;
using faults::Call;

namespace {

struct BulkOutcome : faults::Traces {
    bool set_up = false, ended = false;
    int told = 0, turns = 0;
    std::error_code reason;
    bool whole = false, a_part = true;  // of the bytes that were to come
};

// Sends on what it receives, and has it passed on where that can be.
class Passing final : public Protocol {
public:
    explicit Passing(BulkOutcome& outcome) : outcome_(outcome) {}
    ~Passing() override {
        if (target != nullptr) target->target = nullptr;
    }
    Passing* target = nullptr;
    Transport& way() { return transport(); }

private:
    std::size_t received(Bytes input) override {
        if (target == nullptr) return input.size();
        target->way().write(input);
        transport().pass_on_to(target->way());
        return input.size();
    }
    void end_of_stream() override {
        transport().close();
        if (target != nullptr) target->way().close();
    }
    void pause_writing() override {
        if (target != nullptr) target->way().pause_reading();
    }
    void resume_writing() override {
        if (target != nullptr) target->way().resume_reading();
    }
    void disconnected(std::error_code reason) override {
        ++outcome_.told;
        if (reason) outcome_.reason = reason;
        if (target == nullptr) return;
        target->target = nullptr;
        if (reason) target->way().abort(reason);
        target = nullptr;
    }
    BulkOutcome& outcome_;
};

// Turns the loop and lets the peer read until it sees the end and every protocol has ended.
void read_to_the_end(Reactor& reactor, const Socket& peer, const std::string& expected, int to_tell,
                     BulkOutcome& outcome, std::string got = {}) {
    const auto turn = [&] {
        ++outcome.turns;
        try {
            reactor.run_once(Duration::zero());
        } catch (const std::exception&) {
            ++outcome.exceptions;
        }
    };
    while (!outcome.ended && outcome.turns < 4'000) {
        turn();
        const faults::Suspended suspended;
        got += read_all(peer, &outcome.ended);
    }
    (void)::shutdown(peer.get(), SHUT_WR);
    while (outcome.told < to_tell && outcome.turns < 4'000) turn();
    outcome.whole = got == expected;
    outcome.a_part = expected.starts_with(got);
}

// A protocol says something, with two files in it, and closes.
BulkOutcome send_files(const faults::Plan& plan, const std::string& path, const std::string& content) {
    const std::string expected = "head" + content + "middle" + content.substr(content.size() - 5'000) + "tail";
    BulkOutcome outcome;
    faults::run(plan, false, outcome, [&](testing::ManualClock& clock) {
        Reactor reactor("auto", clock);
        auto [peer, mine] = Socket::pair();
        Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<Passing>(outcome));
        const auto open = [&] { return FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)); };
        connection.write("head");
        connection.write_file(open());
        connection.write("middle");
        connection.write_file(open(), content.size() - 5'000);
        connection.write("tail");
        connection.close();
        outcome.set_up = true;
        read_to_the_end(reactor, peer, expected, 1, outcome);
    });
    return outcome;
}

// One connection sends the bytes that another receives.
BulkOutcome pass_on(const faults::Plan& plan, const std::string& content) {
    BulkOutcome outcome;
    faults::run(plan, false, outcome, [&](testing::ManualClock& clock) {
        Reactor reactor("auto", clock);
        auto [client, source] = Socket::pair();
        auto [server, target] = Socket::pair();
        auto from = std::make_unique<Passing>(outcome), to = std::make_unique<Passing>(outcome);
        Passing &sender = *from, &receiver = *to;
        Connection::open(reactor, std::move(source), std::move(from));
        Connection::open(reactor, std::move(target), std::move(to));
        sender.target = &receiver;
        receiver.target = &sender;
        outcome.set_up = true;
        std::string got;
        std::size_t sent = 0;
        while (sent < content.size() && outcome.told == 0 && outcome.turns < 2'000) {
            {
                const faults::Suspended suspended;
                sent += write_some(client, std::string_view(content).substr(sent));
            }
            ++outcome.turns;
            try {
                reactor.run_once(Duration::zero());
            } catch (const std::exception&) {
                ++outcome.exceptions;
            }
            const faults::Suspended suspended;
            got += read_all(server);
        }
        (void)::shutdown(client.get(), SHUT_WR);
        read_to_the_end(reactor, server, content, 2, outcome, std::move(got));
    });
    return outcome;
}

void check(const faults::Plan& plan, const BulkOutcome& outcome) {
    CHECK(outcome.a_part);
    if (!outcome.set_up) CHECK(outcome.exceptions == 1);
    if (!outcome.set_up) return;
    CHECK(outcome.turns < 4'000);
    CHECK(outcome.ended);
    if (!outcome.reason && outcome.exceptions == 0) CHECK(outcome.whole);
    if (plan.error == EINTR || plan.error == EAGAIN) CHECK(outcome.whole);
}

}  // namespace

TEST_CASE("S75: any call that sends a file fails: what arrives is the beginning or all of it, and nothing leaks") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(600'000, 1), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    const auto run = [&](const faults::Plan& plan) { return send_files(plan, path, content); };
    CHECK(run({}).whole);
    const int runs = faults::fail_each({Call::sendfile, Call::pread, Call::send, Call::allocation}, {}, run,
                                       [](const faults::Plan& plan, const BulkOutcome& outcome) {
                                           check(plan, outcome);
                                           // Where it is not to be had the file is read and written.
                                           const bool unknown = plan.error == ENOSYS || plan.error == EPERM;
                                           if (plan.call == Call::sendfile && (plan.error == EINVAL || unknown))
                                               CHECK(outcome.whole);
                                       });
    MESSAGE(runs << " failures");
    CHECK(runs > 40);
    // In pieces of every small size, as a full socket takes them, by either way.
    for (const std::size_t piece : {std::size_t(701), std::size_t(4'096), std::size_t(100'000)}) {
        for (const bool by_hand : {false, true}) {
            faults::Plan plan;
            plan.piece = piece;
            plan.call = by_hand ? Call::sendfile : Call::none;
            plan.times = 1'000'000;
            plan.error = EINVAL;
            const BulkOutcome outcome = run(plan);
            CHECK(outcome.whole);
            CHECK_FALSE(outcome.reason);
            CHECK(outcome.left_open == 0);
            CHECK(outcome.struck == (by_hand && REACTOR_HAS(SENDFILE)));
        }
    }
}

TEST_CASE("S90: a file that says it would block, as one of FUSE may, is read and written, and nothing spins") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(600'000, 90), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    faults::Plan plan;
    plan.call = Call::sendfile;
    plan.times = 1'000'000;
    plan.error = EAGAIN;
    const BulkOutcome outcome = send_files(plan, path, content);
    CHECK(outcome.whole);
    CHECK(outcome.turns < 1'000);
}

TEST_CASE("S90: an error of a file system ends the connection as one of the file, whatever it would mean of a socket") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(100'000, 91), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    for (const int error : {EAGAIN, EPIPE, ECONNRESET}) {
        CAPTURE(error);
        faults::Plan plan;
        plan.call = Call::pread;
        plan.times = 1'000'000;
        plan.error = error;
        const BulkOutcome outcome = send_files(plan, path, content);
        CHECK(outcome.struck);
        CHECK(outcome.told == 1);
        CHECK(outcome.reason == std::errc::io_error);
        CHECK(outcome.turns < 100);
        CHECK(outcome.left_open == 0);
    }
}

TEST_CASE("S42: a peer that goes while a file is read and written for it costs no signal") {
    const TemporaryFolder folder;
    const std::string path = folder / "file";
    std::ofstream(path, std::ios::binary) << random_bytes(1'000'000, 3);
    faults::Plan plan;
    plan.call = Call::sendfile;
    plan.times = 1'000'000;
    plan.error = ENOSYS;
    BulkOutcome outcome;
    faults::run(plan, false, outcome, [&](testing::ManualClock& clock) {
        Reactor reactor("auto", clock);
        auto [peer, mine] = Socket::pair();
        Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<Passing>(outcome));
        reactor.run_once(Duration::zero());
        connection.pause_reading();  // or it would read of the end before it wrote
        connection.write_file(FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
        peer.close();
        for (int turn = 0; turn < 100 && outcome.told == 0; ++turn) reactor.run_once(Duration::zero());
    });
    CHECK(outcome.told == 1);
    CHECK(outcome.reason);
    CHECK(outcome.left_open == 0);
}

TEST_CASE("S75: any call that passes bytes on fails: what arrives is the beginning or all of it, and nothing leaks") {
    const std::string content = random_bytes(900'000, 2);
    const auto run = [&](const faults::Plan& plan) { return pass_on(plan, content); };
    CHECK(run({}).whole);
    const int runs = faults::fail_each({Call::splice, Call::pipe2, Call::allocation}, {}, run,
                                       [](const faults::Plan& plan, const BulkOutcome& outcome) {
                                           check(plan, outcome);
                                           if (plan.call == Call::pipe2) CHECK(outcome.whole);
                                       });
    MESSAGE(runs << " failures");
    CHECK(runs > (REACTOR_HAS(SPLICE) ? 10 : 0));
}
