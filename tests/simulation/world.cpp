#include "world.hpp"

#include "kernel.hpp"
#include "secure.hpp"

#include <protocols/echo.hpp>
#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>
#include <protocols/framing/length_prefixed.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/hook.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/testing/scripted_completions.hpp>
#include <reactor/timer.hpp>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

namespace simulation {

namespace {

using namespace reactor;
using std::chrono::milliseconds;
using std::chrono::seconds;

enum class Kind { talk, echo, counted, lines };
constexpr std::size_t kinds = 4;
constexpr std::uint64_t worlds_to_one_with_tls = 20;  // whose handshakes take their time

// In good weather everything must succeed; in foul weather nothing false may be reported.
enum class Mood { calm, rough };

constexpr std::size_t largest_piece = 24 * 1024;  // that a conversation writes at once
constexpr std::size_t longest_message = 6000;
constexpr std::size_t around_records = 4096;  // at least: a handshake, or the header and tag of a record
constexpr std::size_t encrypted_at_once = 64 * 1024;
constexpr std::size_t read_at_once = 16 * 1024;  // a longer piece of a file stays in it until it is sent

/// The byte that the side with this number sends at this place. The first four are the number itself.
std::byte byte_at(std::uint32_t number, std::size_t place) {
    if (place < 4) return std::byte(number >> (8 * place));
    const auto mixed = (std::uint64_t(number) << 32 | place) * 0x9e3779b97f4a7c15u;
    return std::byte(mixed >> 56);
}

/// One end of one conversation: its actions and its calls. It outlives its protocol.
struct Side {
    enum class Stage { made, connected, over };

    std::uint32_t number = 0;
    Stage stage = Stage::made;
    bool client = false;
    Transport* transport = nullptr;  // while it is connected

    std::size_t to_send = 0;  // bytes, or messages where there is a framing
    std::size_t sent = 0;     // of these, as far as `write` took them
    bool finished = false;    // nothing more will be written: shut, closed, aborted or over
    bool paused_writing = false;
    bool careful = false;  // never lets more than the high mark wait
    bool secure = false;   // inside TLS

    const Side* peer = nullptr;  // known from the first bytes
    std::size_t received = 0;
    bool ended = false;
    std::error_code reason;
};

constexpr std::size_t largest_letter = 3000;
constexpr std::size_t most_letters = 60;  // of one sender: no more refusals than an endpoint remembers

/// One socket of datagrams: its actions and its calls. It outlives its protocol.
struct Box {
    enum class Stage { made, opened, over };

    std::uint32_t number = 0;
    Stage stage = Stage::made;
    DatagramEndpoint* endpoint = nullptr;  // while it is opened
    Address address;
    DatagramOptions options;
    std::size_t to_send = 0, sent = 0;
    std::size_t refusable = 0, unreachable = 0;  // of those: to a closed port, to a host without a route
    std::size_t told = 0, told_refused = 0, told_unreachable = 0;
    bool owed_room = false;  // something was dropped since the last call about room
    bool paused = false;
    std::set<std::pair<std::uint32_t, std::size_t>> read;  // whose, and which
    DatagramEndpoint::Counters counters;                   // when it ended
};

struct Thrown : std::runtime_error {
    Thrown() : std::runtime_error("thrown on purpose") {}
};

class World {
public:
    World(std::uint64_t seed, std::string_view backend, bool traced);
    ~World();
    Outcome run();

    Kernel& kernel() { return *kernel_; }
    Dice& dice() { return dice_; }
    Reactor& loop() { return *reactor_; }
    bool calm() const { return mood_ == Mood::calm; }
    bool closing() const { return closing_; }
    bool tearing_down() const { return tearing_down_; }
    void check(bool kept, const char* promise, const Side* side = nullptr) {
        if (kept) return;
        std::string text = promise;
        if (side != nullptr) text.append(" (side ").append(std::to_string(side->number)).append(")");
        kernel_->fail(std::move(text));
    }
    Side& new_side(bool client);
    const Side* side(std::uint32_t number) const { return number < sides_.size() ? sides_[number].get() : nullptr; }
    Side* somebody() { return sides_.empty() ? nullptr : sides_[std::size_t(dice_.below(sides_.size()))].get(); }
    Box* some_box() { return boxes_.empty() ? nullptr : boxes_[std::size_t(dice_.below(boxes_.size()))].get(); }
    const Box* box(std::size_t number) const { return number < boxes_.size() ? boxes_[number].get() : nullptr; }
    void add_client();
    void watcher_told(std::size_t place);

private:
    struct Watcher;
    struct Alarm;

    enum class Direction { both, from_client, from_server };
    struct Server {
        Kind kind;
        Direction direction;
        ConnectionOptions connection;
        std::unique_ptr<Acceptor> acceptor;
        bool drained = false;
    };

    std::unique_ptr<Reactor> make_reactor(std::string_view backend);
    void note_turn();
    // Time passes even in the loop's destructor: on io_uring it waits for its cancellations.
    void stop() {
        if (!tearing_down_) reactor_->stop();
    }
    std::unique_ptr<Protocol> make(const Server& server, bool client);
    std::unique_ptr<Protocol> make_plain(const Server& server, bool client);
    void add_server();
    void add_box();
    bool letters_have_come() const;
    void check_letters();
    void add_watcher();
    void wake_watchers();
    void set_alarm(Alarm& alarm);
    void post_from_elsewhere();
    void meddle();
    void post_at_times();
    void begin();
    void begin_closing();
    bool sides_over() const;
    bool boxes_over() const;
    bool talk_is_over() const;
    bool drained() const;
    std::string unfinished() const;
    void turn();
    void tear_down();

