// Descriptors over connections of Unix sockets: they come with their bytes, in order, and none is ever lost or left
// open. Those of datagrams and packets are in datagram_test.cpp.
#include "../support/loop.hpp"
#include "../support/standard_streams.hpp"

#include <reactor/stream/acceptor.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <optional>
#include <random>
#include <stdexcept>

using namespace reactor;

namespace {

// A pipe's end from which this text can be read once: so it is known which descriptor it is.
FileDescriptor named(const std::string& name) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const FileDescriptor writing(ends[1]);
    REQUIRE(::write(writing.get(), name.data(), name.size()) == ssize_t(name.size()));
    return FileDescriptor(ends[0]);
}

std::string name_of(const FileDescriptor& descriptor) {
    char buffer[64];
    const ssize_t count = descriptor ? ::read(descriptor.get(), buffer, sizeof buffer) : -1;
    return count < 0 ? "none" : std::string(buffer, std::size_t(count));
}

ConnectionOptions taking(std::size_t descriptors) {
    ConnectionOptions options;
    options.descriptors = descriptors;
    return options;
}

Connection& connection_of(const Journal& journal) {
    return static_cast<Connection&>(*journal.transport);
}

bool send_descriptor(Connection& connection, std::string_view data, const FileDescriptor& descriptor) {
    const int number = descriptor.get();
    return connection.send_descriptors(bytes_of(data), {&number, 1});
}

// Two connections of one loop, each the other's peer.
struct Both {
    explicit Both(Reactor& loop, const ConnectionOptions& here_options = {},
                  const ConnectionOptions& there_options = taking(8))
        : reactor(loop) {
        auto [one, other] = Socket::pair();
        Connection::open(reactor, std::move(one), std::make_unique<Recorder>(here), here_options);
        Connection::open(reactor, std::move(other), std::make_unique<Recorder>(there), there_options);
        run_until(reactor, [&] { return here.transport != nullptr && there.transport != nullptr; });
    }
    Reactor& reactor;
    Journal here, there;
};

}  // namespace

TEST_CASE("A descriptor is there with the first of its bytes, and works") {
    Reactor reactor;
    Both both(reactor);
    const std::size_t before = open_descriptors();
    std::string found;
    both.there.on_received = [&](Bytes input) {
        found = name_of(connection_of(both.there).take_descriptor());
        CHECK_FALSE(connection_of(both.there).take_descriptor());
        both.there.input += text_of(input);
        return input.size();
    };
    {
        const FileDescriptor sent = named("the one");
        CHECK(send_descriptor(connection_of(both.here), "here it is", sent));
    }
    run_until(reactor, [&] { return both.there.input == "here it is"; });
    CHECK(found == "the one");
    CHECK(open_descriptors() == before);
}

