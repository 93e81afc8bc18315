// The reactor: one loop, on one thread. It waits until a descriptor is ready, a timer is due or another thread
// has posted work, and calls whoever asked for it.
//
//     ┌─▶ 1 hooks before the wait, interest changes handed to the backend
//     │   2 wait              for a descriptor, the next timer, a post or a stop
//     │   3 hooks after the wait
//     │   4 dispatch          readable, writable, error; then what was triggered
//     │   5 timers            that were due when this step began
//     │   6 posted work       that was there when this step began
//     └── 7 retire            handlers that ended this turn are told, then destroyed
//
// All of it belongs to the thread that runs the loop, except post() and stop().
#pragma once

#include <reactor/callback.hpp>
#include <reactor/clock.hpp>
#include <reactor/demultiplexer.hpp>
#include <reactor/event_handler.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/timer_queue.hpp>
#include <reactor/wakeup.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace reactor {

class Hook;
class Reactor;

/// Work for the loop: any callable, also one that owns things and can only be moved.
using Task = MoveOnlyFunction<void()>;

/// One descriptor watched for one handler. Once it is destroyed, or reset, the handler is never called
/// again, even if its event was already waiting. Destroy it before closing the descriptor, and before the reactor.
class [[nodiscard]] REACTOR_EXPORT Registration {
public:
    Registration() noexcept = default;
    Registration(Registration&& other) noexcept
        : reactor_(std::exchange(other.reactor_, nullptr)), descriptor_(other.descriptor_), id_(other.id_) {}
    Registration& operator=(Registration&& other) noexcept {
        if (this != &other) {
            reset();
            reactor_ = std::exchange(other.reactor_, nullptr);
            descriptor_ = other.descriptor_;
            id_ = other.id_;
        }
        return *this;
    }
    ~Registration() { reset(); }

    explicit operator bool() const noexcept { return reactor_ != nullptr; }
    int descriptor() const noexcept { return descriptor_; }
    Reactor& reactor() const noexcept { return *reactor_; }

    /// What the handler wants to hear of from now on; `none` is allowed and costs nothing. Takes effect at
    /// once for events already waiting; the kernel is told just before the next wait, and only if the
    /// interest is then another one than it knows.
    void set_interest(Interest interest) noexcept;
    Interest interest() const noexcept;

    /// Has the handler called this turn or, from within step 4's second half and later, the next turn, as if the
    /// kernel had found the descriptor ready; told only if it is wanted then. For data that waits where the
    /// kernel cannot see it: in a buffer, inside a TLS engine.
    void trigger(Interest ready);

    /// Stops watching, at once. An adopted handler is retired by it.
    void reset() noexcept;

private:
    friend class Reactor;
    Registration(Reactor& reactor, int descriptor, std::uint32_t id) noexcept
        : reactor_(&reactor), descriptor_(descriptor), id_(id) {}

    Reactor* reactor_ = nullptr;
    int descriptor_ = -1;
    std::uint32_t id_ = 0;
};

/// A handler that the reactor owns (Reactor::adopt): connections are such.
class REACTOR_EXPORT OwnedHandler : public EventHandler {
public:
    virtual ~OwnedHandler() = default;
    /// The last call, at the end of the turn in which it was retired; it is destroyed next.
    virtual void retired() {}
    /// The address of what it shares with its like, null if there is no such thing: by this those are found among
    /// all the handlers of a loop that are of one kind. Not by dynamic_cast, for programs without run-time types.
    virtual const void* belongs_to() const noexcept { return nullptr; }

private:
    friend class Reactor;
    OwnedHandler* next_retired_ = nullptr;  // a list through the handlers: retiring cannot run out of memory
};

