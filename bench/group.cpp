// How many loops are how much faster than one: messages go there and back between the two ends of connections, of which
// each loop has its own, both ends. So nobody outside has to keep up with the server, and what keeps two loops from
// being twice as fast is what they share: the machine, the kernel and, if it shares anything, the library. Beside the
// rate stands the rate by processor time, which tells the same on a machine that others use too. The second measurement
// hands a living connection from loop to loop, there and back.
#include <reactor/net/connection.hpp>
#include <reactor/reactor_group.hpp>

#include <benchmark/benchmark.h>

#include <ctime>

#include <cstdint>
#include <memory>
#include <vector>

namespace {

using namespace reactor;

constexpr int connections = 8;  // of each loop
constexpr int trips = 20'000;   // of each loop
constexpr int moves = 2'000;

struct Count {
    Reactor* reactor;
    int left;
};

// Sends back what it receives, until enough has come and gone.
class Player final : public Protocol {
public:
    Player(Count* count) : count_(count) {}

private:
    void connected() override {
        if (count_ != nullptr) transport().write("sixty-four bytes are what the other measurements send, or nearly");
    }
    std::size_t received(Bytes input) override {
        if (count_ == nullptr || --count_->left > 0) {
            transport().write(input);
        } else {
            count_->reactor->stop();
        }
        return input.size();
    }
    Count* count_;  // of the end that counts; null: of the other
};

double processor_time(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

void there_and_back(benchmark::State& state) {
    const std::size_t threads = std::size_t(state.range(0));
    double used = 0;
    for (auto _ : state) {
        state.PauseTiming();
        std::vector<Count> counts(threads);
        std::vector<double> times(threads);
        auto group = std::make_unique<ReactorGroup>(ReactorGroupOptions{threads, "epoll", {}});
        for (std::size_t i = 0; i < threads; ++i) {
            counts[i] = {&(*group)[i], trips};
            for (int j = 0; j < connections; ++j) {
                auto [one, other] = Socket::pair();
                Connection::open((*group)[i], std::move(one), std::make_unique<Player>(&counts[i]));
                Connection::open((*group)[i], std::move(other), std::make_unique<Player>(nullptr));
            }
        }
        state.ResumeTiming();
        group->start([&](Reactor& reactor, std::size_t index) {
            const double begin = processor_time(CLOCK_THREAD_CPUTIME_ID);
            reactor.run();
            times[index] = processor_time(CLOCK_THREAD_CPUTIME_ID) - begin;
        });
        group->join();
        state.PauseTiming();
        group.reset();
        for (const double time : times) used += time;
        state.ResumeTiming();
    }
    const std::int64_t done = std::int64_t(state.iterations()) * std::int64_t(threads) * trips;
    state.SetItemsProcessed(done);
    state.counters["per_cpu_second"] = double(done) / used;
}

void handed_over_and_back(benchmark::State& state) {
    for (auto _ : state) {
        ReactorGroup group({2, "epoll", {}});
        auto [one, other] = Socket::pair();
        Connection& connection = Connection::open(group[0], std::move(one), std::make_unique<Player>(nullptr));
        int left = moves;
        struct Next {
            ReactorGroup& group;
            Connection& connection;
            int& left;
            void operator()() const {
                if (--left == 0) return group.stop();
                connection.move_to(group[std::size_t(left % 2)], *this);
            }
        };
        connection.move_to(group[1], Next{group, connection, left});
        group.start();
        group.join();
    }
    state.SetItemsProcessed(std::int64_t(state.iterations()) * moves);
}

const bool registered = [] {
    benchmark::RegisterBenchmark("group/there and back, loops", there_and_back)->Arg(1)->Arg(2)->UseRealTime();
    benchmark::RegisterBenchmark("group/a connection handed over", handed_over_and_back)->UseRealTime();
    return true;
}();

}  // namespace
