#include "inside.hpp"

#include <reactor/adapters/inside_libuv.hpp>

#include <memory>

using namespace reactor;
using namespace reactor::adapters;

TEST_CASE("Inside libuv's loop a reactor does all that it does alone") {
    uv_loop_t loop;
    REQUIRE(uv_loop_init(&loop) == 0);
    {
        Reactor reactor;
        auto driver = std::make_unique<UvDriver>(reactor, &loop);
        check_inside("libuv", {[&] { uv_run(&loop, UV_RUN_ONCE); },
                               [&](std::function<void()> call) {
                                   auto* const timer = new uv_timer_t;
                                   uv_timer_init(&loop, timer);
                                   timer->data = new std::function<void()>(std::move(call));
                                   uv_timer_start(
                                       timer,
                                       [](uv_timer_t* due) {
                                           auto* const kept = static_cast<std::function<void()>*>(due->data);
                                           (*kept)();
                                           delete kept;
                                           uv_close(reinterpret_cast<uv_handle_t*>(due), [](uv_handle_t* handle) {
                                               delete reinterpret_cast<uv_timer_t*>(handle);
                                           });
                                       },
                                       1, 0);
                               },
                               [&]() -> Reactor& { return reactor; }});
        const Timer timer = reactor.after(Duration::zero(), [&] { driver.reset(); });  // in its own call
        while (driver != nullptr) uv_run(&loop, UV_RUN_ONCE);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE("Inside libuv: one more iteration of its loop closes all that the driver has made") {
    uv_loop_t loop;
    REQUIRE(uv_loop_init(&loop) == 0);
    {
        Reactor reactor;
        UvDriver driver(reactor, &loop);
        bool called = false;
        const Timer timer = reactor.after(Duration::zero(), [&] { called = true; });
        while (!called) uv_run(&loop, UV_RUN_ONCE);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK(uv_loop_close(&loop) == 0);
}