/// What a reactor has done so far.
struct Counters {
    std::uint64_t turns = 0;    ///< waits, each a system call
    std::uint64_t looks = 0;    ///< further system calls, made in busy waits
    std::uint64_t events = 0;   ///< descriptors reported ready
    std::uint64_t changes = 0;  ///< interest changes handed to the backend; with epoll a system call each
    std::uint64_t wakeups = 0;  ///< waits ended by post() or stop()
    std::uint64_t timers = 0;   ///< timers called
    std::uint64_t tasks = 0;    ///< posted tasks run
    std::uint64_t connections = 0;     ///< begun; those that live are the acceptors' to say
    std::uint64_t bytes_received = 0;  ///< by connections
    std::uint64_t bytes_sent = 0;      ///< by connections
};

/// A call that took longer than Reactor::on_slow_call was told to bear.
struct SlowCall {
    enum class Kind : std::uint8_t {
        event,   ///< a descriptor's readiness, told to its handler; with several watchers, to all of them
        timer,   ///< a Timer's callback
        task,    ///< posted work
        retired  ///< a handler's last call and its destruction: a connection's `disconnected`
    };
    Kind kind = Kind::event;
    int descriptor = -1;          ///< of an event
    const void* who = nullptr;    ///< the EventHandler or the Timer; it may be gone: to be compared, not followed
    Duration duration{};
};

/// What an operator wants to know, and no counter says of whom.
enum class Notice : std::uint8_t {
    connection_shed,    ///< out of descriptors: a peer was accepted only to be closed
    accept_backed_off,  ///< out of descriptors or memory: an acceptor leaves its listeners alone for a while
    idle_timeout,       ///< Limits::idle_timeout ended a connection
    message_timeout,    ///< Limits::message_timeout ended a connection
    write_timeout,      ///< Limits::write_timeout ended a connection
    close_timeout,      ///< Limits::close_timeout ended a connection that was closing
};

class REACTOR_EXPORT Reactor {
public:
    /// `backend` as for make_demultiplexer: "auto", or one of available_backends(). Throws std::system_error
    /// for an unknown name and if the kernel gives no descriptors. The clock must outlive the reactor.
    explicit Reactor(std::string_view backend = "auto", const Clock& clock = Clock::monotonic());

    /// Runs on a demultiplexer of the caller's.
    explicit Reactor(std::unique_ptr<Demultiplexer> demultiplexer, const Clock& clock = Clock::monotonic());

    /// Destroys the connections it owns, with their protocols, and the posted tasks. Calls none of them: they
    /// may refer to what is already gone. To end in good order, close what is open and run until it is over.
    ~Reactor();
    Reactor(const Reactor&) = delete;
    Reactor& operator=(const Reactor&) = delete;

    // ── running ──

    /// Runs until `stop()`. Throws std::logic_error inside itself, and what handlers throw
    /// if there is no exception hook; the loop is then consistent and may be run again: nothing that was
    /// due is lost or told twice.
    void run();

    /// One turn. Waits for something to do, at most for `limit`, and not at all if it is zero. Returns how many
    /// descriptors were reported ready.
    std::size_t run_once(std::optional<Duration> limit = std::nullopt);

    /// Runs for that long, or until `stop()`.
    void run_for(Duration limit);

    /// Lets run(), run_for() or run_once() return when the turn is done, without another wait. From any thread
    /// and from signal handlers. Called while nothing runs, it holds for the next one, which returns at once
    /// (run_once: after a turn that does not wait). Each return uses it up.
    void stop() noexcept;

    /// Runs `task` on the loop's thread, later, in the order of the calls. From any thread; never blocks
    /// but for the memory it needs. False, and the task is destroyed unrun, if the reactor is being destroyed.
    bool post(Task task);

    // ── descriptors ──

    /// Watches a descriptor, which should be non-blocking and stays the caller's. The handler must outlive the
    /// registration. The same descriptor may be watched several times. Throws std::system_error
    /// (bad_file_descriptor) for a negative number, and for one past 65,535 that is not open rather than make the table
    /// of descriptors as large; what the kernel has against it comes as `lost`.
    /// Regular files are always ready, on every backend.
    Registration watch(int descriptor, Interest interest, EventHandler& handler);

