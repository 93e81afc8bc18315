// The cost of finding the ready descriptors and calling their handlers: the chain that libevent was first measured
// with. N descriptors are watched, A tokens travel, and each handler that receives one writes it to its neighbour,
// until W were written. The same loop is here written by hand on the bare calls, which is the floor, and on other
// libraries where they are installed. The reads and writes of the tokens are in every figure, the same in all.
#include <reactor/demultiplexer.hpp>
#include <reactor/reactor.hpp>

#include <benchmark/benchmark.h>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
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

// The watched descriptors, and the tokens that travel along them. An eventfd is one descriptor where a pipe is two, and
// as a semaphore it gives back one token at a time, as a pipe would.
class Chain {
public:
    explicit Chain(std::size_t length) : length_(length) {
        while (links().size() < length) {
            const int link = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC | EFD_SEMAPHORE);
            if (link < 0) throw std::system_error(errno, std::system_category(), "eventfd");
            links().push_back(link);
        }
    }

    std::size_t length() const noexcept { return length_; }
    int descriptor(std::size_t place) const { return links()[place]; }

    /// Sends `active` tokens on their way, evenly spread; they make `writes` steps together.
    void begin(std::size_t active, std::size_t writes) {
        to_read_ = writes;
        to_write_ = writes - active;
        for (std::size_t i = 0; i < active; ++i) write_to(i * (length_ / active));
    }

    bool done() const noexcept { return to_read_ == 0; }

    void received(std::size_t place) {
        std::uint64_t token = 0;
        if (::read(links()[place], &token, sizeof token) != sizeof token) return;
        --to_read_;
        if (to_write_ == 0) return;
        --to_write_;
        write_to(place + 1 == length_ ? 0 : place + 1);
    }

private:
    // Shared by all, and kept: ten thousand descriptors take longer to make than to measure.
    static std::vector<int>& links() {
        static std::vector<int> all;
        return all;
    }

    void write_to(std::size_t place) {
        const std::uint64_t token = 1;
        if (::write(links()[place], &token, sizeof token) != sizeof token)
            throw std::system_error(errno, std::system_category(), "write");
    }

    std::size_t length_;
    std::size_t to_read_ = 0, to_write_ = 0;
};

// ── ours ──

template <const char* backend>
class OnReactor {
public:
    explicit OnReactor(Chain& chain) : reactor_(backend) {
        for (std::size_t place = 0; place < chain.length(); ++place) {
            Link& link = links_.emplace_back(chain, place);
            link.registration = reactor_.watch(chain.descriptor(place), reactor::Interest::readable, link);
        }
    }
    void turn() { reactor_.run_once(); }

private:
    struct Link final : reactor::EventHandler {
        Link(Chain& owner, std::size_t index) : chain(owner), place(index) {}
        void readable() override { chain.received(place); }
        Chain& chain;
        std::size_t place;
        reactor::Registration registration;
    };
    reactor::Reactor reactor_;
    std::deque<Link> links_;
};

// ── by hand ──

class OnBareEpoll {
public:
    explicit OnBareEpoll(Chain& chain) : chain_(chain), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        for (std::size_t place = 0; place < chain.length(); ++place) {
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.u64 = place;
            ::epoll_ctl(epoll_, EPOLL_CTL_ADD, chain.descriptor(place), &event);
        }
    }
    OnBareEpoll(const OnBareEpoll&) = delete;
    ~OnBareEpoll() { ::close(epoll_); }
    void turn() {
        const int count = ::epoll_wait(epoll_, events_.data(), int(events_.size()), -1);
        for (int i = 0; i < count; ++i) chain_.received(std::size_t(events_[std::size_t(i)].data.u64));
    }

private:
    Chain& chain_;
    int epoll_;
    std::array<epoll_event, 1024> events_{};
};

class OnBarePoll {
public:
    explicit OnBarePoll(Chain& chain) : chain_(chain) {
        for (std::size_t place = 0; place < chain.length(); ++place)
            watched_.push_back({chain.descriptor(place), POLLIN, 0});
    }
    void turn() {
        int left = ::poll(watched_.data(), nfds_t(watched_.size()), -1);
        for (std::size_t place = 0; left > 0 && place < watched_.size(); ++place) {
            if (watched_[place].revents == 0) continue;
            --left;
            chain_.received(place);
        }
    }

private:
    Chain& chain_;
    std::vector<pollfd> watched_;
};

class OnBareSelect {
public:
    explicit OnBareSelect(Chain& chain) : chain_(chain) {
        const auto highest = std::size_t(chain.descriptor(chain.length() - 1));
        words_.resize(highest / word_bits + 1);
        places_.resize(highest + 1);
        for (std::size_t place = 0; place < chain.length(); ++place) {
            const auto descriptor = std::size_t(chain.descriptor(place));
            words_[descriptor / word_bits] |= Word(1) << (descriptor % word_bits);
            places_[descriptor] = place;
        }
        ready_ = words_;
    }
    void turn() {
        std::copy(words_.begin(), words_.end(), ready_.begin());
        int left = ::select(int(places_.size()), reinterpret_cast<fd_set*>(ready_.data()), nullptr, nullptr, nullptr);
        for (std::size_t word = 0; left > 0 && word < ready_.size(); ++word)
            for (Word bits = ready_[word]; bits != 0; bits &= bits - 1, --left)
                chain_.received(places_[word * word_bits + std::size_t(std::countr_zero(bits))]);
    }

private:
    using Word = unsigned long;
    static constexpr std::size_t word_bits = sizeof(Word) * CHAR_BIT;
    Chain& chain_;
    std::vector<Word> words_, ready_;
    std::vector<std::size_t> places_;
};

