// Expressions that g++ 12 compiles wrongly in coroutines: temporaries that are destroyed twice. Each runs in a child,
// because a temporary that is destroyed twice may be freed twice. The guide names them with the compilers; this notices
// if another compiler has them, and which expressions are sound everywhere. Depends on the compiler alone, and on no
// optimization.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/task.hpp>
#include <reactor/reactor.hpp>

#include <string>
#include <utility>

using namespace reactor;

namespace {

int made = 0, destroyed = 0;

// Counts, and holds no memory: it may be destroyed twice.
struct Counted {
    Counted() { ++made; }
    Counted(const Counted&) { ++made; }
    Counted(Counted&&) noexcept { ++made; }
    Counted& operator=(const Counted&) = default;
    ~Counted() { ++destroyed; }
    explicit operator bool() const { return true; }
    int value = 1;
};

struct Aggregate {
    Counted counted;
    int number;
};

struct WithConstructor {
    WithConstructor(Counted with, int that) : counted(with), number(that) {}
    Counted counted;
    int number;
};

Task<int> take(Counted counted) {
    co_await yield();
    co_return counted.value;
}
Task<int> refer(const Counted& counted) {
    co_await yield();
    co_return counted.value;
}
Task<Counted> give() {
    co_await yield();
    co_return Counted();
}
Task<int> take_aggregate(Aggregate aggregate) {
    co_await yield();
    co_return aggregate.number;
}
Task<int> take_constructed(WithConstructor constructed) {
    co_await yield();
    co_return constructed.number;
}
template <class Callable>
Task<int> call(Callable callable) {
    co_await yield();
    co_return callable();
}

// Runs a task in a child. Is everything destroyed exactly once?
bool is_sound(Task<int> (*task)()) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::close(1);  // what the test framework or a sanitizer may say of it
        ::close(2);
        Reactor reactor;
        made = destroyed = 0;
        const int value = run(reactor, task());
        ::_exit(value == 1 && made == destroyed ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return status == 0;
}

#if defined(__GNUC__) && !defined(__clang__)
constexpr int gcc = __GNUC__;
#else
constexpr int gcc = 0;
#endif

// g++ 13 and later are not at hand: nothing is said of them.
void check_broken_in_gcc_12(Task<int> (*task)()) {
    if (gcc == 0) CHECK(is_sound(task));
    if (gcc == 12) CHECK_FALSE(is_sound(task));
}

}  // namespace

TEST_CASE("arguments of a class with constructors, references to temporaries and nested awaits are destroyed once") {
    CHECK(is_sound([]() -> Task<int> { co_return co_await take(Counted()); }));
    CHECK(is_sound([]() -> Task<int> { co_return co_await refer(Counted()); }));
    CHECK(is_sound([]() -> Task<int> { co_return co_await take(co_await give()); }));
    CHECK(is_sound([]() -> Task<int> { co_return (co_await give()).value; }));
    CHECK(is_sound([]() -> Task<int> { co_return co_await take_constructed(WithConstructor(Counted(), 1)); }));
    CHECK(is_sound([]() -> Task<int> { co_return co_await take(Counted()) * co_await take(Counted()); }));
}

TEST_CASE("awaits in conditions of loops, of numbers in a conditional operator, and of named variables are sound") {
    CHECK(is_sound([]() -> Task<int> {
        int count = 0;
        while (const auto given = co_await give()) {
            if (++count == 3) break;
        }
        co_return count - 2;
    }));
    CHECK(is_sound([]() -> Task<int> {
        const bool yes = made == 0;
        co_return yes ? co_await take(Counted()) : 0;
    }));
    CHECK(is_sound([]() -> Task<int> {
        Aggregate aggregate{Counted(), 1};
        co_return co_await take_aggregate(std::move(aggregate));
    }));
    CHECK(is_sound([]() -> Task<int> {
        const Counted counted;
        const auto callable = [counted] { return counted.value; };
        co_return co_await call(callable);
    }));
}

TEST_CASE("g++ 12 destroys an aggregate twice that is built in an expression with an await") {
    check_broken_in_gcc_12([]() -> Task<int> { co_return co_await take_aggregate({Counted(), 1}); });
    check_broken_in_gcc_12([]() -> Task<int> { co_return co_await take_aggregate(Aggregate{Counted(), 1}); });
    check_broken_in_gcc_12([]() -> Task<int> {
        const Aggregate aggregate{co_await give(), 1};
        co_return aggregate.number;
    });
}

TEST_CASE("g++ 12 destroys the captures of a lambda twice that is built in an expression with an await") {
    check_broken_in_gcc_12([]() -> Task<int> {
        const Counted counted;
        co_return co_await call([counted] { return counted.value; });
    });
}

TEST_CASE("g++ 12 destroys an object twice that a conditional operator with an await returns") {
    check_broken_in_gcc_12([]() -> Task<int> {
        const bool yes = made == 0;
        const Counted counted = yes ? co_await give() : Counted();
        co_return counted.value;
    });
    check_broken_in_gcc_12([]() -> Task<int> {
        const bool yes = made == 0;
        const std::string text = yes ? std::string(100, 'x')
                                     : std::to_string(co_await take(Counted()));  // longer than a string holds inside
        co_return int(text.size()) / 100;
    });
}