    /// The same for a handler that the reactor owns, from now until `retire`; also if this throws.
    Registration adopt(int descriptor, Interest interest, std::unique_ptr<OwnedHandler> handler);

    /// Ends an adopted handler's registration. It is told so by `retired()` at the end of the turn, so
    /// that it may finish its stack frame, and then destroyed.
    void retire(Registration& registration) noexcept;

    /// Gives an adopted handler away: its registration ends at once, and it is told nothing. For handing it to another
    /// reactor. Null if the reactor does not own it.
    std::unique_ptr<OwnedHandler> release(Registration& registration) noexcept;

    /// Calls `visit` with every handler that the reactor owns. It may retire any of them.
    template <class Visit>
    void for_each_owned(Visit&& visit) {
        for (std::size_t descriptor = 0; descriptor < slots_.size(); ++descriptor) {
            const Slot slot = slots_[descriptor];
            if (!slot.shared() && slot.owned) visit(static_cast<OwnedHandler&>(*slot.handler));
            if (!slot.shared()) continue;
            const std::vector<Watch> watches = shared_.find(int(descriptor))->second;
            for (const Watch& watch : watches)
                if (watch.owned && find(int(descriptor), watch.id).handler != nullptr)
                    visit(static_cast<OwnedHandler&>(*watch.handler));
        }
    }

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
    TimerQueue& timers() noexcept { return timers_; }

    /// Before it sleeps the loop looks again and again, for so long, whether something is ready: who is spoken to one
    /// message at a time then need not be woken for each, at the price of a processor that is busy meanwhile. It does
    /// so only after turns that found a few descriptors ready: not while nothing happens, and not where many are
    /// active, which keep it awake anyway. Zero, as at first: never. Around 200 microseconds suit a loopback or a local
    /// network.
    void set_busy_wait(Duration longest) noexcept { busy_wait_ = longest; }

    // ── looking in, and embedding ──

    /// "select", "poll", "epoll": what it runs on.
    std::string_view backend() const noexcept { return demultiplexer_->name(); }
    Counters counters() const noexcept;

    /// For life inside another loop: watch this descriptor for readable, at most for `next_timeout()`, then call
    /// run_once(0). -1 where the backend has no such descriptor (select, poll): then run_once by time alone. Ask
    /// after every turn: it is another one when an epoll set had to be left that kept reporting a closed file.
    int native_handle() const noexcept { return demultiplexer_->native_handle(); }
    /// How long a wait may take: zero if there is something to do now, nullopt if nothing is planned.
    std::optional<Duration> next_timeout() noexcept;

    /// Called with what a handler threw, instead of letting it out of run(). An exception out of a connection's
    /// protocol has then already ended that connection; a raw handler stays registered. What the hook throws
    /// leaves run(). An empty one restores the default.
    void on_exception(MoveOnlyFunction<void(std::exception_ptr)> hook);

    /// Calls `hook` after each callback that took at least `threshold` by the reactor's clock. Without one nothing is
    /// measured. An empty one takes it away. The hook must not throw.
    void on_slow_call(Duration threshold, MoveOnlyFunction<void(const SlowCall&)> hook);

    /// Calls `hook` with what an operator may want in a log: one line of text, in English, without its end. The
    /// library itself never prints. It is called in the middle of things: of the loop it may only call
    /// post() and stop(). What it throws is dropped. An empty one takes it away.
    void on_notice(MoveOnlyFunction<void(Notice, std::string_view text)> hook);

    /// For those who have something to tell: `text()` is asked for only if there is a hook.
    template <class Text>
    void notice(Notice what, Text&& text) noexcept {
        if (on_notice_ == nullptr) return;
        try {
            (*on_notice_)(what, text());
        } catch (...) {  // a log that fails must not end what it reports on
        }
    }

