// A living connection goes from one loop to another: on one thread, where everything can be seen, and between threads.
#include "../support/loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/stream/acceptor.hpp>

#include <poll.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#ifdef __GLIBC__
#include <malloc.h>
#endif

using namespace reactor;

namespace {

// Two loops, turned in turn by this thread.
struct TwoLoops {
    Reactor here, there;
    void until(const std::function<bool()>& condition) {
        run_until(here, [&] {
            there.run_once(Duration::zero());
            return condition();
        });
    }
    void settle() {
        ::settle(here);
        ::settle(there);
        ::settle(here);
    }
};

Connection& connection_of(const Journal& journal) {
    return static_cast<Connection&>(*journal.transport);
}

using Calls = std::vector<std::string>;

}  // namespace

TEST_CASE("A connection goes on on another loop, and its transport is the same") {
    TwoLoops loops;
    Conversation conversation(loops.here);
    Journal& journal = conversation.journal;
    loops.until([&] { return journal.transport != nullptr; });
    Connection& connection = connection_of(journal);
    bool arrived = false;
    SUBCASE("from outside") {
        connection.move_to(loops.there, [&] { arrived = true; });
    }
    SUBCASE("in a call of its own") {
        journal.on_received = [&](Bytes input) {
            connection.write("one moment");
            connection.move_to(loops.there, [&] { arrived = true; });
            CHECK_FALSE(connection.reading());
            connection.write(", please");
            return input.size();
        };
        write_some(conversation.peer, "move!");
    }
    CHECK_FALSE(arrived);
    loops.until([&] { return arrived; });
    CHECK(journal.transport == &connection);
    std::size_t mine = 0;
    Internals(loops.here).for_each_owned([&](OwnedHandler&) { ++mine; });
    CHECK(mine == 0);
    journal.on_received = nullptr;
    std::string got = read_all(conversation.peer);
    CHECK((got.empty() || got == "one moment, please"));
    write_some(conversation.peer, "question");
    ::settle(loops.here);
    CHECK(journal.input.empty());
    run_until(loops.there, [&] { return journal.input == "question"; });
    connection.write("answer");
    CHECK(read_all(conversation.peer) == "answer");
    conversation.peer.close();
    run_until(loops.there, [&] { return journal.over; });
    CHECK(journal.count("connected") == 1);
    CHECK_FALSE(journal.reason);
}

TEST_CASE("Unconsumed input goes along and is given to the protocol again") {
    TwoLoops loops;
    Conversation conversation(loops.here);
    Journal& journal = conversation.journal;
    std::vector<std::string> inputs;
    bool arrived = false;
    std::size_t consume = 0;
    journal.on_received = [&](Bytes input) {
        inputs.emplace_back(text_of(input));
        return consume;
    };
    SUBCASE("left in the call that moves it") {
        journal.on_received = [&](Bytes input) {
            inputs.emplace_back(text_of(input));
            if (arrived) return input.size();
            connection_of(journal).move_to(loops.there, [&] { arrived = true; });
            return std::size_t(2);
        };
        write_some(conversation.peer, "hello");
        loops.until([&] { return inputs.size() == 2; });
        CHECK(inputs[1] == "llo");
    }
    SUBCASE("left before") {
        write_some(conversation.peer, "hello");
        loops.until([&] { return inputs.size() == 1; });
        consume = 100;
        connection_of(journal).move_to(loops.there, [&] { arrived = true; });
        loops.until([&] { return inputs.size() == 2; });
        CHECK(inputs[1] == "hello");
    }
    CHECK(arrived);
    write_some(conversation.peer, "more");
    loops.until([&] { return inputs.size() == 3; });
    CHECK(inputs[2] == "more");
}

TEST_CASE("Queued output goes along, with its marks, and arrives in order") {
    TwoLoops loops;
    ConnectionOptions options;
    options.prepare = send_buffer(8 * 1024);
    Conversation conversation(loops.here, options, 8 * 1024);
    Journal& journal = conversation.journal;
    const std::string all = random_bytes(2'000'000, 6);
    std::string got;
    journal.on_connected = [&] {
        journal.transport->write(all);
        journal.transport->write("tail");
    };
    loops.until([&] { return journal.count("pause") == 1; });
    CHECK(journal.transport->queued() > 1'000'000);
    connection_of(journal).move_to(loops.there, [&] { journal.transport->write(", and more from there"); });
    SUBCASE("and goes on") {}
    SUBCASE("and comes back, and goes again") {
        for (int i = 0; i < 5; ++i) {
            loops.settle();
            got += read_all(conversation.peer);
            bool arrived = false;
            connection_of(journal).move_to(i % 2 == 0 ? loops.here : loops.there, [&] { arrived = true; });
            loops.until([&] { return arrived; });
        }
    }
    loops.until([&] {
        got += read_all(conversation.peer);
        return got.size() == all.size() + 25;
    });
    CHECK(got == all + "tail, and more from there");
    loops.until([&] { return journal.count("resume") == 1; });
    CHECK(journal.count("pause") == 1);
    journal.transport->close();
    conversation.peer.close();
    loops.until([&] { return journal.over; });
}

