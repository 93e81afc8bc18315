#include <reactor/probes_impl.hpp>
#include <reactor/reactor.hpp>
#include <reactor/registration_table_impl.hpp>
#include <reactor/stopwatch_impl.hpp>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace reactor {

namespace {

constexpr std::size_t few = 4;  // so many ready descriptors are worth a busy wait for the next ones
constexpr std::ptrdiff_t many = 64;  // more of them, with all that the kernel keeps for each, and the caches forget

constexpr Interest all_interests[] = {Interest::readable, Interest::writable, Interest::error};

// After a burst the memory goes back; what an ordinary turn needs stays.
template <class T>
void clear_keeping_little(std::vector<T>& list) noexcept {
    constexpr std::size_t little = 1024;
    if (list.capacity() > little) {
        std::vector<T>().swap(list);
    } else {
        list.clear();
    }
}

// Among many, what a handler needs has left the caches since it was called last: it comes while the one before it works.
inline void fetch_ahead(const EventHandler* handler) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(handler);
    __builtin_prefetch(reinterpret_cast<const void*>(address));
    __builtin_prefetch(reinterpret_cast<const void*>(address + 64));
}

}  // namespace

// ── Registration ──

void RegistrationView::set_interest(Interest interest) const noexcept {
    reactor_->table_->set_interest(descriptor_, id_, interest);
}

Interest RegistrationView::interest() const noexcept { return reactor_->table_->find(descriptor_, id_).wanted; }

void RegistrationView::trigger(Interest ready) const {
    // One each: a call that throws must not take the next one with it. Urgent is the condition that is told
    // to nobody who does not ask for errors.
    for (const auto& [one, condition] : {std::pair{Interest::readable, Condition::readable},
                                         std::pair{Interest::writable, Condition::writable},
                                         std::pair{Interest::error, Condition::urgent}})
        if (any(ready, one)) reactor_->triggers_.push_back({{descriptor_, id_}, condition, {}});
}

void Registration::reset() noexcept {
    if (*this) reactor().retire(*this);
}

// ── who is watched, and whose they are ──

Reactor::Reactor(std::string_view backend, const Clock& clock) : Reactor(make_demultiplexer(backend), clock) {
    made_by_name_ = true;
}

Reactor::Reactor(std::unique_ptr<Demultiplexer> demultiplexer, const Clock& clock)
    : clock_(clock), table_(std::make_unique<Table>(std::move(demultiplexer))), made_by_name_(false) {
    wakeup_registration_ = watch(wakeup_.descriptor(), Interest::readable, wakeup_handler_);
}

Reactor::~Reactor() {
    std::vector<Task> unrun;
    {
        const std::lock_guard lock(posted_mutex_);
        closing_ = true;  // the destructors below may post
        unrun.swap(posted_);
    }
    unrun.clear();
    posted_now_.clear();
    table_->clear();
    while (retired_next_ < retired_.size()) delete retired_[retired_next_++];  // which may retire others
    wakeup_registration_.reset();
}

Registration Reactor::watch(int descriptor, Interest interest, EventHandler& handler) {
    return {*this, descriptor, table_->add(descriptor, interest, handler, false)};
}

Registration Reactor::adopt(int descriptor, Interest interest, std::unique_ptr<OwnedHandler>&& handler) {
    const std::size_t places = retired_.size() + owned_ + 1;
    if (retired_.capacity() < places) retired_.reserve(std::max(places, retired_.capacity() * 2));
    const std::uint32_t id = table_->add(descriptor, interest, *handler, true);
    handler.release();
    ++owned_;
    return {*this, descriptor, id};
}

void Reactor::retire(RegistrationView registration) noexcept {
    if (std::unique_ptr<OwnedHandler> handler = release(registration)) retired_.push_back(handler.release());
}

std::unique_ptr<OwnedHandler> Reactor::release(RegistrationView registration) noexcept {
    if (!registration) return nullptr;
    std::unique_ptr<OwnedHandler> handler(table_->remove(registration.descriptor(), registration.id()));
    if (handler != nullptr) --owned_;
    return handler;
}