    /// In a child of fork(2) that goes on to use this reactor, or merely destroys it: to be called first, by the
    /// thread that forked. The child shares the parent's epoll set and wake-up descriptor, so that until then
    /// all that it did would be done to the parent's loop. Afterwards the child has its own, which watch what was
    /// watched; timers and posted work are copies as well. Descriptors are still shared: of a connection that
    /// both keep, both read. May be called in a handler; what is ready is told again. Throws std::system_error, and
    /// then nothing has changed; std::logic_error for a demultiplexer of the caller's. See reactor/LOOP.md.
    void after_fork();

    /// What the connections of this loop share; see connection.cpp, its only user.
    class Workspace {
    public:
        virtual ~Workspace() = default;
        std::uint64_t connections = 0;  // what Counters tells of them
        std::uint64_t bytes_received = 0;
        std::uint64_t bytes_sent = 0;
    };
    std::unique_ptr<Workspace>& workspace() noexcept { return workspace_; }
    /// The same for sockets of datagrams: datagram_parts.hpp.
    std::unique_ptr<Workspace>& datagram_workspace() noexcept { return datagram_workspace_; }

private:
    friend class Hook;
    friend class Registration;
    friend class Timer;
    struct Running;

    // Measures one call, if somebody wants to know.
    class Stopwatch {
    public:
        Stopwatch(Reactor& reactor, SlowCall::Kind kind, const void* who, int descriptor = -1) noexcept
            : reactor_(reactor.on_slow_call_ == nullptr ? nullptr : &reactor), call_{kind, descriptor, who, {}} {
            if (reactor_ != nullptr) [[unlikely]]
                start_ = reactor.now();
        }
        Stopwatch(const Stopwatch&) = delete;
        Stopwatch& operator=(const Stopwatch&) = delete;
        ~Stopwatch() {
            if (reactor_ != nullptr) [[unlikely]]
                reactor_->report(call_, start_);
        }

    private:
        Reactor* reactor_;
        SlowCall call_;
        TimePoint start_{};
    };

    struct Watch {
        EventHandler* handler = nullptr;
        std::uint32_t id = 0;
        Interest wanted = Interest::none;
        bool owned = false;
        bool lost = false;
    };

    // One descriptor. With a single registration, the normal case, it is all here, and its id is the generation.
    // With several, `handler` is null, the watches stand in shared_, and `wanted` is the union of what they want.
    struct Slot {
        EventHandler* handler = nullptr;
        std::uint32_t generation = 0;  // what the backend's events must carry; 0: unwatched
        Interest wanted = Interest::none;
        Interest submitted = Interest::none;  // what the backend knows
        Interest direct = Interest::none;     // what goes straight to `handler`: `wanted`, if there is one watcher
        enum class Kind : std::uint8_t { plain, shared, lost } kind : 2 = Kind::plain;
        bool owned : 1 = false;
        bool changed : 1 = false;   // stands in changes_
        bool resubmit : 1 = false;  // the backend is told even if nothing seems to have changed

        void set_wanted(Interest interest) noexcept {
            wanted = interest;
            direct = kind == Kind::plain ? interest : Interest::none;
        }
        void set_kind(Kind what) noexcept {
            kind = what;
            set_wanted(wanted);
        }
        bool shared() const noexcept { return kind == Kind::shared; }
        bool lost() const noexcept { return kind == Kind::lost; }
    };
    static_assert(sizeof(void*) != 8 || sizeof(Slot) == 16, "a million descriptors are 16 MB of table");

    struct Trigger {
        Token token;  // the generation is the registration's id
        Condition condition;
        std::error_code error;  // with `invalid`
    };

    enum class Step { wait, dispatch, triggers, timers, posted, retire };

