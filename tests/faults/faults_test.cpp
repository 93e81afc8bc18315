// Whatever fails, it ends in order: a whole conversation (servers and clients, framed and raw, timers and posts) is
// run again and again, and each time another system call or another allocation fails.
#include "faults.hpp"
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"
#include "faults_sweep.hpp"

#include <protocols/echo.hpp>
#include <protocols/framing/framed.hpp>
#include <protocols/framing/length_prefixed.hpp>
#include <reactor/detail/timer_queue.hpp>
#include <reactor/detail/wakeup.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/stream/pipe.hpp>
#include <reactor/system_impl.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace reactor;
using faults::Call;

namespace {

constexpr int most_turns = 2'000, most_turns_in_pieces = 400'000;
constexpr std::size_t raw_size = 20'000;
constexpr std::size_t message_sizes[] = {1, 0, 17, 900, 5'000};

// The byte at each place distinguishes lost, doubled and exchanged ones.
const std::string& pattern() {
    static const std::string text = [] {
        std::string result(raw_size, '\0');
        unsigned value = 1;
        for (char& byte : result) byte = char((value = value * 1'103'515'245 + 12'345) >> 16);
        return result;
    }();
    return text;
}

// The calls that one end of a connection saw. It is there before and after everything that may fail.
struct End {
    int connected = 0, disconnected = 0, after_the_end = 0;
    std::size_t wrong = 0;  // bytes or messages that are not what was sent
    bool complete = false;
    std::error_code reason;

    void ended(std::error_code why) {
        ++disconnected;
        reason = why;
    }
    void called() { after_the_end += disconnected; }
};

class RawClient final : public Protocol {
public:
    // With a reactor it goes there as soon as it has received something.
    explicit RawClient(End& end, Reactor* moves_to = nullptr) noexcept : end_(end), moves_to_(moves_to) {}

private:
    void connected() override {
        end_.called();
        ++end_.connected;
        const std::string_view all = pattern();
        transport().write(all.substr(0, 100));
        transport().write(all.substr(100));
    }
    std::size_t received(Bytes input) override {
        end_.called();
        if (got_ + input.size() > raw_size || text_of(input) != std::string_view(pattern()).substr(got_, input.size()))
            ++end_.wrong;
        got_ += input.size();
        end_.complete = got_ == raw_size;
        if (end_.complete) transport().close();
        if (moves_to_ != nullptr) static_cast<Connection&>(transport()).move_to(*std::exchange(moves_to_, nullptr));
        return input.size();
    }
    void disconnected(std::error_code reason) override { end_.ended(reason); }

    End& end_;
    Reactor* moves_to_;
    std::size_t got_ = 0;
};

class FramedClient final : public Framed<LengthPrefixed> {
public:
    explicit FramedClient(End& end) noexcept : end_(end) {}

private:
    void connected() override {
        end_.called();
        ++end_.connected;
        next();
    }
    void message(Bytes message) override {
        end_.called();
        if (text_of(message) != std::string_view(pattern()).substr(0, message_sizes[sent_ - 1])) ++end_.wrong;
        next();
    }
    void next() {
        end_.complete = sent_ == std::size(message_sizes);
        if (end_.complete) return transport().close();
        send(std::string_view(pattern()).substr(0, message_sizes[sent_++]));
    }
    void disconnected(std::error_code reason) override { end_.ended(reason); }

    End& end_;
    std::size_t sent_ = 0;
};

class FramedEcho final : public Framed<LengthPrefixed> {
public:
    explicit FramedEcho(std::vector<std::error_code>& reasons) noexcept : reasons_(reasons) {}

private:
    void message(Bytes message) override { send(message); }
    void disconnected(std::error_code reason) override {
        if (!reason) return;
        const faults::Suspended suspended;
        reasons_.push_back(reason);
    }
    std::vector<std::error_code>& reasons_;
};

class RawEcho final : public Protocol {
public:
    explicit RawEcho(std::vector<std::error_code>& reasons) noexcept : reasons_(reasons) {}

private:
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
    void disconnected(std::error_code reason) override {
        if (!reason) return;
        const faults::Suspended suspended;
        reasons_.push_back(reason);
    }
    std::vector<std::error_code>& reasons_;
};

// A server's factory may fail, which costs one connection; a client's would take its only witness with it.
template <class P>
ProtocolFactory serve(std::vector<std::error_code>& reasons) {
    return factory<P>(std::ref(reasons));
}
template <class P>
ProtocolFactory ask(End& end) {
    return [&end]() -> std::unique_ptr<Protocol> {
        const faults::Suspended suspended;
        return std::make_unique<P>(end);
    };
}

// Of one conversation all that can be seen from outside.
struct Outcome {
    bool set_up = false;  // the exception, if there is one, came later
    bool hung = false;    // the loop would have waited for ever although a call was due
    bool spun = false;    // or it did not come to rest
    bool usable = true;   // afterwards
    bool struck = false;
    int exceptions = 0;
    std::string strange;  // an exception that is none of the fault's
    End raw, framed, adopted, piped, late;
    bool late_tried = false;
    bool timer_came = false, posted_ran = false, drained = false;
    std::uint64_t shed = 0, back_offs = 0;
    std::vector<std::error_code> server_reasons;
    std::size_t left_open = 0;
    unsigned bad_closes = 0;
    long leaked = 0;
};

struct Setting {
    faults::Plan plan;
    bool over_tcp = false;
    bool late_client = false;  // one more client when all is over: does the server still serve?
};

Address somewhere(bool over_tcp) {
    if (over_tcp) return *Address::ip("127.0.0.1", 0);
    return new_unix_name();
}

class Conversation {
public:
    Conversation(const Setting& setting, Outcome& outcome) : setting_(setting), outcome_(outcome) {}

    void run() {
        const Address raw_address = somewhere(setting_.over_tcp), framed_address = somewhere(setting_.over_tcp);
        const faults::Armed armed(setting_.plan, clock_, setting_.over_tcp);
        std::optional<Reactor> reactor;
        try {
            reactor.emplace("auto", clock_);
            converse(*reactor, raw_address, framed_address);
        } catch (...) {
            note_exception();
        }
        outcome_.struck = faults::struck();
        if (reactor) {
            const faults::Suspended suspended;
            outcome_.usable = usable(*reactor);
        }
        reactor.reset();
        outcome_.left_open = faults::open_descriptors();
        outcome_.bad_closes = faults::bad_closes();
    }

private:
    void converse(Reactor& reactor, const Address& raw_address, const Address& framed_address) {
        Acceptor raw_acceptor(reactor, {raw_address}, serve<RawEcho>(outcome_.server_reasons));
        Acceptor framed_acceptor(reactor, {framed_address}, serve<FramedEcho>(outcome_.server_reasons));
        Connector raw(reactor, {raw_acceptor.addresses().at(0)}, ask<RawClient>(outcome_.raw));
        Connector framed(reactor, {framed_acceptor.addresses().at(0)}, ask<FramedClient>(outcome_.framed));
        auto [mine, yours] = Socket::pair();
        yours = Socket::adopt(yours.release());
        Timer timer(reactor, [this] { outcome_.timer_came = true; });
        timer.start(std::chrono::microseconds(1'500));
        reactor.post([this, &reactor] {
            try {
                reactor.post([this] { outcome_.posted_ran = true; });
            } catch (const std::bad_alloc&) {
                outcome_.posted_ran = true;  // at least it has said so
            }
        });
        Connection::open(reactor, std::move(yours), std::make_unique<RawEcho>(outcome_.server_reasons));
        Connection::open(reactor, std::move(mine), std::make_unique<RawClient>(outcome_.adopted, &reactor));
        auto [question_out, question_in] = make_pipe();
        auto [answer_out, answer_in] = make_pipe();
        PipeTransport::open(reactor, std::move(question_out), std::move(answer_in),
                            std::make_unique<RawEcho>(outcome_.server_reasons));
        PipeTransport::open(reactor, std::move(answer_out), std::move(question_in),
                            std::make_unique<RawClient>(outcome_.piped));
        outcome_.set_up = true;

        run_until(reactor, [&] {
            return outcome_.raw.disconnected > 0 && outcome_.framed.disconnected > 0 && outcome_.timer_came &&
                   outcome_.posted_ran && outcome_.adopted.disconnected > 0 && outcome_.piped.disconnected > 0;
        });
        // The first to come may still meet the shortage.
        for (int client = 0; client < 4 && setting_.late_client && !outcome_.late.complete; ++client) {
            outcome_.late_tried = true;
            outcome_.late = {};
            const Connector late(reactor, {raw_acceptor.addresses().at(0)}, ask<RawClient>(outcome_.late));
            run_until(reactor, [&] { return outcome_.late.disconnected > 0; });
        }
        int drained = 0;
        for (Acceptor* acceptor : {&raw_acceptor, &framed_acceptor}) {
            try {
                acceptor->drain([&] { ++drained; });
            } catch (...) {
                note_exception();
            }
        }
        run_until(reactor, [&] { return drained == 2; });
        outcome_.drained = drained == 2;
        outcome_.shed = raw_acceptor.counters().shed + framed_acceptor.counters().shed;
        outcome_.back_offs = raw_acceptor.counters().back_offs + framed_acceptor.counters().back_offs;
    }

    static std::pair<FileDescriptor, FileDescriptor> make_pipe() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe2");
        return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
    }

    template <class Condition>
    void run_until(Reactor& reactor, Condition&& condition) {
        const int most = setting_.plan.piece > 0 ? most_turns_in_pieces : most_turns;
        int turns = 0, broken_off = 0;
        while (!condition() && !faults::waited_for_ever() && ++turns <= most) {
            try {
                reactor.run_once();
            } catch (...) {
                ++broken_off;  // with no memory at all every turn may, and says so
                note_exception();
            }
        }
        outcome_.spun = outcome_.spun || turns - broken_off > most / 2;
        if (!condition()) outcome_.hung = true;
    }

    // A fault's exception names it, or is what running out of memory looks like.
    void note_exception() {
        const faults::Suspended suspended;
        ++outcome_.exceptions;
        try {
            throw;
        } catch (const std::bad_alloc&) {
            if (setting_.plan.call != Call::allocation) outcome_.strange = "bad_alloc";
        } catch (const std::system_error& error) {
            if (!faults::struck()) outcome_.strange = error.what();
        } catch (const std::exception& error) {
            outcome_.strange = error.what();
        }
    }

    // A descriptor, a timer and a post still work.
    static bool usable(Reactor& reactor) {
        struct Heard final : EventHandler {
            void readable() override { ++count; }
            int count = 0;
        } heard;
        auto [one, other] = Socket::pair();
        bool posted = false, timed = false;
        Timer timer(reactor, [&] { timed = true; });
        timer.start(Duration::zero());
        const std::uint64_t wakeups = reactor.counters().wakeups;
        reactor.post([&] { posted = true; });  // while nothing runs, so it must wake as another thread's would
        const Registration registration = reactor.watch(one.get(), Interest::readable, heard);
        if (::send(other.get(), "x", 1, 0) != 1) return false;
        for (int turn = 0; turn < 4; ++turn) {
            try {
                reactor.run_once(Duration::zero());
            } catch (const std::exception&) {
                // Work that an exception interrupted continues in this iteration.
            }
        }
        return posted && timed && heard.count > 0 && reactor.counters().wakeups > wakeups;
    }

    const Setting& setting_;
    Outcome& outcome_;
    testing::ManualClock clock_;
};

Outcome run(const Setting& setting) {
    pattern();
    const long before = faults::live_allocations();
    Outcome outcome;
    Conversation(setting, outcome).run();
    outcome.leaked = faults::live_allocations() - before - long(outcome.server_reasons.capacity() > 0) -
                     long(outcome.strange.capacity() > std::string().capacity());
    return outcome;
}

std::string describe(const Setting& setting) {
    const faults::Plan& plan = setting.plan;
    std::string text = setting.over_tcp ? "over TCP: " : "";
    text += std::string(faults::name_of(plan.call)) + " fails from its call " + std::to_string(plan.from) + ", " +
            std::to_string(plan.times) + " times, with " + std::generic_category().message(plan.error);
    if (plan.piece > 0) text += ", pieces of " + std::to_string(plan.piece);
    if (plan.interrupted) text += ", interrupted";
    return text;
}

bool without_error(const End& end) {
    return end.disconnected == 1 && !end.reason;
}

// The checks after any fault.
void check_order(const Setting& setting, const Outcome& outcome) {
    INFO(describe(setting));
    CHECK(outcome.strange == "");
    CHECK_FALSE(outcome.spun);
    CHECK(outcome.usable);
    CHECK(outcome.left_open == 0);
    CHECK(outcome.bad_closes == 0);
    CHECK(outcome.leaked == 0);
    const bool quiet = outcome.exceptions == 0;  // no exception came out
    const bool strict = outcome.set_up && (quiet || setting.plan.times == 1);
    if (quiet) CHECK(outcome.set_up);
    if (strict) {
        CHECK_FALSE(outcome.hung);
        CHECK(outcome.drained);
        CHECK(outcome.timer_came);
        CHECK(outcome.posted_ran);
    }
    bool any_error = !outcome.server_reasons.empty() || !quiet || outcome.shed > 0 || outcome.back_offs > 0;
    const End* const ends[] = {&outcome.raw, &outcome.framed, &outcome.adopted, &outcome.piped};
    for (const End* end : ends) any_error |= bool(end->reason);
    for (const End* end : ends) {
        CHECK(end->wrong == 0);
        CHECK(end->after_the_end == 0);
        CHECK(end->connected <= 1);
        CHECK(end->disconnected <= 1);
        if (strict) {
            CHECK(end->disconnected == 1);
            // Nothing is left to a deadline; but over TCP the test's clock may leave the network behind.
            if (!setting.over_tcp && setting.plan.error != ETIMEDOUT) CHECK(end->reason != std::errc::timed_out);
        }
        if (!any_error) CHECK(end->complete);
    }
    if (outcome.late_tried) CHECK(outcome.late.complete);
}

void check_whole(const Setting& setting, const Outcome& outcome) {
    check_order(setting, outcome);
    INFO(describe(setting));
    CHECK(outcome.exceptions == 0);
    CHECK(outcome.server_reasons.empty());
    for (const End* end : {&outcome.raw, &outcome.framed, &outcome.adopted, &outcome.piped}) {
        CHECK(without_error(*end));
        CHECK(end->complete);
    }
}

// Every call of this kind that the conversation makes fails once, with every error. How many times anything failed.
int fail_each(Setting setting, Call call) {
    int runs = 0;
    for (const int error : faults::errors_of(call)) {
        setting.plan.call = call;
        setting.plan.error = error;
        setting.plan.from = 1;
        for (;; ++setting.plan.from) {
            REQUIRE(setting.plan.from < 5'000);
            const Outcome outcome = run(setting);
            check_order(setting, outcome);
            if (!outcome.struck) break;
            ++runs;
        }
    }
    return runs;
}

}  // namespace

TEST_CASE("Without a fault the conversation that is made to fail is whole, on Unix sockets and on TCP") {
    for (const bool over_tcp : {false, true}) {
        Setting setting;
        setting.over_tcp = over_tcp;
        setting.late_client = true;
        run(setting);  // so that objects made once exist
        const Outcome outcome = run(setting);
        check_whole(setting, outcome);
        CHECK_FALSE(outcome.struck);
    }
}

TEST_CASE("S75: any one system call fails, with any error of its man page, and everything is in order") {
    run({});
    int runs = 0;
    for (std::size_t kind = 0; kind < std::size_t(Call::allocation); ++kind) {
        const int failed = fail_each({}, Call(kind));
        MESSAGE(std::string(faults::name_of(Call(kind))) << ": " << failed << " failures");
        runs += failed;
    }
    CHECK(runs > 500);
}

TEST_CASE("S75: over TCP too, what sets a connection up fails in order") {
    Setting setting;
    setting.over_tcp = true;
    run(setting);
    for (const Call call : {Call::accept4, Call::bind, Call::connect, Call::getpeername, Call::getsockname,
                            Call::getsockopt, Call::listen, Call::setsockopt, Call::shutdown, Call::socket})
        CHECK(fail_each(setting, call) > 0);
}

TEST_CASE("S75: any allocation fails, alone or with those behind it") {
    run({});
    for (const unsigned times : {1U, 2U, 5U, 50U, 1'000'000U}) {
        for (const std::size_t piece : {std::size_t(0), std::size_t(700)}) {  // in pieces much has to be kept
            if (piece > 0 && times > 50) continue;
            Setting setting;
            setting.plan.times = times;
            setting.plan.piece = piece;
            const int runs = fail_each(setting, Call::allocation);
            if (times == 1) MESSAGE(runs << " allocations");
            CHECK(runs > 30);
        }
    }
}

TEST_CASE("S75: a shortage that lasts for five calls passes, and the server serves again") {
    Setting setting;
    setting.late_client = true;
    run(setting);
    for (const Call call : {Call::accept4, Call::open}) {
        for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
            setting.plan.call = call;
            setting.plan.error = error;
            setting.plan.times = 5;
            for (setting.plan.from = 1; setting.plan.from < 6; ++setting.plan.from) check_order(setting, run(setting));
        }
    }
}

TEST_CASE("S28: no error of accept stops the listener, however often it comes in a row") {
    Setting setting;
    setting.late_client = true;
    run(setting);
    for (const int error : faults::errors_of(Call::accept4)) {
        for (const unsigned times : {1U, 2U, 10U, 200U}) {
            setting.plan.call = Call::accept4;
            setting.plan.error = error;
            setting.plan.times = times;
            const Outcome outcome = run(setting);
            check_order(setting, outcome);
            CHECK(outcome.exceptions == 0);
        }
    }
}

TEST_CASE("S28: while the kernel has no memory for who connects the listener rests, longer each time, up to a second") {
    using std::chrono::milliseconds;
    for (const int error : {ENOBUFS, ENOMEM, ENFILE}) {
        INFO(std::error_code(error, std::system_category()).message());
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        std::vector<std::error_code> reasons;
        Acceptor acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, serve<RawEcho>(reasons));
        Socket client = Socket::open(Address::Family::ipv4);
        (void)client.connect(acceptor.addresses().at(0));
        faults::Plan plan;
        plan.call = Call::accept4;
        plan.error = error;
        plan.times = error == ENFILE ? 20 : 10;  // out of descriptors it tries once more, with the one in reserve
        const TimePoint begin = clock.now();
        const faults::Armed armed(plan, clock, true);
        for (int turns = 0; turns < 100 && acceptor.connections() == 0; ++turns) reactor.run_once();
        CHECK(acceptor.connections() == 1);
        CHECK(acceptor.counters().back_offs == 10);
        CHECK(faults::calls(Call::accept4) <= plan.times + 2);
        CHECK(clock.now() - begin == milliseconds(50 + 100 + 200 + 400 + 800 + 5 * 1000));
    }
}

TEST_CASE("S27: a connection that ends ends the listener's rest, and who has accepted rests no longer than at first") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::vector<std::error_code> reasons;
    AcceptorOptions options;
    options.max_connections = 1'000;  // so that accept4(2) is called on io_uring too
    Acceptor acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, serve<RawEcho>(reasons), options);
    const auto connect = [&] {
        Socket client = Socket::open(Address::Family::ipv4);
        (void)client.connect(acceptor.addresses().at(0));
        return client;
    };
    const auto turn_until_accepted = [&](std::uint64_t count, std::optional<Duration> limit) {
        for (int turns = 0; turns < 100 && acceptor.counters().accepted < count; ++turns) reactor.run_once(limit);
        CHECK(acceptor.counters().accepted == count);
    };
    Socket first = connect();
    turn_until_accepted(1, Duration::zero());
    faults::Plan plan;
    plan.call = Call::accept4;
    plan.error = ENOBUFS;
    const TimePoint begin = clock.now();
    const Socket second = connect();
    {
        const faults::Armed armed(plan, clock, true);
        for (int turns = 0; turns < 10; ++turns) reactor.run_once(Duration::zero());
        CHECK(acceptor.counters().back_offs == 1);
        CHECK(acceptor.counters().accepted == 1);
        first.close();
        turn_until_accepted(2, Duration::zero());
        CHECK(clock.now() == begin);
    }
    const Socket third = connect();
    const faults::Armed armed(plan, clock, true);
    turn_until_accepted(3, std::nullopt);
    CHECK(acceptor.counters().back_offs == 2);
    CHECK(clock.now() - begin == std::chrono::milliseconds(50));
}

