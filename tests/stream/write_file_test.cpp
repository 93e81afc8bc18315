// Files among what is written: every byte in its place, none read before its time, and no descriptor left open whatever
// happens on the way.
#include "../support/loop.hpp"

#include <reactor/stream/output_impl.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <limits>
#include <stdexcept>

using namespace reactor;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

// With this content.
struct File {
    explicit File(const std::string& text) : content(text) { std::ofstream(folder / "file", std::ios::binary) << text; }
    FileDescriptor open() const {
        FileDescriptor file(::open((folder / "file").c_str(), O_RDONLY | O_CLOEXEC));
        REQUIRE(file);
        return file;
    }
    void shorten(std::size_t size) const { REQUIRE(::truncate((folder / "file").c_str(), off_t(size)) == 0); }

    const TemporaryFolder folder;
    const std::string content;
};

// The transport of the protocol, and the bytes that the other side reads.
struct Way {
    Journal journal;
    Socket peer;
    FileDescriptor output;

    Way(Reactor& reactor, const std::string& kind, const ConnectionOptions& options = {}) {
        if (kind == "pipe") {
            int ends[2];
            REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
            output.reset(ends[0]);
            PipeTransport::open(reactor, {}, FileDescriptor(ends[1]), std::make_unique<Recorder>(journal),
                                options.limits);
        } else {
            auto [outer, inner] = kind == "TCP" ? tcp_pair() : Socket::pair();
            peer = std::move(outer);
            Connection::open(reactor, std::move(inner), std::make_unique<Recorder>(journal), options);
        }
        run_until(reactor, [&] { return journal.transport != nullptr; });
    }
    Transport& transport() const { return *journal.transport; }
    std::string read(bool* ended = nullptr) const {
        if (!output) return read_all(peer, ended);
        std::string result, buffer(64 * 1024, '\0');
        for (;;) {
            const ssize_t count = ::read(output.get(), buffer.data(), buffer.size());
            if (count <= 0) {
                if (ended != nullptr) *ended = count == 0;
                return result;
            }
            result.append(buffer, 0, std::size_t(count));
        }
    }
    // All that comes, until the end.
    std::string whole(Reactor& reactor) const {
        std::string got;
        bool ended = false;
        run_until(reactor, [&] {
            got += read(&ended);
            return ended;
        });
        return got;
    }
};

// Where a turn without events is not the end of it: the kernel moves what it holds, and makes room.
void come_to_rest(Reactor& reactor) {
    for (int quiet = 0, tries = 0; quiet < 3; ++tries) {
        REQUIRE(tries < 1000);
        quiet = settle(reactor) <= 2 ? quiet + 1 : 0;
    }
}

const char* const ways[] = {"TCP", "Unix", "pipe"};

// The same on each of them, with the number of descriptors that are open before.
template <class Body>
void on_each_way(Body&& body) {
    for (const char* kind : ways) {
        CAPTURE(kind);
        Reactor reactor;
        Way way(reactor, kind);
        body(reactor, way, open_descriptors());
    }
}

}  // namespace

