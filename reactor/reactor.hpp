// The reactor: one loop, on one thread. It waits until a descriptor is ready, a timer is due or another thread
// has posted work, and calls the handlers.
//
//     ┌─▶ 1 hooks before the wait, interest changes handed to the backend
//     │   2 wait              for a descriptor, the next timer, a post or a stop
//     │   3 hooks after the wait
//     │   4 dispatch          readable, writable, error; then what was triggered
//     │   5 timers            that were due when this step began
//     │   6 posted work, then ready coroutines   that were there when this step began
//     │   7 retire            handlers that ended this turn are called a last time, then destroyed
//     └── 8 deferred calls    that were asked for before this step began
//
// All of it belongs to the thread that runs the loop, except post() and stop(). While the loop runs, a library that was
// built without NDEBUG notices calls from other threads that watch, retire, defer, or start or cancel a timer: those
// that may throw throw std::logic_error, and the others fail an assertion.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/deferred.hpp>
#include <reactor/demultiplexer.hpp>
#include <reactor/detail/callback.hpp>
#include <reactor/detail/timer_queue.hpp>
#include <reactor/detail/wakeup.hpp>
#include <reactor/event_handler.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/hook.hpp>
#include <reactor/observing.hpp>
#include <reactor/prepared_post.hpp>
#include <reactor/registration.hpp>
#include <reactor/timer.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor {

class Workspace;

/// One loop, on one thread. The program makes it, gives it acceptors, connectors, timers and descriptors, and calls
/// run(). Thread: it belongs to the one that runs it; only post() and stop() may be called from others. Lifetime: all
/// that was made with it must go before it, except the connections and the handlers that it owns.
class REACTOR_EXPORT Reactor {
public:
    /// `backend` as for make_demultiplexer: "auto", or one of available_backends(). Throws std::system_error
    /// for an unknown name and if the kernel gives no descriptors. The clock must outlive the reactor.
    explicit Reactor(std::string_view backend = "auto", const Clock& clock = Clock::monotonic());

    /// Runs on a demultiplexer of the caller's.
    explicit Reactor(std::unique_ptr<Demultiplexer> demultiplexer, const Clock& clock = Clock::monotonic());

    /// Destroys the connections it owns, with their protocols, and the posted tasks. Calls none of them: they
    /// may refer to what is already gone. To end in good order, drain and run until that is done.
    ~Reactor();
    Reactor(const Reactor&) = delete;
    Reactor& operator=(const Reactor&) = delete;

    // ── running ──

    /// Runs until `stop()`. Throws std::logic_error inside itself. If a callback throws and there is no exception hook,
    /// the iteration is finished first, with all that was due in it. Then its first exception is thrown here, and the
    /// loop may be run again. An error of the backend (std::system_error, std::bad_alloc) comes in the same way, also
    /// where there is a hook.
    void run();

    /// One turn. Waits for something to do, at most for `limit`, and not at all if it is zero. Returns how many
    /// descriptors were reported ready.
    std::size_t run_once(std::optional<Duration> limit = std::nullopt);

    /// Runs for that long, or until `stop()`.
    void run_for(Duration limit);

    /// Runs until `stop()`, or until nothing is left that could happen here. These can happen, and count: a timer,
    /// unless it is started for never (Duration::max()); posted and deferred work; a registration with an interest,
    /// such as a connection that reads, an acceptor, a child or Signals; a name that is looked up; work that a
    /// WorkerPool has; a connection that is on its way here from another loop. These do not count: a registration
    /// without an interest, such as a connection that reads nothing and has nothing to write; hooks; work on threads
    /// that only the program knows. Errors: those of run().
    void run_until_idle();

    /// Lets run(), run_until_idle(), run_for() or run_once() return when the turn is done, without another wait. From
    /// any thread and from signal handlers. Called while nothing runs, it holds for the next one, which returns at once
    /// (run_once: after a turn that does not wait). Each return uses it up.
    void stop() noexcept;

    /// Runs `task` on the loop's thread, later, in the order of the calls. From any thread; never blocks
    /// but for the memory it needs. False, and the task is destroyed unrun, if the reactor is being destroyed.
    /// Throws std::invalid_argument for an empty task, and std::bad_alloc.
    bool post(MoveOnlyFunction<void()> task);

    /// The same for a task that has its place already: no memory is needed. In an iteration such tasks run before
    /// those of the other post(). False, and the task is destroyed unrun, for an empty one too. Thread: any.
    bool post(PreparedPost&& task) noexcept;

    /// Calls `callable` once, at the end of the iteration under way, or of the next one if none is: in its last step,
    /// after all else that the iteration does. An iteration in which it waits to be called does not sleep. A call that
    /// is deferred in the last step comes at the end of the next iteration. Destroying the result cancels the call.
    /// Thread: the loop's. Errors: std::invalid_argument for an empty callable, and std::bad_alloc; then nothing is
    /// deferred. Lifetime: see Deferred.
    Deferred defer(MoveOnlyFunction<void()> callable);

    // ── descriptors ──