    Dice dice_;
    Mood mood_;
    std::size_t scale_;  // of everything that is counted in bytes
    Weather weather_;
    std::unique_ptr<Secure> secure_;  // null in a world without TLS
    std::unique_ptr<Kernel> kernel_;
    std::unique_ptr<Reactor> reactor_;
    std::optional<Hook> turns_;
    std::uint64_t bytes_received_ = 0;
    ConnectionOptions connection_;
    std::vector<std::unique_ptr<Side>> sides_;
    std::vector<std::unique_ptr<Server>> servers_;
    std::vector<std::unique_ptr<Connector>> connectors_;
    std::vector<std::unique_ptr<Box>> boxes_;
    std::vector<std::unique_ptr<Watcher>> watchers_;
    std::vector<std::unique_ptr<Alarm>> alarms_;
    std::size_t clients_left_ = 0;
    std::size_t posts_left_ = 0, posts_made_ = 0, posts_run_ = 0;
    std::unique_ptr<Timer> client_timer_;
    std::size_t descriptors_at_first_ = 0, frames_at_first_ = coroutine_frames().alive();
    bool end_due_ = false, closing_ = false, tearing_down_ = false, hook_ = false;
};

// ── conversations ──

/// The behaviour of every protocol here besides its framing: it writes its share in its own time, pauses, meddles, and
/// checks the order of its calls.
class Player {
public:
    Player(World& world, Side& side) : world_(world), side_(side), tick_(world.loop(), [this] { tick(); }) {}
    virtual ~Player() {
        world_.check(side_.stage != Side::Stage::connected || world_.tearing_down(),
                     "a protocol is destroyed and was not told of the end", &side_);
        side_.stage = Side::Stage::over;
        side_.transport = nullptr;
    }

protected:
    /// Writes one message, or one piece of at most that many bytes; returns how much of `to_send` that was.
    virtual std::size_t write_piece(Transport& transport, std::size_t most) = 0;

    void begin(Transport& transport) {
        world_.kernel().trace("connected", side_.number);
        world_.kernel().note_progress();
        world_.check(side_.stage == Side::Stage::made, "connected comes first, and once", &side_);
        side_.stage = Side::Stage::connected;
        side_.transport = &transport;
        act();
        tick_.start(world_.dice().delay(milliseconds(20)));
    }
    void check_receiving() {
        world_.check(side_.stage == Side::Stage::connected, "nothing is received before connected or after the end",
                     &side_);
        world_.check(!side_.ended, "nothing is received after the end of the stream", &side_);
    }
    void heard_end() {
        world_.kernel().trace("end of stream", side_.number);
        world_.kernel().note_progress();
        world_.check(side_.stage == Side::Stage::connected && !side_.ended, "the end of a stream is told once", &side_);
        side_.ended = true;
        // The peer may not have sent as much as its number, and then nothing is known of it.
        // An echo that is closed throws away what still comes.
        if (side_.peer == nullptr || (side_.peer == &side_ && !world_.calm())) return;
        world_.check(side_.received == side_.peer->sent && side_.peer->finished,
                     "a stream that ends in good order lacks nothing", &side_);
    }
    void over(std::error_code reason) {
        world_.kernel().trace("disconnected", side_.number, reason.value());
        world_.kernel().note_progress();
        world_.check(side_.stage != Side::Stage::over, "the end is told exactly once", &side_);
        world_.check(!world_.tearing_down(), "a reactor that is destroyed calls nobody", &side_);
        world_.check(!world_.calm() || !reason, "in good weather nothing fails", &side_);
        if (world_.calm() && side_.stage == Side::Stage::connected)
            world_.check(side_.sent == side_.to_send && side_.ended, "in good weather everything is said and heard",
                         &side_);
        side_.stage = Side::Stage::over;
        side_.finished = true;
        side_.reason = reason;
        side_.transport = nullptr;
        tick_.cancel();
    }
    void pause(Transport& transport) {
        check_order();
        world_.check(!side_.paused_writing, "pausing is told once", &side_);
        world_.check(transport.queued() <= transport.limits().high_mark + 2 * largest_piece, "what waits is bounded",
                     &side_);
        side_.paused_writing = true;
    }
    void resume(Transport& transport) {
        check_order();
        world_.check(side_.paused_writing, "going on is told once for each pause", &side_);
        // Of a file over TLS the last piece may still wait in the carrier.
        const Limits& limits = transport.limits();
        world_.check(transport.queued() <= (side_.secure ? limits.high_mark + encrypted_at_once : limits.low_mark()),
                     "going on is told at the low mark", &side_);
        side_.paused_writing = false;
        act();
    }

    // One of the things that a protocol may do, from inside a call to it or from elsewhere.
    void act() {
        Dice& dice = world_.dice();
        Transport* transport = side_.transport;
        if (transport == nullptr) return;
        if (dice.chance(50) && !world_.closing()) {
            transport->pause_reading();
            paused_ = true;
        }
        while (!side_.finished && !side_.paused_writing && side_.sent < side_.to_send && dice.chance(900)) {
            const std::size_t queued = transport->queued(), mark = transport->limits().high_mark;
            if (queued > mark || (side_.careful && (queued == mark || (side_.secure && queued > 0)))) break;
            // The carrier of TLS has the same mark, and sends records.
            const std::size_t room = mark - (side_.secure ? around_records : queued);
            const std::size_t most = side_.careful ? std::min(largest_piece, room) : largest_piece;
            const std::size_t count = write_piece(*transport, most);
            if (count == 0) break;
            side_.sent += count;
            if (side_.transport == nullptr) return;
        }
        if (!side_.finished && side_.sent >= side_.to_send && dice.chance(500)) {
            side_.finished = true;
            transport->shutdown_write();
        }
        if (world_.calm()) return;
        if (dice.chance(4))
            finish([&] { transport->close(); });
        else if (dice.chance(4))
            finish([&] { transport->abort(); });
        else if (dice.chance(5))
            limit_idleness(*transport);
    }
    template <class End>
    void finish(End end) {
        side_.finished = true;
        end();
    }
    void maybe_throw() {
        if (!world_.calm() && world_.dice().chance(2)) {
            side_.finished = true;
            throw Thrown();
        }
    }
    void close(Transport& transport) {
        if (side_.sent < side_.to_send && !world_.closing()) return;  // the other direction goes on
        side_.finished = true;
        transport.close();
    }

