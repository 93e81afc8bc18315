// sd-event inside the loop.
#include "driven.hpp"

#include <reactor/adapters/sd_event.hpp>

#include <doctest/doctest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Loop {
    Loop() { REQUIRE(sd_event_new(&event) >= 0); }
    ~Loop() { sd_event_unref(event); }
    sd_event* event = nullptr;
};

std::uint64_t in_milliseconds(int milliseconds) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::uint64_t(now.tv_sec) * 1'000'000 + std::uint64_t(now.tv_nsec) / 1000 +
           std::uint64_t(milliseconds) * 1000;
}

}  // namespace

TEST_CASE("sd-event: its descriptors, timers and deferred sources run in the loop") {
    Reactor reactor;
    Loop loop;
    SdEventDriver driver(reactor, loop.event);
    int calls = 0;
    const FileDescriptor descriptor(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    sd_event_add_io(
        driver.event(), nullptr, descriptor.get(), EPOLLIN,
        [](sd_event_source* source, int number, std::uint32_t, void* count) {
            eventfd_t value = 0;
            eventfd_read(number, &value);
            ++*static_cast<int*>(count);
            return sd_event_source_set_enabled(source, SD_EVENT_ON);
        },
        &calls);
    eventfd_write(descriptor.get(), 1);
    run_until(reactor, [&] { return calls == 1; });
    const auto due = [](sd_event_source*, std::uint64_t, void* count) { return ++*static_cast<int*>(count), 0; };
    sd_event_add_time(driver.event(), nullptr, CLOCK_MONOTONIC, in_milliseconds(5), 1, due, &calls);
    run_until(reactor, [&] { return calls == 2; });
    sd_event_add_defer(
        driver.event(), nullptr, [](sd_event_source*, void* count) { return ++*static_cast<int*>(count), 0; }, &calls);
    run_until(reactor, [&] { return calls == 3; });
    const std::uint64_t before = reactor.counters().turns;
    for (int i = 0; i < 3; ++i) reactor.run_once(Duration::zero());
    CHECK(reactor.counters().turns - before == 3);
    CHECK_FALSE(reactor.next_timeout().has_value());  // at rest
}

TEST_CASE("sd-event: a source that is added while it sleeps is armed at once") {
    Reactor reactor;
    Loop loop;
    SdEventDriver driver(reactor, loop.event);
    for (int i = 0; i < 3; ++i) reactor.run_once(Duration::zero());
    bool due = false;
    const Timer later = reactor.after(std::chrono::milliseconds(1), [&] {
        sd_event_add_time(
            driver.event(), nullptr, CLOCK_MONOTONIC, in_milliseconds(1), 1,
            [](sd_event_source*, std::uint64_t, void* flag) { return *static_cast<bool*>(flag) = true, 0; }, &due);
    });
    run_until(reactor, [&] { return due; });
}

TEST_CASE("sd-event: its end is seen, and the loop goes on") {
    Reactor reactor;
    Loop loop;
    SdEventDriver driver(reactor, loop.event);
    sd_event_exit(driver.event(), 3);
    run_until(reactor, [&] { return driver.state() == SD_EVENT_FINISHED; });
    CHECK(reactor.run_once(Duration::zero()) == 0);
}

TEST_CASE("sd-event: a descriptor that is ready costs two iterations") {
    Reactor reactor;
    Loop loop;
    SdEventDriver driver(reactor, loop.event);
    struct Echo {
        int left, descriptor;
    } echo{100, ::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC)};
    const FileDescriptor owner(echo.descriptor);
    sd_event_add_io(
        driver.event(), nullptr, echo.descriptor, EPOLLIN,
        [](sd_event_source*, int number, std::uint32_t, void* data) {
            eventfd_t value = 0;
            eventfd_read(number, &value);
            if (--static_cast<Echo*>(data)->left > 0) eventfd_write(number, 1);
            return 0;
        },
        &echo);
    const Cost cost = cost_of(reactor, "sd-event: a descriptor that is ready", 100,
                              [&] { run_until(reactor, [&] { return echo.left == 0; }); });
    CHECK(cost.iterations <= 2.1);
    CHECK(cost.changes <= 0.1);
}