// ── the others ──

template <class Handle>
struct Place {
    Chain* chain = nullptr;
    std::size_t place = 0;
    Handle handle{};
};

#ifdef WITH_LIBEVENT
class OnLibevent {
public:
    explicit OnLibevent(Chain& chain) : base_(event_base_new()), places_(chain.length()) {
        for (std::size_t place = 0; place < chain.length(); ++place) {
            Place<event>& one = places_[place];
            one.chain = &chain;
            one.place = place;
            event_assign(
                &one.handle, base_, chain.descriptor(place), EV_READ | EV_PERSIST,
                [](evutil_socket_t, short, void* data) {
                    auto& at = *static_cast<Place<event>*>(data);
                    at.chain->received(at.place);
                },
                &one);
            event_add(&one.handle, nullptr);
        }
    }
    OnLibevent(const OnLibevent&) = delete;
    ~OnLibevent() {
        for (auto& one : places_) event_del(&one.handle);
        event_base_free(base_);
    }
    void turn() { event_base_loop(base_, EVLOOP_ONCE); }

private:
    event_base* base_;
    std::vector<Place<event>> places_;
};
#endif

#ifdef WITH_LIBEV
class OnLibev {
public:
    explicit OnLibev(Chain& chain) : loop_(ev_loop_new(EVBACKEND_EPOLL)), places_(chain.length()) {
        for (std::size_t place = 0; place < chain.length(); ++place) {
            Place<ev_io>& one = places_[place];
            one.chain = &chain;
            one.place = place;
            bench::prepare(one.handle, chain.descriptor(place), bench::libev_read, &one,
                           [](struct ev_loop*, ev_io* watcher, int) {
                               auto& at = *static_cast<Place<ev_io>*>(watcher->data);
                               at.chain->received(at.place);
                           });
            ev_io_start(loop_, &one.handle);
        }
    }
    OnLibev(const OnLibev&) = delete;
    ~OnLibev() {
        for (auto& one : places_) ev_io_stop(loop_, &one.handle);
        ev_loop_destroy(loop_);
    }
    void turn() { ev_run(loop_, EVRUN_ONCE); }

private:
    struct ev_loop* loop_;
    std::vector<Place<ev_io>> places_;
};
#endif

#ifdef WITH_LIBUV
class OnLibuv {
public:
    explicit OnLibuv(Chain& chain) : places_(chain.length()) {
        uv_loop_init(&loop_);
        for (std::size_t place = 0; place < chain.length(); ++place) {
            Place<uv_poll_t>& one = places_[place];
            one.chain = &chain;
            one.place = place;
            one.handle.data = &one;
            uv_poll_init(&loop_, &one.handle, chain.descriptor(place));
            uv_poll_start(&one.handle, UV_READABLE, [](uv_poll_t* handle, int, int) {
                auto& at = *static_cast<Place<uv_poll_t>*>(handle->data);
                at.chain->received(at.place);
            });
        }
    }
    OnLibuv(const OnLibuv&) = delete;
    ~OnLibuv() {
        for (auto& one : places_) uv_close(reinterpret_cast<uv_handle_t*>(&one.handle), nullptr);
        uv_run(&loop_, UV_RUN_DEFAULT);
        uv_loop_close(&loop_);
    }
    void turn() { uv_run(&loop_, UV_RUN_ONCE); }

private:
    uv_loop_t loop_{};
    std::vector<Place<uv_poll_t>> places_;
};
#endif

// ── the measurement ──

template <class Loop>
void measure(benchmark::State& state) {
    const auto watched = std::size_t(state.range(0)), active = std::size_t(state.range(1));
    const auto writes = std::size_t(state.range(2));
    try {
        Chain chain(watched);
        const auto loop = std::make_unique<Loop>(chain);
        const auto lap = [&] {
            chain.begin(active, writes);
            while (!chain.done()) loop->turn();
        };
        lap();  // the first touches everything for the first time
        for (auto _ : state) lap();
        state.SetItemsProcessed(std::int64_t(state.iterations()) * std::int64_t(writes));
    } catch (const std::exception& error) {
        state.SkipWithError(error.what());
    }
}

void register_all(const std::string& name, void (*function)(benchmark::State&)) {
    auto* benchmark = benchmark::RegisterBenchmark(("dispatch/" + name).c_str(), function);
    benchmark->ArgNames({"watched", "active", "writes"})->Unit(benchmark::kMicrosecond);
    // Where select and poll walk ten thousand for each token, a hundred tokens are enough.
    for (const int watched : {100, 1000, 10000})
        for (const int active : {1, 100, 1000})
            if (active <= watched) benchmark->Args({watched, active, active == 1 && watched == 10000 ? 100 : 1000});
}

constexpr char epoll_name[] = "epoll", poll_name[] = "poll", select_name[] = "select";

const bool registered = [] {
    register_all("bare epoll", measure<OnBareEpoll>);
    register_all("reactor epoll", measure<OnReactor<epoll_name>>);
    register_all("bare poll", measure<OnBarePoll>);
    register_all("reactor poll", measure<OnReactor<poll_name>>);
    register_all("bare select", measure<OnBareSelect>);
    register_all("reactor select", measure<OnReactor<select_name>>);
#ifdef WITH_LIBEVENT
    register_all("libevent", measure<OnLibevent>);
#endif
#ifdef WITH_LIBEV
    register_all("libev", measure<OnLibev>);
#endif
#ifdef WITH_LIBUV
    register_all("libuv", measure<OnLibuv>);
#endif
    return true;
}();

}  // namespace