    World& world_;
    Side& side_;
    bool paused_ = false;
    std::optional<Duration> rest_since_;  // unconsumed input must come before the loop sleeps any longer

private:
    void check_order() {
        world_.check(side_.stage == Side::Stage::connected, "no call before connected or after the end", &side_);
    }
    void limit_idleness(Transport& transport) {
        Limits limits = transport.limits();
        limits.idle_timeout = milliseconds(1) + world_.dice().delay(seconds(1));
        transport.set_limits(limits);
    }
    void tick() {
        world_.kernel().note_progress();
        world_.check(side_.stage == Side::Stage::connected, "a cancelled timer never fires", &side_);
        if (paused_ && (world_.closing() || world_.dice().chance(700))) {
            paused_ = false;
            side_.transport->resume_reading();
            if (side_.transport->reading() && !side_.transport->unconsumed().empty())
                rest_since_ = world_.kernel().slept();
        }
        act();
        if (side_.transport == nullptr) return;
        if (side_.ended && !side_.finished && side_.sent >= side_.to_send) close(*side_.transport);
        tick_.start(milliseconds(1) + world_.dice().delay(milliseconds(100)));
    }

    Timer tick_;
};

/// Bytes without a framing, both ways; as the client of an echo, the same bytes back.
class Talk final : public Protocol, public Player {
public:
    Talk(World& world, Side& side, bool echoed) : Player(world, side) {
        if (echoed) side.peer = &side;
    }

private:
    void connected() override { begin(transport()); }

    std::size_t received(Bytes input) override {
        check_receiving();
        world_.kernel().trace("received", side_.number, static_cast<long long>(input.size()));
        world_.check(!input.empty(), "nothing is never received", &side_);
        const auto rest_since = std::exchange(rest_since_, std::nullopt);
        world_.check(!rest_since || *rest_since == world_.kernel().slept(), "what was left comes again at once",
                     &side_);
        world_.check(transport().reading(), "nothing is received while reading is paused", &side_);
        if (side_.peer == nullptr) {
            if (input.size() < 4) return 0;
            std::uint32_t number = 0;
            for (std::size_t i = 0; i < 4; ++i) number |= std::uint32_t(input[i]) << (8 * i);
            side_.peer = world_.side(number);
            world_.check(side_.peer != nullptr, "what is received is what was sent", &side_);
            if (side_.peer == nullptr) return input.size();
        }
        // Now and then a rest is left, which must come again.
        std::size_t taken = input.size();
        if (world_.dice().chance(100))
            taken -= std::size_t(world_.dice().magnitude(std::min<std::size_t>(taken, 9000)));
        check_bytes(input.first(taken));
        act();
        maybe_throw();
        return taken;
    }

    void check_bytes(Bytes input) {
        for (const std::byte byte : input) {
            if (byte != byte_at(side_.peer->number, side_.received))
                return world_.check(false, "every byte comes once and in order", &side_);
            ++side_.received;
        }
        world_.check(side_.received <= side_.peer->sent, "no byte comes that was not sent", &side_);
    }

    void end_of_stream() override {
        if (side_.peer != nullptr) check_bytes(transport().unconsumed());
        heard_end();
        close(transport());
    }
    void disconnected(std::error_code reason) override { over(reason); }
    void pause_writing() override { pause(transport()); }
    void resume_writing() override { resume(transport()); }

    std::size_t write_piece(Transport& transport, std::size_t most) override {
        most = std::min(most, side_.to_send - side_.sent);
        const bool file = most > read_at_once && world_.dice().chance(300);
        const std::size_t least = file ? read_at_once + 1 : 1;
        std::string piece(least + std::size_t(world_.dice().magnitude(most - least)), '\0');
        for (std::size_t i = 0; i < piece.size(); ++i) piece[i] = char(byte_at(side_.number, side_.sent + i));
        return (file ? write_file(transport, piece) : transport.write(piece)) ? piece.size() : 0;
    }

    // In a file of its own, behind something else.
    bool write_file(Transport& transport, const std::string& piece) {
        const std::string in_front(std::size_t(world_.dice().magnitude(5000)), '?');
        FileDescriptor file(::memfd_create("piece", MFD_CLOEXEC));
        const iovec parts[] = {{const_cast<char*>(in_front.data()), in_front.size()},
                               {const_cast<char*>(piece.data()), piece.size()}};
        const std::size_t size = in_front.size() + piece.size();
        world_.check(::writev(file.get(), parts, 2) == ssize_t(size), "a file can be made");
        return transport.write_file(std::move(file), in_front.size(), piece.size());
    }
};

/// The n-th message that the side with this number sends.
std::string message_of(std::uint32_t number, std::size_t place) {
    const auto mixed = (std::uint64_t(number) << 32 | place) * 0x9e3779b97f4a7c15u;
    std::string text = std::to_string(number) + ' ' + std::to_string(place) + ' ';
    const std::size_t length = std::size_t((mixed >> 40) % ((mixed >> 32) % 8 == 0 ? 5000 : 60));
    for (std::size_t i = 0; i < length; ++i) text += char('!' + (mixed + i * i) % 90);
    return text;
}

template <class Framing>
class Messages final : public Framed<Framing>, public Player {
public:
    Messages(World& world, Side& side) : Player(world, side) {}

private:
    void connected() override { begin(this->transport()); }

    void message(Bytes message) override {
        check_receiving();
        world_.check(this->transport().reading(), "no message comes while reading is paused", &side_);
        const std::string text(text_of(message));
        if (side_.peer == nullptr) side_.peer = world_.side(std::uint32_t(std::strtoul(text.c_str(), nullptr, 10)));
        world_.check(side_.peer != nullptr && text == message_of(side_.peer->number, side_.received),
                     "every message comes once and in order", &side_);
        ++side_.received;
        if (world_.dice().chance(200)) act();
        maybe_throw();
    }
    void malformed(const FramingError& error) override {
        world_.check(!world_.calm() && error.code() == Error::ended_inside_message && side_.peer != nullptr &&
                         side_.peer->reason,
                     "what comes is what was sent, and ends between two messages", &side_);
    }
    void ended() override {
        heard_end();
        close(this->transport());
    }
    void disconnected(std::error_code reason) override { over(reason); }
    void pause_writing() override { pause(this->transport()); }
    void resume_writing() override { resume(this->transport()); }

