// first_of, all_of, timeout: a task waits for several things at once. The branches lie in the task's own frame: nothing
// is allocated for them.
#pragma once

#include <reactor/coroutine/detail/ready_list.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/coroutine/sleep.hpp>
#include <reactor/coroutine/task.hpp>

#include <array>
#include <cstddef>
#include <exception>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace reactor {

namespace coroutine_detail {

/// A task that is a branch: it owns the task, which begins through the ready list, behind the start of all branches.
template <class T>
class TaskBranch final {
public:
    explicit TaskBranch(Task<T> task) : task_(std::move(task)) { task_.require_new(); }
    TaskBranch(TaskBranch&& other) noexcept : task_(std::move(other.task_)) {}

    bool ready() const noexcept { return false; }
    void start(Root& root, Continuation continuation) {
        ReadyList& ready = ReadyList::of(root.reactor());
        task_.coroutine().promise().root = &root;
        task_.coroutine().promise().continuation = continuation;
        link_.continuation = Continuation(task_.coroutine());
        ready.push(link_);
    }
    /// It has ended.
    void keep_exception() noexcept { exception_ = std::exchange(task_.coroutine().promise().root->exception, nullptr); }
    bool failed() const noexcept { return exception_ != nullptr; }
    T result() {
        if (exception_) std::rethrow_exception(exception_);
        return task_.coroutine().promise().take();
    }

private:
    Task<T> task_;
    Link link_;
    std::exception_ptr exception_;
};

template <class Awaited>
struct BranchOf {
    using type = Awaited;
};
template <class T>
struct BranchOf<Task<T>> {
    using type = TaskBranch<T>;
};

template <class Awaited>
using ResultOf = decltype(std::declval<typename BranchOf<Awaited>::type&>().result());
/// A result as a member: void is std::monostate.
template <class Awaited>
using Kept = std::conditional_t<std::is_void_v<ResultOf<Awaited>>, std::monostate, ResultOf<Awaited>>;

template <class Awaited>
concept IsOperation = std::is_base_of_v<Operation<Awaited>, Awaited> || requires {
    typename Awaited::promise_type;
};

/// A read or a receive: its result refers to bytes that are gone when another branch is done.
template <class Awaited>
concept ReturnsView = requires {
    typename Awaited::View;
};

/// The branches of an await, and the place that each calls when it is done. `Derived` has `completed(index)`.
template <class Derived, class... Awaited>
class Branches {
protected:
    static constexpr std::size_t count = sizeof...(Awaited);
    using Indices = std::index_sequence_for<Awaited...>;

    template <class... Given>
    explicit Branches(Given&&... given) : places_(std::forward<Given>(given)...) {}
    Branches(Branches&& other) noexcept = default;

    template <std::size_t I>
    struct Place final : Branch {
        using Operation = typename BranchOf<std::tuple_element_t<I, std::tuple<Awaited...>>>::type;
        explicit Place(std::tuple_element_t<I, std::tuple<Awaited...>>&& awaited) : operation(std::move(awaited)) {}
        Place(Place&& other) noexcept : operation(std::move(other.operation)) {}
        void completed() override {
            if constexpr (requires { operation->keep_exception(); }) operation->keep_exception();
            owner->completed(I);
        }

        Derived* owner = nullptr;
        std::optional<Operation> operation;
    };

    template <std::size_t... I>
    static std::tuple<Place<I>...> places_of(std::index_sequence<I...>);
    using Places = decltype(places_of(Indices()));

    template <class Call>
    void for_each(Call&& call) {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            (call(std::get<I>(places_), I), ...);
        }
        (Indices());
    }
    template <std::size_t I>
    Place<I>& place() noexcept {
        return std::get<I>(places_);
    }

    void start_all(Derived& owner, Root& root) {
        for_each([&](auto& place, std::size_t) {
            place.owner = &owner;
            place.root = &root;
            place.operation->start(root, Continuation(static_cast<Branch&>(place)));
        });
    }
    /// In order; a destructor may lead to others.
    void destroy_all_but(std::size_t kept) noexcept {
        for_each([&](auto& place, std::size_t index) {
            if (index != kept) place.operation.reset();
        });
    }

private:
    Places places_;
};

template <class... Awaited>
class FirstOf final : public Operation<FirstOf<Awaited...>>, Branches<FirstOf<Awaited...>, Awaited...> {
public:
    using Result = std::variant<Kept<Awaited>...>;

    template <class... Given>
    explicit FirstOf(Given&&... given) : Base(std::forward<Given>(given)...) {}
    FirstOf(FirstOf&& other) noexcept = default;

    bool ready() {
        this->for_each([&](auto& place, std::size_t index) {
            if (winner_ == none && place.operation->ready()) winner_ = index;
        });
        if (winner_ == none) return false;
        this->destroy_all_but(winner_);
        return true;
    }
    void start(Root& root, Continuation continuation) {
        root_ = &root;
        continuation_ = continuation;
        this->start_all(*this, root);
    }
    Result result() {
        std::optional<Result> result;
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            (take<I>(result), ...);
        }
        (typename Base::Indices());
        return std::move(*result);
    }

private:
    using Base = Branches<FirstOf, Awaited...>;
    friend Base;
    static constexpr std::size_t none = std::size_t(-1);

    void completed(std::size_t index) {
        winner_ = index;
        this->destroy_all_but(index);
        root_->next = continuation_;
    }
    template <std::size_t I>
    void take(std::optional<Result>& result) {
        if (winner_ != I) return;
        auto& operation = *this->template place<I>().operation;
        if constexpr (std::is_void_v<decltype(operation.result())>) {
            operation.result();
            result.emplace(std::in_place_index<I>);
        } else {
            result.emplace(std::in_place_index<I>, operation.result());
        }
    }

    Root* root_ = nullptr;
    Continuation continuation_;
    std::size_t winner_ = none;
};

