// The cost of a timer among a million: to add, to cancel, to move to a later time and to fire. Measured with
// one duration for all, as idle timeouts have it, and with durations as they come. libevent's queue for equal durations
// and its heap, libev's and libuv's heaps are measured, too. Punctuality is not.
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#ifdef WITH_LIBEV
#include "libev.hpp"
#endif
#ifdef WITH_LIBEVENT
#include <event2/event.h>
#include <event2/event_struct.h>
#endif
#ifdef WITH_LIBUV
#include <uv.h>
#endif

namespace {

using std::chrono::milliseconds;

constexpr std::size_t count = 1'000'000;
std::uint64_t fired = 0;

// The same durations for everybody. The near ones are long enough to set a million of them first.
const std::vector<milliseconds>& durations(bool equal, bool near) {
    const auto make = [](bool same, std::int64_t shortest, std::int64_t longest) {
        std::vector<milliseconds> made;
        std::uint64_t state = 88172645463325252ULL;
        for (std::size_t i = 0; i < count; ++i) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            made.emplace_back(same ? longest : shortest + std::int64_t(state % std::uint64_t(longest - shortest)));
        }
        return made;
    };
    static const std::vector<milliseconds> all[] = {make(false, 10'000, 60'000), make(true, 10'000, 60'000),
                                                    make(false, 1'500, 2'000), make(true, 1'500, 2'000)};
    return all[(near ? 2 : 0) + (equal ? 1 : 0)];
}

class OnReactor {
public:
    explicit OnReactor(bool) {
        for (std::size_t i = 0; i < count; ++i) timers_.emplace_back(reactor_, [] { ++fired; });
    }
    void start(std::size_t place, milliseconds after) { timers_[place].start(after); }
    void move(std::size_t place, milliseconds after) { timers_[place].start(after); }
    void cancel(std::size_t place) { timers_[place].cancel(); }
    void turn() { reactor_.run_once(reactor::Duration::zero()); }

private:
    reactor::Reactor reactor_;
    std::deque<reactor::Timer> timers_;
};

// As the connections' idle timeouts use it: a deadline from the time that the turn knows, no closure.
class OnTimerQueue {
public:
    explicit OnTimerQueue(bool) : nodes_(count) {}
    OnTimerQueue(const OnTimerQueue&) = delete;
    ~OnTimerQueue() {
        for (Node& node : nodes_) queue_.cancel(node);
    }
    void start(std::size_t place, milliseconds after) { queue_.schedule(nodes_[place], now_ + after); }
    void move(std::size_t place, milliseconds after) { queue_.schedule(nodes_[place], now_ + after); }
    void cancel(std::size_t place) { queue_.cancel(nodes_[place]); }
    void turn() {
        now_ = reactor::Clock::monotonic().now();
        queue_.run_due(now_);
    }

private:
    struct Node final : reactor::TimerQueue::Node {
        void due() override { ++fired; }
    };
    reactor::TimerQueue queue_;
    reactor::TimePoint now_ = reactor::Clock::monotonic().now();
    std::deque<Node> nodes_;
};

#ifdef WITH_LIBEVENT
template <bool common>
class OnLibevent {
public:
    explicit OnLibevent(bool near) : base_(event_base_new()), events_(count) {
        for (event& one : events_)
            evtimer_assign(
                &one, base_, [](evutil_socket_t, short, void*) { ++fired; }, nullptr);
        const timeval longest{near ? 2 : 60, 0};
        if (common) common_ = event_base_init_common_timeout(base_, &longest);
    }
    OnLibevent(const OnLibevent&) = delete;
    ~OnLibevent() {
        for (event& one : events_) event_del(&one);
        event_base_free(base_);
    }
    void start(std::size_t place, milliseconds after) {
        const timeval time{after.count() / 1000, after.count() % 1000 * 1000};
        event_add(&events_[place], common ? common_ : &time);
    }
    void move(std::size_t place, milliseconds after) { start(place, after); }
    void cancel(std::size_t place) { event_del(&events_[place]); }
    void turn() { event_base_loop(base_, EVLOOP_NONBLOCK); }

private:
    event_base* base_;
    const timeval* common_ = nullptr;
    std::vector<event> events_;
};
#endif

#ifdef WITH_LIBEV
class OnLibev {
public:
    explicit OnLibev(bool) : loop_(ev_loop_new(0)), timers_(count) {
        for (ev_timer& one : timers_)
            bench::prepare(one, 1., nullptr, [](struct ev_loop*, ev_timer*, int) { ++fired; });
    }
    OnLibev(const OnLibev&) = delete;
    ~OnLibev() {
        for (ev_timer& one : timers_) ev_timer_stop(loop_, &one);
        ev_loop_destroy(loop_);
    }
    void start(std::size_t place, milliseconds after) {
        bench::set_after(timers_[place], double(after.count()) / 1e3);
        ev_timer_start(loop_, &timers_[place]);
    }
    void move(std::size_t place, milliseconds after) {
        timers_[place].repeat = double(after.count()) / 1e3;
        ev_timer_again(loop_, &timers_[place]);
    }
    void cancel(std::size_t place) { ev_timer_stop(loop_, &timers_[place]); }
    void turn() {
        ev_now_update(loop_);
        ev_run(loop_, EVRUN_NOWAIT);
    }

private:
    struct ev_loop* loop_;
    std::vector<ev_timer> timers_;
};
#endif

