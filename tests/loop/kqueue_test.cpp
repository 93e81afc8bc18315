// kqueue's events as macOS and FreeBSD deliver them, played to the mapping that the backend uses. No kernel is asked.
#include <reactor/backends/kqueue_words_impl.hpp>

#include <doctest/doctest.h>

#include <ostream>
#include <vector>

using namespace reactor;
using namespace reactor::backends;

namespace {

using Filter = FilterEvent::Filter;

constexpr Token token{7, 3};

FilterEvent ready(Filter filter, Token of = token) {
    FilterEvent event;
    event.token = of;
    event.filter = filter;
    return event;
}

// EV_EOF, with the socket's error in fflags.
FilterEvent ended(Filter filter, int error = 0) {
    FilterEvent event = ready(filter);
    event.end = true;
    event.error = error;
    return event;
}

FilterEvent refused(int error) {
    FilterEvent event = ready(Filter::read);
    event.refused = true;
    event.error = error;
    return event;
}

std::vector<Event> merged(const std::vector<FilterEvent>& batch) {
    FilterMerger merger;
    std::vector<Event> events;
    merger.merge(batch, events);
    return events;
}

// The condition of the one descriptor in the batch.
Condition condition(const std::vector<FilterEvent>& batch) {
    const std::vector<Event> events = merged(batch);
    REQUIRE(events.size() == 1);
    CHECK(events[0].token == token);
    return events[0].condition;
}

constexpr Interest both = Interest::readable | Interest::writable;

}  // namespace

TEST_CASE("kqueue: the end of one direction is readiness and no more, since bytes may still be there") {
    CHECK(condition({ready(Filter::read)}) == Condition::readable);
    CHECK(condition({ready(Filter::write)}) == Condition::writable);
    // The peer has shut down writing: only a recv of 0 is the end, whether or not bytes come before it.
    CHECK(condition({ended(Filter::read)}) == Condition::readable);
    CHECK(condition({ended(Filter::read), ready(Filter::write)}) == (Condition::readable | Condition::writable));
    // The reader of a pipe is gone, or this side has shut down writing: a send says which.
    CHECK(condition({ended(Filter::write)}) == Condition::writable);
    // Without EV_EOF the flags of a filter are not an error.
    FilterEvent flagged = ready(Filter::read);
    flagged.error = ECONNRESET;
    CHECK(condition({flagged}) == Condition::readable);
}

TEST_CASE("kqueue: both directions at their end are a hang-up, in either order of the filters") {
    const Condition over = Condition::readable | Condition::writable | Condition::hangup;
    CHECK(condition({ended(Filter::read), ended(Filter::write)}) == over);
    CHECK(condition({ended(Filter::write), ended(Filter::read)}) == over);
    CHECK(condition({ready(Filter::read), ended(Filter::write)}) == (Condition::readable | Condition::writable));
}

TEST_CASE("kqueue: a connect that failed, and a reset, are an error that the handler finds by its own call") {
    CHECK(condition({ended(Filter::write, ECONNREFUSED)}) == (Condition::writable | Condition::failed));
    CHECK(condition({ended(Filter::read, ECONNRESET)}) == (Condition::readable | Condition::failed));
    const Condition failed = condition({ended(Filter::read, ECONNREFUSED), ended(Filter::write, ECONNREFUSED)});
    CHECK(failed == (Condition::readable | Condition::writable | Condition::failed | Condition::hangup));
    // As with the other backends, a connector is called for writable, and reads SO_ERROR.
    CHECK(told(failed, Interest::writable) == Interest::writable);
    CHECK(told(failed, both) == both);
}

TEST_CASE("kqueue: both filters of a descriptor are one event, wherever in the batch they are") {
    const Token other{8, 1};
    const std::vector<Event> events =
        merged({ready(Filter::read), ready(Filter::read, other), ready(Filter::write), ready(Filter::write, other)});
    REQUIRE(events.size() == 2);
    CHECK(events[0].token == token);
    CHECK(events[1].token == other);
    for (const Event& event : events) CHECK(event.condition == (Condition::readable | Condition::writable));
}

TEST_CASE("kqueue: a batch knows nothing of the batch before it") {
    FilterMerger merger;
    std::vector<Event> events;
    merger.merge(std::vector<FilterEvent>{ready(Filter::read, {5, 1}), ended(Filter::read)}, events);
    CHECK(events.size() == 2);
    events.clear();
    merger.merge(std::vector<FilterEvent>{ended(Filter::write), ready(Filter::read, {5, 1})}, events);
    REQUIRE(events.size() == 2);
    CHECK(events[0].condition == Condition::writable);
    CHECK(events[1].condition == Condition::readable);
}

TEST_CASE("kqueue: two lives of one number in a batch are two events, so that the stale one can be skipped") {
    const std::vector<Event> events = merged({ready(Filter::read, {7, 2}), ready(Filter::write, {7, 3})});
    REQUIRE(events.size() == 2);
    CHECK(events[0].token == Token{7, 2});
    CHECK(events[0].condition == Condition::readable);
    CHECK(events[1].token == Token{7, 3});
    CHECK(events[1].condition == Condition::writable);
}

TEST_CASE("kqueue: of errors in the batch only that of a closed descriptor is an event") {
    CHECK(condition({refused(EBADF)}) == Condition::invalid);
    for (const int error : {0, ENOENT, ESRCH}) CHECK(merged({refused(error)}).empty());
    CHECK(condition({refused(ENOENT), ready(Filter::write)}) == Condition::writable);
}

TEST_CASE("kqueue: removing a filter never fails, also where a close behind the back has removed it") {
    for (const int error : {0, ENOENT, EBADF, ESRCH}) CHECK(answer_to(true, error) == Answer::done);
}

TEST_CASE("kqueue: what the queue does not take is asked of poll, and what nobody can watch is refused") {
    CHECK(answer_to(false, 0) == Answer::done);
    // A device without a filter, and a pipe whose reader is gone already (macOS).
    for (const int error : {EINVAL, ENODEV, ENXIO, EOPNOTSUPP, EPERM, EPIPE})
        CHECK(answer_to(false, error) == Answer::ask_poll);
    for (const int error : {EBADF, ENOMEM, ESRCH, ENOENT}) CHECK(answer_to(false, error) == Answer::refused);
}
