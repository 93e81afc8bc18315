// Descriptors over connections of Unix sockets: they come with their bytes, in order, and none is ever lost or left
// open. Those of datagrams and packets are in datagram_test.cpp.
#include "../support/loop.hpp"

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

Connection& connection_of(const Journal& journal) { return static_cast<Connection&>(*journal.transport); }

bool send_descriptor(Connection& connection, std::string_view data, const FileDescriptor& descriptor) {
    const int number = descriptor.get();
    return connection.send_descriptors(bytes_of(data), {&number, 1});
}

// What a peer that is not ours does: so many copies of one descriptor with one message.
void send_raw(const Socket& socket, std::string_view data, int descriptor, std::size_t count) {
    alignas(cmsghdr) char control[CMSG_SPACE(100 * sizeof(int))] = {};
    iovec piece{const_cast<char*>(data.data()), data.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const entry = CMSG_FIRSTHDR(&message);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SCM_RIGHTS;
    entry->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (std::size_t i = 0; i < count; ++i) std::memcpy(CMSG_DATA(entry) + i * sizeof(int), &descriptor, sizeof(int));
    REQUIRE(::sendmsg(socket.get(), &message, MSG_NOSIGNAL) == ssize_t(data.size()));
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
    send_raw(talk.peer, "x", sent.get(), 1);
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
        sending.send_buffer = receiving.receive_buffer = 4096;
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
        run_until(reactor, [&] { return both.there.input.size() == 10; });
        CHECK(open_descriptors() == open);
        CHECK_FALSE(connection_of(both.there).take_descriptor());
        both.here.transport->abort();
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
        small.send_buffer = 4096;
        Both both(reactor, small);
        both.there.transport->pause_reading();
        both.here.transport->write(std::string(1'000'000, 'x'));
        for (int i = 0; i < 5; ++i) CHECK(send_descriptor(connection_of(both.here), "x", named("too late")));
        SUBCASE("here") { both.here.transport->abort(); }
        SUBCASE("there") { both.there.transport->abort(); }
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
        send_raw(conversation.peer, "x", 0, 3);
        run_until(reactor, [&] { return conversation.journal.input == "x"; });
        CHECK(open_descriptors() == open + 3);
        CHECK(connection_of(conversation.journal).take_descriptor());
        send_raw(conversation.peer, "y", 0, 1);
        run_until(reactor, [&] { return conversation.journal.input == "xy"; });
        send_raw(conversation.peer, "z", 0, 1);
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
    send_raw(conversation.peer, "x", 0, 2);
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
    CHECK_THROWS_AS(connection_of(over_tcp.journal).send_descriptors(bytes_of("x"), {&input, 1}), std::invalid_argument);
}

TEST_CASE("Descriptors that wait go along with a connection that moves, in both directions") {
    Reactor here, there;
    ConnectionOptions options = taking(8);
    options.send_buffer = 4096;
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