TEST_CASE("A connection that has just been opened is told connected on the loop that it goes to") {
    TwoLoops loops;
    Journal journal;
    auto ends = tcp_pair();
    Connection& connection =
        Connection::open(loops.here, std::move(ends.second), std::make_unique<Recorder>(journal), ConnectionOptions{});
    Calls order;
    journal.on_connected = [&] { order.push_back("connected"); };
    connection.move_to(loops.there, [&] { order.push_back("arrived"); });
    ::settle(loops.here);
    CHECK(journal.calls.empty());
    ::settle(loops.there);
    CHECK(order == Calls{"connected", "arrived"});
    write_some(ends.first, "x");
    run_until(loops.there, [&] { return journal.input == "x"; });
}

TEST_CASE("A connection that is closed before it begins, and moves, does not ask its protocol to pause") {
    TwoLoops loops;
    auto [near, far] = Socket::pair();
    Journal journal;
    ConnectionOptions options;
    options.limits.high_mark = 1;
    Connection& connection =
        Connection::open(loops.here, std::move(near), std::make_unique<Recorder>(journal), options);
    REQUIRE(connection.write(std::string(4'000'000, 'x')));  // more than the peer's socket takes
    connection.close();
    bool arrived = false;
    connection.move_to(loops.there, [&] { arrived = true; });
    loops.until([&] { return arrived; });
    loops.settle();
    CHECK(journal.calls == Calls{});
    connection.abort();
    loops.until([&] { return journal.over; });
    CHECK(journal.calls == Calls{"disconnected"});
}

