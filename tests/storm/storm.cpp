// Two loops are driven by turns from one thread, on a clock that moves only between turns. On them live connections,
// pipes, sockets of datagrams, acceptors, connectors, timers, hooks and raw watchers, and in every callback of each a
// few random operations of the public interface are done to any of them, with extreme values for options. Nothing is
// expected of the conversations. The promises of the library are expected to hold for everything that its user does:
//
//  - a protocol is called in its order, at the end once, and never from inside an operation;
//  - nothing is called that was destroyed or cancelled, nor on behalf of an owner that was;
//  - the bytes that are received are those that were written, in their order;
//  - no timer is early, and each that is due is called in the next turn;
//  - a drain is done once, and when all has ended it is done;
//  - where nothing happens a loop has nothing to do;
//  - in the end no descriptor is left; and the sanitizers have no complaint.

#include "storm.hpp"
#include "../support/dice.hpp"
#include "../support/unix_name.hpp"

#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stopping.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/datagram/packet_acceptor.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/hook.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/acceptor_sharing.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/timer.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace storm {

namespace {

using namespace reactor;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t loops = 2;
constexpr std::size_t most_alive = 40;     // protocols at a time
constexpr std::size_t most_of_a_kind = 6;  // acceptors, connectors, timers and so on

// All that is ever written is this, from its place in the stream on: so every piece of every stream can be checked.
constexpr std::size_t period = 65'521;
constexpr std::size_t longest_write = 4 * period;

const std::string& pattern() {
    static const std::string made = [] {
        std::string result(longest_write + period, '\0');
        Dice dice(1);
        for (std::size_t place = 0; place < period; ++place) result[place] = char(dice.below(256));
        for (std::size_t place = period; place < result.size(); ++place) result[place] = result[place - period];
        return result;
    }();
    return made;
}

Bytes pattern_at(std::uint64_t place, std::size_t size) {
    return bytes_of(std::string_view(pattern()).substr(std::size_t(place % period), size));
}

bool is_pattern(std::uint64_t place, Bytes bytes) {
    while (!bytes.empty()) {
        const Bytes expected = pattern_at(place, std::min(bytes.size(), longest_write));
        if (std::memcmp(expected.data(), bytes.data(), expected.size()) != 0) return false;
        place += expected.size();
        bytes = bytes.subspan(expected.size());
    }
    return true;
}

// The same as a regular file.
int pattern_file() {
    static const int made = [] {
        char path[] = "/tmp/reactor-storm-XXXXXX";
        const int descriptor = ::mkstemp(path);
        if (descriptor < 0) std::abort();
        ::unlink(path);
        if (::write(descriptor, pattern().data(), pattern().size()) != ssize_t(pattern().size())) std::abort();
        return descriptor;
    }();
    return made;
}

// Each open one, and its kind.
std::map<int, std::string> open_descriptors() {
    std::map<int, std::string> result;
    DIR* const directory = ::opendir("/proc/self/fd");
    if (directory == nullptr) return result;
    while (const dirent* const entry = ::readdir(directory)) {
        const int number = std::atoi(entry->d_name);
        if (entry->d_name[0] == '.' || number == ::dirfd(directory)) continue;
        char target[100];
        const ssize_t length = ::readlinkat(::dirfd(directory), entry->d_name, target, sizeof target);
        result[number] = std::string(target, std::size_t(std::max(length, ssize_t(0))));
    }
    ::closedir(directory);
    return result;
}

struct Thrown : std::exception {
    const char* what() const noexcept override { return "thrown on purpose"; }
};

/// The calls of one protocol, of streams and of datagrams. It outlives its protocol.
struct Life {
    enum class Stage { made, begun, over, gone };

    std::size_t number = 0;
    std::size_t loop = 0;
    Stage stage = Stage::made;
    Transport* transport = nullptr;        // of a stream, from when it is known until its protocol is gone
    Connection* connection = nullptr;      // the same, where it is one
    DatagramEndpoint* endpoint = nullptr;  // of datagrams
    bool opened = false;                   // by us, without an exception: the end must come
    bool moving = false;                   // between move_to and `arrived`: only its own calls may use it
    bool finished = false;                 // closed, aborted or thrown out of: nothing is received any more
    bool paused = false;
    bool ended = false;  // end_of_stream was called
    bool pause_told = false;
    std::size_t moves = 0;  // that were asked for
    std::uint64_t sent = 0, received = 0;
};

class Storm {
public:
    Storm(std::uint64_t seed, std::string_view backend, bool traced);
    ~Storm() = default;
    Outcome run();

private:
    class Player;
    struct Presence;
    class BoxPlayer;
    class Owned;
    struct Door;
    struct PacketDoor;
    struct Caller;
    struct Alarm;
    struct Ear;
    struct Bell;
    struct Later;
    struct Watcher;
    struct Wish;
    struct RawEnd;
    using Token = std::shared_ptr<bool>;  // is the owner of a callback still there?
    using Operation = void (Storm::*)();
    struct Choice {
        unsigned weight;
        Operation operation;
    };

    // ── promises ──
    void check(bool kept, const std::string& promise);
    void trace(const char* what, std::size_t a = 0, std::size_t b = 0);
    template <class Body>
    void callback(const char* what, std::size_t loop, Body body);
    template <class Body>
    void told(Life& life, const char* what, Body body);
    template <class Body>
    void operate(const char* what, Body body);
    void protocol_gone(Life& life);

    // ── chance ──
    void act(unsigned most = 3);
    void act_at_random();
    void maybe_throw();
    std::size_t any_loop() { return std::size_t(dice_.below(loops)); }
    Reactor& reactor(std::size_t loop) { return *reactors_[loop]; }
    std::size_t size(std::size_t ordinary);
    Duration duration();
    Rate rate();
    RateLimits rates();
    Limits limits();
    ConnectionOptions connection_options();
    DatagramOptions datagram_options();
    Interest interest() { return Interest(dice_.below(8)); }
    template <class Usable>
    Life* some_life(Usable usable);
    Life* some_stream();
    Life* some_connection();
    Life* some_box();
    template <class T>
    T* some(std::vector<std::unique_ptr<T>>& list) {
        return list.empty() ? nullptr : list[std::size_t(dice_.below(list.size()))].get();
    }
    bool crowded() const { return alive_ >= most_alive; }
    Life& new_life(std::size_t loop);
    std::unique_ptr<Protocol> player(std::size_t loop);
    static Task<> play(Stream stream, std::shared_ptr<Presence> presence);
    ProtocolFactory factory(std::size_t loop, Token alive);
    DatagramProtocolFactory box_factory(std::size_t loop, Token alive);
    std::pair<Socket, Socket> pair();
    Wish& wish(std::size_t loop, Token owner);
    MoveOnlyFunction<void(const Drained&)> done_of(Wish& wish);

    // ── operations ──
    void open_pair();
    void open_with_raw_end();
    void open_pipe();
    void open_box();
    void write();
    void shutdown_write();
    void close();
    void abort();
    void pause();
    void resume();
    void set_limits();
    void write_file();
    void set_rates();
    void send_descriptors();
    void take_descriptor();
    void ask();
    void move();
    void adopt();
    void count_message();
    void send_datagram();
    void pause_box();
    void close_box();
    void use_raw_end();
    void open_door();
    void use_door();
    void destroy_door();
    void open_packet_door();
    void use_packet_door();
    void open_caller();
    void use_caller();
    void add_alarm();
    void use_alarm();
    void add_ear();
    void remove_ear();
    void use_bell();
    void add_watcher();
    void use_watcher();
    void adopt_handler();
    void post();
    void defer();
    void use_handle();
    void stop();
    void run_inside();
    void use_empty_callables();
    void drain_loop();
    void cut_loop();
    void set_hooks();
    static const std::vector<Choice>& choices();

    // ── the course ──
    void turn(std::size_t loop);
    bool busy(std::size_t loop);
    std::uint64_t progress();
    void settle();
    void end_in_order();
    void end_abruptly();

    Dice dice_;
    const bool traced_;
    const bool passing_;  // connections pass on, and then the place in a stream is unknown
    const unsigned extreme_;
    const unsigned throws_;
    std::string failure_;
    Outcome outcome_;
    std::map<int, std::string> descriptors_at_first_ = open_descriptors();
    std::size_t operations_left_;
    std::size_t alive_ = 0;
    int operating_ = 0;
    bool inside_ = false;
    bool acting_ = true;
    bool tearing_down_ = false;
    bool throwing_ = false;               // while what was thrown on purpose is under way
    std::optional<std::size_t> running_;  // the loop that is in its turn
    Life* current_ = nullptr;             // whose protocol is being called

