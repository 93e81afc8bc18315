// The loop. Reactor::turn is an iteration, and calls its eight steps in the order of the diagram in reactor.hpp; each
// step below fixes its work when it begins. It dispatches without knowing a backend, and knows nothing of sockets.
// Errors of callbacks are kept until the iteration is done, so no step is left out because one before it has thrown.
#include <reactor/detail/internals.hpp>
#include <reactor/loop_thread_impl.hpp>
#include <reactor/probes_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/registration_table_impl.hpp>
#include <reactor/stopwatch_impl.hpp>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace reactor {

namespace {

constexpr std::ptrdiff_t many = 64;  // ready at once; of more of them the caches forget what they have called

thread_local const char this_thread = 0;  // its address is each thread's own

constexpr Interest all_interests[] = {Interest::readable, Interest::writable, Interest::error};

// After a burst the memory goes back; an ordinary iteration's stays.
template <class T>
void clear_keeping_little(std::vector<T>& list) noexcept {
    constexpr std::size_t little = 1024;
    if (list.capacity() > little) {
        std::vector<T>().swap(list);
    } else {
        list.clear();
    }
}

// Among many, what a handler needs has left the caches since it was called last: it comes while the one before it
// works.
inline void fetch_ahead(const EventHandler* handler) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(handler);
    __builtin_prefetch(reinterpret_cast<const void*>(address));
    __builtin_prefetch(reinterpret_cast<const void*>(address + 64));
}

}  // namespace

Reactor::Reactor(std::string_view backend, const Clock& clock) : Reactor(make_demultiplexer(backend), clock) {
    made_by_name_ = true;
}

Reactor::Reactor(std::unique_ptr<Demultiplexer> demultiplexer, const Clock& clock)
    : clock_(clock), table_(std::make_unique<Table>(std::move(demultiplexer))), made_by_name_(false) {
    wakeup_registration_ = watch(wakeup_.descriptor(), Interest::readable, wakeup_handler_);
}

Reactor::~Reactor() {
    std::vector<MoveOnlyFunction<void()>> unrun, undone;
    std::list<MoveOnlyFunction<void()>> prepared;
    {
        const std::lock_guard lock(posted_mutex_);
        closing_ = true;  // the destructors below may post
        unrun.swap(posted_);
        prepared.swap(prepared_);
    }
    // Destroyed without the lock, since a task's captures may post when they go. Then the handlers, which may retire
    // others.
    prepared.clear();
    unrun.clear();
    undone.swap(deferred_);
    undone.clear();
    table_->clear();
    for (std::size_t i = 0; i < retired_.size(); ++i) delete retired_[i];  // which may retire others
    wakeup_registration_.reset();
}

// ── the turn ──

struct Reactor::Running {
    explicit Running(Reactor& owner) : reactor(owner) {
        if (reactor.running_) throw std::logic_error("Reactor: run inside run");
        reactor.running_ = true;
        if constexpr (threads_are_checked) reactor.thread_.store(&this_thread, std::memory_order_relaxed);
    }
    ~Running() {
        reactor.table_->demultiplexer().hand_over();
        reactor.running_ = false;
        if constexpr (threads_are_checked) reactor.thread_.store(nullptr, std::memory_order_relaxed);
        reactor.until_idle_ = false;
        reactor.turn_time_known_ = false;
        reactor.asleep_ = true;  // the queue is not looked at now, so posts make native_handle() readable
    }
    Reactor& reactor;
};

bool Reactor::on_loop_thread() const noexcept {
    const void* const runs = thread_.load(std::memory_order_relaxed);
    return runs == nullptr || runs == &this_thread;
}

void Reactor::run() {
    const Running running(*this);
    // Exchanged and not read: a stop() that comes between two runs holds for the next one, and is used up by it.
    while (!stop_.exchange(false)) turn(std::nullopt);
}

std::size_t Reactor::run_once(std::optional<Duration> limit) {
    const Running running(*this);
    const std::uint64_t before = counters_.events;
    turn(stop_.load() ? Duration::zero() : limit);
    stop_ = false;
    return std::size_t(counters_.events - before);
}

void Reactor::run_for(Duration limit) {
    const Running running(*this);
    const TimePoint end = deadline_after(now(), limit);
    while (!stop_.exchange(false)) {
        turn(time_between(now(), end));
        if (now() < end) continue;
        stop_ = false;
        return;
    }
}

void Reactor::run_until_idle() {
    const Running running(*this);
    until_idle_ = true;
    while (!stop_.exchange(false) && (hooks_are_due() || !idle())) turn(Duration::max());
}