TEST_CASE(
    "A file stands in its place between what is written before and after, whatever its size, and is closed then") {
    const File file(random_bytes(3'000'000, 1));
    for (const char* kind : ways) {
        for (const std::size_t size : {std::size_t(0), std::size_t(1), std::size_t(16 * 1024),
                                       std::size_t(16 * 1024 + 1), std::size_t(2'500'000)}) {
            for (const bool in_callback : {false, true}) {
                CAPTURE(kind);
                CAPTURE(size);
                CAPTURE(in_callback);
                Reactor reactor;
                Way way(reactor, kind);
                const std::size_t before = open_descriptors();
                const auto speak = [&] {
                    Transport& transport = way.transport();
                    CHECK(transport.write("head"));
                    CHECK(transport.write_file(file.open(), 1000, size));
                    CHECK(transport.write("middle"));
                    CHECK(transport.write_file(file.open(), 5, size));
                    CHECK(transport.write_file(file.open(), file.content.size() - size));
                    CHECK(transport.write("tail"));
                    transport.close();
                    CHECK_FALSE(transport.write_file(file.open()));
                };
                if (in_callback && kind != std::string("pipe")) {
                    way.journal.on_received = [&](Bytes input) {
                        speak();
                        return input.size();
                    };
                    write_some(way.peer, "please");
                    run_until(reactor, [&] { return way.transport().queued() > 0 || !way.transport().reading(); });
                } else {
                    speak();
                }
                const std::string expected = "head" + file.content.substr(1000, size) + "middle" +
                                             file.content.substr(5, size) +
                                             file.content.substr(file.content.size() - size) + "tail";
                CHECK((way.whole(reactor) == expected));
                way.peer.close();
                run_until(reactor, [&] { return way.journal.over; });
                CHECK_FALSE(way.journal.reason);
                CHECK(open_descriptors() <= before);
            }
        }
    }
}