TEST_CASE("What arrives does not pass through exec, whatever it did where it came from") {
    Reactor reactor;
    Conversation talk(reactor, Socket::pair(), taking(1));
    const FileDescriptor sent(::dup(talk.peer.get()));
    REQUIRE((::fcntl(sent.get(), F_GETFD) & FD_CLOEXEC) == 0);
    REQUIRE(send_descriptor_raw(talk.peer, "x", sent.get(), 1) == 0);
    run_until(reactor, [&] { return talk.journal.input == "x"; });
    const FileDescriptor taken = connection_of(talk.journal).take_descriptor();
    REQUIRE(taken);
    CHECK((::fcntl(taken.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("S83: descriptors sent among other bytes come in order, each with its own byte, whatever is queued") {
    const std::size_t before = open_descriptors();
    for (unsigned seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        ConnectionOptions sending, receiving = taking(100);
        sending.prepare = send_buffer(4096);
        receiving.prepare = receive_buffer(4096);
        sending.limits.read_size = receiving.limits.read_size = 1 + random() % 5000;
        if (random() % 2 == 0) sending.rates.bytes_out = {1 + random() % 100'000, 1 + random() % 10'000};
        if (random() % 2 == 0) receiving.rates.bytes_in = {1 + random() % 100'000, 1 + random() % 10'000};
        Both both(reactor, sending, receiving);

        int sent = 0, taken = 0, wrong = 0;
        std::size_t written = 0, received = 0;
        both.there.on_received = [&](Bytes input) {
            for (const char character : text_of(input)) {
                if (character != 'D') continue;
                if (name_of(connection_of(both.there).take_descriptor()) != std::to_string(taken)) ++wrong;
                ++taken;
            }
            received += input.size();
            return input.size();
        };
        const auto send_some = [&] {
            for (int i = 0; i < 5; ++i) {
                std::string data(1 + random() % 9000, 'x');
                written += data.size();
                if (random() % 2 == 0) {
                    both.here.transport->write(data);
                } else {
                    data[0] = 'D';
                    CHECK(send_descriptor(connection_of(both.here), data, named(std::to_string(sent++))));
                }
            }
        };
        both.here.on_received = [&](Bytes input) {  // also inside a callback
            send_some();
            return input.size();
        };
        for (int step = 0; step < 4; ++step) {
            random() % 2 == 0 ? send_some() : (void)both.there.transport->write("go on");
            settle(reactor);
            clock.advance(std::chrono::milliseconds(random() % 200));
        }
        for (int step = 0; step < 1'000'000 && received < written; ++step) {
            settle(reactor);
            clock.advance(std::chrono::seconds(1));
        }
        CHECK(received == written);
        CHECK(taken == sent);
        CHECK(wrong == 0);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("S83: descriptors that nobody wanted, took or got to send are closed") {
    Reactor reactor;
    const std::size_t before = open_descriptors();
    SUBCASE("none is accepted unless it is asked for") {
        Both both(reactor, {}, {});
        const std::size_t open = open_descriptors();
        for (int i = 0; i < 10; ++i) send_descriptor(connection_of(both.here), "x", named("unwanted"));
        if (kernel_refuses_descriptors()) {
            run_until(reactor, [&] { return both.here.over; });
            CHECK(both.here.reason == std::errc::operation_not_permitted);
        } else {
            run_until(reactor, [&] { return both.there.input.size() == 10; });
            CHECK(open_descriptors() == open);
            both.here.transport->abort();
        }
        run_until(reactor, [&] { return both.here.over && both.there.over; });
    }
    SUBCASE("not taken") {
        Both both(reactor);
        for (int i = 0; i < 5; ++i) send_descriptor(connection_of(both.here), "x", named("forgotten"));
        run_until(reactor, [&] { return both.there.input.size() == 5; });
        both.there.transport->abort();
        run_until(reactor, [&] { return both.here.over && both.there.over; });
    }
    SUBCASE("queued, and the connection ends") {
        ConnectionOptions small;
        small.prepare = send_buffer(4096);
        Both both(reactor, small);
        both.there.transport->pause_reading();
        both.here.transport->write(std::string(1'000'000, 'x'));
        for (int i = 0; i < 5; ++i) CHECK(send_descriptor(connection_of(both.here), "x", named("too late")));
        SUBCASE("here") {
            both.here.transport->abort();
        }
        SUBCASE("there") {
            both.there.transport->abort();
        }
        if (both.there.transport != nullptr) both.there.transport->resume_reading();
        run_until(reactor, [&] { return both.here.over && both.there.over; });
    }
    settle(reactor);
    CHECK(open_descriptors() == before);
}

TEST_CASE("More descriptors than may wait end the connection, which says so, and are closed") {
    Reactor reactor;
    const std::size_t before = open_descriptors();
    {
        Conversation conversation(reactor, Socket::pair(), taking(3));
        run_until(reactor, [&] { return conversation.journal.transport != nullptr; });
        const std::size_t open = open_descriptors();
        REQUIRE(send_descriptor_raw(conversation.peer, "x", 0, 3) == 0);
        run_until(reactor, [&] { return conversation.journal.input == "x"; });
        CHECK(open_descriptors() == open + 3);
        CHECK(connection_of(conversation.journal).take_descriptor());
        REQUIRE(send_descriptor_raw(conversation.peer, "y", 0, 1) == 0);
        run_until(reactor, [&] { return conversation.journal.input == "xy"; });
        REQUIRE(send_descriptor_raw(conversation.peer, "z", 0, 1) == 0);
        run_until(reactor, [&] { return conversation.journal.over; });
        CHECK(conversation.journal.reason == Error::descriptor_limit);
        CHECK(conversation.journal.input == "xy");
    }
    settle(reactor);
    CHECK(open_descriptors() == before);
}

TEST_CASE("Out of descriptors, none is taken for another: the connection that one was sent to ends with that error") {
    Reactor reactor;
    Conversation conversation(reactor, Socket::pair(), taking(3));
    Both both(reactor);
    const FileDescriptor sent = named("nobody's");
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    rlimit few = before;
    const auto allow_no_more = [&] {
        few.rlim_cur = rlim_t(FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)).get());
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    };
    settle(reactor);
    allow_no_more();
    REQUIRE(send_descriptor_raw(conversation.peer, "x", 0, 2) == 0);
    run_until(reactor, [&] { return conversation.journal.over; });
    allow_no_more();  // its own is free again
    std::error_code copying;
    try {
        send_descriptor(connection_of(both.here), "x", sent);
    } catch (const std::system_error& error) {
        copying = error.code();
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK(conversation.journal.reason == std::errc::too_many_files_open);
    CHECK(copying == std::errc::too_many_files_open);
    CHECK(send_descriptor(connection_of(both.here), "x", sent));  // nothing has happened to this one
    run_until(reactor, [&] { return both.there.input == "x"; });
    CHECK(name_of(connection_of(both.there).take_descriptor()) == "nobody's");
}

TEST_CASE("S104: a descriptor that comes as standard input's number and finds no higher one ends its connection") {
    Reactor reactor;
    Conversation conversation(reactor, Socket::pair(), taking(3));
    settle(reactor);
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    {
        const KeptStandardStreams kept;
        rlimit few = before;
        few.rlim_cur = rlim_t(FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)).get());
        ::setrlimit(RLIMIT_NOFILE, &few);
        ::close(STDIN_FILENO);
        send_descriptor_raw(conversation.peer, "x", STDERR_FILENO, 1);
        for (int turn = 0; turn < 100 && !conversation.journal.over; ++turn)
            reactor.run_once(std::chrono::milliseconds(10));
        ::setrlimit(RLIMIT_NOFILE, &before);
    }
    CHECK(conversation.journal.reason == std::errc::too_many_files_open);
}

TEST_CASE("Descriptors need a byte to go with, a Unix socket, and to be open; none is as good as a write") {
    Reactor reactor;
    Both both(reactor);
    Connection& connection = connection_of(both.here);
    const int input = 0, closed = 1 << 20;
    CHECK_THROWS_AS(connection.send_descriptors({}, {&input, 1}), std::invalid_argument);
    CHECK_THROWS_AS(connection.send_descriptors(bytes_of("x"), {&closed, 1}), std::system_error);
    const std::vector<int> many(254, 0);
    CHECK_THROWS_AS(connection.send_descriptors(bytes_of("x"), many), std::invalid_argument);
    CHECK(connection.send_descriptors(bytes_of("only text"), {}));
    run_until(reactor, [&] { return both.there.input == "only text"; });
    connection.shutdown_write();
    CHECK_FALSE(connection.send_descriptors(bytes_of("x"), {&input, 1}));

    Conversation over_tcp(reactor, taking(3));
    run_until(reactor, [&] { return over_tcp.journal.transport != nullptr; });
    CHECK_THROWS_AS(connection_of(over_tcp.journal).send_descriptors(bytes_of("x"), {&input, 1}),
                    std::invalid_argument);
}

TEST_CASE("Descriptors that wait go along with a connection that moves, in both directions") {
    Reactor here, there;
    ConnectionOptions options = taking(8);
    options.prepare = send_buffer(4096);
    Both both(here, options, options);
    send_descriptor(connection_of(both.there), "x", named("received before"));
    run_until(here, [&] { return both.here.input == "x"; });
    both.there.transport->pause_reading();
    both.here.transport->write(std::string(300'000, 'x'));
    send_descriptor(connection_of(both.here), "x", named("sent before"));
    connection_of(both.here).move_to(there);
    both.there.transport->resume_reading();
    run_until(there, [&] {
        here.run_once(Duration::zero());
        return both.there.input.size() == 300'001;
    });
    CHECK(name_of(connection_of(both.there).take_descriptor()) == "sent before");
    CHECK(name_of(connection_of(both.here).take_descriptor()) == "received before");
}

TEST_CASE("S102: who passes descriptors that nobody asked for is refused, also before its connection is accepted") {
    if (!kernel_refuses_descriptors()) return;
    Reactor reactor;
    Journal journal;
    Acceptor acceptor(reactor, "unix:@descriptors-" + std::to_string(::getpid()), 0,
                      [&] { return std::make_unique<Recorder>(journal); });
    Socket peer = Socket::open(Address::Family::unix_domain);
    REQUIRE_FALSE(peer.connect(acceptor.addresses()[0]));
    CHECK(send_descriptor_raw(peer, "x", 0) == EPERM);
    run_until(reactor, [&] { return journal.transport != nullptr; });
    CHECK(send_descriptor_raw(peer, "x", 0) == EPERM);
    write_some(peer, "without");
    run_until(reactor, [&] { return journal.input == "without"; });
}

// A socket whose last close would wait, for as long as the test gives it, until its peer has read.
static std::pair<Socket, Socket> lingering_pair() {
    auto ends = tcp_pair();
    ends.first.set_linger(std::chrono::seconds(100));
    while (write_some(ends.first, std::string(64 * 1024, 'x')) > 0) {
    }
    return ends;
}

TEST_CASE("S102: a received socket that nobody takes is closed without waiting for its peer, whatever its sender set") {
    Reactor reactor;
    auto [lingering, far] = lingering_pair();
    auto [peer, mine] = Socket::pair();
    Journal journal;
    Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<Recorder>(journal), taking(2));
    run_until(reactor, [&] { return journal.transport != nullptr; });
    SUBCASE("kept to the end") {
        REQUIRE(send_descriptor_raw(peer, "x", lingering.get()) == 0);
        run_until(reactor, [&] { return journal.input == "x"; });
        CHECK(lingering.linger());
        connection.abort();
    }
    SUBCASE("too many") {
        REQUIRE(send_descriptor_raw(peer, "x", 0, 2) == 0);
        run_until(reactor, [&] { return journal.input == "x"; });
        REQUIRE(send_descriptor_raw(peer, "y", lingering.get()) == 0);
    }
    SUBCASE("closing") {
        connection.close();
        REQUIRE(send_descriptor_raw(peer, "x", lingering.get()) == 0);
        settle(reactor);
        CHECK_FALSE(lingering.linger());
        peer.close();
    }
    run_until(reactor, [&] { return journal.over; });
    settle(reactor);
    CHECK_FALSE(lingering.linger());  // the option is the socket's, however many descriptors it has
}

TEST_CASE("S83: a descriptor that is sent before the connection has begun arrives, however much is queued before it") {
    Reactor reactor;
    Journal sending, receiving;
    auto [here, there] = Socket::pair();
    here.set_send_buffer(8 * 1024);
    Connection& sender = Connection::open(reactor, std::move(here), std::make_unique<Recorder>(sending), taking(4));
    Connection& receiver =
        Connection::open(reactor, std::move(there), std::make_unique<Recorder>(receiving), taking(4));
    sender.write(std::string(100'000, 'x'));
    CHECK(send_descriptor(sender, "y", named("early")));
    run_until(reactor, [&] { return receiving.input.size() == 100'001; });
    CHECK(name_of(receiver.take_descriptor()) == "early");
}

TEST_CASE("S91: any number of descriptors may be let wait") {
    for (const std::size_t most : {std::size_t(1), std::size_t(5), SIZE_MAX - 1, SIZE_MAX}) {
        CAPTURE(most);
        Reactor reactor;
        Both both(reactor, {}, taking(most));
        for (std::size_t i = 0; i < std::min<std::size_t>(most, 5); ++i)
            send_descriptor(connection_of(both.here), "x", named(std::to_string(i)));
        run_until(reactor, [&] { return both.there.input.size() == std::min<std::size_t>(most, 5); });
        CHECK(name_of(connection_of(both.there).take_descriptor()) == "0");
        CHECK_FALSE(both.there.over);
    }
}

TEST_CASE("A connection takes so many descriptors as the acceptor says that it is adopted by") {
    Reactor reactor;
    Both both(reactor, {}, taking(1));
    AcceptorOptions more, none;
    more.connection.descriptors = 3;
    const auto factory = [] { return std::unique_ptr<Protocol>(); };
    Acceptor with_more(reactor, std::vector<Address>(), factory, more);
    Acceptor with_none(reactor, std::vector<Address>(), factory, none);
    with_more.adopt(connection_of(both.there));
    for (int i = 0; i < 3; ++i) send_descriptor(connection_of(both.here), "x", named(std::to_string(i)));
    run_until(reactor, [&] { return both.there.input.size() == 3; });
    with_none.adopt(connection_of(both.there));
    CHECK(name_of(connection_of(both.there).take_descriptor()) == "0");
    if (kernel_refuses_descriptors()) {
        send_descriptor(connection_of(both.here), "x", named("refused"));
        run_until(reactor, [&] { return both.here.over; });
        CHECK(both.here.reason == std::errc::operation_not_permitted);
    }
}