    testing::ManualClock clock_;
    std::unique_ptr<AcceptorSharing> sharing_;
    std::vector<std::unique_ptr<Life>> lives_;
    std::vector<std::unique_ptr<Wish>> wishes_;
    std::array<Wish*, loops> last_wish_{};
    std::array<std::unique_ptr<Reactor>, loops> reactors_;
    std::array<bool, loops> exception_hook_{};
    std::vector<std::unique_ptr<Door>> doors_;
    std::vector<std::unique_ptr<PacketDoor>> packet_doors_;
    std::vector<std::unique_ptr<Caller>> callers_;
    std::vector<std::unique_ptr<Alarm>> alarms_;
    std::vector<std::unique_ptr<Ear>> ears_;
    std::vector<std::unique_ptr<Bell>> bells_;  // a signal has one watcher in a process, so at most one
    std::vector<std::unique_ptr<Later>> laters_;
    std::vector<std::pair<TransportHandle, Life*>> handles_;
    std::vector<std::unique_ptr<Watcher>> watchers_;
    std::vector<std::unique_ptr<RawEnd>> raw_ends_;
};

// ── what lives on the loops ──

/// The promise of a drain: `done` must come once, unless another drain of the same has taken its place.
struct Storm::Wish {
    std::size_t loop;
    Token owner;  // null: the loop itself
    bool replaced = false;
    int done = 0;
};

struct Storm::Door {
    std::size_t loop;
    Token alive = std::make_shared<bool>(true);
    std::unique_ptr<Acceptor> acceptor;
    Wish* last_wish = nullptr;
    ~Door() { *alive = false; }
};

struct Storm::PacketDoor {
    std::size_t loop;
    Token alive = std::make_shared<bool>(true);
    std::unique_ptr<PacketAcceptor> acceptor;
    Wish* last_wish = nullptr;
    ~PacketDoor() { *alive = false; }
};

struct Storm::Caller {
    std::size_t loop;
    Token alive = std::make_shared<bool>(true);
    std::unique_ptr<Connector> connector;
    ~Caller() { *alive = false; }
};

struct Storm::Alarm {
    std::size_t loop;
    Token alive = std::make_shared<bool>(true);
    std::unique_ptr<Timer> timer;
    TimePoint due = TimePoint::max();
    bool active = false, periodic = false;
    ~Alarm() { *alive = false; }
};

struct Storm::Ear {
    std::size_t loop;
    Token alive = std::make_shared<bool>(true);
    std::unique_ptr<Hook> hook;
    ~Ear() { *alive = false; }
};

struct Storm::Bell {
    std::size_t loop;
    Token alive = std::make_shared<bool>(true);
    std::unique_ptr<Signals> signals;
    ~Bell() { *alive = false; }
};

struct Storm::Later {
    Token alive = std::make_shared<bool>(true);
    Deferred call;
    ~Later() { *alive = false; }
};

/// The other end of a connection or pipe, without a protocol.
struct Storm::RawEnd {
    Socket socket;
    bool was_urgent = false;
    std::uint64_t sent = 0, received = 0;
};

struct Storm::Watcher final : EventHandler {
    Watcher(Storm& the_storm, std::size_t the_loop, FileDescriptor one, FileDescriptor another)
        : storm(the_storm), loop(the_loop), watched(std::move(one)), other(std::move(another)) {}
    ~Watcher() { *alive = false; }
    void readable() override { called("readable", Interest::readable); }
    void writable() override { called("writable", Interest::writable); }
    void error() override { called("error", Interest::error); }
    void lost(std::error_code) override { storm.check(false, "a watcher whose descriptor is open does not lose it"); }
    void called(const char* what, Interest interest) {
        Storm& the_storm = storm;
        const Token still = alive;
        the_storm.callback(what, loop, [&] {
            the_storm.check(*still && bool(registration) && any(registration.interest(), interest),
                            "a watcher is told only of what it wants");
            if (the_storm.dice_.chance(300)) registration.set_interest(the_storm.interest());
            if (!the_storm.acting_) registration.set_interest(Interest::none);
            the_storm.act();
            if (!*still) return;
            char bytes[100];
            if (the_storm.dice_.chance(500)) (void)!::read(watched.get(), bytes, sizeof bytes);
            the_storm.maybe_throw();
        });
    }

    Storm& storm;
    std::size_t loop;
    Token alive = std::make_shared<bool>(true);
    FileDescriptor watched, other;
    Registration registration;  // ends before its descriptor
};

/// A handler that the reactor owns and that is no connection.
class Storm::Owned final : public OwnedHandler {
public:
    Owned(Storm& storm, std::size_t loop, FileDescriptor one, FileDescriptor another)
        : storm_(storm), loop_(loop), watched_(std::move(one)), other_(std::move(another)) {}
    ~Owned() override { storm_.check(retired_ || storm_.tearing_down_ || !kept_, "what is retired is told so"); }
    int descriptor() const { return watched_.get(); }
    void keep(Registration registration) {
        registration_ = registration.leave();
        kept_ = true;
    }

private:
    void readable() override { called(); }
    void writable() override { called(); }
    void error() override { called(); }
    void called() {
        storm_.callback("owned", loop_, [&] {
            storm_.check(!ended_, "a handler that was retired is not called");
            storm_.act();
            if (!ended_ && (storm_.dice_.chance(500) || !storm_.acting_)) {
                ended_ = true;
                Internals(storm_.reactor(loop_)).retire(registration_);
            }
            storm_.maybe_throw();
        });
    }
    void retired() override {
        storm_.callback("retired", loop_, [&] {
            storm_.check(ended_ && !retired_, "retired comes once");
            retired_ = true;
            storm_.act();
        });
    }

    Storm& storm_;
    std::size_t loop_;
    FileDescriptor watched_, other_;
    RegistrationView registration_;
    bool kept_ = false, ended_ = false, retired_ = false;
};

class Storm::Player final : public Protocol {
public:
    Player(Storm& storm, Life& life) : storm_(storm), life_(life) {}
    ~Player() override { storm_.protocol_gone(life_); }

private:
    void connected() override {
        storm_.told(life_, "connected", [&] {
            storm_.check(life_.stage == Life::Stage::made, "connected comes first, and once");
            life_.stage = Life::Stage::begun;
            life_.transport = &transport();
            if (life_.connection == nullptr) life_.connection = dynamic_cast<Connection*>(life_.transport);
            storm_.act();
            storm_.maybe_throw();
        });
    }
    std::size_t received(Bytes input) override {
        std::size_t consumed = 0;
        storm_.told(life_, "received", [&] {
            check_begun();
            storm_.check(!input.empty(), "received comes with bytes");
            storm_.check(!life_.ended, "nothing is received after the end of the stream");
            storm_.check(!life_.finished, "nothing is received after close, abort or an exception");
            storm_.check(!life_.paused, "nothing is received while reading is paused");
            if (!storm_.passing_)
                storm_.check(is_pattern(life_.received, input), "what was written is received, in its order");
            pass_on(input);
            storm_.act();
            storm_.maybe_throw();
            if (!storm_.acting_) read_quickly();
            if (storm_.acting_ && storm_.dice_.chance(200))
                consumed = std::size_t(storm_.dice_.below(input.size() + 1));
            else
                consumed = input.size();
            life_.received += consumed;
        });
        return consumed;
    }
    void end_of_stream() override {
        storm_.told(life_, "end of stream", [&] {
            check_begun();
            storm_.check(!life_.ended && !life_.finished && !life_.paused,
                         "the end of a stream is told once, and in time");
            life_.ended = true;
            storm_.act();
            storm_.maybe_throw();
            if (storm_.dice_.chance(700)) {
                life_.finished = true;
                transport().close();
            }
        });
    }
    void draining() override {
        storm_.told(life_, "draining", [&] {
            check_begun();
            storm_.act();
            storm_.maybe_throw();
            if (storm_.dice_.chance(500)) {
                life_.finished = true;
                transport().close();
            }
        });
    }
    void pause_writing() override {
        storm_.told(life_, "pause writing", [&] {
            check_begun();
            storm_.check(!life_.pause_told, "pausing is told once");
            life_.pause_told = true;
            storm_.act();
            storm_.maybe_throw();
        });
    }
    void resume_writing() override {
        storm_.told(life_, "resume writing", [&] {
            check_begun();
            storm_.check(life_.pause_told, "going on is told once for each pause");
            life_.pause_told = false;
            storm_.act();
            storm_.maybe_throw();
        });
    }
    void disconnected(std::error_code reason) override {
        storm_.told(life_, "disconnected", [&] {
            storm_.check(life_.stage != Life::Stage::over, "the end is told once");
            storm_.check(life_.stage == Life::Stage::begun || life_.opened || life_.finished || reason,
                         "what never came about has a reason");
            life_.stage = Life::Stage::over;
            if (life_.transport != nullptr) {
                (void)transport().peer();
                (void)transport().queued();
                storm_.check(!transport().reading(), "what has ended reads nothing");
            }
            life_.transport = nullptr;
            life_.connection = nullptr;
            storm_.act();
            storm_.maybe_throw();
        });
    }

