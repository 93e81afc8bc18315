// PulseAudio's client library, against a server whose sink plays into nothing.
#include "driven.hpp"

#include <reactor/adapters/pulseaudio.hpp>
#include <reactor/testing/manual_clock.hpp>

#include <doctest/doctest.h>
#include <pulse/pulseaudio.h>
#include <sys/time.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;
using namespace std::chrono_literals;

namespace {

struct Context {
    explicit Context(Reactor& the_reactor) : reactor(the_reactor), driver(std::in_place, reactor) {
        context = pa_context_new(driver->interface(), "reactor");
        REQUIRE(context != nullptr);
        pa_context_set_state_callback(
            context, [](pa_context*, void* self) { ++static_cast<Context*>(self)->changes; }, this);
        REQUIRE(pa_context_connect(context, ("unix:" + std::string(std::getenv("EMBEDDING_SOCKET"))).c_str(),
                                   PA_CONTEXT_NOAUTOSPAWN, nullptr) == 0);
        run_until(reactor, [&] { return pa_context_get_state(context) == PA_CONTEXT_READY; });
    }
    ~Context() { release(); }
    void release() {
        if (context != nullptr) pa_context_disconnect(context), pa_context_unref(context);
        context = nullptr;
    }

    std::string server() {
        std::string name;
        pa_operation_unref(pa_context_get_server_info(
            context,
            [](pa_context*, const pa_server_info* information, void* result) {
                *static_cast<std::string*>(result) = information->server_name;
            },
            &name));
        run_until(reactor, [&] { return !name.empty(); });
        return name;
    }

    Reactor& reactor;
    std::optional<PulseDriver> driver;
    pa_context* context = nullptr;
    int changes = 0;
};

}  // namespace

TEST_CASE("PulseAudio: the server answers") {
    Reactor reactor;
    Context context(reactor);
    CHECK(context.server() == "pulseaudio");
    CHECK(context.changes >= 4);  // connecting, authorizing, setting the name, ready
}