TEST_CASE("What a connection was doing it goes on doing elsewhere") {
    TwoLoops loops;
    ConnectionOptions options;
    options.limits.close_timeout = std::chrono::milliseconds(20);
    Conversation conversation(loops.here, options);
    Journal& journal = conversation.journal;
    loops.until([&] { return journal.transport != nullptr; });
    Connection& connection = connection_of(journal);
    bool arrived = false;
    const auto move = [&] { connection.move_to(loops.there, [&] { arrived = true; }); };
    const auto peer_ends_in_order = [&] {
        conversation.peer.close();
        loops.until([&] { return journal.over; });
        CHECK_FALSE(journal.reason);
    };
    SUBCASE("not reading") {
        connection.pause_reading();
        move();
        write_some(conversation.peer, "waits");
        loops.settle();
        REQUIRE(arrived);
        CHECK(journal.input.empty());
        connection.resume_reading();
        loops.until([&] { return journal.input == "waits"; });
    }
    SUBCASE("not writing any more") {
        connection.shutdown_write();
        move();
        loops.settle();
        CHECK_FALSE(connection.write("x"));
        bool ended = false;
        read_all(conversation.peer, &ended);
        CHECK(ended);
        peer_ends_in_order();
    }
    SUBCASE("closing, in time") {
        connection.close();
        move();
        loops.settle();
        REQUIRE(arrived);
        peer_ends_in_order();
    }
    SUBCASE("closing, too slowly") {
        connection.close();
        move();
        loops.until([&] { return journal.over; });
        CHECK(arrived);
        CHECK(journal.reason == std::errc::timed_out);
    }
    SUBCASE("with limits of its own, of which time is one") {
        Limits limits = connection.limits();
        limits.idle_timeout = std::chrono::milliseconds(20);
        limits.high_mark = 12'345;
        connection.set_limits(limits);
        move();
        loops.settle();
        REQUIRE(arrived);
        CHECK(connection.limits().high_mark == 12'345);
        CHECK(Internals(loops.here).timers().size() == 0);
        run_until(loops.there, [&] { return journal.over; });
        CHECK(journal.reason == std::errc::timed_out);
    }
}

TEST_CASE("A connection that ends before it can leave ends where it was") {
    TwoLoops loops;
    Conversation conversation(loops.here);
    Journal& journal = conversation.journal;
    loops.until([&] { return journal.transport != nullptr; });
    Connection& connection = connection_of(journal);
    bool arrived = false;
    connection.move_to(loops.there, [&] { arrived = true; });
    SUBCASE("aborted") {
        connection.abort();
    }
    SUBCASE("by an exception") {
        journal.on_received = [&](Bytes) -> std::size_t { throw std::runtime_error("no"); };
        // Too late for it to be received here: it goes, and fails there.
        write_some(conversation.peer, "x");
        CHECK_THROWS_AS(loops.until([&] { return journal.over; }), std::runtime_error);
        loops.until([&] { return journal.over; });
        CHECK(arrived);
        return;
    }
    ::settle(loops.here);
    CHECK(journal.over);
    ::settle(loops.there);
    CHECK_FALSE(arrived);
}

TEST_CASE("A connection on its way to a loop that is destroyed goes with it") {
    auto there = std::make_unique<Reactor>();
    Reactor here;
    const std::size_t before = open_descriptors();
    {
        Conversation conversation(here);
        Journal& journal = conversation.journal;
        run_until(here, [&] { return journal.transport != nullptr; });
        bool arrived = false;
        connection_of(journal).move_to(*there, [&] { arrived = true; });
        settle(here);
        const std::size_t with = open_descriptors();
        there.reset();
        CHECK(open_descriptors() < with);
        CHECK_FALSE(arrived);
        CHECK_FALSE(journal.over);  // a reactor's destruction calls no protocol
    }
    CHECK(open_descriptors() < before);
}

TEST_CASE("S91: a connection that is adopted where reads are larger has room for them, whenever it is adopted") {
    for (const int way : {0, 1, 2}) {
        CAPTURE(way);
        TwoLoops loops;
        Journal journal;
        const auto factory = [&] { return std::make_unique<Recorder>(journal); };
        AcceptorOptions small, large;
        small.connection.limits.read_size = 4096;
        large.connection.limits.read_size = 256 * 1024;
        Acceptor first(loops.here, "127.0.0.1", 0, factory, small);
        Acceptor there(loops.there, std::vector<Address>(), factory, large);
        Acceptor here(loops.here, std::vector<Address>(), factory, large);
        Socket peer = Socket::open(Address::Family::ipv4);
        (void)peer.connect(first.addresses()[0]);
        loops.until([&] { return journal.transport != nullptr; });
        bool adopted = false, has_room = true;
        journal.on_received = [&](Bytes input) {
        // Outside of any rest, what is received lies at the beginning of the loop's buffer.
#ifdef __GLIBC__
            has_room = has_room && ::malloc_usable_size(const_cast<std::byte*>(input.data())) >= input.size();
#endif
            if (way == 2 && !std::exchange(adopted, true)) here.adopt(connection_of(journal));
            journal.input += text_of(input);  // which stays where it is until this call returns
            return input.size();
        };
        if (way == 0) here.adopt(connection_of(journal)), adopted = true;
        if (way == 1) {
            connection_of(journal).move_to(loops.there, [&] {
                there.adopt(connection_of(journal));
                adopted = true;
            });
            loops.until([&] { return adopted; });
        }
        const std::string sent = random_bytes(600'000, 91);
        for (std::size_t written = 0; journal.input.size() < sent.size() && has_room;) {
            for (std::size_t count = 1; count > 0 && written < sent.size(); written += count)
                count = write_some(peer, std::string_view(sent).substr(written));
            loops.here.run_once(Duration::zero());
            loops.there.run_once(Duration::zero());
        }
        REQUIRE(has_room);
        CHECK(journal.input == sent);
        CHECK(adopted);
    }
}

TEST_CASE("S91: a connection that moves to a loop whose buffer is smaller, or not there yet, has room for its reads") {
    for (const bool smaller : {false, true}) {
        CAPTURE(smaller);
        TwoLoops loops;
        ConnectionOptions small, large;
        small.limits.read_size = 4096;
        large.limits.read_size = 256 * 1024;
        Conversation resident(loops.there, small), moving(loops.here, large);
        if (smaller) write_some(resident.peer, "a buffer for this");
        loops.until([&] { return moving.journal.transport != nullptr && resident.journal.input.empty() != smaller; });
        bool arrived = false, has_room = true;
        connection_of(moving.journal).move_to(loops.there, [&] { arrived = true; });
        loops.until([&] { return arrived; });
        moving.journal.on_received = [&](Bytes input) {
#ifdef __GLIBC__
            has_room = has_room && ::malloc_usable_size(const_cast<std::byte*>(input.data())) >= input.size();
#endif
            moving.journal.input += text_of(input);
            return input.size();
        };
        const std::string sent = random_bytes(600'000, 92);
        for (std::size_t written = 0; moving.journal.input.size() < sent.size() && has_room && !moving.journal.over;) {
            for (std::size_t count = 1; count > 0 && written < sent.size(); written += count)
                count = write_some(moving.peer, std::string_view(sent).substr(written));
            loops.there.run_once(Duration::zero());
        }
        REQUIRE(has_room);
        CHECK(moving.journal.input == sent);
    }
}

TEST_CASE("A connection is adopted on the loop that it is on, and by no acceptor of another") {
    TwoLoops loops;
    Journal journal;
    Conversation talk(loops.here);
    const auto factory = [&] { return std::make_unique<Recorder>(journal); };
    Acceptor there(loops.there, std::vector<Address>(), factory);
    loops.until([&] { return talk.journal.transport != nullptr; });
    CHECK_THROWS_AS(there.adopt(connection_of(talk.journal)), std::invalid_argument);
    CHECK(there.connections() == 0);
    write_some(talk.peer, "on");
    loops.until([&] { return talk.journal.input == "on"; });
}

TEST_CASE("What an acceptor's options say holds for its connections elsewhere too, and also if they have not begun") {
    for (const bool begun : {true, false}) {
        CAPTURE(begun);
        TwoLoops loops;
        Journal journal;
        ConnectionOptions options;
        Limits& limits = options.limits;
        limits = {1'000,
                  800,
                  700,
                  600,
                  std::chrono::hours(1),
                  std::chrono::hours(2),
                  std::chrono::hours(3),
                  std::chrono::hours(4)};
        options.rates.bytes_in = {1'000'000, 400};
        options.descriptors = 2;
        auto [peer, mine] = Socket::pair();
        Connection& connection =
            Connection::open(loops.here, std::move(mine), std::make_unique<Recorder>(journal), options);
        if (begun) loops.until([&] { return journal.transport != nullptr; });
        bool arrived = false;
        connection.move_to(loops.there, [&] { arrived = true; });
        loops.until([&] { return arrived; });
        const Limits& there = connection.limits();
        for (std::size_t Limits::*field :
             {&Limits::high_mark, &Limits::output_limit, &Limits::input_limit, &Limits::read_size})
            CHECK(there.*field == limits.*field);
        for (Duration Limits::*field :
             {&Limits::idle_timeout, &Limits::message_timeout, &Limits::write_timeout, &Limits::close_timeout})
            CHECK(there.*field == limits.*field);

        std::size_t first = 0;
        journal.on_received = [&](Bytes input) {
            if (first == 0) first = input.size();
            journal.input += text_of(input);
            return input.size();
        };
        Journal sending;
        Connection& sender = Connection::open(loops.there, std::move(peer), std::make_unique<Recorder>(sending));
        const int number = 0;
        CHECK(sender.send_descriptors(bytes_of(std::string(600, 'x')), {&number, 1}));
        loops.until([&] { return journal.input.size() == 600; });
        CHECK(first == 400);  // its rate lets so much through at once
        CHECK(connection.take_descriptor());
    }
}

TEST_CASE("A connection that has gone counts for its acceptor no more, and for another if that adopts it") {
    TwoLoops loops;
    Journal journal;
    const auto factory = [&] { return std::make_unique<Recorder>(journal); };
    const std::vector<Address> address{*Address::ip("127.0.0.1", 0)};
    AcceptorOptions options;
    options.max_connections = 1;
    options.connection.limits.high_mark = 54'321;
    Acceptor first(loops.here, address, factory, AcceptorOptions{}), second(loops.there, address, factory, options);
    Socket peer = Socket::open(Address::Family::ipv4);
    (void)peer.connect(first.addresses()[0]);
    loops.until([&] { return journal.transport != nullptr; });
    CHECK(first.connections() == 1);
    bool arrived = false;
    connection_of(journal).move_to(loops.there, [&] {
        arrived = true;
        second.adopt(connection_of(journal));
    });
    loops.until([&] { return arrived; });
    CHECK(first.connections() == 0);
    CHECK(second.connections() == 1);
    CHECK(journal.transport->limits().high_mark == 54'321);
    bool first_drained = false, second_drained = false;
    first.drain([&] { first_drained = true; });
    loops.until([&] { return first_drained; });
    CHECK_FALSE(journal.over);
    second.drain([&] { second_drained = true; });
    loops.settle();
    CHECK_FALSE(second_drained);
    peer.close();
    loops.until([&] { return second_drained; });
    CHECK(journal.over);
}

namespace {

// Echo that goes to the next loop after each input, and says on which it was.
class Wanderer final : public Protocol {
public:
    Wanderer(ReactorGroup& group, std::atomic<int>& moves, std::atomic<int>& ended)
        : group_(group), moves_(moves), ended_(ended) {}

private:
    std::size_t received(Bytes input) override {
        if (std::this_thread::get_id() != thread_ && thread_ != std::thread::id()) ended_ = -1'000'000;
        thread_ = std::this_thread::get_id();
        transport().write(input);
        loop_ = (loop_ + 1) % group_.size();
        static_cast<Connection&>(transport()).move_to(group_[loop_], [this] {
            thread_ = std::this_thread::get_id();
            ++moves_;
        });
        return input.size();
    }
    void disconnected(std::error_code error) override {
        if (!error) ++ended_;
    }

    ReactorGroup& group_;
    std::atomic<int>&moves_, &ended_;
    std::size_t loop_ = 0;
    std::thread::id thread_;
};

}  // namespace

TEST_CASE("Connections wander among the threads of a group, and no byte is lost or doubled") {
    constexpr int clients = 20;
    constexpr std::size_t size = 200'000;
    std::atomic<int> moves{0}, ended{0};
    ReactorGroup group(3);
    Acceptor acceptor(group[0], {*Address::ip("127.0.0.1", 0)},
                      [&] { return std::make_unique<Wanderer>(group, moves, ended); });
    const Address address = acceptor.addresses()[0];
    group.start();
    Reactor reactor;
    std::vector<std::unique_ptr<Journal>> journals;
    std::vector<std::string> sent;
    int over = 0;
    for (int i = 0; i < clients; ++i) {
        Socket socket = Socket::open(Address::Family::ipv4);
        const std::error_code error = socket.connect(address);
        REQUIRE((!error || error == std::errc::operation_in_progress));
        pollfd entry{socket.get(), POLLOUT, 0};
        REQUIRE(::poll(&entry, 1, 60'000) == 1);
        journals.push_back(std::make_unique<Journal>());
        sent.push_back(random_bytes(size, unsigned(i)));
        Journal& journal = *journals.back();
        Connection::open(reactor, std::move(socket), std::make_unique<Recorder>(journal), ConnectionOptions{});
        journal.on_connected = [&journal, i, &sent] { journal.transport->write(sent[std::size_t(i)]); };
        journal.on_received = [&journal](Bytes input) {
            journal.input += text_of(input);
            if (journal.input.size() == size) journal.transport->close();
            return input.size();
        };
        journal.on_disconnected = [&over] { ++over; };
    }
    run_until(reactor, [&] { return over == clients; });
    for (int i = 0; i < clients; ++i) CHECK(journals[std::size_t(i)]->input == sent[std::size_t(i)]);
    run_until(reactor, [&] { return ended == clients; });
    group.stop();
    group.join();
    CHECK(moves > clients);
}

TEST_CASE("A loop that one thread runs after another keeps its connections, and what came to them") {
    Reactor reactor;
    Conversation talk(reactor);
    talk.journal.on_received = [&](Bytes input) {
        talk.journal.input += text_of(input);
        talk.journal.transport->write(input);
        return input.size();
    };
    std::string answer, sent;
    for (int turn = 0; turn < 6; ++turn) {
        sent += std::to_string(turn);
        const auto run = [&] {
            run_until(reactor, [&] { return (answer += read_all(talk.peer)).size() >= sent.size(); });
        };
        write_some(talk.peer, std::to_string(turn));
        turn % 2 == 0 ? run() : std::thread(run).join();
        // Input that comes between two threads belongs to neither.
        sent += "x";
        write_some(talk.peer, "x");
    }
    run_until(reactor, [&] { return (answer += read_all(talk.peer)).size() >= sent.size(); });
    CHECK(answer == sent);
    CHECK(talk.journal.input == sent);
}
