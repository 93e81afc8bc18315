// A kernel that does not know a call (ENOSYS), and a filter that forbids it (EPERM), for every call that is not
// POSIX's: the library does without it, or says which one is missing.
#include "../support/session.hpp"
#include "../support/temporary_folder.hpp"
#include "faults_sweep.hpp"

#include <reactor/net/address.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/system_impl.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>

using namespace reactor;
using faults::Call;

namespace {

struct Row {
    Call call;
    bool is_made;            // by this build, on this backend
    bool is_needed = false;  // then an exception names it
};

struct SessionEnd : faults::Traces {
    std::string left;       // the parts of the session that did not come to their end
    std::string exception;  // or what it said
};

SessionEnd run_without(Call call, int error, const std::string& path, const std::string& content) {
    SessionEnd ending;
    ending.left.reserve(500);
    ending.exception.reserve(500);
    faults::Plan plan;
    plan.call = call;
    plan.error = error;
    plan.times = 1'000'000'000;
    faults::run(plan, true, ending, [&](testing::ManualClock&) {
        try {
            Session session(path, content);
            ending.left.append(session.run());
        } catch (const std::system_error& thrown) {
            ending.exception.append(thrown.what());
        }
    });
    return ending;
}

}  // namespace

TEST_CASE("S96: without any one call that POSIX does not know the library works, or it throws an error that names it") {
    const TemporaryFolder folder;
    const std::string content = random_bytes(300'000, 96), path = folder / "file";
    std::ofstream(path, std::ios::binary) << content;
    const std::string backend(Reactor().backend());
    const bool ring = backend == "io_uring", epoll = backend == "epoll" || ring, needed = true;
    const Row rows[] = {
        {Call::accept4, REACTOR_HAS(SOCK_NONBLOCK)},
        {Call::epoll_create1, epoll},
        {Call::epoll_ctl, epoll, needed},
        {Call::epoll_pwait2, backend == "epoll" && REACTOR_HAS(EPOLL_PWAIT2)},
        {Call::epoll_wait, epoll, needed},
        {Call::eventfd, REACTOR_HAS(EVENTFD)},
        {Call::io_uring_enter, ring, needed},
        {Call::io_uring_register, ring, needed},
        {Call::io_uring_setup, ring, needed},
        {Call::pidfd_open, REACTOR_HAS(PIDFD)},
        {Call::pidfd_send_signal, REACTOR_HAS(PIDFD)},
        {Call::pipe2, REACTOR_HAS(SPLICE)},
        {Call::ppoll, !epoll && REACTOR_HAS(PPOLL)},
        {Call::pselect, backend == "select", needed},
        {Call::recvmmsg, REACTOR_HAS(RECVMMSG)},
        {Call::sendfile, REACTOR_HAS(SENDFILE)},
        {Call::sendmmsg, REACTOR_HAS(RECVMMSG)},
        {Call::splice, REACTOR_HAS(SPLICE)},
    };
    run_without(Call::none, 0, path, content);  // so that objects made once exist
    for (const Row& row : rows) {
        if (!row.is_made) continue;
        for (const int error : {ENOSYS, EPERM}) {
            INFO(std::string(faults::name_of(row.call)), ": ", std::generic_category().message(error));
            const SessionEnd ending = run_without(row.call, error, path, content);
            CHECK(ending.struck);
            REQUIRE(ending.left == "");
            CHECK(ending.exceptions == 0);
            CHECK(ending.left_open == 0);
            CHECK(ending.bad_closes == 0);
            CHECK(ending.leaked == 0);
            if (row.is_needed) {
                CHECK_MESSAGE(ending.exception.starts_with(faults::name_of(row.call)), ending.exception);
                CHECK(ending.exception.ends_with(std::system_category().message(error)));
            } else {
                CHECK(ending.exception == "");
            }
        }
    }
}

TEST_CASE("S96: without random numbers a connector that reconnects works all the same") {
    for (const int error : {ENOSYS, EPERM, EIO}) {
        CAPTURE(error);
        faults::Plan plan;
        plan.call = Call::getentropy;
        plan.error = error;
        testing::ManualClock clock;
        const faults::Armed armed(plan, clock, true);
        Reactor reactor("auto", clock);
        Journal server, client;
        Acceptor acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, [&] { return std::make_unique<Recorder>(server); });
        int connections = 0;
        client.on_connected = [&] {
            ++connections;
            client.transport->close();
        };
        ConnectorOptions options;
        options.reconnect = std::chrono::seconds(1);
        const Connector connector(
            reactor, {acceptor.addresses().at(0)}, [&] { return std::make_unique<Recorder>(client); }, options);
        CHECK(faults::struck());
        for (int turn = 0; turn < 1'000 && connections < 3; ++turn) reactor.run_once();
        CHECK(connections == 3);
    }
}