void Reactor::visit_owned(void (*visit)(void*, OwnedHandler&), void* with) { table_->visit_owned(visit, with); }

// ── the turn ──

struct Reactor::Running {
    explicit Running(Reactor& owner) : reactor(owner) {
        if (reactor.running_) throw std::logic_error("Reactor: run inside run");
        reactor.running_ = true;
    }
    ~Running() {
        reactor.running_ = false;
        reactor.turn_time_known_ = false;
        reactor.asleep_ = true;  // nobody looks at the queue now, so posts make native_handle() readable
    }
    Reactor& reactor;
};

void Reactor::run() {
    const Running running(*this);
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
        turn(std::max(end - now(), Duration::zero()));
        if (now() < end) continue;
        stop_ = false;
        return;
    }
}

void Reactor::stop() noexcept {
    stop_ = true;
    if (asleep_.exchange(false)) wakeup_.notify();
}

bool Reactor::post(Task task) {
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

void Reactor::WakeupHandler::readable() {
    reactor.wakeup_.drain();
    ++reactor.counters_.wakeups;
}

// The loop is deaf to other threads: whoever runs it must know, and if the kernel only had no room it is tried again.
void Reactor::WakeupHandler::lost(std::error_code reason) {
    reactor.wakeup_registration_.reset();
    if (reason != std::errc::bad_file_descriptor)
        reactor.wakeup_registration_ = reactor.watch(reactor.wakeup_.descriptor(), Interest::readable, *this);
    throw std::system_error(reason, "Reactor: watching the wake-up descriptor");
}

void Reactor::turn(std::optional<Duration> limit) {
    if (step_ == Step::wait) {
        if (!before_wait_.empty()) run_hooks(before_wait_);
        if (rebuild_) rebuild();
        if (table_->changed()) table_->hand_over_changes(triggers_);
        wait(limit);
        step_ = Step::dispatch;
        if (!after_wait_.empty()) run_hooks(after_wait_);
    }
    // Each step goes on behind whatever threw in it: in this turn if there is a hook, in the next if not.
    while (step_ != Step::wait) {
        try {
            go_through_steps();
        } catch (...) {
            if (on_exception_ == nullptr) throw;
            (*on_exception_)(std::current_exception());
        }
    }
}

// Each step is left out where there is nothing to do: with one active connection a turn is a message.
void Reactor::go_through_steps() {
    switch (step_) {
        case Step::wait: return;
        case Step::dispatch:
            dispatch_batch();
            if (!triggers_.empty()) triggers_now_.swap(triggers_);
            step_ = Step::triggers;
            [[fallthrough]];
        case Step::triggers:
            if (!triggers_now_.empty()) run_triggers();
            step_ = Step::timers;
            [[fallthrough]];
        case Step::timers:
            if (!timers_.empty() || timers_.interrupted()) counters_.timers += timers_.run_due(now());
            step_ = Step::posted;
            [[fallthrough]];
        case Step::posted:
            if (posted_waiting_.load(std::memory_order_relaxed) || !posted_now_.empty()) run_posted();
            if (workspace_waits_) [[unlikely]] {
                workspace_waits_ = false;
                workspace_->iteration_ends();
            }
            step_ = Step::retire;
            [[fallthrough]];
        case Step::retire:
            if (!retired_.empty()) run_retired();
            REACTOR_PROBE(turn_end);
            step_ = Step::wait;
    }
}

void Reactor::run_hooks(std::vector<Hook*>& hooks) {
    for (std::size_t i = 0; i < hooks.size(); ++i)  // they may add and remove each other
        if (hooks[i] != nullptr) hooks[i]->callable_();
    std::erase(hooks, nullptr);
}

std::optional<Duration> Reactor::next_timeout() noexcept {
    const bool work_waits = step_ != Step::wait || table_->changed() || !triggers_.empty() || !retired_.empty() ||
                            timers_.interrupted() || posted_waiting_.load() || stop_.load();
    if (work_waits) return Duration::zero();
    const auto next = timers_.next();
    if (!next) return std::nullopt;
    return std::max(*next - now(), Duration::zero());
}

void Reactor::wait(std::optional<Duration> limit) {
    asleep_ = true;
    auto timeout = next_timeout();
    if (limit && (!timeout || *limit < *timeout)) timeout = std::max(*limit, Duration::zero());
    next_event_ = batch_end_ = nullptr;
    ++counters_.turns;
    const bool busy = busy_wait_ > Duration::zero() && few_were_ready_ && timeout != Duration::zero();
    const std::span<const Event> batch = busy ? busy_wait(timeout) : table_->demultiplexer().wait(timeout);
    few_were_ready_ = !batch.empty() && batch.size() <= few;
    next_event_ = batch.data();
    batch_end_ = next_event_ + batch.size();
    asleep_ = false;
    counters_.events += batch.size();
    batch_removals_ = table_->removals();
    REACTOR_PROBE(turn_begin, batch.size());
    turn_time_known_ = false;
    // A deadline holds against who had not spoken when the loop looked; what handlers take from here on is not their time.
    if (!timers_.empty()) (void)turn_time();
}

// By the real clock, whatever the loop's own one is: it is the processor's time that is spent.
std::span<const Event> Reactor::busy_wait(std::optional<Duration> timeout) {
    const Clock& clock = Clock::monotonic();
    const TimePoint begin = clock.now();
    const Duration longest = timeout ? std::min(*timeout, busy_wait_) : busy_wait_;
    Duration passed = Duration::zero();
    do {
        ++counters_.looks;
        const std::span<const Event> batch = table_->demultiplexer().wait(Duration::zero());
        if (!batch.empty()) return batch;
        std::this_thread::yield();  // who is to answer may be waiting for this very processor
        passed = clock.now() - begin;
    } while (passed < longest);
    if (timeout) timeout = std::max(*timeout - passed, Duration::zero());
    return table_->demultiplexer().wait(timeout);
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
    if (on_slow_call_ == nullptr) [[likely]] {
        // Who is called may put an end to the batch (after_fork), and an exception leaves the rest of it for later.
        const auto dispatch_all = [&](auto look_ahead) {
            for (const Event* event = next_event_; event < batch_end_;) {
                next_event_ = event + 1;
                look_ahead();
                dispatch(table, *event++);
            }
        };
        if (batch_end_ - next_event_ <= many) {
            dispatch_all([] {});
        } else {
            dispatch_all([&] {
                if (next_event_ < batch_end_) fetch_ahead(table.slot(next_event_->token.descriptor).handler);
            });
        }
        return;
    }
    while (next_event_ != batch_end_) {
        const Event& event = *next_event_++;
        const EventHandler* handler = table.slot(event.token.descriptor).handler;
        const Stopwatch stopwatch(*this, SlowCall::Kind::event, handler, event.token.descriptor);
        dispatch(table, event);
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
    std::vector<std::uint32_t> ids;
    for (const Table::Watch& watch : table_->watches(token.descriptor)) ids.push_back(watch.id);
    for (const std::uint32_t id : ids) tell(token.descriptor, id, condition, bad);
}

// Tells one registration all that it wants to hear of, looking again before each call whether it still does.
void Reactor::tell(int descriptor, std::uint32_t id, Condition condition, std::error_code error) {
    if (any(condition, Condition::invalid)) {
        const Table::Watch watch = table_->find(descriptor, id);
        if (watch.handler == nullptr || watch.lost) return;
        table_->lose(descriptor, id);
        return watch.handler->lost(error);
    }
    for (const Interest one : all_interests) {
        const Table::Watch watch = table_->find(descriptor, id);
        if (watch.handler == nullptr || watch.lost) return;
        if (!any(told(condition, watch.wanted), one)) continue;
        if (one == Interest::readable) watch.handler->readable();
        if (one == Interest::writable) watch.handler->writable();
        if (one == Interest::error) watch.handler->error();
    }
}

void Reactor::run_triggers() {
    while (trigger_next_ < triggers_now_.size()) {
        const Trigger trigger = triggers_now_[trigger_next_++];
        const EventHandler* handler = table_->slot(trigger.token.descriptor).handler;
        const Stopwatch stopwatch(*this, SlowCall::Kind::event, handler, trigger.token.descriptor);
        tell(trigger.token.descriptor, trigger.token.generation, trigger.condition, trigger.error);
    }
    trigger_next_ = 0;
    clear_keeping_little(triggers_now_);
}

void Reactor::run_posted() {
    if (posted_now_.empty()) {
        const std::lock_guard lock(posted_mutex_);
        posted_waiting_ = false;
        posted_now_.swap(posted_);
    }
    while (posted_next_ < posted_now_.size()) {
        Task task = std::move(posted_now_[posted_next_++]);
        ++counters_.tasks;
        const Stopwatch stopwatch(*this, SlowCall::Kind::task, nullptr);
        task();
    }
    posted_next_ = 0;
    clear_keeping_little(posted_now_);
}

void Reactor::run_retired() {
    if (retired_now_ == 0) retired_now_ = retired_.size();  // otherwise it goes on behind a handler that threw
    while (retired_next_ < retired_now_) {
        OwnedHandler* const next = retired_[retired_next_++];
        const Stopwatch stopwatch(*this, SlowCall::Kind::retired, next);
        const std::unique_ptr<OwnedHandler> handler(next);
        handler->retired();
    }
    retired_.erase(retired_.begin(), retired_.begin() + std::ptrdiff_t(retired_now_));
    retired_now_ = retired_next_ = 0;
}

void Reactor::rebuild() noexcept {
    try {
        table_->replace_demultiplexer();
        rebuild_ = false;
    } catch (const std::exception&) {
        // No descriptor or no memory: the old one still works, and the next turn tries again.
    }
}

void Reactor::after_fork() {
    if (!made_by_name_) throw std::logic_error("Reactor::after_fork: the demultiplexer is the caller's");
    Wakeup wakeup;
    table_->replace_demultiplexer();
    // The batch lay in the old backend; being level-triggered, the new one tells all of it again.
    next_event_ = batch_end_ = nullptr;
    wakeup_registration_.reset();  // before its descriptor is closed; the new backend does not know it yet
    wakeup_ = std::move(wakeup);
    wakeup_registration_ = watch(wakeup_.descriptor(), Interest::readable, wakeup_handler_);
    if (!asleep_) wakeup_.notify();  // somebody has notified the old one
}

std::string_view Reactor::backend() const noexcept { return table_->demultiplexer().name(); }

int Reactor::native_handle() const noexcept { return table_->demultiplexer().native_handle(); }

Counters Reactor::counters() const noexcept {
    Counters all = counters_;
    all.changes = table_->changes_handed_over();
    for (const Workspace* const space : {workspace_.get(), datagram_workspace_.get()}) {
        if (space == nullptr) continue;
        all.connections += space->connections;
        all.bytes_received += space->bytes_received;
        all.bytes_sent += space->bytes_sent;
    }
    return all;
}

void Reactor::report(SlowCall call, TimePoint start) noexcept {
    call.duration = now() - start;
    if (on_slow_call_ != nullptr && call.duration >= slow_threshold_) (*on_slow_call_)(call);
}

void Reactor::on_slow_call(Duration threshold, MoveOnlyFunction<void(const SlowCall&)> hook) {
    on_slow_call_ = hook ? std::make_unique<Callback<void(const SlowCall&)>>(std::move(hook)) : nullptr;
    slow_threshold_ = threshold;
}

void Reactor::on_notice(MoveOnlyFunction<void(Notice, std::string_view)> hook) {
    on_notice_ = hook ? std::make_unique<Callback<void(Notice, std::string_view)>>(std::move(hook)) : nullptr;
}

void Reactor::on_exception(MoveOnlyFunction<void(std::exception_ptr)> hook) {
    on_exception_ = hook ? std::make_unique<Callback<void(std::exception_ptr)>>(std::move(hook)) : nullptr;
}

}  // namespace reactor
