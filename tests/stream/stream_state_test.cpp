// The stream's state machine by itself: every sequence of events up to a length, and random long ones.
#include <reactor/stream/detail/stream_state.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

using namespace reactor;

namespace {

using Call = StreamState::Call;
using Step = StreamState::Step;

constexpr std::size_t high = 4;
constexpr std::size_t low = high / 4;

Limits small_limits() {
    Limits limits;
    limits.high_mark = high;
    return limits;
}

/// The events of a stream. Upper case letters are the protocol's, the others are the peer's and the kernel's.
constexpr std::string_view events = "WBSCNPRdlexi";
// W: writes a little. B: writes more than the high watermark. S: shuts its side. C: closes. N: closes without waiting
// for the peer. P: pauses. R: resumes. d: data comes, which the protocol consumes and answers with a little. l: data
// comes, which it leaves. i: data comes, which it answers with more than the high watermark. e: the peer ends. x: the
// peer resets, and the next write fails.
constexpr std::string_view kernel_events = "ao";
// a: the kernel takes all that waits. o: it takes a byte.

/// A transport without bytes: it counts them, and notes every call.
class Stream {
public:
    void happen(char event) {
        if (finished_) return;
        switch (event) {
            case 'W': write(1, false); break;
            case 'B': write(high + 1, false); break;
            case 'S': state_.shutdown_write(); break;
            case 'C': state_.close(); break;
            case 'N': state_.close_without_waiting(); break;
            case 'P': state_.pause_reading(); break;
            case 'R': state_.resume_reading(); break;
            case 'd': receive('d'); break;
            case 'l': receive('l'); break;
            case 'i': receive('i'); break;
            case 'e': peer_ends(); break;
            case 'x': reset_ = true; break;
            case 'a': take(waiting_); break;
            case 'o': take(1); break;
            default: FAIL("unknown event ", event);
        }
        settle();
    }

    bool finished() const { return finished_; }
    const std::string& calls() const { return calls_; }
    const StreamState& state() const { return state_; }

    /// The peer and the kernel do all they can, and the protocol closes: the stream must come to its end.
    void wind_up() {
        for (const char event : std::string_view("RaCaea")) happen(event);
    }

private:
    void write(std::size_t size, bool answer) {
        if (!state_.accepts_writes()) return;
        waiting_ += size;
        state_.output_queued(waiting_, limits_, answer);
        if (reset_) take(waiting_);
    }

    void take(std::size_t size) {
        if (size > waiting_ || waiting_ == 0) size = waiting_;
        if (size > 0 && reset_) {
            waiting_ = 0;
            if (!state_.write_failed(true)) finish();
            return;
        }
        waiting_ -= size;
    }

    void receive(char kind) {
        if (!state_.reading() || state_.is(StreamState::fresh)) return;
        call('r');
        const std::byte one{1};
        std::size_t consumed = 1;
        if (kind == 'd') write(1, true);
        if (kind == 'i') write(high + 1, true);
        if (kind == 'l') consumed = 0;
        if (!finished_) state_.keep_rest(rest_, {&one, 1}, consumed + rest_.size());
        if (kind == 'l' && !finished_ && !state_.is(StreamState::closing)) {
            const std::byte left{2};
            rest_.clear();
            state_.keep_rest(rest_, {&left, 1}, 0);
        }
    }

    void peer_ends() {
        if (state_.is(StreamState::input_ended)) return;
        const bool read = state_.reading() && !state_.is(StreamState::fresh);
        if (!read && !state_.is(StreamState::closing)) return;  // it is not seen
        if (state_.peer_ended() == Call::end_of_stream) {
            call('e');
            rest_.clear();
        }
    }

    void settle() {
        for (int bound = 0; !finished_; ++bound) {
            REQUIRE(bound < 10);
            if (const Call next = state_.next_call(waiting_, limits_); next != Call::none) {
                call("-crepuz"[std::size_t(next)]);
                continue;
            }
            const Step step = state_.next_step(waiting_);
            if (step == Step::none) return;
            if (step == Step::end_output) {
                CHECK(waiting_ == 0);
                call('s');
            } else {
                finish();
            }
        }
    }