TEST_CASE(
    "S96: where eventfd(2) is not to be had, posts from another thread wake the loop through a pipe that exec closes") {
    testing::ManualClock clock;
    faults::Plan plan;
    plan.call = Call::eventfd;
    plan.error = EPERM;
    std::optional<Reactor> reactor;
    std::optional<Wakeup> wakeup;
    {
        const faults::Armed armed(plan, clock, false);
        reactor.emplace();
    }
    {
        const faults::Armed armed(plan, clock, false);
        wakeup.emplace();
    }
    CHECK((::fcntl(wakeup->descriptor(), F_GETFD) & FD_CLOEXEC) != 0);
    for (int i = 0; i < 100'000; ++i) wakeup->notify();  // which a full pipe does not block
    pollfd entry{wakeup->descriptor(), POLLIN, 0};
    CHECK(::poll(&entry, 1, 0) == 1);
    wakeup->drain();
    CHECK(::poll(&entry, 1, 0) == 0);
    bool called = false;
    std::thread poster([&] { reactor->post([&] { called = true; }); });
    while (!called) reactor->run_once();
    poster.join();
    CHECK(reactor->run_once(Duration::zero()) <= 1);
    CHECK(reactor->run_once(Duration::zero()) == 0);
}

TEST_CASE("S3, S75: a descriptor whose new interest epoll refuses leaves the set: it is lost, and reported no more") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    if (reactor.backend() != "epoll") return;
    auto [mine, yours] = Socket::pair();
    struct Losing final : EventHandler {
        void readable() override { ++readables; }
        void lost(std::error_code code) override { reason = code; }
        int readables = 0;
        std::error_code reason;
    } handler;
    Registration registration = reactor.watch(mine.get(), Interest::readable, handler);
    reactor.run_once(Duration::zero());
    registration.set_interest(Interest::readable | Interest::writable);
    faults::Plan plan;
    plan.call = Call::epoll_ctl;
    plan.error = ENOMEM;
    {
        const faults::Armed armed(plan, clock, false);
        reactor.run_once(Duration::zero());
    }
    CHECK(handler.reason == std::errc::not_enough_memory);
    REQUIRE(::send(yours.get(), "x", 1, 0) == 1);
    const int set = reactor.native_handle();
    CHECK(reactor.run_once(Duration::zero()) == 0);
    CHECK(reactor.run_once(Duration::zero()) == 0);
    CHECK(reactor.native_handle() == set);  // nothing in it had to be left behind
    CHECK(handler.readables == 0);
}