// Is nothing left that could happen? What other threads may be about to bring is looked at first: they post it before
// they count it as brought.
bool Reactor::idle() const noexcept {
    return awaited_ == 0 && arriving_.load() == 0 && !work_waits() && !timers_.awaits_any() &&
           !table_->watches_besides(wakeup_.descriptor());
}

void Reactor::stop() noexcept {
    stop_ = true;
    if (asleep_.exchange(false)) wakeup_.notify();
}

bool Reactor::post(MoveOnlyFunction<void()> task) {
    if (!task) throw std::invalid_argument("Reactor::post: the task is empty");
    {
        const std::lock_guard lock(posted_mutex_);
        if (closing_) return false;
        posted_.push_back(std::move(task));
        posted_waiting_ = true;
    }
    // The loop says that it goes to sleep and then looks at posted_waiting_; here it is the other way round.
    // Whichever comes first, one of the two sees the other.
    if (asleep_.exchange(false)) wakeup_.notify();
    return true;
}

bool Reactor::post(PreparedPost&& task) noexcept {
    PreparedPost mine(std::move(task));  // one that is not taken is destroyed without the lock
    if (!mine) return false;
    {
        const std::lock_guard lock(posted_mutex_);
        if (closing_) return false;
        prepared_.splice(prepared_.end(), mine.place_);
        posted_waiting_ = true;
    }
    if (asleep_.exchange(false)) wakeup_.notify();
    return true;
}

void Reactor::WakeupHandler::readable() {
    reactor.wakeup_.drain();
    ++reactor.counters_.wakeups;
}

// The loop cannot be woken by other threads: run() throws, and if the kernel only had no room it is tried again.
void Reactor::WakeupHandler::lost(std::error_code reason) {
    reactor.wakeup_registration_.reset();
    if (reason != std::errc::bad_file_descriptor)
        reactor.wakeup_registration_ = reactor.watch(reactor.wakeup_.descriptor(), Interest::readable, *this);
    throw std::system_error(reason, "Reactor: watching the wake-up descriptor");
}

// Each step is left out where there is nothing to do: with one active connection a turn is a message. An exception
// out of a callback ends that call and nothing else: the iteration is finished first.
void Reactor::turn(std::optional<Duration> limit) {
    if (!before_wait_.empty()) run_hooks_before_wait();
    if (rebuild_) rebuild();
    if (table_->changed()) hand_over_changes();
    wait(limit);
    if (!after_wait_.empty()) run_hooks_after_wait();
    dispatch_batch();
    if (!triggers_.empty()) run_triggers();
    if (!timers_.empty()) run_timers();
    if (posted_waiting_.load(std::memory_order_relaxed)) run_posted();
    if (coroutines_wait_) run_coroutines();
    if (workspace_waits_) end_workspace();
    if (!retired_.empty()) run_retired();
    if (!deferred_.empty()) run_deferred();
    if (workspace_waits_) end_workspace();
    REACTOR_PROBE(turn_end);
    if (failure_) [[unlikely]]
        std::rethrow_exception(std::exchange(failure_, nullptr));
}

// Calls what belongs to others, and keeps what it throws.
template <class Call>
void Reactor::attempt(Call&& call) noexcept {
    try {
        call();
    } catch (...) {
        caught();
    }
}

// In a catch block: the exception goes to the hook, and one out of the hook leaves the iteration at its end.
void Reactor::caught() noexcept {
    if (on_exception_ == nullptr) return fail();
    try {
        (*on_exception_)(std::current_exception());
    } catch (...) {
        fail();
    }
}

// In a catch block. A turn throws once: the first exception, since what follows is often its consequence.
void Reactor::fail() noexcept {
    if (!failure_) failure_ = std::current_exception();
}

// The list is fixed first: a hook that is made meanwhile is called from the next turn on. They may destroy each other.
void Reactor::run_hooks(std::vector<Hook*>& hooks) {
    for (std::size_t i = 0, count = hooks.size(); i < count; ++i) {
        Hook* const hook = hooks[i];
        if (hook == nullptr) continue;
        const Stopwatch stopwatch(*this, SlowCall::Kind::hook, hook);
        attempt(hook->callable_);
    }
    std::erase(hooks, nullptr);
}

void Reactor::run_hooks_before_wait() {
    for_after_hooks_ = after_hooks_counted_ && calls() - calls_before_hooks_ == 1;
    run_hooks(before_wait_);
    calls_before_hooks_ = calls();
}

