// The way of control between coroutines. A coroutine that suspends names at most one other to continue with, and
// returns to the trampoline `resume`, which resumes that one: so a chain of awaits of any length or depth needs no
// stack, with any optimization. (Symmetric transfer is no tail call in code of g++ 12 at -O0.)
//
//     loop ──▶ resume(c) ──▶ c runs ──▶ suspends, next = child ──▶ child runs ──▶ ends, next = c ──▶ c runs …
//                  ▲                                                                                    │
//                  └────────────────────────── nothing is next ◀───────────────────────────────────────┘
#pragma once

#include <reactor/coroutine/detail/coroutine_header.hpp>
#include <reactor/coroutine/detail/frames.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/stream/protocol.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

namespace reactor {

class Reactor;

namespace coroutine_detail {

class Branch;
class StopState;
struct PromiseBase;

/// The continuation of an operation: a coroutine, or the branch of a first_of or all_of that waits for it.
class Continuation {
public:
    Continuation() noexcept = default;
    explicit Continuation(std::coroutine_handle<> coroutine) noexcept
        : bits_(reinterpret_cast<std::uintptr_t>(coroutine.address())) {}
    explicit Continuation(Branch& branch) noexcept : bits_(reinterpret_cast<std::uintptr_t>(&branch) | of_branch) {}

    explicit operator bool() const noexcept { return bits_ != 0; }
    /// That the root is finished.
    static Continuation end() noexcept { return of_bits(of_end); }

    bool is_coroutine() const noexcept { return (bits_ & (of_branch | of_end)) == 0; }
    bool is_end() const noexcept { return bits_ == of_end; }
    Branch& branch() const noexcept { return *reinterpret_cast<Branch*>(bits_ & ~of_branch); }
    std::coroutine_handle<> coroutine() const noexcept {
        return std::coroutine_handle<>::from_address(reinterpret_cast<void*>(bits_));
    }
    inline PromiseBase& promise() const noexcept;

    /// Any number in its place.
    std::uintptr_t bits() const noexcept { return bits_; }
    static Continuation of_bits(std::uintptr_t bits) noexcept {
        Continuation result;
        result.bits_ = bits;
        return result;
    }

private:
    static constexpr std::uintptr_t of_branch = 1, of_end = 2;  // frames and branches are aligned to more than this
    std::uintptr_t bits_ = 0;
};

/// The owner of a task that no other task awaits, and of all that this one awaits: a connection, or a place in a Scope.
/// It is a protocol because that of a connection is one: two tables of virtual functions would cost each connection 16
/// bytes.
class REACTOR_EXPORT Root : public Protocol {
public:
    /// The loop that its tasks run on.
    virtual Reactor& reactor() const = 0;
    /// Called when its task has ended, or it was given up while its task ran and that waits now.
    virtual void finished() = 0;
    /// Has its end been asked for, and which operations wait for that? May throw std::bad_alloc.
    virtual StopState& stop_state() = 0;
    /// Goes to another loop with its tasks, and calls `arrived` there. Throws std::logic_error if it belongs to its
    /// loop.
    virtual void move_to(Reactor& target, MoveOnlyFunction<void()> arrived);

    std::size_t received(Bytes) override { return 0; }

    Continuation next;             // of the coroutine that has just suspended
    std::exception_ptr exception;  // out of the task that has just ended
    bool running = false;          // one of its coroutines runs
    bool given_up = false;         // to be finished when none does
};

/// One of several operations that a coroutine waits for.
class Branch {
public:
    /// Called when its operation is done. Throws as `resume` does.
    virtual void completed() = 0;

    Root* root = nullptr;

protected:
    ~Branch() = default;
};

/// The common part of every promise, at its beginning.
struct PromiseBase {
    Root* root = nullptr;       // null before it is started
    Continuation continuation;  // none: it is the root's

    static void* operator new(std::size_t size) { return allocate_frame(size); }
    static void operator delete(void* block, std::size_t size) noexcept { free_frame(block, size); }

    std::suspend_always initial_suspend() const noexcept { return {}; }
    void unhandled_exception() const noexcept { root->exception = std::current_exception(); }
};

// All promises begin with PromiseBase and are aligned to no more than two pointers, which Task requires. So they all
// lie at the same place in their frames.
inline PromiseBase& Continuation::promise() const noexcept {
    return std::coroutine_handle<PromiseBase>::from_address(reinterpret_cast<void*>(bits_)).promise();
}

REACTOR_EXPORT void resume_next(Root& root);

/// From the loop: resumes a coroutine, and all that it continues with. Throws what the end of the root's task throws.
inline void resume_coroutine(Continuation continuation) {
    Root& root = *continuation.promise().root;
    root.running = true;
    continuation.coroutine().resume();
    root.running = false;
    if (root.next) [[unlikely]]
        resume_next(root);
}

/// The same for a coroutine or a branch.
inline void resume(Continuation continuation) {
    if (continuation.is_coroutine()) [[likely]]
        return resume_coroutine(continuation);
    Root& root = *continuation.branch().root;
    root.next = continuation;
    resume_next(root);
}

/// A coroutine has ended: the one that awaits it goes on, or its root is finished.
struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
        const PromiseBase& promise = ended.promise();
        promise.root->next = promise.continuation ? promise.continuation : Continuation::end();
    }
    void await_resume() const noexcept {}
};

/// Something that can be awaited. `Derived` has `ready()`: is it done already? `start(root, continuation)`: begins, and
/// resumes the continuation later, from the loop. `result()`. Its destructor ends what was begun. It may be moved until
/// it is started.
template <class Derived>
class Operation {
public:
    bool await_ready() { return self().ready(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> coroutine) {
        static_assert(std::derived_from<Promise, PromiseBase>,
                      "only a coroutine that returns a reactor::Task can await this");
        self().start(*coroutine.promise().root, Continuation(coroutine));
    }
    decltype(auto) await_resume() { return self().result(); }

protected:
    Operation() = default;

private:
    Derived& self() noexcept { return static_cast<Derived&>(*this); }
};

}  // namespace coroutine_detail

}  // namespace reactor