TEST_CASE("S72: every other system call is interrupted by a signal, and nothing is lost, not even time") {
    for (const bool over_tcp : {false, true}) {
        Setting setting;
        setting.over_tcp = over_tcp;
        setting.plan.interrupted = true;
        run(setting);
        const Outcome outcome = run(setting);
        CHECK(outcome.struck);
        check_whole(setting, outcome);
    }
}

TEST_CASE("S72: a wait in which one is watched for errors alone is interrupted, and the loop goes on") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    auto [mine, yours] = tcp_pair();
    struct Errors final : EventHandler {
        void error() override { ++count; }
        int count = 0;
    } handler;
    const Registration registration = reactor.watch(mine.get(), Interest::error, handler);
    bool due = false;
    Timer timer(reactor, [&] { due = true; });
    timer.start(std::chrono::hours(1));
    faults::Plan plan;
    plan.interrupted = true;
    const faults::Armed armed(plan, clock, true);
    for (int turns = 0; turns < 10 && !due; ++turns) reactor.run_once();
    CHECK(due);
    CHECK(faults::struck());
    {
        const faults::Suspended suspended;
        REQUIRE(::send(yours.get(), "!", 1, MSG_OOB) == 1);
    }
    for (int turns = 0; turns < 10 && handler.count == 0; ++turns) reactor.run_once();
    CHECK(handler.count == 1);
}