    void call(char what) {
        // The rules that a protocol relies on, from its log alone.
        const auto count = [this](char wanted) { return std::count(calls_.begin(), calls_.end(), wanted); };
        CHECK_FALSE(finished_);
        if (what == 'c') CHECK(count('c') == 0);
        if (what == 'r' || what == 'e' || what == 'p' || what == 'u') CHECK(count('c') == 1);
        if (what == 'r' || what == 'e') CHECK(count('e') == 0);
        if (what == 'r') CHECK(state_.reading());
        if (what == 'p') CHECK(count('p') == count('u'));
        if (what == 'u') CHECK(count('p') == count('u') + 1);
        if (what == 's') CHECK(count('s') == 0);
        if (what == 'z') CHECK(count('c') == 1);
        if (what == 'z') CHECK(count('z') == 0);
        if (what != 's' && what != 'z') CHECK_FALSE(state_.is(StreamState::closing));
        calls_ += what;
    }

    void finish() {
        CHECK_FALSE(finished_);
        state_.set(StreamState::over);
        if (state_.take_closing()) calls_ += 'z';
        CHECK(std::count(calls_.begin(), calls_.end(), 'z') == std::count(calls_.begin(), calls_.end(), 'c'));
        finished_ = true;
    }

    StreamState state_;
    Limits limits_ = small_limits();
    ByteQueue rest_;
    std::size_t waiting_ = 0;
    bool reset_ = false;
    bool finished_ = false;
    std::string calls_;
};

/// The rules for any sequence, once everything has been done that lets it end.
void check_end(const std::string& sequence) {
    CAPTURE(sequence);
    Stream stream;
    for (const char event : sequence) stream.happen(event);
    // Nothing is held back from a peer that has read its answers.
    if (!stream.finished()) {
        stream.happen('a');
        if (!stream.finished()) CHECK_FALSE(stream.state().is(StreamState::held_back));
    }
    if (!stream.finished()) stream.wind_up();
    CHECK(stream.finished());
}

}  // namespace

TEST_CASE("Every sequence of events of a stream keeps the order of its calls and comes to an end") {
    const std::string all = std::string(events) + std::string(kernel_events);
    constexpr int longest = 4;
    std::size_t tried = 0;
    std::vector<std::size_t> digits;
    for (int length = 0; length <= longest; ++length) {
        digits.assign(std::size_t(length), 0);
        for (bool more = true; more;) {
            std::string sequence;
            for (const std::size_t digit : digits) sequence += all[digit];
            check_end(sequence);
            ++tried;
            more = false;
            for (std::size_t& digit : digits) {
                if (++digit < all.size()) {
                    more = true;
                    break;
                }
                digit = 0;
            }
        }
    }
    CHECK(tried == 1 + 14 + 14 * 14 + 14 * 14 * 14 + 14 * 14 * 14 * 14);
}

TEST_CASE("Long random sequences of events of a stream come to an end as well") {
    const std::string all = std::string(events) + std::string(kernel_events);
    for (std::uint32_t seed = 1; seed <= 3000; ++seed) {
        CAPTURE(seed);
        std::minstd_rand random(seed);
        std::string sequence;
        for (int i = 0; i < 40; ++i) sequence += all[random() % all.size()];
        check_end(sequence);
    }
}

TEST_CASE("A watermark that was passed is followed by a pause and a resume, also if the output left in between") {
    StreamState state;
    const Limits limits = small_limits();
    REQUIRE(state.next_call(0, limits) == Call::connected);
    CHECK_FALSE(state.output_queued(high, limits, false));
    CHECK(state.next_call(high, limits) == Call::none);
    CHECK(state.output_queued(high + 1, limits, false));
    CHECK_FALSE(state.output_queued(high + 2, limits, false));
    CHECK(state.reading());
    CHECK(state.next_call(0, limits) == Call::pause_writing);
    CHECK(state.next_call(0, limits) == Call::resume_writing);
    CHECK(state.next_call(0, limits) == Call::none);
}

TEST_CASE("Answers above the high watermark stop reading until the low one is reached") {
    StreamState state;
    const Limits limits = small_limits();
    REQUIRE(state.next_call(0, limits) == Call::connected);
    state.output_queued(high + 1, limits, true);
    CHECK_FALSE(state.reading());
    CHECK(state.next_call(low + 1, limits) == Call::pause_writing);
    CHECK(state.next_call(low + 1, limits) == Call::none);
    CHECK(state.next_call(low, limits) == Call::resume_writing);
    CHECK(state.reading());
}