#ifdef WITH_LIBUV
class OnLibuv {
public:
    explicit OnLibuv(bool) : timers_(count) {
        uv_loop_init(&loop_);
        for (uv_timer_t& one : timers_) uv_timer_init(&loop_, &one);
    }
    OnLibuv(const OnLibuv&) = delete;
    ~OnLibuv() {
        for (uv_timer_t& one : timers_) uv_close(reinterpret_cast<uv_handle_t*>(&one), nullptr);
        uv_run(&loop_, UV_RUN_DEFAULT);
        uv_loop_close(&loop_);
    }
    void start(std::size_t place, milliseconds after) {
        uv_timer_start(
            &timers_[place], [](uv_timer_t*) { ++fired; }, std::uint64_t(after.count()), 0);
    }
    void move(std::size_t place, milliseconds after) { start(place, after); }
    void cancel(std::size_t place) { uv_timer_stop(&timers_[place]); }
    void turn() {
        uv_update_time(&loop_);
        uv_run(&loop_, UV_RUN_NOWAIT);
    }

private:
    uv_loop_t loop_{};
    std::vector<uv_timer_t> timers_;
};
#endif

enum class What { add, cancel, rearm, fire, traffic };

template <class Timers>
void measure(benchmark::State& state, What what, bool equal) {
    const bool near = what == What::fire;
    const auto& times = durations(equal, near);
    const auto timers = std::make_unique<Timers>(near);
    const auto all = [&](const auto& call) {
        for (std::size_t i = 0; i < count; ++i) {
            call(i);
            if (i % 1000 == 0) timers->turn();  // time goes on, also where the turn's time is used
        }
    };
    const auto start_all = [&] { all([&](std::size_t i) { timers->start(i, times[i]); }); };
    const auto move_all = [&] { all([&](std::size_t i) { timers->move(i, times[i]); }); };
    const auto cancel_all = [&] { all([&](std::size_t i) { timers->cancel(i); }); };
    const auto timed = [&](const auto& work) {
        const auto begin = std::chrono::steady_clock::now();
        work();
        state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    };
    if (what == What::traffic) {  // a thousand connections, each heard of in every turn
        constexpr std::size_t busy = 1000;
        for (std::size_t i = 0; i < busy; ++i) timers->start(i, times[i]);
        for (auto _ : state)
            timed([&] {
                for (std::size_t turn = 0; turn < count / busy; ++turn) {
                    timers->turn();
                    for (std::size_t i = 0; i < busy; ++i) timers->move(i, times[i]);
                }
            });
        state.SetItemsProcessed(std::int64_t(state.iterations()) * std::int64_t(count));
        return;
    }
    for (auto _ : state) {
        timers->turn();
        if (what == What::add) {
            timed(start_all);
            cancel_all();
            continue;
        }
        start_all();
        if (what == What::cancel) timed(cancel_all);
        if (what == What::rearm) {
            timed(move_all);
            cancel_all();
        }
        if (what == What::fire) {
            std::this_thread::sleep_for(milliseconds(2100));
            const std::uint64_t before = fired;
            timed([&] { timers->turn(); });
            if (fired - before != count) state.SkipWithError("not all have fired");
        }
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * std::int64_t(count));
}

template <class Timers>
void register_all(const std::string& name, bool equal, bool any) {
    const std::pair<const char*, What> all[] = {{"add", What::add},
                                                {"cancel", What::cancel},
                                                {"re-arm", What::rearm},
                                                {"fire", What::fire},
                                                {"re-arm a thousand each turn", What::traffic}};
    for (const auto& [word, what] : all)
        for (const bool same : {true, false}) {
            if (same ? !equal : !any) continue;
            const std::string title = "timers/" + name + "/" + word + (same ? ", one duration" : ", any duration");
            benchmark::RegisterBenchmark(
                title.c_str(), [what = what, same](benchmark::State& state) { measure<Timers>(state, what, same); })
                ->UseManualTime()
                ->Unit(benchmark::kMillisecond)
                ->Iterations(2);
        }
}

const bool registered = [] {
    register_all<OnReactor>("reactor Timer", true, true);
    register_all<OnTimerQueue>("reactor TimerQueue", true, true);
#ifdef WITH_LIBEVENT
    register_all<OnLibevent<true>>("libevent common", true, false);
    register_all<OnLibevent<false>>("libevent heap", true, true);
#endif
#ifdef WITH_LIBEV
    register_all<OnLibev>("libev", true, true);
#endif
#ifdef WITH_LIBUV
    register_all<OnLibuv>("libuv", true, true);
#endif
    return true;
}();

}  // namespace