TEST_CASE("S41: short reads and short writes of every size") {
    run({});
    for (std::size_t piece = 1; piece < 300; piece += piece < 20 ? 1 : 17) {
        Setting setting;
        setting.plan.piece = piece;
        setting.plan.interrupted = piece % 2 == 0;
        check_whole(setting, run(setting));
    }
    for (const std::size_t piece : {1'023UL, 1'024UL, 4'095UL, 4'097UL, 16'384UL, 16'385UL}) {
        Setting setting;
        setting.plan.piece = piece;
        check_whole(setting, run(setting));
    }
}

TEST_CASE("S9: each descriptor is closed once, whatever close says") {
    for (const int error : faults::errors_of(Call::close)) {
        Setting setting;
        setting.late_client = true;
        setting.plan.call = Call::close;
        setting.plan.error = error;
        setting.plan.times = 1'000'000;
        run(setting);
        const Outcome outcome = run(setting);
        CHECK(outcome.struck);
        check_whole(setting, outcome);
    }
}

TEST_CASE("S82, S85: an acceptor that cannot be made, whatever fails, leaves no socket file behind") {
    const TemporaryFolder folder;
    const std::string path = folder / "socket";
    for (const Call call :
         {Call::socket, Call::setsockopt, Call::getsockname, Call::bind, Call::listen, Call::allocation}) {
        faults::Plan plan;
        plan.call = call;
        plan.error = faults::errors_of(call)[0];
        int failed = 0;
        for (bool struck = true; struck; ++plan.from) {
            INFO(faults::name_of(call), " ", plan.from);
            testing::ManualClock clock;
            Reactor reactor("auto", clock);
            {
                const faults::Armed armed(plan, clock, false);
                try {
                    const Acceptor acceptor(reactor, {Address::unix_path(path)}, factory<Echo>());
                } catch (const std::exception&) {
                    ++failed;
                }
                struck = faults::struck();
            }
            CHECK(::access(path.c_str(), F_OK) != 0);
            ::unlink(path.c_str());
        }
        if (call == Call::listen || call == Call::bind) CHECK(failed == 1);
    }
}

