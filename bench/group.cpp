// How many loops are how much faster than one: messages go there and back between the two ends of connections, of which
// each loop has its own, both ends. So no other process has to keep up with the server. Two loops are less
// than twice as fast only because they share something: the machine, the kernel and, if it shares anything, the
// library. The rate by processor time is given beside the rate, and holds on a machine that others use too. The second
// measurement hands a living connection from loop to loop, there and back. The third is how fast connections are
// accepted by one loop, and by two in each of the ways in which they can share them.
#include <reactor/reactor_group.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/acceptor_sharing.hpp>
#include <reactor/stream/connection.hpp>

#include <benchmark/benchmark.h>

#include <sys/socket.h>

#include <ctime>

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <stdexcept>
#include <vector>

namespace {

using namespace reactor;

constexpr int connections = 8;  // of each loop
constexpr int trips = 20'000;   // of each loop
constexpr int moves = 2'000;
constexpr int accepts = 400;  // a client's descriptors and a server's stay below the usual limit

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
        auto group = std::make_unique<ReactorGroup>(threads, "epoll");
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
        ReactorGroup group(2, "epoll");
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

class Arrival final : public Protocol {
public:
    explicit Arrival(std::atomic<int>& count) : count_(count) {}

private:
    void connected() override { count_.fetch_add(1, std::memory_order_relaxed); }
    std::size_t received(Bytes input) override { return input.size(); }
    std::atomic<int>& count_;
};

enum class Way { alone, reuse_port, round_robin, least_connections };

// All of them wait in the kernel when the loops begin, so that the loops are measured and not the clients.
void accepted(benchmark::State& state, Way way) {
    const std::size_t threads = way == Way::alone ? 1 : 2;
    double used = 0;
    for (auto _ : state) {
        state.PauseTiming();
        std::atomic<int> count{0};
        AcceptorSharing sharing(way == Way::round_robin ? AcceptorSharing::Choice::round_robin
                                                        : AcceptorSharing::Choice::least_connections);
        auto group = std::make_unique<ReactorGroup>(threads, "epoll");
        std::list<Acceptor> acceptors;
        AcceptorOptions options;
        options.reuse_port = way == Way::reuse_port;
        if (way == Way::round_robin || way == Way::least_connections) options.sharing = &sharing;
        std::vector<Address> addresses{*Address::ip("127.0.0.1", 0)};
        for (std::size_t i = 0; i < threads; ++i) {
            acceptors.emplace_back((*group)[i], addresses, factory<Arrival>(std::ref(count)), options);
            if (i == 0) addresses = way == Way::reuse_port ? acceptors.front().addresses() : std::vector<Address>();
        }
        const Address server = acceptors.front().addresses().at(0);
        std::vector<FileDescriptor> clients;
        for (int i = 0; i < accepts; ++i) {
            clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            if (::connect(clients.back().get(), server.data(), socklen_t(server.size())) != 0)
                throw std::runtime_error("a client cannot connect");
            const linger reset{1, 0};  // or its port would be taken for a minute
            ::setsockopt(clients.back().get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        std::vector<double> times(threads);
        state.ResumeTiming();
        group->start([&](Reactor& reactor, std::size_t index) {
            const double begin = processor_time(CLOCK_THREAD_CPUTIME_ID);
            while (count.load(std::memory_order_relaxed) < accepts) reactor.run_once(std::chrono::milliseconds(1));
            times[index] = processor_time(CLOCK_THREAD_CPUTIME_ID) - begin;
        });
        group->join();
        state.PauseTiming();
        clients.clear();
        acceptors.clear();
        group.reset();
        for (const double time : times) used += time;
        state.ResumeTiming();
    }
    const std::int64_t done = std::int64_t(state.iterations()) * accepts;
    state.SetItemsProcessed(done);
    state.counters["per_cpu_second"] = double(done) / used;
}

const bool registered = [] {
    benchmark::RegisterBenchmark("group/there and back, loops", there_and_back)->Arg(1)->Arg(2)->UseRealTime();
    benchmark::RegisterBenchmark("group/a connection handed over", handed_over_and_back)->UseRealTime();
    benchmark::RegisterBenchmark("group/accepted by one loop", accepted, Way::alone)->UseRealTime();
    benchmark::RegisterBenchmark("group/accepted by two, SO_REUSEPORT", accepted, Way::reuse_port)->UseRealTime();
    benchmark::RegisterBenchmark("group/accepted by two, round robin", accepted, Way::round_robin)->UseRealTime();
    benchmark::RegisterBenchmark("group/accepted by two, least connections", accepted, Way::least_connections)
        ->UseRealTime();
    return true;
}();

}  // namespace