TEST_CASE("PulseAudio: a sample of a megabyte is stored and has its size there") {
    Reactor reactor;
    Context context(reactor);
    constexpr pa_sample_spec format{PA_SAMPLE_S16LE, 44'100, 2};
    struct Upload {
        std::size_t left = 1'000'000;
        std::uint32_t stored = 0;
    } upload;
    pa_stream* const stream = pa_stream_new(context.context, "sample", &format, nullptr);
    pa_stream_set_write_callback(
        stream,
        [](pa_stream* it, std::size_t room, void* self) {
            std::size_t& left = static_cast<Upload*>(self)->left;
            const std::vector<char> silence(std::min(left, room), '\0');
            if (!silence.empty()) pa_stream_write(it, silence.data(), silence.size(), nullptr, 0, PA_SEEK_RELATIVE);
            left -= silence.size();
            if (left == 0) pa_stream_finish_upload(it);
        },
        &upload);
    REQUIRE(pa_stream_connect_upload(stream, upload.left) == 0);
    run_until(reactor, [&] { return pa_stream_get_state(stream) == PA_STREAM_TERMINATED; });
    pa_stream_unref(stream);
    pa_operation_unref(pa_context_get_sample_info_by_name(
        context.context, "sample",
        [](pa_context*, const pa_sample_info* information, int, void* self) {
            if (information != nullptr) static_cast<Upload*>(self)->stored = information->bytes;
        },
        &upload));
    run_until(reactor, [&] { return upload.stored != 0; });
    CHECK(upload.stored == 1'000'000);
}

TEST_CASE("PulseAudio: a context outlives its driver, and stands still; another one ends before it") {
    Reactor reactor;
    Context outliving(reactor), other(reactor);
    const auto never = [](pa_context*, const pa_server_info*, void* context) {
        static_cast<Context*>(context)->changes += 1000;
    };
    pa_operation_unref(pa_context_get_server_info(outliving.context, never, &outliving));
    outliving.driver.reset();
    other.server();
    CHECK(outliving.changes < 1000);
    outliving.release();  // frees what it has asked the driver for
    other.release();
    other.driver.reset();
    CHECK(reactor.run_once(Duration::zero()) == 0);
    CHECK_FALSE(reactor.next_timeout().has_value());
}

TEST_CASE("PulseAudio: a driver may be destroyed in a callback") {
    Reactor reactor;
    Context context(reactor);
    pa_operation_unref(pa_context_get_server_info(
        context.context,
        [](pa_context*, const pa_server_info*, void* self) { static_cast<Context*>(self)->driver.reset(); }, &context));
    run_until(reactor, [&] { return !context.driver.has_value(); });
    CHECK(reactor.run_once(Duration::zero()) == 0);
}

TEST_CASE("PulseAudio: a time of the wall clock becomes a delay, one in the past is due at once, and null is never") {
    testing::ManualClock clock;
    Reactor reactor("auto", clock);
    const PulseDriver driver(reactor);
    pa_mainloop_api& api = *driver.interface();
    timeval later{}, past{};
    ::gettimeofday(&later, nullptr);
    later.tv_sec += 3600;
    struct Calls {
        int due = 0, destroyed = 0;
    } calls;
    pa_time_event* const event = api.time_new(
        &api, &later,
        [](pa_mainloop_api*, pa_time_event*, const timeval*, void* self) { ++static_cast<Calls*>(self)->due; }, &calls);
    api.time_set_destroy(event,
                         [](pa_mainloop_api*, pa_time_event*, void* self) { ++static_cast<Calls*>(self)->destroyed; });
    reactor.run_once(Duration::zero());
    REQUIRE(reactor.next_timeout().has_value());
    CHECK(*reactor.next_timeout() > 50min);
    CHECK(*reactor.next_timeout() <= 1h);
    clock.advance(1h);
    reactor.run_once(Duration::zero());
    CHECK(calls.due == 1);
    CHECK_FALSE(reactor.next_timeout().has_value());  // once
    api.time_restart(event, &past);
    reactor.run_once(Duration::zero());
    CHECK(calls.due == 2);
    api.time_restart(event, &later);
    api.time_restart(event, nullptr);
    CHECK_FALSE(reactor.next_timeout().has_value());
    CHECK(calls.destroyed == 0);
    api.time_free(event);
    CHECK(calls.destroyed == 1);
}

TEST_CASE("PulseAudio: a deferred event comes in every iteration until it is disabled, and may free itself") {
    Reactor reactor;
    const PulseDriver driver(reactor);
    pa_mainloop_api& api = *driver.interface();
    int calls = 0;
    pa_defer_event* const event = api.defer_new(
        &api,
        [](pa_mainloop_api* interface, pa_defer_event* it, void* count) {
            if (++*static_cast<int*>(count) == 4) interface->defer_free(it);
        },
        &calls);
    reactor.run_once();
    reactor.run_once();
    CHECK(calls == 2);
    api.defer_enable(event, 0);
    CHECK_FALSE(reactor.next_timeout().has_value());
    api.defer_enable(event, 1);
    run_until(reactor, [&] { return calls == 4; });
    CHECK_FALSE(reactor.next_timeout().has_value());
    pa_mainloop_api_once(
        &api, [](pa_mainloop_api*, void* count) { ++*static_cast<int*>(count); }, &calls);
    run_until(reactor, [&] { return calls == 5; });
    api.quit(&api, 0);
    reactor.run();  // returns
}

TEST_CASE(
    "PulseAudio: what a driver was asked for comes no more when the driver has gone, and is freed with its call") {
    Reactor reactor;
    std::optional<PulseDriver> driver(std::in_place, reactor);
    const pa_mainloop_api api = *driver->interface();
    int calls = 0;
    pa_defer_event* const event = api.defer_new(
        driver->interface(), [](pa_mainloop_api*, pa_defer_event*, void* count) { ++*static_cast<int*>(count); },
        &calls);
    api.defer_set_destroy(event, [](pa_mainloop_api* interface, pa_defer_event*, void* count) {
        *static_cast<int*>(count) = 100;
        interface->quit(interface, 0);  // stops nothing any more
    });
    driver.reset();
    reactor.run_once(Duration::zero());
    api.defer_enable(event, 1);
    reactor.run_once(Duration::zero());
    CHECK(calls == 0);
    api.defer_free(event);
    CHECK(calls == 100);
    CHECK(reactor.run_once(Duration::zero()) == 0);
}

TEST_CASE("PulseAudio: the cost of a question") {
    Reactor reactor;
    Context context(reactor);
    constexpr int questions = 100;
    const Cost cost = cost_of(reactor, "PulseAudio: a question to the server", questions, [&] {
        for (int i = 0; i < questions; ++i) context.server();
    });
    CHECK(cost.iterations <= 6);
}