TEST_CASE("S75, S76: a look-up that runs out of memory throws where it begins, or says so later, and is told once") {
    faults::fail_each_allocation([](const faults::Plan& plan) {
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        int told = 0;
        bool complete = false, struck = false;
        std::error_code reason;
        std::optional<Resolver> resolver;
        {
            const faults::Armed armed(plan, clock, false);
            try {
                resolver.emplace(reactor, "localhost", 80, [&](std::error_code error, std::vector<Address> found) {
                    ++told;
                    reason = error;
                    complete = !error && found.size() == 2;
                });
                CHECK(told == 0);
            } catch (const std::bad_alloc&) {
                CHECK_FALSE(resolver);
            }
            struck = faults::struck();
        }
        for (int turn = 0; turn < 3; ++turn) reactor.run_once(Duration::zero());
        CHECK(told == (resolver ? 1 : 0));
        if (reason) CHECK(reason == std::errc::not_enough_memory);
        CHECK((complete || struck));
        return struck;
    });
}

TEST_CASE("S93: a connector whose constructor throws leaves nothing in the loop, and a drain finds none of it") {
    faults::fail_each_allocation([](const faults::Plan& plan) {
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        const std::unique_ptr<std::byte[]> place(new std::byte[sizeof(Connector)]);
        std::vector<Address> addresses{*Address::ip("127.0.0.1", 9)};
        ProtocolFactory factory = reactor::factory<Echo>();
        bool complete = false;
        {
            const faults::Armed armed(plan, clock, false);
            try {
                Connector* const made = ::new (static_cast<void*>(place.get()))
                    Connector(reactor, std::move(addresses), std::move(factory));
                complete = !faults::struck();
                made->~Connector();
            } catch (const std::bad_alloc&) {
            }
        }
        std::fill_n(place.get(), sizeof(Connector), std::byte(0xff));  // a call of it now does not get far
        bool drained = false;
        drain(reactor, std::chrono::seconds(1), [&](const Drained&) { drained = true; });
        for (int turns = 0; !drained && turns < 10; ++turns) reactor.run_once(Duration::zero());
        CHECK(drained);
        return !complete;
    });
}