TEST_CASE("Bytes and files come out of an output as they went in, however they are taken") {
    const File file(random_bytes(100'000, 20));
    for (unsigned seed = 0; seed < 40; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        auto [reading, writing] = Socket::pair();
        Output output;
        std::string expected, got;
        for (int step = 0; step < 300; ++step) {
            const std::size_t size = 1 + random() % 3'000;
            switch (step < 250 ? random() % 4 : 3) {
                case 0: {
                    const std::string text = random_bytes(size, unsigned(random()));
                    output.append(bytes_of(text));
                    expected += text;
                    break;
                }
                case 1: {
                    const std::size_t offset = random() % 90'000;
                    output.append(file.open(), offset, size);
                    expected += file.content.substr(offset, size);
                    break;
                }
                default: {
                    const Bytes bytes = output.bytes();
                    CHECK(output.begins_with_file() == (bytes.empty() && !output.empty()));
                    if (output.empty()) break;
                    if (output.begins_with_file()) {
                        CHECK(output.send_file(writing.get(), size) > 0);
                    } else {
                        const Bytes some = bytes.first(std::min(bytes.size(), size));
                        got += text_of(some);
                        output.consume(some.size());
                    }
                    got += read_all(reading);
                }
            }
            CHECK(got.size() + output.size() == expected.size());
        }
        while (!output.empty()) {
            got += text_of(output.bytes());
            output.consume(output.bytes().size());
            if (output.begins_with_file()) CHECK(output.send_file(writing.get(), 1 << 20) > 0);
            got += read_all(reading);
        }
        CHECK((got == expected));
    }
}

TEST_CASE("What is written in front of a file leaves with its beginning, in one turn") {
    const File file(random_bytes(100'000, 21));
    Reactor reactor;
    Way way(reactor, "Unix");
    way.journal.on_received = [&](Bytes input) {
        way.transport().write("head");
        way.transport().write_file(file.open());
        return input.size();
    };
    write_some(way.peer, "please");
    reactor.run_once(Duration::zero());
    CHECK(way.read().size() > 4);
}

TEST_CASE("A file's position is nobody's business, and one descriptor may be sent from several times") {
    const File file(random_bytes(100'000, 2));
    Reactor reactor;
    Way way(reactor, "TCP");
    const FileDescriptor mine = file.open();
    REQUIRE(::lseek(mine.get(), 777, SEEK_SET) == 777);
    for (int i = 0; i < 3; ++i) CHECK(way.transport().write_file(FileDescriptor(::dup(mine.get())), 50'000));
    way.transport().shutdown_write();
    const std::string half = file.content.substr(50'000);
    CHECK((way.whole(reactor) == half + half + half));
    CHECK(::lseek(mine.get(), 0, SEEK_CUR) == 777);
}

TEST_CASE("A file counts as queued, so its producer waits for its reader; and none of it is in memory") {
    const File file(random_bytes(20'000'000, 3));
    for (const char* kind : ways) {
        CAPTURE(kind);
        Reactor reactor;
        Way way(reactor, kind);
        CHECK(way.transport().write_file(file.open()));
        CHECK(way.transport().queued() > 10'000'000);
        CHECK(way.transport().queued() <= 20'000'000);
        run_until(reactor, [&] { return way.journal.count("pause") == 1; });
        come_to_rest(reactor);
        CHECK(way.transport().write("behind it"));  // though more is queued than output_limit: that is of memory
        std::string got;
        run_until(reactor, [&] {
            got += way.read();
            return got.size() == 20'000'009;
        });
        CHECK((got == file.content + "behind it"));
        run_until(reactor, [&] { return way.journal.count("resume") == 1; });
        CHECK(way.transport().queued() == 0);
        come_to_rest(reactor);
    }
}

TEST_CASE("Who asks for one file after another and reads none is not read from, and no more are opened") {
    const File file(random_bytes(300'000, 4));
    Reactor reactor;
    ConnectionOptions options;
    options.limits.read_size = 64;
    Way way(reactor, "TCP", options);
    std::size_t asked = 0;
    way.journal.on_received = [&](Bytes input) {
        std::size_t used = 0;
        for (; used < input.size() && way.transport().reading(); ++used, ++asked)
            way.transport().write_file(file.open());
        return used;
    };
    const std::size_t before = open_descriptors();
    write_some(way.peer, std::string(10'000, '?'));
    come_to_rest(reactor);
    CHECK(asked < 40);  // 300,000 bytes each: the size of the kernel's buffers
    CHECK(open_descriptors() <= before + 1);
    std::size_t got = 0;
    run_until(reactor, [&] {
        got += way.read().size();
        return got >= 3'000'000 && asked > 40;
    });
}

TEST_CASE("Files are limited as output is: with so much queued a further one ends the connection") {
    const File file(random_bytes(1'000'000, 5));
    for (const char* kind : ways) {
        CAPTURE(kind);
        Reactor reactor;
        ConnectionOptions options;
        if (kind != std::string("pipe")) options.prepare = send_buffer(4096);
        options.limits.output_limit = 2'500'000;
        Way way(reactor, kind, options);
        const std::size_t before = open_descriptors();
        int taken = 0;
        while (taken < 20 && way.transport().write_file(file.open())) ++taken;
        CHECK(taken >= 3);
        CHECK(taken < 20);
        run_until(reactor, [&] { return way.journal.over; });
        CHECK(way.journal.reason == Error::output_limit);
        CHECK(open_descriptors() <= before);
    }
}

TEST_CASE("A file that becomes shorter while it is sent ends the connection, and the peer cannot take it for whole") {
    for (const char* kind : ways) {
        CAPTURE(kind);
        const File file(random_bytes(8'000'000, 6));
        Reactor reactor;
        Way way(reactor, kind);
        const std::size_t before = open_descriptors();
        CHECK(way.transport().write_file(file.open()));
        way.transport().close();
        file.shorten(1'000'000);
        const bool over_tcp = kind == std::string("TCP");  // which has room for as much as there is
        run_until(reactor, [&] {
            if (!over_tcp) way.read();
            return way.journal.over;
        });
        CHECK(way.journal.reason == Error::file_shortened);
        CHECK(open_descriptors() <= before);
        if (over_tcp) {
            std::string piece(64 * 1024, '\0');
            ssize_t count = 1;
            while (count > 0) count = ::recv(way.peer.get(), piece.data(), piece.size(), 0);
            CHECK(count == -1);
            CHECK(errno == ECONNRESET);
        }
    }
}

TEST_CASE("What is no file, and what a file does not have, is refused before anything is sent") {
    const File file(random_bytes(1000, 7));
    on_each_way([&](Reactor& reactor, Way& way, std::size_t before) {
        Transport& transport = way.transport();
        CHECK_THROWS_AS(transport.write_file(FileDescriptor(::open("/dev/zero", O_RDONLY | O_CLOEXEC))),
                        std::invalid_argument);
        CHECK_THROWS_AS(transport.write_file(FileDescriptor(::open("/", O_RDONLY | O_CLOEXEC))), std::invalid_argument);
        CHECK_THROWS_AS(transport.write_file(FileDescriptor()), std::system_error);
        CHECK_THROWS_WITH_AS(transport.write_file(file.open(), 0, 1001),
                             "Transport::write_file: the file has 1000 bytes, and 1001 from 0 on are wanted",
                             std::invalid_argument);
        CHECK_THROWS_AS(transport.write_file(file.open(), 1001), std::invalid_argument);
        CHECK_THROWS_AS(transport.write_file(file.open(), 999, ~std::uint64_t(0) - 1), std::invalid_argument);
        CHECK(open_descriptors() == before);
        CHECK(transport.write_file(file.open(), 1000));
        CHECK(transport.write("fine"));
        transport.shutdown_write();
        CHECK(way.whole(reactor) == "fine");
    });
}

TEST_CASE("S42: a peer that goes in the middle of a file costs its connection and no signal, and the file is closed") {
    const File file(random_bytes(8'000'000, 8));
    on_each_way([&](Reactor& reactor, Way& way, std::size_t before) {
        CHECK(way.transport().write_file(file.open()));
        way.read();
        settle(reactor);
        const auto was = std::signal(SIGPIPE, [](int) { FAIL("SIGPIPE"); });
        way.peer.close();
        way.output.reset();
        run_until(reactor, [&] { return way.journal.over; });
        std::signal(SIGPIPE, was);
        CHECK(way.journal.reason);
        CHECK(open_descriptors() < before);
    });
}

TEST_CASE("S42: a peer that is gone before a long file begins costs no signal") {
    const File file(random_bytes(1'000'000, 22));
    int signals = 0;
    static int* counted = nullptr;
    counted = &signals;
    const auto was = std::signal(SIGPIPE, [](int) { ++*counted; });
    for (int i = 0; i < 20; ++i) {
        Reactor reactor;
        Way way(reactor, "TCP");
        way.peer.close();  // the first piece finds that out, and the next ones are in the same system call
        way.transport().write_file(file.open());
        run_until(reactor, [&] { return way.journal.over; });
    }
    std::signal(SIGPIPE, was);
    CHECK(signals == 0);
}

TEST_CASE("A file that is written before the connection has begun does not make it be told to pause first") {
    const File file(random_bytes(3'000'000, 23));
    Reactor reactor;
    auto ends = tcp_pair();
    Journal journal;
    Connection& connection =
        Connection::open(reactor, std::move(ends.second), std::make_unique<Recorder>(journal), ConnectionOptions());
    CHECK(connection.write_file(file.open()));
    std::size_t got = 0;
    run_until(reactor, [&] {
        got += read_all(ends.first).size();
        return got == file.content.size();
    });
    CHECK(journal.calls.at(0) == "connected");
    CHECK(journal.count("connected") == 1);
}

TEST_CASE("Short files are read at once, so that none of them keeps a descriptor") {
    const File file(random_bytes(100, 24));
    on_each_way([&](Reactor&, Way& way, std::size_t before) {
        for (int i = 0; i < 1'000; ++i) CHECK(way.transport().write_file(file.open()));
        CHECK(open_descriptors() == before);
    });
}

TEST_CASE("What stands in front of a file waits with it for the tokens of a rate, and does not leave alone") {
    const File file(random_bytes(50'000, 25));
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    ConnectionOptions options;
    options.rates.bytes_out = {1'000, 1'000};
    Way way(reactor, "Unix", options);
    CHECK(way.transport().write(std::string(995, 'x')));
    CHECK(way.read().size() == 995);
    way.journal.on_received = [&](Bytes input) {
        CHECK(way.transport().write("head"));
        CHECK(way.transport().write_file(file.open()));
        return input.size();
    };
    write_some(way.peer, "please");
    std::size_t got = 0;
    for (int step = 0; step < 100 && got == 0; ++step) {
        settle(reactor);
        got = way.read().size();
        clock.advance(milliseconds(10));
    }
    CHECK(got > 4);
}

TEST_CASE("Who reads steadily gets a file to its end after close, however long it takes; who stops does not") {
    const File file(random_bytes(20'000'000, 26));
    for (const bool stops : {false, true}) {
        CAPTURE(stops);
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        ConnectionOptions options;
        options.limits.close_timeout = seconds(5);
        options.prepare = send_buffer(100'000);
        Way way(reactor, "TCP", options);
        CHECK(way.transport().write_file(file.open()));
        way.transport().close();
        std::size_t got = 0;
        bool ended = false;
        for (int step = 0; !ended && !way.journal.over; ++step) {
            REQUIRE(step < 10'000);
            const std::size_t before = way.journal.over ? 0 : way.transport().queued();
            run_until(reactor, [&] {
                if (!stops || step < 3) got += way.read(&ended).size();
                return stops || ended || way.transport().queued() < before || way.transport().queued() == 0;
            });
            settle(reactor);
            clock.advance(seconds(4));
            settle(reactor);
        }
        CHECK(ended == !stops);
        CHECK((got == file.content.size()) == !stops);
        if (stops) CHECK(way.journal.reason == Error::close_timeout);
    }
}

TEST_CASE("What the kernel has taken arrives though the peer was too slow to close in time") {
    const std::string content = random_bytes(300'000, 27);
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    auto ends = tcp_pair(4096);
    Journal journal;
    ConnectionOptions options;
    options.prepare = send_buffer(1'000'000);
    Connection& connection =
        Connection::open(reactor, std::move(ends.second), std::make_unique<Recorder>(journal), options);
    settle(reactor);
    connection.write(content);
    connection.close();
    settle(reactor);
    REQUIRE(connection.queued() == 0);
    clock.advance(seconds(6));
    run_until(reactor, [&] { return journal.over; });
    CHECK(journal.reason == Error::close_timeout);
    std::string got;
    bool ended = false;
    run_until(reactor, [&] {
        got += read_all(ends.first, &ended);
        return ended;
    });
    CHECK((got == content));
}

TEST_CASE("Where files are read at once they are limited as other output is, however long they are") {
    Journal journal;
    testing::MemoryTransport memory(std::make_unique<Recorder>(journal));
    memory.fill();
    FileDescriptor sparse(::memfd_create("sparse", MFD_CLOEXEC));
    REQUIRE(::ftruncate(sparse.get(), off_t(1) << 40) == 0);
    CHECK_FALSE(memory.write_file(std::move(sparse)));
    memory.settle();
    CHECK(memory.disconnected() == Error::output_limit);
}

TEST_CASE("Files of any length together count no more than can be counted") {
    Reactor reactor;
    ConnectionOptions options;
    options.limits.output_limit = ~std::size_t(0);
    Way way(reactor, "Unix", options);
    const off_t longest = std::numeric_limits<off_t>::max();
    int taken = 0;
    for (; taken < 5; ++taken) {
        FileDescriptor sparse(::memfd_create("sparse", MFD_CLOEXEC));
        REQUIRE(::ftruncate(sparse.get(), longest) == 0);
        if (!way.transport().write_file(std::move(sparse))) break;
        CHECK(way.transport().queued() >= Output::most_size - 10'000'000);
    }
    CHECK(taken < 3);
    run_until(reactor, [&] { return way.journal.over; });
    CHECK(way.journal.reason == Error::output_limit);
}

TEST_CASE("S91: bytes and files that are together more than a number holds still count as much") {
    Output output;
    output.append(bytes_of("some text"));
    const std::uint64_t nearly = Output::most_size - 20;
    for (int i = 0; i < 2; ++i) {
        FileDescriptor file(::memfd_create("sparse", MFD_CLOEXEC));
        output.append(std::move(file), 0, nearly);
        CHECK(output.size() >= nearly);
        CHECK(output.size() <= Output::most_size);
    }
}

TEST_CASE("S91: an offset and a length of which the sum wraps are refused, and the last byte is sent") {
    Reactor reactor;
    Way way(reactor, "Unix");
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    const auto longest = std::uint64_t(std::numeric_limits<off_t>::max());
    const auto sparse = [&] {
        FileDescriptor file(::memfd_create("sparse", MFD_CLOEXEC));
        REQUIRE(::ftruncate(file.get(), off_t(longest)) == 0);
        return file;
    };
    CHECK_THROWS_AS(way.transport().write_file(sparse(), 2, most - 1), std::invalid_argument);
    CHECK_THROWS_AS(way.transport().write_file(sparse(), most, 1), std::invalid_argument);
    CHECK_THROWS_AS(way.transport().write_file(sparse(), most), std::invalid_argument);
    CHECK_THROWS_AS(way.transport().write_file(sparse(), longest - 1, 2), std::invalid_argument);
    CHECK(way.transport().write_file(sparse(), longest, 0));
    CHECK(way.transport().write_file(sparse(), longest - 1, 1));
    way.transport().shutdown_write();
    CHECK(way.whole(reactor) == std::string(1, '\0'));
}

#ifdef __linux__
TEST_CASE("A file that says it is empty and is not is refused, and not sent as nothing") {
    for (const char* kind : ways) {
        CAPTURE(kind);
        Reactor reactor;
        Way way(reactor, kind);
        const auto lying = [] { return FileDescriptor(::open("/proc/self/status", O_RDONLY | O_CLOEXEC)); };
        CHECK_THROWS_AS(way.transport().write_file(lying()), std::invalid_argument);
        CHECK_THROWS_AS(Transport::length_of(lying()), std::invalid_argument);
        const FileDescriptor empty(::memfd_create("empty", MFD_CLOEXEC));
        CHECK(Transport::length_of(empty) == 0);
        CHECK(way.transport().write("fine"));
        way.transport().shutdown_write();
        CHECK(way.whole(reactor) == "fine");
    }
}
#endif

TEST_CASE("A file that cannot be read ends its connection with what reading it says") {
    const File file(random_bytes(100'000, 28));
    for (const char* kind : ways) {
        CAPTURE(kind);
        Reactor reactor;
        Way way(reactor, kind);
        way.transport().write_file(FileDescriptor(::open((file.folder / "file").c_str(), O_WRONLY | O_CLOEXEC)));
        run_until(reactor, [&] { return way.journal.over; });
        CHECK(way.journal.reason == std::errc::bad_file_descriptor);
    }
}

TEST_CASE("A rate holds for a file") {
    const File file(random_bytes(100'000, 9));
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    ConnectionOptions options;
    options.rates.bytes_out = {20'000, 20'000};
    Way way(reactor, "TCP", options);
    CHECK(way.transport().write_file(file.open()));
    std::string got;
    for (int second = 0; second < 6; ++second) {
        for (int step = 0; step < 20; ++step) {
            settle(reactor);
            clock.advance(milliseconds(50));
            settle(reactor);
            got += way.read();
        }
        CHECK(got.size() <= std::size_t(second + 2) * 20'000);
        CHECK(got.size() >= std::min<std::size_t>(100'000, std::size_t(second + 1) * 19'000));
    }
    CHECK((got == file.content));
}

TEST_CASE("Who reads of a file too little too late is struck by the write timeout, and who reads on is not") {
    const File file(random_bytes(20'000'000, 10));
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    ConnectionOptions options;
    options.limits.write_timeout = seconds(10);
    Way way(reactor, "TCP", options);
    CHECK(way.transport().write_file(file.open()));
    for (int i = 0; i < 3; ++i) {
        clock.advance(seconds(9));
        settle(reactor);
        REQUIRE_FALSE(way.journal.over);
        const std::size_t before = way.transport().queued();
        run_until(reactor, [&] {
            way.read();
            return way.transport().queued() < before;
        });
    }
    come_to_rest(reactor);
    clock.advance(seconds(11));
    run_until(reactor, [&] { return way.journal.over; });
    CHECK(way.journal.reason == Error::write_timeout);
}

TEST_CASE(
    "A connection that moves takes along the files that it has to send, and descriptors find their bytes among them") {
    const File file(random_bytes(3'000'000, 11));
    Reactor here, there;
    auto [one, other] = Socket::pair();
    Journal sender, receiver;
    ConnectionOptions taking;
    taking.descriptors = 4;
    Connection& connection =
        Connection::open(here, std::move(one), std::make_unique<Recorder>(sender), ConnectionOptions());
    Connection& peer = Connection::open(here, std::move(other), std::make_unique<Recorder>(receiver), taking);
    std::size_t before_descriptor = 0;
    receiver.on_received = [&](Bytes input) {
        // It comes with the byte, and a read ends behind that one's piece.
        if (before_descriptor == 0 && peer.take_descriptor()) before_descriptor = receiver.input.size() + 1;
        receiver.input += text_of(input);
        return input.size();
    };
    run_until(here, [&] { return sender.transport != nullptr && receiver.transport != nullptr; });
    CHECK(connection.write_file(file.open()));
    CHECK(connection.write("now: "));
    const FileDescriptor passed = file.open();
    const int number = passed.get();
    CHECK(connection.send_descriptors(bytes_of("D"), {&number, 1}));
    CHECK(connection.write_file(file.open(), 2'000'000));
    bool arrived = false;
    here.run_once(Duration::zero());
    connection.move_to(there, [&] { arrived = true; });
    const std::string expected = file.content + "now: D" + file.content.substr(2'000'000);
    run_until(here, [&] {
        there.run_once(Duration::zero());
        return receiver.input.size() == expected.size();
    });
    CHECK(arrived);
    CHECK((receiver.input == expected));
    CHECK(before_descriptor == file.content.size() + 6);
}

TEST_CASE("In memory a protocol's file is read at once") {
    const File file(random_bytes(50'000, 12));
    Journal journal;
    testing::MemoryTransport memory(std::make_unique<Recorder>(journal));
    CHECK(memory.write_file(file.open(), 10, 40'000));
    CHECK((memory.take() == file.content.substr(10, 40'000)));
    CHECK_THROWS_AS(memory.write_file(file.open(), 0, 50'001), std::invalid_argument);
    memory.close();
    CHECK_FALSE(memory.write_file(file.open()));
}

// Written from outside it waits for the iteration's end, alone. The one that speaks is called before it or behind it,
// as the backend likes: with one of the two it is before.
TEST_CASE("What another connection's callback writes behind a file is not lost where the socket is writable again") {
    const File file(random_bytes(20'000, 9));
    for (const bool first_speaks : {true, false}) {
        CAPTURE(first_speaks);
        Reactor reactor;
        ConnectionOptions options;
        options.limits.read_size = 1;  // each byte is an iteration's
        Conversation first(reactor, Socket::pair(), options), target(reactor, Socket::pair(), options),
            last(reactor, Socket::pair(), options);
        settle(reactor);
        Conversation& speaker = first_speaks ? first : last;
        speaker.journal.on_received = [&](Bytes input) {
            if (text_of(input) == "f") target.journal.transport->write_file(file.open());
            if (text_of(input) == "l") target.journal.transport->write("line");
            return input.size();
        };
        write_some(speaker.peer, "fl");
        settle(reactor);
        CHECK(read_all(target.peer) == file.content + "line");
    }
}