    void check_begun() {
        storm_.check(life_.stage == Life::Stage::begun, "nothing is told before connected or after disconnected");
    }
    // The rest comes soon, and not byte by byte.
    void read_quickly() {
        if (transport().limits().read_size >= 4096) return;
        Limits quicker = transport().limits();
        quicker.read_size = 4096;
        storm_.operate("read more at a time", [&] { transport().set_limits(quicker); });
    }
    void pass_on(Bytes input) {
        if (!storm_.passing_ || !storm_.acting_ || storm_.dice_.chance(500)) return;
        Life* const other = storm_.some_connection();
        if (other == nullptr || other == &life_ || life_.moving || other->moving) return;
        (void)other->transport->write(input);
        if (other->transport != nullptr && storm_.dice_.chance(900)) transport().pass_on_to(*other->transport);
    }

    Storm& storm_;
    Life& life_;
};

// A coroutine in the place of a protocol. This goes with its frame.
struct Storm::Presence {
    Presence(Storm& the_storm, Life& its_life) : storm(the_storm), life(its_life) {}
    ~Presence() {
        if (life.stage == Life::Stage::begun) life.stage = Life::Stage::over;
        storm.protocol_gone(life);
    }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;

    void begins(Stream& stream) {
        storm.told(life, "coroutine begins", [&] {
            storm.check(life.stage == Life::Stage::made, "a coroutine begins once");
            life.stage = Life::Stage::begun;
            life.transport = &stream.transport();
            storm.act();
            storm.maybe_throw();
        });
    }
    void takes(Stream& stream, Bytes input) {
        storm.told(life, "coroutine reads", [&] {
            storm.check(!input.empty() && !life.ended && !life.finished,
                        "a read returns bytes, and none after the end");
            if (!storm.passing_) storm.check(is_pattern(life.received, input), "a read takes all, in its order");
            life.received += input.size();
            storm.act();
            storm.maybe_throw();
            Limits limits = stream.open() ? stream.limits() : Limits();
            if (storm.acting_ || limits.read_size >= 4096) return;
            limits.read_size = 4096;  // the rest comes soon
            storm.operate("read more at a time", [&] { stream.set_limits(limits); });
        });
    }

    Storm& storm;
    Life& life;
};

Task<> Storm::play(Stream stream, std::shared_ptr<Presence> presence) {
    Storm& storm = presence->storm;
    Life& life = presence->life;
    presence->begins(stream);
    for (;;) {
        const std::uint64_t way = storm.acting_ ? storm.dice_.below(10) : 9;
        if (way == 0) co_await yield();
        if (way == 1) co_await sleep(storm.duration());
        if (way == 2) {
            const Bytes piece = pattern_at(life.sent, storm.size(1000));
            auto write = stream.write(piece);  // done by the call, before others write
            if (write.result()) life.sent += piece.size();
            co_await write;
        }
        if (way == 3) {
            const auto first = co_await first_of(stream.read_some(), sleep(storm.duration()), stopping());
            if (first.index() == 2) co_return;
            if (first.index() == 1) continue;
            if (!std::get<0>(first)) co_return;
            presence->takes(stream, *std::get<0>(first));
            continue;
        }
        const auto input = co_await stream.read_some();
        if (!input) co_return;
        presence->takes(stream, *input);
    }
}

class Storm::BoxPlayer final : public DatagramProtocol {
public:
    BoxPlayer(Storm& storm, Life& life) : storm_(storm), life_(life) {}
    ~BoxPlayer() override { storm_.protocol_gone(life_); }

private:
    void opened() override {
        storm_.told(life_, "opened", [&] {
            storm_.check(life_.stage == Life::Stage::made, "opened comes first, and once");
            life_.stage = Life::Stage::begun;
            life_.endpoint = dynamic_cast<DatagramEndpoint*>(&transport());
            act();
        });
    }
    void received(const Datagram& datagram) override {
        storm_.told(life_, "datagram", [&] {
            check_begun();
            storm_.check(!life_.paused && !life_.finished,
                         "nothing is received while receiving is paused, or after close");
            storm_.check(datagram.data.empty() || is_pattern(0, datagram.data), "a datagram arrives as it was sent");
            for (FileDescriptor& one : datagram.descriptors)
                if (storm_.dice_.chance(300)) FileDescriptor(std::move(one)).reset();
            if (storm_.acting_ && storm_.dice_.chance(300)) (void)transport().answer(datagram, datagram.data);
            act();
        });
    }
    void refused(const Address&, std::error_code error) override {
        storm_.told(life_, "refused", [&] {
            check_begun();
            storm_.check(bool(error), "a refusal has a reason");
            act();
        });
    }
    void resume_sending() override {
        storm_.told(life_, "resume sending", [&] {
            check_begun();
            act();
        });
    }
    void draining() override {
        storm_.told(life_, "draining", [&] {
            check_begun();
            act();
            if (storm_.dice_.chance(500)) close();
        });
    }
    void closed(std::error_code) override {
        storm_.told(life_, "closed", [&] {
            storm_.check(life_.stage != Life::Stage::over, "the end is told once");
            life_.stage = Life::Stage::over;
            life_.endpoint = nullptr;
            act();
        });
    }

    void act() {
        storm_.act();
        storm_.maybe_throw();
    }
    void close() {
        life_.finished = true;
        transport().close();
    }
    void check_begun() {
        storm_.check(life_.stage == Life::Stage::begun, "nothing is told before opened or after closed");
    }