    std::size_t write_piece(Transport&, std::size_t most) override {
        const std::string message = message_of(side_.number, side_.sent);
        if (side_.careful && message.size() + 4 > most) return 0;
        return this->send(message) ? 1 : 0;
    }
};

/// The echo of a server, as a coroutine that takes its time and awaits all sorts of things in between.
Task<> echo(Stream stream, World& world) {
    Dice& dice = world.dice();
    for (;;) {
        world.kernel().note_progress();
        if (dice.chance(50) && !world.closing()) co_await sleep(dice.delay(milliseconds(20)));
        if (dice.chance(50)) co_await yield();
        if (dice.chance(300)) {
            const auto first = co_await first_of(stream.read_some(), sleep(milliseconds(1) + dice.delay(seconds(1))));
            if (first.index() == 1) continue;
            if (!std::get<0>(first)) co_return;
            co_await stream.write(*std::get<0>(first));
        }
        const auto input = co_await stream.read_some();
        if (!input) co_return;
        if (!world.calm() && dice.chance(2)) throw Thrown();
        co_await stream.write(*input);
    }
}

// ── datagrams ──

/// The n-th letter of the box with this number: these two, and bytes that follow from them. Empty ones do not say.
std::string letter_of(std::uint32_t number, std::size_t place) {
    const auto mixed = (std::uint64_t(number) << 32 | place) * 0x9e3779b97f4a7c15u;
    if (mixed >> 32 & 1 && mixed >> 33 & 1 && mixed >> 34 & 1) return {};
    std::string text = std::to_string(number) + ' ' + std::to_string(place) + ' ';
    const bool alike = mixed >> 35 & 1;  // in size with others, so that they may leave in one piece
    const std::size_t length = alike ? 100 : std::size_t((mixed >> 40) % largest_letter);
    while (text.size() < length) text += char('!' + (mixed + text.size() * text.size()) % 90);
    return text;
}

/// Sends its share in its own time, to others and to closed ports, and checks the datagrams that arrive.
class Correspondent final : public DatagramProtocol {
public:
    Correspondent(World& world, Box& box) : world_(world), box_(box), tick_(world.loop(), [this] { tick(); }) {}
    ~Correspondent() override {
        world_.check(box_.stage != Box::Stage::opened || world_.tearing_down(), "a socket's end is told");
        box_.stage = Box::Stage::over;
        box_.endpoint = nullptr;
    }

private:
    void opened() override {
        world_.kernel().trace("opened", box_.number);
        world_.check(box_.stage == Box::Stage::made, "opened comes first, and once");
        box_.stage = Box::Stage::opened;
        box_.endpoint = static_cast<DatagramEndpoint*>(&transport());
        act();
        tick_.start(world_.dice().delay(milliseconds(20)));
    }

    void received(const Datagram& datagram) override {
        check_stage();
        ++box_.told;
        world_.check(!box_.paused, "nothing is received while receiving is paused");
        world_.check(datagram.destination == box_.address && datagram.interface == 1,
                     "a datagram says where it arrived");
        const std::string text(text_of(datagram.data));
        if (!text.empty()) check_letter(datagram, text);
        if (world_.dice().chance(200)) act();
        // By another socket, in the middle of a batch that this one received.
        Box* const other = world_.some_box();
        if (world_.dice().chance(100) && other->endpoint != nullptr) send(*other);
        if (!world_.calm() && world_.dice().chance(2)) throw Thrown();
        world_.check(text == text_of(datagram.data), "a datagram stays as it is for as long as it is told of");
    }

    void check_letter(const Datagram& datagram, const std::string& text) {
        char* rest = nullptr;
        const auto number = std::uint32_t(std::strtoul(text.c_str(), &rest, 10));
        const std::size_t place = std::strtoul(rest, nullptr, 10);
        const Box* const sender = world_.box(number);
        if (sender == nullptr || place >= sender->sent)
            return world_.check(false, "no datagram comes that was not sent");
        const std::string whole = letter_of(number, place);
        world_.check(text == whole.substr(0, box_.options.largest), "a datagram comes whole, as far as there is room");
        world_.check(datagram.truncated == (whole.size() > box_.options.largest), "what is cut off is said to be");
        world_.check(datagram.sender == sender->address, "a datagram's sender is who sent it");
        world_.check(box_.read.emplace(number, place).second, "a datagram comes once");
    }

    void refused(const Address& to, std::error_code error) override {
        check_stage();
        if (error == std::errc::network_unreachable) {
            world_.check(to.host() == Kernel::no_host, "what is told of a datagram is that one's");
            world_.check(++box_.told_unreachable <= box_.unreachable, "what cannot be sent is told once");
        } else {
            world_.check(error == std::errc::connection_refused && (!world_.calm() || to.port() == Kernel::dead_port),
                         "who is there refuses nothing");
            world_.check(++box_.told_refused <= (world_.calm() ? box_.refusable : box_.sent),
                         "what is refused is told once");
        }
        if (world_.dice().chance(100)) act();
    }

    void resume_sending() override {
        check_stage();
        world_.check(std::exchange(box_.owed_room, false), "room is told of who missed it, and once");
        act();
    }

    void closed(std::error_code reason) override {
        world_.kernel().trace("closed", box_.number, reason.value());
        world_.kernel().note_progress();
        world_.check(box_.stage != Box::Stage::over, "the end is told exactly once");
        world_.check(!world_.tearing_down(), "a reactor that is destroyed calls nobody");
        world_.check(!world_.calm() || !reason, "in good weather nothing fails");
        box_.stage = Box::Stage::over;
        if (box_.endpoint != nullptr) box_.counters = box_.endpoint->counters();
        box_.endpoint = nullptr;
        tick_.cancel();
    }