TEST_CASE("S47, S75: a connection that is told to abort ends, also where the kernel takes no option for a reset") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    auto [mine, yours] = Socket::pair();
    End end;
    Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<RawClient>(end));
    reactor.run_once(Duration::zero());
    faults::Plan plan;
    plan.call = Call::setsockopt;
    plan.error = EINVAL;
    plan.times = 1'000;
    {
        const faults::Armed armed(plan, clock, false);
        connection.abort();
        reactor.run_once(Duration::zero());
    }
    CHECK(faults::struck());
    CHECK(end.disconnected == 1);
    CHECK(end.reason == std::errc::operation_canceled);
}

TEST_CASE("S75: a peer whose connection could not be made for lack of memory is not counted as having one") {
    faults::fail_each_allocation([](const faults::Plan& plan) {
        testing::ManualClock clock;
        Reactor reactor("auto", clock);
        std::vector<std::error_code> reasons;
        AcceptorOptions options;
        options.max_connections_per_peer = 1;
        Acceptor acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, serve<RawEcho>(reasons), options);
        reactor.run_once(Duration::zero());  // so that the loop itself has what it needs
        bool struck = false;
        {
            Socket client = Socket::open(Address::Family::ipv4);
            (void)client.connect(acceptor.addresses().at(0));
            const faults::Armed armed(plan, clock, false);
            for (int turn = 0; turn < 4; ++turn) {
                try {
                    reactor.run_once(Duration::zero());
                } catch (const std::bad_alloc&) {
                }
            }
            struck = faults::struck();
        }
        for (int turn = 0; turn < 100 && acceptor.connections() > 0; ++turn) reactor.run_once(Duration::zero());
        CHECK(acceptor.connections() == 0);
        clock.advance(std::chrono::seconds(2));  // over with any back-off
        Socket client = Socket::open(Address::Family::ipv4);
        (void)client.connect(acceptor.addresses().at(0));
        for (int turn = 0; turn < 100 && acceptor.connections() == 0; ++turn) reactor.run_once(Duration::zero());
        CHECK(acceptor.connections() == 1);
        CHECK(acceptor.counters().refused == 0);
        return struck;
    });
}