// They run in every turn, and may leave something for those before the wait: that is cause for one more turn, which for
// itself is no cause for another. A loop inside another one would never rest.
void Reactor::run_hooks_after_wait() {
    const std::uint64_t before = other_calls_;
    run_hooks(after_wait_);
    after_hooks_counted_ = !for_after_hooks_;
    other_calls_ = before + std::uint64_t(after_hooks_counted_);
}

// No memory: the changes that are left stay for the next turn.
void Reactor::hand_over_changes() noexcept {
    try {
        table_->hand_over_changes(triggers_);
    } catch (...) {
        fail();
    }
}

// The way of nearly every event: one registration, readable or writable and not both.
[[gnu::always_inline]] inline void Reactor::dispatch(const Table& table, const Event& event) {
    REACTOR_PROBE(event, event.token.descriptor, std::uint32_t(event.condition));
    const Table::Slot& slot = table.slot(event.token.descriptor);
    if (slot.generation == event.token.generation) [[likely]] {
        if (event.condition == Condition::readable && any(slot.direct, Interest::readable)) [[likely]]
            return slot.handler->readable();
        if (event.condition == Condition::writable && any(slot.direct, Interest::writable))
            return slot.handler->writable();
    }
    dispatch_rare(event.token, event.condition);
}

void Reactor::dispatch_batch() {
    const Table& table = *table_;  // which is the same for as long as the reactor lives, as the compiler cannot know
    // A handler may end the batch (after_fork): its end is looked up again after each.
    const auto dispatch_all = [&](auto look_ahead) {
        for (const Event* event = batch_; event < batch_end_; ++event) {
            look_ahead(event);
            try {
                dispatch(table, *event);
            } catch (...) {
                caught();
            }
        }
    };
    if (on_slow_call_ != nullptr) [[unlikely]]
        return dispatch_measured();
    if (batch_end_ - batch_ <= many) {
        dispatch_all([](const Event*) {});
    } else {
        dispatch_all([&](const Event* event) {
            if (event + 1 < batch_end_) fetch_ahead(table.slot(event[1].token.descriptor).handler);
        });
    }
}

void Reactor::dispatch_measured() {
    const Table& table = *table_;
    for (const Event* event = batch_; event < batch_end_; ++event) {
        const int descriptor = event->token.descriptor;
        const Stopwatch stopwatch(*this, SlowCall::Kind::event, table.slot(descriptor).handler, descriptor);
        attempt([&] { dispatch(table, *event); });
    }
}

void Reactor::dispatch_rare(Token token, Condition condition) {
    const Table::Slot& slot = table_->slot(token.descriptor);
    if (slot.generation != token.generation || slot.submitted == Interest::none) {
        // Removed earlier in this batch, as a rule. If nothing was, then the kernel still watches a file that
        // was closed behind our back while a duplicate keeps it alive; there is no way to remove that from an
        // epoll set but to leave the set.
        if (table_->removals() == batch_removals_) rebuild_ = made_by_name_;
        return;
    }
    const auto bad = std::error_code(EBADF, std::system_category());
    if (!slot.shared()) return tell(token.descriptor, token.generation, condition, bad);
    // By id, looked up anew for each: a handler may end any of the others, or add one.
    std::vector<std::uint32_t> ids;
    for (const Table::Watch& watch : table_->watches(token.descriptor)) ids.push_back(watch.id);
    for (const std::uint32_t id : ids) tell(token.descriptor, id, condition, bad);
}

// Makes the calls that one registration is interested in, looking again before each whether it still is.
void Reactor::tell(int descriptor, std::uint32_t id, Condition condition, std::error_code error) noexcept {
    if (any(condition, Condition::invalid)) {
        const Table::Watch watch = table_->find(descriptor, id);
        if (watch.handler == nullptr || watch.lost) return;
        table_->lose(descriptor, id);
        return attempt([&] { watch.handler->lost(error); });
    }
    for (const Interest one : all_interests) {
        const Table::Watch watch = table_->find(descriptor, id);
        if (watch.handler == nullptr || watch.lost) return;
        if (!any(told(condition, watch.wanted), one)) continue;
        attempt([&] {
            if (one == Interest::readable) watch.handler->readable();
            if (one == Interest::writable) watch.handler->writable();
            if (one == Interest::error) watch.handler->error();
        });
    }
}

// In each of the steps that follow the batch is taken out first: later requests come in the next iteration.

