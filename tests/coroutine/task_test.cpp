// Task: it begins when it is awaited, is awaited once, and is destroyed with its owner.
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <reactor/coroutine/or_return.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/reactor.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

using Notes = std::vector<std::string>;

Task<int> number(int value) {
    co_return value;
}

Task<> note(Notes& notes, std::string text) {
    notes.push_back(text);
    co_return;
}

Task<int> failing() {
    throw std::runtime_error("broken");
    co_return 1;
}

Task<std::unique_ptr<int>> owned(int value) {
    co_return std::make_unique<int>(value);
}

Never nothing;

Task<> inner(Notes& notes) {
    notes.push_back("inner begins");
    const Noting first(notes, "first of inner");
    const Noting second(notes, "second of inner");
    co_await nothing.wait();
}

Task<> outer(Notes& notes) {
    notes.push_back("outer begins");
    const Noting end(notes, "of outer");
    co_await inner(notes);
}

}  // namespace

TEST_CASE("a task does nothing before it is awaited") {
    Notes notes;
    {
        const Task<> task = note(notes, "ran");
        CHECK(notes.empty());
    }
    CHECK(notes.empty());
    Reactor reactor;
    run(reactor, note(notes, "ran"));
    CHECK(notes == Notes{"ran"});
}

TEST_CASE("a task's value reaches the one that awaits it, also one that can only be moved") {
    Reactor reactor;
    CHECK(run(reactor, number(7)) == 7);
    CHECK(*run(reactor, owned(8)) == 8);
}

static Task<std::string> catching() {
    try {
        (void)co_await failing();
    } catch (const std::runtime_error& error) {
        co_return error.what();
    }
    co_return "nothing";
}

TEST_CASE("an exception out of a task is thrown by the await") {
    Reactor reactor;
    CHECK(run(reactor, catching()) == "broken");
    CHECK_THROWS_WITH_AS((void)run(reactor, failing()), "broken", std::runtime_error);
}

static Task<> twice() {
    Task<int> task = number(1);
    (void)co_await std::move(task);
    (void)co_await std::move(task);
}

static Task<> moved() {
    Task<int> task = number(1);
    const Task<int> other = std::move(task);
    (void)co_await std::move(task);
}

TEST_CASE("awaiting a task twice, or an empty one, is a defined error") {
    Reactor reactor;
    CHECK_THROWS_WITH_AS(run(reactor, twice()), "Task: awaited or started twice", std::logic_error);
    CHECK_THROWS_AS(run(reactor, moved()), std::logic_error);
    CHECK_THROWS_AS(run(reactor, Task<>()), std::logic_error);
}

TEST_CASE("destroying a suspended task destroys its variables in order, and those of the tasks that it awaits") {
    Notes notes;
    {
        Reactor reactor;
        Scope scope(reactor);
        scope.start(outer(notes));
        settle_loop(reactor);
        CHECK(notes == Notes{"outer begins", "inner begins"});
    }
    CHECK(notes == Notes{"outer begins", "inner begins", "second of inner", "first of inner", "of outer"});
}

TEST_CASE("frames come from a free list, and all of them are given back") {
    Reactor reactor;
    (void)run(reactor, number(1));
    const CoroutineFrames before = coroutine_frames();
    for (int i = 0; i < 100; ++i) (void)run(reactor, number(i));
    const CoroutineFrames after = coroutine_frames();
    CHECK(after.allocated - before.allocated == 100);
    CHECK(after.alive() == before.alive());
    CHECK(after.from_heap == before.from_heap);
}

TEST_CASE("a result is a value or an error") {
    const Result<int> value = 3;
    CHECK(value);
    CHECK(*value == 3);
    CHECK(value.error() == std::error_code());
    Result<std::string> error = std::errc::timed_out;
    CHECK_FALSE(error);
    CHECK(error.error() == std::errc::timed_out);
    CHECK_THROWS_AS((void)error.value(), std::system_error);
    error = Result<std::string>("text");
    CHECK(error.value() == "text");
    Result<std::string> copy = error;
    CHECK(*copy == *error);
    CHECK(Result<void>());
    CHECK_THROWS_AS(Result<void>(std::errc::timed_out).value(), std::system_error);
}

TEST_CASE("run reports a loop that was stopped before the end") {
    Reactor reactor;
    Never never;
    Notes notes;
    auto timer = reactor.after(Duration::zero(), [&] { reactor.stop(); });
    CHECK_THROWS_AS(run(reactor, wait_for(never, notes, "kept")), std::system_error);
    CHECK(notes == Notes{"kept begins", "kept ends"});
}

static Task<Result<std::unique_ptr<int>>> half(int number, Notes& notes) {
    const Noting end(notes, "end of half");
    if (number % 2 != 0) co_return std::errc::invalid_argument;
    co_return std::make_unique<int>(number / 2);
}

static Task<Result<std::string>> quarter(int number, Notes& notes) {
    const Noting end(notes, "end of quarter");
    const std::unique_ptr<int> once = co_await or_return(co_await half(number, notes));
    const std::unique_ptr<int> twice = co_await or_return(co_await half(*once, notes));
    notes.push_back("to the end");
    co_return std::to_string(*twice) + ", a text that is longer than a string holds inside";
}

static Task<> quarters(Notes& notes) {
    const std::size_t before = coroutine_frames().alive();
    const auto good = co_await quarter(12, notes);
    notes.push_back(good.value().substr(0, 1));
    const auto bad = co_await quarter(6, notes);
    notes.push_back(bad.error() == std::errc::invalid_argument ? "invalid" : "valid");
    CHECK(coroutine_frames().alive() == before);
}

TEST_CASE("or_return goes on with a value, or ends the task with the error") {
    Reactor reactor;
    Notes notes;
    run(reactor, quarters(notes));
    CHECK(notes == Notes{"end of half", "end of half", "to the end", "end of quarter", "3", "end of half",
                         "end of half", "end of quarter", "invalid"});
    CHECK(run(reactor, quarter(7, notes)).error() == std::errc::invalid_argument);
}