    void check_stage() {
        world_.kernel().note_progress();
        world_.check(box_.stage == Box::Stage::opened, "nothing is told before the beginning or after the end");
    }

    void send(Box& by) {
        if (by.sent >= by.to_send || world_.closing()) return;
        Dice& dice = world_.dice();
        Address to = world_.some_box()->address;
        if (dice.chance(100))
            to = *Address::ip("127.0.0.1", Kernel::dead_port);
        else if (dice.chance(50))
            to = *Address::ip(Kernel::no_host, 7);
        by.refusable += std::size_t(to.port() == Kernel::dead_port);
        by.unreachable += std::size_t(to.host() == Kernel::no_host);
        const std::uint64_t dropped = by.endpoint->dropped();
        const std::string letter = letter_of(by.number, by.sent++);
        const bool taken = by.endpoint->send(to, letter);
        // In foul weather it may have ended already, with the call still to come.
        world_.check(taken || by.endpoint->dropped() > dropped || !world_.calm(),
                     "what is not taken is counted as dropped");
        by.owed_room = by.owed_room || !taken;
    }

    void act() {
        Dice& dice = world_.dice();
        if (box_.endpoint == nullptr) return;
        while (box_.sent < box_.to_send && !world_.closing() && dice.chance(900)) send(box_);
        if (dice.chance(100) && !world_.closing()) {
            transport().pause_receiving();
            box_.paused = true;
        }
        if (!world_.calm() && dice.chance(5)) transport().close();
    }

    void tick() {
        check_stage();
        if (box_.paused && (world_.closing() || world_.dice().chance(700))) {
            box_.paused = false;
            transport().resume_receiving();
        }
        act();
        if (box_.endpoint != nullptr) tick_.start(milliseconds(1) + world_.dice().delay(milliseconds(100)));
    }