    Storm& storm_;
    Life& life_;
};

// ── promises ──

void Storm::check(bool kept, const std::string& promise) {
    if (kept || !failure_.empty()) return;
    failure_ = promise;
    acting_ = false;
    trace("FAILED");
}

void Storm::trace(const char* what, std::size_t a, std::size_t b) {
    if (traced_)
        std::fprintf(stderr, "%*s%s %zu %zu\n", (inside_ ? 4 : 0) + 2 * operating_ + (running_ ? 2 : 0), "", what, a,
                     b);
}

template <class Body>
void Storm::callback(const char* what, std::size_t loop, Body body) {
    trace(what, loop);
    ++outcome_.callbacks;
    check(operating_ == 0, std::string(what) + ": nothing is called from inside an operation");
    check(!inside_, std::string(what) + ": nothing is called from inside another callback");
    check(!tearing_down_, std::string(what) + ": a reactor that is being destroyed calls nothing");
    check(running_ == loop, std::string(what) + ": everything is called by its own loop");
    inside_ = true;
    struct Leave {
        Storm& storm;
        ~Leave() {
            storm.inside_ = false;
            storm.current_ = nullptr;
        }
    } leave{*this};
    body();
}

template <class Body>
void Storm::told(Life& life, const char* what, Body body) {
    trace("life", life.number);
    check(life.stage != Life::Stage::gone, std::string(what) + ": a protocol that is gone is told nothing");
    // On the way to the other loop it may end here or begin there.
    callback(what, life.moving && running_ ? *running_ : life.loop, [&] {
        current_ = &life;
        try {
            body();
        } catch (...) {
            life.finished = true;
            throw;
        }
    });
}

// An operation may be refused by an exception of these kinds.
template <class Body>
void Storm::operate(const char* what, Body body) {
    trace(what);
    ++outcome_.operations;
    ++operating_;
    try {
        body();
    } catch (const std::system_error& error) {
        if (traced_) trace(error.what());
    } catch (const std::invalid_argument& error) {
        if (traced_) trace(error.what());
    } catch (const std::bad_alloc&) {
    } catch (const std::exception& error) {
        check(false, std::string(what) + " throws what is not documented: " + error.what());
    }
    --operating_;
}

void Storm::protocol_gone(Life& life) {
    trace("gone", life.number);
    check(life.stage != Life::Stage::gone, "a protocol is destroyed once");
    if (!tearing_down_) {
        check(life.stage != Life::Stage::begun, "a protocol is destroyed only when its end was told");
        check(life.stage != Life::Stage::made || !life.opened, "the end of every connection that was opened is told");
    }
    const bool was_told = life.stage == Life::Stage::over;
    life.stage = Life::Stage::gone;
    life.transport = nullptr;
    life.connection = nullptr;
    life.endpoint = nullptr;
    --alive_;
    // A destructor is the user's code as well.
    if (was_told && !tearing_down_ && operating_ == 0 && !inside_ && !throwing_ && dice_.chance(200)) {
        inside_ = true;
        act();
        inside_ = false;
    }
}

// ── chance ──

void Storm::act(unsigned most) {
    for (std::uint64_t left = dice_.below(most + 1); left > 0 && acting_; --left) act_at_random();
}

void Storm::act_at_random() {
    if (operations_left_ == 0) return;
    --operations_left_;
    static const unsigned sum = [] {
        unsigned all = 0;
        for (const Choice& choice : choices()) all += choice.weight;
        return all;
    }();
    auto place = unsigned(dice_.below(sum));
    for (const Choice& choice : choices()) {
        if (place < choice.weight) return (this->*choice.operation)();
        place -= choice.weight;
    }
}

void Storm::maybe_throw() {
    if (!acting_ || !dice_.chance(throws_)) return;
    trace("throws");
    throwing_ = true;
    throw Thrown();
}

std::size_t Storm::size(std::size_t ordinary) {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    if (!dice_.chance(extreme_)) return 1 + std::size_t(dice_.magnitude(ordinary));
    constexpr std::size_t extremes[] = {0, 1, 2, most / 2, most / 2 + 1, most - 1, most};
    return extremes[dice_.below(std::size(extremes))];
}

Duration Storm::duration() {
    if (!dice_.chance(extreme_)) return milliseconds(1) + dice_.delay(seconds(10));
    constexpr Duration extremes[] = {
        Duration::zero(), Duration(1), Duration(-1), Duration::max(), Duration::max() - Duration(1), Duration::min()};
    return extremes[dice_.below(std::size(extremes))];
}

Rate Storm::rate() {
    if (dice_.chance(500)) return {};
    return {size(100'000), size(100'000)};
}

RateLimits Storm::rates() {
    return {rate(), rate(), rate()};
}

Limits Storm::limits() {
    Limits result;
    if (dice_.chance(300)) return result;
    result.high_mark = size(200'000);
    if (dice_.chance(300)) result.output_limit = size(1'000'000);
    if (dice_.chance(300)) result.input_limit = size(1'000'000);
    result.read_size = size(100'000);
    if (dice_.chance(300)) result.idle_timeout = duration();
    if (dice_.chance(300)) result.message_timeout = duration();
    if (dice_.chance(300)) result.write_timeout = duration();
    if (dice_.chance(500)) result.close_timeout = duration();
    return result;
}

ConnectionOptions Storm::connection_options() {
    ConnectionOptions result;
    result.limits = limits();
    if (dice_.chance(200)) result.rates = rates();
    if (dice_.chance(200)) result.rates_together = rates();
    const bool no_delay = dice_.chance(500), keep_alive = dice_.chance(100);
    const Duration user_timeout = dice_.chance(100) ? duration() : Duration::zero();
    const std::size_t receive_buffer = dice_.chance(200) ? size(100'000) : 0;
    const std::size_t send_buffer = dice_.chance(200) ? size(100'000) : 0;
    if (dice_.chance(500)) {
        result.prepare = [=](Socket& socket) {
            socket.set_no_delay(no_delay);
            if (keep_alive) socket.set_keep_alive(KeepAlive{});
            if (user_timeout > Duration::zero()) socket.set_user_timeout(user_timeout);
            if (receive_buffer > 0) socket.set_receive_buffer(receive_buffer);
            if (send_buffer > 0) socket.set_send_buffer(send_buffer);
        };
    }
    if (dice_.chance(500)) result.descriptors = size(10);
    return result;
}

DatagramOptions Storm::datagram_options() {
    DatagramOptions result;
    if (dice_.chance(300)) return result;
    result.largest = size(70'000);
    result.queue_limit = size(100'000);
    result.batch = size(64);
    result.descriptors = size(10);
    return result;
}

template <class Usable>
Life* Storm::some_life(Usable usable) {
    if (lives_.empty()) return nullptr;
    const std::size_t begin = std::size_t(dice_.below(lives_.size()));
    for (std::size_t i = 0; i < lives_.size(); ++i) {
        Life& life = *lives_[(begin + i) % lives_.size()];
        if (life.stage != Life::Stage::gone && usable(life) && (!life.moving || &life == current_)) return &life;
    }
    return nullptr;
}

Life* Storm::some_stream() {
    if (current_ != nullptr && current_->transport != nullptr && dice_.chance(400)) return current_;
    return some_life([](const Life& life) { return life.transport != nullptr; });
}

Life* Storm::some_connection() {
    if (current_ != nullptr && current_->connection != nullptr && dice_.chance(400)) return current_;
    return some_life([](const Life& life) { return life.connection != nullptr; });
}

Life* Storm::some_box() {
    return some_life([](const Life& life) { return life.endpoint != nullptr; });
}

Life& Storm::new_life(std::size_t loop) {
    lives_.push_back(std::make_unique<Life>());
    lives_.back()->number = lives_.size();
    lives_.back()->loop = loop;
    ++outcome_.protocols;
    ++alive_;
    return *lives_.back();
}

std::unique_ptr<Protocol> Storm::player(std::size_t loop) {
    if (dice_.chance(200)) return coroutine(play, std::make_shared<Presence>(*this, new_life(loop)))();
    return std::make_unique<Player>(*this, new_life(loop));
}

// It uses its captures to the end, also if its owner has gone meanwhile.
ProtocolFactory Storm::factory(std::size_t loop, Token alive) {
    return [this, loop, alive, end = std::string("the captures of a factory live as long as its call")] {
        std::unique_ptr<Protocol> made;
        callback("factory", loop, [&] {
            check(*alive, "the factory of what is destroyed is not called");
            act();
            maybe_throw();
            if (!crowded() && (!acting_ || dice_.chance(900))) made = player(loop);
        });
        check(end.size() > 40, end);
        return made;
    };
}

DatagramProtocolFactory Storm::box_factory(std::size_t loop, Token alive) {
    return [this, loop, alive, end = std::string("the captures of a factory live as long as its call")] {
        std::unique_ptr<DatagramProtocol> made;
        callback("factory of packets", loop, [&] {
            check(*alive, "the factory of what is destroyed is not called");
            act();
            maybe_throw();
            if (!crowded() && (!acting_ || dice_.chance(900)))
                made = std::make_unique<BoxPlayer>(*this, new_life(loop));
        });
        check(end.size() > 40, end);
        return made;
    };
}

std::pair<Socket, Socket> Storm::pair() {
    if (dice_.chance(700)) return Socket::pair();
    Socket listener = Socket::open(Address::Family::ipv4);
    listener.bind(*Address::ip("127.0.0.1", 0));
    listener.listen(1);
    std::pair<Socket, Socket> result;
    result.first = Socket::open(Address::Family::ipv4);
    (void)result.first.connect(listener.local());
    Address peer;
    while (listener.accept(result.second, peer)) {
    }
    return result;
}

Storm::Wish& Storm::wish(std::size_t loop, Token owner) {
    wishes_.push_back(std::make_unique<Wish>(Wish{loop, std::move(owner)}));
    return *wishes_.back();
}

MoveOnlyFunction<void(const Drained&)> Storm::done_of(Wish& wish) {
    return [this, &wish](const Drained& drained) {
        callback("drained", wish.loop, [&] {
            ++wish.done;
            check(wish.done == 1 && !wish.replaced, "a drain is done once, and the last one alone");
            check(wish.owner == nullptr || *wish.owner, "the drain of what is destroyed is not done");
            check(drained.finished + drained.cut <= lives_.size(), "a drain counts no more than there was");
            act();
            maybe_throw();
        });
    };
}

// ── operations ──

const std::vector<Storm::Choice>& Storm::choices() {
    static const std::vector<Choice> all{
        {6, &Storm::open_pair},
        {6, &Storm::open_with_raw_end},
        {4, &Storm::open_pipe},
        {4, &Storm::open_box},
        {20, &Storm::write},
        {3, &Storm::shutdown_write},
        {4, &Storm::close},
        {2, &Storm::abort},
        {3, &Storm::pause},
        {6, &Storm::resume},
        {4, &Storm::set_limits},
        {4, &Storm::write_file},
        {2, &Storm::set_rates},
        {3, &Storm::send_descriptors},
        {2, &Storm::take_descriptor},
        {3, &Storm::ask},
        {8, &Storm::move},
        {3, &Storm::adopt},
        {1, &Storm::count_message},
        {8, &Storm::send_datagram},
        {2, &Storm::pause_box},
        {2, &Storm::close_box},
        {12, &Storm::use_raw_end},
        {5, &Storm::open_door},
        {3, &Storm::use_door},
        {2, &Storm::destroy_door},
        {3, &Storm::open_packet_door},
        {3, &Storm::use_packet_door},
        {8, &Storm::open_caller},
        {3, &Storm::use_caller},
        {3, &Storm::add_alarm},
        {5, &Storm::use_alarm},
        {2, &Storm::add_ear},
        {2, &Storm::remove_ear},
        {2, &Storm::use_bell},
        {3, &Storm::add_watcher},
        {4, &Storm::use_watcher},
        {2, &Storm::adopt_handler},
        {4, &Storm::post},
        {3, &Storm::defer},
        {3, &Storm::use_handle},
        {1, &Storm::stop},
        {1, &Storm::run_inside},
        {1, &Storm::use_empty_callables},
        {1, &Storm::drain_loop},
        {1, &Storm::cut_loop},
        {1, &Storm::set_hooks},
    };
    return all;
}

void Storm::open_pair() {
    if (crowded()) return;
    operate("open pair", [&] {
        auto ends = pair();
        for (Socket* end : {&ends.first, &ends.second}) {
            const std::size_t loop = any_loop();
            Life& life = new_life(loop);
            life.connection = &Connection::open(reactor(loop), std::move(*end), std::make_unique<Player>(*this, life),
                                                connection_options());
            life.transport = life.connection;
            life.opened = true;
        }
    });
}

void Storm::open_with_raw_end() {
    if (crowded() || raw_ends_.size() >= 2 * most_of_a_kind) return;
    operate("open one", [&] {
        auto ends = pair();
        const std::size_t loop = any_loop();
        Life& life = new_life(loop);
        raw_ends_.push_back(std::make_unique<RawEnd>());
        raw_ends_.back()->socket = std::move(ends.second);
        life.connection = &Connection::open(reactor(loop), std::move(ends.first), std::make_unique<Player>(*this, life),
                                            connection_options());
        life.transport = life.connection;
        life.opened = true;
    });
}

void Storm::open_pipe() {
    if (crowded()) return;
    operate("open pipe", [&] {
        FileDescriptor ends[2][2];
        for (auto& direction : ends) {
            int made[2];
            if (::pipe2(made, O_CLOEXEC | (dice_.chance(500) ? O_NONBLOCK : 0)) != 0) return;
            direction[0].reset(made[0]);
            direction[1].reset(made[1]);
        }
        if (dice_.chance(200)) ends[dice_.below(2)][dice_.below(2)].reset();
        for (std::size_t side = 0; side < 2; ++side) {
            const std::size_t loop = any_loop();
            Life& life = new_life(loop);
            try {
                life.transport =
                    &PipeTransport::open(reactor(loop), std::move(ends[side][0]), std::move(ends[1 - side][1]),
                                         std::make_unique<Player>(*this, life), limits());
                life.opened = true;
            } catch (const std::invalid_argument&) {
            }
        }
    });
}

void Storm::open_box() {
    if (crowded()) return;
    operate("open box", [&] {
        std::array<Socket, 2> sockets;
        const std::uint64_t kind = dice_.below(4);
        if (kind == 0) {  // two that send to each other, or to a closed port
            for (Socket& socket : sockets) {
                socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
                socket.bind(*Address::ip("127.0.0.1", 0));
            }
            for (std::size_t i = 0; i < 2; ++i) (void)sockets[i].connect(sockets[1 - i].local());
        } else {
            std::tie(sockets[0], sockets[1]) =
                Socket::pair(kind == 1 ? SocketKind::sequenced_packets : SocketKind::datagram);
        }
        if (kind == 3 && !packet_doors_.empty()) {
            const Address address = some(packet_doors_)->acceptor->address();
            sockets[0] = Socket::open(Address::Family::unix_domain, SocketKind::sequenced_packets);
            if (address.family() == Address::Family::none || sockets[0].connect(address)) return;
        }
        for (Socket& socket : sockets) {
            const std::size_t loop = any_loop();
            Life& life = new_life(loop);
            life.endpoint = &DatagramEndpoint::open(reactor(loop), std::move(socket),
                                                    std::make_unique<BoxPlayer>(*this, life), datagram_options());
            life.opened = true;
        }
    });
}

void Storm::write() {
    Life* const life = some_stream();
    if (life == nullptr) return;
    operate("write", [&] {
        const std::size_t count = std::size_t(dice_.magnitude(dice_.chance(200) ? longest_write : 3000));
        trace("to", life->number, count);
        if (life->transport->write(pattern_at(life->sent, count))) life->sent += count;
    });
}

void Storm::shutdown_write() {
    if (Life* const life = some_stream()) operate("shutdown_write", [&] { life->transport->shutdown_write(); });
}

void Storm::close() {
    Life* const life = some_stream();
    if (life == nullptr) return;
    operate("close", [&] {
        trace("of", life->number);
        life->finished = true;
        life->transport->close();
    });
}

void Storm::abort() {
    Life* const life = some_stream();
    if (life == nullptr) return;
    operate("abort", [&] {
        trace("of", life->number);
        life->finished = true;
        life->transport->abort();
    });
}

void Storm::pause() {
    Life* const life = some_stream();
    if (life == nullptr) return;
    operate("pause_reading", [&] {
        life->paused = true;
        life->transport->pause_reading();
    });
}

void Storm::resume() {
    Life* const life = some_stream();
    if (life == nullptr) return;
    operate("resume_reading", [&] {
        life->paused = false;
        life->transport->resume_reading();
    });
}

void Storm::set_limits() {
    if (Life* const life = some_stream()) operate("set_limits", [&] { life->transport->set_limits(limits()); });
}

void Storm::write_file() {
    Life* const life = some_stream();
    if (life == nullptr) return;
    operate("write_file", [&] {
        FileDescriptor file(::fcntl(pattern_file(), F_DUPFD_CLOEXEC, 0));
        std::uint64_t offset = life->sent % period, length = dice_.magnitude(longest_write);
        if (dice_.chance(200)) length = Transport::rest_of_file;
        if (dice_.chance(50)) length = size(100);
        if (dice_.chance(50)) offset = Transport::rest_of_file - dice_.below(3);
        if (life->transport->write_file(std::move(file), offset, length))
            life->sent += length == Transport::rest_of_file ? pattern().size() - offset : length;
    });
}

void Storm::set_rates() {
    if (Life* const life = some_connection()) operate("set_rates", [&] { life->connection->set_rates(rates()); });
}

void Storm::send_descriptors() {
    const std::vector<int> descriptors(std::size_t(dice_.magnitude(dice_.chance(20) ? 300 : 5)), pattern_file());
    if (dice_.chance(400)) {
        if (Life* const box = some_box())
            operate("send descriptors to box", [&] {
                box->endpoint->send_descriptors({}, pattern_at(0, std::size_t(dice_.magnitude(1000))), descriptors);
            });
        return;
    }
    Life* const life = some_connection();
    if (life == nullptr) return;
    operate("send_descriptors", [&] {
        const std::size_t count = std::size_t(dice_.magnitude(1000));
        if (life->connection->send_descriptors(pattern_at(life->sent, count), descriptors)) life->sent += count;
    });
}

void Storm::take_descriptor() {
    if (Life* const life = some_connection())
        operate("take_descriptor", [&] { (void)life->connection->take_descriptor(); });
}

void Storm::ask() {
    if (Life* const life = some_stream())
        operate("ask", [&] {
            (void)life->transport->peer();
            (void)life->transport->local();
            (void)life->transport->peer_credentials();
            (void)life->transport->reading();
            (void)life->transport->limits();
            (void)life->transport->queued();
            if (current_ == nullptr) (void)life->transport->unconsumed();
        });
    if (Life* const box = some_box()) (void)box->endpoint->counters();
    operate("ask a loop", [&] {
        Reactor& loop = reactor(any_loop());
        (void)loop.counters();
        (void)loop.next_timeout();
        (void)loop.native_handle();
        (void)loop.turn_time();
    });
}

void Storm::move() {
    Life* const life = some_connection();
    if (life == nullptr) return;
    operate("move_to", [&] {
        const std::size_t target = dice_.chance(900) ? 1 - life->loop : life->loop;
        trace("of", life->number, target);
        MoveOnlyFunction<void()> arrived;
        arrived = [this, life, target, number = life->moves + 1] {
            told(*life, "arrived", [&] {
                check(running_ == target, "arrived comes on the other loop");
                check(life->moving, "arrived comes once");
                life->loop = target;
                life->moving = number != life->moves;  // `connected`, which came just before, may have moved it again
                act();
                maybe_throw();
            });
        };
        life->connection->move_to(reactor(target), std::move(arrived));
        ++life->moves;
        life->moving = true;
    });
}

void Storm::adopt() {
    Life* const life = some_connection();
    Door* const door = some(doors_);
    if (life == nullptr || door == nullptr || life->moving || door->loop != life->loop) return;
    operate("adopt", [&] { door->acceptor->adopt(*life->connection); });
}

void Storm::count_message() {
    if (Life* const life = some_stream()) operate("message_received", [&] { life->transport->message_received(); });
}

void Storm::send_datagram() {
    Life* const box = some_box();
    if (box == nullptr) return;
    operate("send", [&] {
        Route route;
        if (dice_.chance(200)) route.to = *Address::ip("127.0.0.1", 9);
        if (dice_.chance(100)) route.from = *Address::ip(dice_.chance(500) ? "127.0.0.1" : "::1", 0);
        if (dice_.chance(50)) route.interface = unsigned(size(3));
        for (std::uint64_t left = 1 + dice_.below(dice_.chance(100) ? 200 : 3); left > 0; --left)
            (void)box->endpoint->send(route,
                                      pattern_at(0, std::size_t(dice_.magnitude(dice_.chance(100) ? 70'000 : 2000))));
    });
}

void Storm::pause_box() {
    Life* const box = some_box();
    if (box == nullptr) return;
    operate("pause or resume box", [&] {
        box->paused = dice_.chance(300);
        box->paused ? box->endpoint->pause_receiving() : box->endpoint->resume_receiving();
    });
}

void Storm::close_box() {
    Life* const box = some_box();
    if (box == nullptr) return;
    operate("close box", [&] {
        box->finished = true;
        box->endpoint->close();
    });
}

void Storm::use_raw_end() {
    if (raw_ends_.empty()) return;
    const std::size_t place = std::size_t(dice_.below(raw_ends_.size()));
    RawEnd& end = *raw_ends_[place];
    operate("raw end", [&] {
        static char bytes[longest_write];
        switch (dice_.below(12)) {
            case 0: return void(end.socket.shutdown_write());
            case 1:
                if (dice_.chance(500)) end.socket.set_linger(seconds(0));
                [[fallthrough]];
            case 2: return void(raw_ends_.erase(raw_ends_.begin() + std::ptrdiff_t(place)));
            case 3:  // once: another one would make the first a byte like the others
                if (!std::exchange(end.was_urgent, true))
                    (void)::send(end.socket.get(), "!", 1, MSG_OOB | MSG_NOSIGNAL);
                return;
            case 4:
            case 5:
            case 6: {
                const ssize_t count = ::recv(end.socket.get(), bytes, std::size_t(dice_.magnitude(sizeof bytes)), 0);
                if (count <= 0) return;
                if (!passing_)
                    check(is_pattern(end.received, bytes_of({bytes, std::size_t(count)})), "what was written is sent");
                end.received += std::size_t(count);
                return;
            }
            default: {
                const std::size_t most = dice_.chance(200) ? longest_write : 5000;
                const Bytes data = pattern_at(end.sent, std::size_t(dice_.magnitude(most)));
                const ssize_t count = ::send(end.socket.get(), data.data(), data.size(), MSG_NOSIGNAL);
                if (count > 0) end.sent += std::size_t(count);
            }
        }
    });
}

void Storm::open_door() {
    if (doors_.size() >= most_of_a_kind) return;
    operate("acceptor", [&] {
        auto door = std::make_unique<Door>();
        door->loop = any_loop();
        AcceptorOptions options;
        options.connection = connection_options();
        options.reuse_port = dice_.chance(200);
        if (dice_.chance(300)) options.max_connections = size(5);
        if (dice_.chance(200)) options.max_connections_per_peer = size(5);
        if (dice_.chance(300)) options.sharing = sharing_.get();
        std::vector<Address> addresses;
        if (dice_.chance(300)) addresses.push_back(*Address::ip("127.0.0.1", 0));
        if (dice_.chance(100)) addresses.push_back(*Address::ip("::1", 0));
        if (dice_.chance(600) || (addresses.empty() && options.sharing == nullptr))
            addresses.push_back(new_unix_name());
        door->acceptor =
            std::make_unique<Acceptor>(reactor(door->loop), addresses, factory(door->loop, door->alive), options);
        doors_.push_back(std::move(door));
    });
}

void Storm::use_door() {
    Door* const door = some(doors_);
    if (door == nullptr) return;
    operate("use acceptor", [&] {
        switch (dice_.below(7)) {
            case 0: return door->acceptor->close();
            case 1: return door->acceptor->pause();
            case 2: return door->acceptor->resume();
            case 3:
                (void)door->acceptor->counters();
                (void)door->acceptor->addresses();
                (void)door->acceptor->listening_sockets();
                return;
            case 4: {
                Wish& last = wish(door->loop, door->alive);
                const auto how = dice_.chance(700) ? Draining::told : Draining::left;
                door->acceptor->drain(duration(), done_of(last), how);
                if (door->last_wish != nullptr) door->last_wish->replaced = door->last_wish->done == 0;
                door->last_wish = &last;
                return;
            }
            default: return door->acceptor->resume();
        }
    });
}

void Storm::destroy_door() {
    const auto destroy = [&](auto& list, const char* what) {
        if (list.empty()) return;
        operate(what, [&] {
            const std::size_t place = std::size_t(dice_.below(list.size()));
            const auto gone = std::move(list[place]);
            list.erase(list.begin() + std::ptrdiff_t(place));
            *gone->alive = false;
        });
    };
    switch (dice_.below(3)) {
        case 0: return destroy(packet_doors_, "destroy packet acceptor");
        case 1: return destroy(callers_, "destroy connector");
        default: return destroy(doors_, "destroy acceptor");
    }
}

void Storm::open_packet_door() {
    if (packet_doors_.size() >= most_of_a_kind) return;
    operate("packet acceptor", [&] {
        auto door = std::make_unique<PacketDoor>();
        door->loop = any_loop();
        const DatagramOptions options = datagram_options();
        const std::size_t most = dice_.chance(300) ? size(5) : SIZE_MAX;
        const Address address = new_unix_name();
        door->acceptor = std::make_unique<PacketAcceptor>(reactor(door->loop), address,
                                                          box_factory(door->loop, door->alive), options, most);
        packet_doors_.push_back(std::move(door));
    });
}

void Storm::use_packet_door() {
    PacketDoor* const door = some(packet_doors_);
    if (door == nullptr) return;
    operate("use packet acceptor", [&] {
        switch (dice_.below(6)) {
            case 0: return door->acceptor->close();
            case 1: return door->acceptor->pause();
            case 2: return door->acceptor->resume();
            case 3: {
                Wish& last = wish(door->loop, door->alive);
                door->acceptor->drain(duration(), done_of(last));
                if (door->last_wish != nullptr) door->last_wish->replaced = door->last_wish->done == 0;
                door->last_wish = &last;
                return;
            }
            default: return void(door->acceptor->address());
        }
    });
}

void Storm::open_caller() {
    if (callers_.size() >= most_of_a_kind || crowded()) return;
    operate("connector", [&] {
        std::vector<Address> addresses;
        if (dice_.chance(100)) addresses.push_back(*Address::ip("127.0.0.1", 1));
        if (dice_.chance(50)) addresses.push_back(Address::unix_path("/tmp/reactor-storm-nobody"));
        if (Door* const door = some(doors_))
            for (const Address& address : door->acceptor->addresses()) addresses.push_back(address);
        if (addresses.empty()) return;
        auto caller = std::make_unique<Caller>();
        caller->loop = any_loop();
        ConnectorOptions options;
        options.connection = connection_options();
        if (dice_.chance(300)) options.timeout = duration();
        if (dice_.chance(100)) options.local = *Address::ip("127.0.0.1", 0);
        if (dice_.chance(200)) options.reconnect = duration();
        caller->connector = std::make_unique<Connector>(reactor(caller->loop), addresses,
                                                        factory(caller->loop, caller->alive), options);
        callers_.push_back(std::move(caller));
    });
}

void Storm::use_caller() {
    Caller* const caller = some(callers_);
    if (caller == nullptr) return;
    operate("use connector", [&] {
        (void)caller->connector->failures();
        (void)caller->connector->connecting();
        if (dice_.chance(300)) caller->connector->cancel();
    });
}

void Storm::add_alarm() {
    if (alarms_.size() >= most_of_a_kind) return;
    operate("timer", [&] {
        alarms_.push_back(std::make_unique<Alarm>());
        Alarm& alarm = *alarms_.back();
        alarm.loop = any_loop();
        alarm.timer =
            std::make_unique<Timer>(reactor(alarm.loop), [this, &alarm, alive = alarm.alive, loop = alarm.loop] {
                callback("timer", loop, [&] {
                    check(*alive, "a timer that is destroyed does not fire");
                    if (!*alive) return;
                    check(alarm.active, "a timer that is cancelled does not fire");
                    check(alarm.due <= clock_.now(), "no timer is early");
                    alarm.active = alarm.periodic;
                    if (alarm.periodic) alarm.due = alarm.timer->deadline();
                    act();
                    maybe_throw();
                    check(alive != nullptr, "the captures of a timer's callback live as long as its call");
                });
            });
    });
}

void Storm::use_alarm() {
    if (alarms_.empty()) return;
    const std::size_t place = std::size_t(dice_.below(alarms_.size()));
    operate("use timer", [&] {
        Alarm& alarm = *alarms_[place];
        switch (dice_.below(6)) {
            case 0:
                check(alarm.timer->cancel() == alarm.active, "cancel says whether the timer was to fire");
                alarm.active = false;
                return;
            case 1: {
                const auto gone = std::move(alarms_[place]);
                alarms_.erase(alarms_.begin() + std::ptrdiff_t(place));
                *gone->alive = false;
                return;
            }
            case 2: {
                constexpr TimePoint extremes[] = {TimePoint::min(), TimePoint(), TimePoint::max()};
                alarm.due = extremes[dice_.below(std::size(extremes))];
                if (dice_.chance(500)) alarm.due = clock_.now() + dice_.delay(seconds(1));
                alarm.timer->start_at(alarm.due);
                alarm.active = true;
                alarm.periodic = false;
                return;
            }
            case 3:
                alarm.timer->start_periodic(duration());
                alarm.active = alarm.periodic = true;
                alarm.due = alarm.timer->deadline();
                return;
            default: {
                const Duration delay = duration();
                alarm.timer->start(delay);
                alarm.active = true;
                alarm.periodic = false;
                alarm.due = deadline_after(clock_.now(), delay);
            }
        }
    });
}

void Storm::add_ear() {
    if (ears_.size() >= most_of_a_kind) return;
    operate("hook", [&] {
        ears_.push_back(std::make_unique<Ear>());
        Ear& ear = *ears_.back();
        ear.loop = any_loop();
        const auto when = dice_.chance(500) ? Hook::When::before_wait : Hook::When::after_wait;
        ear.hook = std::make_unique<Hook>(reactor(ear.loop), when, [this, alive = ear.alive, loop = ear.loop] {
            callback("hook", loop, [&] {
                check(*alive, "a hook that is destroyed is not called");
                if (dice_.chance(300)) act(1);
                if (dice_.chance(200)) maybe_throw();
            });
        });
    });
}

void Storm::remove_ear() {
    if (ears_.empty()) return;
    operate("remove hook", [&] {
        const std::size_t place = std::size_t(dice_.below(ears_.size()));
        const auto gone = std::move(ears_[place]);
        ears_.erase(ears_.begin() + std::ptrdiff_t(place));
        *gone->alive = false;
    });
}

void Storm::use_bell() {
    operate("signals", [&] {
        if (bells_.empty()) {
            bells_.push_back(std::make_unique<Bell>());
            Bell& bell = *bells_.back();
            bell.loop = any_loop();
            bell.signals = std::make_unique<Signals>(
                reactor(bell.loop), std::initializer_list<int>{SIGUSR1, SIGUSR2},
                [this, alive = bell.alive, loop = bell.loop](int) {
                    callback("signal", loop, [&] {
                        check(*alive, "signals that are destroyed call nobody");
                        act();
                        maybe_throw();
                        check(alive != nullptr, "the captures of a callback live as long as its call");
                    });
                });
        } else if (dice_.chance(300)) {
            const auto gone = std::move(bells_.back());
            bells_.pop_back();
            *gone->alive = false;
        } else {
            (void)::raise(dice_.chance(500) ? SIGUSR1 : SIGUSR2);
        }
    });
}

void Storm::add_watcher() {
    if (watchers_.size() >= most_of_a_kind) return;
    operate("watch", [&] {
        auto ends = Socket::pair();
        auto watcher = std::make_unique<Watcher>(*this, any_loop(), ends.first.release(), ends.second.release());
        watcher->registration = reactor(watcher->loop).watch(watcher->watched.get(), interest(), *watcher);
        watchers_.push_back(std::move(watcher));
    });
}

void Storm::use_watcher() {
    if (watchers_.empty()) return;
    const std::size_t place = std::size_t(dice_.below(watchers_.size()));
    operate("use watcher", [&] {
        Watcher& watcher = *watchers_[place];
        switch (dice_.below(8)) {
            case 0: {
                const auto gone = std::move(watchers_[place]);
                watchers_.erase(watchers_.begin() + std::ptrdiff_t(place));
                *gone->alive = false;
                return;
            }
            case 1: return watcher.registration.reset();
            case 2:
                watcher.registration = reactor(watcher.loop).watch(watcher.watched.get(), interest(), watcher);
                return;
            case 3: return watcher.other.reset();
            case 4: return void(!::write(watcher.other.get(), pattern().data(), std::size_t(dice_.magnitude(500'000))));
            case 5:
                if (watcher.registration) watcher.registration.trigger(interest());
                return;
            default:
                if (watcher.registration) watcher.registration.set_interest(interest());
                return;
        }
    });
}

void Storm::adopt_handler() {
    operate("adopt a handler", [&] {
        if (crowded()) return;
        auto ends = Socket::pair();
        const std::size_t loop = any_loop();
        auto made = std::make_unique<Owned>(*this, loop, ends.first.release(), ends.second.release());
        Owned& owned = *made;
        Registration registration =
            reactor(loop).adopt(owned.descriptor(), Interest::writable | interest(), std::move(made));
        if (dice_.chance(100)) {
            (void)reactor(loop).release(registration);  // which gets no call
        } else {
            owned.keep(std::move(registration));
        }
    });
}

void Storm::post() {
    operate("post", [&] {
        const std::size_t loop = any_loop();
        auto task = [this, loop, end = std::string("what a task has captured lives as long as it")] {
            callback("task", loop, [&] {
                act();
                maybe_throw();
                check(end.size() > 40, end);
            });
        };
        const bool taken =
            dice_.chance(300) ? reactor(loop).post(PreparedPost(std::move(task))) : reactor(loop).post(std::move(task));
        check(taken, "a living loop takes what is posted");
    });
}

void Storm::defer() {
    operate("defer", [&] {
        if (laters_.size() >= most_of_a_kind) {
            const std::size_t place = std::size_t(dice_.below(laters_.size()));
            if (dice_.chance(500) && laters_[place]->call.cancel()) *laters_[place]->alive = false;
            std::swap(laters_[place], laters_.back());
            return laters_.pop_back();
        }
        laters_.push_back(std::make_unique<Later>());
        Later& later = *laters_.back();
        const std::size_t loop = any_loop();
        later.call = reactor(loop).defer([this, loop, alive = later.alive, made = false]() mutable {
            callback("deferred", loop, [&] {
                check(*alive && !made, "a deferred call is made once, and not when it is cancelled");
                made = true;
                act();
                maybe_throw();
            });
        });
    });
}

void Storm::use_handle() {
    operate("handle", [&] {
        Life* const life = some_stream();
        if (life != nullptr && handles_.size() < most_of_a_kind) handles_.emplace_back(life->transport->handle(), life);
        if (handles_.empty()) return;
        const std::size_t place = std::size_t(dice_.below(handles_.size()));
        const auto [handle, its] = handles_[place];
        if (dice_.chance(200)) handles_.erase(handles_.begin() + std::ptrdiff_t(place));
        (void)handle.post([this, life = its](Protocol&) {
            told(*life, "handle", [&] {
                check(life->stage == Life::Stage::begun,
                      "a handle calls nothing before connected or after disconnected");
                check(!life->finished, "a handle calls nothing once the end has begun");
                act();
                maybe_throw();
            });
        });
    });
}

void Storm::stop() {
    operate("stop", [&] { reactor(any_loop()).stop(); });
}

void Storm::run_inside() {
    if (!running_) return;
    trace("run inside");
    try {
        (void)reactor(*running_).run_once(Duration::zero());
        check(false, "a loop that runs inside itself is refused");
    } catch (const std::logic_error&) {
    }
}

// Each is refused, and then nothing has changed.
void Storm::use_empty_callables() {
    operate("an empty callable", [&] {
        Reactor& loop = reactor(any_loop());
        switch (dice_.below(5)) {
            case 0: return void(loop.post(nullptr));
            case 1: return drain(loop, seconds(1), nullptr);
            case 2: return void(Timer(loop, nullptr));
            case 3: return void(Hook(loop, Hook::When::after_wait, nullptr));
            default: return void(Acceptor(loop, std::vector<Address>{*Address::ip("127.0.0.1", 0)}, nullptr));
        }
    });
}

void Storm::drain_loop() {
    operate("drain", [&] {
        const std::size_t loop = any_loop();
        Wish& last = wish(loop, nullptr);
        drain(reactor(loop), duration(), done_of(last), dice_.chance(700) ? Draining::told : Draining::left);
        if (last_wish_[loop] != nullptr) last_wish_[loop]->replaced = last_wish_[loop]->done == 0;
        last_wish_[loop] = &last;
    });
}

void Storm::cut_loop() {
    operate("cut a drain", [&] { cut_drain(reactor(any_loop())); });
}

void Storm::set_hooks() {
    operate("hooks of the loop", [&] {
        const std::size_t place = any_loop();
        Reactor& loop = reactor(place);
        switch (dice_.below(6)) {
            case 0:
                exception_hook_[place] = true;
                return loop.on_exception([this, place](std::exception_ptr) {
                    throwing_ = false;
                    callback("exception", place, [&] { act(); });
                });
            case 1: exception_hook_[place] = false; return loop.on_exception(nullptr);
            case 2:
                return loop.on_slow_call(Duration::zero(), [this, place](const SlowCall&) {
                    if (throwing_ || inside_ || !acting_)
                        return;  // the callback is being left, or nothing is to happen any more
                    if (dice_.chance(100)) callback("slow call", place, [&] { act(1); });
                });
            case 3: return loop.on_slow_call(Duration::zero(), nullptr);
            case 4:
                return loop.on_notice([this, place](Notice, std::string_view text) {
                    check(!text.empty(), "a notice has a text");
                    if (dice_.chance(300)) (void)reactor(place).post([] {});
                    if (dice_.chance(100)) throw Thrown();
                });
            default: return loop.on_notice(nullptr);
        }
    });
}

// ── the course ──

Storm::Storm(std::uint64_t seed, std::string_view backend, bool traced)
    : dice_(seed),
      traced_(traced),
      passing_(dice_.chance(300)),
      extreme_(dice_.chance(300) ? 0 : unsigned(dice_.below(300))),
      throws_(dice_.chance(500) ? 0 : unsigned(dice_.below(40))),
      operations_left_(20 + std::size_t(dice_.magnitude(1000))),
      sharing_(std::make_unique<AcceptorSharing>(dice_.chance(500) ? AcceptorSharing::Choice::round_robin
                                                                   : AcceptorSharing::Choice::least_connections)) {
    for (auto& one : reactors_) one = std::make_unique<Reactor>(backend, clock_);
}

void Storm::turn(std::size_t loop) {
    running_ = loop;
    ++outcome_.turns;
    try {
        (void)reactor(loop).run_once(Duration::zero());
    } catch (const Thrown&) {
        // Hooks before and after the wait come out of run() in any case, and so may what they threw.
    } catch (const std::exception& error) {
        check(false, std::string("a turn throws what nobody threw: ") + error.what());
    }
    throwing_ = false;
    running_.reset();
}

bool Storm::busy(std::size_t loop) {
    return reactor(loop).next_timeout() == Duration::zero();
}

std::uint64_t Storm::progress() {
    std::uint64_t sum = outcome_.callbacks;
    for (std::size_t loop = 0; loop < loops; ++loop) {
        const Counters counters = reactor(loop).counters();
        sum += counters.bytes_received + counters.bytes_sent + counters.connections + counters.timers + counters.tasks;
    }
    return sum;
}

// Lets all that is under way come to rest, on a clock that stands still. A turn in which a loop has something to do and
// nothing comes of it is one too many; a few may be, as readiness is a hint.
void Storm::settle() {
    acting_ = false;
    callers_.clear();  // they may connect again and again, without a pause if that is asked for
    ears_.clear();     // they are called in every turn
    // Discarded bytes may be read one by one, and those that are passed on in a circle go on for ever.
    constexpr int most_turns = 1'000'000, most_calls = 50'000, most_idle = 200;
    int idle = 0, quiet = 0, turns = 0;
    const std::uint64_t calls_at_first = outcome_.callbacks;
    for (; turns < most_turns && quiet < 3; ++turns) {
        const std::uint64_t before = progress();
        std::uint64_t events = 0;
        bool works = false;
        for (std::size_t loop = 0; loop < loops; ++loop) {
            const std::uint64_t seen = reactor(loop).counters().events;
            turn(loop);
            events += reactor(loop).counters().events - seen;
            works = works || busy(loop);
        }
        const bool moved = progress() != before;
        quiet = events == 0 && !works ? quiet + 1 : 0;
        idle = moved || quiet > 0 ? 0 : idle + 1;
        check(idle < most_idle, "a loop does not spin");
        check(outcome_.callbacks - calls_at_first < most_calls, "what nobody pushes comes to rest");
        if (!failure_.empty()) return;
    }
    check(quiet >= 3 || passing_, "what nobody reads any more comes to its end");
    for (const auto& alarm : alarms_)
        check(!alarm->active || alarm->due > clock_.now(), "a timer that is due is called in the next turn");
}

void Storm::end_in_order() {
    settle();
    watchers_.clear();
    alarms_.clear();
    bells_.clear();
    raw_ends_.clear();
    for (std::size_t loop = 0; loop < loops; ++loop) {
        Wish& last = wish(loop, nullptr);
        drain(reactor(loop), Duration::max(), done_of(last));
        if (last_wish_[loop] != nullptr) last_wish_[loop]->replaced = last_wish_[loop]->done == 0;
    }
    constexpr int patience = 400;
    const auto for_each = [&](auto what) {
        for (const auto& life : lives_)
            if (life->stage != Life::Stage::gone && !life->moving) what(*life);
    };
    for (int round = 0; round < 3 * patience && failure_.empty() && alive_ > 0; ++round) {
        ++operating_;
        if (round % patience == 0)
            for_each([&](Life& life) {
                life.finished = true;
                if (life.endpoint != nullptr) life.endpoint->close();
                if (life.transport == nullptr) return;
                life.transport->resume_reading();
                life.paused = false;
                round < 2 * patience ? life.transport->close() : life.transport->abort();
            });
        --operating_;
        for (std::size_t loop = 0; loop < loops; ++loop) turn(loop);
        if (round > patience) clock_.advance(seconds(1));
    }
    check(alive_ == 0, "everything that is closed and then aborted ends");
    // A coroutine may be gone before its connection, which still closes.
    const auto drained = [](const std::unique_ptr<Wish>& one) {
        return one->done == 1 || one->replaced || (one->owner != nullptr && !*one->owner);
    };
    for (int i = 0; i < 3 || (i < patience && !std::all_of(wishes_.begin(), wishes_.end(), drained)); ++i) {
        for (std::size_t loop = 0; loop < loops; ++loop) turn(loop);
        if (i >= 3) clock_.advance(seconds(1));
    }
    check(std::all_of(wishes_.begin(), wishes_.end(), drained), "when all has ended a drain is done");
    settle();
}

void Storm::end_abruptly() {
    acting_ = false;
    tearing_down_ = true;
    ++operating_;
    for (std::size_t left = 8, first = std::size_t(dice_.below(8)); left > 0; --left) switch ((first + left) % 8) {
            case 0: doors_.clear(); break;
            case 1: packet_doors_.clear(); break;
            case 2: callers_.clear(); break;
            case 3: alarms_.clear(); break;
            case 4:
                ears_.clear();
                laters_.clear();
                break;
            case 5: watchers_.clear(); break;
            case 6: bells_.clear(); break;
            default: raw_ends_.clear(); break;
        }
    const std::size_t first = any_loop();
    reactors_[first].reset();
    reactors_[1 - first].reset();
    --operating_;
}

Outcome Storm::run() {
    for (std::uint64_t left = 20 + dice_.magnitude(200); left > 0 && failure_.empty(); --left) {
        act();
        turn(any_loop());
        if (dice_.chance(300))
            clock_.advance(dice_.delay(dice_.chance(100) ? Duration(hours(1)) : Duration(seconds(1))));
        if (dice_.chance(10)) {
            settle();
            acting_ = failure_.empty();
        }
    }
    if (failure_.empty() && dice_.chance(700)) end_in_order();
    end_abruptly();
    check(alive_ == 0, "no protocol outlives its reactor");
    for (const auto& [number, target] : open_descriptors())
        check(descriptors_at_first_.contains(number), "no descriptor is left, but " + target + " is");
    outcome_.failure = failure_;
    return outcome_;
}

}  // namespace

Outcome run(std::uint64_t seed, std::string_view backend, bool traced) {
    (void)pattern_file();
    return Storm(seed, backend, traced).run();
}

}  // namespace storm