TEST_CASE("S13: a stream whose peer ended ends when this side has, after all output") {
    StreamState state;
    const Limits limits = small_limits();
    REQUIRE(state.next_call(0, limits) == Call::connected);
    CHECK(state.peer_ended() == Call::end_of_stream);
    CHECK(state.accepts_writes());
    CHECK(state.next_step(0) == Step::none);
    CHECK(state.shutdown_write());
    CHECK_FALSE(state.shutdown_write());
    CHECK(state.next_step(1) == Step::none);
    CHECK(state.next_step(0) == Step::end_output);
    CHECK(state.next_step(0) == Step::finish);
}

TEST_CASE("A stream that closes after its peer ended is over without another end of output: closing sends it") {
    StreamState state;
    REQUIRE(state.next_call(0, small_limits()) == Call::connected);
    REQUIRE(state.peer_ended() == Call::end_of_stream);
    CHECK(state.close());
    CHECK(state.next_step(0) == Step::finish);
}

TEST_CASE("A stream that closes without waiting is over once all is sent, and asks for no end of output or input") {
    StreamState state;
    REQUIRE(state.next_call(0, small_limits()) == Call::connected);
    CHECK(state.close_without_waiting());
    CHECK_FALSE(state.close_without_waiting());
    CHECK(state.next_step(1) == Step::none);
    CHECK(state.next_step(0) == Step::finish);
    StreamState closed;
    REQUIRE(closed.close());
    CHECK_FALSE(closed.close_without_waiting());
    CHECK(closed.next_step(0) == Step::end_output);
}

TEST_CASE("S14: after a reset the input that had come before it can still be read") {
    StreamState state;
    const Limits limits = small_limits();
    REQUIRE(state.next_call(0, limits) == Call::connected);
    state.output_queued(high + 1, limits, true);
    CHECK_FALSE(state.reading());
    CHECK(state.write_failed(true));
    CHECK(state.reading());
    CHECK(state.next_call(0, limits) == Call::none);
    CHECK_FALSE(state.accepts_writes());
    CHECK(state.next_step(0) == Step::none);
    CHECK(state.peer_ended() == Call::none);
    CHECK(state.next_step(0) == Step::finish);
}

TEST_CASE("An error that is no reset, and a reset of a stream that is not read, end it at once") {
    for (const auto make_unread :
         {+[](StreamState& state) { state.pause_reading(); }, +[](StreamState& state) { state.close(); },
          +[](StreamState& state) { (void)state.peer_ended(); }}) {
        StreamState state;
        make_unread(state);
        CHECK_FALSE(state.write_failed(true));
    }
    StreamState state;
    CHECK_FALSE(state.write_failed(false));
}

TEST_CASE("The bytes that received() leaves stand first the next time, wherever they lie") {
    const auto bytes = [](std::string_view text) { return bytes_of(text); };
    StreamState state;
    (void)state.next_call(0, small_limits());
    ByteQueue rest;
    CHECK(state.keep_rest(rest, bytes("abc"), 1));
    CHECK(text_of(rest.view()) == "bc");
    SUBCASE("a copy in front of new bytes, of which nothing is consumed: the same message goes on") {
        CHECK_FALSE(state.keep_rest(rest, bytes("bcd"), 0));
        CHECK(text_of(rest.view()) == "bcd");
    }
    SUBCASE("a copy in front of new bytes, consumed in part") {
        CHECK(state.keep_rest(rest, bytes("bcd"), 1));
        CHECK(text_of(rest.view()) == "cd");
    }
    SUBCASE("a copy in front of new bytes, consumed beyond it") {
        CHECK(state.keep_rest(rest, bytes("bcde"), 3));
        CHECK(text_of(rest.view()) == "e");
    }
    SUBCASE("in their own memory") {
        CHECK(state.keep_rest(rest, rest.view(), 1));
        CHECK(text_of(rest.view()) == "c");
    }
    SUBCASE("more than there is counts as all") {
        CHECK_FALSE(state.keep_rest(rest, bytes("bcd"), 100));
        CHECK(rest.empty());
    }
    SUBCASE("while reading is paused they are due when it goes on") {
        state.pause_reading();
        CHECK_FALSE(state.keep_rest(rest, bytes("bcd"), 0));
        CHECK(state.next_call(0, small_limits()) == Call::none);
        CHECK(state.resume_reading());
        CHECK(state.next_call(0, small_limits()) == Call::received);
        CHECK(state.next_call(0, small_limits()) == Call::none);
    }
    SUBCASE("nothing is kept after close()") {
        state.close();
        CHECK_FALSE(state.keep_rest(rest, bytes("bcd"), 0));
        CHECK(text_of(rest.view()) == "bc");
    }
}