    /// Watches a descriptor, which should be non-blocking and stays the caller's. The handler must outlive the
    /// registration. The same descriptor may be watched several times. Throws std::system_error
    /// (bad_file_descriptor) for a negative number, and for one past 65,535 that is not open rather than make the table
    /// of descriptors as large; an objection of the kernel comes as `lost`.
    /// Regular files are always ready, on every backend.
    Registration watch(int descriptor, Interest interest, EventHandler& handler);

    /// The same for a handler that the reactor owns, from now until it is retired. If this throws, also std::bad_alloc,
    /// the pointer keeps what it has; one to a derived class, which is converted first, loses it.
    Registration adopt(int descriptor, Interest interest, std::unique_ptr<OwnedHandler>&& handler);

    /// Gives an adopted handler away: its registration ends at once, without a call. For handing it to another
    /// reactor. Null if the reactor does not own it.
    std::unique_ptr<OwnedHandler> release(Registration& registration) noexcept { return release(registration.leave()); }

    // ── time ──

    const Clock& clock() const noexcept { return clock_; }
    TimePoint now() const noexcept { return clock_.now(); }
    /// The time, read at most once a turn: for time stamps that may be as old as the turn is long. Between turns it is
    /// now().
    TimePoint turn_time() noexcept {
        if (!turn_time_known_) {
            turn_time_ = clock_.now();
            turn_time_known_ = running_;
        }
        return turn_time_;
    }
    /// Calls `callable` once, `delay` from now: `Timer bell = reactor.after(5s, [&] { ring(); });`. Destroying the
    /// result cancels the call. Thread: the loop's. Errors: std::invalid_argument for an empty callable, and
    /// std::bad_alloc. Lifetime: see Timer.
    Timer after(Duration delay, MoveOnlyFunction<void()> callable);
    /// The same after each `period`, as Timer::start_periodic does. Errors: also std::invalid_argument for a period
    /// that is not positive.
    Timer every(Duration period, MoveOnlyFunction<void()> callable);

    /// Before it sleeps the loop polls for so long. A conversation of one message at a time then needs no wake-up for
    /// each, at the price of a processor that is busy meanwhile. It does so only after iterations that found a few
    /// descriptors ready: not while nothing happens, and not while many are active, which keep it awake anyway. Zero,
    /// as at first: never. Around 200 microseconds suit a loopback or a local network.
    void set_busy_wait(Duration longest) noexcept { busy_wait_ = longest; }

    // ── looking in, and embedding ──

    /// Its backend: "select", "poll", "epoll".
    std::string_view backend() const noexcept;
    Counters counters() const noexcept;

    /// For life inside another loop: watch this descriptor for readable, at most for `next_timeout()`, then call
    /// run_once(0). -1 where the backend has no such descriptor (select, poll): then run_once by time alone. Ask
    /// after every turn: it is another one when an epoll set had to be left that kept reporting a closed file.
    int native_handle() const noexcept;
    /// How long a wait may take: zero if there is something to do now, nullopt if nothing is planned. With
    /// native_handle() it shows all that makes this loop want another iteration. Hooks before the wait are such a
    /// thing: it is zero when a callback has run since they did, because the callback may have left something for them.
    std::optional<Duration> next_timeout() noexcept;

    /// Called with the exception of a callback, which then does not leave run(). An exception out of a connection's
    /// protocol has then already ended that connection; a raw handler stays registered. An exception out of
    /// the hook leaves run() when the iteration is done. An empty one restores the default.
    void on_exception(MoveOnlyFunction<void(std::exception_ptr)> hook);

    /// Calls `hook` after each callback that took at least `threshold` by the reactor's clock. Without one nothing is
    /// measured. An empty one takes it away. The hook must not throw.
    void on_slow_call(Duration threshold, MoveOnlyFunction<void(const SlowCall&)> hook);

    /// Calls `hook` with notices that an operator may want in a log: one line of text, in English, without its end. The
    /// library itself never prints. It is called in the middle of things: of the loop it may only call
    /// post() and stop(). Its exceptions are dropped. An empty one takes it away.
    void on_notice(MoveOnlyFunction<void(Notice, std::string_view text)> hook);

    /// In a child of fork(2) that goes on to use this reactor, or merely destroys it: to be called first, by the
    /// thread that forked. The child shares the parent's epoll set and wake-up descriptor, so that until then
    /// everything that it does would be done to the parent's loop. Afterwards the child has its own, with the same
    /// registrations; timers and posted work are copies as well. Descriptors are still shared: both read from a
    /// connection that both keep. May be called in a handler; readiness is reported again. Throws std::system_error,
    /// and then nothing has changed; std::logic_error for a demultiplexer of the caller's. See
    /// reactor/guide/threads.md.
    void after_fork();

private:
    // Callbacks so far, of all kinds.
    std::uint64_t calls() const noexcept {
        return counters_.events + counters_.timers + counters_.tasks + other_calls_;
    }
    bool hooks_are_due() const noexcept { return !before_wait_.empty() && calls() != calls_before_hooks_; }

    friend class Deferred;
    friend class Hook;
    friend class Internals;
    friend class ReactorGroup;
    friend class Registration;
    friend class RegistrationView;
    friend class Timer;
    class Table;
    class Stopwatch;
    struct Running;
    struct Trigger;