TEST_CASE("S75: a connection that closes and has no memory to throw its input away into ends") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    auto [mine, yours] = Socket::pair();
    End end;
    Connection& connection = Connection::open(reactor, std::move(mine), std::make_unique<RawClient>(end));
    for (int turn = 0; turn < 2; ++turn) {  // so that the loop itself has what it needs
        REQUIRE(::send(yours.get(), "x", 1, 0) == 1);
        reactor.run_once(Duration::zero());
    }
    Limits limits = connection.limits();
    limits.read_size = 1 << 20;  // more than was ever read at once
    connection.set_limits(limits);
    connection.close();
    REQUIRE(::send(yours.get(), "x", 1, 0) == 1);
    faults::Plan plan;
    plan.call = Call::allocation;
    plan.times = 1'000;
    {
        const faults::Armed armed(plan, clock, false);
        reactor.run_once(Duration::zero());
    }
    CHECK(faults::struck());
    CHECK(end.disconnected == 1);
    CHECK(end.reason == std::errc::not_enough_memory);
}

TEST_CASE("S75: one number watched and let go again and again between two waits takes no more memory than once") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    auto [mine, yours] = Socket::pair();
    struct Deaf final : EventHandler {
    } handler;
    Registration registration = reactor.watch(mine.get(), Interest::readable, handler);
    registration.reset();
    {
        const faults::Armed armed({}, clock, false);
        for (int i = 0; i < 10'000; ++i) {
            registration = reactor.watch(mine.get(), Interest::readable, handler);
            registration.set_interest(Interest::none);
            registration.reset();
        }
        CHECK(faults::calls(Call::allocation) == 0);
    }
    const std::uint64_t before = reactor.counters().changes;
    reactor.run_once(Duration::zero());
    CHECK(reactor.counters().changes <= before + 1);  // the wake-up's own
}

TEST_CASE("A connection's messages on their ordinary way allocate nothing, nor does its end if nothing is owed") {
    struct Answerer final : Protocol {
        explicit Answerer(int& ends) : ended(ends) {}
        std::size_t received(Bytes input) override {
            transport().write(input);
            return input.size();
        }
        void disconnected(std::error_code reason) override { ended += reason ? 1000 : 1; }
        int& ended;
    };
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::vector<Socket> peers;
    int ended = 0;
    for (int i = 0; i < 20; ++i) {
        auto [peer, ours] = Socket::pair();
        peers.push_back(std::move(peer));
        Connection::open(reactor, std::move(ours), std::make_unique<Answerer>(ended));
    }
    const auto talk = [&] {
        for (const Socket& peer : peers) REQUIRE(::send(peer.get(), "question", 8, 0) == 8);
        settle(reactor);
        char answer[16];
        for (const Socket& peer : peers) REQUIRE(::recv(peer.get(), answer, sizeof answer, 0) == 8);
    };
    talk();
    const faults::Armed armed({}, clock, false);
    for (int i = 0; i < 100; ++i) talk();
    CHECK(faults::calls(Call::allocation) == 0);
    for (Socket& peer : peers) peer.close();
    settle(reactor);
    CHECK(ended == 20);
    CHECK(faults::calls(Call::allocation) == 0);
}