    std::uint32_t next_id() noexcept;
    Registration add(int descriptor, Interest interest, EventHandler& handler, bool owned);
    void set_interest(int descriptor, std::uint32_t id, Interest interest) noexcept;
    Interest interest(int descriptor, std::uint32_t id) noexcept;
    OwnedHandler* remove(int descriptor, std::uint32_t id) noexcept;
    void share(int descriptor);
    Watch find(int descriptor, std::uint32_t id) noexcept;
    Watch* find_shared(int descriptor, std::uint32_t id) noexcept;
    void update_union(int descriptor) noexcept;
    void note_change(int descriptor) noexcept;
    void lose(int descriptor, std::uint32_t id) noexcept;

    void turn(std::optional<Duration> limit);
    void run_hooks(std::vector<Hook*>& hooks);
    void hand_over_changes();
    void hand_over(int descriptor);
    void tell_lost_later(int descriptor, std::error_code reason);
    void wait(std::optional<Duration> limit);
    std::span<const Event> busy_wait(std::optional<Duration> timeout);
    void go_through_steps();
    void dispatch_batch();
    void dispatch(const Event& event);
    void dispatch_rare(Token token, Condition condition);
    void tell(int descriptor, std::uint32_t id, Condition condition, std::error_code error);
    void run_triggers();
    void run_posted();
    void run_retired();
    void rebuild() noexcept;
    void replace_demultiplexer();
    void report(SlowCall call, TimePoint start) noexcept;

    const Clock& clock_;
    std::unique_ptr<Demultiplexer> demultiplexer_;
    std::vector<Slot> slots_;
    std::unordered_map<int, std::vector<Watch>> shared_;
    std::vector<int> changes_;
    std::uint32_t last_id_ = 0;
    std::uint64_t removals_ = 0;  // of generations, which may leave events of theirs in the batch

    // The turn under way. All of it survives an exception, so that the next turn can go on where this one broke off.
    Step step_ = Step::wait;
    const Event* next_event_ = nullptr;
    const Event* batch_end_ = nullptr;
    std::uint64_t batch_removals_ = 0;
    std::vector<Trigger> triggers_, triggers_now_;
    std::size_t trigger_next_ = 0;
    std::vector<Task> posted_now_;
    std::size_t posted_next_ = 0;
    OwnedHandler* retired_ = nullptr;
    OwnedHandler** retired_end_ = &retired_;
    OwnedHandler* retired_now_ = nullptr;

    TimerQueue timers_;
    Duration busy_wait_ = Duration::zero();
    bool few_were_ready_ = false;
    TimePoint turn_time_{};
    bool turn_time_known_ = false;
    bool running_ = false;
    bool rebuild_ = false;     // the backend reports descriptors that are not watched any more
    bool made_by_name_ = true;  // so it can be made again
    Counters counters_;
    std::vector<Hook*> before_wait_, after_wait_;
    std::unique_ptr<Callback<std::exception_ptr>> on_exception_;  // it may replace itself, as the next ones may
    std::unique_ptr<Callback<const SlowCall&>> on_slow_call_;
    Duration slow_threshold_ = Duration::zero();
    std::unique_ptr<Callback<Notice, std::string_view>> on_notice_;
    std::unique_ptr<Workspace> workspace_;
    std::unique_ptr<Workspace> datagram_workspace_;

    // What other threads touch. `asleep_` is true while nobody will look at the queue before the wait ends: whoever
    // posts then must end the wait, and the first to do so does it for all.
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
    std::vector<Task> posted_;
    bool closing_ = false;  // under posted_mutex_
};

/// A callable that runs in every turn, just before or after the wait, for as long as this object lives: for
/// libraries that prepare and check (D-Bus, Wayland, GLib). What it changes before the wait counts for that wait.
/// What it throws leaves run().
class [[nodiscard]] REACTOR_EXPORT Hook {
public:
    enum class When { before_wait, after_wait };
    Hook(Reactor& reactor, When when, Task callable);
    ~Hook();
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;

private:
    friend class Reactor;
    std::vector<Hook*>& list_;
    Callback<> callable_;
};

}  // namespace reactor
