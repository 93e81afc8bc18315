// Threads meet a loop in post() and stop() alone: here several do nothing else, all at once, on every backend. How
// often is HAND_OVERS's to say: a modest number ordinarily, millions where ThreadSanitizer watches (tests/run --all).
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

std::uint64_t hand_overs = 100'000;  // for each backend and each test, all threads together

constexpr std::chrono::seconds patience{20};  // far more than a thread needs to be given its turn

// Waits as threads wait for each other: without a lock, and so without order that the loop did not give.
template <class Condition>
void yield_until(Condition&& condition) {
    while (!condition()) std::this_thread::yield();
}

// One thread's posts. Plain variables are written on one side and read on the other: only the hand-over orders that,
// and ThreadSanitizer sees if it does not.
struct Poster {
    static constexpr std::uint64_t most_ahead = 1000;  // so that the queue stays short and the loop goes to sleep

    void run(Reactor& reactor, std::uint64_t count) {
        for (std::uint64_t number = 0; number < count; ++number) {
            yield_until([&] { return number - answered.load(std::memory_order_relaxed) < most_ahead; });
            plain = number;
            const bool taken = reactor.post([this, number, owned = std::make_unique<std::uint64_t>(number)] {
                out_of_order += seen != number || *owned != number ? 1 : 0;
                ++seen;
                answered.store(seen, std::memory_order_relaxed);
            });
            refused += taken ? 0 : 1;
        }
        // The last post is complete: the loop reads variables written here before, and writes variables read here
        // after.
        reactor.post([this] {
            told = plain;
            over.store(true, std::memory_order_release);
        });
        yield_until([&] { return over.load(std::memory_order_acquire); });
        told_back = told;
    }

    std::uint64_t seen = 0, out_of_order = 0, told = 0;   // the loop's
    std::uint64_t plain = 0, refused = 0, told_back = 0;  // the thread's
    std::atomic<std::uint64_t> answered{0};
    std::atomic<bool> over{false};
};

}  // namespace

TEST_CASE("S63: what four threads post as fast as they can runs once each, in order for each thread") {
    for (const std::string_view backend : available_backends()) {
        CAPTURE(std::string(backend));
        Reactor reactor(backend);
        std::array<Poster, 4> posters;
        const std::uint64_t each = hand_overs / posters.size();
        std::atomic<std::size_t> at_work{posters.size()};
        std::vector<std::thread> threads;
        for (Poster& poster : posters)
            threads.emplace_back([&, each] {
                poster.run(reactor, each);
                if (--at_work == 0) reactor.stop();
            });
        reactor.run();
        for (std::thread& thread : threads) thread.join();
        for (const Poster& poster : posters) {
            CHECK(poster.seen == each);
            CHECK(poster.out_of_order == 0);
            CHECK(poster.refused == 0);
            CHECK(poster.told_back == each - 1);
        }
        CHECK(reactor.counters().tasks == posters.size() * (each + 1));
    }
}

TEST_CASE("S63, S67: a loop that sleeps between any two of them misses no post and no stop") {
    for (const std::string_view backend : available_backends()) {
        CAPTURE(std::string(backend));
        Reactor reactor(backend);
        const std::uint64_t each = hand_overs / 20;  // every one costs a wake-up and two switches of threads
        std::atomic<std::uint64_t> answered{0}, returned{0};
        std::atomic<bool> over{false};
        std::uint64_t runs = 0;
        std::thread poster([&] {
            for (std::uint64_t number = 1; number <= each; ++number) {
                reactor.post([&] {
                    answered.fetch_add(1);
                    answered.notify_one();
                });
                for (auto seen = answered.load(); seen != number; seen = answered.load()) answered.wait(seen);
            }
        });
        std::thread stopper([&] {
            for (std::uint64_t number = 1; number <= each; ++number) {
                reactor.stop();
                for (auto seen = returned.load(); seen != number; seen = returned.load()) returned.wait(seen);
            }
            poster.join();
            over = true;
            reactor.stop();
        });
        while (!over) {
            reactor.run();
            ++runs;
            returned.fetch_add(1);
            returned.notify_one();
        }
        stopper.join();
        CHECK(answered == each);
        // The last stop finds the loop in run(), or about to look at `over`.
        CHECK(runs >= each);
        CHECK(runs <= each + 1);
    }
}

TEST_CASE("S63: a post that comes while the loop is on its way to sleep wakes it, at whatever moment of that way") {
    for (const std::string_view backend : available_backends()) {
        CAPTURE(std::string(backend));
        Reactor reactor(backend);
        const std::uint64_t posts = 20'000 + hand_overs / 100;  // fewer may not meet the moment
        std::atomic<std::uint64_t> answered{0};
        std::atomic<bool> given_up{false};
        // Nothing but the posts keeps the loop going, so if one is missed all is still.
        Timer still(reactor, [&] {
            given_up = true;
            reactor.stop();
        });
        std::thread poster([&] {
            for (std::uint64_t number = 1; number <= posts && !given_up; ++number) {
                // The answer is seen within some nanoseconds, and the next post comes a little later each time.
                for (std::atomic<std::uint64_t> pause = number % 400; pause > 0; --pause) continue;
                reactor.post([&] {
                    still.start(patience);
                    answered.fetch_add(1);
                });
                for (unsigned looks = 1; answered != number && !given_up; ++looks)
                    if (looks % 1000 == 0) std::this_thread::yield();
            }
            reactor.stop();
        });
        still.start(patience);
        reactor.run();
        poster.join();
        CHECK(answered == posts);
        CHECK_FALSE(given_up);
    }
}

TEST_CASE("S65: what was posted and has not run when the reactor goes is destroyed, once, and nothing else is") {
    struct Witness {
        explicit Witness(std::int64_t& the_count) noexcept : count(&the_count) {}
        Witness(Witness&& other) noexcept : count(std::exchange(other.count, nullptr)) {}
        ~Witness() {
            if (count != nullptr) ++*count;
        }
        std::int64_t* count;
    };
    for (const std::string_view backend : available_backends()) {
        CAPTURE(std::string(backend));
        const std::int64_t each = 100;
        std::int64_t posted = 0, run = 0, destroyed = 0;
        for (std::uint64_t round = 0; round < hand_overs / 1000; ++round) {
            Reactor reactor(backend);
            std::array<std::thread, 2> posters;
            for (std::thread& poster : posters)
                poster = std::thread([&] {
                    for (std::int64_t i = 0; i < each; ++i)
                        reactor.post([&run, witness = Witness(destroyed)] { ++run; });
                });
            reactor.run_once();
            for (std::thread& poster : posters) poster.join();
            posted += 2 * each;
        }
        CHECK(destroyed == posted);
        CHECK(run <= posted);
        CHECK(run > 0);
    }
}

int main(int count, char** words) {
    if (const char* wanted = std::getenv("HAND_OVERS")) hand_overs = std::strtoull(wanted, nullptr, 10);
    doctest::Context context(count, words);
    const int result = context.run();
    std::printf("%llu hand-overs each\n", static_cast<unsigned long long>(hand_overs));
    return result;
}