TEST_CASE("S95, S96: an accept that a filter of system calls forbids makes the listener rest, and not spin") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    std::vector<std::error_code> reasons;
    std::vector<std::string> notices;
    reactor.on_notice([&](Notice what, std::string_view text) {
        const faults::Suspended suspended;
        if (what == Notice::accept_backed_off) notices.emplace_back(text);
    });
    Acceptor acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, serve<RawEcho>(reasons));
    Socket client = Socket::open(Address::Family::ipv4);
    (void)client.connect(acceptor.addresses().at(0));
    faults::Plan plan;
    plan.call = Call::accept4;
    plan.error = EPERM;
    plan.neighbour = true;
    plan.times = 3 * 64 * (REACTOR_HAS(SOCK_NONBLOCK) ? 2 : 1);  // accept4(2), then accept(2), of 64 in a turn
    const TimePoint begin = clock.now();
    const faults::Armed armed(plan, clock, true);
    for (int turns = 0; turns < 100 && acceptor.connections() == 0; ++turns) reactor.run_once();
    CHECK(acceptor.connections() == 1);
    CHECK(acceptor.counters().back_offs == 3);
    CHECK(acceptor.counters().listeners_lost == 0);
    CHECK(clock.now() - begin == std::chrono::milliseconds(50 + 100 + 200));
    REQUIRE(notices.size() == 3);
    CHECK(notices[0] == "accept paused for 50 ms: " + std::error_code(EPERM, std::system_category()).message());
}

TEST_CASE("A listener that epoll has no room for rests, longer each time, and is watched when there is room") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    if (reactor.backend() != "epoll") return;  // the others ask the kernel nothing
    std::vector<std::error_code> reasons;
    Acceptor acceptor(reactor, {*Address::ip("127.0.0.1", 0)}, serve<RawEcho>(reasons));
    Socket client = Socket::open(Address::Family::ipv4);
    (void)client.connect(acceptor.addresses().at(0));
    reactor.run_once(Duration::zero());
    acceptor.pause();
    reactor.run_once(Duration::zero());
    const Socket second = [&] {
        Socket socket = Socket::open(Address::Family::ipv4);
        (void)socket.connect(acceptor.addresses().at(0));
        return socket;
    }();
    acceptor.resume();
    const std::uint64_t accepted = acceptor.counters().accepted;
    faults::Plan plan;
    plan.call = Call::epoll_ctl;
    plan.error = ENOSPC;
    plan.times = 3;
    const TimePoint begin = clock.now();
    const faults::Armed armed(plan, clock, true);
    for (int turns = 0; turns < 100 && acceptor.counters().accepted == accepted; ++turns) reactor.run_once();
    CHECK(acceptor.counters().accepted == accepted + 1);
    CHECK(acceptor.counters().back_offs == 3);
    CHECK(clock.now() - begin == std::chrono::milliseconds(50 + 100 + 200));
}

TEST_CASE("A descriptor whose change epoll refuses is lost, and the set reports it no more") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    if (reactor.backend() != "epoll") return;  // the others ask the kernel nothing
    struct Handler final : EventHandler {
        void lost(std::error_code error) override { reason = error; }
        std::error_code reason;
    } handler;
    auto ends = Socket::pair();
    const Registration registration = reactor.watch(ends.first.get(), Interest::readable, handler);
    reactor.run_once(Duration::zero());
    faults::Plan plan;
    plan.call = Call::epoll_ctl;
    plan.error = ENOMEM;
    const faults::Armed armed(plan, clock, false);
    registration.set_interest(Interest::readable | Interest::writable);
    reactor.run_once(Duration::zero());
    CHECK(handler.reason == std::errc::not_enough_memory);
    CHECK(::send(ends.second.get(), "x", 1, MSG_NOSIGNAL) == 1);
    const std::uint64_t events = reactor.counters().events;
    const int set = reactor.native_handle();
    for (int turns = 0; turns < 5; ++turns) reactor.run_once(Duration::zero());
    CHECK(reactor.counters().events == events);
    CHECK(reactor.native_handle() == set);
}

TEST_CASE("S93: an acceptor whose constructor runs out of memory leaves nothing in the loop that a drain would find") {
    testing::ManualClock clock;
    AcceptorOptions options;
    options.max_connections_per_peer = 10;
    const std::vector<Address> addresses{*Address::ip("127.0.0.1", 0)};
    std::vector<std::error_code> reasons;
    bool made = false;
    for (unsigned from = 1; !made; ++from) {
        CAPTURE(from);
        REQUIRE(from < 1000);
        Reactor reactor("auto", clock);
        // Its memory is not given back: a pointer that a loop still has leads into zeros.
        alignas(Acceptor) std::byte memory[sizeof(Acceptor)];
        Acceptor* acceptor = nullptr;
        {
            faults::Plan plan;
            plan.call = Call::allocation;
            plan.from = from;
            const faults::Armed armed(plan, clock, false);
            try {
                void* const at = memory;
                acceptor = ::new (at) Acceptor(reactor, addresses, serve<RawEcho>(reasons), options);
                made = true;
            } catch (const std::bad_alloc&) {
            }
        }
        if (acceptor == nullptr) std::memset(memory, 0, sizeof memory);
        bool done = false;
        drain(reactor, Duration::max(), [&](const Drained&) { done = true; });
        for (int turns = 0; turns < 10 && !done; ++turns) reactor.run_once(Duration::zero());
        CHECK(done);
        if (acceptor != nullptr) acceptor->~Acceptor();
    }
}