template <class... Awaited>
class AllOf final : public Operation<AllOf<Awaited...>>, Branches<AllOf<Awaited...>, Awaited...> {
public:
    using Result = std::tuple<Kept<Awaited>...>;

    template <class... Given>
    explicit AllOf(Given&&... given) : Base(std::forward<Given>(given)...) {}
    AllOf(AllOf&& other) noexcept = default;

    bool ready() const noexcept { return Base::count == 0; }
    void start(Root& root, Continuation continuation) {
        root_ = &root;
        continuation_ = continuation;
        this->for_each([&](auto& place, std::size_t) {
            place.owner = this;
            place.root = &root;
            if (place.operation->ready()) {
                --left_;
            } else {
                place.operation->start(root, Continuation(static_cast<Branch&>(place)));
            }
        });
        if (left_ > 0) return;
        root_->next = continuation_;
    }
    Result result() {
        return [&]<std::size_t... I>(std::index_sequence<I...>) {
            return Result(take<I>()...);
        }
        (typename Base::Indices());
    }

private:
    using Base = Branches<AllOf, Awaited...>;
    friend Base;
    static constexpr std::size_t none = std::size_t(-1);

    // A task that threw ends the others.
    void completed(std::size_t index) {
        this->for_each([&](auto& place, std::size_t number) {
            if constexpr (requires { place.operation->failed(); }) {
                if (number == index && place.operation->failed()) failed_ = index;
            }
        });
        if (failed_ != none) this->destroy_all_but(failed_);
        if (--left_ == 0 || failed_ != none) root_->next = continuation_;
    }
    template <std::size_t I>
    auto take() {
        auto& operation = this->template place<I>().operation;
        if (failed_ != none) throw_failure();
        if constexpr (std::is_void_v<decltype(operation->result())>) {
            operation->result();
            return std::monostate();
        } else {
            return operation->result();
        }
    }
    [[noreturn]] void throw_failure() {
        this->for_each([&](auto& place, std::size_t number) {
            if (number == failed_) (void)place.operation->result();
        });
        std::terminate();  // it has thrown
    }

    Root* root_ = nullptr;
    Continuation continuation_;
    std::size_t left_ = Base::count;
    std::size_t failed_ = none;
};

template <class T>
struct TimedResult {
    using type = Result<T>;
};
template <class T>
struct TimedResult<Result<T>> {
    using type = Result<T>;
};

template <class Awaited>
class TimeoutOperation final : public Operation<TimeoutOperation<Awaited>> {
public:
    using Result = typename TimedResult<ResultOf<Awaited>>::type;

    TimeoutOperation(Duration limit, Awaited&& awaited) : first_(std::move(awaited), SleepOperation(limit)) {}
    TimeoutOperation(TimeoutOperation&& other) noexcept = default;

    bool ready() { return first_.ready(); }
    void start(Root& root, Continuation continuation) { first_.start(root, continuation); }
    Result result() {
        auto result = first_.result();
        if (result.index() == 1) return std::make_error_code(std::errc::timed_out);
        if constexpr (std::is_void_v<ResultOf<Awaited>>) {
            return {};
        } else {
            return std::get<0>(std::move(result));
        }
    }

private:
    FirstOf<Awaited, SleepOperation> first_;
};

}  // namespace coroutine_detail

/// Waits for the first of several awaits or tasks, and returns a std::variant of their results, with the winner's:
/// `auto next = co_await first_of(stream.read<Lines>(), sleep(5s)); if (next.index() == 1) …`. The losers are destroyed
/// before this returns, in their order; a read that loses takes nothing. Of those that are ready at once the one in
/// front wins. Tasks begin in this iteration of the loop or in the next one. An exception out of the winner is thrown.
template <class... Awaited>
requires(sizeof...(Awaited) >= 1 && (coroutine_detail::IsOperation<Awaited> &&
                                     ...)) coroutine_detail::FirstOf<Awaited...> first_of(Awaited... awaited) {
    return coroutine_detail::FirstOf<Awaited...>(std::move(awaited)...);
}

/// Waits for all of several awaits or tasks, and returns a std::tuple of their results (std::monostate for none). If a
/// task throws, the others are destroyed and the exception is thrown. A view that a read returns is not valid here:
/// read in a task, and return a copy.
template <class... Awaited>
requires(sizeof...(Awaited) >= 1 && (coroutine_detail::IsOperation<Awaited> && ...) &&
         !(coroutine_detail::ReturnsView<Awaited> ||
           ...)) coroutine_detail::AllOf<Awaited...> all_of(Awaited... awaited) {
    return coroutine_detail::AllOf<Awaited...>(std::move(awaited)...);
}
/// The same for three. For a Task<std::string> the compiler looks into std as well, where std::all_of takes two
/// iterators of one type and a predicate: it would fit better than the one above.
template <class First, class Third>
requires(coroutine_detail::IsOperation<First>&& coroutine_detail::IsOperation<Third> &&
         !coroutine_detail::ReturnsView<First> && !coroutine_detail::ReturnsView<Third>)
    coroutine_detail::AllOf<First, First, Third> all_of(First first, First second, Third third) {
    return coroutine_detail::AllOf<First, First, Third>(std::move(first), std::move(second), std::move(third));
}

/// Waits for an await or a task, but no longer than `limit`: std::errc::timed_out then, and it is destroyed. Returns a
/// Result of its result, and one that is a Result already as it is.
template <class Awaited>
requires coroutine_detail::IsOperation<Awaited> coroutine_detail::TimeoutOperation<Awaited> timeout(Duration limit,
                                                                                                    Awaited awaited) {
    return {limit, std::move(awaited)};
}

}  // namespace reactor