    void forget_stop() noexcept { stop_ = false; }
    void retire(RegistrationView registration) noexcept;
    std::unique_ptr<OwnedHandler> release(RegistrationView registration) noexcept;
    void visit_owned(void (*visit)(void*, OwnedHandler&), void* with);
    void turn(std::optional<Duration> limit);
    template <class Call>
    void attempt(Call&& call) noexcept;
    void caught() noexcept;
    void fail() noexcept;
    void run_hooks(std::vector<Hook*>& hooks);
    void run_hooks_before_wait();
    void run_hooks_after_wait();
    void hand_over_changes() noexcept;
    void wait(std::optional<Duration> limit);
    std::optional<Duration> longest_wait() noexcept;
    bool work_waits() const noexcept;
    bool on_loop_thread() const noexcept;
    void require_loop_thread(const char* call) const;
    bool idle() const noexcept;
    std::span<const Event> busy_wait(std::optional<Duration> timeout);
    void dispatch_batch();
    void dispatch_measured();
    void dispatch(const Table& table, const Event& event);
    void dispatch_rare(Token token, Condition condition);
    void tell(int descriptor, std::uint32_t id, Condition condition, std::error_code error) noexcept;
    void run_triggers();
    void run_timers();
    void run_posted();
    void run_coroutines();
    void end_workspace();
    void run_retired();
    void run_deferred();
    bool cancel_deferred(std::uint64_t id) noexcept;
    bool deferred_waits(std::uint64_t id) const noexcept;
    void rebuild() noexcept;
    void report(SlowCall call, TimePoint start) noexcept;

    const Clock& clock_;
    std::unique_ptr<Table> table_;

    // The turn under way. Each list has a second one, which holds what a step has taken out; they keep their memory.
    const Event* batch_ = nullptr;
    const Event* batch_end_ = nullptr;
    std::uint64_t batch_removals_ = 0;
    std::vector<Trigger> triggers_, triggers_now_;
    std::vector<MoveOnlyFunction<void()>> posted_now_;
    std::vector<OwnedHandler*> retired_;  // has room for all that are owned: retiring cannot run out of memory
    std::size_t owned_ = 0;               // and not retired
    std::vector<MoveOnlyFunction<void()>> deferred_, deferred_now_;  // empty where it was cancelled
    std::uint64_t first_deferred_ = 1, first_deferred_now_ = 1;      // the numbers of their first
    std::size_t deferred_waiting_ = 0;
    std::exception_ptr failure_;  // thrown at the turn's end

    TimerQueue timers_;
    Duration busy_wait_ = Duration::zero();
    bool few_were_ready_ = false;
    TimePoint turn_time_{};
    bool turn_time_known_ = false;
    bool running_ = false;
    bool until_idle_ = false;  // run_until_idle() runs
    bool workspace_waits_ = false;
    bool coroutines_wait_ = false;
    bool rebuild_ = false;                      // the backend reports descriptors that are not watched any more
    std::atomic<const void*> thread_{nullptr};  // stands for the thread that runs the loop, if NDEBUG is not defined
    bool made_by_name_ = true;                  // so it can be made again
    Counters counters_;
    std::vector<Hook*> before_wait_, after_wait_;
    std::uint64_t other_calls_ = 0;         // that no counter counts
    std::uint64_t calls_before_hooks_ = 0;  // as many had been made when the hooks before the wait ran
    bool for_after_hooks_ = false;          // this turn is, and for nothing else
    bool after_hooks_counted_ = false;      // among other_calls_
    std::unique_ptr<Callback<void(std::exception_ptr)>> on_exception_;  // it may replace itself, as the next ones may
    std::unique_ptr<Callback<void(const SlowCall&)>> on_slow_call_;
    Duration slow_threshold_ = Duration::zero();
    std::unique_ptr<Callback<void(Notice, std::string_view)>> on_notice_;
    std::atomic<std::size_t> arriving_{0};
    std::size_t awaited_ = 0;
    std::unique_ptr<Workspace> workspace_;
    std::unique_ptr<Workspace> datagram_workspace_;
    std::unique_ptr<Workspace> coroutine_workspace_;
    std::unique_ptr<Workspace> tls_workspace_;

    // Touched by other threads. `asleep_` is true while the queue is not looked at before the wait ends: a post must
    // then end the wait, and the first to do so does it for all.
    Wakeup wakeup_;
    struct WakeupHandler final : EventHandler {
        explicit WakeupHandler(Reactor& owner) : reactor(owner) {}
        void readable() override;
        void lost(std::error_code reason) override;
        Reactor& reactor;
    } wakeup_handler_{*this};
    Registration wakeup_registration_;
    std::atomic<bool> asleep_{true};
    std::atomic<bool> stop_{false};
    std::atomic<bool> posted_waiting_{false};
    std::mutex posted_mutex_;
    std::vector<MoveOnlyFunction<void()>> posted_;
    std::list<MoveOnlyFunction<void()>> prepared_;  // posted with its place
    bool closing_ = false;                          // under posted_mutex_
};

}  // namespace reactor