void Reactor::run_triggers() {
    triggers_now_.swap(triggers_);
    for (const Trigger& trigger : triggers_now_) {
        const EventHandler* handler = table_->slot(trigger.token.descriptor).handler;
        const Stopwatch stopwatch(*this, SlowCall::Kind::event, handler, trigger.token.descriptor);
        tell(trigger.token.descriptor, trigger.token.generation, trigger.condition, trigger.error);
    }
    other_calls_ += triggers_now_.size();
    clear_keeping_little(triggers_now_);
}

void Reactor::run_timers() {
    // The time is read once: timers that become due while others are called wait for the next iteration.
    counters_.timers += timers_.run_due(now(), [this] { caught(); });
}

void Reactor::run_posted() {
    std::list<MoveOnlyFunction<void()>> prepared;
    {
        const std::lock_guard lock(posted_mutex_);
        posted_waiting_ = false;
        // Swapped, so that other threads wait for a swap and not for the tasks; and tasks that these post run in the
        // next iteration.
        posted_now_.swap(posted_);
        prepared.swap(prepared_);
    }
    const auto run = [this](MoveOnlyFunction<void()> task) {
        ++counters_.tasks;
        const Stopwatch stopwatch(*this, SlowCall::Kind::task, nullptr);
        attempt(task);
    };
    for (MoveOnlyFunction<void()>& posted : prepared) run(std::move(posted));
    for (MoveOnlyFunction<void()>& posted : posted_now_) run(std::move(posted));
    clear_keeping_little(posted_now_);
}

// Coroutines that became ready: those that the batch, timers and posted work woke, and a bounded number that these
// wake.
void Reactor::run_coroutines() {
    coroutines_wait_ = false;
    ++other_calls_;
    attempt([this] { coroutine_workspace_->iteration_ends(); });
}

// Gathered output of connections leaves: before the handlers that ended are retired, so that one that fails now is
// among them; and again behind these and the deferred calls, which may have written as well.
void Reactor::end_workspace() {
    workspace_waits_ = false;
    attempt([this] { workspace_->iteration_ends(); });
}

void Reactor::run_retired() {
    // Those that retire meanwhile are for the next iteration, whose wait does not sleep for them.
    const std::size_t count = retired_.size();
    for (std::size_t i = 0; i < count; ++i) {
        OwnedHandler* const next = retired_[i];
        const Stopwatch stopwatch(*this, SlowCall::Kind::retired, next);
        const std::unique_ptr<OwnedHandler> handler(next);
        attempt([&] { handler->retired(); });
    }
    retired_.erase(retired_.begin(), retired_.begin() + std::ptrdiff_t(count));
    other_calls_ += count;
}

void Reactor::run_deferred() {
    deferred_now_.swap(deferred_);
    first_deferred_now_ = std::exchange(first_deferred_, first_deferred_ + deferred_now_.size());
    for (MoveOnlyFunction<void()>& deferred : deferred_now_) {
        if (!deferred) continue;  // cancelled
        --deferred_waiting_;
        // Moved out, so that its own handle says that it waits no longer while it is called.
        MoveOnlyFunction<void()> task = std::move(deferred);
        const Stopwatch stopwatch(*this, SlowCall::Kind::deferred, nullptr);
        attempt(task);
    }
    other_calls_ += deferred_now_.size();
    clear_keeping_little(deferred_now_);
}

void Reactor::rebuild() noexcept {
    try {
        table_->replace_demultiplexer(false);
        rebuild_ = false;
    } catch (const std::exception&) {
        // No descriptor or no memory: the old one still works, and the next turn tries again.
    }
}

void Reactor::after_fork() {
    if (!made_by_name_) throw std::logic_error("Reactor::after_fork: the demultiplexer is the caller's");
    Wakeup wakeup;
    table_->replace_demultiplexer(true);
    // The batch lay in the old backend; being level-triggered, the new one reports all of it again.
    batch_ = batch_end_ = nullptr;
    wakeup_registration_.reset();  // before its descriptor is closed; the new backend does not know it yet
    wakeup_ = std::move(wakeup);
    wakeup_registration_ = watch(wakeup_.descriptor(), Interest::readable, wakeup_handler_);
    if (!asleep_) wakeup_.notify();  // another thread has notified the old one
}

Completions* Internals::completions() const noexcept {
    return reactor_.table_->demultiplexer().completions();
}

std::string_view Reactor::backend() const noexcept {
    return table_->demultiplexer().name();
}

int Reactor::native_handle() const noexcept {
    return table_->demultiplexer().native_handle();
}

}  // namespace reactor
