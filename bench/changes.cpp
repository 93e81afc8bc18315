// The cost of changing interest: to add and remove, and to turn the interest over and back between two waits,
// as a connection does that writes a little more than fits. The bare calls and other libraries are measured, too. There
// is no traffic here: nothing is ever ready, and the waits do not wait.
#include <reactor/reactor.hpp>

#include <benchmark/benchmark.h>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
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

constexpr std::size_t watched = 1000;

// Never readable; writable only where no handler has the interest: an eventfd at its highest value has no room.
int descriptor(std::size_t place) {
    static const std::vector<int> all = [] {
        std::vector<int> made;
        for (std::size_t i = 0; i < watched; ++i) {
            made.push_back(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
            if (made.back() < 0) throw std::system_error(errno, std::system_category(), "eventfd");
        }
        return made;
    }();
    return all[place];
}

// Each subject adds, removes, changes the interest to both directions or back to readable, and waits for nothing.

template <const char* backend>
class OnReactor {
public:
    void add(std::size_t place) {
        registrations_[place] = reactor_.watch(descriptor(place), reactor::Interest::readable, handler_);
    }
    void remove(std::size_t place) { registrations_[place].reset(); }
    void change(std::size_t place, bool both) {
        registrations_[place].set_interest(both ? reactor::Interest::readable | reactor::Interest::writable
                                                : reactor::Interest::readable);
    }
    void wait() { reactor_.run_once(reactor::Duration::zero()); }

private:
    struct Handler final : reactor::EventHandler {
    } handler_;
    reactor::Reactor reactor_{backend};
    std::vector<reactor::Registration> registrations_ = std::vector<reactor::Registration>(watched);
};

class OnBareEpoll {
public:
    OnBareEpoll() = default;
    OnBareEpoll(const OnBareEpoll&) = delete;
    ~OnBareEpoll() { ::close(epoll_); }
    void add(std::size_t place) { control(EPOLL_CTL_ADD, place, EPOLLIN); }
    void remove(std::size_t place) { control(EPOLL_CTL_DEL, place, 0); }
    void change(std::size_t place, bool both) { control(EPOLL_CTL_MOD, place, both ? EPOLLIN | EPOLLOUT : EPOLLIN); }
    void wait() { ::epoll_wait(epoll_, events_.data(), int(events_.size()), 0); }

private:
    void control(int operation, std::size_t place, std::uint32_t events) {
        epoll_event event{};
        event.events = events;
        event.data.u64 = place;
        ::epoll_ctl(epoll_, operation, descriptor(place), &event);
    }
    int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    std::array<epoll_event, 1024> events_{};
};

#ifdef WITH_LIBEVENT
class OnLibevent {
public:
    OnLibevent() : base_(event_base_new()), events_(watched) {
        for (std::size_t place = 0; place < watched; ++place) assign(place, EV_READ);
    }
    OnLibevent(const OnLibevent&) = delete;
    ~OnLibevent() {
        for (event& one : events_) event_del(&one);
        event_base_free(base_);
    }
    void add(std::size_t place) { event_add(&events_[place], nullptr); }
    void remove(std::size_t place) { event_del(&events_[place]); }
    void change(std::size_t place, bool both) {  // an event cannot change what it waits for while it is pending
        event_del(&events_[place]);
        assign(place, both ? EV_READ | EV_WRITE : EV_READ);
        event_add(&events_[place], nullptr);
    }
    void wait() { event_base_loop(base_, EVLOOP_NONBLOCK); }

private:
    void assign(std::size_t place, int events) {
        event_assign(
            &events_[place], base_, descriptor(place), short(events | EV_PERSIST), [](evutil_socket_t, short, void*) {},
            nullptr);
    }
    event_base* base_;
    std::vector<event> events_;
};
#endif

#ifdef WITH_LIBEV
class OnLibev {
public:
    OnLibev() : loop_(ev_loop_new(EVBACKEND_EPOLL)), watchers_(watched) {
        for (std::size_t place = 0; place < watched; ++place)
            bench::prepare(watchers_[place], descriptor(place), bench::libev_read, nullptr,
                           [](struct ev_loop*, ev_io*, int) {});
    }
    OnLibev(const OnLibev&) = delete;
    ~OnLibev() {
        for (ev_io& one : watchers_) ev_io_stop(loop_, &one);
        ev_loop_destroy(loop_);
    }
    void add(std::size_t place) { ev_io_start(loop_, &watchers_[place]); }
    void remove(std::size_t place) { ev_io_stop(loop_, &watchers_[place]); }
    void change(std::size_t place, bool both) {
        ev_io_stop(loop_, &watchers_[place]);
        bench::change(watchers_[place], descriptor(place),
                      both ? bench::libev_read | bench::libev_write : bench::libev_read);
        ev_io_start(loop_, &watchers_[place]);
    }
    void wait() { ev_run(loop_, EVRUN_NOWAIT); }

private:
    struct ev_loop* loop_;
    std::vector<ev_io> watchers_;
};
#endif

#ifdef WITH_LIBUV
class OnLibuv {
public:
    OnLibuv() : polls_(watched) {
        uv_loop_init(&loop_);
        for (std::size_t place = 0; place < watched; ++place) uv_poll_init(&loop_, &polls_[place], descriptor(place));
    }
    OnLibuv(const OnLibuv&) = delete;
    ~OnLibuv() {
        for (auto& one : polls_) uv_close(reinterpret_cast<uv_handle_t*>(&one), nullptr);
        uv_run(&loop_, UV_RUN_DEFAULT);
        uv_loop_close(&loop_);
    }
    void add(std::size_t place) { change(place, false); }
    void remove(std::size_t place) { uv_poll_stop(&polls_[place]); }
    void change(std::size_t place, bool both) {
        uv_poll_start(&polls_[place], both ? UV_READABLE | UV_WRITABLE : UV_READABLE, [](uv_poll_t*, int, int) {});
    }
    void wait() { uv_run(&loop_, UV_RUN_NOWAIT); }

private:
    uv_loop_t loop_{};
    std::vector<uv_poll_t> polls_;
};
#endif

// ── what is measured: a thousand times each, so that the wait's own cost is spread thin ──

template <class Subject>
void add_and_remove_between_waits(benchmark::State& state, Subject& subject) {
    for (auto _ : state) {
        for (std::size_t place = 0; place < watched; ++place) {
            subject.add(place);
            subject.remove(place);
        }
        subject.wait();
    }
}

template <class Subject>
void add_wait_remove(benchmark::State& state, Subject& subject) {
    for (auto _ : state) {
        for (std::size_t place = 0; place < watched; ++place) subject.add(place);
        subject.wait();
        for (std::size_t place = 0; place < watched; ++place) subject.remove(place);
    }
}

template <class Subject>
void turn_over_and_back_between_waits(benchmark::State& state, Subject& subject) {
    for (std::size_t place = 0; place < watched; ++place) subject.add(place);
    subject.wait();
    for (auto _ : state) {
        for (std::size_t place = 0; place < watched; ++place) {
            subject.change(place, true);
            subject.change(place, false);
        }
        subject.wait();
    }
    for (std::size_t place = 0; place < watched; ++place) subject.remove(place);
}

template <class Subject>
void run(benchmark::State& state, void (*measured)(benchmark::State&, Subject&)) {
    {
        const auto subject = std::make_unique<Subject>();
        measured(state, *subject);
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * std::int64_t(watched));
}

template <class Subject>
void register_all(const std::string& name) {
    const auto add = [&](const char* what, void (*measured)(benchmark::State&, Subject&)) {
        benchmark::RegisterBenchmark(("changes/" + name + "/" + what).c_str(),
                                     [measured](benchmark::State& state) { run<Subject>(state, measured); });
    };
    add("add and remove between waits", add_and_remove_between_waits<Subject>);
    add("over and back between waits", turn_over_and_back_between_waits<Subject>);
    add("add, wait, remove", add_wait_remove<Subject>);
}

constexpr char epoll_name[] = "epoll", poll_name[] = "poll", select_name[] = "select";

const bool registered = [] {
    register_all<OnBareEpoll>("bare epoll");
    register_all<OnReactor<epoll_name>>("reactor epoll");
    register_all<OnReactor<poll_name>>("reactor poll");
    register_all<OnReactor<select_name>>("reactor select");
#ifdef WITH_LIBEVENT
    register_all<OnLibevent>("libevent");
#endif
#ifdef WITH_LIBEV
    register_all<OnLibev>("libev");
#endif
#ifdef WITH_LIBUV
    register_all<OnLibuv>("libuv");
#endif
    return true;
}();

}  // namespace
