// The cost of reaching a loop from another thread: how many tasks a second one thread can post to it, and how long
// one takes there and back between two loops. The floor is the same written by hand on eventfd; libuv's and libev's
// async handles, which carry no task and merge, are measured with the second.
#include <reactor/reactor.hpp>

#include <benchmark/benchmark.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

#ifdef WITH_LIBEV
#include "libev.hpp"
#endif
#ifdef WITH_LIBUV
#include <uv.h>
#endif

namespace {

constexpr std::int64_t posts = 100'000;
constexpr std::int64_t trips = 5'000;

void post_from_another_thread(benchmark::State& state, const std::string& backend) {
    for (auto _ : state) {
        reactor::Reactor loop(backend);
        std::int64_t ran = 0;
        std::thread poster([&] {
            for (std::int64_t i = 0; i < posts; ++i)
                loop.post([&] {
                    if (++ran == posts) loop.stop();
                });
        });
        loop.run();
        poster.join();
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * posts);
}

void post_from_its_own_thread(benchmark::State& state, const std::string& backend) {
    reactor::Reactor loop(backend);
    std::int64_t ran = 0;
    for (auto _ : state) {
        for (std::int64_t i = 0; i < 1000; ++i) loop.post([&] { ++ran; });
        loop.run_once(reactor::Duration::zero());
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * 1000);
}

void there_and_back(benchmark::State& state, const std::string& backend) {
    for (auto _ : state) {
        reactor::Reactor here(backend), there(backend);
        std::thread other([&] { there.run(); });
        std::int64_t left = trips;
        struct Trip {
            reactor::Reactor& here;
            reactor::Reactor& there;
            std::int64_t& left;
            void operator()() const {
                if (left-- == 0) {
                    there.stop();
                    here.stop();
                    return;
                }
                there.post([trip = *this] { trip.here.post(trip); });
            }
        };
        here.post(Trip{here, there, left});
        here.run();
        other.join();
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * trips);
}

void bare_there_and_back(benchmark::State& state) {
    for (auto _ : state) {
        const int here = ::eventfd(0, EFD_CLOEXEC), there = ::eventfd(0, EFD_CLOEXEC);
        std::thread other([&] {
            std::uint64_t value = 0;
            for (std::int64_t i = 0; i < trips; ++i) {
                if (::read(there, &value, sizeof value) < 0) return;
                value = 1;
                if (::write(here, &value, sizeof value) < 0) return;
            }
        });
        for (std::int64_t i = 0; i < trips; ++i) {
            std::uint64_t value = 1;
            if (::write(there, &value, sizeof value) < 0 || ::read(here, &value, sizeof value) < 0) break;
        }
        other.join();
        ::close(here);
        ::close(there);
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * trips);
}

#ifdef WITH_LIBUV
void libuv_there_and_back(benchmark::State& state) {
    struct Side {
        uv_loop_t loop{};
        uv_async_t async{};
        Side* other = nullptr;
        std::int64_t left = trips;
    };
    for (auto _ : state) {
        Side here, there;
        for (Side* side : {&here, &there}) {
            uv_loop_init(&side->loop);
            side->other = side == &here ? &there : &here;
            side->async.data = side;
            uv_async_init(&side->loop, &side->async, [](uv_async_t* handle) {
                auto& at = *static_cast<Side*>(handle->data);
                uv_async_send(&at.other->async);
                if (--at.left == 0) uv_stop(&at.loop);
            });
        }
        std::thread other([&] { uv_run(&there.loop, UV_RUN_DEFAULT); });
        uv_async_send(&there.async);
        uv_run(&here.loop, UV_RUN_DEFAULT);
        other.join();
        for (Side* side : {&here, &there}) {
            uv_close(reinterpret_cast<uv_handle_t*>(&side->async), nullptr);
            uv_run(&side->loop, UV_RUN_DEFAULT);
            uv_loop_close(&side->loop);
        }
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * trips);
}
#endif

#ifdef WITH_LIBEV
void libev_there_and_back(benchmark::State& state) {
    struct Side {
        struct ev_loop* loop = ev_loop_new(EVBACKEND_EPOLL);
        ev_async async{};
        Side* other = nullptr;
        std::int64_t left = trips;
    };
    for (auto _ : state) {
        Side here, there;
        for (Side* side : {&here, &there}) {
            side->other = side == &here ? &there : &here;
            bench::prepare(side->async, side, [](struct ev_loop* loop, ev_async* watcher, int) {
                auto& at = *static_cast<Side*>(watcher->data);
                ev_async_send(at.other->loop, &at.other->async);
                if (--at.left == 0) ev_break(loop, EVBREAK_ALL);
            });
            ev_async_start(side->loop, &side->async);
        }
        std::thread other([&] { ev_run(there.loop, 0); });
        ev_async_send(there.loop, &there.async);
        ev_run(here.loop, 0);
        other.join();
        for (Side* side : {&here, &there}) {
            ev_async_stop(side->loop, &side->async);
            ev_loop_destroy(side->loop);
        }
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * trips);
}
#endif

const bool registered = [] {
    const auto add = [](const std::string& name, auto function) {
        benchmark::RegisterBenchmark(("wakeup/" + name).c_str(), function)->UseRealTime();
    };
    add("bare eventfd/there and back", bare_there_and_back);
    for (const std::string backend : {"epoll", "poll", "select"}) {
        add("reactor " + backend + "/there and back",
            [backend](benchmark::State& state) { there_and_back(state, backend); });
        add("reactor " + backend + "/post from another thread",
            [backend](benchmark::State& state) { post_from_another_thread(state, backend); });
        add("reactor " + backend + "/post from its own thread",
            [backend](benchmark::State& state) { post_from_its_own_thread(state, backend); });
    }
#ifdef WITH_LIBUV
    add("libuv/there and back", libuv_there_and_back);
#endif
#ifdef WITH_LIBEV
    add("libev/there and back", libev_there_and_back);
#endif
    return true;
}();

}  // namespace
