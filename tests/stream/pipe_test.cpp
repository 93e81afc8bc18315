// Protocols over descriptors that are no sockets: pipes, terminals, files.
#include "../support/loop.hpp"
#include "../support/standard_streams.hpp"

#include <protocols/echo.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <limits>
#include <optional>
#include <stdexcept>

using namespace reactor;

namespace {

struct Ends {
    FileDescriptor reading, writing;
};

Ends make_pipe() {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
    return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

void set_nonblocking(const FileDescriptor& descriptor) {
    ::fcntl(descriptor.get(), F_SETFL, ::fcntl(descriptor.get(), F_GETFL) | O_NONBLOCK);
}

bool nonblocking(int descriptor) {
    return (::fcntl(descriptor, F_GETFL) & O_NONBLOCK) != 0;
}

// A transport under test, and the other ends of its two pipes.
struct Piped {
    explicit Piped(Reactor& reactor, const Limits& limits = {}) {
        Ends to = make_pipe(), from = make_pipe();
        input = std::move(to.writing);
        output = std::move(from.reading);
        set_nonblocking(input);
        set_nonblocking(output);
        transport = &PipeTransport::open(reactor, std::move(to.reading), std::move(from.writing),
                                         std::make_unique<Recorder>(journal), limits);
    }
    std::size_t write(std::string_view text) {
        const ssize_t count = ::write(input.get(), text.data(), text.size());
        return count < 0 ? 0 : std::size_t(count);
    }
    // The bytes that can be read; `ended` if the end came behind them.
    std::string read(bool* ended = nullptr) {
        std::string result, buffer(64 * 1024, '\0');
        for (;;) {
            const ssize_t count = ::read(output.get(), buffer.data(), buffer.size());
            if (count > 0) {
                result.append(buffer, 0, std::size_t(count));
                continue;
            }
            if (ended != nullptr) *ended = count == 0;
            return result;
        }
    }
    Journal journal;
    FileDescriptor input, output;
    PipeTransport* transport = nullptr;
};

using Calls = std::vector<std::string>;

struct Terminal {
    FileDescriptor master, slave;
};

// Raw: every byte passes as it is.
Terminal make_terminal() {
    FileDescriptor master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    REQUIRE(master);
    REQUIRE(::grantpt(master.get()) == 0);
    REQUIRE(::unlockpt(master.get()) == 0);
    FileDescriptor slave(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    REQUIRE(slave);
    termios settings{};
    ::tcgetattr(slave.get(), &settings);
    ::cfmakeraw(&settings);
    ::tcsetattr(slave.get(), TCSANOW, &settings);
    return {std::move(master), std::move(slave)};
}

FileDescriptor copy_of(const FileDescriptor& descriptor) {
    return FileDescriptor(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, 3));
}

// A write that blocks fails the test instead of holding it up for ever: after five seconds a signal interrupts it.
class BlockingCaught {
public:
    BlockingCaught() {
        caught = 0;
        struct sigaction action {};
        action.sa_handler = [](int) { caught = 1; };
        ::sigaction(SIGALRM, &action, &before_);
        ::alarm(5);
    }
    ~BlockingCaught() {
        ::alarm(0);
        ::sigaction(SIGALRM, &before_, nullptr);
    }
    BlockingCaught(const BlockingCaught&) = delete;
    BlockingCaught& operator=(const BlockingCaught&) = delete;
    bool blocked() const noexcept { return caught != 0; }

private:
    static inline volatile std::sig_atomic_t caught = 0;
    struct sigaction before_ {};
};

}  // namespace

TEST_CASE("A pair of pipes carries a protocol from its beginning to its end") {
    Reactor reactor;
    Piped pipe(reactor);
    CHECK(pipe.journal.calls.empty());  // connected comes from the loop
    pipe.write("a question");
    pipe.journal.on_connected = [&] { pipe.transport->write("hello, "); };
    run_until(reactor, [&] { return pipe.journal.input == "a question"; });
    pipe.transport->write("an answer");
    CHECK(pipe.read() == "hello, an answer");
    CHECK(pipe.transport->peer().family() == Address::Family::none);
    pipe.input.reset();
    run_until(reactor, [&] { return pipe.journal.over; });
    CHECK(pipe.journal.calls == Calls{"connected", "received", "end", "disconnected"});
    CHECK_FALSE(pipe.journal.reason);
    bool ended = false;
    CHECK(pipe.read(&ended).empty());
    CHECK(ended);
}

TEST_CASE("A pipe that is closed before it begins reads nothing, and its protocol is called at its end alone") {
    Reactor reactor;
    Piped pipe(reactor);
    CHECK(pipe.transport->write(
        std::string(1'000'000, 'x')));  // more than the pipe holds, so that it does not end at once
    CHECK(pipe.write("for nobody") > 0);
    pipe.transport->close();
    CHECK(settle(reactor) < 20);
    CHECK(pipe.journal.calls.empty());
    std::string all;
    run_until(reactor, [&] {
        all += pipe.read();
        return pipe.journal.over;
    });
    all += pipe.read();
    CHECK(all.size() == 1'000'000);
    CHECK(pipe.journal.input.empty());
    CHECK(pipe.journal.calls == Calls{"disconnected"});
}

TEST_CASE("A pipe of which nobody reads is bounded, and its protocol paused and resumed") {
    Reactor reactor;
    Limits limits;
    limits.high_mark = 100'000;
    Piped pipe(reactor, limits);
    const std::string all = random_bytes(3'000'000, 1);
    std::size_t written = 0;
    const auto produce = [&] {
        while (written < all.size() && pipe.transport->queued() <= limits.high_mark) {
            const std::string_view piece = std::string_view(all).substr(written, 5'000);
            pipe.transport->write(piece);
            written += piece.size();
        }
        if (written == all.size()) pipe.transport->close();
    };
    SUBCASE("when it begins in a callback") {
        pipe.journal.on_connected = produce;
    }
    SUBCASE("when it begins outside") {
        reactor.run_once(Duration::zero());
        produce();
    }
    pipe.journal.on_resume = produce;
    settle(reactor);
    CHECK(written < 300'000);
    CHECK(pipe.journal.count("pause") == 1);
    std::string got;
    run_until(reactor, [&] {
        got += pipe.read();
        return pipe.journal.over;
    });
    got += pipe.read();
    CHECK(got == all);
    CHECK(pipe.journal.count("resume") > 5);
    CHECK_FALSE(pipe.journal.reason);
}

TEST_CASE("Answers that nobody reads hold back reading from a pipe") {
    Reactor reactor;
    Limits limits;
    limits.high_mark = 10'000;
    Piped pipe(reactor, limits);
    pipe.journal.on_received = [&](Bytes input) {
        pipe.transport->write(input);
        return input.size();
    };
    const std::string block = random_bytes(4'000, 2);
    std::string sent, got;
    for (int idle = 0; idle < 20;) {
        const std::size_t count = pipe.write(block);
        sent += block.substr(0, count);
        idle = count == 0 ? idle + 1 : 0;
        reactor.run_once(Duration::zero());
    }
    CHECK_FALSE(pipe.transport->reading());
    CHECK(sent.size() < 400'000);  // two pipes, a read, and the mark
    CHECK(settle(reactor) < 10);
    run_until(reactor, [&] {
        got += pipe.read();
        return got.size() == sent.size();
    });
    CHECK(got == sent);
    run_until(reactor, [&] { return pipe.transport->reading(); });
}

TEST_CASE("What is left unconsumed comes again with what is new, or when reading goes on") {
    Reactor reactor;
    Piped pipe(reactor);
    std::vector<std::string> inputs;
    std::size_t consume = 1;
    pipe.journal.on_received = [&](Bytes input) {
        inputs.emplace_back(text_of(input));
        return consume;
    };
    pipe.write("abc");
    run_until(reactor, [&] { return inputs.size() == 1; });
    CHECK(settle(reactor) < 5);
    CHECK(text_of(pipe.transport->unconsumed()) == "bc");
    pipe.write("def");
    run_until(reactor, [&] { return inputs.size() == 2; });
    CHECK(inputs[1] == "bcdef");
    pipe.transport->pause_reading();
    pipe.write("gh");
    settle(reactor);
    CHECK(inputs.size() == 2);
    consume = 100;
    pipe.transport->resume_reading();
    run_until(reactor, [&] { return inputs.size() == 4; });
    CHECK(inputs[2] == "cdef");
    CHECK(inputs[3] == "gh");
}

TEST_CASE("More input than may be left, or output than may wait, ends a pipe") {
    Reactor reactor;
    Limits limits;
    limits.input_limit = 10;
    limits.output_limit = 100;
    Piped pipe(reactor, limits);
    SUBCASE("input") {
        pipe.journal.on_received = [](Bytes) { return std::size_t(0); };
        pipe.write("more than ten bytes");
        run_until(reactor, [&] { return pipe.journal.over; });
        CHECK(pipe.journal.reason == Error::input_limit);
    }
    SUBCASE("output") {
        reactor.run_once(Duration::zero());
        for (int i = 0; i < 1000 && pipe.transport->write(std::string(1000, 'x')); ++i) {
        }
        CHECK_FALSE(pipe.transport->write("y"));
        CHECK_FALSE(pipe.journal.over);  // not from inside write
        run_until(reactor, [&] { return pipe.journal.over; });
        CHECK(pipe.journal.reason == Error::output_limit);
    }
}

TEST_CASE("With one pipe only there is one direction only") {
    Reactor reactor;
    Journal journal;
    Ends ends = make_pipe();
    SUBCASE("to read from") {
        PipeTransport& pipe =
            PipeTransport::open(reactor, std::move(ends.reading), {}, std::make_unique<Recorder>(journal));
        CHECK_FALSE(pipe.write("nobody there"));
        REQUIRE(::write(ends.writing.get(), "text", 4) == 4);
        ends.writing.reset();
        run_until(reactor, [&] { return journal.over; });
        CHECK(journal.calls == Calls{"connected", "received", "end", "disconnected"});
        CHECK(journal.input == "text");
    }
    SUBCASE("to write to, until the last byte is out") {
        const std::string all = random_bytes(1'000'000, 3);
        PipeTransport& pipe =
            PipeTransport::open(reactor, {}, std::move(ends.writing), std::make_unique<Recorder>(journal));
        journal.on_connected = [&] {
            pipe.write(all);
            pipe.shutdown_write();
            CHECK_FALSE(pipe.write("more"));
        };
        set_nonblocking(ends.reading);
        std::string got, buffer(64 * 1024, '\0');
        run_until(reactor, [&] {
            for (ssize_t count; (count = ::read(ends.reading.get(), buffer.data(), buffer.size())) > 0;)
                got.append(buffer, 0, std::size_t(count));
            return journal.over;
        });
        CHECK(got == all);
        CHECK_FALSE(journal.reason);
    }
    SUBCASE("and none is a mistake") {
        CHECK_THROWS_AS(PipeTransport::open(reactor, {}, {}, std::make_unique<Echo>()), std::invalid_argument);
    }
}

TEST_CASE("A pipe without an input may pause and resume reading, and nothing is read") {
    struct Restless final : Protocol {
        void connected() override {
            transport().pause_reading();
            transport().resume_reading();
            transport().write(bytes_of("begun"));
            transport().close();
        }
        std::size_t received(Bytes input) override { return input.size(); }
    };
    Reactor reactor;
    Ends ends = make_pipe();
    PipeTransport::open(reactor, FileDescriptor(), std::move(ends.writing), std::make_unique<Restless>());
    reactor.run_until_idle();
    char text[6] = {};
    CHECK(::read(ends.reading.get(), text, sizeof text) == 5);
    CHECK(std::string_view(text) == "begun");
}

TEST_CASE("The end of what is written is told the peer while reading goes on") {
    Reactor reactor;
    Piped pipe(reactor);
    pipe.journal.on_connected = [&] {
        pipe.transport->write("that is all");
        pipe.transport->shutdown_write();
    };
    bool ended = false;
    std::string got;
    run_until(reactor, [&] {
        got += pipe.read(&ended);
        return ended;
    });
    CHECK(got == "that is all");
    pipe.write("an answer");
    run_until(reactor, [&] { return pipe.journal.input == "an answer"; });
    pipe.input.reset();
    run_until(reactor, [&] { return pipe.journal.over; });
    CHECK_FALSE(pipe.journal.reason);
}

TEST_CASE("A reader that is gone is an error and not a signal, and what it said before is received") {
    Reactor reactor;
    struct sigaction before {
    }, fatal{};
    fatal.sa_handler = SIG_DFL;
    ::sigaction(SIGPIPE, &fatal, &before);
    {
        Piped pipe(reactor);
        reactor.run_once(Duration::zero());
        pipe.write("famous last words");
        pipe.output.reset();
        pipe.transport->write("into the void");
        CHECK_FALSE(pipe.journal.over);
        CHECK_FALSE(pipe.transport->write("again"));
        run_until(reactor, [&] { return pipe.journal.input == "famous last words"; });
        pipe.input.reset();
        run_until(reactor, [&] { return pipe.journal.over; });
        CHECK(pipe.journal.reason == std::errc::broken_pipe);
        sigset_t pending, mask;
        ::sigpending(&pending);
        CHECK(::sigismember(&pending, SIGPIPE) == 0);
        ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
        CHECK(::sigismember(&mask, SIGPIPE) == 0);
    }
    ::sigaction(SIGPIPE, &before, nullptr);
}

TEST_CASE("Closing a pipe flushes, within its time, and does not wait for the peer") {
    Reactor reactor;
    Limits limits;
    limits.close_timeout = std::chrono::milliseconds(20);
    Piped pipe(reactor, limits);
    SUBCASE("what fits goes") {
        pipe.journal.on_connected = [&] {
            pipe.transport->write("goodbye");
            pipe.transport->close();
            CHECK_FALSE(pipe.transport->write("no more"));
        };
        run_until(reactor, [&] { return pipe.journal.over; });
        CHECK(pipe.read() == "goodbye");
        CHECK_FALSE(pipe.journal.reason);
    }
    SUBCASE("what does not is cut off") {
        pipe.journal.on_connected = [&] {
            pipe.transport->write(std::string(1'000'000, 'x'));
            pipe.transport->close();
        };
        run_until(reactor, [&] { return pipe.journal.over; });
        CHECK(pipe.journal.reason == std::errc::timed_out);
    }
    SUBCASE("abort does not even try") {
        pipe.journal.on_connected = [&] {
            pipe.transport->write("lost");
            pipe.transport->abort();
        };
        run_until(reactor, [&] { return pipe.journal.over; });
        CHECK(pipe.journal.reason == std::errc::operation_canceled);
        CHECK(pipe.read().empty());
    }
}

TEST_CASE("A pipe has the time limits of a connection") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    Limits limits;
    const auto pass = [&](Duration time) {
        settle(reactor);
        clock.advance(time);
        settle(reactor);
    };
    const std::chrono::seconds nearly(9), rest(1);
    SUBCASE("for silence, which traffic ends") {
        limits.idle_timeout = nearly + rest;
        Piped pipe(reactor, limits);
        for (int i = 0; i < 5; ++i) {
            pass(nearly);
            pipe.write(".");
        }
        pass(nearly);
        CHECK_FALSE(pipe.journal.over);
        pass(rest);
        CHECK(pipe.journal.reason == Error::idle_timeout);
    }
    SUBCASE("for a message that comes in pieces") {
        limits.message_timeout = nearly + rest;
        Piped pipe(reactor, limits);
        pipe.journal.on_received = [](Bytes input) { return input.size() / 4 * 4; };
        pass(std::chrono::hours(1));
        for (int i = 0; i < 5; ++i) {
            pipe.write("ab");
            pass(nearly);
            pipe.write("cd");
            pass(nearly);
        }
        CHECK_FALSE(pipe.journal.over);
        pipe.write("a");
        pass(nearly);
        pipe.write("b");  // another piece puts nothing off
        CHECK_FALSE(pipe.journal.over);
        pass(rest);
        CHECK(pipe.journal.reason == Error::message_timeout);
    }
    SUBCASE("for a reader that takes nothing") {
        limits.write_timeout = nearly + rest;
        Piped pipe(reactor, limits);
        settle(reactor);
        pipe.transport->write(random_bytes(1'000'000, 5));
        for (int i = 0; i < 5; ++i) {
            pass(nearly);
            CHECK_FALSE(pipe.read().empty());
            settle(reactor);
        }
        CHECK(pipe.transport->queued() > 0);
        pass(nearly);
        CHECK_FALSE(pipe.journal.over);
        pass(rest);
        CHECK(pipe.journal.reason == Error::write_timeout);
    }
}

TEST_CASE("An exception out of a pipe's protocol ends it and leaves the loop") {
    Reactor reactor;
    Piped pipe(reactor);
    pipe.journal.on_received = [](Bytes) -> std::size_t { throw std::runtime_error("no"); };
    pipe.write("x");
    CHECK_THROWS_AS(run_until(reactor, [&] { return pipe.journal.over; }), std::runtime_error);
    run_until(reactor, [&] { return pipe.journal.over; });
    CHECK(pipe.journal.reason == Error::exception);
}

#if REACTOR_HAS(PROC)
TEST_CASE("S103, S104: others that hold a pipe, a terminal or a socket never see it non-blocking") {
    Reactor reactor;
    Journal journal;
    FileDescriptor input, output, far_input, far_output;
    SUBCASE("pipes") {
        Ends to = make_pipe(), from = make_pipe();
        input = std::move(to.reading);
        far_input = std::move(to.writing);
        output = std::move(from.writing);
        far_output = std::move(from.reading);
    }
    SUBCASE("a terminal") {
        Terminal terminal = make_terminal();
        input = copy_of(terminal.slave);
        output = std::move(terminal.slave);
        far_input = copy_of(terminal.master);
        far_output = std::move(terminal.master);
    }
    SUBCASE("sockets") {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        input.reset(ends[0]);
        output = copy_of(input);
        far_input.reset(ends[1]);
        far_output = copy_of(far_input);
    }
    const FileDescriptor shared = copy_of(input), other = copy_of(output);  // as another process may hold them
    PipeTransport& pipe =
        PipeTransport::open(reactor, std::move(input), std::move(output), std::make_unique<Recorder>(journal));
    REQUIRE(::write(far_input.get(), "hello", 5) == 5);
    run_until(reactor, [&] { return journal.input == "hello"; });
    CHECK_FALSE(nonblocking(shared.get()));
    CHECK_FALSE(nonblocking(other.get()));
    const BlockingCaught caught;
    pipe.write(std::string(3'000'000, 'x'));
    settle(reactor);
    CHECK_FALSE(caught.blocked());
    CHECK(pipe.queued() > 1'000'000);
    CHECK_FALSE(nonblocking(other.get()));
    pipe.abort();
    run_until(reactor, [&] { return journal.over; });
    CHECK_FALSE(nonblocking(shared.get()));
    CHECK_FALSE(nonblocking(other.get()));
}
#endif

#if REACTOR_HAS(PROC)
TEST_CASE("S103: what can only be made non-blocking for all that hold it is what it was when a transport has ended") {
    Reactor reactor;
    Journal journal;
    Terminal terminal = make_terminal();
    const FileDescriptor shared = copy_of(terminal.master);
    SUBCASE("blocking") {}
    SUBCASE("non-blocking") {
        set_nonblocking(terminal.master);
    }
    const bool before = nonblocking(shared.get());
    PipeTransport& pipe =
        PipeTransport::open(reactor, {}, std::move(terminal.master), std::make_unique<Recorder>(journal));
    settle(reactor);
    CHECK(nonblocking(shared.get()));
    pipe.close();
    run_until(reactor, [&] { return journal.over; });
    CHECK(nonblocking(shared.get()) == before);
}
#endif

#if REACTOR_HAS(PROC)
TEST_CASE("S103: the end of one transport leaves another over the same open file non-blocking, whichever ends first") {
    Reactor reactor;
    FileDescriptor shared, far;
    bool flagged = false;
    SUBCASE("a pipe") {
        Ends ends = make_pipe();
        shared = std::move(ends.writing);
        far = std::move(ends.reading);
    }
    SUBCASE("a socket") {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        shared.reset(ends[0]);
        far.reset(ends[1]);
    }
    SUBCASE("a terminal's master") {
        Terminal terminal = make_terminal();
        shared = std::move(terminal.master);
        far = std::move(terminal.slave);
        flagged = true;
    }
    Terminal stranger = make_terminal();  // has the same name as the other master, and is another open file
    const FileDescriptor strange = copy_of(stranger.master);
    Journal strangers;
    PipeTransport::open(reactor, {}, std::move(stranger.master), std::make_unique<Recorder>(strangers));
    for (const std::size_t first : {0U, 1U}) {
        Journal journals[2];
        PipeTransport* transports[2];
        for (const std::size_t i : {0U, 1U})
            transports[i] = &PipeTransport::open(reactor, {}, copy_of(shared), std::make_unique<Recorder>(journals[i]));
        settle(reactor);
        transports[first]->close();
        run_until(reactor, [&] { return journals[first].over; });
        if (flagged) REQUIRE(nonblocking(shared.get()));
        const BlockingCaught caught;
        transports[1 - first]->write(std::string(3'000'000, 'x'));  // more than fits, and not read
        settle(reactor);
        CHECK_FALSE(caught.blocked());
        CHECK(transports[1 - first]->queued() > 0);
        transports[1 - first]->abort();
        run_until(reactor, [&] { return journals[1 - first].over; });
        CHECK_FALSE(nonblocking(shared.get()));
    }
    CHECK(nonblocking(strange.get()));
}
#endif

#if REACTOR_HAS(PROC)
TEST_CASE("S103: another process that makes its end of a pipe or a socket blocking does not hold up the loop") {
    for (const bool socket : {false, true}) {
        for (const bool file : {false, true}) {
            CAPTURE(socket);
            CAPTURE(file);
            int ends[2];
            REQUIRE((socket ? ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : ::pipe(ends)) == 0);
            const FileDescriptor far(ends[0]), shared(::dup(ends[1]));
            FileDescriptor near(ends[1]);
            set_nonblocking(near);
            Reactor reactor;
            Journal journal;
            PipeTransport& pipe =
                PipeTransport::open(reactor, {}, std::move(near), std::make_unique<Recorder>(journal));
            settle(reactor);
            ::fcntl(shared.get(), F_SETFL, ::fcntl(shared.get(), F_GETFL) & ~O_NONBLOCK);
            const BlockingCaught caught;
            if (file) {
                std::FILE* const large = std::tmpfile();
                REQUIRE(::ftruncate(::fileno(large), 3'000'000) == 0);
                CHECK(pipe.write_file(FileDescriptor(::dup(::fileno(large)))));
                std::fclose(large);
            } else {
                pipe.write(std::string(3'000'000, 'x'));
            }
            settle(reactor);
            CHECK_FALSE(caught.blocked());
            CHECK(pipe.queued() > 2'000'000);
            CHECK(pipe.queued() < 3'000'000);
        }
    }
}
#endif

TEST_CASE("A pipe with a name of which the writer has gone gives what was written, and its end") {
    const TemporaryFolder folder;
    const std::string path = folder / "fifo";
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    FileDescriptor reading(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    FileDescriptor writing(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(writing);
    REQUIRE(::write(writing.get(), "last words", 10) == 10);
    Reactor reactor;
    Journal journal;
    SUBCASE("before the transport") {
        writing.reset();
    }
    SUBCASE("and after it") {}
    PipeTransport::open(reactor, std::move(reading), {}, std::make_unique<Recorder>(journal));
    settle(reactor);
    writing.reset();
    run_until(reactor, [&] { return journal.over; });
    CHECK(journal.calls == Calls{"connected", "received", "end", "disconnected"});
    CHECK(journal.input == "last words");
}

TEST_CASE("A full terminal of which the other side has gone ends its transport, and the loop does not spin") {
    Reactor reactor;
    Journal journal;
    Terminal terminal = make_terminal();
    FileDescriptor input;
    SUBCASE("that only writes") {}
    SUBCASE("that reads, too, and pauses") {
        input = copy_of(terminal.master);
    }
    const bool reads(input);
    PipeTransport& pipe =
        PipeTransport::open(reactor, std::move(input), std::move(terminal.master), std::make_unique<Recorder>(journal));
    settle(reactor);
    if (reads) pipe.pause_reading();
    pipe.write(std::string(500'000, 'x'));
    CHECK(settle(reactor) < 100);
    CHECK(pipe.queued() > 0);
    terminal.slave.reset();
    run_until(reactor, [&] { return journal.over; });
    CHECK(journal.reason == std::errc::broken_pipe);
}

TEST_CASE("S91: limits of nothing, of one and of all that a number holds are safe for a pipe") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    for (const std::size_t size : {std::size_t(0), std::size_t(1), most - 1, most}) {
        CAPTURE(size);
        Limits limits;
        SUBCASE("for reading") {
            limits.read_size = size;
        }
        SUBCASE("for what is left") {
            limits.input_limit = size;
        }
        SUBCASE("for what waits") {
            limits.output_limit = size;
        }
        SUBCASE("for the marks") {
            limits.high_mark = size;
        }
        Reactor reactor;
        Piped pipe(reactor, limits);
        pipe.journal.on_received = [&](Bytes input) {
            pipe.journal.input += text_of(input);
            pipe.transport->write(input);
            return input.size();
        };
        pipe.write("some text");
        pipe.input.reset();
        run_until(reactor, [&] { return pipe.journal.over; });
        if (!pipe.journal.reason) {
            CHECK(pipe.journal.input == "some text");
            CHECK(pipe.read() == "some text");
        } else if (pipe.journal.reason == Error::output_limit) {
            CHECK(limits.output_limit == 0);
        } else {
            CHECK(pipe.journal.reason == std::errc::not_enough_memory);
            CHECK(limits.read_size >= most - 1);
        }
    }
}

TEST_CASE("A protocol that says it consumed more than it was given has consumed all of it") {
    Reactor reactor;
    Piped pipe(reactor);
    std::vector<std::string> inputs;
    pipe.journal.on_received = [&](Bytes input) {
        inputs.emplace_back(text_of(input));
        return inputs.size() == 1 ? std::size_t(1) : std::numeric_limits<std::size_t>::max();
    };
    pipe.write("abc");
    run_until(reactor, [&] { return inputs.size() == 1; });
    pipe.write("def");
    run_until(reactor, [&] { return inputs.size() == 2; });
    pipe.write("ghi");
    run_until(reactor, [&] { return inputs.size() == 3; });
    CHECK(inputs == std::vector<std::string>{"abc", "bcdef", "ghi"});
    CHECK(pipe.transport->unconsumed().empty());
}

TEST_CASE("S18: regular files are read to their end and written") {
    Reactor reactor;
    Journal journal;
    std::FILE* const source = std::tmpfile();
    std::FILE* const target = std::tmpfile();
    REQUIRE(source != nullptr);
    REQUIRE(target != nullptr);
    const std::string all = random_bytes(1'000'000, 4);
    REQUIRE(std::fwrite(all.data(), 1, all.size(), source) == all.size());
    std::rewind(source);
    FileDescriptor from(::dup(::fileno(source))), to(::dup(::fileno(target)));
    PipeTransport& pipe =
        PipeTransport::open(reactor, std::move(from), std::move(to), std::make_unique<Recorder>(journal));
    journal.on_received = [&](Bytes input) {
        pipe.write(input);
        return input.size();
    };
    SUBCASE("in one go") {}
    SUBCASE("with a pause, in which the loop rests") {
        reactor.run_once();
        pipe.pause_reading();
        settle(reactor);
        CHECK(reactor.run_once(Duration::zero()) == 0);
        pipe.resume_reading();
    }
    run_until(reactor, [&] { return journal.over; });
    CHECK_FALSE(journal.reason);
    std::string got(all.size() + 1, '\0');
    std::rewind(target);
    got.resize(std::fread(got.data(), 1, got.size(), target));
    CHECK(got == all);
    std::fclose(source);
    std::fclose(target);
}

TEST_CASE("Both sides of a terminal are transports, and its hang-up is an end") {
    Reactor reactor;
    FileDescriptor master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    REQUIRE(master);
    REQUIRE(::grantpt(master.get()) == 0);
    REQUIRE(::unlockpt(master.get()) == 0);
    FileDescriptor terminal(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    REQUIRE(terminal);
    termios settings{};
    ::tcgetattr(terminal.get(), &settings);
    settings.c_lflag &= tcflag_t(~ECHO);
    settings.c_oflag &= tcflag_t(~OPOST);
    ::tcsetattr(terminal.get(), TCSANOW, &settings);
    Journal program, user;
    FileDescriptor terminal_again(::dup(terminal.get())), master_again(::dup(master.get()));
    PipeTransport& inside = PipeTransport::open(reactor, std::move(terminal), std::move(terminal_again),
                                                std::make_unique<Recorder>(program));
    PipeTransport& outside =
        PipeTransport::open(reactor, std::move(master), std::move(master_again), std::make_unique<Recorder>(user));
    outside.write("half a li");
    settle(reactor);
    CHECK(program.input.empty());  // the terminal gives whole lines
    outside.write("ne\n");
    run_until(reactor, [&] { return program.input == "half a line\n"; });
    inside.write("answer");
    run_until(reactor, [&] { return user.input == "answer"; });
    SUBCASE("the program ends") {
        inside.close();
        run_until(reactor, [&] { return program.over && user.over; });
        CHECK(user.count("end") == 1);
        CHECK_FALSE(user.reason);
    }
    SUBCASE("the user hangs up") {
        outside.close();
        run_until(reactor, [&] { return program.over && user.over; });
        CHECK(program.count("end") == 1);
        CHECK_FALSE(program.reason);
    }
    SUBCASE("the user types the end") {
        outside.write("\x04");
        run_until(reactor, [&] { return program.over; });
        CHECK(program.count("end") == 1);
    }
}

#if REACTOR_HAS(PROC)
TEST_CASE("S104: standard input and output stay as they are for children and printf while a transport is over them") {
    Reactor reactor;
    std::optional<KeptStandardStreams> kept(std::in_place);
    std::string failed;
    const auto expect = [&](bool holds, const char* what) {  // doctest writes to standard output
        if (!holds && failed.empty()) failed = what;
    };
    SUBCASE("pipes: never touched") {
        Ends to = make_pipe(), from = make_pipe();
        ::dup2(to.reading.get(), 0);
        ::dup2(from.writing.get(), 1);
        PipeTransport::standard(reactor, std::make_unique<Echo>());
        expect(::write(to.writing.get(), "hello", 5) == 5, "written");
        char buffer[6] = {};
        set_nonblocking(from.reading);
        for (int i = 0; i < 1000 && ::read(from.reading.get(), buffer, 5) != 5; ++i)
            reactor.run_once(std::chrono::milliseconds(1));
        expect(std::string_view(buffer) == "hello", "echoed");
        expect(!nonblocking(0) && !nonblocking(1), "blocking");
    }
    SUBCASE("a terminal's master: that one, and not the next terminal") {
        Terminal terminal = make_terminal();
        ::dup2(terminal.master.get(), 0);
        ::dup2(terminal.master.get(), 1);
        PipeTransport& pipe = PipeTransport::standard(reactor, std::make_unique<Echo>());
        expect(::write(terminal.slave.get(), "hello", 5) == 5, "written");
        set_nonblocking(terminal.slave);
        char buffer[6] = {};
        for (int i = 0; i < 1000 && ::read(terminal.slave.get(), buffer, 5) != 5; ++i)
            reactor.run_once(std::chrono::milliseconds(1));
        expect(std::string_view(buffer) == "hello", "echoed");
        pipe.close();
        for (int i = 0; i < 5; ++i) reactor.run_once(Duration::zero());
        expect(!nonblocking(0) && !nonblocking(1), "blocking");
    }
    SUBCASE("a terminal: never touched") {
        const FileDescriptor master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
        ::grantpt(master.get());
        ::unlockpt(master.get());
        const FileDescriptor terminal(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
        ::dup2(terminal.get(), 0);
        ::dup2(terminal.get(), 1);
        PipeTransport& pipe = PipeTransport::standard(reactor, std::make_unique<Echo>());
        expect(!nonblocking(0) && !nonblocking(1), "blocking");
        expect(::write(master.get(), "hello\n", 6) == 6, "written");
        set_nonblocking(master);
        std::string got;
        char buffer[64];
        for (int i = 0; i < 1000 && got.find("hello\r\nhello\r\n") == got.npos; ++i) {
            reactor.run_once(std::chrono::milliseconds(1));
            const ssize_t count = ::read(master.get(), buffer, sizeof buffer);
            if (count > 0) got.append(buffer, std::size_t(count));
        }
        expect(got == "hello\r\nhello\r\n", "the terminal's echo, and ours");
        pipe.close();
        for (int i = 0; i < 5; ++i) reactor.run_once(Duration::zero());
        expect(!nonblocking(0) && !nonblocking(1), "blocking");
    }
    kept.reset();
    CHECK(failed == "");
}
#endif

TEST_CASE("A reactor destroyed with pipes open leaves no descriptor") {
    const std::size_t before = open_descriptors();
    {
        Journal journal;
        Ends ends = make_pipe(), more = make_pipe();
        Reactor reactor;
        PipeTransport::open(reactor, std::move(ends.reading), std::move(more.writing),
                            std::make_unique<Recorder>(journal));
        reactor.run_once(Duration::zero());
    }
    CHECK(open_descriptors() == before);
}