    World& world_;
    Box& box_;
    Timer tick_;
};

void World::add_box() {
    boxes_.push_back(std::make_unique<Box>());
    Box& box = *boxes_.back();
    box.number = std::uint32_t(boxes_.size() - 1);
    box.to_send = std::size_t(dice_.magnitude(most_letters));
    box.options.batch = 1 + std::size_t(dice_.below(64));
    box.options.largest = 20 + std::size_t(dice_.magnitude(2 * largest_letter));
    box.options.queue_limit = std::size_t(dice_.magnitude(20'000));
    Socket socket = Socket::open(Address::Family::ipv4, SocketKind::datagram);
    socket.bind(*Address::ip("127.0.0.1", 0));
    box.address = socket.local();
    DatagramEndpoint::open(*reactor_, std::move(socket), std::make_unique<Correspondent>(*this, box), box.options);
}

bool World::letters_have_come() const {
    std::uint64_t told = 0;
    for (const auto& box : boxes_) {
        const DatagramEndpoint::Counters& counters = box->endpoint->counters();
        if (box->sent < box->to_send || box->sent > counters.sent + counters.dropped + box->told_unreachable)
            return false;
        told += box->told;
    }
    return kernel_->post().delivered() && told == kernel_->post().read;
}

// The endpoints' counts agree with the kernel's.
void World::check_letters() {
    Kernel::Post counted;
    std::uint64_t missing = 0;
    for (const auto& box : boxes_) {
        counted.sent += box->counters.sent;
        counted.read += box->counters.received;
        counted.refused += box->told_refused;
        missing += box->sent - box->counters.sent - box->counters.dropped - box->told_unreachable;
    }
    const Kernel::Post& post = kernel_->post();
    check(counted.sent == post.sent, "a socket counts what it has sent");
    check(counted.read == post.read, "every datagram that was read is told of");
    check(counted.refused == post.refused, "every refusal is told");
    check(missing == 0, "every datagram is sent, or dropped and counted, or told of, and one of these");
}

// ── raw handlers, timers, other threads ──

/// Counters of the kernel, each watched by a raw handler. They are never reported ready without being so. A handler
/// that finds nothing got the event of an earlier owner of its number.
struct World::Watcher final : EventHandler {
    Watcher(World& owner, std::size_t its_place)
        : world(owner),
          place(its_place),
          descriptor(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
          registration(owner.loop().watch(descriptor.get(), Interest::readable, *this)) {}
    ~Watcher() {
        registration.reset();
        descriptor.reset();
    }
    void readable() override {
        std::uint64_t count = 0;
        ssize_t size = 0;
        while ((size = ::read(descriptor.get(), &count, sizeof count)) < 0 && errno == EINTR) {
        }
        world.check(size > 0 && count == rung, "who is told that it is readable is readable");
        rung = 0;
        world.watcher_told(place);  // may destroy this one
    }
    void lost(std::error_code) override { world.check(false, "no descriptor is lost that is open"); }

    World& world;
    std::size_t place;
    std::uint64_t rung = 0;
    FileDescriptor descriptor;
    Registration registration;
};

void World::add_watcher() {
    watchers_.push_back(std::make_unique<Watcher>(*this, watchers_.size()));
}

// Replaces some of the watchers, itself among them: their numbers are taken again at once.
void World::watcher_told(std::size_t place) {
    kernel_->note_progress();
    if (closing_) return;
    std::vector<std::size_t> replaced;
    if (dice_.chance(300)) replaced.push_back(std::size_t(dice_.below(watchers_.size())));
    if (dice_.chance(100)) replaced.push_back(place);
    if (dice_.chance(100)) replaced.push_back(std::size_t(dice_.below(watchers_.size())));
    for (const std::size_t one : replaced) watchers_[one].reset();
    for (const std::size_t one : replaced)
        if (watchers_[one] == nullptr) watchers_[one] = std::make_unique<Watcher>(*this, one);
    if (dice_.chance(100)) {
        const auto& other = watchers_[std::size_t(dice_.below(watchers_.size()))];
        other->registration.set_interest(dice_.chance(300) ? Interest::none : Interest::readable);
    }
}

// Another process writes to several at once, so that they come in one batch.
void World::wake_watchers() {
    if (closing_ || kernel_->failure() != "") return;
    for (const auto& watcher : watchers_)
        if (watcher != nullptr && dice_.chance(600)) {
            const std::uint64_t one = 1;
            while (::write(watcher->descriptor.get(), &one, sizeof one) < 0 && errno == EINTR) {
            }
            ++watcher->rung;
        }
    kernel_->at(milliseconds(1) + dice_.delay(milliseconds(30)), [this] { wake_watchers(); });
}

struct World::Alarm {
    explicit Alarm(World& world) : timer(world.loop(), [this, &world] { world.set_alarm(*this); }) {}
    TimePoint deadline = TimePoint::max();  // when it is to fire; the end of time: it is not to
    Timer timer;
};

void World::set_alarm(Alarm& alarm) {
    kernel_->note_progress();
    if (alarm.deadline != TimePoint::max()) {
        check(kernel_->now() >= alarm.deadline, "no timer is early");
        check(!calm() || kernel_->now() - alarm.deadline < milliseconds(100), "no timer is late");
    } else {
        check(false, "a timer that is not set does not fire");
    }
    alarm.deadline = TimePoint::max();
    for (const auto& other : alarms_) {
        if (dice_.chance(closing_ ? 0 : 400)) {
            const Duration delay = milliseconds(1) + dice_.delay(milliseconds(200));
            other->timer.start(delay);
            other->deadline = other->timer.deadline();
        } else if (dice_.chance(100)) {
            check(other->timer.cancel() == (other->deadline != TimePoint::max()), "cancel says whether it won");
            other->deadline = TimePoint::max();
        }
    }
}

// Another thread's post: before a call of the loop's or while it sleeps. The loop runs it this turn or in the next,
// and does not sleep before.
void World::post_from_elsewhere() {
    if (posts_left_ == 0 || reactor_ == nullptr || tearing_down_) return;
    --posts_left_;
    const std::size_t number = posts_made_++;
    const std::uint64_t turn = reactor_->counters().turns;
    const Duration slept = kernel_->slept();
    reactor_->post([this, number, turn, slept] {
        kernel_->note_progress();
        check(number == posts_run_++, "posted work runs once and in order");
        check(reactor_->counters().turns - turn <= 1 && kernel_->slept() == slept, "a post wakes the loop");
    });
}

// One connection ends another, or writes on it, at any moment.
void World::meddle() {
    if (closing_) return;
    kernel_->at(milliseconds(1) + dice_.delay(milliseconds(200)), [this] {
        if (posts_left_ == 0 || tearing_down_) return;
        reactor_->post([this] {
            Side* side = somebody();
            if (side == nullptr || side->transport == nullptr) return;
            side->finished = true;
            if (dice_.chance(300))
                side->transport->abort(std::make_error_code(std::errc::owner_dead));
            else
                side->transport->close();
        });
        meddle();
    });
}

// ── the world ──

World::World(std::uint64_t seed, std::string_view backend, bool traced)
    : dice_(seed), mood_(dice_.chance(400) ? Mood::calm : Mood::rough), scale_(dice_.chance(300) ? 1 : 32) {
    const auto at_times = [this](unsigned most) { return dice_.chance(500) ? unsigned(dice_.below(most + 1)) : 0u; };
    Weather& weather = weather_;
    weather.partial = at_times(999);
    weather.spurious = at_times(60);
    weather.interrupted = at_times(60);
    weather.smallest_buffer = 1 + std::size_t(dice_.magnitude(100 * scale_));
    weather.largest_buffer = weather.smallest_buffer + std::size_t(dice_.magnitude(2000 * scale_));
    weather.longest_delay = std::chrono::microseconds(1) + dice_.delay(milliseconds(60));
    if (!calm()) {
        weather.reset = at_times(30);
        weather.unreachable = at_times(200);
        weather.silent = at_times(200);
        weather.accept_fails = at_times(200);
        weather.starved = at_times(50);
        weather.lost = at_times(300);
        weather.jump = at_times(5);
        if (dice_.chance(300)) weather.most_descriptors = 12 + std::size_t(dice_.below(40));
    }
    kernel_ = std::make_unique<Kernel>(dice_, Weather{});  // setting up throws, and other tests cover that
    kernel_->traced = traced;
    reactor_ = make_reactor(backend);
    turns_.emplace(*reactor_, Hook::When::before_wait, [this] { note_turn(); });
    descriptors_at_first_ = kernel_->open_descriptors();
    kernel_->on_failure = [this] { stop(); };
    hook_ = dice_.chance(500);
    if (hook_) reactor_->on_exception([](std::exception_ptr) {});

    Limits& limits = connection_.limits;
    limits.high_mark = 1 + std::size_t(dice_.magnitude(4000 * scale_));
    limits.read_size = 1 + std::size_t(dice_.magnitude(2000 * scale_));
    limits.close_timeout = calm() ? Duration(std::chrono::hours(24)) : milliseconds(1) + dice_.delay(seconds(5));
    if (!calm() && dice_.chance(300)) limits.idle_timeout = milliseconds(1) + dice_.delay(seconds(2));
    if (seed % worlds_to_one_with_tls != 0 || !Secure::available()) return;
    secure_ = std::make_unique<Secure>(seed, calm());
    limits.high_mark += 2 * around_records;
    limits.read_size += 64;  // a handshake of 3 KB takes a turn for each
    weather_.smallest_buffer += 64;
    weather_.largest_buffer += 64;
}

World::~World() {
    tear_down();
}

// Input that waits in the engine of completions is read without a call to the kernel.
void World::note_turn() {
    const std::uint64_t before = std::exchange(bytes_received_, reactor_->counters().bytes_received);
    if (bytes_received_ != before) kernel_->note_progress();
    kernel_->note_turn();
}

// The simulated kernel has no ring. On io_uring a script plays it with the sockets of this kernel: it completes in an
// order and in pieces of the seed's choice.
std::unique_ptr<Reactor> World::make_reactor(std::string_view backend) {
    if (backend.empty()) {
        const std::vector<std::string_view> names = simulated_backends();
        backend = names[std::size_t(dice_.below(names.size()))];
    }
    if (backend != "io_uring") return std::make_unique<Reactor>(backend, *kernel_);
    auto script = std::make_unique<testing::ScriptedCompletions>(unsigned(dice_.below(1u << 31)));
    return std::make_unique<Reactor>(testing::io_uring(std::move(script)), *kernel_);
}

Side& World::new_side(bool client) {
    auto side = std::make_unique<Side>();
    side->number = std::uint32_t(sides_.size());
    side->client = client;
    sides_.push_back(std::move(side));
    return *sides_.back();
}

std::unique_ptr<Protocol> World::make(const Server& server, bool client) {
    return secure_ == nullptr ? make_plain(server, client) : secure_->dress(make_plain(server, client), client);
}

std::unique_ptr<Protocol> World::make_plain(const Server& server, bool client) {
    const Kind kind = server.kind;
    if (kind == Kind::echo && !client && dice_.chance(500)) return coroutine(echo, std::ref(*this))();
    if (kind == Kind::echo && !client) return std::make_unique<Echo>();
    Side& side = new_side(client);
    const bool bytes = kind == Kind::talk || kind == Kind::echo;
    const bool sends = server.direction != (client ? Direction::from_server : Direction::from_client);
    // As much as moves in a few hundred turns, or a few thousand.
    const Limits& limits = server.connection.limits;
    const std::size_t at_once = std::min({limits.high_mark, limits.read_size, weather_.smallest_buffer});
    const std::size_t most = std::min(4000 * scale_, 300 * at_once);
    if (sends) side.to_send = std::size_t(dice_.magnitude(bytes ? most : most / 400));
    if (side.to_send > 0 && kind == Kind::talk && dice_.chance(200)) side.to_send = most;  // enough for a file
    // A connection above its high watermark does not read. Two of them that write to each other at the same time would
    // wait for each other for ever. In good weather no connection that also receives passes the watermark.
    side.secure = secure_ != nullptr;
    side.careful = (server.direction == Direction::both || kind == Kind::echo) && (calm() || dice_.chance(500));
    if (kind == Kind::counted) return std::make_unique<Messages<LengthPrefixed>>(*this, side);
    if (kind == Kind::lines) return std::make_unique<Messages<Lines>>(*this, side);
    return std::make_unique<Talk>(*this, side, kind == Kind::echo);
}

void World::add_server() {
    servers_.push_back(std::make_unique<Server>());
    Server& server = *servers_.back();
    server.kind = Kind(dice_.below(kinds));
    server.direction = server.kind == Kind::echo ? Direction::from_client : Direction(dice_.below(3));
    server.connection = connection_;
    std::size_t& mark = server.connection.limits.high_mark;
    if (server.kind == Kind::counted || server.kind == Kind::lines)
        mark = std::max(mark, longest_message + around_records);
    AcceptorOptions options;
    options.connection = server.connection;
    if (dice_.chance(300)) options.max_connections = 1 + std::size_t(dice_.below(4));
    std::vector<Address> addresses{*Address::ip("127.0.0.1", 0)};
    if (dice_.chance(300)) addresses.push_back(*Address::ip("::1", 0));
    server.acceptor = std::make_unique<Acceptor>(
        *reactor_, addresses, [this, &server] { return make(server, false); }, options);
}

void World::add_client() {
    kernel_->note_progress();
    if (closing_ || clients_left_ == 0) return;
    --clients_left_;
    const Server& server = *servers_[std::size_t(dice_.below(servers_.size()))];
    std::vector<Address> addresses = server.acceptor->addresses();
    if (calm())
        addresses.resize(1);  // a client that tries two at once drops a good one, and its server cannot know why
    if (dice_.chance(200)) addresses.insert(addresses.begin(), *Address::ip("127.0.0.1", 9));  // a closed port
    ConnectorOptions options;
    options.connection = server.connection;
    options.timeout = calm() ? Duration(std::chrono::hours(24)) : milliseconds(1) + dice_.delay(seconds(30));
    if (!calm() && dice_.chance(300)) options.reconnect = seconds(1);
    connectors_.push_back(std::make_unique<Connector>(
        *reactor_, std::move(addresses), [this, &server] { return make(server, true); }, options));
    if (clients_left_ > 0) client_timer_->start(dice_.delay(milliseconds(100)));
    if (!calm() && dice_.chance(100)) connectors_[std::size_t(dice_.below(connectors_.size()))].reset();
    std::erase(connectors_, nullptr);
}

void World::begin() {
    for (std::uint64_t left = 1 + dice_.below(3); left > 0; --left) add_server();
    if (dice_.chance(500))
        for (std::uint64_t left = 1 + dice_.below(4); left > 0; --left) add_box();
    kernel_->weather() = weather_;
    for (std::uint64_t left = dice_.below(8); left > 0; --left) add_watcher();
    for (std::uint64_t left = dice_.below(6); left > 0; --left) alarms_.push_back(std::make_unique<Alarm>(*this));
    if (!alarms_.empty()) {
        alarms_[0]->timer.start(milliseconds(1));
        alarms_[0]->deadline = alarms_[0]->timer.deadline();
    }
    clients_left_ = 1 + std::size_t(dice_.magnitude(16));
    client_timer_ = std::make_unique<Timer>(*reactor_, [this] { add_client(); });
    client_timer_->start(Duration::zero());
    posts_left_ = std::size_t(dice_.magnitude(300));
    kernel_->on_call = [this] {
        if (dice_.chance(10)) post_from_elsewhere();
    };
    wake_watchers();
    post_at_times();
    if (!calm()) {
        meddle();
        kernel_->at(dice_.delay(seconds(5)), [this] {
            end_due_ = true;
            stop();
        });
    }
}

void World::post_at_times() {
    kernel_->at(milliseconds(1) + dice_.delay(milliseconds(100)), [this] {
        if (posts_left_ == 0) return;
        post_from_elsewhere();
        post_at_times();
    });
}

void World::begin_closing() {
    kernel_->trace("closing");
    closing_ = true;
    posts_left_ = clients_left_ = 0;
    client_timer_.reset();
    watchers_.clear();
    alarms_.clear();
    connectors_.clear();
    for (const auto& side : sides_) {
        if (side->transport == nullptr) continue;
        side->finished = true;
        side->transport->close();
    }
    for (const auto& box : boxes_)
        if (box->endpoint != nullptr) box->endpoint->close();
    for (const auto& server : servers_) server->acceptor->drain([&server] { server->drained = true; });
}

bool World::sides_over() const {
    return std::all_of(sides_.begin(), sides_.end(), [](const auto& side) { return side->stage == Side::Stage::over; });
}

bool World::boxes_over() const {
    return std::all_of(boxes_.begin(), boxes_.end(), [](const auto& box) { return box->stage == Box::Stage::over; });
}

bool World::talk_is_over() const {
    const bool connecting = std::any_of(connectors_.begin(), connectors_.end(),
                                        [](const auto& connector) { return connector->connecting(); });
    return clients_left_ == 0 && !connecting && sides_over() && letters_have_come();
}

bool World::drained() const {
    return sides_over() && boxes_over() &&
           std::all_of(servers_.begin(), servers_.end(), [](const auto& server) { return server->drained; });
}

std::string World::unfinished() const {
    std::string text;
    for (const auto& side : sides_) {
        if (side->stage == Side::Stage::over) continue;
        text.append("; side ")
            .append(std::to_string(side->number))
            .append(side->client ? ", a client," : ", a server,");
        text.append(" has sent ")
            .append(std::to_string(side->sent))
            .append(" of ")
            .append(std::to_string(side->to_send));
        text.append(" and received ").append(std::to_string(side->received));
        text.append(side->ended ? ", to the end" : "").append(side->finished ? ", finished" : "");
        text.append(side->paused_writing ? ", paused" : "");
        if (side->transport != nullptr) text.append(", queued ").append(std::to_string(side->transport->queued()));
    }
    for (const auto& box : boxes_) {
        if (box->stage == Box::Stage::over) continue;
        text.append("; box ")
            .append(std::to_string(box->number))
            .append(" has sent ")
            .append(std::to_string(box->sent));
        text.append(" of ").append(std::to_string(box->to_send)).append(box->paused ? ", paused" : "");
    }
    return text;
}

// One of the ways in which a program runs its loop.
void World::turn() {
    try {
        const std::uint64_t way = dice_.below(10);
        if (way < 6)
            reactor_->run_once();
        else if (way == 6)
            reactor_->run_once(Duration::zero());
        else if (way == 7)
            reactor_->run_once(dice_.delay(milliseconds(100)));
        else if (way == 8)
            reactor_->run_for(dice_.delay(milliseconds(20)));
        else {
            kernel_->at(dice_.delay(milliseconds(20)), [this] { stop(); });
            reactor_->run();
        }
    } catch (const Thrown&) {
        check(!hook_, "what is thrown goes to the hook");
    }
    Internals(*reactor_).for_each_owned([this](OwnedHandler& handler) {
        const auto* connection = dynamic_cast<Connection*>(&handler);
        if (connection == nullptr) return;
        const Limits& limits = connection->limits();
        const std::size_t most = limits.high_mark + std::max(largest_piece, limits.read_size);
        // A record of one byte has 22 to 29 more.
        check(connection->queued() <= (secure_ == nullptr ? most : 30 * most + around_records),
              "what waits to be sent is bounded");
    });
}

void World::tear_down() {
    tearing_down_ = true;
    kernel_->on_call = nullptr;
    client_timer_.reset();
    watchers_.clear();
    alarms_.clear();
    connectors_.clear();
    servers_.clear();
    turns_.reset();
    reactor_.reset();
    kernel_->on_failure = nullptr;
}

Outcome World::run() {
    constexpr int most_turns = 300'000;  // a hundred times what the longest of them takes
    begin();
    int turns = 0;
    const auto run_until = [&](auto done) {
        while (kernel_->failure().empty() && !done()) {
            turn();
            if (++turns > most_turns) kernel_->fail("the world does not come to its end" + unfinished());
        }
    };
    run_until([this] { return calm() ? talk_is_over() : end_due_; });
    const bool abrupt = !calm() && dice_.chance(200);
    if (!abrupt && kernel_->failure().empty()) {
        begin_closing();
        run_until([this] { return drained(); });
        servers_.clear();
        check(Internals(*reactor_).timers().size() == 0, "no timer is left when all is over");
        check(kernel_->open_descriptors() == descriptors_at_first_, "no descriptor is left when all is over");
        check(posts_run_ == posts_made_, "every post has run when all is over");
        if (calm()) check_letters();
    }
    Outcome outcome;
    outcome.turns = reactor_->counters().turns;
    tear_down();
    check(kernel_->open_descriptors() == 0, "a reactor leaves no descriptor behind");
    check(coroutine_frames().alive() == frames_at_first_, "a reactor leaves no coroutine behind");
    outcome.failure = kernel_->failure();
    outcome.digest = kernel_->digest();
    outcome.conversations = sides_.size();
    for (const auto& side : sides_) outcome.received += side->received;
    for (const auto& box : boxes_) outcome.received += box->read.size();
    return outcome;
}

}  // namespace

std::vector<std::string_view> simulated_backends() {
    std::vector<std::string_view> names;
    for (const std::string_view name : available_backends()) {
        if (name != "io_uring") names.push_back(name);
        if (name == "epoll") names.push_back("io_uring");  // whether or not this machine's kernel has it
    }
    return names;
}

Outcome simulate(std::uint64_t seed, std::string_view backend, bool traced) {
    return World(seed, backend, traced).run();
}

}  // namespace simulation
