// Protocols over descriptors that are no sockets: pipes, terminals, files.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
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

bool nonblocking(int descriptor) { return (::fcntl(descriptor, F_GETFL) & O_NONBLOCK) != 0; }

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
    // What there is to read; `ended` if the end came behind it.
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

TEST_CASE("A pipe of which nobody reads is bounded, and its protocol paused and resumed") {
    Reactor reactor;
    Limits limits;
    limits.high_mark = 100'000;
    limits.low_mark = 10'000;
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
    SUBCASE("when it begins in a callback") { pipe.journal.on_connected = produce; }
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
    limits.low_mark = 1'000;
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
        CHECK_THROWS_AS(PipeTransport::open(reactor, {}, {}, make_protocol<Echo>()), std::invalid_argument);
    }
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
    struct sigaction before {}, fatal {};
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

TEST_CASE("What was blocking is blocking again when a pipe has ended") {
    Reactor reactor;
    Journal journal;
    Ends to = make_pipe(), from = make_pipe();
    const FileDescriptor shared(::dup(to.reading.get()));  // as another process may hold it
    const FileDescriptor other(::dup(from.writing.get()));
    PipeTransport& pipe = PipeTransport::open(reactor, std::move(to.reading), std::move(from.writing),
                                              std::make_unique<Recorder>(journal));
    CHECK(nonblocking(shared.get()));
    CHECK(nonblocking(other.get()));
    pipe.shutdown_write();
    CHECK_FALSE(nonblocking(other.get()));
    to.writing.reset();
    run_until(reactor, [&] { return journal.over; });
    CHECK_FALSE(nonblocking(shared.get()));
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

TEST_CASE("Standard input and output are what they were when a transport over them has ended") {
    Reactor reactor;
    const FileDescriptor kept_input(::dup(0)), kept_output(::dup(1));
    std::fflush(stdout);
    const auto put_back = [&] {
        ::dup2(kept_input.get(), 0);
        ::dup2(kept_output.get(), 1);
    };
    std::string failed;
    const auto expect = [&](bool holds, const char* what) {  // doctest writes to standard output
        if (!holds && failed.empty()) failed = what;
    };
    SUBCASE("pipes: non-blocking meanwhile") {
        Ends to = make_pipe(), from = make_pipe();
        ::dup2(to.reading.get(), 0);
        ::dup2(from.writing.get(), 1);
        PipeTransport::standard(reactor, std::make_unique<Echo>());
        expect(nonblocking(0) && nonblocking(1), "non-blocking");
        expect(::write(to.writing.get(), "hello", 5) == 5, "written");
        char buffer[6] = {};
        set_nonblocking(from.reading);
        for (int i = 0; i < 1000 && ::read(from.reading.get(), buffer, 5) != 5; ++i)
            reactor.run_once(std::chrono::milliseconds(1));
        expect(std::string_view(buffer) == "hello", "echoed");
        to.writing.reset();
        for (int i = 0; i < 1000 && nonblocking(0); ++i) reactor.run_once(std::chrono::milliseconds(1));
        expect(!nonblocking(0) && !nonblocking(1), "blocking again");
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
    put_back();
    CHECK(failed == "");
}

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
